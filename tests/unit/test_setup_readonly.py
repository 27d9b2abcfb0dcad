"""`kdump-pkg setup` on a root that is really mounted read-only: shown as anywhere, done nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import UUID, make_tree, snapshot, system_tree

pytestmark = pytest.mark.spawns

REPO = Path(__file__).resolve().parents[2]
ENTRY = f"title Arch Linux\nlinux /vmlinuz-linux\noptions root=UUID={UUID} rw quiet\n"
MOUNTED = """
mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || exit 99
cd "$2" && ! touch "$1/probe" 2>/dev/null || exit 98
shift 2
exec "$@"
"""


def setup(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """In a mount namespace of its own, with ROOT read-only."""
    argv = [sys.executable, "-m", "kdump_pkg", "setup", "--root", os.fspath(root), *words]
    command = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", os.fspath(root), os.fspath(REPO), *argv]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode in (1, 99) and ("unshare" in done.stderr or "mount:" in done.stderr):
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.returncode != 98, "it is not read-only"
    return done


@pytest.fixture
def system(root: Path) -> Path:
    make_tree(root, {**system_tree(), "/boot/loader/entries/arch.conf": ENTRY})
    return root


@pytest.mark.parametrize("words", [("--dry-run",), ("--dry-run", "--json"), ("--dry-run", "--undo")])
def test_a_dry_run_changes_nothing(system: Path, words: tuple[str, ...]) -> None:
    before = snapshot(system)
    done = setup(system, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("crashkernel=" in done.stdout) is ("--undo" not in words)
    assert snapshot(system) == before


def test_what_can_not_be_written_is_one_line(system: Path) -> None:
    before = snapshot(system)
    done = setup(system, "--yes")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr and len(done.stderr.splitlines()) == 1
    assert snapshot(system) == before
