"""ELF facts: build IDs, abilities, and files that want to harm their reader."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.errors import BadImageError
from kdump_pkg.facts import elf as facts
from tests.fakes import BUILD_ID, Hole, Link, elf, make_tree, note


def inspect(data: bytes) -> facts.ElfFacts:
    return facts.inspect_bytes(data, "x")


@pytest.mark.parametrize(
    ("sections", "abilities"),
    [
        ((), "none"),
        ((".text", ".data"), "none"),
        ((".BTF",), "BTF"),
        ((".symtab",), "symbols"),
        ((".symtab", ".BTF"), "BTF+symbols"),
        ((".symtab", ".BTF", ".debug_info"), "DWARF"),
        ((".zdebug_info",), "DWARF"),
        ((".debug_line",), "none"),
        ((".BTF.base", ".symtab_shndx"), "none"),
    ],
)
def test_abilities(sections: tuple[str, ...], abilities: str) -> None:
    assert inspect(elf(sections=sections)) == facts.ElfFacts(BUILD_ID, abilities)


OTHER = note("aabb", name=b"Xen\0", kind=6)


@pytest.mark.parametrize(
    ("notes", "build_id"),
    [
        (note(), BUILD_ID),
        (note("ab" * 8), "ab" * 8),
        (OTHER + note(), BUILD_ID),
        (note(name=b"XXX\0"), None),
        (note(kind=1, build_id="00" * 16), None),
        (OTHER, None),
        (b"", None),
    ],
)
def test_build_id(notes: bytes, build_id: str | None) -> None:
    assert inspect(elf(notes=notes)).build_id == build_id


GOOD = elf(sections=(".BTF", ".symtab"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x7fEL", id="three bytes"),
        pytest.param(b"\0" * 4096, id="zeros"),
        pytest.param(bytes(range(256)) * 16, id="noise"),
        pytest.param(b"MZ" + GOOD, id="something before it"),
    ],
)
def test_no_elf(data: bytes) -> None:
    with pytest.raises(BadImageError, match=r"^x: not an ELF file$"):
        inspect(data)


@pytest.mark.parametrize("end", range(4, len(GOOD), 7))
def test_truncated(end: int) -> None:
    """Refused, or at least never taken for the kernel's own with all its abilities."""
    try:
        found = inspect(GOOD[:end])
    except BadImageError as error:
        assert error.message.startswith("x: damaged ELF file")
    else:
        assert found.abilities != "BTF+symbols" or found.build_id is None


def patched(offset: int, form: str, value: int) -> bytes:
    data = bytearray(GOOD)
    struct.pack_into(form, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(patched(4, "<B", 9), id="class 9"),
        pytest.param(patched(5, "<B", 7), id="byte order 7"),
        pytest.param(patched(32, "<Q", 1 << 62), id="segments beyond the end"),
        pytest.param(patched(40, "<Q", 1 << 62), id="sections beyond the end"),
        pytest.param(patched(40, "<Q", 8), id="sections on the header"),
        pytest.param(patched(56, "<H", 0xFFFE), id="65,534 segments"),
        pytest.param(patched(60, "<H", 0xFFFE), id="65,534 sections"),
        pytest.param(patched(62, "<H", 0xFFFE), id="names nowhere"),
        pytest.param(patched(54, "<H", 0), id="segments of no size"),
        pytest.param(patched(58, "<H", 0), id="sections of no size"),
        pytest.param(elf(notes=struct.pack("<III", 0xFFFFFFFF, 20, 3) + b"GNU\0"), id="note with a name of 4 GiB"),
        pytest.param(elf(notes=struct.pack("<III", 4, 0xFFFFFFF0, 3) + b"GNU\0"), id="note of 4 GiB"),
        pytest.param(elf(notes=b"\0" * 12 * 100), id="notes of nothing"),
        pytest.param(elf(notes=note()[:-8]), id="half a note"),
    ],
)
def test_hostile(data: bytes) -> None:
    try:
        found = inspect(data)
    except BadImageError as error:
        assert error.message.startswith("x: ")
        assert error.message.isprintable()
    else:
        assert found.build_id is None or len(found.build_id) <= 2 * len(data)


@given(st.lists(st.tuples(st.integers(4, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_property_flipped_bytes_never_surprise(flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in flips:
        data[place] = value
    try:
        inspect(bytes(data))
    except BadImageError as error:
        assert error.message.isprintable()


@pytest.mark.parametrize("entry", [None, Hole(1 << 30), Link("x")], ids=["directory", "1 GiB of zeros", "loop"])
def test_files(root: Path, entry: Hole | Link | None) -> None:
    make_tree(root, {"x": entry})
    with pytest.raises(BadImageError, match=r"x: not a"):
        facts.inspect_file(root / "x")


def test_file(root: Path) -> None:
    make_tree(root, {"good": GOOD})
    assert facts.inspect_file(root / "good").build_id == BUILD_ID
    with pytest.raises(BadImageError, match="missing: not a regular file"):
        facts.inspect_file(root / "missing")


# --- how it is laid out -------------------------------------------------------------------------------------------


def test_layout() -> None:
    data = elf(sections=(".BTF", ".symtab"))
    found = facts.layout(data, "x")
    assert [s.name for s in found.sections] == ["", ".BTF", ".symtab", ".shstrtab"]
    assert (found.type, found.machine, [s.type for s in found.sections]) == (2, 62, [0, 1, 1, 3])
    (segment,) = found.segments
    assert data[segment.offset : segment.offset + segment.file_size] == note()
    assert found.find(".BTF") == found.sections[1]
    assert found.find(".text") is None


def test_types_are_numbers_whatever_pyelftools_calls_them() -> None:
    data = bytearray(elf(sections=(".a",)))
    (start,) = struct.unpack_from("<Q", data, 40)
    for number in (0x70000001, 0x60000001, 0x12345678):
        struct.pack_into("<I", data, start + 64 + 4, number)
        assert facts.layout(bytes(data), "x").sections[1].type == number


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (4, b"\1", "ELF file"),
        (5, b"\2", "not a 64-bit little-endian ELF file"),
        (64 + 32, struct.pack("<Q", 1 << 40), "truncated, a segment ends beyond it"),
    ],
)
def test_layout_refused(place: int, value: bytes, words: str) -> None:
    data = bytearray(GOOD)
    data[place : place + len(value)] = value
    with pytest.raises(BadImageError, match=r"^x: ") as caught:
        facts.layout(bytes(data), "x")
    assert words in caught.value.message


def test_layout_of_a_section_that_is_not_all_there() -> None:
    data = bytearray(elf(sections=("bad\x1b[2Jname",)))
    (start,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<Q", data, start + 64 + 32, 1 << 40)
    with pytest.raises(BadImageError, match=r"^x: truncated, its section bad\?\[2Jname ends beyond it$"):
        facts.layout(bytes(data), "x")


def test_one_section_of_a_file(root: Path) -> None:
    path = root / "file"
    path.write_bytes(elf(sections=(".BTF",)))
    assert facts.section_file(path, ".BTF") == b""
    assert facts.section_file(path, ".text") is None
    assert (facts.section_file(path, ".shstrtab") or b"").endswith(b".shstrtab\0")
    with pytest.raises(BadImageError, match="No such file"):
        facts.section_file(root / "gone", ".BTF")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_damaged_layouts(place: int, value: int) -> None:
    data = bytearray(GOOD)
    data[place] = value
    try:
        found = facts.layout(bytes(data), "x")
    except BadImageError as error:
        assert error.message.isprintable()
        return
    assert all(not s.held or s.offset + s.size <= len(data) for s in found.sections)
