"""hooks/kdump-save: what it saves, what it says, and that nothing stops it."""

from __future__ import annotations

import pytest

from tests.shell.machine import BUILD_ID, CRASH_NAME, CRASH_TIME, RELEASE, UUID, Machine, vmcore_bytes

PARTS = ["capture-dmesg.txt", "dmesg.txt", "meta", "save.log", "vmcore"]


def without_progress(said: list[str]) -> list[str]:
    """On a busy machine a step may take long enough for the console to be told."""
    return [line for line in said if not line.endswith(" at the latest")]


def test_whole_capture(machine: Machine) -> None:
    said = without_progress(machine.capture())
    assert said[0].startswith("start direct pid=") and said[0].endswith(" mem_available_kib=25000")
    assert [line.split(" seconds")[0] for line in said[1:]] == [
        "step target begin", "step target ok", "step dmesg begin", "step dmesg ok", "step vmcore begin",
        "step vmcore ok", "step log begin", "step log ok", "least memory available: 25000 KiB",
        f"saved /var/crash/{CRASH_NAME} result=complete",
        "step unmount begin", "step unmount ok", "final reboot",
    ]  # fmt: skip
    assert sorted(path.name for path in machine.dump.iterdir()) == PARTS
    mount = f"mount -t ext4 -o rw {machine.root}/dev/disk/by-uuid/{UUID} {machine.root}/run/kdump/target"
    assert machine.calls("mount") == [mount]
    assert [call.split(f" {machine.root}")[0] for call in machine.calls("makedumpfile")] == [
        "makedumpfile --dump-dmesg", "makedumpfile -z -d 31",
    ]  # fmt: skip
    assert machine.calls("reboot") == ["reboot -f"]


def test_nobody_else_can_read_a_dump(machine: Machine) -> None:
    machine.capture()
    assert machine.dump.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in machine.dump.iterdir()} == dict.fromkeys(PARTS, 0o600)


def test_meta(machine: Machine) -> None:
    machine.capture()
    meta = machine.meta()
    assert int(meta.pop("saved_time")) > CRASH_TIME - 10**8
    steps = {key: meta.pop(key).split() for key in list(meta) if key.startswith("step_")}
    assert {key: (code, size) for key, (code, _, size) in steps.items()} == {
        "step_target": ("exit=0", "bytes=0"),
        "step_dmesg": ("exit=0", "bytes=34"),
        "step_vmcore": ("exit=0", "bytes=9"),
        "step_log": ("exit=0", "bytes=19"),
    }
    assert meta == {
        "format": "1",
        "release": RELEASE,
        "build_id": BUILD_ID,
        "crash_time": str(CRASH_TIME),
        "capture_release": RELEASE,
        "cmdline": "root=UUID=abc irqpoll nr_cpus=1 reset_devices panic=10",
        "target": f"UUID={UUID} /var/crash",
        "target_name": "root",
        "flavour": "direct",
        "level": "31",
        "makedumpfile": "1.7.9-1",
        "encrypted": "no",
        "in_a_row": "1",
        "min_available_kib": "25000",
        "result": "complete",
    }


def test_log_holds_what_was_said_before_there_was_a_target(machine: Machine) -> None:
    said = without_progress(machine.capture())
    logged = (machine.dump / "save.log").read_text().splitlines()
    assert logged == said[: len(logged)]
    assert logged[-1].startswith("saved ")


def test_no_vmcore_touches_nothing(machine: Machine) -> None:
    machine.path("proc/vmcore").unlink()
    assert machine.capture() == []
    assert machine.calls() == []
    assert not machine.path("run").exists()


def test_many_cpus_before_vmcoreinfo(machine: Machine) -> None:
    machine.write("proc/vmcore", vmcore_bytes(cpus=512))
    machine.capture()
    assert machine.meta()["build_id"] == BUILD_ID


@pytest.mark.parametrize("content", [b"", b"\0" * 70000, b"\xff" * 70000])
def test_vmcore_without_a_note(machine: Machine, content: bytes) -> None:
    machine.write("proc/vmcore", content)
    machine.capture()
    (dump,) = machine.target.iterdir()
    assert dump.name.endswith("Z-unknown")
    assert "result=complete" in (dump / "meta").read_text()


@pytest.mark.parametrize("release", ["../../etc", "a b", "$(reboot)", "x;y"])
def test_strange_release_never_becomes_a_path(machine: Machine, release: str) -> None:
    machine.write("proc/vmcore", vmcore_bytes(release=release))
    machine.capture()
    (dump,) = machine.target.iterdir()
    assert dump.name == CRASH_NAME.replace(RELEASE, "unknown")


def test_same_second_twice(machine: Machine) -> None:
    machine.capture()
    machine.capture()
    machine.capture()
    assert sorted(path.name for path in machine.target.iterdir()) == [CRASH_NAME, f"{CRASH_NAME}.2", f"{CRASH_NAME}.3"]


@pytest.mark.parametrize("content", ["", "KDUMP_TARGETS='1", "(", None])
def test_broken_capture_file_still_reboots(machine: Machine, content: str | None) -> None:
    if content is not None:
        machine.write("kdump/env", content)
    machine.run("hooks/kdump-save", str(machine.path("kdump/env")))
    assert "kdump-save: saved nothing result=failed\nkdump-save: final reboot\n" in machine.output
    assert machine.calls("reboot") == ["reboot -f"]


def test_a_part_that_is_missing_still_reboots(machine: Machine) -> None:
    machine.run("hooks/kdump-save", "/nowhere", without="room")
    assert machine.calls("reboot") == ["reboot -f"]
    assert machine.path("proc/sysrq-trigger").read_text() == "b\n"


def test_meta_says_how_far_it_got(machine: Machine) -> None:
    machine.shims["makedumpfile"] = (
        f'cp "{machine.dump}/meta" "$KDUMP_ROOT/meta.$(echo "$*" | tr -cd a-z | tail -c 6)"\n'
        + machine.shims["makedumpfile"]
    )
    machine.capture()
    assert machine.path("meta.esgtxt").read_text().endswith("result=started\n")
    assert machine.path("meta.mplete").read_text().endswith("result=incomplete\n")
    assert machine.path("meta.esgtxt").read_text().startswith("format=1\n")


def test_own_log_of_the_capture_kernel(machine: Machine) -> None:
    machine.capture()
    assert (machine.dump / "capture-dmesg.txt").read_text() == "the capture kernel\n"


def test_no_own_log_is_no_failure(machine: Machine) -> None:
    machine.shims["dmesg"] = "exit 1"
    assert "step log failed exit=1: there is none" in machine.capture()
    assert machine.meta()["result"] == "complete"
