"""A vmlinux with DWARF and symbols, made of one that has BTF and knows its symbols in one way or another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kdump_pkg.debuginfo import btf, code, declarations, dwarf, frames, kallsyms, symbols, writer
from kdump_pkg.debuginfo.globals import DECLARATIONS
from kdump_pkg.debuginfo.symbols import Symbol
from kdump_pkg.debuginfo.types import Types
from kdump_pkg.errors import BadImageError
from kdump_pkg.model.elf import AARCH64, EXECUTABLE, NOBITS, REL, RELA, X86_64, Layout, Section

FORMAT = 1
"""To be raised when what is made changes: what older versions made is made again then."""
LIMITS = (
    "no file names and line numbers, no inlined functions and no local variables: BTF has none of them",
    "global variables have types only where they are per CPU or known to kdump-pkg",
)
"""What can't be had, whatever the kernel."""
SIZES = "variables end where the next one begins: this kernel's symbols have no sizes"
UNTRIED = "made for aarch64, where neither crash nor drgn was tried with it"
FRAMELESS = f"a trace of the task that crashed may end at once: {frames.FUNCTION} begins in a way that is not known"

_DROPPED = (".symtab", ".strtab", ".shstrtab")
_NEEDED = (".rodata", ".notes", ".orc_header", ".orc_unwind_ip", ".orc_unwind")
"""Sections whose content is read from the file; that of all others is read from the dump, and is a hole here."""


@dataclass(frozen=True)
class Made:
    """A file in pieces: what lies between them is zeros, best left out."""

    pieces: tuple[writer.Piece, ...]
    size: int
    symbols: int
    types: int
    functions: int
    variables: int
    limits: tuple[str, ...]
    """What it can't do, a sentence each."""


def make(image: bytes, layout: Layout, system_map: bytes | None = None) -> Made:
    """The kernel IMAGE, with DWARF. SYSTEM_MAP is the file of that name, for an image whose own table can't be read.

    Raises BadImageError: no BTF, no symbols, another architecture, a layout that isn't known, anything damaged.
    """
    _refuse(layout)
    types = btf.read(content(image, layout, ".BTF"))
    kept, numbers = keep(layout)
    table, exact = _symbols(image, layout, (kept, numbers), system_map)
    if not exact and layout.machine == X86_64:
        table = symbols.trimmed(table, _reader(image, layout, exact))
    named = symbols.by_name(table)
    info = dwarf.Info(len(types), dwarf.Strings(types.strings, whole=True))
    counts = _describe(types, named, info, _reader(image, layout, exact))
    frame = _frame(image, layout, named)
    added = [
        *writer.symbol_sections(table, len(kept)),
        writer.debug_section(".debug_info", info.finish()),
        writer.debug_section(".debug_abbrev", dwarf.abbreviations()),
        writer.debug_section(".debug_str", bytes(info.strings.data)),
    ]
    if frame:
        added.append(writer.debug_section(".debug_frame", frame))
    pieces, size = writer.file(image, layout, kept, added, lambda one: one.name in _NEEDED)
    return Made(tuple(pieces), size, len(table), *counts, _limits(layout, exact, frame))


def content(image: bytes, layout: Layout, name: str) -> bytes:
    """Of a section. Raises BadImageError when it isn't there."""
    section = layout.find(name)
    if section is None or section.type == NOBITS or not section.size:
        raise BadImageError(f"it has no {name}: the kernel was built without CONFIG_DEBUG_INFO_BTF")
    return image[section.offset : section.offset + section.size]


def keep(layout: Layout) -> tuple[list[Section], dict[int, int]]:
    """Sections that go over, and their new numbers by the old ones."""
    kept: list[Section] = []
    numbers: dict[int, int] = {}
    for number, one in enumerate(layout.sections):
        if one.name not in _DROPPED and one.type not in (REL, RELA) and not one.name.startswith((".debug", ".zdebug")):
            numbers[number] = len(kept)
            kept.append(one)
    return kept, numbers


def _refuse(layout: Layout) -> None:
    if layout.machine not in (X86_64, AARCH64):
        raise BadImageError(
            f"a kernel for another architecture (ELF machine {layout.machine}): x86-64 and aarch64 only"
        )
    if layout.type != EXECUTABLE and layout.machine == X86_64:
        raise BadImageError("no executable ELF file, as kernels are")


def _symbols(
    image: bytes, layout: Layout, kept: tuple[list[Section], dict[int, int]], system_map: bytes | None
) -> tuple[list[Symbol], bool]:
    """The best symbols that there are, and whether their sizes are their own."""
    sections, numbers = kept
    table = symbols.from_table(image, layout, numbers)
    if table:
        return table, True
    try:
        _, entries = kallsyms.read(image, layout)
    except BadImageError as error:
        if system_map is None:
            raise
        try:
            return symbols.from_map(system_map, layout, sections), False
        except BadImageError as other:
            raise BadImageError(f"{error.message}; {other.message}") from None
    return symbols.from_entries(entries, sections), False


def _describe(
    types: btf.Btf, named: dict[str, Symbol], info: dwarf.Info, reader: Callable[[Symbol], bytes | None]
) -> tuple[int, int, int]:
    """Write all entries. Returns how many types, functions and variables."""
    info.begin("vmlinux")
    writer_of_types = Types(types, info)
    count = writer_of_types.write(range(1, len(types)))
    done = code.variables(types, named, info, writer_of_types)
    more = declarations.Declared(types, info, writer_of_types, named, reader)
    done |= more.write(declarations.parse(DECLARATIONS), done)
    info.end()
    return count, code.functions(types, named, info, writer_of_types), len(done)


def _reader(image: bytes, layout: Layout, exact: bool) -> Callable[[Symbol], bytes | None]:
    """What a symbol holds in the image; None where that is known to be all its own, and where it isn't there."""

    def read(symbol: Symbol) -> bytes | None:
        place = None if exact else layout.offset_of(symbol.address)
        return None if place is None else image[place : place + symbol.size]

    return read


def _frame(image: bytes, layout: Layout, named: dict[str, Symbol]) -> bytes:
    symbol = named.get(frames.FUNCTION)
    place = layout.offset_of(symbol.address) if symbol else None
    if symbol is None or place is None or layout.machine != X86_64:
        return b""
    return frames.section(image[place : place + symbol.size], symbol.address, symbol.size)


def _limits(layout: Layout, exact: bool, frame: bytes) -> tuple[str, ...]:
    limits = [*LIMITS]
    if not exact:
        limits.append(SIZES)
    if layout.machine != X86_64:
        limits.append(UNTRIED)
    elif not frame:
        limits.append(FRAMELESS)
    return tuple(limits)
