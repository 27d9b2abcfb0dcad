"""An ELF file like another one, with sections more: as pieces, so that nothing is written where nothing is."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from kdump_pkg.debuginfo.dwarf import Relocation
from kdump_pkg.debuginfo.symbols import LOCAL, Symbol
from kdump_pkg.model.elf import MERGE, PROGBITS, RELA, STRINGS, STRTAB, SYMTAB, Layout, Section

Piece = tuple[int, bytes | memoryview]
"""Where in the file, and what."""
PAGE = 1 << 12
_HEAD, _SEGMENT, _SECTION = 64, 56, 64  # bytes of the headers


@dataclass(frozen=True)
class Addition:
    """A section to add, before it has its place."""

    section: Section
    data: bytes


def debug_section(name: str, data: bytes) -> Addition:
    if name == ".debug_str":
        return Addition(Section(name, PROGBITS, flags=MERGE | STRINGS, entry_size=1), data)
    return Addition(Section(name, PROGBITS, alignment=8 if name == ".debug_frame" else 1), data)


def symbol_sections(symbols: Iterable[Symbol], first: int) -> tuple[Addition, Addition]:
    """.symtab and .strtab, whose numbers will be FIRST and the one after it."""
    names = bytearray(b"\0")
    entries = bytearray(24)
    ordered = sorted(symbols, key=lambda s: s.binding != LOCAL)  # elf(5): local ones first
    pack = struct.Struct("<IBBHQQ").pack
    for one in ordered:
        entries += pack(len(names), one.binding << 4 | one.kind, 0, one.section, one.address, one.size)
        names += one.name.encode() + b"\0"
    globals_from = 1 + sum(s.binding == LOCAL for s in ordered)
    table = Section(".symtab", SYMTAB, link=first + 1, info=globals_from, alignment=8, entry_size=24)
    return Addition(table, bytes(entries)), Addition(Section(".strtab", STRTAB), bytes(names))


def relocation_section(relocations: Sequence[Relocation], kind: int, symbols: int, target: int) -> Addition:
    """.rela.debug_info, for the section TARGET, by the numbers of the table SYMBOLS."""
    data = b"".join(struct.pack("<QQq", r.offset, r.symbol << 32 | kind, 0) for r in relocations)
    head = Section(".rela.debug_info", RELA, 0x40, link=symbols, info=target, alignment=8, entry_size=24)
    return Addition(head, data)


def file(
    image: bytes,
    layout: Layout,
    kept: Sequence[Section],
    added: Sequence[Addition],
    wanted: Callable[[Section], bool],
) -> tuple[list[Piece], int]:
    """Pieces and size of a file with the sections KEPT of IMAGE and those ADDED.

    All keep their places, so segments do too. Where a section's content isn't WANTED is a hole.
    """
    pieces = [piece for one in kept if one.held and wanted(one) for piece in _content(image, one)]
    ends = [s.offset + s.size for s in kept if s.held] + [s.offset + s.file_size for s in layout.segments]
    at = max([_HEAD + _SEGMENT * len(layout.segments), *ends])
    names, offsets = _names([*(s.name for s in kept), *(a.section.name for a in added), ".shstrtab"])
    heads = list(kept)
    for one in (*added, Addition(Section(".shstrtab", STRTAB), names)):
        alignment = max(one.section.alignment, 1)
        at = -(-at // alignment) * alignment
        pieces.append((at, one.data))
        heads.append(replace(one.section, offset=at, size=len(one.data)))
        at += len(one.data)
    at = (at + 7) & ~7
    table = b"".join(_section(head, offsets[head.name]) for head in heads)
    pieces.append((at, table))
    pieces.append((0, _head(layout, at, len(heads)) + b"".join(_segments(layout))))
    return sorted(pieces, key=lambda piece: piece[0]), at + len(table)


def _content(image: bytes, section: Section) -> Iterator[Piece]:
    """What a section holds, without its pages of zeros."""
    view, end = memoryview(image), section.offset + section.size
    start = at = section.offset
    while at < end:
        stop = min((at | (PAGE - 1)) + 1, end)
        if image.count(0, at, stop) == stop - at:
            if start < at:
                yield start, view[start:at]
            start = stop
        at = stop
    if start < end:
        yield start, view[start:end]


def _names(names: Iterable[str]) -> tuple[bytes, dict[str, int]]:
    table = bytearray(b"\0")
    offsets = {"": 0}
    for name in names:
        if name not in offsets:
            offsets[name] = len(table)
            table += name.encode("utf-8", "surrogateescape") + b"\0"
    return bytes(table), offsets


def _section(one: Section, name: int) -> bytes:
    return struct.pack(
        "<IIQQQQIIQQ", name, one.type, one.flags, one.address, one.offset, one.size, one.link, one.info,
        one.alignment, one.entry_size,
    )  # fmt: skip


def _segments(layout: Layout) -> Iterator[bytes]:
    for one in layout.segments:
        yield struct.pack(
            "<IIQQQQQQ", one.type, one.flags, one.offset, one.address, one.physical, one.file_size, one.memory_size,
            one.alignment,
        )  # fmt: skip


def _head(layout: Layout, sections: int, count: int) -> bytes:
    segments = len(layout.segments)
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", layout.type, layout.machine, 1, layout.entry, _HEAD if segments else 0, sections,
        layout.flags, _HEAD, _SEGMENT if segments else 0, segments, _SECTION, count, count - 1,
    )  # fmt: skip
