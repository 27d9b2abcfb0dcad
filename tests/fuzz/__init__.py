"""Fuzzers that run for as long as one lets them: not part of any test run."""
