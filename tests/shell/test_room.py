"""hooks/save/room.sh: what makes room for a dump, what is never touched, and loops of crashes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.shell.machine import CRASH_NAME, Machine

OLD = [f"2026-11-2{day}T00-00-00Z-6.12.1" for day in range(3)]
COMPLETE = "format=1\nrelease=6.12.1\nresult=complete\n"
KEEP_2 = {"KDUMP_TARGET_1_KEEP": "2"}


def there(machine: Machine) -> list[str]:
    return sorted(path.name for path in machine.target.iterdir())


def test_oldest_dumps_go_first(machine: Machine) -> None:
    for name in OLD:
        machine.older(name)
    said = machine.capture(KDUMP_TARGET_1_KEEP="3")
    assert there(machine) == [*OLD[1:], CRASH_NAME]
    assert f"room: removing {OLD[0]}" in said
    assert said.index(f"room: removing {OLD[0]}") < said.index("step dmesg begin")


def test_incomplete_ones_go_before_complete_ones(machine: Machine) -> None:
    for name, result in zip(OLD, ("complete", "dmesg", "complete"), strict=True):
        machine.older(name, f"format=1\nresult={result}\n")
    machine.capture(KDUMP_TARGET_1_KEEP="3")
    assert there(machine) == [OLD[0], OLD[2], CRASH_NAME]


def test_pinned_newest_and_newest_complete_stay_whatever_the_rules(machine: Machine) -> None:
    machine.older(OLD[0], COMPLETE, 4, "pinned")
    machine.older(OLD[1])
    machine.older(OLD[2], "format=1\nresult=started\n")
    machine.capture(KDUMP_TARGET_1_KEEP="1", KDUMP_TARGET_1_KEEP_FREE="100%", KDUMP_TARGET_1_MAX_USE="1")
    assert there(machine) == [*OLD, CRASH_NAME]
    assert machine.meta()["result"] == "complete"


def test_age_counts_from_the_name(machine: Machine) -> None:
    for name in OLD:
        machine.older(name)
    machine.capture(KDUMP_TARGET_1_MAX_AGE="3")  # the crash is of 2026-11-23T07-46-54Z
    assert there(machine) == [*OLD[1:], CRASH_NAME]


def test_nothing_foreign_is_touched(machine: Machine, tmp_path: Path) -> None:
    target = machine.target
    machine.write("run/kdump/target/var/crash/2026-11-20T00-00-00Z-a-file", "x")
    machine.older("2026-11-20T00-00-00Z-other-format", "format=2\nresult=complete\n")
    machine.older("2026-11-20T00-00-00Z-a name", COMPLETE)
    machine.older("202-11-20T00-00-00Z-6.12.1", COMPLETE)
    machine.older("mine", COMPLETE)
    (target / "2026-11-20T00-00-00Z-empty").mkdir()
    elsewhere = machine.older("../elsewhere", COMPLETE)
    (target / "2026-11-20T00-00-00Z-a-link").symlink_to(elsewhere)
    linked = target / "2026-11-20T00-00-00Z-linked-meta"
    linked.mkdir()
    (linked / "meta").symlink_to(elsewhere / "meta")
    before = sorted(path for path in target.rglob("*"))
    machine.capture(KDUMP_TARGET_1_KEEP="1", KDUMP_TARGET_1_MAX_AGE="1", KDUMP_TARGET_1_KEEP_FREE="100%")
    assert [path for path in before if not path.is_symlink() and not path.exists()] == []
    assert set(before) <= set(target.rglob("*"))
    assert (elsewhere / "vmcore").exists()


def test_what_others_put_into_a_dump_stays(machine: Machine) -> None:
    first = machine.older(
        OLD[0], COMPLETE, 4, "report.json", "dmesg.txt.age", "notes", "meta.new", "key.age", ".kdump-pkg-1-vmcore"
    )
    (first / "vmcore.d").mkdir()
    (first / "report.txt").symlink_to("/etc/hostname")
    for name in OLD[1:]:
        machine.older(name)
    said = machine.capture(KDUMP_TARGET_1_KEEP="3")
    assert sorted(path.name for path in first.iterdir()) == ["key.age", "notes", "report.txt", "vmcore.d"]
    assert f"room: not all of {OLD[0]} is ours: what isn't stays" in said


def test_cut_short_a_removal_leaves_nothing_that_looks_whole(machine: Machine) -> None:
    first = machine.older(OLD[0])
    for name in OLD[1:]:
        machine.older(name)
    machine.shims["rm"] = (
        f'case "$*" in *{OLD[0]}/vmcore*) cp "{first}/meta" "$KDUMP_ROOT/then" ;; esac; exec /bin/rm "$@"'
    )
    machine.capture(KDUMP_TARGET_1_KEEP="3")
    assert machine.path("then").read_text() == "format=1\n"
    assert not first.exists()


def test_room_for_another_as_large_as_the_largest(machine: Machine) -> None:
    for name, kib in zip(OLD, (40, 8, 4), strict=True):
        machine.older(name, COMPLETE, kib)
    machine.shims["stat"] = 'case "$*" in "-f -c %S %b %a .") echo 4096 1000 8 ;; *) exec /usr/bin/stat "$@" ;; esac'
    machine.capture()
    assert there(machine) == [*OLD[1:], CRASH_NAME], "32 KiB are free, and some 40 will be wanted"


def test_directory_that_only_fits_when_room_was_made(machine: Machine) -> None:
    for name in OLD:
        machine.older(name)
    no_space = 'echo "mkdir: No space left on device"; exit 1'
    machine.shims["mkdir"] = (
        f'[ ! -d "{machine.target}/{OLD[0]}" ] || case "$*" in *{CRASH_NAME}) {no_space} ;; esac; exec /bin/mkdir "$@"'
    )
    machine.capture(KDUMP_TARGET_1_KEEP="3")
    assert machine.meta()["result"] == "complete"


# --- loops ---


def in_a_row(machine: Machine, *minutes_before: int, meta: str = COMPLETE) -> None:
    crash = datetime.strptime(CRASH_NAME[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp()
    for minutes in minutes_before:
        stamp = datetime.fromtimestamp(crash - 60 * minutes, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        machine.older(f"{stamp}-6.12.1", meta)


LOOP = "crashes in a row, each within 10 minutes of the one before"


def test_the_fourth_crash_in_a_row_halts(machine: Machine) -> None:
    in_a_row(machine, 27, 18, 9)
    said = machine.capture()
    assert f"4 {LOOP}: only the log is saved" in said
    assert said[-2:] == ["final halt", f"4 {LOOP}: the machine stays down until you switch it on"]
    assert "halt -f" in machine.calls()
    assert machine.files == ["capture-dmesg.txt", "dmesg.txt", "meta", "save.log"]
    assert machine.meta()["result"] == "dmesg" and machine.meta()["in_a_row"] == "4"


@pytest.mark.parametrize("minutes", [(9,), (18, 9), (29, 18, 9), (27, 18, 11), (27, 9, 8, -5)])
def test_no_loop(machine: Machine, minutes: tuple[int, ...]) -> None:
    in_a_row(machine, *minutes)
    assert machine.capture()[-1] == "final reboot"
    assert machine.meta()["result"] == "complete"


def test_the_loop_rule_can_be_switched_off(machine: Machine) -> None:
    in_a_row(machine, 3, 2, 1)
    assert machine.capture(KDUMP_CRASH_LOOP="0")[-1] == "final reboot"


def test_loop_is_seen_though_the_dumps_of_it_were_removed(machine: Machine) -> None:
    in_a_row(machine, 5, meta="format=1\nin_a_row=3\nresult=complete\n")
    assert machine.capture(KDUMP_TARGET_1_KEEP="1")[-2] == "final halt"


def test_three_crashes_then_the_rule(machine: Machine) -> None:
    for _ in range(3):
        assert machine.capture()[-1] == "final reboot"
    assert machine.capture()[-2] == "final halt"
    assert [path.name for path in machine.target.iterdir() if (path / "vmcore").exists()].__len__() == 3
