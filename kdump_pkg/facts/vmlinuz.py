"""The x86 bzImage: its header and the ELF kernel packed inside (Documentation/arch/x86/boot.rst).

Files can be anything: every length is checked before it is used, and nothing is read that the header doesn't name.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kdump_pkg.errors import BadImageError, CommandError
from kdump_pkg.run import Runner

LARGEST = 1 << 30  # bytes: no kernel comes near, and a hostile header can't make us read more
HEADER = 0x264


@dataclass(frozen=True)
class Header:
    version: str
    """First word of the version string: the release."""
    payload_offset: int
    payload_length: int
    init_size: int | None = None
    """Bytes that it asks for to start in: what it takes unpacked and while it unpacks itself. None before 2.10."""


def read_header(path: Path) -> Header:
    """The boot header of a bzImage. Raises BadImageError with what is wrong."""
    try:
        if not path.is_file():
            raise BadImageError(f"{path}: not a regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER)
            if len(head) < HEADER or head[0x202:0x206] != b"HdrS":
                raise BadImageError(f"{path}: not a bzImage kernel")
            (protocol,) = struct.unpack_from("<H", head, 0x206)
            if protocol < 0x208:
                raise BadImageError(f"{path}: boot protocol {protocol:#x} is older than 2.08, no payload to be found")
            (version_at,) = struct.unpack_from("<H", head, 0x20E)
            file.seek(0x200 + version_at)
            version = file.read(256).split(b"\0")[0].split(b" ")[0].decode("ascii", "replace")
    except OSError as error:
        raise BadImageError(f"{path}: {error.strerror}") from None
    sectors = head[0x1F1] or 4
    offset, length = struct.unpack_from("<II", head, 0x248)
    start = (sectors + 1) * 512 + offset
    if length < 16 or start + length > size:
        raise BadImageError(f"{path}: truncated, its payload ends at {start + length} and the file at {size} bytes")
    (init_size,) = struct.unpack_from("<I", head, 0x260) if protocol >= 0x20A else (0,)
    return Header(version, start, length, init_size if 0 < init_size < LARGEST else None)


def unpack(path: Path, run: Runner) -> bytes:
    """The ELF kernel inside a bzImage. Raises BadImageError; zstd and lz4 payloads need those programs."""
    header = read_header(path)
    with path.open("rb") as file:
        file.seek(header.payload_offset)
        payload = file.read(header.payload_length)
    for magic, name, unpacker in _formats(run):
        if payload.startswith(magic):
            try:
                data = unpacker(payload)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                raise BadImageError(f"{path}: damaged {name} payload: {error}") from None
            except CommandError as error:
                raise BadImageError(f"{path}: {name} payload: {error.message}", hint=error.hint) from None
            if not data.startswith(b"\x7fELF"):
                raise BadImageError(f"{path}: its {name} payload holds no ELF kernel")
            return data
    raise BadImageError(f"{path}: payload of an unknown compression (starts with {payload[:4].hex()})")


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _whole(decompressor: _Decompressor, payload: bytes) -> bytes:
    """The unpacked stream; half of one is an error, which these decompressors don't make of it by themselves."""
    data = decompressor.decompress(payload, LARGEST)
    if not decompressor.eof:
        raise EOFError(f"more than {LARGEST} bytes" if len(data) >= LARGEST else "it ends in the middle")
    return data


def _formats(run: Runner) -> list[tuple[bytes, str, Callable[[bytes], bytes]]]:
    """Magic, name and unpacker. All but gzip carry the unpacked size in four more bytes (scripts/Makefile.lib)."""

    def tool(*argv: str) -> Callable[[bytes], bytes]:
        return lambda data: run(argv, stdin=data[:-4], timeout=120).stdout

    return [
        (b"\x1f\x8b\x08", "gzip", lambda d: _whole(zlib.decompressobj(31), d)),
        (b"\xfd7zXZ\0", "xz", lambda d: _whole(lzma.LZMADecompressor(), d)),
        (b"\x5d\0\0", "lzma", lambda d: _whole(lzma.LZMADecompressor(), d)),
        (b"BZh", "bzip2", lambda d: _whole(bz2.BZ2Decompressor(), d)),
        (b"\x28\xb5\x2f\xfd", "zstd", tool("zstd", "-dcq", "-")),
        (b"\x02\x21\x4c\x18", "lz4", tool("lz4", "-dcq", "-")),
        (b"\x89LZO\0", "lzo", tool("lzop", "-dcq", "-")),
        (b"\x7fELF", "plain", lambda d: d),
    ]
