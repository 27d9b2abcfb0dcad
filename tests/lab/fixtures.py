"""Fixtures for the tests that need the lab; tests/pacman and tests/vm take them from here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from .root import ArchRoot, mkinitcpio_prefix, open_root

WITHOUT_MKINITCPIO = "no mkinitcpio on this machine, nor where KDUMP_TEST_MKINITCPIO points"


def obstacle() -> str | None:
    """Why no lab can be had here, in words for a skipped test."""
    if os.geteuid() != 0:
        return "needs root: overlay mounts, chroot, namespaces"
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed: run tests/lab/provision"
    return None


@pytest.fixture(scope="session", autouse=True)
def lab() -> None:
    """No test fails only because of where it runs; CI has to be a place where it can."""
    reason = obstacle()
    if reason and os.environ.get("CI"):
        pytest.fail(f"CI can't make the lab: {reason}")
    if reason:
        pytest.skip(reason)


@pytest.fixture(params=["mkinitcpio", "dracut"])
def arch_root(request: pytest.FixtureRequest, lab: None) -> Iterator[ArchRoot]:
    """A private root, once for each initramfs generator that is here."""
    if request.param == "mkinitcpio" and mkinitcpio_prefix() is None:
        pytest.skip(WITHOUT_MKINITCPIO)
    with open_root(generator=request.param) as root:
        yield root
