"""What the headers of a dump of memory say, and whether all that they speak of is in the file.

Three kinds are read: makedumpfile's own (`KDUMP`, IMPLEMENTATION of makedumpfile), the same as a stream (`-F`), and
ELF. Nothing is believed: every number is held against the file's size before it is used, and tables are read in pieces.
Raises BadDumpError with one sentence for whatever is not as it has to be.
"""

from __future__ import annotations

import operator
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kdump_pkg.errors import BadDumpError
from kdump_pkg.facts import elfcore
from kdump_pkg.facts.corefile import Core, open_core
from kdump_pkg.model.dumps import CoreInfo, Vmcore

MAGIC = b"KDUMP   "
OTHERS = {
    b"DISKDUMP": "a dump by diskdump, which is from before kdump", b"\x0f\xf0\xa8\xa8\x0f\xf0": "a dump by lkcd",
    b"MDMP": "a minidump of Windows", b"PAGEDU": "a memory dump of Windows", b"LiME": "a memory image by LiME",
    b"EMiL": "a memory image by LiME", b"format=1\n": "a file `meta`, not the memory",
}  # fmt: skip
ARCHITECTURES = ("x86_64", "aarch64")
HEADER = struct.Struct("<8si6x")
UTSNAME, FIELD = 12, 65
NUMBERS = struct.Struct("<IiiIIIIIII")
"""status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr, total_ram, device, written blocks, current_cpu, CPUs."""
NUMBERS_AT = 424
SUB = struct.Struct("<QiiQQQQQQQQQQQ")
"""phys_base, level, split, start and end (32), vmcoreinfo, note, eraseinfo (place, size), start, end, last (64)."""
COMPRESSED = {0x1: "zlib", 0x2: "lzo", 0x4: "snappy", 0x20: "zstd"}
INCOMPLETE = 0x8
BEGINS = {"zlib": (b"\x78",), "zstd": (b"\x28\xb5\x2f\xfd",)}
"""What a packed page begins with, where that is always the same."""
DESCRIPTOR = 24
PIECE = 1 << 20
SAMPLES = 2000
"""Pages that are looked at, evenly over the whole dump."""
KEY = re.compile(rb"[A-Za-z0-9_().-]{1,120}")
MOST_VALUES = 4000


@dataclass(frozen=True)
class _Layout:
    """Of a kdump-compressed file."""

    block: int
    bitmap: int
    bitmap_size: int
    descriptors: int
    last_page: int
    split: bool
    info: tuple[int, int]


def read(path: Path) -> Vmcore:
    """Its headers and VMCOREINFO, which are in the first pages: fast, whatever its size.

    `info` is without values where the dump has no such note.
    """
    with open_core(path) as core:
        return _read(core)[0]


def examine(path: Path) -> Vmcore:
    """The same, when all that its headers speak of is there; `pages` is set then."""
    with open_core(path) as core:
        facts, layout = _read(core)
        if core.cut:
            raise BadDumpError(core.cut)
        if layout is None:
            return replace(facts, pages=elfcore.check_segments(core))
        if layout.split:
            raise BadDumpError("one of several parts", hint="put them together by makedumpfile --reassemble")
        return replace(facts, pages=_check_pages(core, layout, facts.compression))


def _read(core: Core) -> tuple[Vmcore, _Layout | None]:
    head = core.read(0, min(8, core.size))
    if head.startswith(MAGIC):
        return _read_kdump(core)
    if head.startswith(elfcore.MAGIC):
        machine = elfcore.machine_of(core)
        _check_architecture(machine)
        return Vmcore("elf", machine, parse(elfcore.info_note(core)), size=core.size), None
    for magic, what in OTHERS.items():
        if head.startswith(magic[:8]):
            raise BadDumpError(what)
    if not head.strip(b"\0"):
        raise BadDumpError("begins with zeros: its header was never written")
    raise BadDumpError("no dump of memory: neither makedumpfile's kind nor ELF")


def _read_kdump(core: Core) -> tuple[Vmcore, _Layout]:
    version = HEADER.unpack(core.read(0, HEADER.size))[1]
    machine = core.read(UTSNAME + 4 * FIELD, FIELD).split(b"\0")[0].decode("ascii", "replace")
    if not 1 <= version <= 100:
        raise BadDumpError("its header is damaged, or of a big-endian machine")
    _check_architecture(machine)
    status, block, sub_blocks, bitmap_blocks, last, *_ = NUMBERS.unpack(core.read(NUMBERS_AT, NUMBERS.size))
    if block not in (4096, 16384, 65536) or not 1 <= sub_blocks <= 1 << 16 or bitmap_blocks < 1:
        raise BadDumpError("its header is damaged: sizes that no kernel has")
    values = SUB.unpack(core.read(block, SUB.size))
    level, split = values[1:3]
    bitmap = (1 + sub_blocks) * block
    layout = _Layout(
        block=block,
        bitmap=bitmap,
        bitmap_size=bitmap_blocks * block,
        descriptors=bitmap + bitmap_blocks * block,
        last_page=values[13] if version >= 6 else last,
        split=bool(split),
        info=(values[5], values[6]) if version >= 3 else (0, 0),
    )
    facts = Vmcore(
        "flattened" if core.form == "flattened" else "kdump",
        machine,
        parse(_info(core, layout)),
        level if 0 <= level <= 31 and version >= 1 else None,
        next((name for flag, name in COMPRESSED.items() if status & flag), "none"),
        incomplete=bool(status & INCOMPLETE),
        size=core.size,
    )
    return facts, layout


def _check_architecture(machine: str) -> None:
    if machine not in ARCHITECTURES:
        name = "".join(c for c in machine if c.isascii() and (c.isalnum() or c in "_- ")) or "an unknown machine"
        raise BadDumpError(f"of {name}: only dumps of x86_64 and aarch64 can be read here")


def _info(core: Core, layout: _Layout) -> bytes:
    place, size = layout.info
    if not place or not size:
        return b""
    if size > elfcore.MOST_INFO:
        raise BadDumpError("its header is damaged: a VMCOREINFO larger than any kernel's")
    return core.read(place, size)


def parse(note: bytes) -> CoreInfo:
    """Lines `KEY=value`; what isn't one, or holds anything but printable ASCII, is left out."""
    found: dict[str, str] = {}
    for line in note.split(b"\n", MOST_VALUES)[:MOST_VALUES]:
        key, equals, value = line.partition(b"=")
        if equals and KEY.fullmatch(key) and len(value) <= 400 and re.fullmatch(rb"[\x20-\x7e]*", value):
            found[key.decode()] = value.decode()
    return CoreInfo(tuple(found.items()))


# --- its pages --------------------------------------------------------------------------------------------------------


def _check_pages(core: Core, layout: _Layout, compression: str) -> int:
    """How many it holds, with the place of each inside the file."""
    second = layout.bitmap + layout.bitmap_size // 2
    if layout.last_page > layout.bitmap_size // 2 * 8:
        raise BadDumpError("its header is damaged: the bitmap is too small for the machine's pages")
    pages = sum(_ones(piece) for _, piece in _pieces(core, second, layout.bitmap_size // 2))
    data = layout.descriptors + pages * DESCRIPTOR
    if not pages or data > core.size:
        should = f": {pages} pages are spoken of, and the file has {core.size} bytes" if pages else ""
        raise BadDumpError(f"truncated{should}" if pages else "holds not a single page")
    every = max(1, pages // SAMPLES)
    for begin, piece in _pieces(core, layout.descriptors, pages * DESCRIPTOR):
        _check_descriptors(core, piece, data, layout.block)
        first = -(begin // DESCRIPTOR) % every * DESCRIPTOR
        _check_samples(core, piece[first:], every, compression)
    hole = core.hole(data) if compression != "none" else None
    if hole is not None:
        raise BadDumpError(f"has a hole at byte {hole}: that part was never written")
    return pages


def _pieces(core: Core, start: int, size: int) -> Iterator[tuple[int, bytes]]:
    """As many whole descriptors as fit into a piece; each with its distance from START."""
    step = PIECE // DESCRIPTOR * DESCRIPTOR
    for begin in range(0, size, step):
        yield begin, core.read(start + begin, min(step, size - begin))


def _ones(data: bytes) -> int:
    return int.from_bytes(data, "little").bit_count()


def _check_descriptors(core: Core, piece: bytes, data: int, block: int) -> None:
    """Each: offset (8 bytes), size (4), flags (4), page flags (8). In C, for there are 25 million in 100 GB."""
    words = array("Q", piece)
    offsets = words[0::3]
    sizes = array("Q", map((0xFFFFFFFF).__and__, words[1::3]))
    if min(offsets) < data:
        raise BadDumpError("damaged: a page's place is inside the tables, or was never written")
    if not 0 < min(sizes) <= max(sizes) <= block:
        raise BadDumpError("damaged: a page has a size that no page has")
    end = max(map(operator.add, offsets, sizes))
    if end > core.size:
        raise BadDumpError(core.cut or f"truncated: it has {core.size} bytes and should have at least {end}")


def _check_samples(core: Core, piece: bytes, every: int, compression: str) -> None:
    """Whether what is packed begins as it has to: a file system can lose blocks without losing a byte of length."""
    flag = next((flag for flag, name in COMPRESSED.items() if name == compression), 0)
    begins = BEGINS.get(compression)
    for at in range(0, len(piece), every * DESCRIPTOR) if begins else ():
        offset, _, flags = struct.unpack_from("<QII", piece, at)
        if flags & flag and not core.read(offset, min(4, core.size - offset)).startswith(begins or ()):
            raise BadDumpError(f"damaged: the page at byte {offset} is not what was written there")
