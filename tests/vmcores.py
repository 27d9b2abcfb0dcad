"""Dumps of memory made by hand: makedumpfile's kind, the same as a stream, ELF; small, whole, damaged at will."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BLOCK = 4096
RELEASE = "6.12.1-arch1-1"
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
INFO = (
    f"OSRELEASE={RELEASE}\nBUILD-ID={BUILD_ID}\nPAGESIZE=4096\n"
    "SYMBOL(init_uts_ns)=ffffffff82a14d00\nCRASHTIME=1795420014\n"
)
ZLIB, INCOMPLETE, ZSTD = 0x1, 0x8, 0x20
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Kdump:
    """What makedumpfile writes; `pages` are their bytes, packed or not."""

    pages: Sequence[bytes] = field(default_factory=lambda: [bytes([n]) * BLOCK for n in range(1, 30)])
    info: str = INFO
    status: int = ZLIB
    machine: str = "x86_64"
    level: int = 31
    split: int = 0
    version: int = 6
    numbers: Mapping[str, int] = field(default_factory=dict)
    """To be wrong: block, sub_blocks, bitmap_blocks, last, info_at, info_size."""
    descriptors: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)
    """To be wrong: offset, size and flags of one, by its number."""

    def packed(self, page: bytes) -> bytes:
        if self.status & ZLIB:
            return zlib.compress(page, 1)
        return ZSTD_MAGIC + page[:60] if self.status & ZSTD else page

    def build(self) -> bytes:
        bitmap = bytearray(2 * BLOCK)
        for number in range(len(self.pages)):
            bitmap[number // 8] |= 1 << number % 8
            bitmap[BLOCK + number // 8] |= 1 << number % 8
        info_at = BLOCK + 512
        tables = 2 * BLOCK
        descriptors = tables + len(bitmap)
        data_at = descriptors + 24 * len(self.pages)
        data, table = b"", b""
        for number, page in enumerate(self.pages):
            packed = self.packed(page)
            values = (data_at + len(data), len(packed), self.status & (ZLIB | ZSTD))
            table += struct.pack("<QIIQ", *self.descriptors.get(number, values), 0)
            data += packed
        return self._headers(info_at) + bytes(bitmap) + table + data

    def _headers(self, info_at: int) -> bytes:
        get = self.numbers.get
        utsname = b"".join(
            word.encode().ljust(65, b"\0") for word in ("Linux", "lab", RELEASE, "#1 SMP", self.machine, "(none)")
        )
        head = b"KDUMP   " + struct.pack("<i", self.version) + utsname
        head = head.ljust(424, b"\0") + struct.pack(
            "<IiiIIIIIII", self.status, get("block", BLOCK), get("sub_blocks", 1), get("bitmap_blocks", 2),
            get("last", len(self.pages)), 0, 0, 0, 0, 1,
        )  # fmt: skip
        sub = struct.pack(
            "<QiiQQQQQQQQQQQ", 0, self.level, self.split, 0, 0, get("info_at", info_at),
            get("info_size", len(self.info)), 0, 0, 0, 0, 0, 0, get("last", len(self.pages)),
        )  # fmt: skip
        return head.ljust(BLOCK, b"\0") + (sub.ljust(512, b"\0") + self.info.encode()).ljust(BLOCK, b"\0")


def flattened(data: bytes, piece: int = 5000, *, end: bool = True) -> bytes:
    """The same as `makedumpfile -F` writes it: in pieces, the header once more at the end."""
    out = (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    out += struct.pack(">qq", 0, BLOCK) + bytes(BLOCK)  # overwritten by a later one
    for at in [*range(piece, len(data), piece), 0]:
        part = data[at : at + piece]
        out += struct.pack(">qq", at, len(part)) + part
    return out + (struct.pack(">qq", -1, -1) if end else b"")


def elf_core(
    info: str = INFO, memory: bytes = b"m" * 3 * BLOCK, *, machine: int = 62, kind: int = 4, many: bool = False
) -> bytes:
    """A core of one segment of notes and one of memory; with `many` the count stands in a section."""
    notes = note(b"CORE", b"x" * 336) + note(b"VMCOREINFO", info.encode())
    at = 64 + 2 * 56
    segments = struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), len(notes), 4)
    start = at + len(notes)
    segments += struct.pack("<IIQQQQQQ", 1, 7, start, 0, 0, len(memory), len(memory), 4096)
    sections = start + len(memory) if many else 0
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, sections, 0, 64, 56, 0xFFFF if many else 2, 64, 1 if many else 0, 0
    )
    return (
        head + segments + notes + memory + (struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 2, 0, 0) if many else b"")
    )


def note(name: bytes, content: bytes) -> bytes:
    padded = name + b"\0"
    return (
        struct.pack("<III", len(padded), len(content), 0)
        + padded + b"\0" * (-len(padded) % 4) + content + b"\0" * (-len(content) % 4)
    )  # fmt: skip
