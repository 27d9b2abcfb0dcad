"""DWARF: what was written of BTF is read back by pyelftools, entry by entry."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.debuginfo import btf, declarations, dwarf, frames
from kdump_pkg.debuginfo.globals import DECLARATIONS
from kdump_pkg.debuginfo.symbols import FUNCTION, OBJECT, Symbol
from kdump_pkg.debuginfo.types import Types
from tests.btf import Builder, every_kind
from tests.kernels import EPILOGUE, PROLOGUE


def write(types: btf.Btf) -> tuple[dwarf.Info, Types]:
    """All types, in a unit that is still open."""
    info = dwarf.Info(len(types), dwarf.Strings(types.strings, whole=True))
    info.begin("test")
    writer = Types(types, info)
    writer.write(range(1, len(types)))
    return info, writer


def entries(info: dwarf.Info) -> Any:
    """What pyelftools makes of the sections."""
    from elftools.dwarf.dwarfinfo import DebugSectionDescriptor, DwarfConfig, DWARFInfo

    def section(name: str, data: bytes) -> Any:
        return DebugSectionDescriptor(io.BytesIO(data), name, 0, len(data), 0)

    given_ones = {
        "debug_info_sec": section(".debug_info", info.finish()),
        "debug_abbrev_sec": section(".debug_abbrev", dwarf.abbreviations()),
        "debug_str_sec": section(".debug_str", bytes(info.strings.data)),
    }
    names = DWARFInfo.__init__.__code__.co_varnames[2 : DWARFInfo.__init__.__code__.co_argcount]
    others = {name: None for name in names if name not in given_ones}
    return DWARFInfo(DwarfConfig(True, "x64", 8), **given_ones, **others)


def top(info: dwarf.Info) -> Iterator[Any]:
    for unit in entries(info).iter_CUs():
        yield from unit.get_top_DIE().iter_children()


def text(die: Any, name: str = "DW_AT_name") -> str | None:
    found = die.attributes.get(name)
    return None if found is None else found.value.decode()


def value(die: Any, name: str) -> Any:
    found = die.attributes.get(name)
    return None if found is None else found.value


def spelled(die: Any | None) -> str:
    """A type as one would write it down."""
    if die is None:
        return "void"
    target = spelled(die.get_DIE_from_attribute("DW_AT_type")) if "DW_AT_type" in die.attributes else "void"
    kind = die.tag.removeprefix("DW_TAG_")
    name = text(die)
    match kind:
        case "pointer_type":
            return f"{target} *"
        case "const_type" | "volatile_type" | "restrict_type":
            return f"{kind.removesuffix('_type')} {target}"
        case "array_type":
            counts = [value(one, "DW_AT_count") for one in die.iter_children()]
            return target + "".join(f"[{'' if count is None else count}]" for count in counts)
        case "subroutine_type":
            return f"{target} ({', '.join(parameter(one) for one in die.iter_children())})"
        case "structure_type" | "union_type" | "enumeration_type":
            return f"{kind.split('_')[0]} {name or '{}'}"
    return name or "?"


def parameter(die: Any) -> str:
    if die.tag == "DW_TAG_unspecified_parameters":
        return "..."
    return spelled(die.get_DIE_from_attribute("DW_AT_type"))


def member(die: Any) -> str:
    bits = value(die, "DW_AT_bit_size")
    kind = spelled(die.get_DIE_from_attribute("DW_AT_type"))
    if bits is not None:
        return f"{kind} {text(die)}:{bits} @{value(die, 'DW_AT_data_bit_offset')}"
    return f"{kind} {text(die) or ''} @{value(die, 'DW_AT_data_member_location')}"


def shape(die: Any) -> Any:
    """What an entry says."""
    kind, name, size = die.tag.removeprefix("DW_TAG_"), text(die), value(die, "DW_AT_byte_size")
    if value(die, "DW_AT_declaration"):
        return kind, name, "declared"
    if kind in ("structure_type", "union_type"):
        return kind, name, size, [member(one) for one in die.iter_children()]
    if kind == "enumeration_type":
        return kind, name, size, [(text(one), value(one, "DW_AT_const_value")) for one in die.iter_children()]
    if kind == "base_type":
        return kind, name, size, value(die, "DW_AT_encoding")
    return spelled(die)


def test_every_kind_is_read_back() -> None:
    info, _ = write(btf.read(every_kind().build()))
    info.end()
    shapes = [shape(die) for die in top(info)]
    assert shapes == [
        ("base_type", "int", 4, 5),
        ("base_type", "char", 1, 8),
        ("base_type", "long unsigned int", 8, 7),
        ("base_type", "_Bool", 1, 2),
        "structure list_head *",
        ("structure_type", "list_head", 16, ["structure list_head * next @0", "structure list_head * prev @8"]),
        "char[16]",
        ("structure_type", "task_struct", 64, ["char[16] comm @0", "structure list_head tasks @16", "int pid @32"]),
        ("structure_type", "flags", 4, ["int low:3 @0", "int high:5 @3", "int  @1"]),
        ("union_type", None, 8, ["int one @0", "long unsigned int all @0"]),
        "int[]",
        ("structure_type", "holder", 16, ["union {}  @0", "int[] rest @8"]),
        ("enumeration_type", "state", 4, [("RUNNING", 0), ("STOPPED", 4)]),
        ("enumeration_type", "error", 4, [("NONE", 0), ("FAILED", -5)]),
        ("enumeration_type", "NR", 4, [("NR_NODES", 3)]),
        ("enumeration_type", "later", "declared"),
        ("enumeration_type", "wide", 8, [("HUGE", 1 << 40), ("ALL", (1 << 64) - 1)]),
        ("enumeration_type", "deep", 8, [("LOW", -(1 << 40))]),
        ("structure_type", "elsewhere", "declared"),
        ("union_type", "either", "declared"),
        "u64",
        "nothing",
        "volatile u64",
        "const volatile u64",
        "const void",
        "const char",
        "const char *",
        "restrict const char *",
        "void *",
        "int[3]",
        "int[2][3]",
        "int *",  # through the tag
        ("base_type", "double", 8, 4),
        "structure task_struct *",
        "void *",
        "int (structure task_struct *, void *, ...)",
        "void ()",
    ]


def test_bit_fields_of_narrow_integers() -> None:
    """Without the flag a member is a bit field when its type has fewer bits than bytes for them."""
    b = Builder()
    narrow, wide = b.integer("unsigned int", 4, bits=3), b.integer("int")
    b.structure("old", 8, ("low", narrow, 5), ("next", wide, 32))
    info, _ = write(btf.read(b.build()))
    info.end()
    assert [shape(die) for die in top(info)][2][3] == ["unsigned int low:3 @5", "int next @4"]


@pytest.mark.parametrize(("encoding", "name", "expected"), [(0, "char", 8), (1, "char", 6), (1, "signed char", 6)])
def test_char_is_as_signed_as_the_kernel_made_it(encoding: int, name: str, expected: int) -> None:
    b = Builder()
    b.integer(name, 1, encoding)
    info, _ = write(btf.read(b.build()))
    info.end()
    assert next(shape(die) for die in top(info))[3] == expected


def test_impossible_types_are_written_so_that_they_can_be_read() -> None:
    """Arrays and members of void, of functions, of variables: no compiler makes them, and a file may hold them."""
    b = Builder()
    number = b.integer("int")
    function = b.function("f", b.prototype(number))
    b.array(0, 3)
    b.array(b.array(function, 2), 2)
    b.structure("odd", 8, ("gone", function, 0), ("bits", 0, 3 << 24), ("there", number, 32), flag=True)
    b.pointer(b.variable("v", number))
    info, _ = write(btf.read(b.build()))
    info.end()
    found = [shape(die) for die in top(info)]
    assert "void[3]" in found
    assert "void[2][2]" in found
    assert ("structure_type", "odd", 8, ["int there @4"]) in found


@given(st.integers(-(1 << 63), (1 << 64) - 1))
def test_numbers(number: int) -> None:
    from elftools.common.construct_utils import SLEB128, ULEB128

    if number >= 0:
        assert ULEB128("").parse(dwarf.uleb(number)) == number
    assert SLEB128("").parse(dwarf.sleb(number)) == number


def test_strings_take_what_is_used() -> None:
    source = b"\0int\0long\0"
    whole, some = dwarf.Strings(source, whole=True), dwarf.Strings(source, whole=False)
    assert [whole.take(1), whole.take(5), whole.add("new"), whole.add("new")] == [1, 5, 10, 10]
    assert [some.take(0), some.take(5), some.take(5), some.add("new")] == [0, 1, 1, 6]
    assert bytes(some.data) == b"\0long\0new\0"


# --- declared variables -------------------------------------------------------------------------------------------


def declared(lines: str, *symbols: Symbol, content: bytes | None = None) -> dict[str, str]:
    """Variables that are written for these lines, with their types."""
    types = btf.read(every_kind().build())
    info, writer = write(types)
    one = declarations.Declared(types, info, writer, {s.name: s for s in symbols}, lambda symbol: content)
    names = one.write(declarations.parse(lines), {"done"})
    info.end()
    found = {text(d): spelled(d.get_DIE_from_attribute("DW_AT_type")) for d in top(info) if d.tag == "DW_TAG_variable"}
    assert set(found) == names
    return {name: kind for name, kind in found.items() if name}


def variable(size: int, name: str = "v", kind: int = OBJECT) -> Symbol:
    return Symbol(0x1000, size, kind, 1, 1, name)


@pytest.mark.parametrize(
    ("line", "size", "kind"),
    [
        ("struct task_struct v;", 64, "structure task_struct"),
        ("struct task_struct *v;", 8, "structure task_struct *"),
        ("struct list_head **v;", 8, "structure list_head * *"),
        ("void *v;", 8, "void *"),
        ("unsigned long v;", 8, "long unsigned int"),
        ("u64 v;", 8, "u64"),
        ("enum state v;", 4, "enumeration state"),
        ("int v[4];", 16, "int[4]"),
        ("int v[];", 22, "int[5]"),
        ("int v[NR_NODES];", 12, "int[3]"),
        ("int v[2][3];", 24, "int[2][3]"),
        ("struct list_head *v[];", 24, "structure list_head *[3]"),
        ("const char v[*];", 100, "const char[]"),
        ("volatile unsigned long v;", 8, "volatile long unsigned int"),
        ("const char *const v[];", 16, "const const char *[2]"),
        ("int v;", 0, "int"),  # a symbol without size
        ("long v;", 8, None),
        ("struct missing v;", 8, None),
        ("struct missing *v;", 8, None),
        ("int v[MISSING];", 8, None),
        ("struct task_struct v;", 63, None),
        ("int v[];", 3, None),
        ("void **v;", 65536, None),
        ("nothing v;", 8, None),
        ("int other;", 4, None),
    ],
)
def test_declarations(line: str, size: int, kind: str | None) -> None:
    assert declared(line, variable(size)).get("v") == kind


def test_the_first_line_that_fits() -> None:
    assert declared("struct missing v;\nu64 v;\nint v;", variable(8)) == {"v": "u64"}


def test_functions_and_known_ones_are_no_variables() -> None:
    assert declared("int v;\nint done;", variable(4, kind=FUNCTION), variable(4, "done")) == {}


@pytest.mark.parametrize(
    ("content", "count"),
    [(b"\1" * 16 + bytes(16), 4), (b"\1" + bytes(31), 1), (bytes(32), 8), (bytes(31) + b"\1", 8), (None, 8)],
)
def test_room_of_an_array(content: bytes | None, count: int) -> None:
    """Elements of nothing at the end lie between the symbols, unless all are nothing until the kernel runs."""
    assert declared("int v[];", variable(32), content=content) == {"v": f"int[{count}]"}


def test_our_table_of_declarations() -> None:
    found = declarations.parse(DECLARATIONS)
    assert len(found) > 150
    twice = [one.name for one in found if sum(one.name == other.name for other in found) > 1]
    assert len(set(twice)) <= 5
    for line in ("int", "int v", "int *v[;", "struct a b c;", "int v; // why"):
        with pytest.raises(ValueError, match="no declaration"):
            declarations.parse(line)


# --- the frame ----------------------------------------------------------------------------------------------------


def frame(data: bytes) -> list[tuple[int, int]]:
    """The table of a function: offset in it, and bytes from the stack pointer to the caller's."""
    from elftools.dwarf.callframe import FDE, CallFrameInfo
    from elftools.dwarf.structs import DWARFStructs

    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=8)
    found = [e for e in CallFrameInfo(io.BytesIO(data), len(data), 0, structs).get_entries() if isinstance(e, FDE)]
    (one,) = found
    assert (one["initial_location"], one["address_range"]) == (0x1000, 0x100)
    return [(row["pc"] - 0x1000, row["cfa"].offset) for row in one.get_decoded().table]


def test_frame_of_a_prologue() -> None:
    code = (PROLOGUE + b"\xcc" * 40 + EPILOGUE).ljust(0x100, b"\xcc")
    # endbr64 4, call 5, push r15 2, push r14 2, push rbp 1, mov 3, push rbx 1, sub 7
    table = [(0, 8), (11, 16), (13, 24), (14, 32), (18, 40), (25, 40 + 0x88)]
    assert frame(frames.section(code, 0x1000, 0x100)) == table


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"\x90" * 64,
        PROLOGUE,  # nothing gives the room back
        PROLOGUE + EPILOGUE.replace(b"\x88", b"\x80"),
        b"\x55" * 20 + b"\x90" * 20,
        b"\xb8\0\0\0\0" * 13 + b"\x48\x83\xec\x10" + b"\x48\x83\xc4\x10" * 8,
        PROLOGUE[:9] + b"\x48\x89\xe4" + PROLOGUE[9:] + EPILOGUE,  # moves the stack pointer
    ],
)
def test_no_frame_without_understanding(code: bytes) -> None:
    assert frames.section(code.ljust(0x100, b"\xcc"), 0x1000, 0x100) == b""


@given(st.binary(max_size=160))
def test_frame_of_anything(code: bytes) -> None:
    data = frames.section(PROLOGUE[:14] + code, 0x1000, 0x100)
    if data:
        assert frame(data)
