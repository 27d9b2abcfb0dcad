"""Headers of vmcores: what a whole one says, and one clear sentence for each that is truncated, damaged or none."""

from __future__ import annotations

import os
import random
import re
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.errors import BadDumpError
from kdump_pkg.facts import corefile, diskdump
from kdump_pkg.model.dumps import Vmcore
from tests.vmcores import BLOCK, BUILD_ID, INCOMPLETE, INFO, RELEASE, ZLIB, ZSTD, Kdump, elf_core, flattened

WHOLE = Kdump().build()
FORMS = {
    "kdump": WHOLE,
    "flattened": flattened(WHOLE),
    "elf": elf_core(),
    "elf with many segments": elf_core(many=True),
}


@pytest.fixture
def core(tmp_path: Path) -> Path:
    return tmp_path / "vmcore"


def refused(path: Path, *, by_read: bool = False) -> str:
    """What `examine` says; `read` looks at the beginning alone."""
    with pytest.raises(BadDumpError) as caught:
        (diskdump.read if by_read else diskdump.examine)(path)
    message = caught.value.message
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


# --- whole ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_whole(core: Path, form: str) -> None:
    core.write_bytes(FORMS[form])
    facts = diskdump.examine(core)
    assert facts.form == form.split()[0]
    assert (facts.architecture, facts.incomplete) == ("x86_64", False)
    assert facts.pages == (3 if facts.form == "elf" else 29)
    assert (facts.level, facts.compression) == ((None, "") if facts.form == "elf" else (31, "zlib"))
    info = diskdump.read(core).info
    assert info == facts.info
    assert (info.release, info.build_id, info.crash_time) == (RELEASE, BUILD_ID, 1795420014)
    assert info.get("SYMBOL(init_uts_ns)") == "ffffffff82a14d00"
    assert info.get("NUMBER(nothing)") == ""


def test_aarch64(core: Path) -> None:
    core.write_bytes(Kdump(machine="aarch64").build())
    assert diskdump.examine(core).architecture == "aarch64"
    core.write_bytes(elf_core(machine=183))
    assert diskdump.examine(core).architecture == "aarch64"


def test_its_own_mark_of_incompleteness(core: Path) -> None:
    core.write_bytes(Kdump(status=ZLIB | INCOMPLETE).build())
    assert diskdump.examine(core).incomplete


def test_older_headers(core: Path) -> None:
    core.write_bytes(Kdump(version=5).build())
    assert diskdump.examine(core).info.release == RELEASE
    core.write_bytes(Kdump(version=2).build())
    assert diskdump.examine(core).info.values == ()


def test_without_vmcoreinfo(core: Path) -> None:
    core.write_bytes(Kdump(numbers={"info_at": 0, "info_size": 0}).build())
    assert diskdump.examine(core).info.crash_time is None


def test_any_order_of_pieces(core: Path) -> None:
    for size in (24, 700, 4096, 1 << 20):
        core.write_bytes(flattened(WHOLE, size))
        assert diskdump.examine(core).pages == 29


def test_a_large_one_is_read_in_pieces(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskdump, "PIECE", 100)
    core.write_bytes(WHOLE)
    assert diskdump.examine(core).pages == 29


def test_what_is_no_line_of_vmcoreinfo_is_left_out() -> None:
    note = b"A=1\nno equals\n=x\nB=\x1b[31m\nC=\xff\nA B=1\nD=x=y\n" + b"E=" + b"x" * 1000 + b"\n\0\0"
    assert diskdump.parse(note).values == (("A", "1"), ("D", "x=y"))


# --- no dumps at all --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty: nothing was written"),
        (bytes(20000), "begins with nothing but zeros: it was never written"),
        (b"\0" * 8 + b"x" * 9000, "begins with zeros: its header was never written"),
        (b"x", "no dump of memory: neither makedumpfile's kind nor ELF"),
        (b"\x28\xb5\x2f\xfdrest", "compressed by zstd: unpack it first"),
        (b"\x1f\x8brest", "compressed by gzip: unpack it first"),
        (b"age-encryption.org/v1\nrest", "encrypted by age: kdump-pkg decrypt"),
        (b"DISKDUMPrest", "a dump by diskdump, which is from before kdump"),
        (elf_core(kind=2), "an ELF file, but no dump of memory: a program, a library or a kernel"),
        (elf_core(machine=22), "of s390x: only dumps of x86_64 and aarch64 can be read here"),
        (
            b"\x7fELF\x01\x01" + bytes(100),
            "an ELF file, but not of a 64-bit little-endian machine: it can't be read here",
        ),
        (Kdump(machine="i686").build(), "of i686: only dumps of x86_64 and aarch64 can be read here"),
        (Kdump(machine="\x1b[31mm").build(), "of 31mm: only dumps of x86_64 and aarch64 can be read here"),
        (Kdump(machine="").build(), "of an unknown machine: only dumps of x86_64 and aarch64 can be read here"),
        (Kdump(version=0x06000000).build(), "its header is damaged, or of a big-endian machine"),
    ],
)
def test_no_dump_at_all(core: Path, data: bytes, said: str) -> None:
    core.write_bytes(data)
    assert refused(core, by_read=True) == said
    assert refused(core) == said


def test_sparse(core: Path) -> None:
    with core.open("wb") as file:
        file.truncate(1 << 40)
    assert refused(core) == "begins with nothing but zeros: it was never written"


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert refused(fifo) == "not a regular file"
    assert refused(tmp_path) == "not a regular file"
    assert refused(tmp_path / "gone") == "No such file or directory"
    with pytest.raises(BadDumpError) as caught:
        diskdump.read(tmp_path / "a\n\x1b[31m")
    assert "\n" not in caught.value.message and "\x1b" not in caught.value.message


# --- damaged ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_truncated_anywhere(core: Path, form: str) -> None:
    whole = FORMS[form]
    where = [*range(1, len(whole) - 1, len(whole) // 40), len(whole) - 1 - (64 if "many" in form else 0)]
    for length in where:
        core.write_bytes(whole[:length])
        said = refused(core)
        assert re.match(r"truncated|empty|begins with|no dump of memory|holds not a single", said), (length, said)


def test_a_stream_without_its_end(core: Path) -> None:
    core.write_bytes(flattened(WHOLE, end=False))
    assert "before the mark of its end" in refused(core)
    assert diskdump.read(core).info.release == RELEASE


@pytest.mark.parametrize(
    ("kdump", "said"),
    [
        (Kdump(numbers={"block": 4095}), "its header is damaged: sizes that no kernel has"),
        (Kdump(numbers={"block": -1}), "its header is damaged: sizes that no kernel has"),
        (Kdump(numbers={"sub_blocks": 0}), "its header is damaged: sizes that no kernel has"),
        (Kdump(numbers={"sub_blocks": 1 << 30}), "its header is damaged: sizes that no kernel has"),
        (Kdump(numbers={"bitmap_blocks": 0}), "its header is damaged: sizes that no kernel has"),
        (Kdump(numbers={"bitmap_blocks": 0xFFFFFFFF}), "truncated"),
        (Kdump(numbers={"last": 1 << 60 & 0xFFFFFFFF, "info_at": 1 << 62}), "truncated"),
        (Kdump(numbers={"last": 1 << 31}), "its header is damaged: the bitmap is too small for the machine's pages"),
        (Kdump(numbers={"info_size": 1 << 40}), "its header is damaged: a VMCOREINFO larger than any kernel's"),
        (Kdump(pages=[]), "holds not a single page"),
        (Kdump(split=1), "one of several parts"),
        (Kdump(descriptors={7: (0, 0, 0)}), "damaged: a page's place is inside the tables, or was never written"),
        (Kdump(descriptors={7: (20000, 0, ZLIB)}), "damaged: a page has a size that no page has"),
        (Kdump(descriptors={7: (20000, 1 << 31, ZLIB)}), "damaged: a page has a size that no page has"),
        (Kdump(descriptors={7: (1 << 63, 100, ZLIB)}), "truncated"),
        (Kdump(descriptors={7: ((1 << 64) - 1, 100, ZLIB)}), "truncated"),
    ],
)
def test_hostile_headers(core: Path, kdump: Kdump, said: str) -> None:
    core.write_bytes(kdump.build())
    assert refused(core).startswith(said)
    core.write_bytes(flattened(kdump.build()))
    assert refused(core).startswith(said)


@pytest.mark.parametrize("status", [ZLIB, ZSTD])
def test_pages_that_were_lost(core: Path, status: int) -> None:
    """A power cut leaves a file as long as it was to be, and zeros in it."""
    data = bytearray(Kdump(status=status).build())
    data[-400:] = bytes(400)
    core.write_bytes(data)
    assert "is not what was written there" in refused(core)


def test_holes_in_it(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diskdump, "SAMPLES", 1)
    pages = [random.Random(n).randbytes(BLOCK - 100) for n in range(64)]
    data = Kdump(pages=pages).build()
    at = len(data) // 2 & ~(BLOCK - 1)
    core.write_bytes(data)
    with core.open("r+b") as file:
        file.truncate(at)
        file.truncate(at + 16 * BLOCK)
        file.seek(at + 16 * BLOCK)
        file.write(data[at + 16 * BLOCK :])
    assert refused(core) == f"has a hole at byte {at}: that part was never written"


def test_pieces_over_each_other(core: Path) -> None:
    head = (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    core.write_bytes(head + b"".join(struct.pack(">qq", n % 7, 50) + b"K" * 50 for n in range(5000)))
    assert "lie over each other" in refused(core)


def test_too_many_pieces(core: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corefile, "MOST_PIECES", 10)
    core.write_bytes(flattened(WHOLE, 24))
    assert "more than 10 pieces" in refused(core)


@pytest.mark.parametrize("piece", [(-5, 10), (10, 0), (0, -1), (-1, 10)])
def test_nonsense_pieces(core: Path, piece: tuple[int, int]) -> None:
    head = (b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(4096, b"\0")
    core.write_bytes(head + struct.pack(">qq", *piece) + bytes(100))
    assert "is nonsense" in refused(core)


def test_elf_with_a_table_that_never_ends(core: Path) -> None:
    data = bytearray(elf_core(many=True))
    struct.pack_into("<I", data, len(data) - 64 + 44, 0xFFFFFFFF)
    core.write_bytes(data)
    assert refused(core) == "an ELF core whose table of segments is nonsense"


def test_memory_is_bounded(core: Path) -> None:
    """The tables of a dump cost no more than pieces of them."""
    count = 1 << 18
    bitmap_blocks = 2 * (count // 8 // BLOCK)
    kdump = Kdump(numbers={"bitmap_blocks": bitmap_blocks, "last": count})
    head = kdump.build()[: 2 * BLOCK]
    data_at = len(head) + bitmap_blocks * BLOCK + 24 * count
    with core.open("wb") as file:
        file.write(head + b"\xff" * (bitmap_blocks * BLOCK))
        for _ in range(count // 4096):
            file.write(struct.pack("<QIIQ", data_at, 2, ZLIB, 0) * 4096)
        file.write(b"\x78\x01")
    tracemalloc.start()
    try:
        assert diskdump.examine(core).pages == count
        assert tracemalloc.get_traced_memory()[1] < 9 << 20
    finally:
        tracemalloc.stop()


# --- anything ---------------------------------------------------------------------------------------------------------


def survives(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for look in (diskdump.read, diskdump.examine):
        try:
            facts: Vmcore = look(path)
        except BadDumpError as error:
            assert error.message.isprintable() and len(error.message) < 400
        else:
            assert facts.architecture in ("x86_64", "aarch64")
            assert all(key.isprintable() and value.isprintable() for key, value in facts.info.values)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMS)), st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=12))
def test_property_any_flip_is_a_dump_or_a_sentence(core: Path, form: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(FORMS[form])
    for place, value in flips:
        data[place % min(len(data), 20000)] ^= value
    survives(core, bytes(data))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(FORMS)),
    st.sampled_from([8, 40, 54, 56, 424, 428, 432, 436, 440, 4096, 4104, 4128, 4136, 4200, 64, 72, 96, 4112]),
    st.sampled_from(["<I", "<Q", ">q"]),
    st.integers(0, (1 << 64) - 1),
)
def test_property_huge_numbers_in_the_headers(core: Path, form: str, place: int, kind: str, value: int) -> None:
    data = bytearray(FORMS[form])
    size = struct.calcsize(kind)
    number = value & (1 << 8 * size - 1) - 1 if kind == ">q" else value & (1 << 8 * size) - 1
    data[place : place + size] = struct.pack(kind, number)
    survives(core, bytes(data))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([b"", b"KDUMP   ", b"\x7fELF\x02\x01", b"makedumpfile\0\0\0\0"]), st.binary(max_size=6000))
def test_property_any_bytes(core: Path, magic: bytes, rest: bytes) -> None:
    survives(core, magic + rest)


def test_info_is_of_this_form() -> None:
    """As the maker of the dumps here writes it."""
    assert diskdump.parse(INFO.encode()).release == RELEASE
