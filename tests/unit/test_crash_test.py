"""A crash on purpose: never by accident, announced where the dump will show it, and settled after the reboot."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kdump_pkg import cli, crash_test, fs, paths, reconcile
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import boot
from kdump_pkg.facts.records import read_test
from kdump_pkg.model import Finding, Trace
from kdump_pkg.model.health import CrashTest, LastDump
from kdump_pkg.plan.status import Status
from kdump_pkg.run import SystemRunner
from tests.fakes import RELEASE, Entry, FakeRunner, Link, LiveContext, make_tree, snapshot, standard_input, system_tree
from tests.unit.test_facts_trace import LINE, PMSG

ARMED = Status(True, "armed: a crash now would be saved to /var/crash in about 42 s", (Finding("x", "ok", "y"),))
HOME = "/var/crash"
TIME = 1_795_420_014
DUMP = f"2026-11-23T07-46-54Z-{RELEASE}"
TEST = CrashTest("c0ffee00", "a007", TIME - 2, RELEASE)
SYSRQ, KMSG = crash_test.SYSRQ, crash_test.KMSG


@pytest.fixture
def live(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> LiveContext:
    """A running system that is armed, whose switches are files."""
    make_tree(
        root,
        system_tree()
        | {
            "/proc/1/root": Link("/"), "/proc/1/environ": "", "/proc/self/ns/pid": "",
            "/proc/sys/kernel/osrelease": f"{RELEASE}\n", "/proc/sys/kernel/random/boot_id": "b007\n",
            "/sys/kernel/kexec/crash_loaded": "1\n", "/sys/kernel/kexec/crash_size": "1\n",
            SYSRQ: "", KMSG: "",
        },
    )  # fmt: skip
    monkeypatch.setattr(boot, "INITIAL_PID_NAMESPACE", (root / "proc/self/ns/pid").stat().st_ino)
    monkeypatch.setattr(reconcile, "read_status", lambda *_: ARMED)
    monkeypatch.setattr(os, "sync", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return LiveContext(root=root, runner=FakeRunner({"logger": ""}), clock=lambda: float(TIME))


@contextmanager
def typing(text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with standard_input(text.encode()), open(0, closefd=False) as stdin, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        yield


def crash(live: LiveContext, monkeypatch: pytest.MonkeyPatch, text: str = "crash\n") -> str:
    """What it fails with; here the machine goes on."""
    with typing(text, monkeypatch), pytest.raises(KdumpError) as caught:
        crash_test.crash(live)
    return caught.value.message


def test_it_crashes(live: LiveContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    known: list[CrashTest | None] = []
    feed = fs.feed

    def fed(path: Path, data: bytes) -> None:
        order.append(path.name)
        known.append(read_test(live))
        feed(path, data)

    monkeypatch.setattr(fs, "feed", fed)
    monkeypatch.setattr(os, "sync", lambda: order.append("sync"))
    assert crash(live, monkeypatch) == "the kernel did not crash"
    assert order == ["kmsg", "sync", "sysrq-trigger"]
    assert (live.root / SYSRQ[1:]).read_bytes() == b"c"
    test = known[0]
    assert test is not None and known[1] == test  # it is on the disk before the machine goes
    assert (test.boot_id, test.time, test.release, test.result) == ("b007", TIME, RELEASE, "pending")
    assert len(bytes.fromhex(test.id)) == 4
    assert (live.root / KMSG[1:]).read_bytes() == f"<5>kdump-pkg: crash test {test.id}\n".encode()
    assert read_test(live) is None  # it didn't crash, so nothing is waited for
    said = capsys.readouterr().out
    for words in (
        "for real",
        "is lost",
        "would be saved to /var/crash in about 42 s",
        "reboots",
        "Type the word crash",
    ):
        assert words in said


@pytest.mark.parametrize("text", ["", "\n", "y\n", "yes\n", "Crash\n", "crash!\n"])
def test_only_the_word_does_it(live: LiveContext, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    before = snapshot(live.root)
    assert crash(live, monkeypatch, text) == "not confirmed; nothing was done"
    assert snapshot(live.root) == before


@pytest.mark.parametrize(
    ("status", "entries", "message"),
    [
        (Status(False, "not armed: x, next: y", ()), {}, "not armed: x, next: y"),
        (Status(False, "loaded, but a crash now would hardly be saved: x", ()), {}, "hardly be saved"),
        (ARMED, {"/proc/1/environ": "container=lxc\0"}, "in a container: it is the host that would crash"),
    ],
)
def test_only_what_would_be_saved_is_crashed(
    live: LiveContext, monkeypatch: pytest.MonkeyPatch, status: Status, entries: dict[str, Entry], message: str
) -> None:
    make_tree(live.root, entries)
    monkeypatch.setattr(reconcile, "read_status", lambda *_: status)
    before = snapshot(live.root)
    assert message in crash(live, monkeypatch)
    assert snapshot(live.root) == before


def test_a_root_is_never_crashed(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with typing("crash\n", monkeypatch), pytest.raises(KdumpError, match="is not the running system"):
        crash_test.crash(Context(live.root, live.runner))
    assert (live.root / SYSRQ[1:]).read_bytes() == b""


def test_without_sysrq(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    (live.root / SYSRQ[1:]).unlink()
    assert crash(live, monkeypatch) == "/proc/sysrq-trigger isn't there"


def test_not_while_somebody_builds(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    with fs.lock(live.path(paths.LOCK)):
        assert crash(live, monkeypatch) == "another kdump-pkg is at work"
    assert (live.root / SYSRQ[1:]).read_bytes() == b""


def test_what_was_unloaded_meanwhile(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def unload(*_: object) -> Status:
        (live.root / "sys/kernel/kexec/crash_loaded").write_text("0\n")
        return ARMED

    monkeypatch.setattr(reconcile, "read_status", unload)
    assert crash(live, monkeypatch) == "nothing is loaded any more"
    assert read_test(live) is None


def test_other_ends_are_said(
    live: LiveContext, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(live.root, {"/etc/kdump-pkg.conf": "final_action = poweroff\n"})
    crash(live, monkeypatch)
    assert "then the machine is switched off" in capsys.readouterr().out


# --- what became of it -----------------------------------------------------------------------------------------------


def dump(time: int = TIME, result: str = "complete", path: str = "/d", release: str = RELEASE) -> LastDump:
    return LastDump(path, time, release, result, 42)


TRACE = Trace(TIME, RELEASE, "target: no such device", "record")
SAVED = replace(TEST, result="saved", dump="/d", seconds=42)


def lost(reason: str, dump: str = "", *, certain: bool = True) -> CrashTest:
    return replace(TEST, result="lost", reason=reason, dump=dump, certain=certain)


NOTHING = lost("no dump of it is on any mounted target")


@pytest.mark.parametrize(
    ("found", "traces", "expected"),
    [
        pytest.param([(dump(), True)], [], SAVED, id="by its mark"),
        pytest.param([(dump(), True)], [TRACE], SAVED, id="a trace of another target"),
        pytest.param([(dump(TIME + 999), True)], [], SAVED, id="the mark counts, not the time"),
        pytest.param([(dump(path="/e"), False), (dump(), True)], [], SAVED, id="among others"),
        pytest.param([(dump(), None)], [], replace(SAVED, certain=False), id="encrypted"),
        pytest.param([(dump(release="unknown"), None)], [], replace(SAVED, certain=False), id="unknown release"),
        pytest.param([(dump(TIME + 3600), None)], [], NOTHING, id="encrypted, later"),
        pytest.param([(dump(TIME - 60), None)], [], NOTHING, id="encrypted, before"),
        pytest.param([(dump(release="9.9"), None)], [], NOTHING, id="encrypted, other kernel"),
        pytest.param([(dump(), False)], [], NOTHING, id="another crash"),
        pytest.param([(dump(result="dmesg", path="/e"), True), (dump(), True)], [], SAVED, id="the best of two"),
        pytest.param([(dump(result="dmesg"), True)], [], lost("only the log was saved", "/d"), id="log alone"),
        pytest.param(
            [(dump(result="partial"), True)], [], lost("only a part of the memory was saved", "/d"), id="in part"
        ),
        pytest.param([(dump(result=""), True)], [], lost("nobody knows how it was saved", "/d"), id="no result"),
        pytest.param(
            [(dump(result="started"), None)], [],
            lost("the saving was cut short at its beginning", "/d", certain=False), id="started",
        ),
        pytest.param([], [], NOTHING, id="nothing"),
        pytest.param([], [TRACE], lost("target: no such device"), id="a trace"),
        pytest.param([], [replace(TRACE, time=TIME - 99)], NOTHING, id="an older trace"),
        pytest.param([], [replace(TRACE, release="9.9")], NOTHING, id="a trace of another kernel"),
    ],
)  # fmt: skip
def test_judgement(found: list[tuple[LastDump, bool | None]], traces: list[Trace], expected: CrashTest) -> None:
    assert crash_test.judge(TEST, found, traces) == expected


@pytest.fixture
def after(live: LiveContext, monkeypatch: pytest.MonkeyPatch) -> LiveContext:
    """The same machine after the reboot."""
    make_tree(live.root, {paths.CRASH_TEST: json.dumps(asdict(TEST)), "/etc/kdump-pkg.conf": "keep_free = 0\n"})
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: FakeRunner()(*args, **kwargs))
    monkeypatch.setattr(cli, "_context", lambda args: live)
    monkeypatch.chdir(live.root)  # see test_prune.here
    return live


def collect(capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    assert cli.main(["collect", *more]) == 0
    return capsys.readouterr().out.splitlines()


META = f"format=1\nrelease={RELEASE}\ncrash_time={TIME}\nsaved_time={TIME + 42}\nresult=complete\n"
WHOLE: dict[str, Entry] = {
    f"{HOME}/{DUMP}/meta": META, f"{HOME}/{DUMP}/dmesg.txt": "[    9.9] kdump-pkg: crash test c0ffee00\n",
}  # fmt: skip


def test_collect_finds_it(after: LiveContext, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(after.root, WHOLE)
    assert collect(capsys)[0] == f"==> the crash test c0ffee00 was saved: {HOME}/{DUMP}"
    assert read_test(after) == replace(SAVED, dump=f"{HOME}/{DUMP}")
    make_tree(after.root, {paths.COLLECT_LOCK: ""})
    before = snapshot(after.root)
    assert collect(capsys) == []
    assert snapshot(after.root) == before


def test_collect_finds_a_trace(after: LiveContext, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(after.root, {PMSG: f"kdump-pkg-trace: {LINE}"})
    assert collect(capsys)[-1].startswith("==> the crash test c0ffee00 was lost: ")
    found = read_test(after)
    assert found and found.result == "lost" and found.reason in LINE


def test_a_target_that_is_mounted_later(after: LiveContext, capsys: pytest.CaptureFixture[str]) -> None:
    assert "was lost: no dump of it is on any mounted target" in collect(capsys)[0]
    assert collect(capsys) == []
    make_tree(after.root, WHOLE)
    assert "was saved" in collect(capsys)[0]


def test_in_the_same_boot_nothing_is_settled(after: LiveContext, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(after.root, {"/proc/sys/kernel/random/boot_id": "a007\n"})
    make_tree(after.root, {paths.COLLECT_LOCK: ""})
    before = snapshot(after.root)
    assert collect(capsys) == []
    assert snapshot(after.root) == before


def test_json(after: LiveContext, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(after.root, WHOLE)
    told = json.loads("".join(collect(capsys, "--json")))
    assert told["test"]["result"] == "saved"


@pytest.mark.parametrize("record", ["", "nonsense", "{}"])
def test_a_damaged_record_is_nobodys_concern(
    after: LiveContext, capsys: pytest.CaptureFixture[str], record: str
) -> None:
    make_tree(after.root, {paths.CRASH_TEST: record})
    assert collect(capsys) == []


def test_only_root_may(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["test"]) == 1
    assert capsys.readouterr().err == "==> ERROR: only root can do this (run it with sudo)\n"
