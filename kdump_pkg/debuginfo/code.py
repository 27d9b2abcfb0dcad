"""Functions and variables that BTF tells the type of, as entries of DWARF."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

from kdump_pkg.debuginfo import btf as kinds
from kdump_pkg.debuginfo.btf import Btf
from kdump_pkg.debuginfo.dwarf import CODE, Info
from kdump_pkg.debuginfo.symbols import Symbol
from kdump_pkg.debuginfo.types import Types

UNIT = 256
"""Functions in a unit: drgn reads a whole one for each frame of a trace."""
_U32 = struct.Struct("<I").pack


class _Function(NamedTuple):
    section: int
    address: int
    size: int
    type: int
    symbol: int
    """Number among the symbols."""


def functions(btf: Btf, symbols: Mapping[str, Symbol], info: Info, types: Types) -> int:
    """Write units of functions. Returns how many: of those whose names stand for one address each."""
    found = sorted(set(_functions(btf, symbols)))
    alone = [next(group) for _, group in groupby(found, key=lambda f: (f.section, f.address))]
    for _, group in groupby(alone, key=lambda f: f.section):
        members = list(group)
        for start in range(0, len(members), UNIT):
            _unit(members[start : start + UNIT], btf, info, types)
    return len(alone)


def _functions(btf: Btf, symbols: Mapping[str, Symbol]) -> list[_Function]:
    found = {}
    for number in range(btf.first, len(btf)):
        if btf.kinds[number] == kinds.FUNC:
            name = btf.name(number)
            symbol = symbols.get(name)
            if symbol and symbol.size and name not in found:
                found[name] = _Function(symbol.section, symbol.address, symbol.size, number, symbol.number)
    return list(found.values())


def _unit(members: list[_Function], btf: Btf, info: Info, types: Types) -> None:
    first, last = members[0], members[-1]
    size = last.address + last.size - first.address
    info.begin_code(f"functions from {first.address:#x}", first.symbol, first.address, size)
    for one in members:
        _write(one, btf, info, types)
    info.end()


def _write(one: _Function, btf: Btf, info: Info, types: Types) -> None:
    words, out, take = btf.words, info.out, info.strings.take
    prototype = btf.starts[btf.target(one.type)]
    result = types.plain[words[prototype + 2]]
    out += CODE["function" if result else "void function"] + _U32(take(words[btf.starts[one.type]]))
    if result:
        info.refer(result)
    info.range(one.symbol, one.address, one.size)
    for place in range(prototype + 3, prototype + 3 + 2 * (words[prototype + 1] & 0xFFFFFF), 2):
        name, target = words[place], types.plain[words[place + 1]]
        if not target:
            out += CODE["more parameters"]
            continue
        out += CODE["parameter"] + _U32(take(name)) if name else CODE["nameless parameter"]
        info.refer(target)
    out.append(0)


def variables(btf: Btf, symbols: Mapping[str, Symbol], info: Info, types: Types) -> set[str]:
    """Write the variables that BTF knows: per CPU, mostly. Returns their names."""
    done: set[str] = set()
    for number in range(btf.first, len(btf)):
        if btf.kinds[number] != kinds.DATASEC:
            continue
        at = btf.starts[number] + 3
        for place in range(at, at + 3 * btf.elements(number), 3):
            variable = btf.words[place]
            name = btf.name(variable)
            symbol, target = symbols.get(name), types.plain[btf.target(variable)]
            if symbol and target and name not in done:
                place_of_name = info.strings.take(btf.words[btf.starts[variable]])
                info.variable(place_of_name, target, symbol.number, symbol.address)
                done.add(name)
    return done
