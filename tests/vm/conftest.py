"""Roots to boot and dumps to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.fixtures import arch_root, lab
from tests.lab.root import default_generator, open_root

__all__ = ["arch_root", "lab", "unfiltered"]

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def unfiltered(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vmcore of kernel 7.2 from which no page was left out, so that it can be filtered at any level afterwards."""
    kept = tmp_path_factory.mktemp("unfiltered") / "kept"
    with open_root(generator=default_generator()) as root:
        (root.path / "etc/kdump-pkg.conf").write_text("drivers = virtio_pci, virtio_blk\ndump_level = 0\n")
        root.pacman("-U", packages.kernel("7.2"), packages.kdump_pkg(REPO))
        argv = [sys.executable, "-m", "kdump_pkg", "rehearse", "--root", str(root.path), "--keep", str(kept)]
        done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=880, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return next(kept.rglob("vmcore"))
