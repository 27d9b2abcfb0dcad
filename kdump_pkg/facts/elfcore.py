"""An ELF vmcore, as /proc/vmcore is and `makedumpfile -E` writes it: its note VMCOREINFO, and whether all is there.

Without pyelftools, which reads whole notes and tables: here each number is held against the file's size before it is
used, and the file may be makedumpfile's stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kdump_pkg.errors import BadDumpError
from kdump_pkg.facts.corefile import Core

MAGIC = b"\x7fELF"
MACHINES = {62: "x86_64", 183: "aarch64", 3: "i386", 40: "arm", 21: "ppc64", 22: "s390x", 243: "riscv64"}
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOTE = struct.Struct("<III")
LOAD, NOTES, CORE = 1, 4, 4
MANY = 0xFFFF
"""PN_XNUM: the number of segments stands in the first section."""
MOST_SEGMENTS = 1 << 17
MOST_NOTES = 1 << 14
"""A note for each CPU, and some."""
MOST_INFO = 1 << 20


def machine_of(core: Core) -> str:
    """Raises BadDumpError for an ELF file of any other kind than a 64-bit core."""
    head = core.read(0, HEADER.size)
    if head[4:6] != b"\x02\x01":
        raise BadDumpError("an ELF file, but not of a 64-bit little-endian machine: it can't be read here")
    kind, machine = HEADER.unpack(head)[1:3]
    if kind != CORE:
        raise BadDumpError("an ELF file, but no dump of memory: a program, a library or a kernel")
    return MACHINES.get(machine, f"machine {machine}")


def info_note(core: Core) -> bytes:
    """The text of VMCOREINFO; empty where there is none."""
    for kind, offset, size in segments(core):
        if kind == NOTES:
            for name, place, length in _notes(core, offset, size):
                if name == b"VMCOREINFO":
                    return core.read(place, min(length, MOST_INFO))
    return b""


def check_segments(core: Core) -> int:
    """Pages of 4 KiB that it holds. Raises BadDumpError where the file ends before one of its segments does."""
    total = 0
    for kind, offset, size in segments(core):
        if offset + size > core.size:
            raise BadDumpError(f"truncated: it has {core.size} bytes and should have at least {offset + size}")
        total += size >> 12 if kind == LOAD else 0
    return total


def segments(core: Core) -> Iterator[tuple[int, int, int]]:
    """Kind, offset and size in the file of each."""
    facts = HEADER.unpack(core.read(0, HEADER.size))
    table, sections, each, count = facts[5], facts[6], facts[9], facts[10]
    if count == MANY:
        count = SECTION.unpack(core.read(sections, SECTION.size))[7]
    if each != SEGMENT.size or not 0 < count <= MOST_SEGMENTS:
        raise BadDumpError("an ELF core whose table of segments is nonsense")
    for number in range(count):
        kind, _, offset, _, _, size, _, _ = SEGMENT.unpack(core.read(table + number * SEGMENT.size, SEGMENT.size))
        yield kind, offset, size


def _notes(core: Core, offset: int, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and length of the content of each; only their heads are read."""
    end = offset + size
    for _ in range(MOST_NOTES):
        if offset + NOTE.size > end:
            return
        name_size, length, _ = NOTE.unpack(core.read(offset, NOTE.size))
        place = offset + NOTE.size + (name_size + 3 & ~3)
        if place + length > end:
            return
        if name_size or length:
            yield core.read(offset + NOTE.size, min(name_size, 64)).rstrip(b"\0"), place, length
        offset = place + (length + 3 & ~3)
