"""Symbols: kallsyms in every layout that there was, a file's own table, a System.map; and those that are damaged."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.debuginfo import image, kallsyms, symbols
from kdump_pkg.errors import BadImageError
from kdump_pkg.facts import elf
from kdump_pkg.model.elf import ABSOLUTE, SYMTAB, Layout, Section
from tests import kernels
from tests.kernels import DATA, LAYOUTS, PER_CPU, RODATA, SYMBOLS, TEXT, kernel, many, parts, with_table

ALL = (*SYMBOLS, *many())


def around(data: bytes) -> Layout:
    """DATA as the .rodata of a kernel."""
    return Layout(2, 62, 0, 0, (Section(".text", 1, 6, TEXT), Section(".rodata", 1, 2, RODATA, 0, len(data))), ())


def read(data: bytes) -> tuple[str, list[kallsyms.Entry]]:
    return kallsyms.read(data, around(data))


@pytest.mark.parametrize(
    ("layout", "way"),
    [
        ("pc-relative", "pc-relative"),
        ("base", "relative to a base"),
        ("per CPU", "relative to a base, per CPU ones absolute"),
        ("old", "relative to a base, per CPU ones absolute, before 6.4"),
        ("old with sequences", "relative to a base, per CPU ones absolute, before 6.4"),
    ],
)
@pytest.mark.parametrize("count", [246, 300, 900])
def test_layouts(layout: str, way: str, count: int) -> None:
    given_ones = [*SYMBOLS, *many(count)]
    if layout not in ("pc-relative", "base"):
        given_ones = [(0x20, "A", "per_cpu_thing"), *given_ones]
    found_way, found = read(kernels.kallsyms(given_ones, layout))
    assert found_way == way
    assert {tuple(e) for e in found if e.name != "kallsyms_names"} == set(given_ones)


def test_long_names() -> None:
    long = "x" * 300  # more than 127 tokens: two bytes of length
    _, found = read(kernels.kallsyms([*ALL, (DATA, "D", long)], "pc-relative"))
    assert long in {entry.name for entry in found}


GOOD = kernels.kallsyms(ALL, "pc-relative")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not found"),
        (b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0" * 300, "not found"),
        (GOOD.replace(b"\x009\0", b"\0:\0"), "not found"),
        (GOOD[: GOOD.index(b"0\x001\x002\0")], "not found"),
        (GOOD[:-600], "written in a way that is not known"),
        (kernels.kallsyms(SYMBOLS, "pc-relative"), "not where they should be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kallsyms_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=words) as caught:
        read(data)
    assert caught.value.message.startswith("kallsyms: ")


def test_kallsyms_of_another_kernel() -> None:
    moved = tuple((address + 0x10, letter, name) for address, letter, name in ALL)
    with pytest.raises(BadImageError, match="a way that is not known"):
        read(kernels.kallsyms(moved, "pc-relative"))


def test_kallsyms_whose_own_place_is_another() -> None:
    whole = sorted((*ALL, (RODATA + 8, "r", "kallsyms_names")))
    with pytest.raises(BadImageError, match="a way that is not known"):
        read(kernels.tables(bytes(64), whole, "pc-relative", RODATA)[0])


def test_kallsyms_out_of_order() -> None:
    """They are sorted by address: what isn't was read in a wrong way."""
    one, two, *more = sorted(ALL)
    assert one[2] == "_text"
    assert len(read(kernels.tables(bytes(64), [one, two, *more], "pc-relative", RODATA)[0])[1]) == len(ALL)
    with pytest.raises(BadImageError, match="a way that is not known"):
        read(kernels.tables(bytes(64), [one, *more, two], "pc-relative", RODATA)[0])


def test_kallsyms_without_text() -> None:
    with pytest.raises(BadImageError, match=r"no \.rodata or no \.text"):
        kallsyms.read(GOOD, Layout(2, 62, 0, 0, (Section(".rodata", 1, 2, RODATA, 0, len(GOOD)),), ()))


@functools.cache
def made(layout: str) -> bytes:
    return kernels.kallsyms(ALL, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(data=st.data())
def test_damaged_kallsyms(layout: str, data: st.DataObject) -> None:
    table = bytearray(made(layout))
    for _ in range(data.draw(st.integers(1, 4))):
        table[data.draw(st.integers(0, len(table) - 1))] = data.draw(st.integers(0, 255))
    try:
        _, found = read(bytes(table))
    except BadImageError as error:
        assert error.message.isprintable()
        return
    assert all(entry.name.isprintable() and entry.letter.isprintable() for entry in found)


# --- what they become ---------------------------------------------------------------------------------------------


def of(layout: str = "pc-relative") -> dict[str, symbols.Symbol]:
    data = kernel(layout)
    made = image.make(data, elf.layout(data, "x"))
    out = bytearray(made.size)
    for place, piece in made.pieces:
        out[place : place + len(piece)] = piece
    result = elf.layout(bytes(out), "made")
    numbers = {n: n for n in range(len(result.sections))}
    return {s.name: s for s in symbols.from_table(bytes(out), result, numbers)}


def test_sizes_kinds_and_bindings() -> None:
    found = of()
    work = found["do_work"]
    assert (work.address, work.size) == (TEXT + 0x100, 0x31)  # and not the nops that follow it
    assert (work.kind, work.binding, work.section) == (symbols.FUNCTION, symbols.GLOBAL, 1)
    assert (found["modules"].size, found["modules"].kind, found["modules"].binding) == (16, symbols.OBJECT, 0)
    assert (found["jiffies"].size, found["jiffies"].kind) == (0, symbols.NOTYPE)  # the linker's


@pytest.mark.parametrize(("layout", "address"), [("pc-relative", PER_CPU), ("per CPU", 0), ("old", 0)])
def test_per_cpu_symbols_are_in_their_section(layout: str, address: int) -> None:
    data = kernel(layout)
    sections = [s.name for s in elf.layout(data, "x").sections]
    found = of(layout)["current_count"]
    assert (found.address, sections[found.section]) == (address, ".data..percpu")


def test_what_lies_nowhere_is_absolute() -> None:
    entries = [kallsyms.Entry(0x1234567890, "A", "far")]
    assert symbols.from_entries(entries, [Section(".text", 1, 6, TEXT, 0, 16)])[0].section == ABSOLUTE


@pytest.mark.parametrize(
    ("code", "size"),
    [
        ("c3" + "66662e0f1f840000000000" + "0f1f4000", 1),
        ("c3" + "90" * 15, 1),
        ("c3" + "6690" + "0f1f8000000000" + "660f1f440000", 1),
        ("c3" + "cc" * 15, 16),  # put there by the compiler, against speculation
        ("31c0" * 6 + "c3" + "0f1f00", 13),
        ("31c0" * 7 + "eb90", 16),  # a jump, whose last byte looks like a nop
        ("31c0" * 6 + "eb90" + "6690", 14),
        ("90" * 16, 16),  # nothing else: let it be
    ],
)
def test_padding(code: str, size: int) -> None:
    one = symbols.Symbol(0x1000, 16, symbols.FUNCTION, 1, 1, "f")
    assert len(bytes.fromhex(code)) == 16
    assert symbols.trimmed([one], lambda s: bytes.fromhex(code))[0].size == size


def test_only_functions_before_an_aligned_one_are_trimmed() -> None:
    data = symbols.Symbol(0x1000, 16, symbols.OBJECT, 1, 1, "d")
    odd = symbols.Symbol(0x1000, 12, symbols.FUNCTION, 1, 1, "f")
    assert symbols.trimmed([data, odd], lambda s: b"\x90" * s.size) == [data, odd]


def test_names_that_stand_for_two_things() -> None:
    one = symbols.Symbol(1, 0, 2, 0, 1, "f")
    assert symbols.by_name([one, one._replace(address=2), one._replace(name="g")]) == {"g": one._replace(name="g")}
    assert symbols.by_name([one, one._replace(binding=1)]) == {"f": one}


# --- a table of its own, a System.map -----------------------------------------------------------------------------

TABLE = [(TEXT, 0, 0x10, 1, "_text"), (TEXT + 0x100, 0x31, 0x12, 1, "do_work"), (5, 0, 0x10, 0xFFF1, "constant"),
         (0, 0, 0x10, 0, "undefined"), (0, 0, 0x03, 1, ""), (0, 0, 0x04, 1, "file.c")]  # fmt: skip


def from_table(data: bytes) -> list[symbols.Symbol]:
    layout = elf.layout(data, "x")
    return symbols.from_table(data, layout, image.keep(layout)[1])


def test_table() -> None:
    found = from_table(kernels.image(with_table(TABLE, parts())))
    assert [(s.name, s.address, s.size, s.section, s.number) for s in found] == [
        ("_text", TEXT, 0, 1, 1),
        ("do_work", TEXT + 0x100, 0x31, 1, 2),
        ("constant", 5, 0, ABSOLUTE, 3),
    ]


def test_no_table() -> None:
    assert from_table(kernel()) == []


@pytest.mark.parametrize("name", ["x" * 5000, "a\x1b[2J", "\xe9"])
def test_table_with_bad_names(name: str) -> None:
    with pytest.raises(BadImageError, match="without end or that can't be printed"):
        from_table(kernels.image(with_table([(TEXT, 0, 0x12, 1, name)], parts())))


def test_table_without_names() -> None:
    """pyelftools refuses such a file already, but the headers need not come from it."""
    data = kernels.image(with_table(TABLE, parts()))
    layout = elf.layout(data, "x")
    for link in (0, 9999):
        sections = tuple(replace(s, link=link) if s.type == SYMTAB else s for s in layout.sections)
        with pytest.raises(BadImageError, match="their names are not there"):
            symbols.from_table(data, replace(layout, sections=sections), {})


def system_map(size: int) -> str:
    types = RODATA + 0x9000
    lines = [*ALL, (types, "D", "__start_BTF"), (types + size, "D", "__stop_BTF")]
    return "".join(f"{address:016x} {letter} {name}\n" for address, letter, name in sorted(lines))


def test_system_map_stands_in_for_kallsyms() -> None:
    data = kernels.image([p if p.name != ".rodata" else kernels.Part(".rodata", b"\0" * 64, RODATA) for p in parts()])
    layout = elf.layout(data, "x")
    section = layout.find(".BTF")
    assert section is not None
    text = system_map(section.size)
    made = image.make(data, layout, text.encode())
    assert made.symbols == len(ALL) + 2
    for bad, words in [
        (text.replace("do_work", "do work"), "System.map: not one line"),
        (text.replace("D __stop_BTF", "D other"), "System.map: not of this build"),
        (re.sub(r"\n\w+ T _text\n", "\n", "\n" + text)[1:], "System.map: not of this kernel"),
        ("\x1b" * 100, "System.map: not one line"),
    ]:
        with pytest.raises(BadImageError, match=rf"^kallsyms: .*; {words}"):
            image.make(data, layout, bad.encode())
