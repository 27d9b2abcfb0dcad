"""The report as text. The whole of a rich one stands in tests/reports_made.txt, for people to read, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kdump_pkg.model.crash import Advice, Crash, Frame, Report, Verification, VmcoreFacts
from kdump_pkg.report import text
from tests.reports_made import ID, TIME, rich

GOLDEN = Path(__file__).parents[1] / "reports_made.txt"


def test_a_rich_report() -> None:
    assert text.render(rich()) == GOLDEN.read_text(encoding="utf-8")


def test_lines_are_short_unless_they_are_commands_or_the_kernels() -> None:
    report = rich()
    own = {*report.crash.lines, *report.crash.before, *(a.command for a in report.advice)}
    for line in text.render(report).splitlines():
        assert len(line) <= 120 or line.strip() in own
        assert line == line.rstrip()


def test_a_poor_report() -> None:
    report = Report(
        ID, TIME, "kernel 6.1 crashed; there is no log that says what of", Crash(release="6.1"), has_log=False
    )
    assert text.render(report) == (
        "Kernel 6.1 crashed; there is no log that says what of.\n\n"
        "      Time: 2026-11-23 07:46:54 UTC\n    Kernel: 6.1\n      Dump: 2026-11-23T07-46-54Z-6.17.8-arch1-1\n"
    )


def test_nothing_at_all() -> None:
    assert text.render(Report("", 0, "", Crash())) == "\n    Time: not known\n    Kind: not known\n"


def test_the_same_crash() -> None:
    once = text.render(replace(rich(), seen=("2026-01-01T00-00-00Z-6.1",)))
    assert "\n1 other dump shows the same crash.\n" in once
    assert "THE SAME CRASH" not in text.render(replace(rich(), seen=()))


def test_what_could_not_be_read_is_said() -> None:
    missing = replace(rich(), vmcore=VmcoreFacts(missing="drgn is not installed: pacman -S drgn"))
    assert "    Nothing was read out of it: drgn is not installed: pacman -S drgn.\n" in text.render(missing)
    fault = replace(rich(), vmcore=VmcoreFacts(tasks=3, fault="the list of tasks ends in an excluded page"))
    assert "It can't be read whole: the list of tasks ends in an excluded page." in text.render(fault)


def test_notes_stand_at_the_top() -> None:
    report = replace(rich(), crash=replace(rich().crash, truncated=True))
    head = text.render(report).split("WHAT TO DO")[0]
    assert "The dump is damaged." in head
    assert "in the middle of the crash" in head
    assert "damaged" not in text.render(replace(report, verification=Verification(), advice=()))


def test_contexts_are_told_apart() -> None:
    frames = (Frame("handle_irq", 1, 2, context="IRQ"), Frame("", None, None), Frame("main", None))
    told = text.render(replace(rich(), owners=(), crash=Crash(trace=frames))).split("CALL TRACE\n")[1].split("\n\n")[0]
    assert told == (
        "    Function                   In\n    handle_irq+0x1/0x2         IRQ\n    an address without a name  task\n"
        "    main                       task"
    )


def test_a_number_and_its_unit_stay_together() -> None:
    for width in range(60, 120):
        told = text.render(Report("x", 0, f"{'y' * width} 12 days ago, 4 MiB 5 KiB", Crash()))
        assert "12 days" in told and "4 MiB" in told


def test_steps_are_numbered_and_commands_stand_alone() -> None:
    steps = tuple(Advice(f"step {n}", "" if n % 2 else f"do {n}") for n in range(1, 12))
    told = text.render(replace(rich(), advice=steps))
    assert "\n     1. step 1\n     2. step 2\n            do 2\n     3. step 3\n" in told
    assert "\n    11. step 11\n" in told


def test_what_may_have_been_another_at_the_time_is_marked() -> None:
    report = replace(rich(), machine=(("firmware", "1.48"), ("microcode", "0x7"), ("machine", "A BOX")))
    told = text.render(replace(report, crash=replace(report.crash, firmware="", microcode="", hardware="")))
    assert "Firmware: 1.48 (as it is now)\n" in told and "Microcode: 0x7 (as it is now)\n" in told
    assert "Machine: A BOX\n" in told
    assert "as it is now" not in text.render(report)


def test_one_is_not_several() -> None:
    crash = replace(rich().crash, lines=("one",), modules=rich().crash.modules[:1])
    said = text.render(replace(rich(), crash=crash, vmcore=VmcoreFacts(tasks=1)))
    assert "of the crash, 1 line:" in said and "1 task; 0 of them" in said and "1 module was loaded" in said


def test_what_was_asked_for_is_never_an_accident() -> None:
    crash = replace(rich().crash, kind="sysrq")
    assert "no accident" in text.render(replace(rich(), seen=("x",)))
    assert "no accident" not in text.render(replace(rich(), seen=("x",), crash=crash))
