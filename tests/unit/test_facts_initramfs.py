"""How large images are that generators make, and what is no image or never ends."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg import cpio
from kdump_pkg.facts import initramfs
from kdump_pkg.facts.initramfs import unpacked_size
from tests.fakes import Hole, make_tree, zstd_stored

EARLY = cpio.archive([cpio.File("kdump/fingerprint", b"ab" * 32)])
MAIN = cpio.archive([cpio.File("init", bytes(range(256)) * 1000), cpio.File("etc/x", b"1")])


def alone(data: bytes) -> bytes:
    return lzma.compress(data, lzma.FORMAT_ALONE)


def size(root: Path, data: bytes) -> int | None:
    (root / "image").write_bytes(data)
    return unpacked_size(root / "image")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, alone])
def test_each_packing(root: Path, pack: object) -> None:
    assert callable(pack)
    assert size(root, pack(MAIN)) == len(MAIN)
    assert size(root, EARLY + pack(MAIN)) == (size(root, EARLY) or 0) + len(MAIN)


def test_archives_that_are_not_packed(root: Path) -> None:
    """The zeros behind an archive are none of it."""
    assert len(MAIN) - 512 < (size(root, MAIN) or 0) <= len(MAIN)
    assert size(root, b"\0" * 1024 + MAIN + b"\0" * 100_000) == size(root, MAIN)
    assert size(root, EARLY + MAIN) == (size(root, EARLY) or 0) + (size(root, MAIN) or 0)


def test_several_one_after_the_other(root: Path) -> None:
    early = size(root, EARLY) or 0
    whole = EARLY + gzip.compress(MAIN, mtime=0) + b"\0" * 3 + lzma.compress(MAIN) + EARLY
    assert size(root, whole) == 2 * early + 2 * len(MAIN)


def test_more_than_a_piece(root: Path) -> None:
    long = bytes(5 << 20)
    assert size(root, gzip.compress(long, mtime=0) + gzip.compress(long, mtime=0)) == 10 << 20


@pytest.mark.spawns
@pytest.mark.parametrize("early", [b"", EARLY])
def test_packed_by_a_program(root: Path, early: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    monkeypatch.setenv("TMPDIR", str(root))
    assert size(root, early + zstd_stored(MAIN)) == ((size(root, early) or 0) if early else 0) + len(MAIN)
    assert size(root, early + zstd_stored(MAIN)[:-20]) is None
    monkeypatch.setattr(initramfs, "LARGEST", len(MAIN) // 2)
    assert size(root, zstd_stored(MAIN)) is None


@pytest.mark.spawns
def test_the_program_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    assert size(root, zstd_stored(MAIN)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"not an image",
        MAIN[:200],
        EARLY + b"junk",
        gzip.compress(MAIN, mtime=0)[:-9],
        gzip.compress(MAIN, mtime=0)[:50] + b"\xff" * 50,
        lzma.compress(MAIN)[:-9],
        b"070701" + b"x" * 200,
        b"070701" + b"-" * 200,
        b"070701" + b"f" * 200,
        EARLY[:54] + b"-00000ff" + EARLY[62:],
    ],
    ids=lambda d: d[:12].hex(),
)
def test_what_is_damaged_has_no_size(root: Path, data: bytes) -> None:
    assert size(root, data) is None


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
def test_a_bomb_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch, pack: object) -> None:
    assert callable(pack)
    bomb = pack(bytes(8 << 20))
    monkeypatch.setattr(initramfs, "LARGEST", 4 << 20)
    assert size(root, bomb) is None
    monkeypatch.setattr(initramfs, "LARGEST", 12 << 20)
    assert size(root, bomb) == 8 << 20
    assert size(root, bomb + bomb) is None, "not even in two parts"


def test_what_is_no_file(root: Path) -> None:
    make_tree(root, {"/directory": None, "/huge": Hole(3 << 30)})
    assert unpacked_size(root / "directory") is None
    assert unpacked_size(root / "missing") is None
    assert unpacked_size(root / "huge") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 400))
def test_property_nothing_gets_out_of_it(root: Path, junk: bytes, place: int) -> None:
    whole = EARLY + gzip.compress(MAIN, mtime=0)
    found = size(root, whole[:place] + junk + whole[place + len(junk) :])
    assert found is None or found >= 0
