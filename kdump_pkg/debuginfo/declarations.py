"""Variables that BTF doesn't describe, by declarations in C: each is checked against BTF and against its symbol."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from kdump_pkg.debuginfo import btf as kinds
from kdump_pkg.debuginfo.btf import Btf
from kdump_pkg.debuginfo.dwarf import Info
from kdump_pkg.debuginfo.symbols import FUNCTION, Symbol
from kdump_pkg.debuginfo.types import Types

_LINE = re.compile(
    r"(?:(?P<quality>const|volatile) )?(?:(?P<tag>struct|union|enum) )?(?P<type>(?:unsigned )?\w+) "
    r"(?P<stars>\**)(?P<fixed>const )?(?P<name>\w+)(?P<dimensions>(?:\[[\w*]*\])*);"
)
OPEN = "*"
"""A dimension of which the kernel's own declaration doesn't say how much it is."""
_ROOMY, _PAGE = 4, 4096
"""A symbol without a size of its own reaches to the next one, but not farther than this."""
_TAGS = {"struct": kinds.STRUCT, "union": kinds.UNION, "enum": kinds.ENUM}
_WORDS = {"long": "long int", "unsigned long": "long unsigned int"}
"""Names of base types, where the compiler's differ from those in C."""


class Declaration(NamedTuple):
    quality: str
    """`const` or `volatile`, of the type itself; empty."""
    tag: int
    """Kind of BTF; 0 for a base type or a typedef."""
    type: str
    stars: int
    fixed: bool
    """Whether the pointer itself is const."""
    name: str
    dimensions: tuple[str, ...]


class _Shape(NamedTuple):
    number: int
    size: int


def parse(text: str) -> list[Declaration]:
    """Raises ValueError for a line that is none."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith("//"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise ValueError(f"no declaration: {line}")
        found.append(
            Declaration(
                match["quality"] or "",
                _TAGS.get(match["tag"], 0),
                match["type"],
                len(match["stars"]),
                bool(match["fixed"]),
                match["name"],
                tuple(re.findall(r"\[([\w*]*)\]", match["dimensions"])),
            )
        )
    return found


class Declared:
    """Writes the variables of declarations into the unit of types that is open.

    CONTENT gives the bytes that a symbol has in the image, or None.
    """

    def __init__(
        self,
        btf: Btf,
        info: Info,
        types: Types,
        symbols: Mapping[str, Symbol],
        content: Callable[[Symbol], bytes | None],
    ) -> None:
        self._btf = btf
        self._info = info
        self._types = types
        self._symbols = symbols
        self._content = content

    def write(self, declarations: list[Declaration], done: Collection[str]) -> set[str]:
        """Those that fit, but for the ones that are DONE. Returns their names."""
        written: set[str] = set()
        for one in declarations:
            symbol = self._symbols.get(one.name)
            if symbol is None or symbol.kind == FUNCTION or one.name in done or one.name in written:
                continue
            number = self._shape(one, symbol)
            if number:
                self._info.variable(self._info.strings.add(one.name), number, symbol.number, symbol.address)
                written.add(one.name)
        return written

    def _shape(self, one: Declaration, symbol: Symbol) -> int:
        """Number of the type, made where BTF has none; 0 when it doesn't fit the symbol."""
        base = self._base(one)
        if base is None:
            return 0
        counts = self._counts(one, base.size, symbol)
        if counts is None:
            return 0
        size = base.size
        for count in counts:
            size *= max(count, 1)
        if not size or (symbol.size and not size <= symbol.size <= _ROOMY * size + _PAGE):
            return 0
        return self._types.array_of(base.number, tuple(counts)) if counts else base.number

    def _base(self, one: Declaration) -> _Shape | None:
        """The type without its dimensions; None when the kernel hasn't got it."""
        number = 0
        if one.type != "void":
            found = self._find(one)
            if found is None:
                return None
            number = self._types.plain[found]
        size = self._btf.size(number)
        if one.quality and number:
            number = self._types.qualified(one.quality, number)
        for _ in range(one.stars):
            number, size = self._types.pointer_to(number), 8
        if one.fixed:
            number = self._types.qualified("const", number)
        return _Shape(number, size) if number else None

    def _find(self, one: Declaration) -> int | None:
        named = self._btf.named
        if one.tag:
            return named.get((one.tag, one.type))
        return named.get((kinds.INT, _WORDS.get(one.type, one.type)), named.get((kinds.TYPEDEF, one.type)))

    def _counts(self, one: Declaration, size: int, symbol: Symbol) -> list[int] | None:
        """Elements in each dimension; None where one isn't known."""
        counts = []
        for dimension in one.dimensions:
            if dimension == OPEN:
                counts.append(0)
                continue
            count = self._count(dimension, size, symbol)
            if not count:
                return None
            counts.append(count)
        return counts

    def _count(self, dimension: str, size: int, symbol: Symbol) -> int:
        if dimension.isdigit():
            return int(dimension)
        return self._btf.constants.get(dimension, 0) if dimension else self._room(symbol, size)

    def _room(self, symbol: Symbol, size: int) -> int:
        """Elements that a symbol has room for.

        The size may be the distance to the next one, with a gap before that: so elements of nothing at the end don't
        count, unless all are, which are filled when the kernel runs.
        """
        count = symbol.size // size if size else 0
        data = self._content(symbol)
        if data is None or not any(data):
            return count
        last = len(data.rstrip(b"\0"))
        return min(count, -(-last // size))
