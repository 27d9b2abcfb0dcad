"""hooks/kdump-save: what it saves, what it says, and that nothing stops it."""

from __future__ import annotations

import pytest

from tests.shell.machine import BUILD_ID, CRASH_NAME, CRASH_TIME, RELEASE, UUID, Machine, vmcore_bytes

SECOND_UUID = "aaaaaaaa-1111-2222-3333-444455556666"
SECOND_TARGET = {
    "KDUMP_TARGETS": "2",
    "KDUMP_TARGET_2_DEVICE": f"UUID={SECOND_UUID}",
    "KDUMP_TARGET_2_FSTYPE": "vfat",
    "KDUMP_TARGET_2_OPTIONS": "",
    "KDUMP_TARGET_2_PATH": "/crash",
}
NO_SPACE = """for last; do :; done
case "$last" in
*/vmcore.incomplete)
    printf '\\rCopying data               : [ 45.3 %%] /           eta: 5s' >&2
    echo "write_and_check_space: Can't write the dump file. No space left on device" >&2
    echo "makedumpfile Failed."
    echo half >"$last"
    exit 1 ;;
*) echo log >"$last" ;;
esac"""


def test_whole_capture(machine: Machine) -> None:
    said = machine.capture()
    assert said[0].startswith("start direct pid=") and said[0].endswith(" mem_available_kib=25000")
    assert [line.split(" seconds")[0] for line in said[1:]] == [
        "step target begin", "step target ok", "step dmesg begin", "step dmesg ok", "step vmcore begin",
        "step vmcore ok", "least memory available: 25000 KiB", f"saved /var/crash/{CRASH_NAME} result=complete",
        "step unmount begin", "step unmount ok", "final reboot",
    ]  # fmt: skip
    assert sorted(path.name for path in machine.dump.iterdir()) == ["dmesg.txt", "meta", "save.log", "vmcore"]
    mount = f"mount -t ext4 -o rw {machine.root}/dev/disk/by-uuid/{UUID} {machine.root}/run/kdump/target"
    assert machine.calls("mount") == [mount]
    assert [call.split(f" {machine.root}")[0] for call in machine.calls("makedumpfile")] == [
        "makedumpfile --dump-dmesg", "makedumpfile -z -d 31",
    ]  # fmt: skip
    assert machine.calls("reboot") == ["reboot -f"]


def test_nobody_else_can_read_a_dump(machine: Machine) -> None:
    machine.capture()
    assert machine.dump.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in machine.dump.iterdir()} == dict.fromkeys(
        ("dmesg.txt", "meta", "save.log", "vmcore"), 0o600
    )


def test_meta(machine: Machine) -> None:
    machine.capture()
    meta = machine.meta()
    assert int(meta.pop("saved_time")) > CRASH_TIME - 10**8
    steps = {key: meta.pop(key).split() for key in list(meta) if key.startswith("step_")}
    assert {key: (code, size) for key, (code, _, size) in steps.items()} == {
        "step_target": ("exit=0", "bytes=0"),
        "step_dmesg": ("exit=0", "bytes=34"),
        "step_vmcore": ("exit=0", "bytes=9"),
    }
    assert meta == {
        "format": "1",
        "release": RELEASE,
        "build_id": BUILD_ID,
        "crash_time": str(CRASH_TIME),
        "capture_release": RELEASE,
        "cmdline": "root=UUID=abc irqpoll nr_cpus=1 reset_devices panic=10",
        "target": f"UUID={UUID} /var/crash",
        "flavour": "direct",
        "level": "31",
        "min_available_kib": "25000",
        "result": "complete",
    }


def test_log_holds_what_was_said_before_there_was_a_target(machine: Machine) -> None:
    said = machine.capture()
    logged = (machine.dump / "save.log").read_text().splitlines()
    assert logged == said[: len(logged)]
    assert logged[-2].startswith("saved ")


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


def test_device_that_comes_late(machine: Machine) -> None:
    node = machine.path(f"dev/disk/by-uuid/{UUID}")
    node.unlink()
    machine.shims["findfs"] = f'read -r up _ <"$KDUMP_ROOT/proc/uptime"; [ "${{up%%.*}}" -ge 110 ] && echo {node}'
    said = machine.capture()
    assert said[-1] == "final reboot"
    assert machine.meta()["result"] == "complete"
    assert len(machine.calls("findfs")) > 1


def test_no_target_at_all(machine: Machine) -> None:
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    said = machine.capture()
    assert f"step target failed exit=1: UUID={UUID} did not appear within 30 s" in said
    assert said[-2:] == ["saved nothing result=failed", "final reboot"]
    assert machine.calls("makedumpfile") == []
    assert machine.calls("reboot")


def test_second_target_when_the_first_cannot_be_mounted(machine: Machine) -> None:
    machine.write(f"dev/disk/by-uuid/{SECOND_UUID}", "")
    machine.shims["mount"] = 'case "$2" in ext4) echo "mount: wrong fs type" >&2; exit 32 ;; esac'
    said = machine.capture(**SECOND_TARGET)
    assert "step target failed exit=32: mount exited with 32: mount: wrong fs type" in said
    assert "step target_2 begin" in said
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    meta = (machine.path("run/kdump/target/crash") / CRASH_NAME / "meta").read_text()
    assert f"target=UUID={SECOND_UUID} /crash\n" in meta
    assert "step_target=exit=32 " in meta and "step_target_2=exit=0 " in meta


def test_second_target_when_the_first_cannot_be_written(machine: Machine) -> None:
    machine.write(f"dev/disk/by-uuid/{SECOND_UUID}", "")
    machine.write("run/kdump/target/var/crash", "a file where the directory should be")
    said = machine.capture(**SECOND_TARGET)
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    assert machine.calls("umount")


def test_other_compression_when_the_first_fails(machine: Machine) -> None:
    no_zstd = 'case " $* " in *" -z "*) echo "not built in" >&2; exit 1 ;; esac\n'
    machine.shims["makedumpfile"] = no_zstd + machine.shims["makedumpfile"]
    said = machine.capture()
    assert "makedumpfile -z did not do, -c is next: makedumpfile exited with 1: not built in" in said
    assert machine.meta()["result"] == "complete"


def test_full_disk_leaves_dmesg_and_says_why(machine: Machine) -> None:
    machine.shims["makedumpfile"] = NO_SPACE
    said = machine.capture()
    why = "makedumpfile exited with 1: write_and_check_space: Can't write the dump file. No space left on device"
    assert f"step vmcore failed exit=1: {why}" in said
    assert sorted(path.name for path in machine.dump.iterdir()) == ["dmesg.txt", "meta", "save.log"]
    assert machine.meta()["result"] == "dmesg"


def test_what_makedumpfile_remarks_is_logged(machine: Machine) -> None:
    machine.shims["makedumpfile"] += 'echo "The kernel version is not supported."'
    machine.capture()
    assert "makedumpfile: The kernel version is not supported.\n" in (machine.dump / "save.log").read_text()


def test_killed_makedumpfile(machine: Machine) -> None:
    machine.shims["makedumpfile"] = 'case "$1" in --dump-dmesg) kill -9 $$ ;; esac\n' + machine.shims["makedumpfile"]
    said = machine.capture()
    assert "step dmesg failed exit=137: makedumpfile was killed by signal 9" in said
    assert machine.meta()["result"] == "complete"


def test_empty_dmesg_is_no_dmesg(machine: Machine) -> None:
    machine.shims["makedumpfile"] = 'for last; do :; done; : >"$last"'
    said = machine.capture()
    assert "step dmesg failed exit=1: dmesg.txt is empty" in said
    assert machine.meta()["result"] == "failed"


def test_meta_says_incomplete_while_the_core_is_written(machine: Machine) -> None:
    machine.shims["makedumpfile"] = (
        f'case "$*" in *vmcore.incomplete) cp "{machine.dump}/meta" "$KDUMP_ROOT/meta.then" ;; esac\n'
        + machine.shims["makedumpfile"]
    )
    machine.capture()
    assert "result=incomplete\n" in machine.path("meta.then").read_text()


def test_synced_before_renamed(machine: Machine) -> None:
    machine.shims["sync"] = f'ls "{machine.dump}" 2>/dev/null | grep core >>"$KDUMP_ROOT/calls"'
    machine.capture()
    calls = [call for call in machine.calls() if "core" in call and "makedumpfile" not in call]
    assert calls.index(f"sync {machine.dump}/vmcore.incomplete {machine.dump}") < calls.index("vmcore")


@pytest.mark.parametrize(("action", "tool"), [("reboot", "reboot"), ("poweroff", "poweroff"), ("halt", "halt")])
def test_final_action(machine: Machine, action: str, tool: str) -> None:
    said = machine.capture(KDUMP_FINAL_ACTION=action)
    assert said[-1] == f"final {action}"
    down = [call for call in machine.calls() if call.split()[0] in ("reboot", "poweroff", "halt")]
    assert down[0] == f"{tool} -f"


def test_sysrq_when_reboot_does_nothing(machine: Machine) -> None:
    machine.capture()
    assert machine.path("proc/sysrq-trigger").read_text() == "b\n"


def test_final_shell_then_reboot(machine: Machine) -> None:
    machine.shims["sh"] = "echo hello"
    machine.capture(KDUMP_FINAL_ACTION="shell")
    assert machine.path("dev/console").read_text() == "hello\n"
    assert [call for call in machine.calls() if call in ("sh -i", "reboot -f")] == ["sh -i", "reboot -f"]


@pytest.mark.parametrize("hanging", ["mount", "makedumpfile", "sync", "umount", "findfs"])
def test_watchdog_reboots_whatever_hangs(machine: Machine, hanging: str) -> None:
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    machine.shims["findfs"] = f'echo "{machine.root}/dev/console"'
    machine.shims[hanging] = "exec /bin/sleep 60"
    machine.capture(until="proc/sysrq-trigger", KDUMP_TIMEOUT="3")
    assert "kdump-save: not done after 3 s, rebooting\n" in machine.output
    assert machine.path("proc/sysrq-trigger").read_text() == "b\n"


@pytest.mark.parametrize("content", ["", "KDUMP_TARGETS='1", "(", None])
def test_broken_capture_file_still_reboots(machine: Machine, content: str | None) -> None:
    if content is not None:
        machine.write("kdump/env", content)
    machine.run("hooks/kdump-save", str(machine.path("kdump/env")))
    assert "kdump-save: saved nothing result=failed\nkdump-save: final reboot\n" in machine.output
    assert machine.calls("reboot") == ["reboot -f"]


def test_least_memory_and_progress(machine: Machine) -> None:
    machine.shims["makedumpfile"] = """case "$*" in *vmcore.incomplete)
    for percent in 11 12 13 14 15 16 17 18 19 20; do
        printf '\\rCopying data               : [ %s.0 %%] /           eta: 5s' $percent >&2
        echo "MemAvailable: ${percent}000 kB" >"$KDUMP_ROOT/m" && mv "$KDUMP_ROOT/m" "$KDUMP_ROOT/proc/meminfo"
        /bin/sleep 0.1
    done ;;
esac
""" + machine.shims["makedumpfile"]
    said = machine.capture()
    assert machine.meta()["min_available_kib"] in ("11000", "12000")
    progress = [line for line in said if line.startswith("Copying data")]
    assert 1 <= len(progress) <= 10
    assert "\r" not in machine.output
