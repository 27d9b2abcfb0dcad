"""`kdump-pkg rebuild` killed at random instants: old state or new state, never half of anything."""

from __future__ import annotations

import gzip
import os
import random
import re
import time
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.root import ArchRoot
from tests.pacman.test_transactions import IMAGE, PRESET, assert_ready

pytestmark = pytest.mark.pacman

KILLS = int(os.environ.get("KDUMP_TEST_KILLS", "200"))
"""How many instants; 200 take two minutes."""


def assert_complete_image(path: Path) -> str:
    """The fingerprint of a capture image that can be unpacked to its end."""
    data = path.read_bytes()
    found = re.search(rb"kdump/fingerprint\0+([0-9a-f]{64})\n", data[:8192])
    assert found, "no fingerprint at the front of the image"
    start = data.index(b"\x1f\x8b\x08")
    assert gzip.decompress(data[start:]).rstrip(b"\0").endswith(b"TRAILER!!!")
    return found[1].decode()


def assert_complete_preset(path: Path) -> None:
    text = path.read_text()
    assert "PRESETS=('kdump')" in text
    assert re.search(r'^kdump_image="[^"]+"$', text, re.MULTILINE)


def test_killed_at_any_instant(with_mkinitcpio: ArchRoot) -> None:
    root = with_mkinitcpio
    conf = root.path / "etc/kdump-pkg.conf"
    base = conf.read_text()
    start = time.monotonic()
    root.run(["kdump-pkg", "rebuild", "--force"])
    whole = time.monotonic() - start
    dice = random.Random(20261123)
    seen = {assert_complete_image(root.path / IMAGE)}
    for number in range(KILLS):
        conf.write_text(f"{base}timeout = {100 + number}\n")
        if number % 10 == 0:  # every tenth time the derived files are made from nothing, too
            (root.path / PRESET).unlink(missing_ok=True)
            root.run(["kdump-pkg", "rebuild"])
            conf.write_text(f"{base}timeout = {1000 + number}\n")
        instant = dice.uniform(0.01, whole * 1.1)
        root.run(["timeout", "--signal=KILL", f"{instant:.3f}", "kdump-pkg", "rebuild"], check=False)
        seen.add(assert_complete_image(root.path / IMAGE))
        assert_complete_preset(root.path / PRESET)
    root.run(["kdump-pkg", "rebuild"])
    assert_ready(root, packages.release("6.12"))
    left = [p for p in (root.path / "boot").iterdir() if p.name.startswith(".kdump-pkg")]
    assert not left, "the next rebuild clears up"
    assert len(seen) > 1, "no build ever came to its end: the instants were chosen badly"
