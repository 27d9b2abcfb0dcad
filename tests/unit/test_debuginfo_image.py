"""A kernel's image and a module with DWARF: what is in the file that comes out, and what is refused."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.debuginfo import btf, image, module, writer
from kdump_pkg.errors import BadImageError
from kdump_pkg.facts import elf
from kdump_pkg.model.elf import Section
from tests import kernels
from tests.btf import Builder, every_kind
from tests.fakes import BUILD_ID
from tests.kernels import DATA, LAYOUTS, TEXT, Part, kernel, parts, with_table


def whole(made: image.Made) -> bytes:
    """The file as it will be on the disk."""
    out = bytearray(made.size)
    end = 0
    for place, piece in made.pieces:
        assert place >= end, "pieces lie over each other"
        end = place + len(piece)
        out[place:end] = piece
    assert end <= made.size
    return bytes(out)


def make(data: bytes, system_map: bytes | None = None) -> image.Made:
    return image.make(data, elf.layout(data, "x"), system_map)


def opened(data: bytes) -> Any:
    from elftools.elf.elffile import ELFFile

    return ELFFile(io.BytesIO(data))


def entries(data: bytes, tag: str) -> dict[str, Any]:
    """Entries of DWARF below the units, by name."""
    found = {}
    for unit in opened(data).get_dwarf_info().iter_CUs():
        for die in unit.get_top_DIE().iter_children():
            if die.tag == f"DW_TAG_{tag}" and "DW_AT_name" in die.attributes:
                found[die.attributes["DW_AT_name"].value.decode()] = die
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_every_layout(layout: str) -> None:
    data = whole(make(kernel(layout)))
    assert elf.inspect_bytes(data, "made") == elf.ElfFacts(BUILD_ID, "DWARF")
    assert {"task_struct", "list_head", "holder"} <= set(entries(data, "structure_type"))
    assert set(entries(data, "subprogram")) == {"do_work"}
    assert set(entries(data, "variable")) == {"init_task", "jiffies", "modules", "current_count"}


def test_sections_and_segments_stay_where_they_were() -> None:
    before = kernel()
    old, new = elf.layout(before, "old"), elf.layout(whole(make(before)), "new")
    assert new.segments == old.segments
    assert (new.type, new.machine, new.entry) == (old.type, old.machine, old.entry)
    assert new.sections[: len(old.sections) - 1] == old.sections[:-1]
    assert [s.name for s in new.sections[len(old.sections) - 1 :]] == [
        ".symtab", ".strtab", ".debug_info", ".debug_abbrev", ".debug_str", ".debug_frame", ".shstrtab",
    ]  # fmt: skip


def test_content_is_kept_where_it_is_read_from_the_file() -> None:
    before = kernel()
    after = whole(make(before))
    for one in elf.layout(before, "x").sections[1:-1]:
        kept = before[one.offset : one.offset + one.size]
        there = after[one.offset : one.offset + one.size]
        if one.name in (".rodata", ".notes"):
            assert there == kept
        else:
            assert not any(there)  # of memory, and so in the dump


def test_functions_have_their_addresses_types_and_parameters() -> None:
    work = entries(whole(make(kernel())), "subprogram")["do_work"]
    assert (work.attributes["DW_AT_low_pc"].value, work.attributes["DW_AT_high_pc"].value) == (TEXT + 0x100, 0x31)
    assert work.get_DIE_from_attribute("DW_AT_type").attributes["DW_AT_name"].value == b"int"
    assert [one.tag.removeprefix("DW_TAG_") for one in work.iter_children()] == [
        "formal_parameter", "formal_parameter", "unspecified_parameters",
    ]  # fmt: skip
    first = next(work.iter_children())
    assert first.attributes["DW_AT_name"].value == b"task"
    pointed = first.get_DIE_from_attribute("DW_AT_type").get_DIE_from_attribute("DW_AT_type")
    assert pointed.attributes["DW_AT_name"].value == b"task_struct"


def test_variables_have_their_addresses() -> None:
    found = entries(whole(make(kernel("per CPU"))), "variable")
    place = {name: struct.pack("<Q", n) for name, n in (("init_task", DATA), ("current_count", 0))}
    for name, address in place.items():
        assert bytes(found[name].attributes["DW_AT_location"].value) == b"\x03" + address


def test_the_first_frame_of_a_crash() -> None:
    (entry,) = [e for e in opened(whole(make(kernel()))).get_dwarf_info().CFI_entries() if type(e).__name__ == "FDE"]
    assert (entry["initial_location"], entry["address_range"]) == (TEXT + 0x200, 0x100)


def test_symbol_table_is_in_order() -> None:
    table = opened(whole(make(kernel()))).get_section_by_name(".symtab")
    bindings = [one["st_info"]["bind"] for one in table.iter_symbols()]
    assert bindings.index("STB_GLOBAL") == table["sh_info"]
    assert "STB_LOCAL" not in bindings[table["sh_info"] :]
    assert table.get_symbol_by_name("do_work")[0]["st_value"] == TEXT + 0x100


def test_functions_are_in_small_units() -> None:
    b = every_kind()
    call = b.prototype(1)
    for _, _, name in kernels.many():
        b.function(name, call)
    data = whole(make(kernel(btf=b.build())))
    units = [unit.get_top_DIE().attributes for unit in opened(data).get_dwarf_info().iter_CUs()]
    ranges = [(u["DW_AT_low_pc"].value, u["DW_AT_high_pc"].value) for u in units if "DW_AT_low_pc" in u]
    assert len(ranges) == 2
    assert ranges[0][0] + ranges[0][1] <= ranges[1][0]


# --- a kernel with a table of its own -----------------------------------------------------------------------------

TABLE = [(TEXT, 0, 0x10, 1, "_text"), (TEXT + 0x100, 0x20, 0x12, 1, "do_work"), (DATA, 64, 0x11, 5, "init_task")]


def test_own_table_is_better() -> None:
    made = make(kernels.image(with_table(TABLE, parts())))
    data = whole(made)
    assert made.symbols == 3
    assert entries(data, "subprogram")["do_work"].attributes["DW_AT_high_pc"].value == 0x20
    assert image.SIZES not in made.limits
    assert image.SIZES in make(kernel()).limits
    assert [s.name for s in elf.layout(data, "x").sections].count(".symtab") == 1


def test_functions_without_size_are_left_out() -> None:
    """A range of nothing would say that they are nowhere."""
    data = whole(make(kernels.image(with_table([(TEXT + 0x100, 0, 0x12, 1, "do_work")], parts()))))
    assert entries(data, "subprogram") == {}


def test_section_numbers_follow_the_sections() -> None:
    odd = [Part(".rela.text", bytes(24), type=4, flags=0, entry=24), *parts()]
    data = whole(make(kernels.image(with_table([(DATA, 64, 0x11, 6, "init_task")], odd))))
    table = opened(data).get_section_by_name(".symtab")
    number = table.get_symbol_by_name("init_task")[0]["st_shndx"]
    assert opened(data).get_section(number).name == ".data"


# --- what is refused, and limits ----------------------------------------------------------------------------------


def without(name: str) -> bytes:
    return kernels.image([part for part in parts() if part.name != name])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (without(".BTF"), "it has no .BTF: the kernel was built without CONFIG_DEBUG_INFO_BTF"),
        (kernel(btf=b""), "it has no .BTF: the kernel was built without CONFIG_DEBUG_INFO_BTF"),
        (kernel(btf=b"noise" * 20), "BTF: not of version 1"),
        (without(".rodata"), "kallsyms: the image has no .rodata or no .text"),
        (without(".text"), "kallsyms: the image has no .rodata or no .text"),
        (kernels.image(parts(), machine=243), "a kernel for another architecture (ELF machine 243)"),
        (kernels.image(parts(), kind=1), "no executable ELF file, as kernels are"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadImageError) as caught:
        make(data)
    assert caught.value.message.startswith(words)


def test_what_it_can_t_do_is_said() -> None:
    assert make(kernel()).limits == (*image.LIMITS, image.SIZES)
    odd = [part if part.name != ".text" else Part(".text", bytes(0x1000), TEXT, flags=6) for part in parts()]
    assert image.FRAMELESS in make(kernels.image(odd)).limits
    assert image.UNTRIED in make(kernels.image(parts(), machine=183)).limits


@given(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8))
def test_damaged_images(place: int, noise: bytes) -> None:
    data = bytearray(IMAGE)
    place %= len(data)
    data[place : place + len(noise)] = noise
    try:
        whole(make(bytes(data)))
    except BadImageError as error:
        assert error.message.isprintable()


IMAGE = kernel()


# --- pieces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (b"\1" * 9000, [(0, 9000)]),
        (b"\1" * 4096 + bytes(4096) + b"\1" * 100, [(0, 4096), (8192, 100)]),
        (bytes(5000) + b"\1" + bytes(5000), [(4096, 4096)]),
        (bytes(9000), []),
        (b"", []),
    ],
)
def test_pages_of_zeros_are_left_out(data: bytes, places: list[tuple[int, int]]) -> None:
    found = writer._content(data, Section("x", 1, offset=0, size=len(data)))
    assert [(place, len(piece)) for place, piece in found] == places


# --- modules ------------------------------------------------------------------------------------------------------

KERNEL = every_kind()
BASE = btf.read(KERNEL.build())


def own_types() -> Builder:
    task = BASE.named[btf.STRUCT, "task_struct"]
    number = BASE.named[btf.INT, "int"]
    b = Builder(KERNEL)
    b.structure("device_data", 16, ("task", b.pointer(b.const(task)), 0), ("count", number, 64))
    own = b.count
    b.structure("node", 16, ("list", BASE.named[btf.STRUCT, "list_head"], 0))
    b.function("probe", b.prototype(number, ("data", b.pointer(own))))
    b.function("gone", b.prototype(0))
    return b


MODULE = [
    Part(".text", b"\xc3" * 64, flags=6),
    Part(".rela.text", struct.pack("<QQq", 0, 2 << 32 | 2, -4), type=4, flags=0x40, link=4, info=1, entry=24),
    Part(".BTF", own_types().build(), flags=0),
]
TABLE_OF_MODULE = [(0, 0, 0x03, 1, ""), (0x10, 0x20, 0x02, 1, "probe")]


def ko(*more: Part, own: list[Part] = MODULE) -> bytes:
    return kernels.image([*with_table(TABLE_OF_MODULE, own), *more], kind=1)


def made_module(data: bytes) -> bytes:
    return whole(module.make(data, elf.layout(data, "x"), BASE))


def test_module() -> None:
    before = ko()
    data = made_module(before)
    structures = entries(data, "structure_type")
    assert set(structures) == {"device_data", "node", "list_head", "task_struct"}
    assert "DW_AT_declaration" in structures["task_struct"].attributes  # only pointed to: it is in the kernel's
    assert structures["list_head"].attributes["DW_AT_byte_size"].value == 16
    old, new = elf.layout(before, "old"), elf.layout(data, "new")
    assert new.sections[: len(old.sections) - 1] == old.sections[:-1]
    for one in old.sections[1:-1]:
        assert data[one.offset : one.offset + one.size] == before[one.offset : one.offset + one.size]


def test_functions_of_a_module_move_with_it() -> None:
    """The address is a relocation, for nobody knows where the module is loaded."""
    data = made_module(ko())
    assert entries(data, "subprogram")["probe"].attributes["DW_AT_high_pc"].value == 0x20
    assert entries(data, "subprogram")["probe"].attributes["DW_AT_low_pc"].value == 0x10  # as relocated by pyelftools
    relocations = opened(data).get_section_by_name(".rela.debug_info")
    assert {(r["r_info_sym"], r["r_info_type"]) for r in relocations.iter_relocations()} == {(2, 1)}
    assert opened(data).get_section(relocations["sh_info"]).name == ".debug_info"
    assert opened(data).get_section(relocations["sh_link"]).name == ".symtab"


def test_structures_of_one_name_are_written_in_whole() -> None:
    """A debugger couldn't tell which of them is meant."""
    kernel_types = Builder()
    kernel_types.integer("int")
    kernel_types.structure("same", 4, ("a", 1, 0))
    kernel_types.structure("same", 8, ("b", 1, 0))
    own = Builder(kernel_types)
    own.pointer(2)
    found = btf.read(own.build(), btf.read(kernel_types.build()))
    assert module.reachable(found) == (frozenset({1, 2, 4}), frozenset())


def test_reachable_through_tags_and_qualities() -> None:
    kernel_types = Builder()
    kernel_types.integer("int")
    kernel_types.structure("one", 4, ("a", 1, 0))
    kernel_types.typedef("one_t", 2)
    own = Builder(kernel_types)
    own.pointer(own.type_tag("rcu", own.const(3)))
    base = btf.read(kernel_types.build())
    assert module.reachable(btf.read(own.build(), base)) == (frozenset({3, 4, 6}), frozenset({2}))
    own.array(2, 4)
    assert module.reachable(btf.read(own.build(), base)) == (frozenset({1, 2, 3, 4, 6, 7}), frozenset())
    own.pointer(2)  # whichever is seen first
    assert module.reachable(btf.read(own.build(), base)) == (frozenset({1, 2, 3, 4, 6, 7, 8}), frozenset())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (kernel(), "no module for x86-64 or aarch64"),
        (ko(own=MODULE[:2]), "it has no .BTF"),
        (ko(Part(".BTF.base", b"\0" * 32, flags=0)), "BTF: not of version 1"),
        (ko(Part(".debug_info", b"\0" * 32, flags=0)), "has DWARF already"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_modules_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadImageError, match=words):
        made_module(data)


# --- modules built outside of the kernel's tree -------------------------------------------------------------------


def stubs() -> Builder:
    """What such a module says of the kernel's types: their names and sizes."""
    b = Builder()
    b.integer("int", 4, 1)
    b.structure("list_head", 16)
    b.structure("task_struct", 64)
    b.enum("state", [])
    b.forward("holder")
    return b


def outside(base: Builder) -> list[Part]:
    b = Builder(base)
    pointer = b.pointer(b.const(3))
    b.structure("outer", 48, ("list", 2, 0), ("task", pointer, 128), ("state", 4, 192), ("any", b.pointer(5), 256))
    b.function("probe", b.prototype(1, ("outer", b.pointer(8))))
    return [*MODULE[:2], Part(".BTF", b.build(), flags=0), Part(".BTF.base", base.build(), flags=0)]


def test_module_with_a_base_of_its_own() -> None:
    data = made_module(ko(own=outside(stubs())))
    structures = entries(data, "structure_type")
    assert {"outer", "list_head", "task_struct", "holder"} == set(structures)
    assert {name for name, one in structures.items() if "DW_AT_declaration" in one.attributes} == {
        "task_struct",
        "holder",
    }
    list_head = next(structures["outer"].iter_children()).get_DIE_from_attribute("DW_AT_type")
    assert [one.attributes["DW_AT_name"].value for one in list_head.iter_children()] == [b"next", b"prev"]
    assert entries(data, "enumeration_type")["state"].has_children
    assert set(entries(data, "subprogram")) == {"probe"}


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("task_struct", 72, "the kernel has no task_struct, or one of another size: built for another kernel"),
        ("another", 64, "the kernel has no another, or one of another size"),
        ("", 64, "of a kind that doesn't belong there"),
    ],
)
def test_module_for_another_kernel(name: str, size: int, words: str) -> None:
    b = Builder()
    b.integer("int", 4, 1)
    b.structure("list_head", 16)
    b.structure(name, size)
    b.enum("state", [])
    b.forward("holder")
    with pytest.raises(BadImageError, match=words):
        made_module(ko(own=outside(b)))
