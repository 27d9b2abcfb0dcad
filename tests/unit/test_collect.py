"""`collect` after a boot: traces into the list, their places cleared, dumps pruned; nothing said where nothing was."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from pathlib import Path

import pytest

from kdump_pkg import cli, fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import trace
from kdump_pkg.facts.dumps import read_dumps
from kdump_pkg.run import SystemRunner
from tests import docs
from tests.fakes import FakeRunner, make_tree, snapshot, system_tree
from tests.unit.test_facts_trace import LINE, PMSG, TEXT, record, variable

SAID = f"==> a crash on 2026-11-23 07:46:54 UTC (6.12.1-arch1-1) could not be saved: {TEXT}"
META = "format=1\nresult=complete\n"


@pytest.fixture
def system(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> Path:
    make_tree(root, system_tree() | {"/etc/kdump-pkg.conf": "keep_free = 0\n"})
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
        "traces": [], "test": None, "dumps": [], "failures": [],
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
    said = collect(system, capsys)
    assert [re.sub(r" \(.*\)", "", line) for line in said] == [
        f"==> removing the dump /var/crash/{name}: more than 5 dumps" for name in names[:2]
    ]
    assert [dump.name for dump in read_dumps(Context(system), "/var/crash")] == names[2:]


def test_a_bad_configuration_does_not_lose_the_trace(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {paths.EFI_TRACE: variable(LINE), "/etc/kdump-pkg.conf": "nonsense\n"})
    assert cli.main(["collect", "--root", str(system)]) == 1
    assert "/etc/kdump-pkg.conf:1" in capsys.readouterr().err
    assert len(trace.read_collected(Context(system))) == 1


def test_the_unit_never_runs_in_a_capture_and_never_delays_a_boot() -> None:
    text = (docs.REPO / "systemd/kdump-pkg-collect.service").read_text(encoding="utf-8")
    lines = set(text.splitlines())
    assert {"ConditionPathExists=!/proc/vmcore", "ExecStart=/usr/bin/kdump-pkg collect"} <= lines
    assert {"WantedBy=multi-user.target", "Type=oneshot"} <= lines
    after = re.search(r"^After=(.*)$", text, re.MULTILINE)
    assert after and {"local-fs.target", "multi-user.target"} <= set(after[1].split())
    assert "Before=" not in text
