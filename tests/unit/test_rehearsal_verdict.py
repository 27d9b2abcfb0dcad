"""What is made of a rehearsal: the disks decide whether it was a capture, the console says why not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kdump_pkg import rehearsal, ui
from kdump_pkg.plan.verdict import Dump, DumpFile, Ran, Read, Verdict, judge
from tests import fakes
from tests.rehearsals import CAPTURE, COMPLETE, CRASH, FILES, FIRST, GOOD, designed, ran
from tests.unit.test_rehearsal_console import TROUBLE


def judged(run: Ran, *dumps: Dump, read: Read = Read(), **changes: Any) -> Verdict:  # noqa: B008 - frozen
    return judge(designed(**changes), run, dumps, read)


def test_a_capture() -> None:
    verdict = judged(ran(*GOOD, seconds=12.34), COMPLETE)
    assert verdict.captured and verdict.reason is None and verdict.console_line is None
    assert (verdict.result, verdict.min_available_kib, verdict.makedumpfile_readable) == ("complete", 4000, True)
    assert (verdict.seconds_total, verdict.seconds_panic_to_reboot) == (12.3, 8.3)
    assert (verdict.reserved_bytes, verdict.load_method, verdict.controller) == (268435456, "-s", "virtio_blk")
    assert verdict.panic_line == CRASH
    assert ui.plain(verdict)["dump"][2] == {"name": "vmcore", "size": 40_000_000, "mode": 0o600}


def test_a_final_action_that_never_ends_is_timed_to_its_announcement() -> None:
    halted = ran(*GOOD[:-1], "kdump-save: final halt", seconds=13.0, timed_out=True)
    verdict = judged(halted, COMPLETE)
    assert verdict.captured
    assert verdict.seconds_panic_to_reboot == 5.0


def test_a_capture_that_hangs_in_the_end_says_so() -> None:
    verdict = judged(ran(*GOOD, seconds=600, timed_out=True), COMPLETE)
    assert verdict.captured and verdict.seconds_panic_to_reboot is None
    assert "it did not reboot" in rehearsal.report(verdict)


def saved(**changes: Any) -> Dump:
    return dataclasses.replace(COMPLETE, **changes)


@pytest.mark.parametrize(
    ("run", "found", "reason", "line"),
    [
        (ran(), None, "the machine ended too early: nothing came from the virtual machine", None),
        (
            ran("qemu: -m: no"), None,
            "the machine ended too early: the system kernel did not reach the first stage", "qemu: -m: no",
        ),
        (
            ran("kdump-rehearsal: reserved 0", "kdump-rehearsal: failed: nothing was reserved"), None,
            "crashkernel=256M reserved nothing in a machine of 1024 MiB", None,
        ),
        (
            ran(*FIRST[:2], "kdump-rehearsal: failed: the kernel took no capture kernel: kexec -s: no;"), None,
            "the kernel took no capture kernel: kexec -s: no;", None,
        ),
        (
            ran(*FIRST[:2], "kdump-rehearsal: failed: kexec -s: Cannot assign requested address;"), None,
            "crashkernel=256M has no place for the capture kernel; reserve more",
            "kexec -s: Cannot assign requested address;",
        ),
        (
            ran(*FIRST, timed_out=True), None,
            "not done after 600 s: the capture kernel did not start", CRASH,
        ),
        (
            ran(*FIRST, *CAPTURE, timed_out=True), None,
            "not done after 600 s: kdump-save did not come to its end", CAPTURE[1],
        ),
        (
            ran(*FIRST, CAPTURE[0], TROUBLE[0][0]), None,
            "the capture ran out of memory; reserve more", TROUBLE[0][0],
        ),
        (ran(*GOOD), None, "there is no dump on the disk", None),
        (
            ran(*FIRST, *CAPTURE, killed=True), None,
            "the power was cut, as asked for: there is no dump on the disk", CAPTURE[1],
        ),
        (
            ran(FIRST[0], "kdump-rehearsal: failed: mkfs.xfs: no such file", seconds=2), None,
            "mkfs.xfs: no such file", None,
        ),
        (ran(*GOOD), saved(meta=(("result", "dmesg"),)), "the dump is not complete: dmesg", None),
        (ran(*GOOD), saved(meta=()), "the dump is not complete: it has no meta", None),
        (ran(*GOOD), saved(files=FILES[:2]), "the dump has no vmcore", None),
        (ran(*GOOD), saved(files=(DumpFile("vmcore", 0),)), "the dump has no vmcore", None),
        (ran(*GOOD), saved(readable=False), "makedumpfile can't read the vmcore", None),
        (ran(*GOOD), saved(panic_line=None), "the panic is not in the dump's log", None),
    ],
)  # fmt: skip
def test_what_is_no_capture(run: Ran, found: Dump | None, reason: str, line: str | None) -> None:
    verdict = judged(run, *([found] if found else []))
    assert (verdict.captured, verdict.reason, verdict.console_line) == (False, reason, line)


def test_without_makedumpfile_the_dump_counts_as_it_lies_there() -> None:
    verdict = judged(ran(*GOOD), saved(readable=None))
    assert verdict.captured and verdict.makedumpfile_readable is None


def test_the_report_says_what_counts() -> None:
    good = rehearsal.report(judged(ran(*GOOD, seconds=12.3), COMPLETE))
    assert good.startswith("captured: ")
    assert "vmcore (40.0 MB)" in good and "panic to reboot 8.3 s" in good and "console=ttyS0" in good
    bad = rehearsal.report(judged(ran(*FIRST, CAPTURE[0], TROUBLE[0][0])))
    assert bad.startswith("not captured: the capture ran out of memory")
    assert TROUBLE[0][0] in bad


def test_the_disks_could_not_be_read() -> None:
    verdict = judged(ran(*GOOD), read=Read("the disks can't be read back: no"))
    assert verdict.reason == "the disks can't be read back: no"


def test_the_best_dump_counts_and_all_are_told() -> None:
    targets = (fakes.target(), fakes.target(device="UUID=1234-ABCD", fstype="vfat", name="esp", path="/kdump"))
    half = saved(target=1, meta=(("result", "dmesg"), ("target_name", "root")))
    whole = saved(target=2, meta=(("result", "complete"), ("target_name", "esp")))
    verdict = judged(ran(*GOOD), half, whole, targets=targets)
    assert verdict.captured
    assert (verdict.target_name, verdict.target) == ("esp", "/kdump on UUID=1234-ABCD (vfat)")
    assert [dump.target for dump in verdict.dumps] == [2, 1]


def test_an_encrypted_dump_is_not_read() -> None:
    names = ("dmesg.txt.age", "meta", "vmcore.age")
    files = tuple(DumpFile(name, 1000) for name in names)
    verdict = judged(ran(*GOOD), saved(files=files, readable=None, panic_line=None, log=False))
    assert verdict.captured
    assert verdict.makedumpfile_readable is None


@pytest.mark.parametrize(
    ("change", "private"),
    [
        ({}, True),
        ({"mode": 0o755}, False),
        ({"files": (*FILES, DumpFile("save.log", 10, 0o644))}, False),
    ],
)
def test_whether_others_may_read_it(change: dict[str, Any], private: bool) -> None:
    verdict = judged(ran(*GOOD), saved(**change))
    assert verdict.private is private
    assert ("others than root" in rehearsal.report(verdict)) is not private


def test_a_file_system_without_permissions_is_nobodys_fault() -> None:
    targets = (fakes.target(device="UUID=1234-ABCD", fstype="vfat"),)
    assert judged(ran(*GOOD), saved(mode=0o755), targets=targets).private is None
    assert judged(ran(*GOOD)).private is None


@pytest.mark.parametrize(
    ("checked", "sound"), [((), None), (((1, None),), True), (((1, None), (2, "Dirty bit is set")), False)]
)
def test_whether_the_file_systems_are_sound(checked: tuple[tuple[int, str | None], ...], sound: bool | None) -> None:
    verdict = judged(ran(*GOOD), COMPLETE, read=Read(sound=checked))
    assert verdict.sound is sound
    assert verdict.unsound == (("file system 2: Dirty bit is set",) if sound is False else ())
    assert ("Dirty bit" in rehearsal.report(verdict)) is (sound is False)


def test_the_steps_are_told() -> None:
    assert judged(ran(*GOOD), COMPLETE).steps == ("target exit=0 seconds=1 bytes=0",)
