"""Real kernels: what is made of them, against Debian's own debug packages, symbol by symbol and type by type."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg.debuginfo import btf, declarations, image, symbols
from kdump_pkg.debuginfo.globals import DECLARATIONS
from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.run import SystemRunner
from tests.lab import debuggers, packages
from tests.lab.packages import Series

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("lab"), pytest.mark.timeout(1200)]

BOTH: tuple[Series, ...] = ("6.12", "7.2")
PREFIXES = {btf.STRUCT: "struct ", btf.UNION: "union ", btf.ENUM: "enum ", btf.TYPEDEF: ""}
SAID_OTHERWISE = {"phys_base", "jiffies", "empty_zero_page", "sysfs_root"}
"""Variables that the debug package only declares, or that there are two of."""


@cache
def unpacked(series: Series) -> bytes:
    return vmlinuz.unpack(packages.vmlinuz(series), SystemRunner())


@cache
def made(series: Series) -> image.Made:
    data = unpacked(series)
    return image.make(data, elf.layout(data, series))


@pytest.fixture(scope="module", params=BOTH)
def series(request: pytest.FixtureRequest) -> Series:
    found: Series = request.param
    return found


@pytest.fixture(scope="module")
def file(series: Series, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "vmlinux"
    with path.open("wb") as out:
        for place, piece in made(series).pieces:
            out.seek(place)
            out.write(piece)
        out.truncate(made(series).size)
    return path


@pytest.fixture(scope="module")
def real(series: Series) -> Path:
    return debuggers.real(series) / "vmlinux"


def table(path: Path) -> tuple[list[symbols.Symbol], tuple[str, ...]]:
    data = path.read_bytes()
    layout = elf.layout(data, path.name)
    found = symbols.from_table(data, layout, {n: n for n in range(len(layout.sections))})
    return found, tuple(s.name for s in layout.sections)


def test_size(series: Series, file: Path) -> None:
    assert made(series).types > 50000
    assert made(series).functions > 40000
    assert made(series).variables > 500
    assert image.FRAMELESS not in made(series).limits
    assert file.stat().st_blocks * 512 < 32 << 20


def test_no_symbol_is_wrong(file: Path, real: Path) -> None:
    ours, sections = table(file)
    theirs, their_sections = table(real)
    known = {(s.name, s.address): s for s in theirs}
    assert not [s for s in ours if (s.name, s.address) not in known]
    pairs = [(s, known[s.name, s.address]) for s in ours]
    functions = [(a, b) for a, b in pairs if b.kind == symbols.FUNCTION and b.size]
    assert all(a.kind == symbols.FUNCTION for a, _ in functions)
    same = sum(a.size == b.size for a, b in functions)
    assert same / len(functions) > 0.99, f"{len(functions) - same} of {len(functions)} end elsewhere"
    elsewhere = Counter(
        (sections[a.section], their_sections[b.section])
        for a, b in functions
        if b.section < 0xFF00 and sections[a.section] != their_sections[b.section]
    )
    assert sum(elsewhere.values()) < 20, elsewhere


# --- by drgn ------------------------------------------------------------------------------------------------------


def opened(path: Path) -> Any:
    drgn = pytest.importorskip("drgn", reason="drgn is not installed")
    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    program.extra_module("vmlinux", create=True).try_file(str(path), force=True)
    return program


def shape(kind: Any, inner: bool = False) -> Any:
    """All that a type says but for dimensions of arrays, of which BTF has the product alone."""
    name = kind.kind.name
    if name in ("STRUCT", "UNION"):
        if inner and kind.tag:
            return name, kind.tag
        if kind.members is None:
            return name, kind.tag, "declared"
        members = [(m.name, m.bit_offset, m.bit_field_size, shape(m.type, True)) for m in kind.members]
        return name, kind.tag, kind.size, members
    if name == "ENUM":
        values = None if inner or kind.enumerators is None else [(e.name, e.value) for e in kind.enumerators]
        return name, kind.tag, values
    if name == "TYPEDEF":
        return (name, kind.name) if inner else (name, kind.name, shape(kind.type, True))
    if name == "POINTER":
        return name, str(kind.qualifiers), shape(kind.type, True)
    if name == "ARRAY":
        count = 1
        while kind.kind.name == "ARRAY":
            count *= kind.length or 0
            kind = kind.type
        return name, count, shape(kind, True)
    if name == "FUNCTION":
        return name, shape(kind.type, True), [shape(p.type, True) for p in kind.parameters], kind.is_variadic
    return name, str(kind)


def test_types_are_those_of_the_debug_package(series: Series, file: Path, real: Path) -> None:
    ours, theirs = opened(file), opened(real)
    data = unpacked(series)
    types = btf.read(image.content(data, elf.layout(data, series), ".BTF"))
    same, others, missing = 0, [], []
    for kind, name in types.named:
        if kind in PREFIXES:
            try:
                expected = shape(theirs.type(PREFIXES[kind] + name))
            except LookupError:
                missing.append(name)  # of C++, of an assembler, or made for BTF alone
                continue
            if shape(ours.type(PREFIXES[kind] + name)) == expected:
                same += 1
            else:
                others.append(name)
    assert same > 10000
    assert len(missing) < 50, missing
    assert len(others) < 10, others  # two types of one name, of which a debugger takes either


def test_variables_are_those_of_the_debug_package(file: Path, real: Path) -> None:
    ours, theirs = opened(file), opened(real)
    seen = 0
    for one in declarations.parse(DECLARATIONS):
        try:
            mine, other = ours.variable(one.name), theirs.variable(one.name)
        except LookupError:
            continue
        if one.name in SAID_OTHERWISE:
            continue
        seen += 1
        assert mine.address_ == other.address_, one.name
        if mine.type_.kind.name == "ARRAY":  # its end is not always known, nor told by each of the real declarations
            assert shape(mine.type_.type) == shape(other.type_.type), one.name
            assert (mine.type_.length or 1 << 30) >= (other.type_.length or 0) * 0.9, one.name
        else:
            assert mine.type_.type_name() == other.type_.type_name(), one.name
    assert seen > 140
