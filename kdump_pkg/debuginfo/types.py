"""Types of BTF as entries of DWARF."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from kdump_pkg.debuginfo import btf as kinds
from kdump_pkg.debuginfo.btf import Btf
from kdump_pkg.debuginfo.dwarf import CODE, Info, sleb, uleb

_U32 = struct.Struct("<I").pack
_BOOLEAN, _FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED, _UNSIGNED_CHAR = 2, 4, 5, 6, 7, 8  # DW_ATE
_QUALITIES = {kinds.CONST: "const", kinds.VOLATILE: "volatile", kinds.RESTRICT: "restrict"}
_BITS = 0xFFFFFF
"""Of a member's word, with the flag: where it begins, in bits; above that how many it has."""


class Types:
    """Writes types of BTF into the unit that is open in INFO."""

    def __init__(self, btf: Btf, info: Info) -> None:
        self._btf = btf
        self._info = info
        self.plain = btf.plain
        """For each type the one to refer to."""
        self._extra: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._writers: dict[int, Callable[[int, int], None]] = {
            kinds.INT: self._int, kinds.FLOAT: self._float, kinds.PTR: self._pointer, kinds.ARRAY: self._array,
            kinds.STRUCT: self._aggregate, kinds.UNION: self._aggregate, kinds.ENUM: self._enum,
            kinds.ENUM64: self._enum, kinds.FWD: self._forward, kinds.TYPEDEF: self._typedef,
            kinds.CONST: self._quality, kinds.VOLATILE: self._quality, kinds.RESTRICT: self._quality,
            kinds.FUNC_PROTO: self._prototype,
        }  # fmt: skip

    def write(self, wanted: Iterable[int], declared: frozenset[int] = frozenset()) -> int:
        """Write the types of these numbers, and declare those of the others. Returns how many."""
        count = 0
        for number in wanted:
            writer = self._writers.get(self._btf.kinds[number])
            if writer:
                self._info.places[number] = len(self._info.out)
                count += 1
                if number in declared:
                    self._declare(number)
                else:
                    writer(number, self._btf.starts[number])
        return count

    def pointer_to(self, number: int) -> int:
        """A pointer that BTF needn't have."""
        return self._once(("*", number, ()), lambda: self._point(number))

    def array_of(self, number: int, counts: tuple[int, ...]) -> int:
        """An array with these dimensions; 0: of how many isn't said."""
        return self._once(("[]", number, counts), lambda: self._dimensions(number, counts))

    def qualified(self, quality: str, number: int) -> int:
        """A type that is `const` or `volatile`."""
        return self._once((quality, number, ()), lambda: self._qualify(quality, number))

    def _qualify(self, quality: str, number: int) -> None:
        self._info.out += CODE[quality]
        self._info.refer(number)

    def _once(self, key: tuple[str, int, tuple[int, ...]], write: Callable[[], None]) -> int:
        number = self._extra.get(key)
        if number is None:
            number = self._extra[key] = self._info.new_type(write)
        return number

    def _head(self, code: str, name: int) -> None:
        """The beginning of an entry that has a name, or is called anonymous."""
        self._info.out += CODE[code] + _U32(self._info.strings.take(name)) if name else CODE[f"anonymous {code}"]

    def _refer(self, code: str, void: str, target: int) -> None:
        """The end of an entry: what it refers to, or another code where that is void."""
        number = self.plain[target]
        self._info.out += CODE[code if number else void]
        if number:
            self._info.refer(number)

    # --- one method for each kind -----------------------------------------------------------------------------

    def _int(self, number: int, at: int) -> None:
        words = self._btf.words
        encoding, name = words[at + 3] >> 24, self._btf.name(number)
        if encoding & 4 or name in ("_Bool", "bool"):
            kind = _BOOLEAN
        elif name in ("char", "signed char", "unsigned char"):  # from 6.2 on the kernel's char is unsigned
            kind = _SIGNED_CHAR if encoding & 1 else _UNSIGNED_CHAR
        else:
            kind = _SIGNED if encoding & 1 else _UNSIGNED
        self._info.out += CODE["base"] + _U32(self._info.strings.take(words[at])) + bytes((words[at + 2], kind))

    def _float(self, number: int, at: int) -> None:
        words = self._btf.words
        self._info.out += CODE["base"] + _U32(self._info.strings.take(words[at])) + bytes((words[at + 2], _FLOAT))

    def _pointer(self, number: int, at: int) -> None:
        self._point(self.plain[self._btf.words[at + 2]])

    def _point(self, target: int) -> None:
        self._info.out += CODE["pointer" if target else "pointer to void"] + b"\x08"
        if target:
            self._info.refer(target)

    def _quality(self, number: int, at: int) -> None:
        name = _QUALITIES[self._btf.kinds[number]]
        self._refer(name, f"{name} void", self._btf.words[at + 2])

    def _typedef(self, number: int, at: int) -> None:
        target = self.plain[self._btf.words[at + 2]]
        name = self._info.strings.take(self._btf.words[at])
        self._info.out += CODE["typedef" if target else "typedef of void"] + _U32(name)
        if target:
            self._info.refer(target)

    def _array(self, number: int, at: int) -> None:
        """An array of arrays is one entry with two dimensions, as a compiler writes it."""
        btf = self._btf
        element, counts = btf.words[at + 3], [btf.words[at + 5]]
        while btf.kinds[element] == kinds.ARRAY:
            counts.append(btf.words[btf.starts[element] + 5])
            element = btf.words[btf.starts[element] + 3]
        target = self.plain[element] or self._once(("void", 0, ()), self._void)
        self._info.places[number] = len(self._info.out)  # not before: what an array of void needs comes first
        self._dimensions(target, tuple(counts))

    def _dimensions(self, element: int, counts: tuple[int, ...]) -> None:
        out = self._info.out
        out += CODE["array"]
        self._info.refer(element)
        for count in counts:
            out += CODE["dimension"] + uleb(count) if count else CODE["open dimension"]
        out.append(0)

    def _void(self) -> None:
        """For an array of void, which no compiler makes: an entry must have something to refer to."""
        self._info.out += CODE["unspecified"] + _U32(self._info.strings.add("void"))

    def _aggregate(self, number: int, at: int) -> None:
        words, plain, info = self._btf.words, self.plain, self._info
        out, take = info.out, info.strings.take
        self._head("struct" if self._btf.kinds[number] == kinds.STRUCT else "union", words[at])
        out += uleb(words[at + 2])
        flag = words[at + 1] >> 31
        for place in range(at + 3, at + 3 + 3 * (words[at + 1] & _BITS), 3):
            name, target, where = words[place], plain[words[place + 1]], words[place + 2]
            bits = where >> 24 if flag else self._narrow(target)
            if bits:
                self._bit_field(name, target, bits, where & _BITS if flag else where)
            elif target:
                out += CODE["member"] + _U32(take(name)) if name else CODE["anonymous member"]
                info.refer(target)
                out += uleb((where & _BITS if flag else where) >> 3)
        out.append(0)

    def _narrow(self, number: int) -> int:
        """Bits of an integer that has fewer than its bytes could hold: without the flag, that makes a bit field."""
        if self._btf.kinds[number] != kinds.INT:
            return 0
        bits = self._btf.words[self._btf.starts[number] + 3] & 0xFF
        return bits if bits < 8 * self._btf.target(number) else 0

    def _bit_field(self, name: int, target: int, bits: int, where: int) -> None:
        """One without a name only fills up, and is nowhere in DWARF."""
        if name and target:
            self._info.out += CODE["bit field"] + _U32(self._info.strings.take(name))
            self._info.refer(target)
            self._info.out += bytes((bits,)) + uleb(where)

    def _enum(self, number: int, at: int) -> None:
        words = self._btf.words
        count, out = words[at + 1] & _BITS, self._info.out
        if not count and words[at]:
            self._declare(number)
            return
        self._head("enum", words[at])
        out.append(words[at + 2])
        signed, wide = words[at + 1] >> 31, self._btf.kinds[number] == kinds.ENUM64
        code, write = (CODE["signed value"], sleb) if signed else (CODE["unsigned value"], uleb)
        step = 3 if wide else 2
        for place in range(at + 3, at + 3 + step * count, step):
            value = words[place + 1] | words[place + 2] << 32 if wide else words[place + 1]
            if signed and value >> (63 if wide else 31):
                value -= 1 << (64 if wide else 32)
            out += code + _U32(self._info.strings.take(words[place])) + write(value)
        out.append(0)

    def _forward(self, number: int, at: int) -> None:
        self._declare(number)

    def _declare(self, number: int) -> None:
        """Say that it exists: a debugger looks for the rest by the name."""
        kind = self._btf.kinds[number]
        union = kind == kinds.UNION or (kind == kinds.FWD and self._btf.flag(number))
        code = "declared enum" if kind in (kinds.ENUM, kinds.ENUM64) else f"declared {'union' if union else 'struct'}"
        self._info.out += CODE[code] + _U32(self._info.strings.take(self._btf.words[self._btf.starts[number]]))

    def _prototype(self, number: int, at: int) -> None:
        words, out = self._btf.words, self._info.out
        self._refer("prototype", "void prototype", words[at + 2])
        for place in range(at + 4, at + 4 + 2 * (words[at + 1] & _BITS), 2):
            self._refer("parameter type", "more parameters", words[place])
        out.append(0)
