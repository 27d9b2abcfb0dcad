"""Writing .debug_info, .debug_abbrev and .debug_str: DWARF version 4, which crash's gdb and drgn both read.

Nothing of BTF is known here. Types go by numbers that the caller gives out; where each lies is filled in at the end, so
that they can refer to each other in any order.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from typing import NamedTuple

PRODUCER = "kdump-pkg, from BTF and kallsyms"
C99 = 0x0C  # DW_LANG_C99

# Forms: how an attribute is written.
_ADDR, _DATA8, _DATA1, _SDATA, _STRP, _UDATA, _REF_ADDR, _REF4, _EXPRLOC, _PRESENT = (
    0x01, 0x07, 0x0B, 0x0D, 0x0E, 0x0F, 0x10, 0x13, 0x18, 0x19,
)  # fmt: skip
_NAME, _TYPE = (0x03, _STRP), (0x49, _REF4)
_BYTES1, _BYTES = (0x0B, _DATA1), (0x0B, _UDATA)
_DECLARED, _PROTOTYPED, _EXTERNAL = (0x3C, _PRESENT), (0x27, _PRESENT), (0x3F, _PRESENT)
_OFFSET, _BITS, _BIT_OFFSET = (0x38, _UDATA), (0x0D, _DATA1), (0x6B, _UDATA)
_UNIT = ((0x25, _STRP), (0x13, _DATA1), _NAME)
_FAR_TYPE, _RANGE = (0x49, _REF_ADDR), ((0x11, _ADDR), (0x12, _DATA8))


class _Abbreviation(NamedTuple):
    name: str
    tag: int
    children: bool
    attributes: tuple[tuple[int, int], ...]


_TABLE = (
    _Abbreviation("unit", 0x11, True, _UNIT),
    _Abbreviation("code unit", 0x11, True, (*_UNIT, *_RANGE)),
    _Abbreviation("base", 0x24, False, (_NAME, _BYTES1, (0x3E, _DATA1))),
    _Abbreviation("unspecified", 0x3B, False, (_NAME,)),
    _Abbreviation("pointer", 0x0F, False, (_BYTES1, _TYPE)),
    _Abbreviation("pointer to void", 0x0F, False, (_BYTES1,)),
    _Abbreviation("const", 0x26, False, (_TYPE,)),
    _Abbreviation("const void", 0x26, False, ()),
    _Abbreviation("volatile", 0x35, False, (_TYPE,)),
    _Abbreviation("volatile void", 0x35, False, ()),
    _Abbreviation("restrict", 0x37, False, (_TYPE,)),
    _Abbreviation("restrict void", 0x37, False, ()),
    _Abbreviation("typedef", 0x16, False, (_NAME, _TYPE)),
    _Abbreviation("typedef of void", 0x16, False, (_NAME,)),
    _Abbreviation("struct", 0x13, True, (_NAME, _BYTES)),
    _Abbreviation("anonymous struct", 0x13, True, (_BYTES,)),
    _Abbreviation("declared struct", 0x13, False, (_NAME, _DECLARED)),
    _Abbreviation("union", 0x17, True, (_NAME, _BYTES)),
    _Abbreviation("anonymous union", 0x17, True, (_BYTES,)),
    _Abbreviation("declared union", 0x17, False, (_NAME, _DECLARED)),
    _Abbreviation("member", 0x0D, False, (_NAME, _TYPE, _OFFSET)),
    _Abbreviation("anonymous member", 0x0D, False, (_TYPE, _OFFSET)),
    _Abbreviation("bit field", 0x0D, False, (_NAME, _TYPE, _BITS, _BIT_OFFSET)),
    _Abbreviation("array", 0x01, True, (_TYPE,)),
    _Abbreviation("dimension", 0x21, False, ((0x37, _UDATA),)),
    _Abbreviation("open dimension", 0x21, False, ()),
    _Abbreviation("enum", 0x04, True, (_NAME, _BYTES1)),
    _Abbreviation("anonymous enum", 0x04, True, (_BYTES1,)),
    _Abbreviation("declared enum", 0x04, False, (_NAME, _DECLARED)),
    _Abbreviation("unsigned value", 0x28, False, (_NAME, (0x1C, _UDATA))),
    _Abbreviation("signed value", 0x28, False, (_NAME, (0x1C, _SDATA))),
    _Abbreviation("prototype", 0x15, True, (_PROTOTYPED, _TYPE)),
    _Abbreviation("void prototype", 0x15, True, (_PROTOTYPED,)),
    _Abbreviation("parameter type", 0x05, False, (_TYPE,)),
    _Abbreviation("more parameters", 0x18, False, ()),
    _Abbreviation("function", 0x2E, True, (_NAME, _EXTERNAL, _PROTOTYPED, _FAR_TYPE, *_RANGE)),
    _Abbreviation("void function", 0x2E, True, (_NAME, _EXTERNAL, _PROTOTYPED, *_RANGE)),
    _Abbreviation("parameter", 0x05, False, (_NAME, _FAR_TYPE)),
    _Abbreviation("nameless parameter", 0x05, False, (_FAR_TYPE,)),
    _Abbreviation("variable", 0x34, False, (_NAME, _TYPE, _EXTERNAL, (0x02, _EXPRLOC))),
)
CODE = {one.name: bytes((number,)) for number, one in enumerate(_TABLE, 1)}
"""What every entry begins with."""


def uleb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    out = bytearray()
    while not -64 <= value < 64:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def abbreviations() -> bytes:
    """The section .debug_abbrev: one table, for all units."""
    out = bytearray()
    for number, one in enumerate(_TABLE, 1):
        out += uleb(number) + uleb(one.tag) + bytes((one.children,))
        for attribute, form in one.attributes:
            out += uleb(attribute) + uleb(form)
        out += b"\0\0"
    return bytes(out + b"\0")


class Strings:
    """The section .debug_str. It begins as the table that types are named from, or takes from that what is used."""

    def __init__(self, source: bytes, *, whole: bool) -> None:
        self._source = source
        self.data = bytearray(source if whole else b"\0")
        self._whole = whole
        self._taken = {0: 0}
        self._added: dict[str, int] = {}

    def take(self, offset: int) -> int:
        """Where the string of the source at OFFSET is now."""
        if self._whole:
            return offset
        place = self._taken.get(offset)
        if place is None:
            place = self._taken[offset] = len(self.data)
            self.data += self._source[offset : self._source.index(b"\0", offset) + 1]
        return place

    def add(self, text: str) -> int:
        place = self._added.get(text)
        if place is None:
            place = self._added[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return place


class Relocation(NamedTuple):
    offset: int
    symbol: int


class Info:
    """The section .debug_info, in the making.

    With RELOCATABLE, addresses are those of symbols: they are left out, and `relocations` says which belong there.
    """

    def __init__(self, types: int, strings: Strings, *, relocatable: bool = False) -> None:
        self.out = bytearray()
        self.strings = strings
        self.places = array("I", bytes(4 * types))
        """Where the type of each number lies."""
        self.patches = array("I")
        """Pairs: a place in `out`, and the number of the type whose place belongs there."""
        self.relocations: list[Relocation] = []
        self._relocatable = relocatable
        self._unit = 0

    def begin(self, name: str) -> None:
        """A unit with types and variables."""
        self._head("unit", name)

    def begin_code(self, name: str, symbol: int, low: int, size: int) -> None:
        """A unit with the functions between LOW and SIZE bytes further."""
        self._head("code unit", name)
        self.range(symbol, low, size)

    def _head(self, code: str, name: str) -> None:
        self._unit = len(self.out)
        self.out += struct.pack("<IHIB", 0, 4, 0, 8) + CODE[code]
        self.out += struct.pack("<IBI", self.strings.add(PRODUCER), C99, self.strings.add(name))

    def end(self) -> None:
        self.out.append(0)
        struct.pack_into("<I", self.out, self._unit, len(self.out) - self._unit - 4)

    def refer(self, number: int) -> None:
        self.patches.append(len(self.out))
        self.patches.append(number)
        self.out += b"\0\0\0\0"

    def range(self, symbol: int, low: int, size: int) -> None:
        self.address(symbol, low)
        self.out += struct.pack("<Q", size)

    def address(self, symbol: int, value: int) -> None:
        """The address VALUE, that of the symbol with the number SYMBOL."""
        if self._relocatable:
            self.relocations.append(Relocation(len(self.out), symbol))
            value = 0
        self.out += struct.pack("<Q", value)

    def variable(self, name: int, number: int, symbol: int, value: int) -> None:
        """NAME is a place among the strings, NUMBER that of the type."""
        self.out += CODE["variable"] + struct.pack("<I", name)
        self.refer(number)
        self.out += b"\x09\x03"  # DW_OP_addr, with its eight bytes
        self.address(symbol, value)

    def new_type(self, write: Callable[[], None]) -> int:
        """A type that has no number yet, which WRITE appends. Returns the number."""
        self.places.append(len(self.out))
        write()
        return len(self.places) - 1

    def finish(self) -> bytes:
        """The section, with all references in it."""
        pack, out, places = struct.Struct("<I").pack_into, self.out, self.places
        pairs = iter(self.patches)
        for place, number in zip(pairs, pairs, strict=True):
            pack(out, place, places[number])
        return bytes(out)
