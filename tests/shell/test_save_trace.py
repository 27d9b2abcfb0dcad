"""hooks/save/trace.sh: what is left for the next boot when nothing could be saved."""

from __future__ import annotations

import pytest

from tests.shell.machine import CRASH_TIME, RELEASE, UUID, Machine

EFI = "sys/firmware/efi/efivars"
VARIABLE = f"{EFI}/KdumpPkgTrace-6b64756d-7070-4b47-8000-747261636531"
LINE = f"kdump-pkg 1 {CRASH_TIME} {RELEASE} target: UUID={UUID} did not appear within 30 s"
MARK = "0123456789abcdef0123456789abcdef"
RECORD_UUID = "cccccccc-1111-2222-3333-444455556666"
RECORD = {"KDUMP_TRACE_RECORD": f"UUID={RECORD_UUID} 1024 {MARK}"}


@pytest.fixture
def lost(machine: Machine) -> Machine:
    """A machine without its target."""
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    return machine


def disk(machine: Machine, mark: str = MARK) -> bytes:
    data = b"A" * 1024 + f"kdump-pkg record {mark}\n".encode().ljust(512, b"\0") + b"\0" * 512 + b"B" * 1024
    machine.write(f"dev/disk/by-uuid/{RECORD_UUID}", data)
    return data


def test_efi_variable(lost: Machine) -> None:
    lost.write(f"{EFI}/BootOrder-8be4df61", "")
    lost.write("dev/pmsg0", "")
    said = lost.capture(**RECORD)
    assert lost.path(VARIABLE).read_bytes() == b"\x07\0\0\0" + LINE.encode() + b"\n"
    assert "a trace is left in an EFI variable for the next boot" in said
    assert lost.path("dev/pmsg0").read_text() == ""
    assert lost.calls("mount") == []


def test_efi_variables_are_mounted_if_need_be(lost: Machine) -> None:
    lost.path(EFI).mkdir(parents=True)
    lost.capture()
    assert lost.calls("mount") == [f"mount -t efivarfs efivarfs {lost.root}/{EFI}"]
    assert lost.path(VARIABLE).exists()


def test_pstore(lost: Machine) -> None:
    lost.write("dev/pmsg0", "")
    said = lost.capture(**RECORD)
    assert lost.path("dev/pmsg0").read_text() == f"kdump-pkg-trace: {LINE}\n"
    assert "a trace is left in pstore for the next boot" in said


def test_record(lost: Machine) -> None:
    before = disk(lost)
    said = lost.capture(**RECORD)
    after = lost.path(f"dev/disk/by-uuid/{RECORD_UUID}").read_bytes()
    assert after[1536:2048] == f"{LINE}\n".encode().ljust(512, b"\0")
    assert after[:1536] == before[:1536] and after[2048:] == before[2048:]
    assert "a trace is left in the record for the next boot" in said


@pytest.mark.parametrize("mark", ["f" * 32, f"{MARK}0", ""])
def test_record_with_another_mark_is_left_alone(lost: Machine, mark: str) -> None:
    before = disk(lost, mark)
    said = lost.capture(**RECORD)
    assert lost.path(f"dev/disk/by-uuid/{RECORD_UUID}").read_bytes() == before
    assert f"no trace could be left: {LINE}" in said


def test_console_alone(lost: Machine) -> None:
    said = lost.capture(**RECORD)
    assert f"no trace could be left: {LINE}" in said
    assert said[-1] == "final reboot"


def test_one_line_of_plain_characters_however_much_there_is_to_say(lost: Machine) -> None:
    lost.write("dev/pmsg0", "")
    lost.write(f"dev/disk/by-uuid/{UUID}", "")
    lost.shims["mount"] = "printf 'a\\033[31m\\tb\\303\\244%0900d\\n' 1; exit 1"
    lost.capture()
    trace = lost.path("dev/pmsg0").read_text()
    assert trace.count("\n") == 1 and trace.endswith("\n") and len(trace) < 500
    assert "a?[31m?b??000" in trace and trace.isascii() and trace[:-1].isprintable()


def test_no_trace_when_something_was_saved(machine: Machine) -> None:
    machine.write("dev/pmsg0", "")
    machine.shims["makedumpfile"] = 'case "$*" in *vmcore.incomplete) exit 1 ;; esac\n' + machine.shims["makedumpfile"]
    machine.capture(KDUMP_TARGET_1_KEEP_FREE="100%")
    assert machine.meta()["result"] == "dmesg"
    assert machine.path("dev/pmsg0").read_text() == ""


def test_no_target_configured(machine: Machine) -> None:
    machine.write("dev/pmsg0", "")
    machine.capture(KDUMP_TARGETS="0")
    assert machine.path("dev/pmsg0").read_text().endswith(f"{RELEASE} no target is configured\n")
