"""Symbols of a kernel or module: from its own table, from kallsyms, from a System.map."""

from __future__ import annotations

import bisect
import itertools
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from kdump_pkg.debuginfo.kallsyms import Entry
from kdump_pkg.errors import BadImageError
from kdump_pkg.model.elf import ABSOLUTE, ALLOC, EXEC, RESERVED, SYMTAB, WRITE, Layout, Section

NOTYPE, OBJECT, FUNCTION = 0, 1, 2
LOCAL, GLOBAL, WEAK = 0, 1, 2
PER_CPU = ".data..percpu"
_LARGEST = 1 << 24  # bytes of one symbol: what is further from the next has a gap behind it
_LONGEST = 4096  # of a name, in bytes
_GAP = 1 << 21  # a symbol may lie behind its section's end, as far as the next huge page
_ALIGNED, _PADDING = 16, 63  # functions of x86 begin at multiples of 16; bytes before the next one, at most
_FILL = re.compile(
    rb"(?:\x66*\x90|\x0f\x1f\0|\x0f\x1f\x40\0|\x66?\x0f\x1f\x44\0\0|\x0f\x1f\x80\0{4}|\x66?\x0f\x1f\x84\0{5}"
    rb"|\x66+\x2e\x0f\x1f\x84\0{5})+\Z"
)
"""What assemblers fill up with: instructions that do nothing, of one byte and more."""
_NOP = 0x90
_SHORT_JUMPS = frozenset((0xEB, *range(0x70, 0x80)))
_LINKED = re.compile(
    r"__(?:start|stop|end|ksymtab|flags|initcall_|BTF_ID__set|BTF_ID__set8)_\w+|_(?:s|e|sinit|einit)?(?:text|data|rodata)|_end|_brk_(?:start|end)"
    r"|__bss_(?:start|stop)|__init_(?:begin|end)|init_stack|init_thread_union|jiffies"
)
"""Names that the linker script or an assembler gave to places: of no kind, and without size in a real table."""
_MAP_LINE = re.compile(r"([0-9a-f]{16}) ([A-Za-z?]) ([!-~]{1,512})")


class Symbol(NamedTuple):
    address: int
    """Of a module: from the beginning of its section."""
    size: int
    """0: not known."""
    kind: int
    binding: int
    section: int
    """Number among the sections; ABSOLUTE."""
    name: str
    number: int = 0
    """Among the symbols of the table that it comes from."""


def by_name(symbols: Iterable[Symbol]) -> dict[str, Symbol]:
    """Of those whose name says which one is meant."""
    found: dict[str, Symbol] = {}
    twice = set()
    for symbol in symbols:
        other = found.setdefault(symbol.name, symbol)
        if other.address != symbol.address or other.section != symbol.section:
            twice.add(symbol.name)
    return {name: symbol for name, symbol in found.items() if name not in twice}


def from_entries(entries: Sequence[Entry], sections: Sequence[Section]) -> list[Symbol]:
    """Of a table that has no sizes: a symbol goes as far as to the next one."""
    order = sorted({entry.address for entry in entries})
    sizes = {a: min(b - a, _LARGEST) for a, b in itertools.pairwise(order)}
    where = _finder(sections)
    code = {n for n, s in enumerate(sections) if s.flags & (EXEC | WRITE) == EXEC}
    found = []
    for address, letter, name in entries:
        section = where(address)
        kind = _kind(letter, section in code)
        if kind == OBJECT and _LINKED.fullmatch(name):
            found.append(Symbol(address, 0, NOTYPE, _binding(letter), section, name))
        else:
            found.append(Symbol(address, sizes.get(address, 0), kind, _binding(letter), section, name))
    return found


def trimmed(table: Iterable[Symbol], read: Callable[[Symbol], bytes | None]) -> list[Symbol]:
    """The same with functions of x86 that end where they do, not where the next one begins. READ gives their code."""
    found = []
    for symbol in table:
        if symbol.kind == FUNCTION and symbol.size and (symbol.address + symbol.size) % _ALIGNED == 0:
            symbol = symbol._replace(size=_end(read(symbol) or bytes(symbol.size)))
        found.append(symbol)
    return found


def _end(code: bytes) -> int:
    fill = _FILL.search(code, max(0, len(code) - _PADDING))
    if not fill or not fill.start():
        return len(code)
    short_jump = code[fill.start()] == _NOP and code[fill.start() - 1] in _SHORT_JUMPS
    return fill.start() + short_jump  # as far as the byte says, which looks like an instruction


def _kind(letter: str, code: bool) -> int:
    """The letter alone doesn't do: from 7.0 on the data of x86 is executable by its section's flags, so nm says T."""
    if letter in "tTwW":
        return FUNCTION if code else OBJECT
    return OBJECT if letter in "dDbBrRvVaA" else NOTYPE


def _binding(letter: str) -> int:
    return WEAK if letter in "wWvV" else GLOBAL if letter.isupper() else LOCAL


def _finder(sections: Sequence[Section]) -> Callable[[int], int]:
    """Number of the section that an address lies in.

    On x86 before 6.15 those of per-CPU variables count from 0, where their section lies.
    """
    loaded = sorted((s.address, s.size, n) for n, s in enumerate(sections) if s.flags & ALLOC and s.address)
    starts = [address for address, _, _ in loaded]
    low = next((n for n, s in enumerate(sections) if s.name == PER_CPU and s.address == 0), None)

    def where(address: int) -> int:
        if low is not None and address <= sections[low].size:
            return low
        place = bisect.bisect_right(starts, address) - 1
        if place < 0 or address - loaded[place][0] > loaded[place][1] + _GAP:
            return ABSOLUTE
        return loaded[place][2]

    return where


def from_map(text: bytes, layout: Layout, sections: Sequence[Section]) -> list[Symbol]:
    """From a System.map, after a look at whether it is of this kernel. Raises BadImageError."""
    entries = []
    for line in text.decode("ascii", "replace").splitlines():
        found = _MAP_LINE.fullmatch(line)
        if not found:
            raise BadImageError("System.map: not one line for each symbol")
        entries.append(Entry(int(found[1], 16), found[2], found[3]))
    at = {entry.name: entry.address for entry in entries}
    code, types = layout.find(".text"), layout.find(".BTF")
    if code is None or types is None or at.get("_text") != code.address:
        raise BadImageError("System.map: not of this kernel")
    if (at.get("__start_BTF"), at.get("__stop_BTF")) != (types.address, types.address + types.size):
        raise BadImageError("System.map: not of this build")
    return from_entries(entries, sections)


def from_table(image: bytes, layout: Layout, numbers: dict[int, int]) -> list[Symbol]:
    """Of the file's own .symtab; NUMBERS are the new ones of its sections. Empty without one. Raises BadImageError."""
    table = next((s for s in layout.sections if s.type == SYMTAB), None)
    if table is None:
        return []
    if table.link >= len(layout.sections) or not layout.sections[table.link].held:
        raise BadImageError("symbols: their names are not there")
    texts = layout.sections[table.link]
    names = image[texts.offset : texts.offset + texts.size]
    data = image[table.offset : table.offset + table.size // 24 * 24]
    found = []
    for number, (place, info, _other, section, address, size) in enumerate(struct.iter_unpack("<IBBHQQ", data)):
        if place and info & 15 in (NOTYPE, OBJECT, FUNCTION) and section:
            new = numbers.get(section, ABSOLUTE) if section < RESERVED else section
            found.append(Symbol(address, size, info & 15, info >> 4, new, _name(names, place), number))
    return found


def _name(names: bytes, place: int) -> str:
    end = names.find(b"\0", place, place + _LONGEST)
    name = names[place:end].decode("ascii", "replace")
    if end < 0 or not name.isascii() or not name.isprintable():
        raise BadImageError("symbols: a name without end or that can't be printed")
    return name
