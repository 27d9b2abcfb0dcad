"""What `status` reads besides the facts of a plan: the running kernel's configuration and settings, records, dumps."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.facts import boot, health
from kdump_pkg.facts.dumps import read_newest, read_since
from kdump_pkg.facts.kconfig import OPTIONS, read_kconfig
from kdump_pkg.facts.records import read_rehearsed, read_test
from kdump_pkg.model import Boot, Config, Space, TargetWish
from kdump_pkg.model.health import CrashTest, Health, LastDump, Rehearsed
from tests.fakes import RELEASE, Entry, FakeRunner, Link, LiveContext, facts, live_boot, make_tree, system_tree, target

HOME = "/var/crash"
FIRST = f"2026-11-22T07-46-54Z-{RELEASE}"
SECOND = f"2026-11-23T07-46-54Z-{RELEASE}"
TIME = 1_795_420_014
"""That of SECOND."""
META = f"format=1\nrelease={RELEASE}\ncrash_time={TIME}\nsaved_time={TIME + 42}\nresult=complete\n"
REHEARSED = Rehearsed(TIME, "ab" * 32, RELEASE, "192M", True, "", 192 << 20, 90_000, 31.5)
TEST = CrashTest("c0ffee00", "b007", TIME, RELEASE)


@pytest.fixture
def live(root: Path, monkeypatch: pytest.MonkeyPatch) -> LiveContext:
    """A whole system that takes itself for the running one."""
    make_tree(
        root,
        system_tree()
        | {
            "/proc/1/root": Link("/"),
            "/proc/1/environ": "",
            "/proc/self/ns/pid": "",
            "/proc/cmdline": "rw\n",
            "/proc/sys/kernel/random/boot_id": "1b007\n",
        },
    )
    monkeypatch.setattr(boot, "INITIAL_PID_NAMESPACE", (root / "proc/self/ns/pid").stat().st_ino)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return LiveContext(root=root, runner=FakeRunner({"/bin/bash": ""}))


def read(ctx: Context, entries: dict[str, Entry] | None = None, config: Config | None = None, **changes: Any) -> Health:
    make_tree(ctx.root, entries or {})
    return health.read_health(ctx, config or Config(), facts(**changes))


# --- the running kernel ----------------------------------------------------------------------------------------------

BUILT = (
    b"# CONFIG_X is not set\nCONFIG_CRASH_DUMP=y\nCONFIG_KEXEC=m\n# CONFIG_KEXEC_FILE is not set\nCONFIG_KEXEC_SIG=y\n"
)


@pytest.mark.parametrize(
    ("entries", "source"),
    [
        ({"/proc/config.gz": gzip.compress(BUILT)}, "/proc/config.gz"),
        ({f"/boot/config-{RELEASE}": BUILT}, f"/boot/config-{RELEASE}"),
        ({"/proc/config.gz": b"", f"/boot/config-{RELEASE}": BUILT}, f"/boot/config-{RELEASE}"),
    ],
)
def test_kernel_configuration(ctx: Context, entries: dict[str, Entry], source: str) -> None:
    make_tree(ctx.root, entries)
    found, where = read_kconfig(ctx, RELEASE)
    assert where == source
    assert found == dict.fromkeys(OPTIONS, "n") | {"CRASH_DUMP": "y", "KEXEC": "m"}


@pytest.mark.parametrize(
    "entries", [{}, {"/proc/config.gz": b"x"}, {"/boot/config-": BUILT}, {"/proc/config.gz": None}]
)
def test_no_kernel_configuration(ctx: Context, entries: dict[str, Entry]) -> None:
    make_tree(ctx.root, entries)
    assert read_kconfig(ctx, "") == (None, "")


def test_of_this_boot(live: LiveContext) -> None:
    iomem = (
        "00001000-0009ffff : System RAM\n  2a000000-35ffffff : Crash kernel\n"
        "100000000-43fffffff : System RAM\n  43e000000-43effffff : Crash kernel\n"
    )
    found = read(
        live,
        {
            "/proc/iomem": iomem, "/proc/config.gz": gzip.compress(BUILT), "/proc/sys/kernel/panic_on_oops": "1\n",
            "/proc/sys/kernel/sysrq": "16\n", "/proc/sys/kernel/hostname": "x\n",
        },
    )  # fmt: skip
    assert found.placed == ((0x2A000000, 0x35FFFFFF), (0x43E000000, 0x43EFFFFFF))
    assert found.sysctls == {"kernel.panic_on_oops": "1", "kernel.sysrq": "16"}
    assert found.boot_id == "1b007"
    assert (found.kconfig_source, (found.kconfig or {})["CRASH_DUMP"]) == ("/proc/config.gz", "y")
    assert found.privileged and found.surroundings.live


def test_anybody_but_root_sees_no_places(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = read(live, {"/proc/iomem": "  00000000-00000000 : Crash kernel\n"})
    assert (found.placed, found.privileged) == ((), False)


def test_of_another_root_nothing_is_asked_of_this_kernel(ctx: Context) -> None:
    entries: dict[str, Entry] = {"/proc/config.gz": gzip.compress(BUILT), "/proc/sys/kernel/random/boot_id": "x"}
    found = read(ctx, system_tree() | entries, boot=Boot(confined="in a chroot"))
    assert (found.boot_id, found.kconfig, found.sysctls, found.placed) == ("", None, {}, ())


def test_an_empty_root(ctx: Context) -> None:
    found = read(ctx, boot=Boot(confined="in a chroot"))
    assert (found.loaders, found.rehearsed, found.test, found.last_dump) == ((), None, None, None)


def test_what_grub_reads_is_read(live: LiveContext) -> None:
    entry = "menuentry 'Arch Linux' {\n\tlinux /vmlinuz-linux root=UUID=1 rw crashkernel=192M\n}\n"
    made = f"### BEGIN /etc/grub.d/10_linux ###\n{entry}"
    default = 'GRUB_CMDLINE_LINUX_DEFAULT="quiet crashkernel=192M"\n'
    there: dict[str, Entry] = {"/etc/default/grub": default, "/boot/grub/grub.cfg": made, "/usr/bin/grub-mkconfig": ""}
    found = read(live, there)
    assert [loader.name for loader in found.loaders] == ["grub"]
    assert [line.entry for read in found.results.values() for line in read] == ["Arch Linux"]


# --- records ---------------------------------------------------------------------------------------------------------


def test_records(live: LiveContext) -> None:
    found = read(live, {paths.REHEARSED: json.dumps(asdict(REHEARSED)), paths.CRASH_TEST: json.dumps(asdict(TEST))})
    assert (found.rehearsed, found.test) == (REHEARSED, TEST)


BAD: list[object] = [
    "", "nonsense", "[]", "null", "{}", '{"time": 1}',
    asdict(REHEARSED) | {"more": 1}, asdict(REHEARSED) | {"time": "soon"}, asdict(REHEARSED) | {"time": True},
    asdict(REHEARSED) | {"captured": 1}, asdict(REHEARSED) | {"release": None}, asdict(REHEARSED) | {"seconds": "1"},
    asdict(REHEARSED) | {"least_kib": 1.5}, asdict(REHEARSED) | {"reason": ["x"]},
]  # fmt: skip


@pytest.mark.parametrize("value", BAD)
def test_a_damaged_record_is_none(ctx: Context, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    make_tree(ctx.root, {paths.REHEARSED: text, paths.CRASH_TEST: text})
    assert (read_rehearsed(ctx), read_test(ctx)) == (None, None)


def test_nothing_need_be_known_of_the_time_or_the_memory(ctx: Context) -> None:
    make_tree(ctx.root, {paths.REHEARSED: json.dumps(asdict(REHEARSED) | {"least_kib": None, "seconds": 3})})
    found = read_rehearsed(ctx)
    assert found and (found.least_kib, found.seconds) == (None, 3)


@pytest.mark.parametrize("result", ["", "gone", "Pending"])
def test_a_test_has_one_of_three_results(ctx: Context, result: str) -> None:
    make_tree(ctx.root, {paths.CRASH_TEST: json.dumps(asdict(TEST) | {"result": result})})
    assert read_test(ctx) is None


# --- dumps and room --------------------------------------------------------------------------------------------------


def test_the_newest_of_all_targets(live: LiveContext) -> None:
    wishes = (TargetWish(), TargetWish("uuid=1", "/crash"))
    there: dict[str, Entry] = {f"{HOME}/{FIRST}/meta": "format=1\nresult=dmesg\n", f"/mnt/crash/{SECOND}/meta": META}
    there[f"/mnt/crash/{SECOND}/vmcore"] = "x"
    targets = (target(name="root"), target(name="uuid=1", mounted="/mnt/crash"))
    found = read(live, there, Config(targets=wishes), targets=targets)
    assert found.last_dump == LastDump(f"/mnt/crash/{SECOND}", TIME, RELEASE, "complete", 42)
    assert set(found.spaces) == {"root", "uuid=1"}


@pytest.mark.parametrize(
    ("report", "damaged"),
    [
        ('{"verification": {"checks": [{"state": "ok"}, {"state": "bad"}]}}', True),
        ('{"verification": {"checks": [{"state": "ok"}]}}', False),
        ('{"verification": {"checks": [1, [2]]}}', False),
        ('{"verification": null}', False),
        ("[1", False),
        ("[" * 100_000, False),
    ],
)
def test_whether_it_was_found_damaged(ctx: Context, report: str, damaged: bool) -> None:
    tree: dict[str, Entry] = {"meta": META, "vmcore": "x", "report.json": report}
    make_tree(ctx.root, {f"{HOME}/{SECOND}/{name}": data for name, data in tree.items()})
    found = read_newest(ctx, HOME)
    assert found and found.damaged == damaged


@pytest.mark.parametrize("vmcore", ["", None])
def test_memory_that_is_gone_since(ctx: Context, vmcore: str | None) -> None:
    make_tree(
        ctx.root, {f"{HOME}/{SECOND}/meta": META} | ({} if vmcore is None else {f"{HOME}/{SECOND}/vmcore": vmcore})
    )
    found = read_newest(ctx, HOME)
    assert found and found.damaged


def test_without_its_times_a_dump_has_that_of_its_name(ctx: Context) -> None:
    make_tree(ctx.root, {f"{HOME}/{SECOND}/meta": "format=1\nresult=rubbish\ncrash_time=x\n"})
    assert read_newest(ctx, HOME) == LastDump(f"{HOME}/{SECOND}", TIME, RELEASE, "", None)


@pytest.mark.parametrize("saved", [TIME - 1, TIME + 90_000, "", "9" * 40])
def test_a_clock_that_was_set_says_nothing_of_how_long_it_took(ctx: Context, saved: object) -> None:
    make_tree(ctx.root, {f"{HOME}/{SECOND}/meta": f"format=1\ncrash_time={TIME}\nsaved_time={saved}\n"})
    found = read_newest(ctx, HOME)
    assert found and found.seconds is None


@pytest.mark.parametrize("tree", [{}, {HOME: None}, {f"{HOME}/{SECOND}/meta": "no"}, {f"{HOME}/{SECOND}": Link("/x")}])
def test_no_dump(ctx: Context, tree: dict[str, Entry]) -> None:
    make_tree(ctx.root, tree)
    assert read_newest(ctx, HOME) is None


def test_what_is_none_of_ours_hides_no_dump(ctx: Context) -> None:
    make_tree(ctx.root, {f"{HOME}/2027-01-01T00-00-00Z-x/meta": "theirs", f"{HOME}/{SECOND}/meta": META})
    found = read_newest(ctx, HOME)
    assert found and found.path == f"{HOME}/{SECOND}"


@pytest.mark.parametrize(
    ("log", "has"),
    [
        ({"dmesg.txt": "kdump-pkg: crash test c0ffee00\n"}, True),
        ({"dmesg.txt": "kdump-pkg: crash test c0ffee01\n"}, False),
        ({"dmesg.txt.age": "kdump-pkg: crash test c0ffee00\n"}, None),
        ({"dmesg.txt": Link("/etc/fstab")}, None),
        ({"dmesg.txt": None}, None),
        ({}, None),
    ],
)
def test_whether_a_log_has_a_word(ctx: Context, log: dict[str, Entry], has: bool | None) -> None:
    make_tree(ctx.root, {f"{HOME}/{SECOND}/meta": META} | {f"{HOME}/{SECOND}/{name}": e for name, e in log.items()})
    make_tree(ctx.root, {"/etc/fstab": "kdump-pkg: crash test c0ffee00\n"})
    found = read_since(ctx, HOME, TIME - 5, b"kdump-pkg: crash test c0ffee00")
    assert [one[1] for one in found] == [has]


def test_only_those_since_then_are_looked_at(ctx: Context) -> None:
    make_tree(ctx.root, {f"{HOME}/{name}/meta": "format=1\n" for name in (FIRST, SECOND)})
    assert [dump.path for dump, _ in read_since(ctx, HOME, TIME)] == [f"{HOME}/{SECOND}"]
    assert len(read_since(ctx, HOME, 0)) == 2
    assert len(read_since(ctx, HOME, 0, most=1)) == 1


def test_room_of_a_directory_that_is_not_made_yet(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def space(ctx: Context, directory: str) -> Space:
        asked.append(directory)
        return Space(2, 1)

    monkeypatch.setattr("kdump_pkg.facts.dumps.read_space", space)
    wishes = (TargetWish("root", "/var/lib/none/crash"), TargetWish("uuid=1"))
    targets = (target(name="root"), target(name="uuid=1"))
    found = read(live, config=Config(targets=wishes), targets=targets, boot=live_boot())
    assert (asked, found.spaces) == (["/var/lib"], {"root": Space(2, 1)})
