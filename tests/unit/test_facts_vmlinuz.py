"""bzImages of every payload, and files that only look like one."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.errors import BadImageError
from kdump_pkg.facts import vmlinuz
from kdump_pkg.run import SystemRunner
from tests.fakes import PACKERS, RELEASE, FakeRunner, Hole, bzimage, elf, make_tree

ELF = elf(sections=(".BTF", ".symtab"))


def unpack(root: Path, data: bytes, runner: FakeRunner | SystemRunner | None = None) -> bytes:
    (root / "vmlinuz").write_bytes(data)
    return vmlinuz.unpack(root / "vmlinuz", runner or FakeRunner())


def refused(root: Path, data: bytes) -> str:
    with pytest.raises(BadImageError) as caught:
        unpack(root, data)
    assert caught.value.message.startswith(f"{root}/vmlinuz: ")
    assert "\n" not in caught.value.message
    return caught.value.message.removeprefix(f"{root}/vmlinuz: ")


@pytest.mark.parametrize("name", ["gzip", "xz", "lzma", "plain"])
@pytest.mark.parametrize("big", [False, True])
def test_payloads_without_a_program(root: Path, name: str, big: bool) -> None:
    kernel = ELF + bytes(range(256)) * 4096 if big else ELF
    assert unpack(root, bzimage(PACKERS[name](kernel))) == kernel


@pytest.mark.spawns
@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_payloads_with_a_program(root: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    kernel = ELF + bytes(range(256)) * 1024
    assert unpack(root, bzimage(PACKERS[name](kernel)), SystemRunner()) == kernel


@pytest.mark.spawns
@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_damaged_payload_with_a_program(root: Path, name: str) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    payload = bytearray(PACKERS[name](ELF + bytes(100_000)))
    payload[4:12] = b"\xff" * 8
    with pytest.raises(BadImageError, match=f"{name} payload"):
        unpack(root, bzimage(bytes(payload)), SystemRunner())


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_missing_program_is_named_with_its_package(root: Path, name: str) -> None:
    with pytest.raises(BadImageError) as caught:
        unpack(root, bzimage(PACKERS[name](ELF)))
    assert caught.value.hint == f"install it: pacman -S {name}"


def test_program_that_gives_something_else(root: Path) -> None:
    with pytest.raises(BadImageError, match="holds no ELF kernel"):
        unpack(root, bzimage(PACKERS["zstd"](ELF)), FakeRunner({"zstd": b"nonsense"}))


def test_header(root: Path) -> None:
    for setup in (1, 0, 27):
        (root / "vmlinuz").write_bytes(bzimage(setup=setup))
        header = vmlinuz.read_header(root / "vmlinuz")
        assert header.version == RELEASE
        assert header.payload_offset == ((setup or 4) + 1) * 512 + 64


GOOD = bzimage()


@pytest.mark.parametrize("end", [0, 1, 0x1F1, 0x202, 0x206, 0x20E, 0x248, 0x24F, 0x250, 0x27F, 0x290, 1023, 1100])
def test_truncated_in_the_header(root: Path, end: int) -> None:
    assert refused(root, GOOD[:end])


@pytest.mark.parametrize("name", ["gzip", "xz", "lzma", "plain"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated_payload_of_a_truncated_file(root: Path, name: str, share: float) -> None:
    whole = bzimage(PACKERS[name](ELF + bytes(range(256)) * 64))
    end = 1088 + int((len(whole) - 1088 - 64) * share)
    assert "truncated" in refused(root, whole[:end])


@pytest.mark.parametrize("name", ["gzip", "xz", "lzma"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_payload_of_a_whole_file(root: Path, name: str, share: float) -> None:
    """The header fits, the stream ends early: half a kernel is no kernel."""
    payload = PACKERS[name](ELF + bytes(range(256)) * 64)
    assert name in refused(root, bzimage(payload[: max(16, int(len(payload) * share))]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "not a bzImage", id="empty"),
        pytest.param(b"\0" * 100_000, "not a bzImage", id="zeros"),
        pytest.param(bytes(range(256)) * 400, "not a bzImage", id="noise"),
        pytest.param(b"#!/bin/sh\n" * 100, "not a bzImage", id="script"),
        pytest.param(ELF.ljust(4096, b"\0"), "not a bzImage", id="a vmlinux"),
        pytest.param(b"MZ".ljust(4096, b"\0"), "not a bzImage", id="EFI program"),
        pytest.param(bzimage(protocol=0x207), "older than 2.08", id="old protocol"),
        pytest.param(bzimage(b"no known magic at all"), "unknown compression (starts with 6e6f206b)", id="unknown"),
        pytest.param(bzimage(b"\0" * 64), "unknown compression", id="payload of zeros"),
        pytest.param(bzimage(PACKERS["gzip"](b"no kernel")), "gzip payload holds no ELF kernel", id="gzip of text"),
        pytest.param(bzimage(PACKERS["xz"](b"")), "holds no ELF kernel", id="xz of nothing"),
        pytest.param(bzimage(b"\x1f\x8b\x08" + b"\xff" * 64), "damaged gzip", id="gzip noise"),
        pytest.param(bzimage(b"\xfd7zXZ\0" + b"\xff" * 64), "damaged xz", id="xz noise"),
        pytest.param(bzimage(b"\x5d\0\0" + b"\xff" * 64), "damaged lzma", id="lzma noise"),
        pytest.param(bzimage(b"BZh" + b"\xff" * 64), "damaged bzip2", id="bzip2 noise"),
    ],
)
def test_what_is_no_kernel(root: Path, data: bytes, words: str) -> None:
    assert words in refused(root, data)


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, 15), (0, 0xFFFFFFFF), (0xFFFFFFFF, 16), (0xFFFFFFFF, 0xFFFFFFFF), (len(GOOD), 16), (0x7FFFFFFF, 100)],
)
def test_hostile_offsets(root: Path, offset: int, length: int) -> None:
    data = bytearray(GOOD)
    struct.pack_into("<II", data, 0x248, offset, length)
    assert "truncated" in refused(root, bytes(data))


def test_hostile_version_offset(root: Path) -> None:
    data = bytearray(GOOD)
    struct.pack_into("<H", data, 0x20E, 0xFFFF)
    (root / "vmlinuz").write_bytes(data)
    assert vmlinuz.read_header(root / "vmlinuz").version == ""


def test_a_bomb_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmlinuz, "LARGEST", 1 << 16)
    for name in ("gzip", "xz", "lzma"):
        assert "more than" in refused(root, bzimage(PACKERS[name](ELF + bytes(1 << 20))))


@pytest.mark.parametrize("entry", [None, Hole(1 << 30)], ids=["directory", "1 GiB of zeros"])
def test_no_file_of_the_kind(root: Path, entry: Hole | None) -> None:
    make_tree(root, {"vmlinuz": entry})
    with pytest.raises(BadImageError):
        vmlinuz.unpack(root / "vmlinuz", FakeRunner())


def test_missing(root: Path) -> None:
    with pytest.raises(BadImageError, match="not a regular file"):
        vmlinuz.unpack(root / "vmlinuz", FakeRunner())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_property_flipped_bytes_never_surprise(root: Path, data: st.DataObject) -> None:
    image = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert unpack(root, bytes(image)).startswith(b"\x7fELF")
    except BadImageError as error:
        assert error.message.isprintable()


def with_init_size(size: int, protocol: int = 0x20F) -> bytes:
    image = bytearray(bzimage(protocol=protocol))
    struct.pack_into("<I", image, 0x260, size)
    return bytes(image)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (with_init_size(58_580_992), 58_580_992),
        (with_init_size(58_580_992, 0x209), None),  # the field came with 2.10
        (with_init_size(0), None),
        (with_init_size(0xFFFFFFFF), None),
    ],
)
def test_what_it_takes_to_start(root: Path, data: bytes, size: int | None) -> None:
    (root / "vmlinuz").write_bytes(data)
    assert vmlinuz.read_header(root / "vmlinuz").init_size == size
