"""How large an image is once the kernel has unpacked it (Documentation/driver-api/early-userspace/buffer-format.rst).

An image is any number of cpio archives one after the other, each packed or not, with zeros between them. Nothing is
kept of what comes out, and nothing that is in an image makes us read or unpack more than LARGEST.
"""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from kdump_pkg.errors import CommandError
from kdump_pkg.run import streaming

LARGEST = 2 << 30  # bytes, packed or not; no reservation comes near
PIECE = 1 << 16
ARCHIVE = (b"070701", b"070702")


class _Unpacker(Protocol):
    """As lzma and bz2 have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's, with the interface of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


UNPACKERS: tuple[tuple[bytes, Callable[[], _Unpacker]], ...] = (
    (b"\x1f\x8b", _Gzip),
    (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(memlimit=LARGEST)),
    (b"\x5d\0\0", lambda: lzma.LZMADecompressor(memlimit=LARGEST)),
    (b"BZh", bz2.BZ2Decompressor),
)
PROGRAMS = ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO\0", "lzop"))
"""Their streams are taken to go on to the end of the image, which mkinitcpio's and dracut's do."""


def unpacked_size(path: Path) -> int | None:
    """Bytes of all archives in the image at PATH; None where it is damaged or packed in a way nobody here knows."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read() if size <= LARGEST else b""
            return _all(data, file.fileno()) or None
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, CommandError):
        return None


def _all(data: bytes, descriptor: int) -> int:
    at = total = 0
    while (at := _past_zeros(data, at)) < len(data):
        size, at = _one(data, at, LARGEST - total, descriptor)
        total += size
    return total


def _past_zeros(data: bytes, at: int) -> int:
    while at < len(data):
        piece = data[at : at + PIECE]
        rest = piece.lstrip(b"\0")
        at += len(piece) - len(rest)
        if rest:
            break
    return at


def _one(data: bytes, at: int, room: int, descriptor: int) -> tuple[int, int]:
    """Size of the archive that begins AT when it is unpacked, and where it ends."""
    if data.startswith(ARCHIVE, at):
        end = _archive_end(data, at)
        return end - at, end
    for magic, make in UNPACKERS:
        if data.startswith(magic, at):
            return _stream(make(), data, at, room)
    for magic, program in PROGRAMS:
        if data.startswith(magic, at):
            os.lseek(descriptor, at, os.SEEK_SET)
            return _by_program([program, "-dcq", "-"], descriptor, room), len(data)
    raise ValueError("of no kind that is known")


def _archive_end(data: bytes, at: int) -> int:
    while data.startswith(ARCHIVE, at):
        size, length = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        if size < 0 or length < 0:
            raise ValueError("a size below zero")
        name = data[at + 110 : at + 110 + length]
        start = at + (110 + length + 3 & ~3)
        at = start + (size + 3 & ~3)
        if name.rstrip(b"\0") == b"TRAILER!!!":
            return at
    raise EOFError("an archive without an end")


def _stream(unpacker: _Unpacker, data: bytes, at: int, room: int) -> tuple[int, int]:
    size = 0
    while not unpacker.eof:
        piece = data[at : at + PIECE] if unpacker.needs_input else b""
        at += len(piece)
        made = len(unpacker.decompress(piece, PIECE * 16))
        size += made
        if size > room or not (made or piece or unpacker.eof):
            raise EOFError("it ends in the middle, or never")
    return size, at - len(unpacker.unused_data)


def _by_program(argv: list[str], descriptor: int, room: int) -> int:
    size = 0
    with streaming(argv, stdin=descriptor) as stream:
        while piece := stream.read(PIECE * 16):
            size += len(piece)
            if size > room:
                raise EOFError("more than any memory holds")
        if stream.end().returncode != 0:
            raise EOFError("it is damaged")
    return size
