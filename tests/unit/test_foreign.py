"""Dumps of other programs: recognised by name and content, read a little, and never mistaken for something else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.facts import catalogue, foreign
from kdump_pkg.facts.catalogue import Shelf
from kdump_pkg.model.dumps import Entry
from tests import fakes
from tests.fakes import Link, make_tree

HOME = "/var/crash"
SHELVES = (Shelf("crash", HOME), Shelf("kdumpst", foreign.KDUMPST))
LOG = "[    0.000000] Linux version 6.17.8-arch1-1 (linux@archlinux) (gcc 15) #1 SMP\n[    9.0] Kernel panic\n"
CRASHED = 1795420014


def core(magic: bytes = b"KDUMP   ", release: str = "6.17.8-arch1-1", when: int | None = CRASHED) -> bytes:
    """The beginning of a vmcore with the lines of VMCOREINFO that matter, where makedumpfile puts them."""
    lines = [f"OSRELEASE={release}", "BUILD-ID=00112233445566778899AABBCCDDEEFF00112233", "PAGESIZE=4096"]
    lines += [f"CRASHTIME={when}"] if when is not None else []
    return magic.ljust(4580, b"\0") + "\n".join([*lines, ""]).encode() + bytes(2000)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Five hours behind UTC."""
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def age(root: Path, seconds: float = 1e6) -> None:
    for directory, names, files in os.walk(root, topdown=False):
        for name in [*names, *files]:
            os.utime(Path(directory, name), (CRASHED - seconds,) * 2, follow_symlinks=False)


def read(ctx: Context) -> tuple[Entry, ...]:
    return catalogue.read(ctx, SHELVES).entries


def one(ctx: Context, root: Path, tree: dict[str, fakes.Entry], seconds: float = 1e6) -> Entry:
    make_tree(root, {f"{HOME}/{name}": content for name, content in tree.items()})
    age(root, seconds)
    (found,) = read(ctx)
    return found


LOCAL = 1795420014 + 5 * 3600  # 2026-11-23 07:46:54 where we are
MINUTE = LOCAL - 54

TABLE: dict[str, tuple[dict[str, fakes.Entry], tuple[object, ...]]] = {
    "wiki": ({"crashdump-2026-11-23-07:46:54": core(when=None)}, ("ArchWiki", LOCAL, "complete")),
    "wiki, crash time": ({"crashdump-2026-11-23-07:46:54": core()}, ("ArchWiki", CRASHED, "complete")),
    "wiki, a day": ({"crashdump-2026-11-23": core(when=None)}, ("ArchWiki", LOCAL - 28014, "complete")),
    "wiki, own words": ({"crashdump-mine": core(when=None)}, ("ArchWiki", CRASHED - 1_000_000, "complete")),
    "wiki, empty": ({"crashdump-2026-11-23-07:46:54": ""}, ("ArchWiki", LOCAL, "incomplete")),
    "wiki, no dump": ({"crashdump-2026-11-23-07:46:54": "hello"}, ("ArchWiki", LOCAL, "damaged")),
    "wiki, ELF": ({"crashdump-2026-11-23-07:46:54": core(b"\x7fELF", when=None)}, ("ArchWiki", LOCAL, "complete")),
    "wiki, flattened": ({"crashdump-2026-11-23": core(b"makedumpfile\0")}, ("ArchWiki", CRASHED, "complete")),
    "kdumpst": (
        {"kdumpst/crash/202611230746/dmesg.txt": LOG, "kdumpst/crash/202611230746/vmcore.compressed": core(when=None)},
        ("kdumpst", CRASHED - 54, "complete"),  # its name is UTC
    ),
    "kdumpst, log": ({"kdumpst/crash/202611230746/dmesg.txt": LOG}, ("kdumpst", CRASHED - 54, "dmesg only")),
    "kdumpst, packed": ({"kdumpst/crash/vmcore.202611230746": core(when=None)}, ("kdumpst", CRASHED - 54, "complete")),
    "Debian": (
        {"202611230746/dump.202611230746": core(b"makedumpfile\0"), "202611230746/dmesg.202611230746": LOG},
        ("Debian", CRASHED, "complete"),
    ),
    "Debian, packed": ({"202611230746/dump.202611230746.xz": b"\xfd7zXZ"}, ("Debian", MINUTE, "complete")),
    "Debian, cp": ({"202611230746/vmcore.202611230746": core(b"\x7fELF")}, ("Debian", CRASHED, "complete")),
    "Debian, nfs": ({"10.0.0.7-202611230746/dmesg.202611230746": LOG}, ("Debian", MINUTE, "dmesg only")),
    "Debian, cut off": (
        {"202611230746/dump-incomplete.lz4": core(), "202611230746/dmesg.202611230746": LOG},
        ("Debian", CRASHED, "incomplete"),
    ),
    "Fedora": (
        {
            "127.0.0.1-2026-11-23-07:46:54/vmcore": core(when=None),
            "127.0.0.1-2026-11-23-07:46:54/vmcore-dmesg.txt": LOG,
            "127.0.0.1-2026-11-23-07:46:54/kexec-dmesg.log": "x",
        },
        ("Fedora", LOCAL, "complete"),
    ),
    "Fedora, ssh": ({"fd00::7-2026-11-23-07:46:54/vmcore.flat": core()}, ("Fedora", CRASHED, "complete")),
    "Fedora, cut off": (
        {"127.0.0.1-2026-11-23-07:46:54/vmcore-incomplete": core(when=None)},
        ("Fedora", LOCAL, "incomplete"),
    ),
    "Fedora, log": (
        {"127.0.0.1-2026-11-23-07:46:54/vmcore-dmesg-incomplete.txt": LOG},
        ("Fedora", LOCAL, "dmesg only"),
    ),
    "SUSE": (
        {
            "2026-11-23-07-46/vmcore": core(b"makedumpfile\0", when=None),
            "2026-11-23-07-46/dmesg": LOG,
            "2026-11-23-07-46/README.txt": "Kernel crashdump\ndmesg status: saved successfully\n"
            "vmcore status: saved successfully\nKernel version: 6.4.0-150600-default\n",
        },
        ("SUSE", MINUTE, "complete"),
    ),
    "SUSE, old": ({"2026-11-23-07:46/vmcore": core(when=None)}, ("SUSE", MINUTE, "complete")),
    "SUSE, remote": ({"host-2026-11-23-07-46/vmcore": core(when=None)}, ("SUSE", MINUTE, "complete")),
    "SUSE, cut off": (
        {
            "2026-11-23-07-46/vmcore": core(when=None),
            "2026-11-23-07-46/README.txt": "This file will be overwritten when the dump is finished.\n"
            "If you see this text the crash dump is likely incomplete.\n",
        },
        ("SUSE", MINUTE, "incomplete"),
    ),
    "SUSE, failed": (
        {
            "2026-11-23-07-46/vmcore": core(when=None),
            "2026-11-23-07-46/README.txt": "vmcore status: error while saving, return code: 1\n",
        },
        ("SUSE", MINUTE, "incomplete"),
    ),
    "SUSE, no room": (
        {"2026-11-23-07-46/dmesg": LOG, "2026-11-23-07-46/README.txt": "vmcore status: deleted (5 < 64)\n"},
        ("SUSE", MINUTE, "dmesg only"),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_recognised(ctx: Context, root: Path, name: str) -> None:
    tree, expected = TABLE[name]
    found = one(ctx, root, tree)
    assert (found.maker, found.time, found.state) == expected
    assert found.foreign and not found.pinned and not found.encrypted
    assert found.size == 0 or found.size % 512 == 0
    assert found.path.startswith(f"{HOME}/") and found.id == found.path.rpartition("/")[2]
    for path in (found.vmcore, found.log):
        assert not path or (root / path[1:]).is_file()
    assert found.release in ("6.17.8-arch1-1", "") and (found.release or not found.log)


def test_what_vmcoreinfo_says(ctx: Context, root: Path) -> None:
    found = one(ctx, root, {"crashdump-2026-11-23": core(release="6.1.0-13-amd64")})
    assert (found.release, found.build_id) == ("6.1.0-13-amd64", "00112233445566778899aabbccddeeff00112233")


def test_the_first_vmcoreinfo_counts(ctx: Context, root: Path) -> None:
    """What lies behind it is memory, in which anything may stand."""
    more = b"\nOSRELEASE=9.9-evil\nCRASHTIME=5\n"
    found = one(ctx, root, {"crashdump-2026-11-23": core() + more})
    assert (found.release, found.time) == ("6.17.8-arch1-1", CRASHED)


def test_suse_tells_its_kernel(ctx: Context, root: Path) -> None:
    readme = "vmcore status: skipped\nKernel version: 6.4.0-1-default\n"
    found = one(ctx, root, {"2026-11-23-07-46/dmesg": "no such line", "2026-11-23-07-46/README.txt": readme})
    assert (found.release, found.state) == ("6.4.0-1-default", "dmesg only")


@pytest.mark.parametrize("release", ["6.1\x1b[31m", "../../etc", "x" * 300, "6.1 6.2", "", "6.1\n"])
def test_a_hostile_release_is_none(ctx: Context, root: Path, release: str) -> None:
    assert one(ctx, root, {"crashdump-2026-11-23": core(release=release)}).release in ("", "6.1")


def test_a_core_that_says_nothing(ctx: Context, root: Path) -> None:
    tree: dict[str, fakes.Entry] = {"202611230746/dump.202611230746": b"KDUMP   " + bytes(99)}
    tree["202611230746/dmesg.202611230746"] = LOG
    found = one(ctx, root, tree)
    assert (found.release, found.build_id, found.time) == ("6.17.8-arch1-1", "", MINUTE)


def suse(words: str) -> dict[str, fakes.Entry]:
    return {"2026-11-23-07-46/vmcore": core(), "2026-11-23-07-46/README.txt": words}


@pytest.mark.parametrize(
    ("tree", "state"),
    [
        ({"crashdump-2026-11-23": core()}, "being written"),
        ({"kdumpst/crash/202611230746/vmcore.compressed": core()}, "being written"),
        ({"202611230746/dump-incomplete": core()}, "being written"),
        ({"1.2.3.4-2026-11-23-07:46:54/vmcore-incomplete": core()}, "being written"),
        (suse("crash dump is likely incomplete"), "being written"),
        # a name or a word says that these are whole
        ({"202611230746/dump.202611230746": core()}, "complete"),
        ({"1.2.3.4-2026-11-23-07:46:54/vmcore": core()}, "complete"),
        (suse("vmcore status: saved successfully"), "complete"),
    ],
)
def test_being_written_just_now(ctx: Context, root: Path, tree: dict[str, fakes.Entry], state: str) -> None:
    assert one(ctx, root, tree, seconds=30).state == state


def test_what_was_cut_off_by_the_crash_is_not_being_written(ctx: Context, root: Path) -> None:
    """The machine has been started since."""
    make_tree(root, {"/proc/stat": f"cpu 1 2 3\nbtime {CRASHED - 10}\nprocesses 7\n"})
    assert one(ctx, root, {"202611230746/dump-incomplete": core()}, seconds=30).state == "incomplete"


NOT_ONES: tuple[dict[str, fakes.Entry], ...] = (
    {"crashdump-": core()},
    {"crashdump-2026-11-23/vmcore": core()},
    {"crashdump-a\nb": core()},
    {"crashdump-\x1b[31m": core()},
    {"crashdump-2026-11-23": Link("/etc/shadow")},
    {"crashdump": core()},
    {"202611230746": core()},
    {"202611230746/notes": "x"},
    {"202611230746/dmesg.txt": LOG},
    {"202611230746/dump.202611230746": Link("/var/crash/real")},
    {"2026112307460/dump.202611230746": core()},
    {"202611230746\n/dmesg.202611230746": LOG},
    {"127.0.0.1-2026-11-23-07:46:54/kexec-dmesg.log": "x"},
    {"127.0.0.1-2026-11-23-07:46:54/vmcore": None},
    {"-2026-11-23-07:46:54/vmcore": core()},
    {"a b-2026-11-23-07:46:54/vmcore": core()},
    {"2026-11-23-07-46/README.txt": "x"},
    {"kdumpst/crash/2026-11-23-07-46/vmcore": core()},
    {"kdumpst/202611230746/vmcore.compressed": core()},
    {"vmcore.202611230746": core()},
    {"real/vmcore": core(), "202611230746": Link("real")},
    {"_usr_bin_foo.0.crash": "ProblemType: Crash"},
    {".202611230746/dmesg.202611230746": LOG},
)


@pytest.mark.parametrize("tree", NOT_ONES, ids=lambda tree: ascii(next(iter(tree))))
def test_not_one(ctx: Context, root: Path, tree: dict[str, fakes.Entry]) -> None:
    make_tree(root, {f"{HOME}/{name}": content for name, content in tree.items()})
    assert read(ctx) == ()


def test_no_such_day(ctx: Context, root: Path) -> None:
    for name in ("202613320746", "000000000000", "000101010000"):
        make_tree(root, {f"{HOME}/{name}/dmesg.{name}": LOG})
    age(root)
    assert {entry.time for entry in read(ctx)} == {CRASHED - 1_000_000}


def test_a_fifo_does_not_hang_us(ctx: Context, root: Path) -> None:
    home = root / "var/crash/1.2.3.4-2026-11-23-07:46:54"
    home.mkdir(parents=True)
    os.mkfifo(home / "vmcore")
    (home / "vmcore-dmesg.txt").write_text(LOG)
    age(root)
    (found,) = read(ctx)
    assert (found.vmcore, found.state) == ("", "dmesg only")


@given(st.text(st.characters(blacklist_characters="/\0"), min_size=1, max_size=80))
def test_any_name(name: str) -> None:
    """It is looked at by patterns alone, and what passes is harmless on a terminal and in a shell's word list."""
    if foreign.is_candidate(HOME, name) or foreign.is_candidate(foreign.KDUMPST, name):
        assert name.isascii() and name.isprintable() and " " not in name and name[0].isalnum()


@given(st.binary(max_size=200), st.sampled_from([b"OSRELEASE=", b"BUILD-ID=", b"CRASHTIME="]))
def test_any_vmcoreinfo(noise: bytes, key: bytes) -> None:
    found = foreign._identified(Entry("x", "/x", "ArchWiki", 5), b"\0" + key + noise + b"\nCRASHTIME=99999999999999\n")
    assert found.release.isprintable() and found.build_id.isprintable() and 0 < found.time < 10**12
