"""What `setup` decides: which boot loader, how much, which bytes, what the record keeps, and how it is undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kdump_pkg.errors import KdumpError
from kdump_pkg.model.bootloader import (
    CommandLine,
    Insert,
    Loader,
    Place,
    Result,
    ResultLine,
    Stretch,
    Surroundings,
    TextFile,
)
from kdump_pkg.model.setup import Change, Record, SetupPlan, digest, dump, load, settled, with_generated
from kdump_pkg.plan.diff import unified
from kdump_pkg.plan.hangs import sysctl_file
from kdump_pkg.plan.reservation import Amount, Here, candidates, choose, decide, lacking, plan_setup
from kdump_pkg.plan.undo import Now, plan_undo
from tests.setups import CONFIG, DEFAULTS, LIVE, MAKE, SUM, toy

A, B = "/boot/loader/entries/a.conf", "/boot/loader/entries/b.conf"
GIB = 1 << 30
CFG = Result(CONFIG, "grub.cfg")


def named(name: Any, **changes: Any) -> Loader:
    return Loader(name, name, f"{name} is there", **changes)


# --- which --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loaders", "wanted", "name"),
    [
        ((named("grub"),), None, "grub"),
        ((named("grub"), named("limine", booted=True)), None, "limine"),
        ((named("grub"), named("limine", booted=True)), "grub", "grub"),
        ((named("grub"), named("limine")), "limine", "limine"),
    ],
)
def test_choose(loaders: tuple[Loader, ...], wanted: str | None, name: str) -> None:
    assert choose(loaders, wanted).name == name


@pytest.mark.parametrize(
    ("loaders", "wanted", "message", "hint"),
    [
        ((), None, "no boot loader was found", "mount /boot"),
        ((), "grub", "grub isn't here", "mount /boot"),
        ((named("grub"),), "limine", "limine isn't here", "here is grub"),
        ((named("grub"), named("limine")), None, "grub is there.*limine is there", "--loader grub"),
        ((named("grub", booted=True), named("uki", booted=True), named("limine")), None, "grub.*uki", "--loader grub"),
    ],
)
def test_never_guessed(loaders: tuple[Loader, ...], wanted: str | None, message: str, hint: str) -> None:
    with pytest.raises(KdumpError, match=message) as caught:
        choose(loaders, wanted)
    assert hint in (caught.value.hint or "")


def test_candidates() -> None:
    here = (named("grub"), named("limine"))
    assert candidates(here) == here
    assert [c.name for c in candidates((*here, named("uki", booted=True)))] == ["uki"]


# --- how much -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "wished", "memory", "amount"),
    [
        ("rw", (), GIB, (("104M",), False, "crashkernel=104M, by the estimate")),
        ("rw crashkernel=256M", (), GIB, (("256M",), False, "stays: 256 MiB, where the estimate is 100 MiB")),
        ("rw crashkernel=64M", (), GIB, (("64M",), False, "stays: 64 MiB are less than the 100 MiB")),
        ("rw crashkernel=64M", (), None, (("64M",), False, "stays: 64 MiB are less than the 100 MiB")),
        ("crashkernel=1G-:256M", (), 2 * GIB, (("1G-:256M",), False, "stays: 256 MiB")),
        ("crashkernel=4G-:256M", (), 2 * GIB, (("4G-:256M",), False, "stays: 0 MiB are less")),
        ("crashkernel=1G-:256M", (), None, (("1G-:256M",), False, "depends on the machine's memory")),
        ("crashkernel=256M", ("128M",), GIB, (("128M",), True, "128M, as asked for: 128 MiB")),
        ("rw", ("300M,high", "64M,low"), GIB, (("300M,high", "64M,low"), True, "as asked for: 300 MiB")),
        ("rw", ("64M", "64M,cma"), GIB, (("64M,cma", "64M"), True, "as asked for: 128 MiB")),
        ("rw", ("64M",), GIB, (("64M",), True, "to change it: kdump-pkg setup --crashkernel 104M")),
    ],
)
def test_decide(line: str, wished: tuple[str, ...], memory: int | None, amount: tuple[Any, ...]) -> None:
    loader = toy({A: f"options {line}\n".encode()})
    got = decide(loader, wished, SUM, memory)
    assert (got.values, got.replace) == amount[:2]
    assert amount[2] in got.notes[0]


def test_entries_that_differ_are_said() -> None:
    loader = toy({A: b"options crashkernel=256M\n", B: b"options crashkernel=128M\noptions x\n"})
    got = decide(loader, (), SUM, GIB)
    assert got.values == ("256M",)
    assert "other entries have crashkernel=128M" in got.notes[1]


@pytest.mark.parametrize(
    ("line", "wished", "message"),
    [
        ("rw", ("1X",), "not a size"),
        ("rw", ("256M", "nonsense"), "not a size"),
        ("rw", ("٢٥٦M",), "not a size"),
        ("rw", ("0M",), "reserves nothing"),
        ("rw", ("256",), "less than 1 MiB"),
        ("rw", ("64M,cma",), "reserves nothing"),
        ("rw", ("4G-:256M",), "reserves nothing"),
        ("rw", ("2G",), "this machine has 1024 MiB in all"),
        ("crashkernel=lots", (), "systemd-boot: crashkernel=lots: not a size"),
    ],
)
def test_refused_values(line: str, wished: tuple[str, ...], message: str) -> None:
    with pytest.raises(KdumpError, match=message) as caught:
        decide(toy({A: f"options {line}\n".encode()}), wished, SUM, GIB)
    assert caught.value.hint


# --- what is done -------------------------------------------------------------------------------------------------

WISH = Amount(("256M",), True, ())
GENTLE = Amount(("256M",), False, ())


def plan(loader: Loader, amount: Amount = WISH, around: Surroundings = LIVE, **here: Any) -> SetupPlan:
    return plan_setup(loader, around, amount, Here(**here))


def test_edits_of_own_entries_alone() -> None:
    made = plan(toy({A: b"title x\r\noptions rw quiet\r\n", B: b"options root=other rw\n"}))
    assert made.changes == (
        Change(A, b"title x\r\noptions rw quiet\r\n", b"title x\r\noptions rw quiet crashkernel=256M\r\n"),
    )
    assert made.reboot
    assert made.notes == (f"{B}:1 is left alone: it starts another system",)
    assert made.record and made.record.values == ("256M",)


def test_nothing_to_do() -> None:
    made = plan(toy({A: b"options rw crashkernel=256M\n"}), units={"kdump.service": True, "x": None})
    assert made.empty
    assert made.record is None
    around = replace(LIVE, cmdline="rw crashkernel=256M")
    loader = toy({A: b"options rw crashkernel=256M\n"})
    assert not plan(loader, around=around).reboot
    assert plan(loader, around=replace(around, cmdline="rw crashkernel=128M")).reboot
    assert not plan(loader, around=Surroundings()).reboot


def test_units_that_are_off() -> None:
    loader = toy({A: b"options crashkernel=256M\n"})
    made = plan(loader, units={"kdump.service": False, "on": True, "unknown": None})
    assert made.enable == ("kdump.service",)
    assert made.record and made.record.units == ("kdump.service",)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (named("grub", problem="/boot isn't mounted: mount /boot"), "grub: /boot isn't mounted: mount /boot"),
        (toy({A: b"options other\n"}), "none of its entries starts this system .*another system"),
        (named("limine"), "none of its entries starts this system$"),
    ],
)
def test_refused_loaders(loader: Loader, message: str) -> None:
    with pytest.raises(KdumpError, match=message):
        plan(loader)


@pytest.mark.parametrize(
    ("arguments", "amount", "commands"),
    [
        ("root=x rw", GENTLE, 1),
        ("root=x rw crashkernel=256M", GENTLE, 0),
        ("root=x rw crashkernel=128M", GENTLE, 0),
        ("root=x rw crashkernel=128M", WISH, 1),
        ("root=x rw crashkernel=256M", WISH, 0),
    ],
)
def test_by_hand(arguments: str, amount: Amount, commands: int) -> None:
    path = "NVRAM:Boot0001"
    line = CommandLine("Arch", (Stretch(path, 0, len(arguments), 1),))
    files = (TextFile(path, arguments.encode()),)
    loader = named("efistub", files=files, lines=(line,), manual=("efibootmgr --unicode 'root=x {}' {x}",))
    made = plan(loader, amount, units={"kdump.service": False})
    assert made.manual == ("efibootmgr --unicode 'root=x crashkernel=256M' {x}",) * commands
    assert made.enable == ("kdump.service",)
    assert not made.changes


def grub(data: bytes) -> Loader:
    return toy({DEFAULTS: data}, name="grub", title="GRUB", regenerate=(MAKE,), results=(CFG,))


@pytest.mark.parametrize(
    ("data", "generated", "amount", "runs"),
    [
        (b"options rw\n", "rw", WISH, True),
        (b"options rw crashkernel=256M\n", "rw", WISH, True),  # killed before, or never generated
        (b"options rw crashkernel=256M\n", None, WISH, False),  # not root: can't be known
        (b"options rw crashkernel=256M\n", "rw crashkernel=256M", WISH, False),
        (b"options rw crashkernel=128M\n", "rw crashkernel=128M", GENTLE, False),
        (b"options rw crashkernel=128M\n", "rw crashkernel=128M", WISH, True),
    ],
)
def test_generated_anew_where_needed(data: bytes, generated: str | None, amount: Amount, runs: bool) -> None:
    results = {CFG: None if generated is None else (ResultLine("Arch", generated),)}
    made = plan(grub(data), amount, results=results, generated={CONFIG: b"old"})
    assert made.commands == ((MAKE,) if runs else ())
    if runs:
        assert made.record and [(g.path, g.original, g.ours) for g in made.record.generated] == [(CONFIG, b"old", "")]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([("Arch", "rw crashkernel=256M", None)], None),
        ([("Arch", "rw crashkernel=1G-:1M crashkernel=256M", None)], None),
        ([("Arch", "rw crashkernel=128M", None)], None),
        (
            [
                ("Arch", "rw crashkernel=256M", None),
                ("Windows", "", "no Linux"),
                ("old", "single", "it is for recovery"),
            ],
            None,
        ),
        (
            [("Arch", "rw crashkernel=256M", None), ("LTS", "rw", None)],
            "crashkernel=256M did not come to the entry LTS",
        ),
        ([("Arch", "rw crashkernel=2560M", None)], "did not come to the entry Arch of /boot/toy/grub.cfg"),
        ([("Windows", "", "no Linux")], "has no entry that starts this system"),
        ([], "has no entry that starts this system"),
    ],
)
def test_lacking(lines: list[tuple[str, str, str | None]], problem: str | None) -> None:
    found = lacking({CFG: tuple(ResultLine(*line) for line in lines)}, [("256M",), ("128M",)])
    assert (problem in (found or "")) if problem else found is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        ({"live": True}, False),
        ({"roots": frozenset({"PARTUUID=b"})}, False),
    ],
)
def test_entries_with_different_roots(changes: dict[str, Any], said: bool) -> None:
    """Another Arch on the same ESP, seen from a chroot: its entries get it too, which has to be said."""
    loader = toy({A: b"options root=PARTUUID=a rw\n", B: b"options root=PARTUUID=b rw\n"})
    made = plan_setup(loader, Surroundings(**changes), WISH, Here())
    words = "which of root=PARTUUID=a, root=PARTUUID=b is this system can't be seen from here: all get it"
    assert (words in made.notes) == said


# --- the record ---------------------------------------------------------------------------------------------------

FIRST = b"# mine\noptions rw quiet\n"


def once(data: bytes, amount: Amount = WISH, record: Record | None = None) -> tuple[bytes, Record]:
    """A run of setup on a file."""
    made = plan(toy({A: data}), amount, record=record)
    assert made.record
    return made.changes[0].after or b"", settled(made.record)


def undone(data: bytes | None, record: Record) -> SetupPlan:
    loaders = (toy({A: data}),) if data is not None else ()
    return plan_undo(record, loaders, Now(dump(record), {A: data}))


def test_record_is_what_was_recorded() -> None:
    record = Record(
        "grub", ("1M", "2M,low"), once(b"\xff\0\noptions x\n")[1].files, units=("kdump.service",), sysctl=True
    )
    record = with_generated(record, "grub", {"/b": b"\x80", "/n": None}, {"/b": b"y", "/n": b"z"})
    assert load(dump(record)) == record
    assert [(g.path, g.original, g.ours) for g in record.generated] == [
        ("/b", b"\x80", digest(b"y")),
        ("/n", None, digest(b"z")),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"version": 2}', b"\xff", b"[" * 100_000,
        dump(Record("grub", ())).replace(b'"version": 1', b'"version": 9'),
        dump(Record("grub", ())).replace(b'"grub"', b"7"),
        dump(Record("grub", ())).replace(b'"units": []', b'"units": "kdump"'),
        dump(once(FIRST)[1]).replace(b'"original": "', b'"original": "!'),
        dump(once(FIRST)[1])[:-20],
    ],
)  # fmt: skip
def test_a_damaged_record_is_said(data: bytes) -> None:
    with pytest.raises(KdumpError, match="damaged") as caught:
        load(data)
    assert "by hand" in (caught.value.hint or "")


def test_undo_gives_the_first_bytes() -> None:
    data, record = once(FIRST)
    assert data == b"# mine\noptions rw quiet crashkernel=256M\n"
    assert undone(data, record).changes == (Change(A, data, FIRST),)
    assert undone(FIRST, record).empty


def test_another_value_later_keeps_the_first_bytes() -> None:
    data, record = once(FIRST)
    data, record = once(data, Amount(("128M", "64M,low"), True, ()), record)
    assert b"rw quiet crashkernel=128M crashkernel=64M,low\n" in data
    assert undone(data, record).changes == (Change(A, data, FIRST),)


def test_what_was_replaced_comes_back() -> None:
    first = b"options rw crashkernel=1G-:64M quiet\n"
    data, record = once(first)
    assert data == b"options rw crashkernel=256M quiet\n"
    again, twice = once(data, Amount(("128M",), True, ()), record)
    for now, known in ((data, record), (again, twice)):
        assert undone(now, known).changes == (Change(A, now, first),)
        edited = now.replace(b"quiet", b"quiet splash") + b"# new\n"
        change = undone(edited, known).changes[0]
        assert change.after == first.replace(b"quiet", b"quiet splash") + b"# new\n"


@pytest.mark.parametrize(
    ("edit", "left"),
    [
        ((b"rw", b"ro"), b"# mine\noptions ro quiet\n"),
        ((b"# mine", b"# mine\n# more"), b"# mine\n# more\noptions rw quiet\n"),
        ((b"quiet ", b""), b"# mine\noptions rw\n"),
    ],
)
def test_between_two_runs_the_user_edits(edit: tuple[bytes, bytes], left: bytes) -> None:
    data, record = once(FIRST)
    assert undone(data.replace(*edit), record).changes[0].after == left
    data, record = once(data.replace(*edit), Amount(("128M",), True, ()), record)
    assert b"crashkernel=128M" in data
    assert undone(data, record).changes == (Change(A, data, left),)


def test_an_entry_that_came_later() -> None:
    data, record = once(FIRST)
    data, record = once(data + b"options rw debug\n", GENTLE, record)
    assert data.count(b"crashkernel=256M") == 2
    assert undone(data, record).changes == (Change(A, data, FIRST + b"options rw debug\n"),)


def test_killed_before_the_second_edit() -> None:
    data, record = once(FIRST)
    made = plan(toy({A: data}), Amount(("128M",), True, ()), record=record)
    assert made.record
    for now in (data, made.changes[0].after):  # the record is there, the file old or new
        assert undone(now, made.record).changes == (Change(A, now, FIRST),)
    edited = data + b"# more\n"
    assert undone(edited, made.record).changes == (Change(A, edited, FIRST + b"# more\n"),)


@pytest.mark.parametrize(
    ("now", "note"),
    [
        (None, f"{A} is gone"),
        (b"# mine\noptions rw\n", "nothing of ours is left"),
        (b"# mine\noptions rw crashkernel=512M\n", "nothing of ours is left"),
    ],
)
def test_nothing_of_ours_left(now: bytes | None, note: str) -> None:
    made = undone(now, once(FIRST)[1])
    assert made.empty
    assert any(note in said for said in made.notes)


def test_a_file_that_we_made_goes() -> None:
    line = CommandLine(A, (), (Insert(A, 0, b"options ", b"\n"),))
    made = plan(named("uki", files=(TextFile(A, None),), lines=(line,)))
    assert made.changes == (Change(A, None, b"options crashkernel=256M\n"),)
    assert made.record
    for now in (b"options crashkernel=256M\n", b"options crashkernel=256M\n\n"):
        loader = toy({A: now}, name="uki")
        assert plan_undo(made.record, (loader,), Now(b"", {A: now})).changes == (Change(A, now, None),)
    now = b"options rw crashkernel=256M\n"
    loader = toy({A: now}, name="uki")
    assert plan_undo(made.record, (loader,), Now(b"", {A: now})).changes == (Change(A, now, b"options rw\n"),)


def test_a_boot_loader_that_went() -> None:
    data, record = once(FIRST)
    made = plan_undo(record, (), Now(b"", {A: data}))
    assert made.changes == (Change(A, data, FIRST),)
    assert any("isn't here any more" in note for note in made.notes)
    with pytest.raises(KdumpError, match="mount"):
        plan_undo(record, (toy({A: data}, problem="not mounted: mount it"),), Now(b"", {A: data}))


def test_a_file_on_what_is_not_mounted_is_not_gone() -> None:
    record = once(FIRST)[1]
    for place, said in (
        (Place("/boot", "esp", mounted=False), "not mounted"),
        (Place("/boot", readonly=True), "read-only"),
    ):
        with pytest.raises(KdumpError, match=said):
            plan_undo(record, (), Now(b"", {A: None}, around=Surroundings(places=(place,))))


def test_undo_of_units_and_sysctl() -> None:
    record = replace(once(FIRST)[1], units=("a", "b", "c"))
    back = Change("/etc/sysctl.d/x", b"", None)
    made = plan_undo(record, (), Now(b"", {A: FIRST}, units={"a": True, "b": False}, sysctl=back))
    assert made.disable == ("a",)
    assert made.sysctl == back


@pytest.mark.parametrize(
    ("now", "restored", "commands"),
    [
        ({CONFIG: b"new"}, [(CONFIG, b"old")], 0),
        ({CONFIG: b"old"}, [], 0),
        ({CONFIG: b"other"}, [], 1),
        ({CONFIG: None}, [], 1),
        ({CONFIG: b"new", "/boot/toy/more": b""}, [], 1),
    ],
)
def test_undo_of_what_was_generated(now: dict[str, bytes | None], restored: list[Any], commands: int) -> None:
    made = plan(grub(FIRST), generated={CONFIG: b"old"})
    assert made.record
    record = settled(with_generated(made.record, "grub", {CONFIG: b"old"}, {CONFIG: b"new"}))
    data = made.changes[0].after
    back = plan_undo(record, (grub(data or b""),), Now(b"", {DEFAULTS: data}, {"grub": now}))
    assert [(change.path, change.after) for change in back.restored] == restored
    assert len(back.commands) == commands
    assert back.changes == (Change(DEFAULTS, data, FIRST),)


def test_generated_by_others_in_between() -> None:
    """The first content is out of date then: an undo generates it anew."""
    record = with_generated(Record("grub", ()), "grub", {CONFIG: b"old"}, {CONFIG: b"ours"})
    record = with_generated(record, "grub", {CONFIG: b"theirs"})
    record = with_generated(record, "grub", {CONFIG: b"theirs"}, {CONFIG: b"ours again"})
    assert [g.ours for g in record.generated] == [""]
    same = with_generated(Record("grub", ()), "grub", {CONFIG: b"old"}, {CONFIG: b"ours"})
    same = with_generated(same, "grub", {CONFIG: b"ours"}, {CONFIG: b"ours again"})
    assert [(g.original, g.ours) for g in same.generated] == [(b"old", digest(b"ours again"))]
    assert with_generated(same, "grub", {CONFIG: b"ours again"}, {CONFIG: b"old"}).generated == ()


@pytest.mark.parametrize(
    ("source", "image", "runs"),
    [
        (FIRST, "rw quiet crashkernel=256M", True),  # killed between the file and the image
        (FIRST, "rw quiet", False),
        (FIRST.replace(b"quiet", b"quiet crashkernel=256M"), "rw quiet crashkernel=256M", True),
    ],
)
def test_undo_of_an_image(source: bytes, image: str, runs: bool) -> None:
    uki = Result("/efi/arch.efi", "uki")
    changes: dict[str, Any] = {"name": "uki", "regenerate": (MAKE,), "results": (uki,)}
    made = plan(toy({A: FIRST}, **changes))
    assert made.record and not made.record.generated
    results = {"uki": {uki: (ResultLine("arch", image),)}}
    back = plan_undo(made.record, (toy({A: source}, **changes),), Now(b"", {A: source}, results=results))
    assert bool(back.commands) == runs


# --- how it is shown ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (b"a\nb\n", b"a\nc\n", ["--- /f", "+++ /f", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]),
        (None, b"a\n", ["--- /dev/null", "+++ /f", "@@ -0,0 +1 @@", "+a"]),
        (b"a\n", None, ["--- /f", "+++ /dev/null", "@@ -1 +0,0 @@", "-a"]),
        (b"a", b"b", [*["--- /f", "+++ /f", "@@ -1 +1 @@"], "-a", "\\ No newline at end of file", "+b",
                      "\\ No newline at end of file"]),
        (b"a", b"a\n", ["--- /f", "+++ /f", "@@ -1 +1 @@", "-a", "\\ No newline at end of file", "+a"]),
        (b"a\r\n", b"b\r\n", ["--- /f", "+++ /f", "@@ -1 +1 @@", "-a", "+b"]),
        (b"\x1b[2J\xff\x07", b"\xc3\xa9\xc2\x9b\t\n",
         ["--- /f", "+++ /f", "@@ -1 +1 @@", "-\\x1b[2J\\xff\\x07", "\\ No newline at end of file", "+é\\x9b\t"]),
        ("\u202e\n".encode(), b"x\x0by\rz\n", ["--- /f", "+++ /f", "@@ -1 +1 @@", "-\\u202e", "+x\\x0by\\x0dz"]),
    ],
)  # fmt: skip
def test_diff(before: bytes | None, after: bytes | None, lines: list[str]) -> None:
    assert unified(Change("/f", before, after)).split("\n") == lines


def test_diff_of_a_strange_name() -> None:
    assert unified(Change("/a\n\x1b", b"", b"x\n")).startswith("--- /a\\n\\x1b\n+++")


@pytest.mark.parametrize(
    ("sysrq", "line"),
    [
        (None, "kernel.sysrq = 24"),
        (16, "kernel.sysrq = 24"),
        (438, "kernel.sysrq = 446"),
        (1, None),
        (8, None),
        (0, None),
    ],
)
def test_sysctl_file(sysrq: int | None, line: str | None) -> None:
    settings = [one for one in sysctl_file(sysrq).decode().splitlines() if one and not one.startswith("#")]
    always = ["kernel.panic_on_oops = 1", "kernel.hardlockup_panic = 1", "kernel.softlockup_panic = 1"]
    assert settings == [*always, *([line] if line else [])]
