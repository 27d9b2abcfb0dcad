"""hooks/save/core.sh: the log and the memory, whole, in part, or encrypted; what failed and what was tried then."""

from __future__ import annotations

import pytest

from tests.shell.machine import CRASH_NAME, Machine

PROGRESS = """printf '\\rCopying data               : [ 45.3 %%] /           eta: 5s' >&2
"""
FULL = """for last; do :; done
case "$last" in
*/vmcore.incomplete)
    printf '\\rCopying data               : [ 45.3 %%] /           eta: 5s' >&2
    echo "write_and_check_space: Can't write the dump file. No space left on device" >&2
    echo "makedumpfile Failed."
    echo half >"$last"
    exit 1 ;;
*) echo log >"$last" ;;
esac"""
WHY = "makedumpfile exited with 1: write_and_check_space: Can't write the dump file. No space left on device"
FITS_NOT = {"KDUMP_TARGET_1_KEEP_FREE": "100%"}
SAVED = ["capture-dmesg.txt", "dmesg.txt", "meta", "save.log"]
RECIPIENT = "age1qqqq"
ENCRYPTED = {"KDUMP_ENCRYPT_TO": f"{RECIPIENT} age1pppp"}
OLD = [f"2026-11-2{day}T00-00-00Z-6.12.1" for day in range(3)]


def dumping(machine: Machine) -> list[str]:
    """With which options the core was tried."""
    calls = [
        call for call in machine.calls("makedumpfile") if call.endswith("/vmcore.incomplete") and "dmesg" not in call
    ]
    return [call.split(f" {machine.root}")[0].removeprefix("makedumpfile ") for call in calls]


def fails_for(*rungs: str, how: str = 'echo "not built in" >&2; exit 1') -> str:
    tests = "".join(f'case "$*" in "{rung} "*) {how} ;; esac\n' for rung in rungs)
    return tests


def test_other_compression_when_the_first_fails(machine: Machine) -> None:
    machine.shims["makedumpfile"] = fails_for("-z -d 31") + machine.shims["makedumpfile"]
    said = machine.capture()
    assert "vmcore by -z -d 31 did not do: makedumpfile exited with 1: not built in" in said
    assert dumping(machine) == ["-z -d 31", "-c -d 31"]
    assert machine.meta()["result"] == "complete"


def test_unfiltered_if_it_fits(machine: Machine) -> None:
    machine.shims["makedumpfile"] = fails_for("-z -d 31", "-c -d 31") + machine.shims["makedumpfile"]
    machine.capture()
    assert dumping(machine) == ["-z -d 31", "-c -d 31", "-z -d 0"]
    assert machine.meta()["result"] == "complete"


def test_as_the_kernel_shows_it_when_makedumpfile_can_do_nothing_with_it(machine: Machine) -> None:
    machine.shims["makedumpfile"] = 'case "$1" in -*[zc]) exit 1 ;; esac\n' + machine.shims["makedumpfile"]
    machine.capture()
    assert (machine.dump / "vmcore").read_bytes() == machine.path("proc/vmcore").read_bytes()
    assert machine.meta()["result"] == "complete"


def test_never_unfiltered_where_it_would_fill_the_disk(machine: Machine) -> None:
    machine.shims["makedumpfile"] = fails_for("-z -d 31", "-c -d 31") + machine.shims["makedumpfile"]
    said = machine.capture(**FITS_NOT)
    assert any(line.startswith("unfiltered it could take ") for line in said)
    assert dumping(machine) == ["-z -d 31", "-c -d 31"]
    assert machine.files == SAVED and machine.meta()["result"] == "dmesg"


def test_killed_makedumpfile(machine: Machine) -> None:
    machine.shims["makedumpfile"] = 'case "$1" in --dump-dmesg) kill -9 $$ ;; esac\n' + machine.shims["makedumpfile"]
    said = machine.capture()
    assert "step dmesg failed exit=137: makedumpfile was killed by signal 9" in said
    assert machine.meta()["result"] == "complete"


def test_killed_while_it_writes_the_core(machine: Machine) -> None:
    machine.shims["makedumpfile"] = fails_for("-z -d 31", how="kill -9 $$") + machine.shims["makedumpfile"]
    said = machine.capture()
    assert "vmcore by -z -d 31 did not do: makedumpfile was killed by signal 9" in said
    assert machine.meta()["result"] == "complete"


def test_hanging_makedumpfile_is_killed_for_lack_of_progress(machine: Machine) -> None:
    hang = "trap '' TERM; while :; do /bin/sleep 1; done"
    machine.shims["makedumpfile"] = fails_for("-z -d 31", how=hang) + machine.shims["makedumpfile"]
    said = machine.capture(KDUMP_STEP_TIMEOUT="20")
    assert "vmcore by -z -d 31 did not do: makedumpfile did not end in time" in said
    assert machine.meta()["result"] == "complete"


def test_a_slow_one_that_gets_on_is_left_alone(machine: Machine) -> None:
    slow = "for n in 1 2 3 4 5 6 7 8; do " + PROGRESS + " /bin/sleep 0.2; done\n"
    machine.shims["makedumpfile"] = f'case "$*" in *vmcore.incomplete) {slow} ;; esac\n' + machine.shims["makedumpfile"]
    machine.capture(KDUMP_STEP_TIMEOUT="30")
    assert dumping(machine) == ["-z -d 31"]
    assert machine.meta()["result"] == "complete"


def test_no_rung_begins_when_the_time_of_the_target_is_over(machine: Machine) -> None:
    machine.shims["makedumpfile"] = (
        'case "$*" in *vmcore.incomplete) exec /bin/sleep 60 ;; esac\n' + machine.shims["makedumpfile"]
    )
    machine.capture(KDUMP_TARGET_1_TIMEOUT="40")
    assert dumping(machine) == ["-z -d 31"]
    assert machine.meta()["result"] == "dmesg"


def test_full_disk_leaves_dmesg_and_says_why(machine: Machine) -> None:
    machine.shims["makedumpfile"] = FULL
    said = machine.capture(**FITS_NOT)
    assert f"step vmcore failed exit=1: {WHY}" in said
    assert machine.files == SAVED
    assert machine.meta()["result"] == "dmesg"
    assert dumping(machine) == ["-z -d 31"], "another compression would not help"


def test_what_is_there_of_it_is_kept_if_it_can_be_read(machine: Machine) -> None:
    machine.shims["makedumpfile"] = FULL
    said = machine.capture()
    assert "a part of it is kept: vmcore.partial, 0 KiB" in said
    assert machine.files == [*SAVED, "vmcore.partial"]
    assert machine.meta()["result"] == "partial"
    assert f"saved /var/crash/{CRASH_NAME} result=partial" in said


@pytest.mark.parametrize("read", ["exit 1", ': >"$last"; exit'])
def test_what_cannot_be_read_is_removed(machine: Machine, read: str) -> None:
    machine.shims["makedumpfile"] = f'for last; do :; done; case "$last" in */partial) {read} ;; esac\n' + FULL
    machine.capture()
    assert machine.files == SAVED


def test_full_disk_makes_room_once_more(machine: Machine) -> None:
    for name in OLD:
        machine.older(name)
    machine.shims["makedumpfile"] = 'if [ -e "$KDUMP_ROOT/second" ]; then\n' + machine.shims["makedumpfile"] + (
        "exit; fi\ncase \"$*\" in *vmcore.incomplete) : >\"$KDUMP_ROOT/second\" ;; esac\n" + FULL
    )  # fmt: skip
    # the file system is full but for what a dump of 4 KiB needs
    machine.shims["stat"] = (
        'case "$*" in "-f -c %S %b %a .") echo 4096 1000 2 ;; *.incomplete) echo 409600 ;; '
        '*) exec /usr/bin/stat "$@" ;; esac'
    )
    said = machine.capture()
    assert f"the disk is full after 400 KiB: {WHY}" in said
    assert dumping(machine) == ["-z -d 31", "-z -d 31"]
    assert machine.meta()["result"] == "complete"
    assert sorted(path.name for path in machine.target.iterdir()) == [OLD[2], CRASH_NAME]


def test_what_makedumpfile_remarks_is_logged(machine: Machine) -> None:
    machine.shims["makedumpfile"] += 'echo "The kernel version is not supported."'
    machine.capture()
    assert "makedumpfile: The kernel version is not supported.\n" in (machine.dump / "save.log").read_text()


def test_empty_dmesg_is_no_dmesg(machine: Machine) -> None:
    machine.shims["makedumpfile"] = 'for last; do :; done; : >"$last"'
    said = machine.capture(**FITS_NOT)
    assert "step dmesg failed exit=1: dmesg.txt is empty" in said
    assert machine.meta()["result"] == "failed"
    assert "dmesg.txt" not in machine.files


def test_synced_before_renamed(machine: Machine) -> None:
    machine.shims["sync"] = f'ls "{machine.dump}" 2>/dev/null | grep core >>"$KDUMP_ROOT/calls" || :'
    machine.capture()
    calls = [call for call in machine.calls() if "core" in call and "makedumpfile" not in call]
    assert calls.index(f"sync {machine.dump}/vmcore.incomplete") < calls.index("vmcore")


# --- encrypted ---


def clear_words(machine: Machine) -> list[str]:
    """Files of the dump in which memory of the crashed kernel lies open."""
    return [
        path.name
        for path in machine.dump.iterdir()
        if b"Kernel panic" in path.read_bytes() or b"KDUMP" in path.read_bytes()
    ]


def test_encrypted(machine: Machine) -> None:
    said = machine.capture(**ENCRYPTED)
    assert machine.files == ["capture-dmesg.txt.age", "dmesg.txt.age", "meta", "save.log", "vmcore.age"]
    assert (machine.dump / "vmcore.age").read_text() == "AGE\nXQHZC SYNG\n"
    assert clear_words(machine) == []
    assert set(machine.calls("age")) == {f"age -r {RECIPIENT} -r age1pppp"}
    assert [call for call in machine.calls("makedumpfile") if " -F " in f"{call} "] == [
        f"makedumpfile -F -z -d 31 {machine.root}/proc/vmcore"
    ]
    assert (machine.meta()["encrypted"], machine.meta()["result"]) == ("yes", "complete")
    assert f"saved /var/crash/{CRASH_NAME} result=complete" in said
    assert {path.stat().st_mode & 0o777 for path in machine.dump.iterdir()} == {0o600}


def test_nothing_secret_is_left_in_the_scratch(machine: Machine) -> None:
    machine.capture(**ENCRYPTED)
    left = [
        path.name
        for path in machine.path("run/kdump").iterdir()
        if path.is_file() and b"Kernel panic" in path.read_bytes()
    ]
    assert left == []


@pytest.mark.parametrize("how", ["echo age: bad recipient >&2; exit 1", "/bin/cat >/dev/null; exit 3", "kill -9 $$"])
def test_nothing_is_written_in_clear_when_age_fails(machine: Machine, how: str) -> None:
    machine.shims["age"] = how
    said = machine.capture(**ENCRYPTED)
    assert machine.files == ["meta", "save.log"]
    assert machine.meta()["result"] == "failed"
    assert clear_words(machine) == []
    assert f"saved /var/crash/{CRASH_NAME} result=failed" in said
    assert any(line.startswith("step dmesg failed") and "age" in line for line in said)


def test_makedumpfile_that_fails_behind_age_is_seen(machine: Machine) -> None:
    machine.shims["makedumpfile"] = fails_for("-F -z -d 31") + machine.shims["makedumpfile"]
    said = machine.capture(**ENCRYPTED)
    assert "vmcore by -z -d 31 did not do: makedumpfile exited with 1: not built in" in said
    assert machine.meta()["result"] == "complete"


def test_both_are_killed_when_they_hang(machine: Machine) -> None:
    machine.shims["age"] = "exec /bin/sleep 60"
    said = machine.capture(KDUMP_STEP_TIMEOUT="10", **ENCRYPTED)
    assert any(line.startswith("step dmesg failed exit=1: age did not end in time") for line in said)
    assert machine.files == ["meta", "save.log"] and said[-1] == "final reboot"


def test_part_of_an_encrypted_core_is_not_kept(machine: Machine) -> None:
    machine.shims["makedumpfile"] = (
        'case "$1" in -F) echo half; echo "No space left on device" >&2; exit 1 ;; esac\n'
        + machine.shims["makedumpfile"]
    )
    machine.capture(**ENCRYPTED)
    assert machine.files == ["capture-dmesg.txt.age", "dmesg.txt.age", "meta", "save.log"]
