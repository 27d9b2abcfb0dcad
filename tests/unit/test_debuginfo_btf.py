"""BTF: every kind read as it was made, and files that want to harm their reader."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.debuginfo import btf
from kdump_pkg.errors import BadImageError
from tests.btf import Builder, every_kind, pack

GOOD = every_kind().build()
NAMES = b"\0int\0node\0"


def refused(data: bytes, base: btf.Btf | None = None) -> str:
    with pytest.raises(BadImageError) as caught:
        btf.read(data, base)
    assert caught.value.message.startswith("BTF: ")
    assert caught.value.message.isprintable()
    return caught.value.message.removeprefix("BTF: ")


def types(*words: int, names: bytes = NAMES) -> bytes:
    return pack(struct.pack(f"<{len(words)}I", *words), names)


def test_every_kind() -> None:
    found = btf.read(GOOD)
    assert set(found.kinds) == set(range(btf.UNKNOWN))
    assert len(found) == every_kind().count + 1


@pytest.mark.parametrize(
    ("kind", "name", "size"),
    [
        (btf.INT, "int", 4),
        (btf.INT, "long unsigned int", 8),
        (btf.STRUCT, "task_struct", 64),
        (btf.STRUCT, "list_head", 16),
        (btf.ENUM, "state", 4),
        (btf.ENUM, "wide", 8),
        (btf.TYPEDEF, "u64", 8),
        (btf.TYPEDEF, "nothing", 0),
        (btf.FLOAT, "double", 8),
    ],
)
def test_sizes_by_name(kind: int, name: str, size: int) -> None:
    found = btf.read(GOOD)
    assert found.size(found.named[kind, name]) == size


def test_sizes_of_what_has_no_name() -> None:
    b = Builder()
    number = b.integer("int")
    pointer = b.pointer(number)
    line = b.const(b.array(b.typedef("row", b.array(pointer, 3)), 5))
    found = btf.read(b.build())
    assert [found.size(n) for n in (0, number, pointer, line)] == [0, 4, 8, 120]


def test_constants() -> None:
    assert btf.read(GOOD).constants["NR_NODES"] == 3


def test_plain_goes_through_tags() -> None:
    b = Builder()
    number = b.integer("int")
    twice = b.type_tag("user", b.type_tag("rcu", number))
    function = b.function("f", b.prototype(number))
    found = btf.read(b.build())
    assert [found.plain[n] for n in (twice, function, number)] == [number, 0, number]


def test_split() -> None:
    kernel = Builder()
    number = kernel.integer("int")
    module = Builder(kernel)
    own = module.structure("own", 8, ("int", number, 0), ("more", number, 32))
    module.pointer(own)
    base = btf.read(kernel.build())
    found = btf.read(module.build(), base)
    assert (found.first, len(found), len(base)) == (2, 4, 2)
    assert found.name(own) == "own"
    assert found.targets(own) == (number, number)
    assert found.text(found.words[found.starts[own] + 3]) == "int"  # a name of the kernel's
    assert refused(module.build()) == "its names have no beginning or no end"


def test_module_that_has_no_names_of_its_own() -> None:
    kernel = Builder()
    number = kernel.integer("int")
    module = Builder(kernel)
    pointer = module.pointer(number)
    assert btf.read(module.build(), btf.read(kernel.build())).target(pointer) == number


def test_module_of_another_kernel() -> None:
    big, small = every_kind(), Builder()
    small.integer("int")
    module = Builder(big)
    module.pointer(big.count)
    assert "isn't there" in refused(module.build(), btf.read(small.build()))


def test_longer_counts_of_newer_kernels() -> None:
    """From 7.1 on there may be more than 65535 members, in the bits that were empty."""
    b = Builder()
    number = b.integer("int")
    values = b.name("v")
    b.types += struct.pack("<III", b.name("large"), 6 << 24 | 0x10001, 4) + struct.pack("<II", values, 7) * 0x10001
    b.count += 1
    pointer = b.pointer(number)
    found = btf.read(b.build())
    assert found.elements(2) == 0x10001
    assert found.kinds[pointer] == btf.PTR


def newer(kind: int, once: int, each: int, layout: bytes | None = None) -> bytes:
    """A type of a kind that isn't known, and one after it; with the section that says how long it is."""
    kinds = b"".join(struct.pack("<BBH", once, each, 0) if n == kind else bytes(4) for n in range(kind + 1))
    layout = kinds if layout is None else layout
    words = [0, kind << 24 | 2, 0, *([0] * ((once + 2 * each) // 4)), 1, 1 << 24, 4, 32, 0, 2 << 24, 1]
    body = struct.pack(f"<{len(words)}I", *words)
    places = (0, len(body), len(body), len(NAMES), len(body) + len(NAMES), len(layout))
    return struct.pack("<HBBI6I", 0xEB9F, 1, 0, 32, *places) + body + NAMES + layout


def test_kinds_that_are_not_known_yet_are_skipped() -> None:
    found = btf.read(newer(20, 4, 8))
    assert list(found.kinds) == [0, btf.UNKNOWN, btf.INT, btf.PTR]
    assert found.plain[1] == btf.VOID
    assert refused(newer(20, 4, 8, b"")) == "type 1 is of a kind that is not known, 20"
    assert refused(newer(20, 3, 8)) == "type 1 is of a kind that is not known, 20"
    assert refused(newer(20, 4, 8)[:-4]) == "truncated"


INT = (1, 1 << 24, 4, 32)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "shorter than its header"),
        (b"\0" * 24, "not of version 1"),
        (b"\x9f\xeb\x02" + GOOD[3:], "not of version 1"),
        (GOOD[::-1], "not of version 1"),
        (GOOD[:-1], "truncated"),
        (GOOD[:100], "truncated"),
        (GOOD[:4] + struct.pack("<I", 8) + GOOD[8:], "damaged header"),
        (GOOD[:8] + struct.pack("<I", 2) + GOOD[12:], "damaged header"),
        (types(*INT[:3]), "truncated in the middle of a type"),
        (types(*INT[:2]), "truncated in the middle of a type"),
        (types(*INT, names=b"int\0"), "its names have no beginning or no end"),
        (types(*INT, names=b"\0int"), "its names have no beginning or no end"),
        (types(*INT, names=b"\0i\x1b[2Jt\0"), "a name that can't be printed"),
        (types(*INT, names=b"\0\xc3\xa4\0"), "a name that can't be printed"),
        (types(0, 0, 0), "type 1 is of a kind that is not known, 0"),
        (types(0, 21 << 24, 0), "type 1 is of a kind that is not known, 21"),
        (types(99, 1 << 24, 4, 32), "type 1 has a name that isn't there"),
        (types(*INT, 0, 2 << 24, 3), "type 2 refers to a type that isn't there"),
        (types(*INT, 0, 3 << 24, 0, 1, 9, 2), "type 2 refers to a type that isn't there"),
        (types(*INT, 5, 4 << 24 | 1, 8, 5, 7, 0), "type 2 refers to a type that isn't there"),
        (types(*INT, 5, 4 << 24 | 1, 8, 99, 1, 0), "type 2 has a name that isn't there"),
        (types(*INT, 5, 4 << 24 | 0xFFFFFF, 8, 5, 1, 0), "truncated in the middle of a type"),
        (types(1, 1 << 24, 3, 32), "type 1 makes no sense"),
        (types(5, 6 << 24, 1 << 30), "type 1 makes no sense"),
        (types(*INT, 5, 12 << 24, 1), "type 2 makes no sense"),
        (types(*INT, 5, 15 << 24 | 1, 0, 1, 0, 4), "type 2 makes no sense"),
        (types(0, 10 << 24, 1), "type 1 has no end"),
        (types(5, 8 << 24, 2, 5, 8 << 24, 1), "type 1 has no end"),
        (types(*INT, 0, 3 << 24, 0, 2, 1, 2), "type 2 has no end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(data: bytes, words: str) -> None:
    assert refused(data) == words


def test_depth_has_a_limit() -> None:
    """Each of them is all right, together they would be walked for long, by us and by every debugger."""
    b = Builder()
    last = b.integer("int")
    for _ in range(60):
        last = b.array(last, 2)
    found = btf.read(b.build())
    assert found.size(last) == 4 << 60
    for _ in range(10):
        last = b.const(last)
    assert "has no end" in refused(b.build())


def test_endless_name() -> None:
    found = btf.read(types(*INT, names=b"\0" + b"x" * 600 + b"\0"))
    with pytest.raises(BadImageError, match="a name of more than 512 bytes"):
        found.name(1)


def whatever(data: bytes, read: Callable[[bytes], btf.Btf]) -> None:
    try:
        found = read(data)
    except BadImageError as error:
        assert error.message.isprintable()
        return
    for number in range(len(found)):
        assert found.size(number) >= 0
        assert all(0 <= target < len(found) for target in found.targets(number))


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_few_bytes_changed(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    whatever(bytes(data), btf.read)


@given(st.lists(st.integers(0, 0xFFFFFFFF) | st.integers(0, 40), max_size=60))
def test_any_words(words: list[int]) -> None:
    whatever(types(*words), btf.read)


@given(st.integers(0, len(GOOD)), st.integers(0, 64))
def test_a_piece_missing(start: int, size: int) -> None:
    whatever(GOOD[:start] + GOOD[start + size :], btf.read)
