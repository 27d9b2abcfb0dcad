"""What goes wrong while a crash is saved, each a crash of its own: what is left, and that the machine comes back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg.apply.scratch import PARTITION
from kdump_pkg.plan.verdict import Dump, Verdict
from tests.lab import crash, packages
from tests.lab.crash import SMALL, Machine
from tests.lab.root import default_generator
from tests.lab.stacks import FS, MISSING, OTHER

pytestmark = pytest.mark.vm

FSTAB = f"UUID={FS} / ext4 rw 0 1\n"
CRASH = "Kernel panic - not syncing: sysrq triggered crash"

# A hook of the user's that lies in wait for the makedumpfile that writes the core, TIMES times.
AMBUSH = """#!/bin/sh
times={times}
lie_in_wait() {{
    while [ "$times" -gt 0 ]; do
        sleep 0.1
        for core in /run/kdump/target/*/*/*/vmcore.incomplete; do
            [ -s "$core" ] || continue
            for process in /proc/[0-9]*; do
                read -r name 2>/dev/null <"$process/comm" || continue
                [ "$name" = makedumpfile ] && [ "${{process#/proc/}}" != "$last" ] || continue
                last=${{process#/proc/}}
                kill -{signal} "$last" && times=$((times - 1))
                break
            done
        done
    done
}}
lie_in_wait >/dev/null 2>&1 &
"""
# It eats what memory there is once the log is safe on the disk.
GLUTTON = """#!/bin/sh
eat() {
    until [ -s "$1/vmcore.incomplete" ]; do sleep 0.1; done
    mount -o remount,size=100% /run
    exec cat /dev/zero >/run/eaten
}
eat "$1" >/dev/null 2>&1 &
"""


@pytest.fixture
def machine(lab: None) -> Iterator[Machine]:
    with crash.machine(default_generator(), "6.12") as one:
        yield one


def ambush(signal: str, times: int) -> dict[str, str]:
    return {"/etc/kdump-pkg/pre.d/ambush": AMBUSH.format(signal=signal, times=times)}


def rehearse(machine: Machine, **wish: Any) -> Verdict:
    """It rebooted by itself, whatever went wrong, and left the file systems in order."""
    verdict = machine.crash(replace(SMALL, **wish))
    assert verdict.seconds_panic_to_reboot is not None, verdict
    assert verdict.sound is not False, verdict.unsound
    return verdict


def result(dump: Dump) -> str:
    return dict(dump.meta)["result"]


def names(dump: Dump) -> set[str]:
    return {file.name for file in dump.files}


def free_bytes(disk: Path) -> int:
    """Of the ext4 in the partition of a kept disk."""
    argv = ["debugfs", "-R", "stats -h", f"{disk}?offset={PARTITION}"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    blocks, size = (re.search(rf"^{key}:\s+(\d+)$", text, re.MULTILINE) for key in ("Free blocks", "Block size"))
    assert blocks and size, text
    return int(blocks[1]) * int(size[1])


def section(uuid: str, more: str = "") -> str:
    return f"[target uuid={uuid}]\nfstype = ext4\npath = /var/crash\ndevice_timeout = 5\n{more}"


def test_missing_and_read_only_targets_cost_only_their_time(machine: Machine) -> None:
    machine.arm(section(MISSING) + section(OTHER) + "[target root]\n", fstab=FSTAB)
    verdict = rehearse(machine, break_target=("missing:1", "ro:2"))
    assert (verdict.captured, verdict.target_name) == (True, "root")
    missing, readonly, *_ = verdict.steps
    assert re.fullmatch(r"target exit=[1-9]\d* seconds=[5-8] bytes=0", missing)
    assert re.match(r"target_2 exit=[1-9]", readonly)
    assert [dump.target for dump in verdict.dumps] == [3]


def test_a_full_target_is_given_room_by_the_rules(machine: Machine, tmp_path: Path) -> None:
    """Three older dumps: one pinned, a large one, and the newest. Only the large one may go, and the dump needs it."""
    machine.arm("keep = 0\nkeep_free = 0\n", fstab=FSTAB)
    pinned, large, newest = (f"2020-01-01T00-0{n}-00Z-{packages.release('6.12')}" for n in range(3))
    files = (
        (f"/var/crash/{pinned}/pinned", b""),
        (f"/var/crash/{large}/vmcore", b"KDUMP   " * (40 << 17)),
        ("/var/crash/not-ours/meta", b"format=1\nresult=complete\n"),
    )
    kept = tmp_path / "kept"
    verdict = rehearse(machine, break_target=("dumps:1:3", "room:1:16M"), files=files, keep=kept)
    assert verdict.captured, verdict.reason
    left = {path.name for path in (kept / "targets/1/var/crash").iterdir() if path.is_dir()}
    assert left == {pinned, newest, "not-ours", verdict.directory}


def test_a_target_that_is_full_leaves_the_core_to_the_next(machine: Machine) -> None:
    machine.arm("keep_free = 0\n" + section(OTHER) + "[target root]\n", fstab=FSTAB)
    verdict = rehearse(machine, break_target=("full:1",))
    assert (verdict.captured, verdict.target_name) == (True, "root")
    first = next((dump for dump in verdict.dumps if dump.target == 1), None)
    assert first is None or result(first) in ("dmesg", "partial")


def test_a_target_that_fills_up_keeps_the_log_and_the_promised_room(machine: Machine, tmp_path: Path) -> None:
    machine.arm("keep_free = 4M\n", fstab=FSTAB)
    kept = tmp_path / "kept"
    verdict = rehearse(machine, break_target=("room:1:12M",), keep=kept)
    assert not verdict.captured
    (dump,) = verdict.dumps
    assert result(dump) in ("dmesg", "partial")
    assert CRASH in (dump.panic_line or "")
    assert names(dump).isdisjoint({"vmcore", "vmcore.incomplete"})
    assert "No space" in (kept / "console.log").read_text(), "it filled up while the core was written"
    assert free_bytes(kept / "disk-1-1.img") >= 4 << 20


def test_makedumpfile_killed_once(machine: Machine) -> None:
    machine.arm("", fstab=FSTAB, files=ambush("KILL", 1))
    verdict = rehearse(machine)
    assert verdict.captured, verdict.reason
    assert verdict.makedumpfile_readable
    assert any(step.startswith("vmcore exit=0") for step in verdict.steps)


def test_makedumpfile_killed_each_time_with_no_room_for_a_copy(machine: Machine, tmp_path: Path) -> None:
    machine.arm("keep_free = 0\n", fstab=FSTAB, files=ambush("KILL", 9))
    kept = tmp_path / "kept"
    verdict = rehearse(machine, break_target=("room:1:150M",), keep=kept)
    said = (kept / "console.log").read_text()
    assert said.count("was killed by signal 9") >= 2, said[-3000:]
    (dump,) = verdict.dumps
    assert result(dump) in ("dmesg", "partial")
    assert CRASH in (dump.panic_line or "")
    assert names(dump).isdisjoint({"vmcore", "vmcore.incomplete"})


def test_makedumpfile_hangs(machine: Machine, tmp_path: Path) -> None:
    machine.arm("step_timeout = 10\n", fstab=FSTAB, files=ambush("STOP", 1))
    kept = tmp_path / "kept"
    verdict = rehearse(machine, keep=kept)
    assert "did not end in time" in (kept / "console.log").read_text()
    assert verdict.captured, verdict.reason


def test_out_of_memory_in_the_capture(machine: Machine, tmp_path: Path) -> None:
    machine.arm("", fstab=FSTAB, files={"/etc/kdump-pkg/pre.d/glutton": GLUTTON})
    kept = tmp_path / "kept"
    verdict = rehearse(machine, keep=kept)
    assert not verdict.captured
    assert (verdict.reason or "").endswith("reserve more"), verdict.reason
    (dump,) = verdict.dumps
    assert CRASH in (dump.panic_line or ""), "the log was safe before"
    assert "vmcore" not in names(dump)
