"""Tests that touch nothing but a temporary directory."""
