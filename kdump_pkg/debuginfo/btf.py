"""BTF, the kernel's own type information (Documentation/bpf/btf.rst), read into flat arrays.

All is checked once, when it is read: every length, every reference, every name, and that chains of types end. What
comes out can be walked without looking again. Raises BadImageError for anything else, in one line.
"""

from __future__ import annotations

import re
import struct
from array import array
from functools import cached_property

from kdump_pkg.errors import BadImageError

# fmt: off
(
    VOID, INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC,
    FLOAT, DECL_TAG, TYPE_TAG, ENUM64, UNKNOWN,
) = range(21)
# fmt: on
WRAPPERS = frozenset({TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG})
"""What gives a type another name or quality and nothing else."""
_NO_TYPES = frozenset({FUNC, VAR, DATASEC, DECL_TAG, UNKNOWN})
LONGEST_NAME = 512  # KSYM_NAME_LEN

_SHAPES = {
    INT: (1, 0), ARRAY: (3, 0), STRUCT: (0, 3), UNION: (0, 3), ENUM: (0, 2), FUNC_PROTO: (0, 2), VAR: (1, 0),
    DATASEC: (0, 3), DECL_TAG: (1, 0), ENUM64: (0, 3),
}  # fmt: skip
"""Words that follow the three of the head: once, and for each element. None for the others."""
_REFERS = WRAPPERS | {PTR, FUNC, FUNC_PROTO, VAR, DECL_TAG}
"""Kinds whose third word is another type; that of the others is a size."""
_TYPES = {STRUCT: (4, 3), UNION: (4, 3), FUNC_PROTO: (4, 2), DATASEC: (3, 3)}
_NAMES = {STRUCT: (3, 3), UNION: (3, 3), FUNC_PROTO: (3, 2), ENUM: (3, 2), ENUM64: (3, 3)}
"""Word of the first element that is a type (a name), and from one to the next."""
_SIZES = {
    INT: frozenset({1, 2, 4, 8, 16}), ENUM: frozenset({1, 2, 4, 8}), ENUM64: frozenset({1, 2, 4, 8}),
    FLOAT: frozenset({2, 4, 8, 12, 16}),
}  # fmt: skip
_DEEPEST = 64  # typedefs of const arrays of …; the kernel itself stops at 32


class Btf:
    """Types by number, 0 being void. With a base they go on where that ends, and so do the names."""

    def __init__(self, words: array[int], starts: array[int], kinds: bytes, strings: bytes, base: Btf | None) -> None:
        self.words = words
        self.starts = starts
        self.kinds = kinds
        self.strings = strings
        self.first = len(base) if base else 1
        """The first type of its own."""
        self._base = base

    def __len__(self) -> int:
        return len(self.kinds)

    def elements(self, number: int) -> int:
        """How many members, values or parameters."""
        return self.words[self.starts[number] + 1] & 0xFFFFFF

    def flag(self, number: int) -> bool:
        return bool(self.words[self.starts[number] + 1] >> 31)

    def target(self, number: int) -> int:
        """The type it refers to; of those that have a size, the size."""
        return self.words[self.starts[number] + 2]

    def text(self, offset: int) -> str:
        """A name. Raises BadImageError when it is longer than any."""
        end = self.strings.find(b"\0", offset, offset + LONGEST_NAME + 1)
        if end < 0:
            raise BadImageError(f"BTF: a name of more than {LONGEST_NAME} bytes")
        return self.strings[offset:end].decode("ascii")

    def name(self, number: int) -> str:
        return self.text(self.words[self.starts[number]])

    def bare(self, number: int) -> int:
        """The type without what only wraps it."""
        while self.kinds[number] in WRAPPERS:
            number = self.target(number)
        return number

    @cached_property
    def plain(self) -> array[int]:
        """For each type the one to refer to.

        For a tag what it is put on: it says nothing to a debugger. Void for what is no type, or not known yet.
        """
        found = self._base.plain[:] if self._base else array("I", (VOID,))
        for number in range(self.first, len(self)):
            target = number
            while self.kinds[target] == TYPE_TAG:
                target = self.target(target)
            found.append(VOID if self.kinds[target] in _NO_TYPES else target)
        return found

    def size(self, number: int) -> int:
        """Bytes that a variable of that type takes; none of void and of what is only declared."""
        number = self.bare(number)
        kind = self.kinds[number]
        if kind == ARRAY:
            at = self.starts[number]
            return self.size(self.words[at + 3]) * self.words[at + 5]
        if kind == PTR:
            return 8
        return self.target(number) if kind in (INT, STRUCT, UNION, ENUM, FLOAT, ENUM64) else 0

    def targets(self, number: int) -> tuple[int, ...]:
        """All types that it is made of; the type of an array's index is of no interest."""
        places = self.places_of_types(number)
        return tuple(self.words[place] for place in (places[:1] if self.kinds[number] == ARRAY else places))

    def places_of_types(self, number: int) -> tuple[int, ...]:
        """Which of the words are numbers of types."""
        kind, at = self.kinds[number], self.starts[number]
        if kind == ARRAY:
            return at + 3, at + 4
        return (*((at + 2,) if kind in _REFERS else ()), *self._places(_TYPES, number))

    def places_of_names(self, number: int) -> tuple[int, ...]:
        return self.starts[number], *self._places(_NAMES, number)

    def _places(self, table: dict[int, tuple[int, int]], number: int) -> range:
        start, step = table.get(self.kinds[number], (0, 0))
        first = self.starts[number] + start
        return range(first, first + step * self.elements(number), step) if step else range(0)

    @cached_property
    def single(self) -> frozenset[int]:
        """Structures and unions whose name is no other one's; with a base, those of the base."""
        if self._base:
            return self._base.single
        seen: dict[tuple[int, int], int] = {}
        twice = set()
        for number in range(1, len(self)):
            if self.kinds[number] in (STRUCT, UNION) and self.words[self.starts[number]]:
                key = (self.kinds[number], self.words[self.starts[number]])
                if seen.setdefault(key, number) != number:
                    twice.add(seen[key])
                    twice.add(number)
        return frozenset(seen.values()) - twice

    @cached_property
    def named(self) -> dict[tuple[int, str], int]:
        """The first type of a kind with a name; enumerations are of kind ENUM, however wide."""
        found: dict[tuple[int, str], int] = {}
        for number in range(1, len(self)):
            kind = self.kinds[number]
            if kind in (INT, STRUCT, UNION, ENUM, ENUM64, TYPEDEF, FLOAT) and self.words[self.starts[number]]:
                found.setdefault((ENUM if kind == ENUM64 else kind, self.name(number)), number)
        return found

    def members(self, name: str) -> dict[str, int]:
        """Members of the structure NAME and where they begin, in bytes. Raises BadImageError when it isn't there."""
        number = self.named.get((STRUCT, name))
        if number is None:
            raise BadImageError(f"BTF: no struct {name}")
        at, mask = self.starts[number] + 3, 0xFFFFFF if self.flag(number) else 0xFFFFFFFF
        places = range(at, at + 3 * self.elements(number), 3)
        return {self.text(self.words[place]): (self.words[place + 2] & mask) >> 3 for place in places}

    @cached_property
    def constants(self) -> dict[str, int]:
        """Values of enumerators, as C sees them; of several with one name, the first."""
        found: dict[str, int] = {}
        for number in range(1, len(self)):
            if self.kinds[number] == ENUM:
                at = self.starts[number] + 3
                for place in range(at, at + 2 * self.elements(number), 2):
                    found.setdefault(self.text(self.words[place]), self.words[place + 1])
        return found


def read(data: bytes, base: Btf | None = None) -> Btf:
    """Types of a kernel, or of a module with its kernel's as BASE. Raises BadImageError."""
    own, strings, shapes = _sections(data)
    whole = (base.strings if base else b"") + strings
    if not whole.startswith(b"\0") or not whole.endswith(b"\0"):
        raise BadImageError("BTF: its names have no beginning or no end")
    words = (base.words if base else array("I", (0, 0, 0))) + own
    starts = base.starts[:] if base else array("I", (0,))
    kinds = bytearray(base.kinds if base else b"\0")
    _number(words, len(words) - len(own), starts, kinds, shapes)
    found = Btf(words, starts, bytes(kinds), whole, base)
    _check_references(found)
    _check_depth(found)
    return found


def _sections(data: bytes) -> tuple[array[int], bytes, dict[int, tuple[int, int]]]:
    """Words of the types, the strings, and shapes of the kinds that are newer than this program."""
    if len(data) < 24:
        raise BadImageError("BTF: shorter than its header")
    magic, version, _flags, head, types, types_size, names, names_size = struct.unpack_from("<HBBIIIII", data)
    if magic != 0xEB9F or version != 1:
        raise BadImageError("BTF: not of version 1")
    if head < 24 or types % 4 or types_size % 4:
        raise BadImageError("BTF: damaged header")
    words = array("I")
    words.frombytes(_slice(data, head + types, types_size))
    strings = _slice(data, head + names, names_size)
    if re.search(rb"[^\0 -~]", strings):
        raise BadImageError("BTF: a name that can't be printed")
    return words, strings, _newer(data, head)


def _slice(data: bytes, start: int, size: int) -> bytes:
    if start + size > len(data):
        raise BadImageError("BTF: truncated")
    return data[start : start + size]


def _newer(data: bytes, head: int) -> dict[int, tuple[int, int]]:
    """From Linux 7.1 on a section says how long kinds are, so that unknown ones can be skipped."""
    if head < 32 or len(data) < 32:
        return {}
    start, size = struct.unpack_from("<II", data, 24)
    section = _slice(data, head + start, size)
    shapes = {}
    for kind, (once, each, _flags) in enumerate(struct.iter_unpack("<BBH", section[: size & ~3])):
        if kind >= UNKNOWN and not once % 4 and not each % 4:
            shapes[kind] = (once // 4, each // 4)
    return shapes


def _number(
    words: array[int], at: int, starts: array[int], kinds: bytearray, newer: dict[int, tuple[int, int]]
) -> None:
    """Find where each type begins."""
    end = len(words)
    while at < end:
        if at + 3 > end:
            raise BadImageError("BTF: truncated in the middle of a type")
        info = words[at + 1]
        kind = info >> 24 & 0x7F
        if kind == VOID or (kind >= UNKNOWN and kind not in newer):
            raise BadImageError(f"BTF: type {len(starts)} is of a kind that is not known, {kind}")
        once, each = newer[kind] if kind >= UNKNOWN else _SHAPES.get(kind, (0, 0))
        starts.append(at)
        kinds.append(min(kind, UNKNOWN))
        at += 3 + once + each * (info & 0xFFFFFF)
    if at != end:
        raise BadImageError("BTF: truncated in the middle of a type")


def _check_references(btf: Btf) -> None:
    """Every name lies among the names, every type is one, every size is possible."""
    words, starts, kinds, count = btf.words, btf.starts, btf.kinds, len(btf)
    names = len(btf.strings)
    ends = [*starts[btf.first + 1 :], len(words)]
    for number, end in enumerate(ends[: count - btf.first], btf.first):
        kind, at = kinds[number], starts[number]
        name = words[at]
        if kind in _NAMES:
            start, step = _NAMES[kind]
            name = max(name, max(words[at + start : end : step], default=0))
        target = words[at + 2] if kind in _REFERS else 0
        if kind in _TYPES:
            start, step = _TYPES[kind]
            target = max(target, max(words[at + start : end : step], default=0))
        elif kind == ARRAY:
            target = max(words[at + 3], words[at + 4])
        if name >= names:
            raise BadImageError(f"BTF: type {number} has a name that isn't there")
        if target >= count:
            raise BadImageError(f"BTF: type {number} refers to a type that isn't there")
        _check_sense(btf, number)


def _check_sense(btf: Btf, number: int) -> None:
    kind, at = btf.kinds[number], btf.starts[number]
    if kind in _SIZES:
        good = btf.words[at + 2] in _SIZES[kind]
    elif kind == FUNC:
        good = btf.kinds[btf.words[at + 2]] == FUNC_PROTO
    elif kind == DATASEC:
        variables = btf.words[at + 3 : at + 3 + 3 * btf.elements(number) : 3]
        good = all(btf.kinds[v] == VAR for v in variables)
    else:
        return
    if not good:
        raise BadImageError(f"BTF: type {number} makes no sense")


def _check_depth(btf: Btf) -> None:
    """A typedef of itself, or an array of such, would be walked for ever."""
    kinds, words, starts = btf.kinds, btf.words, btf.starts
    for first in range(btf.first, len(btf)):
        number, depth = first, 0
        while kinds[number] in WRAPPERS or kinds[number] == ARRAY:
            number = words[starts[number] + (3 if kinds[number] == ARRAY else 2)]
            depth += 1
            if depth > _DEEPEST:
                raise BadImageError(f"BTF: type {first} has no end")
