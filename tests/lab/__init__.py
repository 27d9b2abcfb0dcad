"""The laboratory: an Arch-like root, real packages and a virtual machine, made from what Debian serves.

It stands in for Arch Linux where Arch can't be had: the package manager, systemd, Python, kernels and tools are
real, current and unmodified; they come from Debian sid (and the older kernel from Debian trixie), and are put where
Arch puts them. What is kept lies in ``KDUMP_LAB_CACHE`` and is made once.

    root      a private root with pacman in it, for each test its own
    packages  Arch packages: kernels, stubs, kdump-pkg itself
    vm        disks and bounded boots in QEMU
"""

from __future__ import annotations

from . import packages, root, vm
from .common import LabError

__all__ = ["LabError", "packages", "root", "vm"]
