"""`collect` after a boot: traces into the list, their places cleared, dumps pruned; nothing said where nothing was."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import cli, fs, paths, reports
from kdump_pkg.apply import vmlinux
from kdump_pkg.collect import collect as verb
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import trace
from kdump_pkg.facts.dumps import read_dumps
from kdump_pkg.model.crash import Crash, Report
from kdump_pkg.model.dumps import Entry as DumpEntry
from kdump_pkg.plan import announcement
from kdump_pkg.run import SystemRunner
from tests import docs
from tests.fakes import Answer, Call, FakeRunner, LiveContext, make_tree, snapshot, system_tree
from tests.unit.test_facts_trace import LINE, PMSG, TEXT, record, variable
from tests.unit.test_pstore import efi
from tests.vmcores import BUILD_ID, INFO, RELEASE, Kdump

SAID = f"==> a crash on 2026-11-23 07:46:54 UTC (6.12.1-arch1-1) could not be saved: {TEXT}"
META = "format=1\nresult=complete\n"
DUMP = f"2026-11-23T07-46-50Z-{RELEASE}"
KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
LOG = f"""\
[  100.000000] sysrq: Trigger a crash
[  100.000001] Kernel panic - not syncing: sysrq triggered crash
[  100.000002] CPU: 0 UID: 0 PID: 321 Comm: bash Not tainted {RELEASE} #1 PREEMPT
[  100.000003] Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2 04/01/2014
[  100.000004] Call Trace:
[  100.000005]  <TASK>
[  100.000006]  panic+0x339/0x350
[  100.000007]  sysrq_handle_crash+0x1a/0x20
[  100.000008]  __handle_sysrq.cold+0x8f/0xd8
[  100.000009]  write_sysrq_trigger+0x62/0x80
[  100.000010]  proc_reg_write+0x5a/0xa0
[  100.000011]  vfs_write+0xf5/0x430
[  100.000012]  </TASK>
[  101.000000] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""


@pytest.fixture
def system(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> Path:
    make_tree(root, system_tree() | {"/etc/kdump-pkg.conf": "keep_free = 0\n", paths.COLLECT_LOCK: ""})
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: FakeRunner()(*args, **kwargs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.chdir(root)  # see test_prune.here
    return root


def collect(root: Path, capsys: pytest.CaptureFixture[str], *more: str) -> list[str]:
    assert cli.main(["collect", "--root", str(root), *more]) == 0
    return capsys.readouterr().out.splitlines()


def test_nothing_to_do_nothing_said(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.RECORD: record()})
    before = snapshot(system)
    assert collect(system, capsys) == []
    assert snapshot(system) == before
    assert json.loads("".join(collect(system, capsys, "--json"))) == {
        "traces": [], "test": None, "records": [], "reports": [], "dumps": [], "failures": [],
    }  # fmt: skip


def test_efi_variable(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"{paths.EFI_VARIABLES}/Boot0000-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    make_tree(system, {paths.EFI_TRACE: variable(LINE), other: "x"})
    assert collect(system, capsys) == [f"{SAID} [EFI variable]", "==> cleared for the next one: EFI variable"]
    assert [p.name for p in (system / paths.EFI_VARIABLES[1:]).iterdir()] == [other.rsplit("/", 1)[1]]
    assert [t.text for t in trace.read_traces(Context(system))] == [TEXT]
    assert collect(system, capsys) == []


def test_record_is_blanked_in_its_place(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.RECORD: record(LINE)})
    inode = (system / paths.RECORD[1:]).stat().st_ino
    assert collect(system, capsys) == [f"{SAID} [record]", "==> cleared for the next one: record"]
    assert (system / paths.RECORD[1:]).read_bytes() == record()
    assert (system / paths.RECORD[1:]).stat().st_ino == inode
    assert collect(system, capsys) == []


def test_pstore_is_left_to_systemd(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {PMSG: f"kdump-pkg-trace: {LINE}"})
    assert collect(system, capsys) == [f"{SAID} [pstore]"]
    assert collect(system, capsys) == []
    make_tree(system, {f"{paths.PSTORE_ARCHIVE}/1/pmsg-ramoops-0": f"kdump-pkg-trace: {LINE}"})
    (system / PMSG[1:]).unlink()
    assert collect(system, capsys) == []
    assert len(trace.read_collected(Context(system))) == 1


def test_what_dropped_out_of_the_list_is_not_new(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What systemd-pstore archived lies there for ever."""
    lines = [f"kdump-pkg-trace: kdump-pkg 1 {1795420014 + n} 6.12 text" for n in range(25)]
    make_tree(system, {f"{paths.PSTORE_ARCHIVE}/{n}/pmsg-ramoops-0": line for n, line in enumerate(lines)})
    assert len(collect(system, capsys)) == 20
    assert collect(system, capsys) == []


def test_rubbish_is_cleared_but_not_kept(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.EFI_TRACE: variable("\x1b[31m"), paths.RECORD: record("rubbish")})
    assert collect(system, capsys) == [f"==> cleared for the next one: {what}" for what in ("EFI variable", "record")]
    assert not (system / paths.TRACES[1:]).exists()


def test_json(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE)})
    told = json.loads("".join(collect(system, capsys, "--json")))
    assert told["traces"] == [{"time": 1795420014, "release": "6.12.1-arch1-1", "text": TEXT, "source": "EFI variable"}]


def test_nothing_is_cleared_that_is_not_kept(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE), paths.RECORD: record(LINE)})
    before = snapshot(system)

    def no_room(*args: object) -> None:
        raise KdumpError("no room")

    monkeypatch.setattr(fs, "write_atomic", no_room)
    assert cli.main(["collect", "--root", str(system)]) == 1
    assert snapshot(system) == before


def test_killed_between_keeping_and_clearing(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE)})
    with monkeypatch.context() as patch:
        patch.setattr(fs, "clear_immutable", lambda path: (_ for _ in ()).throw(KeyboardInterrupt))
        assert cli.main(["collect", "--root", str(system)]) == 1
    capsys.readouterr()
    assert collect(system, capsys) == ["==> cleared for the next one: EFI variable"]
    assert len(trace.read_collected(Context(system))) == 1


def test_a_variable_that_can_not_be_removed(
    system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE)})

    def refuse(fd: int, request: int, argument: object) -> bytes:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    assert cli.main(["collect", "--root", str(system)]) == 1
    assert "Operation not permitted" in capsys.readouterr().err
    assert len(trace.read_collected(Context(system))) == 1  # it is not lost


def test_then_it_prunes(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"2026-11-0{day}T00-00-00Z-6.12.1" for day in range(1, 8)]
    make_tree(system, {f"/var/crash/{name}/meta": META for name in names})
    said = [line for line in collect(system, capsys) if "removing" in line]
    assert [re.sub(r" \(.*\)", "", line) for line in said] == [
        f"==> removing the dump /var/crash/{name}: more than 5 dumps" for name in names[:2]
    ]
    assert [dump.name for dump in read_dumps(Context(system), "/var/crash")] == names[2:]


def test_a_bad_configuration_does_not_lose_the_trace(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE), "/etc/kdump-pkg.conf": "nonsense\n"})
    assert cli.main(["collect", "--root", str(system)]) == 1
    assert "/etc/kdump-pkg.conf:1" in capsys.readouterr().err
    assert len(trace.read_collected(Context(system))) == 1


# --- reports ----------------------------------------------------------------------------------------------------------


class Live:
    """The running system, as far as `collect` looks: its programs answer, and what it tells them is kept."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.capsys = capsys
        self.entries: list[dict[str, str]] = []
        self.runner = FakeRunner({
            "logger": self._log, "prlimit": self._dump, sys.executable: json.dumps({"tasks": 97, "fault": ""}),
        })  # fmt: skip

    def _log(self, call: Call) -> Answer:
        lines = (call.stdin or b"").decode().split("\n")
        assert lines.pop() == ""
        assert all(re.match(r"[A-Z_]+=", line) for line in lines), lines
        self.entries.append(dict(line.split("=", 1) for line in lines))
        return 0

    def _dump(self, call: Call) -> Answer:
        Path(call.argv[-1]).write_bytes((Path(call.argv[-2]).parent / "dmesg.txt").read_bytes())
        return 0

    def add(self, name: str = DUMP, log: str = LOG) -> Path:
        make_tree(self.root, {
            f"/var/crash/{name}/vmcore": Kdump(info=INFO).build(), f"/var/crash/{name}/dmesg.txt": log,
            f"/var/crash/{name}/meta": f"format=1\nrelease={RELEASE}\nbuild_id={BUILD_ID}\nresult=complete\n",
        })  # fmt: skip
        return self.root / "var/crash" / name

    def collect(self, code: int = 0) -> list[str]:
        ctx = LiveContext(self.root, self.runner)
        assert verb(ctx, as_json=False) == code
        said = self.capsys.readouterr()
        self.errors = said.err
        return said.out.splitlines()

    @property
    def notice(self) -> list[str]:
        path = self.root / paths.NOTICE[1:]
        return path.read_text().split("\n") if path.exists() else []


@pytest.fixture
def live(system: Path, capsys: pytest.CaptureFixture[str]) -> Live:
    mounted = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    make_tree(system, {"/proc/self/mountinfo": mounted})
    return Live(system, capsys)


def test_a_new_dump_is_reported_once(live: Live) -> None:
    home = live.add()
    said = live.collect()
    assert any("sysrq" in line.lower() and RELEASE in line for line in said), said
    assert any(line.endswith(f"; its dump is /var/crash/{DUMP}") for line in said), said
    assert {path.name for path in home.iterdir()} == {
        "dmesg.txt", "meta", "vmcore", "report.json", "report.sums", "report.txt",
    }  # fmt: skip
    assert all((home / f"report.{kind}").stat().st_mode & 0o777 == 0o600 for kind in ("json", "sums", "txt"))
    (entry,) = live.entries
    assert entry["MESSAGE_ID"] == announcement.MESSAGE_ID
    assert entry["PRIORITY"] == "2"
    assert entry["KDUMP_DUMP"] == DUMP
    assert entry["KDUMP_PATH"] == f"/var/crash/{DUMP}"
    assert entry["KDUMP_RELEASE"] == RELEASE
    assert entry["KDUMP_STATE"] == "complete"
    assert entry["KDUMP_KIND"] == "sysrq"
    assert entry["KDUMP_MODULE"] == ""
    assert live.notice[0] == DUMP and live.notice[1] == entry["MESSAGE"]
    assert (live.root / paths.NOTICE[1:]).stat().st_mode & 0o777 == 0o644
    (live.root / paths.NOTICE[1:]).unlink()
    assert live.collect() == []
    assert len(live.entries) == 1 and live.notice == []


def test_a_report_that_was_asked_for_is_no_check(live: Live) -> None:
    """`kdump-pkg report` may have been faster than the unit."""
    home = live.add()
    live.collect()
    report = json.loads((home / "report.json").read_text())
    (home / "report.json").write_text(json.dumps(report | {"verification": None}))
    live.collect()
    assert len(live.entries) == 2


def test_what_an_older_version_reported_is_read_again(live: Live) -> None:
    """Else the same crash would not be known again where signatures are made otherwise now."""
    old = live.add(f"2026-11-21T00-00-00Z-{RELEASE}")
    live.collect()
    report = json.loads((old / "report.json").read_text())
    was = report["verification"]
    report["crash"]["signature"], report["made_by"] = "0" * 16, "0.0.1"
    (old / "report.json").write_text(json.dumps(report))
    assert live.collect() == []
    home = live.add()
    live.collect()
    assert json.loads((home / "report.json").read_text())["seen"] == [old.name]
    assert json.loads((old / "report.json").read_text())["verification"] == was
    assert len(live.entries) == 2


def test_two_at_once_tell_of_it_once(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.add()
    monkeypatch.setattr("kdump_pkg.reconcile.WAIT", 0)
    with fs.lock(live.root / paths.COLLECT_LOCK[1:]):
        live.collect(code=1)
    assert "another kdump-pkg is at work" in live.errors and not live.entries
    live.collect()
    assert len(live.entries) == 1


def test_a_full_disk_does_not_hush_it(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.add()
    write = fs.write_atomic

    def full(path: Path, *args: Any) -> None:
        if "report." in path.name:
            raise KdumpError(f"{path}: no room", hint="free some space and run it again")
        write(path, *args)

    monkeypatch.setattr(fs, "write_atomic", full)
    live.collect(code=1)
    assert "report.sums: no room" in live.errors and "report.json: no room" in live.errors
    assert live.entries[0]["KDUMP_KIND"] == "sysrq" and live.notice[0] == DUMP


def test_what_is_damaged_is_said_and_logged(live: Live) -> None:
    home = live.add()
    (home / "vmcore").write_bytes((home / "vmcore").read_bytes()[:-10])
    said = live.collect()
    assert any(line.startswith("==> the dump is damaged: ") and "truncated" in line for line in said), said
    assert live.entries[0]["KDUMP_STATE"] == "damaged"
    assert "truncated" in live.entries[0]["KDUMP_DAMAGE"]


def test_the_newest_first_and_a_few_in_a_run(live: Live) -> None:
    names = [f"2026-11-2{day}T00-00-00Z-{RELEASE}" for day in range(1, 6)]
    for name in names:
        live.add(name)
    live.collect()
    assert [entry["KDUMP_DUMP"] for entry in live.entries] == names[:1:-1]
    assert live.notice[0] == names[-1]
    live.collect()
    assert [entry["KDUMP_DUMP"] for entry in live.entries[3:]] == names[1::-1]


def test_an_encrypted_one_is_reported_by_what_is_known_without_the_key(live: Live) -> None:
    sealed = "age-encryption.org/v1\nx"
    meta = f"format=1\nrelease={RELEASE}\ncrash_time=1795420010\nencrypted=yes\nresult=complete\n"
    files = {"meta": meta, "vmcore.age": sealed, "dmesg.txt.age": sealed}
    make_tree(live.root, {f"/var/crash/{DUMP}/{name}": data for name, data in files.items()})
    assert any("encrypted" in line for line in live.collect())
    home = live.root / "var/crash" / DUMP
    assert "vmcore.age" in (home / "report.sums").read_text()
    assert json.loads((home / "report.json").read_text())["verification"]["checks"][0]["state"] == "ok"
    assert live.entries[0]["KDUMP_RELEASE"] == RELEASE
    assert live.collect() == []


def test_foreign_ones_are_left_alone(live: Live) -> None:
    make_tree(live.root, {"/var/crash/202611232136/dmesg.202611232136": LOG, "/var/crash/crashdump-2026-11-23": b"x"})
    before = snapshot(live.root / "var/crash")
    assert live.collect() == []
    assert snapshot(live.root / "var/crash") == before


def test_nothing_in_a_log_makes_a_field(live: Live) -> None:
    """Neither of its own, nor a command to a terminal: what runs in the kernel chooses its names itself."""
    evil = "evil\x1b[31m\rMESSAGE_ID=x"
    live.add(
        log=LOG.replace("Comm: bash", f"Comm: {evil}").replace(
            "sysrq triggered crash", f"x\x1b[2J\x0b\x85PRIORITY=7 {evil}"
        )
    )
    live.collect()
    (entry,) = live.entries
    assert entry["PRIORITY"] == "2" and entry["MESSAGE_ID"] == announcement.MESSAGE_ID
    assert all(value.isprintable() for value in entry.values())
    assert all(line.isprintable() for line in live.notice)


def test_one_that_fails_stops_nothing(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"2026-11-2{day}T00-00-00Z-{RELEASE}" for day in range(1, 4)]
    for name in names:
        live.add(name)
    old = [f"2026-10-0{day}T00-00-00Z-{RELEASE}" for day in range(1, 4)]
    for name in old:
        live.add(name)
    make = reports.make

    def fail(ctx: Context, entry: DumpEntry, *args: Any, **kwargs: Any) -> Any:
        if entry.id == names[2]:
            raise RuntimeError("a bug\x1b[31m\nof two lines")
        if entry.id == names[1]:
            raise KdumpError("no room")
        return make(ctx, entry, *args, **kwargs)

    monkeypatch.setattr(reports, "make", fail)
    said = live.collect(code=1)
    assert [entry["KDUMP_DUMP"] for entry in live.entries] == [names[0]]
    assert f"{names[2]}: RuntimeError: a bug [31m of two lines" in live.errors
    assert "==> ERROR: no room" in live.errors
    assert any(f"removing the dump /var/crash/{old[0]}" in line for line in said)
    assert live.notice[0] == names[0]


@pytest.mark.parametrize("broken", ["catalogue.read", "pstore.read_records"])
def test_a_bug_does_not_stop_retention(live: Live, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    for day in range(1, 7):
        live.add(f"2026-11-2{day}T00-00-00Z-{RELEASE}")

    def fail(*args: object) -> None:
        raise RecursionError("a bug")

    monkeypatch.setattr(f"kdump_pkg.collect.{broken}", fail)
    assert any("removing the dump" in line for line in live.collect(code=1))
    assert "RecursionError: a bug" in live.errors


@pytest.mark.parametrize("program", ["logger", "prlimit", sys.executable])
def test_without_a_program(live: Live, program: str) -> None:
    """A report without an entry is better than none; what wasn't checked is told in it."""
    home = live.add()
    del live.runner.answers[program]
    live.collect(code=program == "logger")
    report = json.loads((home / "report.json").read_text())
    states = {check["name"]: check["state"] for check in report["verification"]["checks"]}
    assert states["log"] == ("skipped" if program == "prlimit" else "ok")
    assert states["tasks"] == ("skipped" if program == sys.executable else "ok")
    assert ("logger: not found" in live.errors) is (program == "logger")


def test_killed_after_the_sums(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has changed since doesn't become what it is held against."""
    home = live.add()
    with monkeypatch.context() as patch:
        patch.setattr(reports, "make", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            live.collect()
    (home / "dmesg.txt").write_text(LOG + "changed\n")
    assert any("dmesg.txt has changed" in line for line in live.collect())


def test_in_another_root_nobody_here_is_told(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {f"/var/crash/{DUMP}/meta": META, f"/var/crash/{DUMP}/dmesg.txt": LOG})
    told = json.loads("".join(collect(system, capsys, "--json")))
    (one,) = told["reports"]
    assert one["id"] == DUMP and RELEASE in one["sentence"]
    assert not (system / paths.NOTICE[1:]).exists()


def test_a_vmlinux_is_made_for_the_traces(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    live.add()
    asked: list[tuple[str, str]] = []

    def ensure(ctx: Context, release: str, build_id: str, report: object) -> Path:
        asked.append((release, build_id))
        return Path("/usr/lib/debug/made")

    monkeypatch.setattr(vmlinux, "ensure", ensure)
    live.collect()
    assert asked == [(RELEASE, BUILD_ID)]
    assert any(line.endswith("/usr/lib/debug/made") for line in live.runner.lines(sys.executable))


def test_a_crash_that_left_nothing_is_told_to_the_desktop(live: Live) -> None:
    make_tree(live.root, {paths.RECORD: record(LINE)})
    live.collect()
    assert live.notice[0] == "" and TEXT in live.notice[1]


# --- logs in pstore ---------------------------------------------------------------------------------------------------


def test_a_log_in_pstore_becomes_a_dump(live: Live) -> None:
    make_tree(live.root, efi(log=LOG))
    name = f"2026-11-23T07-46-54Z-{RELEASE}"
    said = live.collect()
    assert f"==> a crash left its log in pstore (efi_pstore): /var/crash/{name}" in said
    home = live.root / "var/crash" / name
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "dmesg.txt").read_text() == LOG
    assert (home / "dmesg.txt").stat().st_mode & 0o777 == 0o600
    meta = (home / "meta").read_text().splitlines()
    assert meta[0] == "format=1" and meta[-1] == "result=dmesg"
    assert {f"release={RELEASE}", "crash_time=1795420014", "origin=pstore"} <= set(meta)
    assert live.entries[0]["KDUMP_STATE"] == "dmesg only"
    assert (home / "report.json").exists()


def test_once_even_when_it_was_removed(live: Live) -> None:
    """systemd's archive stays for ever; a dump that was pruned must not come back of it."""
    make_tree(live.root, efi(log=LOG))
    live.collect()
    assert live.collect() == []
    fs.remove_tree(live.root / "var/crash" / f"2026-11-23T07-46-54Z-{RELEASE}")
    assert live.collect() == []
    assert len(live.entries) == 1


def test_of_a_crash_that_has_a_dump_there_is_no_other(live: Live) -> None:
    live.add()
    make_tree(live.root, efi(log=LOG.rpartition("[  101.0")[0]))
    live.collect()
    assert [path.name for path in (live.root / "var/crash").iterdir()] == [DUMP]


def test_of_a_crash_that_has_an_encrypted_dump_neither(live: Live) -> None:
    sealed = "age-encryption.org/v1\nx"
    meta = f"format=1\nrelease={RELEASE}\ncrash_time=1795420010\nresult=complete\n"
    files = {"meta": meta, "vmcore.age": sealed, "dmesg.txt.age": sealed}
    make_tree(live.root, {f"/var/crash/{DUMP}/{name}": data for name, data in files.items()})
    make_tree(live.root, efi(log=LOG))
    live.collect()
    assert [path.name for path in (live.root / "var/crash").iterdir()] == [DUMP]


def test_another_crash_of_the_same_day_is_another(live: Live) -> None:
    live.add()
    make_tree(live.root, efi(log=LOG.replace("[  10", "[  20"), time=1795420014 + 3000))
    live.collect()
    assert len(list((live.root / "var/crash").iterdir())) == 2


@pytest.mark.parametrize("release", ["", "\x1b[31m", "../../etc"])
def test_of_an_unknown_kernel(live: Live, release: str) -> None:
    make_tree(live.root, efi(log=LOG.replace(RELEASE, release)))
    live.collect()
    (home,) = (live.root / "var/crash").iterdir()
    assert home.name == "2026-11-23T07-46-54Z-unknown"


def test_encrypted_like_everything_else(live: Live) -> None:
    make_tree(live.root, {"/etc/kdump-pkg.conf": f"encrypt_to = {KEY}\nkeep_free = 0\n"} | efi(log=LOG))
    live.runner.answers["age"] = "age-encryption.org/v1\nsealed"
    live.collect()
    (home,) = (live.root / "var/crash").iterdir()
    assert {path.name for path in home.iterdir()} >= {"dmesg.txt.age", "meta"}
    assert not (home / "dmesg.txt").exists()
    assert live.runner.lines("age") == [f"age -r {KEY}"]


def test_it_can_not_be_kept_and_is_tried_again(live: Live) -> None:
    make_tree(live.root, {"/etc/kdump-pkg.conf": f"encrypt_to = {KEY}\nkeep_free = 0\n"} | efi(log=LOG))
    live.collect(code=1)
    assert "age: not found" in live.errors
    assert list((live.root / "var/crash").iterdir()) == []
    live.runner.answers["age"] = "age-encryption.org/v1\nsealed"
    live.collect()
    assert len(list((live.root / "var/crash").iterdir())) == 1


def test_killed_before_meta(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(live.root, efi(log=LOG))
    write = fs.write_atomic

    def killed(path: Path, *args: Any) -> None:
        if path.name == "meta":
            raise KeyboardInterrupt
        write(path, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fs, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            live.collect()
    live.collect()
    (home,) = (live.root / "var/crash").iterdir()
    assert (home / "meta").exists() and (home / "report.json").exists()


def test_no_place_for_it(live: Live) -> None:
    (live.root / "var/crash").rmdir()
    make_tree(live.root, efi(log=LOG))
    live.collect(code=1)
    assert "no target is mounted" in live.errors
    make_tree(live.root, {"/var/crash": None})
    live.collect()
    assert len(list((live.root / "var/crash").iterdir())) == 1


# --- its unit ---------------------------------------------------------------------------------------------------------


def test_the_catalog_is_of_the_same_entry() -> None:
    text = (docs.REPO / "systemd/kdump-pkg.catalog").read_text(encoding="utf-8")
    assert re.findall(r"^-- (\S+)$", text, re.MULTILINE) == [announcement.MESSAGE_ID]
    named = set(re.findall(r"@(KDUMP_[A-Z]+)@", text))
    entry = DumpEntry("id", "/path", "kdump-pkg", 1)
    known = {name for name, _ in announcement.fields(entry, Report("id", 1, "", Crash()))}
    assert named <= known, "journalctl shows the name of a field that isn't there"


def test_the_unit_never_runs_in_a_capture_and_never_delays_a_boot() -> None:
    text = (docs.REPO / "systemd/kdump-pkg-collect.service").read_text(encoding="utf-8")
    lines = set(text.splitlines())
    assert {"ConditionPathExists=!/proc/vmcore", "ExecStart=/usr/bin/kdump-pkg collect"} <= lines
    assert {"WantedBy=multi-user.target", "Type=oneshot"} <= lines
    after = re.search(r"^After=(.*)$", text, re.MULTILINE)
    assert after and {"local-fs.target", "multi-user.target"} <= set(after[1].split())
    assert "Before=" not in text
