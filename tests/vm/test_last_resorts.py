"""A loop of crashes, a crash that nothing can be saved of, a watchdog that runs: how each ends."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.facts.trace import LINE
from kdump_pkg.model import Facts, Watchdog
from kdump_pkg.plan import first_stage, scratch
from kdump_pkg.plan.verdict import Verdict
from tests.lab import crash, packages, vm
from tests.lab.crash import SMALL, Machine
from tests.lab.root import default_generator
from tests.lab.stacks import FS, MISSING

pytestmark = pytest.mark.vm

FSTAB = f"UUID={FS} / ext4 rw 0 1\n"
TRIGGER = "echo c >/proc/sysrq-trigger"


@pytest.fixture
def machine(lab: None) -> Iterator[Machine]:
    with crash.machine(default_generator(), "6.12") as one:
        yield one


def test_three_crashes_in_a_minute_then_the_machine_halts(machine: Machine, tmp_path: Path) -> None:
    """The guest's clock says when: 15 seconds from one start to the next. Each finds what the one before left."""
    machine.arm("", fstab=FSTAB)
    verdicts: list[Verdict] = []
    for number in range(4):
        clock = ("-rtc", f"base=2026-11-25T12:00:{15 * number:02}")
        disks = tmp_path / str(number - 1) if number else None
        verdicts.append(machine.crash(replace(SMALL, qemu=clock, disks=disks, keep=tmp_path / str(number))))
        if disks:
            shutil.rmtree(disks)
    assert [verdict.result for verdict in verdicts] == ["complete"] * 3 + ["dmesg"]
    assert len({verdict.directory for verdict in verdicts}) == 4
    assert not any(verdict.captured for verdict in verdicts[3:])
    last = tmp_path / "3"
    said = (last / "console.log").read_text()
    assert "kdump-save: final halt" in said
    assert "4 crashes in a row" in said
    left = {path.name: {file.name for file in path.iterdir()} for path in (last / "targets/1/var/crash").iterdir()}
    with_core = {name for name, files in left.items() if "vmcore" in files}
    assert with_core == {verdict.directory for verdict in verdicts[:3]}, "the three dumps are still there"
    assert {"dmesg.txt", "meta"} <= left[str(verdicts[3].directory)]


@pytest.mark.skipif(not vm.has_firmware(), reason=vm.WITHOUT_FIRMWARE)
def test_a_crash_that_could_not_be_saved_leaves_its_reason_to_the_firmware(machine: Machine, tmp_path: Path) -> None:
    variables = tmp_path / "variables.fd"
    firmware = vm.firmware(variables)
    nowhere = f"[target uuid={MISSING}]\nfstype = ext4\ndevice_timeout = 5\n"
    machine.arm(f"modules = efivarfs\n{nowhere}", fstab=FSTAB)
    kept = tmp_path / "kept"
    verdict = machine.crash(replace(SMALL, break_target=("missing:1",), qemu=firmware, keep=kept))
    said = (kept / "console.log").read_text()
    assert not verdict.captured
    assert verdict.seconds_panic_to_reboot is not None
    assert "a trace is left in an EFI variable" in said, said[-3000:]
    found = re.search(rb"kdump-pkg 1 \d+ [^\n\xff]*\n", variables.read_bytes())
    assert found, "what the firmware keeps is in its flash"
    trace = LINE.match(found[0])
    assert trace
    assert trace[2].decode() == packages.release("6.12")
    assert b"did not appear within 5 s" in trace[3]


def watched(facts: Facts) -> Facts:
    """As sysfs would show it of a machine whose watchdog runs."""
    return replace(facts, boot=replace(facts.boot, watchdog=Watchdog("/dev/watchdog0", "i6300esb", 30)))


def running_watchdog(patch: pytest.MonkeyPatch) -> None:
    """The system that crashes has opened its watchdog, and nobody closes it: 30 s later it resets the machine."""
    modules: Callable[..., tuple[str, ...]] = scratch.modules
    script: Callable[..., str] = first_stage.script
    patch.setattr(scratch, "modules", lambda found: (*modules(found), "i6300esb"))
    patch.setattr(
        first_stage, "script", lambda *args: script(*args).replace(TRIGGER, f"exec 9>/dev/watchdog0\n{TRIGGER}")
    )


def test_a_running_watchdog_is_fed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving takes longer than it waits. Where nobody feeds it, the machine is gone by then."""
    running_watchdog(monkeypatch)
    machine.arm("", fstab=FSTAB, adjust=watched, files={"/etc/kdump-pkg/pre.d/slow": "#!/bin/sh\nsleep 45\n"})
    dog = ("-device", "i6300esb", "-action", "watchdog=reset")
    verdict = machine.crash(replace(SMALL, qemu=dog))
    assert verdict.captured, verdict.reason
    assert verdict.seconds_panic_to_reboot is not None
    assert verdict.seconds_panic_to_reboot > 45
