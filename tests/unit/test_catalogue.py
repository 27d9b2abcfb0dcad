"""list, info, verify, pin, unpin, remove: what they find, what they say, and what they leave alone."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import catalogue, config, fs, paths, reconcile, verification
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.facts import catalogue as facts
from kdump_pkg.facts.catalogue import Shelf
from kdump_pkg.model import Config, TargetWish
from kdump_pkg.model.crash import Check, Verification
from kdump_pkg.model.dumps import Details, Entry
from kdump_pkg.plan import listing
from kdump_pkg.untrusted import escaped
from tests import fakes
from tests.fakes import Hole, Link, make_tree, snapshot, standard_input

HOME = "/var/crash"
RELEASE = "6.17.8-arch1-1"
NAME = f"2026-11-23T07-46-54Z-{RELEASE}"
OLDER = "2026-11-20T10-00-00Z-6.12.1-lts"
WIKI = "crashdump-2026-11-21-10:00:00"
CRASHED = 1795420014
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
META = f"""format=1
release={RELEASE}
build_id={BUILD_ID}
crash_time={CRASHED}
saved_time={CRASHED + 19}
capture_release=6.17.8-arch1-1
cmdline=root=/dev/sda1 quiet
target=UUID=0f0e /var/crash
target_name=root
level=31
in_a_row=3
step_target=exit=0 seconds=1 bytes=0
step_dmesg=exit=0 seconds=0 bytes=32055
step_vmcore=exit=124 seconds=300 bytes=56229581
step_vmcore_2=exit=0 seconds=4 bytes=56229581
step_log=exit=0 seconds=0 bytes=0
min_available_kib=178356
result=complete
"""
REPORT: dict[str, Any] = {
    "version": 1,
    "crash": {
        "kind": "oops",
        "cause": "a null pointer access",
        "where": {"function": "nouveau_fence_update", "module": "nouveau"},
        "signature": "0123456789abcdef",
    },
}
WHOLE: dict[str, fakes.Entry] = {"meta": META, "vmcore": bytes(100_000), "dmesg.txt": "x\n", "save.log": "saved\n"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, root: Path) -> Iterator[None]:
    """One target, an hour ahead of UTC. For the guard we are in it: it doesn't see the descriptors of directories."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(config, "load", lambda ctx: Config(targets=(TargetWish(),)))
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    make_tree(root, {"/etc/fstab": ""})
    yield
    monkeypatch.undo()
    time.tzset()


def put(root: Path, name: str = NAME, tree: dict[str, fakes.Entry] | None = None, at: float = CRASHED - 1000) -> Path:
    """A dump that was made at AT."""
    home = root / HOME[1:] / name
    make_tree(home, WHOLE if tree is None else tree)
    for path in (*home.iterdir(), home):
        os.utime(path, (at, at), follow_symlinks=False)
    return home


def older(root: Path) -> Path:
    text = META.replace(RELEASE, "6.12.1-lts").replace(str(CRASHED), str(CRASHED - 250_000))
    return put(root, OLDER, {"meta": text.replace("=complete", "=dmesg"), "dmesg.txt": "x"})


def wiki(root: Path) -> Path:
    make_tree(root, {f"{HOME}/{WIKI}": b"KDUMP   " + bytes(5000)})
    os.utime(root / HOME[1:] / WIKI, (CRASHED - 1000,) * 2)
    return root / HOME[1:] / WIKI


def read(ctx: Context) -> tuple[Entry, ...]:
    return catalogue.read(ctx, config.load(ctx))


def one(ctx: Context, root: Path, changes: dict[str, fakes.Entry], at: float = CRASHED - 1000) -> Entry:
    put(root, tree={**WHOLE, **changes}, at=at)
    (found,) = read(ctx)
    return found


# --- entries ----------------------------------------------------------------------------------------------------------


def test_a_whole_dump(ctx: Context, root: Path) -> None:
    found = one(ctx, root, {"report.json": json.dumps(REPORT)})
    home = f"{HOME}/{NAME}"
    assert replace(found, size=0) == Entry(
        NAME, home, "kdump-pkg", CRASHED, RELEASE, "complete", vmcore=f"{home}/vmcore", log=f"{home}/dmesg.txt",
        build_id=BUILD_ID, what="a null pointer access", where="nouveau_fence_update [nouveau]",
        signature="0123456789abcdef",
    )  # fmt: skip
    assert 100_000 <= found.size < 200_000 and not found.foreign


@pytest.mark.parametrize(
    ("result", "files", "state"),
    [
        ("complete", ("vmcore", "dmesg.txt"), "complete"),
        ("complete", ("vmcore.age", "dmesg.txt.age"), "complete"),
        ("complete", ("vmcore.flat",), "complete"),
        ("complete", ("dmesg.txt",), "dmesg only"),  # somebody took the memory away
        ("complete", (), "damaged"),
        ("partial", ("vmcore.partial", "dmesg.txt"), "partial"),
        ("partial", ("dmesg.txt",), "dmesg only"),
        ("dmesg", ("dmesg.txt",), "dmesg only"),
        ("incomplete", ("vmcore.incomplete", "dmesg.txt"), "incomplete"),
        ("started", (), "incomplete"),
        ("failed", (), "failed"),
        ("\x1b[31m", ("vmcore",), "incomplete"),
        ("", ("vmcore",), "incomplete"),
    ],
)
def test_state(ctx: Context, root: Path, result: str, files: tuple[str, ...], state: str) -> None:
    tree: dict[str, fakes.Entry] = {"meta": f"format=1\nresult={result}\n", **dict.fromkeys(files, "x")}
    put(root, tree=tree)
    (found,) = read(ctx)
    assert found.state == state
    core = next((file for file in files if file.startswith("vmcore")), "")
    assert found.vmcore.rpartition("/")[2] == core
    assert found.log.rpartition("/")[2] == ("dmesg.txt" if "dmesg.txt" in files else "")
    assert found.encrypted is any(file.endswith(".age") for file in files)


def test_the_best_memory_is_taken(ctx: Context, root: Path) -> None:
    home = put(root, tree={"meta": META, **dict.fromkeys(("vmcore.age", "vmcore.partial", "vmcore.incomplete"), "x")})
    assert read(ctx)[0].vmcore.endswith("/vmcore.partial")
    (home / "vmcore").touch()
    (found,) = read(ctx)
    assert found.vmcore.endswith("/vmcore") and not found.encrypted  # it was decrypted beside


@pytest.mark.parametrize(
    ("meta", "seconds", "state"),
    [
        ("format=1\nresult=started\n", 30, "being written"),
        ("format=1\n", 30, "being written"),
        ("format=1\nresult=started\n", 61, "incomplete"),
        ("format=1\nresult=started\n", -61, "incomplete"),  # by a clock that was wrong
        ("format=1\nresult=complete\n", 5, "complete"),
        ("format=1\nresult=failed\n", 5, "failed"),
    ],
)
def test_being_written_just_now(ctx: Context, root: Path, meta: str, seconds: int, state: str) -> None:
    assert one(ctx, root, {"meta": meta}, at=CRASHED - seconds).state == state


def test_what_the_crash_cut_off_is_not_being_written(ctx: Context, root: Path) -> None:
    make_tree(root, {"/proc/stat": f"cpu  1 2\nbtime {CRASHED - 20}\n"})
    assert one(ctx, root, {"meta": "format=1\nresult=started\n"}, at=CRASHED - 30).state == "incomplete"


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"crash": {"kind": "soft lockup"}}, ("soft lockup", "", "")),
        ({"crash": {"kind": "unknown", "cause": ""}}, ("", "", "")),
        ({"crash": {"where": {"function": "f", "module": ""}}}, ("", "f", "")),
        ({"crash": {"where": {"function": "", "module": "m"}}}, ("", "", "")),
        ({"crash": {"where": None, "signature": "0123"}}, ("", "", "")),
        ({"crash": {"cause": "a\nb\x1b[31m", "signature": 5}}, ("a\\nb\\x1b[31m", "", "")),
        ({"crash": {"cause": "\u202ea", "where": "x"}}, ("\\u202ea", "", "")),
        ({"crash": {"cause": ["x"]}}, ("", "", "")),
        ({"crash": []}, ("", "", "")),
        ([1], ("", "", "")),
        ("x", ("", "", "")),
    ],
)
def test_what_a_report_says(ctx: Context, root: Path, report: object, expected: tuple[str, str, str]) -> None:
    found = one(ctx, root, {"report.json": json.dumps(report)})
    assert (found.what, found.where, found.signature) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"crash": {"cause": "' + b"x" * (1 << 20) + b'"}}', b"1" * 5000, b"NaN"],
    ids=["empty", "cut off", "no text", "deep", "long", "number", "NaN"],
)
def test_a_damaged_report_says_nothing(ctx: Context, root: Path, data: bytes) -> None:
    found = one(ctx, root, {"report.json": data})
    assert (found.what, found.state) == ("", "complete")


def test_a_long_cause_is_cut(ctx: Context, root: Path) -> None:
    assert len(one(ctx, root, {"report.json": json.dumps({"crash": {"cause": "\x01" * 9999}})}).what) <= 240


@pytest.mark.parametrize(("state", "expected"), [("bad", "damaged"), ("ok", "complete"), ("skipped", "complete")])
def test_what_verify_found(ctx: Context, root: Path, state: str, expected: str) -> None:
    checks = [{"name": "sums", "state": "ok", "text": ""}, {"name": "pages", "state": state, "text": ""}]
    assert one(ctx, root, {"report.json": json.dumps({"verification": {"checks": checks}})}).state == expected


@pytest.mark.parametrize("link", ["report.json", "dmesg.txt", "vmcore"])
def test_links_are_not_followed(ctx: Context, root: Path, link: str) -> None:
    make_tree(root, {"/elsewhere": json.dumps(REPORT)})
    tree = {key: value for key, value in WHOLE.items() if key != link}
    put(root, tree={**tree, link: Link(os.fspath(root / "elsewhere"))})
    (found,) = read(ctx)
    assert (found.what, found.log == "", found.vmcore == "") == ("", link == "dmesg.txt", link == "vmcore")


def test_a_linked_dump_is_none(ctx: Context, root: Path) -> None:
    put(root).rename(root / "elsewhere")
    (root / HOME[1:] / NAME).symlink_to(root / "elsewhere")
    assert read(ctx) == ()


@pytest.mark.parametrize("value", ["6.1\x1b[31m", "a b", "", "x" * 200, "../.."])
def test_hostile_meta(ctx: Context, root: Path, value: str) -> None:
    meta = f"format=1\nrelease={value}\nbuild_id={value}\ncrash_time={value}\nresult=complete\n"
    found = one(ctx, root, {"meta": meta})
    assert (found.build_id, found.time) == ("", CRASHED)
    assert found.release.isprintable() and "/" not in found.release and len(found.release) <= 128


HOSTILE = (
    "a\nb", "\x1b[31mred", " ", "..x", "-rf", "\u202etxt", "2026-11-23T07-46-54Z-a\nb", "x" * 255, "*", "\udcff\udcfe",
)  # fmt: skip


def test_hostile_names_beside_it(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root)
    for name in HOSTILE:
        make_tree(root, {f"{HOME}/{name}/meta": META, f"{HOME}/{NAME}/{name}": "x"})
    assert catalogue.show_list(ctx, None, as_json=False) == 0
    assert catalogue.show_info(ctx, None, as_json=False) == 0
    said = capsys.readouterr()
    assert len(read(ctx)) == 1 and not said.err
    assert all(line.isprintable() for line in said.out.splitlines())
    assert not any(name.strip() in said.out for name in HOSTILE if len(name.strip()) > 3)


def test_everywhere(ctx: Context, root: Path) -> None:
    """On each target, in /var/crash, in kdumpst's place; one directory by two names is one."""
    put(root)
    make_tree(root, {f"/srv/dumps/{OLDER}/meta": META, f"/srv/dumps/{NAME}/meta": META})
    make_tree(root, {f"{HOME}/kdumpst/crash/202611230746/dmesg.txt": "x", "/srv/same": Link("dumps")})
    shelves = (Shelf("root", "/srv/dumps"), Shelf("crash", HOME), Shelf("kdumpst", f"{HOME}/kdumpst/crash"))
    found = facts.read(ctx, shelves).entries
    assert sorted(entry.id for entry in found) == sorted([OLDER, NAME, f"{NAME}@crash", "202611230746"])
    wishes = tuple(TargetWish(name="root", path=path) for path in ("/srv/dumps", "/srv/same", "/none"))
    targets = tuple(fakes.target(path=wish.path) for wish in wishes)
    assert facts.shelves(ctx, Config(targets=wishes), targets) == shelves


def test_order(ctx: Context, root: Path) -> None:
    older(root), put(root), put(root, f"{NAME}.2")
    assert [entry.id for entry in read(ctx)] == [f"{NAME}.2", NAME, OLDER]


# --- many, changing, unreadable ---------------------------------------------------------------------------------------


def test_thousands(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read grows with their number and with nothing else: neither logs nor memory are touched."""
    count = 5000
    for number in range(count):
        home = root / f"var/crash/2026-11-{number % 28 + 1:02}T07-{number % 60:02}-54Z-{number}"
        home.mkdir(parents=True)
        (home / "meta").write_text(META)
        if number < 50:
            (home / "dmesg.txt").write_bytes(bytes(1 << 20))
            make_tree(home, {"vmcore": Hole(1 << 40), "report.json": json.dumps(REPORT)})
    fetched = [0]
    originals: dict[str, Callable[..., Any]] = {"open": os.open, "scandir": os.scandir, "read": os.read}
    calls = dict.fromkeys(originals, 0)

    def counted(name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            result = originals[name](*args, **kwargs)
            fetched[0] += len(result) if isinstance(result, bytes) else 0
            return result

        return call

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(os, name, counted(name))
        found = read(ctx)
    assert len(found) == count
    assert count < calls["open"] <= 2 * count + 150  # the directory, meta; the report of those that have one
    assert max(calls["scandir"], calls["read"]) <= count + 200
    assert fetched[0] <= count * (len(META) + 500)


@pytest.mark.parametrize("step", ["open", "stat", "scandir", "fstat", "read"])
@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), OSError(5, "Input/output error")])
def test_dumps_that_go_away_meanwhile(
    ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: OSError
) -> None:
    """Whichever call meets it first: the dump is there or it isn't, and the other one is not harmed."""
    put(root, tree={**WHOLE, "report.json": json.dumps(REPORT)}), older(root)
    original: Callable[..., Any] = getattr(os, step)
    calls, fail = [0], [0]

    def gone(*args: Any, **kwargs: Any) -> Any:
        below = "dir_fd" in kwargs or isinstance(args[0], int)
        calls[0] += below
        if below and calls[0] == fail[0]:
            raise error
        return original(*args, **kwargs)

    monkeypatch.setattr(os, step, gone)
    seen = set()
    for number in range(1, 16):
        calls[0], fail[0] = 0, number
        found = [entry.id for entry in facts.read(ctx, (Shelf("crash", HOME),)).entries]
        assert set(found) <= {NAME, OLDER}
        seen.add(tuple(found))
    assert ((NAME, OLDER) in seen and len(seen) > 1) or step == "stat"


def test_one_is_removed_while_they_are_listed(ctx: Context, root: Path) -> None:
    homes = [put(root, f"{NAME}.{number}") for number in range(20)]
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for home in homes:
                home.rename(home.with_name("gone"))
                home.with_name("gone").rename(home)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            assert len(facts.read(ctx, (Shelf("crash", HOME),)).entries) >= 15
    finally:
        stop.set()
        thread.join()


def refuse(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """As if we were nobody: root is refused nothing."""
    original = os.open

    def refused(path: Any, *args: Any, **kwargs: Any) -> int:
        if isinstance(path, (str, Path)) and os.fspath(path).endswith(part):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refused)


@pytest.mark.parametrize("match", [None, "2026", NAME, "today", "6.12"])
def test_not_root(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, match: str | None) -> None:
    put(root)
    refuse(monkeypatch, HOME)
    for call in (catalogue.show_list, catalogue.show_info):
        for as_json in (False, True):
            with pytest.raises(KdumpError, match="only root can read /var/crash") as error:
                call(ctx, match, as_json=as_json)
            assert error.value.hint == "run it with sudo"


def test_memory_that_only_root_can_read_is_not_said_to_be_incomplete(
    ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiki(root)
    refuse(monkeypatch, WIKI)
    with pytest.raises(KdumpError, match=f"only root can read {HOME}/{WIKI}"):
        catalogue.show_list(ctx, None, as_json=False)
    with pytest.raises(KdumpError, match=f"{HOME}/{WIKI}: can't be read: Permission denied"):
        find(ctx, f"{HOME}/{WIKI}")


@pytest.mark.parametrize("part", [NAME, "meta"])
def test_some_can_be_read(
    ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    put(root), wiki(root)
    refuse(monkeypatch, part)
    for as_json in (False, True):
        assert catalogue.show_list(ctx, None, as_json=as_json) == 0
        said = capsys.readouterr()
        assert WIKI in said.out or "ArchWiki" in said.out
        assert said.err == f"==> WARNING: only root can read {HOME}/{NAME}: more may be there\n"
    with pytest.raises(KdumpError, match=f"only root can read {HOME}/{NAME}"):
        catalogue.find(ctx, config.load(ctx), NAME)


# --- list -------------------------------------------------------------------------------------------------------------


def test_list(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root, tree={**WHOLE, "report.json": json.dumps(REPORT), "pinned": ""})
    older(root), wiki(root)
    assert catalogue.show_list(ctx, None, as_json=False) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = [line.replace("  ", "\t").split("\t") for line in said.out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [[*row[:4], row[5]] for row in cells] == [
        ["TIME", "RELEASE", "WHAT", "WHERE", "STATE"],
        ["2026-11-20 11:20:14", "6.12.1-lts", "-", "-", "dmesg only"],
        ["2026-11-21 10:00:00", "-", "-", "-", "complete (ArchWiki)"],
        [
            "2026-11-23 08:46:54",
            RELEASE,
            REPORT["crash"]["cause"],
            "nouveau_fence_update [nouveau]",
            "complete (pinned)",
        ],
    ]


def test_list_of_some(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root), older(root)
    assert catalogue.show_list(ctx, "6.12.1-lts", as_json=False) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert catalogue.show_list(ctx, f"{HOME}/{NAME}", as_json=False) == 0
    assert RELEASE in capsys.readouterr().out


SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "additionalProperties": False,
        "required": [
            "id", "path", "maker", "time", "release", "state", "encrypted", "pinned", "size", "vmcore", "log",
            "build_id", "what", "where", "signature",
        ],
        "properties": {
            "id": {"type": "string", "minLength": 1},
            "path": {"type": "string", "pattern": "^/"},
            "maker": {"enum": ["kdump-pkg", "ArchWiki", "kdumpst", "Debian", "Fedora", "SUSE", "unknown"]},
            "time": {"type": "integer", "minimum": 0},
            "release": {"type": "string", "pattern": "^[A-Za-z0-9._+-]*$"},
            "state": {
                "enum": ["complete", "partial", "incomplete", "dmesg only", "damaged", "being written", "failed"]
            },
            "encrypted": {"type": "boolean"},
            "pinned": {"type": "boolean"},
            "size": {"type": "integer", "minimum": 0},
            "vmcore": {"type": "string", "pattern": "^(/|$)"},
            "log": {"type": "string", "pattern": "^(/|$)"},
            "build_id": {"type": "string", "pattern": "^[0-9a-f]*$"},
            "what": {"type": "string"},
            "where": {"type": "string"},
            "signature": {"type": "string", "pattern": "^([0-9a-f]{16})?$"},
        },
    },
}  # fmt: skip


def test_list_as_json(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    put(root, tree={**WHOLE, "report.json": json.dumps(REPORT), "pinned": "", "vmcore.partial.age": "x"})
    older(root), wiki(root)
    assert catalogue.show_list(ctx, None, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    jsonschema.validate(told, SCHEMA)
    assert [entry["id"] for entry in told] == [OLDER, WIKI, NAME]
    assert set(SCHEMA["items"]["required"]) == set(vars(read(ctx)[0]))


def test_no_dumps(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tree in ({}, {HOME: None}):
        make_tree(root, tree)
        with pytest.raises(KdumpError) as error:
            catalogue.show_list(ctx, None, as_json=False)
        assert error.value.message == "no dumps"
        assert catalogue.show_list(ctx, None, as_json=True) == 1
        assert json.loads(capsys.readouterr().out) == []


# --- find -------------------------------------------------------------------------------------------------------------


def find(ctx: Context, match: str | None, *, sole: bool = False) -> Entry:
    return catalogue.find(ctx, config.load(ctx), match, sole=sole)


def test_find(ctx: Context, root: Path) -> None:
    put(root), put(root, f"{NAME}.2"), older(root), wiki(root)
    assert find(ctx, None).id == f"{NAME}.2"
    assert find(ctx, "2026-11-23 08:46").id == f"{NAME}.2"  # the newest of two
    assert find(ctx, NAME, sole=True).id == NAME
    assert find(ctx, "6.12.1-lts").id == OLDER
    assert find(ctx, "crash").id == WIKI
    with pytest.raises(KdumpError, match=f"2 dumps match 2026-11-23: {NAME}.2, {NAME}; say more of it"):
        find(ctx, "2026-11-23", sole=True)
    with pytest.raises(KdumpError, match="4 dumps match 2: ") as error:
        put(root, f"{NAME}.3"), find(ctx, "2", sole=True)
    assert " …; say" in error.value.message


@pytest.mark.parametrize("match", ["2019", "", "\x1b[31m\n", "6.17", "no such"])
def test_none_is_found(ctx: Context, root: Path, match: str) -> None:
    put(root)
    with pytest.raises(KdumpError, match="no dump matches") as error:
        find(ctx, match)
    assert error.value.message.isprintable()


def test_a_path(ctx: Context, root: Path) -> None:
    put(root), wiki(root)
    make_tree(root, {"/mnt/stick/copy/meta": META, "/mnt/stick/copy/vmcore": "x", "/mnt/stick/copy/dmesg.txt": "x"})
    for path in (f"{HOME}/{NAME}", f"{HOME}/{NAME}/", f"{HOME}/{NAME}/vmcore", f"{HOME}/{NAME}/dmesg.txt"):
        assert (find(ctx, path).id, find(ctx, path).path.rstrip("/")) == (NAME, f"{HOME}/{NAME}")
    assert find(ctx, f"{HOME}/{WIKI}").vmcore == f"{HOME}/{WIKI}"
    for path in ("/mnt/stick/copy", "/mnt/stick/copy/vmcore"):
        found = find(ctx, path)
        assert (found.id, found.maker, found.path, found.release) == ("copy", "kdump-pkg", "/mnt/stick/copy", RELEASE)


def test_a_path_of_others(ctx: Context, root: Path) -> None:
    core = b"KDUMP   ".ljust(4580, b"\0") + b"OSRELEASE=6.1.2\nCRASHTIME=1234567890\n"
    make_tree(
        root,
        {
            "/home/me/core.1": core,
            "/home/me/fedora/vmcore": core,
            "/home/me/fedora/vmcore-dmesg.txt": "x",
            "/home/me/plain/vmcore": core,
            "/home/me/a\nb\x1b[31m": core,
            "/home/me/vmcore.empty": "",
            "/home/me/link": Link("fedora"),
        },
    )
    expected = {"core.1": "", "fedora": "Fedora", "link": "Fedora", "plain": "", "plain/vmcore": ""}
    for name, maker in expected.items():
        found = find(ctx, f"/home/me/{name}")
        assert (found.maker, found.release, found.time) == (maker or "unknown", "6.1.2", 1234567890)
        assert found.vmcore == f"/home/me/{name}" + ("" if name in ("core.1", "plain/vmcore") else "/vmcore")
    assert find(ctx, "/home/me/vmcore.empty").state == "incomplete"
    assert find(ctx, "/home/me/a\nb\x1b[31m").id.isprintable()


@pytest.mark.parametrize(
    "path", ["/nowhere", "/etc", "/etc/fstab", "/", "/etc/fstab/x", "/loop", "/a\0b", "/a\x1b\nb", "/" + "x" * 300]
)
def test_a_path_of_nothing(ctx: Context, root: Path, path: str) -> None:
    make_tree(root, {"/loop": Link("loop"), "/etc/fstab": "x"})
    with pytest.raises(KdumpError) as error:
        find(ctx, path)
    assert error.value.message.isprintable()


# --- info -------------------------------------------------------------------------------------------------------------


def test_info(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root, tree={**WHOLE, "report.json": json.dumps(REPORT)})
    assert catalogue.show_info(ctx, None, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == [
        f"ID: {NAME}",
        "Time: 2026-11-23 08:46:54 UTC+01:00",
        f"Release: {RELEASE}",
        f"Build ID: {BUILD_ID}",
        "What: a null pointer access",
        "Where: nouveau_fence_update [nouveau]",
        "Signature: 0123456789abcdef",
        "State: complete",
        f"Path: {HOME}/{NAME}",
        "Saved: 2026-11-23 08:47:13, 19 s after the crash",
        "Capture kernel: 6.17.8-arch1-1",
        "Command line: root=/dev/sda1 quiet",
        "Target: UUID=0f0e /var/crash (root)",
        "Dump level: 31",
        "In a row: crash number 3 in a short time",
        "Memory left: 174.2M at the least",
        "Steps: target: 1 s",
        "log: 0 s, 31.3K",
        "memory: failed (124), 300 s, 53.6M",
        "memory 2: 4 s, 53.6M",
        "own log: 0 s",
        "Files: dmesg.txt    2B",
        f"meta         {len(META)}B",
        "report.json  176B",
        "save.log     6B",
        "vmcore       97.7K",
        "Opened by: vmcore: crash, drgn",
        "dmesg.txt: any pager",
        f"Next: kdump-pkg report {NAME}",
        f"kdump-pkg debug {NAME}",
        f"kdump-pkg verify {NAME}",
    ]


def test_info_as_json(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root)
    assert catalogue.show_info(ctx, None, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"entry", "meta", "files", "opened_by", "next"}
    assert told["entry"]["id"] == NAME and told["meta"]["step_dmesg"] == "exit=0 seconds=0 bytes=32055"
    assert {"name": "vmcore", "size": 100_000} in told["files"]


HOSTILE_META = """format=1
release=6.1
step_x\x1b[31m=exit=\x1b seconds=\u202e bytes=99999999999999999999
step_=
step_dmesg
saved_time=99999999999999999999
cmdline=\x1b]0;title\x07
in_a_row=\u0664
min_available_kib=\u00b2
target=a
level=\x08
result=complete
"""


def test_info_of_hostile_meta(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root, tree={"meta": HOSTILE_META + "cmdline=" + "x" * 60_000, "vmcore": "x"})
    assert catalogue.show_info(ctx, None, as_json=False) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines()) and len(out) < 10_000


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=60)), st.integers(0, 10**11))
def test_info_of_any_meta(meta: dict[str, str], when: int) -> None:
    """`Details` has harmless text already."""
    details = Details(tuple((escaped(key), escaped(value)) for key, value in meta.items()), (("vmcore", 1),))
    text = listing.info(Entry("x", "/x", "kdump-pkg", when), details, lambda time: 3600)
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize(
    ("changes", "openers", "verbs"),
    [
        ({"vmcore": "/x/vmcore", "log": "/x/dmesg.txt"}, ["vmcore: crash, drgn", "dmesg.txt: any pager"],
         "report debug verify"),
        ({"vmcore": "/x/vmcore.age", "encrypted": True}, ["vmcore.age: age, with the private key; then as any other"],
         "decrypt report verify"),
        ({"vmcore": "/x/dump.1.gz", "maker": "Debian"}, ["dump.1.gz: gunzip first, then crash or drgn"], "verify"),
        ({"vmcore": "/x/vmcore", "state": "damaged"}, ["vmcore: crash, drgn (it is damaged)"], "report debug verify"),
        ({"vmcore": "/x/vmcore.partial", "state": "partial"},
         ["vmcore.partial: crash, as far as it goes: its end is missing"], "report debug verify"),
        ({"log": "/x/dmesg.txt", "state": "dmesg only"}, ["dmesg.txt: any pager"], "report"),
        ({"state": "failed"}, ["nothing: no memory and no log was saved"], ""),
        ({"state": "being written", "vmcore": "/x/vmcore"}, ["nothing yet: it is being written just now"], ""),
    ],
)  # fmt: skip
def test_what_to_do_with_it(changes: dict[str, Any], openers: list[str], verbs: str) -> None:
    entry = replace(Entry("x", "/x", "kdump-pkg", 5, state="complete"), **changes)
    assert list(listing.openers(entry)) == openers
    assert [command.split()[1] for command in listing.commands(entry)] == verbs.split()


def test_commands_can_be_pasted() -> None:
    entry = Entry("x", "/a b/$(x)", "unknown", 5, vmcore="/a b/$(x)", state="complete")
    assert "kdump-pkg debug '/a b/$(x)'" in listing.commands(entry)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.0K"), (56229581, "53.6M"), (1 << 40, "1.0T"), (1 << 60, "1048576.0T")],
)
def test_size(count: int, text: str) -> None:
    assert listing.size(count) == text


# --- verify -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "word"),
    [("ok", 0, "good"), ("skipped", 0, "good, as far as it was looked at"), ("bad", 1, "bad")],
)
def test_verify(
    ctx: Context,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    state: Any,
    code: int,
    word: str,
) -> None:
    put(root)
    result = Verification((Check("sums", "ok", "5 files"), Check("pages", state, "a\x1b[31mb")), 5)
    monkeypatch.setattr(verification, "verify", lambda ctx, entry: result)
    assert catalogue.verify(ctx, None, as_json=False) == code
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"==> {NAME}: {word}"
    assert [line.split() for line in out[1:]] == [["ok", "sums", "5", "files"], [state, "pages", "a\\x1b[31mb"]]
    assert catalogue.verify(ctx, None, as_json=True) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["good"], told["checks"][1]["state"]) == (NAME, code == 0, state)


# --- pin, remove ------------------------------------------------------------------------------------------------------


def test_pin(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = put(root)
    for pinned, words in ((True, "pinned"), (True, "pinned already"), (False, "unpinned"), (False, "unpinned already")):
        assert catalogue.pin(ctx, NAME, pinned=pinned) == 0
        assert capsys.readouterr().out == f"==> {NAME}: {words}\n"
        assert (home / "pinned").exists() is pinned and read(ctx)[0].pinned is pinned
    assert catalogue.pin(ctx, "2026-11-23", pinned=True) == 0
    assert (home / "pinned").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mark", [Link("/etc/passwd"), Link("nowhere"), "mine"])
def test_unpin_takes_away_whatever_has_that_name(ctx: Context, root: Path, mark: fakes.Entry) -> None:
    home = put(root, tree={**WHOLE, "pinned": mark})
    assert catalogue.pin(ctx, NAME, pinned=True) == 0
    assert catalogue.pin(ctx, NAME, pinned=False) == 0
    assert not os.path.lexists(home / "pinned")


def test_unpin_a_directory(ctx: Context, root: Path) -> None:
    put(root, tree={**WHOLE, "pinned": None})
    with pytest.raises(KdumpError, match=f"{HOME}/{NAME}: not unpinned: Is a directory"):
        catalogue.pin(ctx, NAME, pinned=False)


def test_foreign_dumps_are_left_alone(ctx: Context, root: Path) -> None:
    wiki(root)
    before = snapshot(root)
    calls: dict[str, Callable[[], int]] = {
        "pinned": lambda: catalogue.pin(ctx, WIKI, pinned=True),
        "unpinned": lambda: catalogue.pin(ctx, WIKI, pinned=False),
        "removed": lambda: catalogue.remove(ctx, WIKI, yes=True),
    }
    for word, call in calls.items():
        with pytest.raises(KdumpError, match=f"{WIKI}: not {word}: it is a dump of ArchWiki") as error:
            call()
        assert error.value.hint == "use that program's own tools, or rm"
    lock = paths.LOCK[1:]
    assert {name: facts for name, facts in snapshot(root).items() if name not in (lock, "run")} == before


def test_remove(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = put(root)
    older(root)
    assert catalogue.remove(ctx, NAME, yes=True) == 0
    assert not home.exists() and [entry.id for entry in read(ctx)] == [OLDER]
    assert capsys.readouterr().out.startswith(f"==> removing the dump {HOME}/{NAME} (0.1 MiB): asked for")


@pytest.mark.parametrize(("answer", "code"), [(b"\n", 0), (b"y\n", 0), (b"n\n", 1), (b"", 1), (b"what\n", 1)])
def test_remove_asks(
    ctx: Context,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    answer: bytes,
    code: int,
) -> None:
    home = put(root)
    with standard_input(answer), open(0, closefd=False) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert catalogue.remove(ctx, "2026", yes=False) == code
    assert home.exists() is bool(code)
    out = capsys.readouterr().out
    assert out.startswith(f":: Remove {HOME}/{NAME} (") and ("nothing was removed" in out) is bool(code)


def test_remove_refuses(ctx: Context, root: Path) -> None:
    home = put(root, tree={**WHOLE, "pinned": ""})
    put(root, f"{NAME}.2", {"meta": "format=1\nresult=started\n"}, at=CRASHED - 5)
    before = snapshot(root / "var")
    for match, words in (
        (NAME, "pinned, left alone"),
        (f"{NAME}.2", "being written just now"),
        ("2026", "2 dumps match 2026"),
        ("nothing", "no dump matches"),
    ):
        with pytest.raises(KdumpError, match=words):
            catalogue.remove(ctx, match, yes=True)
    assert snapshot(root / "var") == before and home.exists()
    with pytest.raises(KdumpError) as error:
        catalogue.remove(ctx, NAME, yes=False)  # and nobody is asked
    assert error.value.hint == f"kdump-pkg unpin {NAME}"


def test_one_that_was_renamed(ctx: Context, root: Path) -> None:
    """It can be read, but nothing happens to it."""
    put(root).rename(root / "copy")
    assert find(ctx, "/copy").release == RELEASE
    with pytest.raises(KdumpError, match="/copy: not removed: it was renamed"):
        catalogue.remove(ctx, "/copy", yes=True)
    with pytest.raises(KdumpError, match="/copy: not pinned: it was renamed"):
        catalogue.pin(ctx, "/copy", pinned=True)
    assert (root / "copy/vmcore").exists() and not (root / "copy/pinned").exists()


def test_what_others_put_into_it_stays(ctx: Context, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = put(root, tree={**WHOLE, "notes": "x"})
    assert catalogue.remove(ctx, NAME, yes=True) == 0
    assert [path.name for path in home.iterdir()] == ["notes"]
    assert "stays, with what is not of the dump: notes" in capsys.readouterr().out


def test_under_the_lock(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    monkeypatch.setattr(reconcile, "WAIT", 0)
    calls: tuple[Callable[[], int], ...] = (
        lambda: catalogue.remove(ctx, NAME, yes=True),
        lambda: catalogue.pin(ctx, NAME, pinned=True),
    )
    with fs.lock(ctx.path(paths.LOCK)):
        for call in calls:
            with pytest.raises(KdumpError, match="another kdump-pkg is at work"):
                call()
    assert not read(ctx)[0].pinned


def test_what_is_not_there_has_a_remedy(ctx: Context) -> None:
    with pytest.raises(KdumpError) as error:
        catalogue.find(ctx, Config(targets=(TargetWish(),)), "/nowhere")
    assert error.value.message == "/nowhere: can't be read: No such file or directory"
    assert error.value.hint == catalogue.LIST


def test_no_match_at_all_is_named(ctx: Context, root: Path) -> None:
    put(root)
    with pytest.raises(KdumpError, match="no dump matches an empty word"):
        catalogue.find(ctx, Config(targets=(TargetWish(),)), "")


@pytest.mark.parametrize(
    ("size", "encrypted", "core", "state"),
    [
        (100_000, "no", "vmcore", "complete"),
        (99_999, "no", "vmcore", "damaged"),
        (0, "no", "vmcore", "damaged"),
        (0, "", "vmcore", "damaged"),
        (99_999, "yes", "vmcore.age", "damaged"),
        (99_999, "yes", "vmcore", "complete"),  # decrypted by somebody
        (99_999, "", "vmcore", "complete"),
    ],
)
def test_what_has_become_shorter_is_damaged(
    ctx: Context, root: Path, size: int, encrypted: str, core: str, state: str
) -> None:
    """Without a look into it: `meta` says how much was written."""
    steps = "step_vmcore=exit=124 seconds=3 bytes=7\nstep_vmcore_2=exit=0 seconds=4 bytes=100000\n"
    put(root, tree={"meta": f"format=1\nencrypted={encrypted}\n{steps}result=complete\n", core: bytes(size)})
    assert find(ctx, NAME).state == state


def test_a_bad_configuration_keeps_nothing_from_being_read(
    ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What changes something needs a good one."""

    def bad(ctx: Context) -> Config:
        raise ConfigError(("/etc/kdump-pkg.conf:1: unknown option \x1b[31m", "more"))

    put(root)
    monkeypatch.setattr(config, "load", bad)
    assert catalogue.show_list(ctx, None, as_json=True) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)[0]["id"] == NAME
    why = "/etc/kdump-pkg.conf:1: unknown option \\x1b[31m"
    assert said.err == f"==> WARNING: the configuration can't be used, so only /var/crash is looked through: {why}\n"
    with pytest.raises(ConfigError):
        catalogue.pin(ctx, NAME, pinned=True)


def test_a_disk_that_cannot_be_written_has_a_remedy(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    put(root)
    monkeypatch.setattr(os, "fsync", read_only)
    with pytest.raises(KdumpError) as error:
        catalogue.pin(ctx, NAME, pinned=True)
    assert error.value.message == f"{HOME}/{NAME}: not pinned: Read-only file system"
    assert error.value.hint == "mount it read-write and run it again"
