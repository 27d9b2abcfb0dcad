"""Which directories are dumps of ours, and what is read of them, among all that may lie beside them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.facts.dumps import is_known, read_dumps, read_space
from kdump_pkg.model import Dump, Space
from tests.fakes import Hole, Link, make_tree, snapshot

HOME = "/var/crash"
NAME = "2026-11-23T21-36-54Z-6.12.1-arch1-1"
META = "format=1\nrelease=6.12.1-arch1-1\ncmdline=root=x result=failed\nresult=complete\n"


def names(ctx: Context) -> list[str]:
    return [dump.name for dump in read_dumps(ctx, HOME)]


def one(ctx: Context, root: Path, files: dict[str, object]) -> Dump:
    make_tree(root, {f"{HOME}/{NAME}/{name}": entry for name, entry in files.items()})  # type: ignore[misc]
    (found,) = read_dumps(ctx, HOME)
    return found


def test_a_whole_dump(ctx: Context, root: Path) -> None:
    found = one(ctx, root, {"meta": META, "vmcore": bytes(100_000), "dmesg.txt": "x", "others": bytes(1 << 20)})
    assert (found.name, found.complete, found.pinned, found.encrypted) == (NAME, True, False, False)
    directory = (root / "var/crash" / NAME).stat().st_blocks // 2
    ours = sum((root / "var/crash" / NAME / n).stat().st_blocks for n in ("meta", "vmcore", "dmesg.txt")) // 2
    assert found.kib == ours + directory
    assert 100 <= found.kib < 200  # without what is not ours


def test_holes_take_no_room(ctx: Context, root: Path) -> None:
    assert one(ctx, root, {"meta": META, "vmcore": Hole(1 << 30)}).kib < 100


@pytest.mark.parametrize(
    ("meta", "complete"),
    [
        ("format=1\nresult=complete\n", True),
        ("format=1\nresult=complete", True),
        ("format=1\nresult=complete\nresult=incomplete\n", False),
        ("format=1\nresult=incomplete\nresult=complete\n", True),
        ("format=1\nresult=complete \n", False),
        ("format=1\n result=complete\n", False),
        ("format=1\nresult=completed\n", False),
        ("format=1\n", False),
        ("format=1\nresult=started\n", False),
        ("format=1\nresult=dmesg\n", False),
        (b"format=1\n\xff\xfe\x00\x80\nresult=complete\n", True),
        (b"format=1\n" + b"x" * (1 << 20) + b"\nresult=complete\n", False),  # nobody writes such a thing
    ],
)
def test_complete_is_what_meta_says_last(ctx: Context, root: Path, meta: str | bytes, complete: bool) -> None:
    assert one(ctx, root, {"meta": meta}).complete is complete


@pytest.mark.parametrize("pin", ["", None, Link("/nowhere")])
def test_pinned_by_whatever_has_that_name(ctx: Context, root: Path, pin: str | Link | None) -> None:
    assert one(ctx, root, {"meta": META, "pinned": pin}).pinned


def test_encrypted(ctx: Context, root: Path) -> None:
    assert one(ctx, root, {"meta": META, "dmesg.txt.age": "x", "vmcore.age": "x"}).encrypted


@pytest.mark.parametrize(
    "foreign",
    [
        {f"{NAME}/meta": "format=2\nresult=complete\n"},
        {f"{NAME}/meta": "format=10\n"},
        {f"{NAME}/meta": "format=1"},
        {f"{NAME}/meta": ""},
        {f"{NAME}/meta": b"\0" * 4096},
        {f"{NAME}/meta": " format=1\n"},
        {f"{NAME}/meta": None},
        {f"{NAME}/meta": Link("../real")},
        {NAME: None},
        {NAME: "a file"},
        {NAME: Link("elsewhere"), "elsewhere/meta": META},
        {f"{NAME}\n/meta": META},
        {f"{NAME}\nx/meta": META},
        {f"x{NAME}/meta": META},
        {"2026-11-23/meta": META},
        {"2026-11-23T21-36-54Z-/meta": META},
        {"2026-11-23T21-36-54Z-a b/meta": META},
        {"2026-11-23T21-36-54Z-ä/meta": META},
        {"２０２６-11-23T21-36-54Z-6.12/meta": META},
        {"2026-11-23T21:36:54Z-6.12/meta": META},
        {"meta": META},
        {"202611232136/dmesg.202611232136": "kdump-tools of Debian"},
    ],
)
def test_what_is_not_ours_is_not_seen(ctx: Context, root: Path, foreign: dict[str, object]) -> None:
    make_tree(root, {f"{HOME}/real": META, HOME: None} if not foreign else {f"{HOME}/real": META})
    make_tree(root, {f"{HOME}/{name}": entry for name, entry in foreign.items()})  # type: ignore[misc]
    before = snapshot(root)
    assert names(ctx) == []
    assert snapshot(root) == before


def test_names_that_are_no_text(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{HOME}/{NAME}/meta": META})
    os.mkdir(os.fsencode(root) + b"/var/crash/2026-11-23T21-36-54Z-\xff\xfe")  # noqa: PTH102
    assert names(ctx) == [NAME]


def test_a_fifo_for_meta_is_not_waited_for(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{HOME}/{NAME}": None})
    os.mkfifo(root / "var/crash" / NAME / "meta")
    assert names(ctx) == []


def test_the_directory_itself_may_be_a_link(ctx: Context, root: Path) -> None:
    make_tree(root, {f"/data/{NAME}/meta": META, "/var": None, HOME: Link("/data")})
    assert names(ctx) == [NAME]


@pytest.mark.parametrize("entry", ["a file", Link("/nowhere"), Link("crash")])
def test_no_directory(ctx: Context, root: Path, entry: str | Link) -> None:
    assert names(ctx) == []
    make_tree(root, {HOME: entry})
    assert names(ctx) == []


def test_sorted_by_time(ctx: Context, root: Path) -> None:
    wanted = [f"20{year}-11-23T21-36-54Z-6.12.1" for year in (19, 24, 25, 26)]
    make_tree(root, {f"{HOME}/{name}/meta": META for name in reversed(wanted)})
    assert names(ctx) == wanted


def test_thousands_are_read_at_once(ctx: Context, root: Path) -> None:
    home = root / "var/crash"
    for number in range(2000):
        dump = home / f"2026-11-23T{number // 3600:02}-{number // 60 % 60:02}-{number % 60:02}Z-6.12.1"
        dump.mkdir(parents=True)
        for name in ("meta", "vmcore", "dmesg.txt"):
            (dump / name).write_bytes(META.encode())
        (home / f"foreign-{number}").mkdir()
    begin = time.process_time()
    found = read_dumps(ctx, HOME)
    took = time.process_time() - begin
    assert len(found) == 2000 and all(d.complete for d in found)
    assert took < 5, f"{took:.1f} s"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((n, True) for n in ("meta", "meta.new", "save.log", "vmcore", "vmcore.incomplete", "vmcore.partial")),
        *((n, True) for n in ("vmcore.age", "dmesg.txt.age", "capture-dmesg.txt.age", "vmcore.flat", "report.json")),
        (".kdump-pkg-123-vmcore", True),
        *(
            (n, False)
            for n in ("pinned", "notes.txt", "key.age", ".age", "vmcore.age.age", "report", "vmcore2", "meta~")
        ),
    ],
)
def test_known_names(name: str, known: bool) -> None:
    assert is_known(name) is known


def test_space_is_what_df_says(ctx: Context, root: Path) -> None:
    facts = os.statvfs(root)
    found = read_space(ctx, "/")
    assert isinstance(found, Space)
    assert found.total == facts.f_blocks * facts.f_frsize // 1024
    assert abs(found.free - facts.f_bavail * facts.f_frsize // 1024) < 1 << 20
    assert read_space(ctx, "/nowhere") is None
