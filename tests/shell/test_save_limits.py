"""hooks/save/steps.sh: time limits, the watchdogs, what the consoles show, hooks of the user, and how it ends."""

from __future__ import annotations

import re

import pytest

from tests.shell.machine import CRASH_NAME, UUID, Machine, target

HANG = "trap '' TERM HUP INT; while :; do /bin/sleep 1; done"
DUMPING = 'case "$*" in *vmcore.incomplete)\n{} ;;\nesac\n'


@pytest.mark.parametrize("hanging", ["mount", "makedumpfile", "sync", "umount", "findfs"])
def test_watchdog_reboots_whatever_hangs(machine: Machine, hanging: str) -> None:
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    machine.shims["findfs"] = f'echo "{machine.root}/dev/console"'
    machine.shims[hanging] = HANG
    machine.capture(until="proc/sysrq-trigger", KDUMP_TIMEOUT="3")
    assert machine.path("proc/sysrq-trigger").read_text() == "b\n"


def test_watchdog_when_the_script_itself_hangs(machine: Machine) -> None:
    machine.shims["sh"] = "exec /bin/sleep 60"
    machine.shims["date"] = "exec /bin/sleep 60"  # not run by way of the limits
    machine.capture(until="proc/sysrq-trigger", KDUMP_TIMEOUT="5")
    assert "kdump-save: not done after 5 s, rebooting\n" in machine.output


@pytest.mark.parametrize("hanging", ["mount", "umount", "dmesg"])
def test_a_step_that_hangs_is_given_up(machine: Machine, hanging: str) -> None:
    machine.shims[hanging] = HANG
    said = machine.capture(KDUMP_STEP_TIMEOUT="5", **target(1, DEVICE_TIMEOUT="5"))
    assert said[-1] == "final reboot"
    assert any("did not end in time" in line or "there is none" in line for line in said)
    assert machine.calls("reboot") == ["reboot -f"]


def test_whole_time_leaves_a_moment_for_the_end(machine: Machine) -> None:
    machine.shims["makedumpfile"] = DUMPING.format(HANG) + machine.shims["makedumpfile"]
    said = machine.capture(KDUMP_TIMEOUT="60", KDUMP_TARGET_1_TIMEOUT="600")
    assert said[-1] == "final reboot", "not by the watchdog"
    assert machine.meta()["result"] == "dmesg"


def test_hardware_watchdog_is_fed_and_let_go_for_good_at_a_halt(machine: Machine) -> None:
    machine.write("dev/watchdog0", "")
    pretimeout = machine.write("sys/class/watchdog/watchdog0/pretimeout", "10\n")
    machine.shims["makedumpfile"] = DUMPING.format("/bin/sleep 0.5") + machine.shims["makedumpfile"]
    machine.shims["halt"] = "/bin/sleep 0.5"
    machine.capture(KDUMP_WATCHDOG="/dev/watchdog0", KDUMP_FINAL_ACTION="halt")
    assert re.fullmatch(r"\.{3,}V", machine.path("dev/watchdog0").read_text())
    assert pretimeout.read_text() == "0\n"


def test_hardware_watchdog_that_cannot_be_opened(machine: Machine) -> None:
    said = machine.capture(KDUMP_WATCHDOG="/dev/nowhere/watchdog0")
    assert "/dev/nowhere/watchdog0 can't be opened: if it runs, it will end this" in said
    assert machine.meta()["result"] == "complete"


# --- what is seen ---


def test_progress_and_least_memory(machine: Machine) -> None:
    machine.shims["makedumpfile"] = (
        DUMPING.format("""for percent in 11 12 13 14 15 16 17 18 19 20; do
    printf '\\rCopying data               : [ %s.0 %%] /           eta: 5s' $percent >&2
    echo "MemAvailable: ${percent}000 kB" >"$KDUMP_ROOT/m" && mv "$KDUMP_ROOT/m" "$KDUMP_ROOT/proc/meminfo"
    mkdir -p "$KDUMP_ROOT/proc/$$"; echo "rchar: 1
wchar: ${percent}000000" >"$KDUMP_ROOT/proc/$$/io"
    /bin/sleep 0.1
done""")
        + machine.shims["makedumpfile"]
    )
    said = machine.capture()
    assert int(machine.meta()["min_available_kib"]) < 15000
    progress = [line for line in said if line.startswith("vmcore: Copying data ")]
    assert 1 <= len(progress) <= 10
    assert re.fullmatch(
        r"vmcore: Copying data (1\d|20)\.0 %, \d+ MiB at \d+\.\d MiB/s, 5s left, "
        rf"to /var/crash on UUID={UUID}; reboot in 99\d{{4}} s at the latest", progress[-1]
    )  # fmt: skip
    assert "\r" not in machine.output


def test_what_takes_long_without_saying_anything_is_told(machine: Machine) -> None:
    machine.shims["umount"] = "/bin/sleep 4"
    said = machine.capture()
    assert [line for line in said if re.fullmatch(r"unmount: \d+ s so far; reboot in \d+ s at the latest", line)]


def test_every_console_is_told_once(machine: Machine) -> None:
    machine.write("sys/class/tty/console/active", "tty0 ttyS1 ttyS0\n")
    for tty in ("tty0", "ttyS1", "ttyS0"):
        machine.write(f"dev/{tty}", "")
    # a terminal appends, a file is written anew
    machine.shims["stty"] = 'echo "$*" >>"$KDUMP_ROOT/stty"'
    said = machine.capture()
    assert machine.path("dev/tty0").read_text() == machine.path("dev/ttyS1").read_text() == f"kdump-save: {said[-1]}\n"
    assert machine.path("dev/ttyS0").read_text() == "", "it is where standard output goes"
    assert machine.path("stty").read_text() == "-ixon\n" * 3


# --- hooks ---


def add_hook(machine: Machine, name: str, body: str, mode: int = 0o755) -> None:
    machine.write(f"etc/kdump-pkg/{name}", f"#!/bin/sh\n{body}\n").chmod(mode)


def test_hooks_run_in_order_with_what_they_need(machine: Machine) -> None:
    for name in ("pre.d/20-b", "pre.d/10-a", "post.d/10-c"):
        add_hook(machine, name, f'echo "hook {name} $*" >>"$KDUMP_ROOT/calls"; echo "from {name}"')
    add_hook(machine, "pre.d/30-not-executable", "exit 0", 0o644)
    said = machine.capture()
    calls = [call for call in machine.calls() if call.split()[0] in ("hook", "mount", "makedumpfile", "umount")]
    short = [call.replace(str(machine.dump), "DUMP") for call in calls]
    assert [call for call in short if call.startswith("hook")] == [
        "hook pre.d/10-a DUMP", "hook pre.d/20-b DUMP", "hook post.d/10-c DUMP complete"
    ]  # fmt: skip
    assert [call.split()[0] for call in calls] == [
        "mount",
        "hook",
        "hook",
        "makedumpfile",
        "makedumpfile",
        "hook",
        "umount",
    ]
    assert "hook pre/10-a: from pre.d/10-a" in said and "hook post/10-c exit=0" in said
    assert "hook post/10-c exit=0\n" in (machine.dump / "save.log").read_text()


@pytest.mark.parametrize(("body", "code"), [("exit 7", "7"), (HANG, "124"), ("kill -9 $$", "137")])
def test_a_hook_never_stops_the_capture(machine: Machine, body: str, code: str) -> None:
    add_hook(machine, "pre.d/10 a", body)
    said = machine.capture(KDUMP_STEP_TIMEOUT="10")
    assert f"hook pre/10 a exit={code}" in said
    assert machine.meta()["result"] == "complete"


# --- the end ---


@pytest.mark.parametrize(("action", "tool"), [("reboot", "reboot"), ("poweroff", "poweroff"), ("halt", "halt")])
def test_final_action(machine: Machine, action: str, tool: str) -> None:
    said = machine.capture(KDUMP_FINAL_ACTION=action, KDUMP_FAILURE_ACTION="shell")
    assert said[-1] == f"final {action}"
    down = [call for call in machine.calls() if call.split()[0] in ("reboot", "poweroff", "halt")]
    assert down[0] == f"{tool} -f"


def test_failure_action(machine: Machine) -> None:
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    said = machine.capture(KDUMP_FAILURE_ACTION="poweroff")
    assert said[-1] == "final poweroff"
    assert "poweroff -f" in machine.calls()


def test_dmesg_alone_is_no_failure(machine: Machine) -> None:
    machine.shims["makedumpfile"] = DUMPING.format("exit 1") + machine.shims["makedumpfile"]
    said = machine.capture(KDUMP_FAILURE_ACTION="poweroff", KDUMP_TARGET_1_KEEP_FREE="100%")
    assert said[-1] == "final reboot"


def test_sysrq_when_reboot_does_nothing(machine: Machine) -> None:
    machine.capture()
    assert machine.path("proc/sysrq-trigger").read_text() == "b\n"


def test_final_shell_with_the_target_still_there_then_reboot(machine: Machine) -> None:
    machine.shims["sh"] = "echo hello"
    said = machine.capture(KDUMP_FINAL_ACTION="shell")
    assert machine.path("dev/console").read_text() == "hello\n"
    last = [call.split()[0] for call in machine.calls() if call in ("sh -i", "reboot -f") or call.startswith("umount")]
    assert last == ["sh", "umount", "reboot"]
    assert said.index("final shell") < said.index("step unmount begin")


def test_no_time_limit_in_the_shell(machine: Machine) -> None:
    machine.shims["sh"] = "/bin/sleep 1.5"
    machine.capture(KDUMP_FINAL_ACTION="shell", KDUMP_TIMEOUT="30")
    assert "not done after" not in machine.output
    assert (machine.target / CRASH_NAME / "vmcore").exists()
