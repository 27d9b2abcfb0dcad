"""A real pacman in a private root for each test."""

from __future__ import annotations

from tests.lab.fixtures import arch_root, lab

__all__ = ["arch_root", "lab"]
