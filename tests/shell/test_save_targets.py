"""hooks/save/{storage,layers}.sh: the targets in their order, and how each is reached."""

from __future__ import annotations

import pytest

from tests.shell.machine import CRASH_NAME, UUID, Machine, target

SECOND_UUID = "aaaaaaaa-1111-2222-3333-444455556666"
LUKS = "bbbbbbbb-1111-2222-3333-444455556666"
ARRAY = "11112222:33334444:55556666:77778888"
KEYS = "sys/kernel/config/crash_dm_crypt_keys"
SECOND = {
    "KDUMP_TARGETS": "2",
    **target(2, NAME=f"uuid={SECOND_UUID}", DEVICE=f"UUID={SECOND_UUID}", FSTYPE="vfat", PATH="/crash"),
}


@pytest.fixture
def two(machine: Machine) -> Machine:
    """A machine whose second target is there too."""
    machine.write(f"dev/disk/by-uuid/{SECOND_UUID}", "")
    return machine


def only_for(fstype: str) -> str:
    return f'case "$2" in {fstype}) echo "mount: wrong fs type" >&2; exit 32 ;; esac'


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


def test_second_target_when_the_first_is_missing(two: Machine) -> None:
    two.path(f"dev/disk/by-uuid/{UUID}").unlink()
    said = two.capture(**SECOND)
    assert f"step target failed exit=1: UUID={UUID} did not appear within 30 s" in said
    assert f"saved /crash/{CRASH_NAME} result=complete" in said


def test_second_target_when_the_first_cannot_be_mounted(two: Machine) -> None:
    two.shims["mount"] = only_for("ext4")
    said = two.capture(**SECOND)
    assert "step target failed exit=32: mount exited with 32: mount: wrong fs type" in said
    assert "step target_2 begin" in said
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    meta = (two.path("run/kdump/target/crash") / CRASH_NAME / "meta").read_text()
    assert f"target=UUID={SECOND_UUID} /crash\ntarget_name=uuid={SECOND_UUID}\n" in meta
    assert "step_target=exit=32 " in meta and "step_target_2=exit=0 " in meta


def test_second_target_when_the_first_cannot_be_written(two: Machine) -> None:
    two.write("run/kdump/target/var/crash", "a file where the directory should be")
    said = two.capture(**SECOND)
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    assert two.calls("umount")


def test_second_target_when_the_first_is_read_only(two: Machine) -> None:
    two.write("run/kdump/target/var/crash/x", "")
    two.path("run/kdump/target/var/crash").chmod(0o500)
    said = two.capture(**SECOND)
    (failed,) = [line for line in said if line.startswith("step target failed")]
    assert "mkdir" in failed and "denied" in failed
    assert f"saved /crash/{CRASH_NAME} result=complete" in said


def test_second_target_when_no_word_can_be_written_to_the_first(two: Machine) -> None:
    two.shims["sync"] = 'case "$*" in */var/crash/*meta.new) echo "sync: No space left on device"; exit 1 ;; esac'
    said = two.capture(**SECOND)
    assert any(line.startswith("step target failed exit=1: sync: No space") for line in said)
    assert list(two.target.iterdir()) == [], "nothing of it is left behind"
    assert f"saved /crash/{CRASH_NAME} result=complete" in said


def test_second_target_when_the_first_hangs(two: Machine) -> None:
    two.shims["mount"] = 'case "$2" in ext4) trap "" TERM INT HUP; /bin/sleep 20; exit 1 ;; esac'
    said = two.capture(**SECOND)
    assert "step target failed exit=124: mount did not end in time" in said
    assert f"saved /crash/{CRASH_NAME} result=complete" in said


def test_the_better_result_counts(two: Machine) -> None:
    two.shims["makedumpfile"] = 'case "$*" in *vmcore.incomplete) exit 1 ;; esac\n' + two.shims["makedumpfile"]
    said = two.capture(**SECOND | {"KDUMP_TARGET_1_KEEP_FREE": "100%", "KDUMP_TARGET_2_KEEP_FREE": "100%"})
    assert len([line for line in said if line.startswith("step dmesg") and "ok" in line]) == 2
    assert f"saved /var/crash/{CRASH_NAME} result=dmesg" in said, "no better the second time"
    assert two.meta()["result"] == "dmesg"


def test_dmesg_only_targets_are_the_last_resort(two: Machine) -> None:
    first = SECOND | target(1, SAVE="dmesg") | target(2, DEVICE=f"UUID={SECOND_UUID}", PATH="/crash")
    said = two.capture(**first)
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    two.shims["mount"] = 'case "$*" in *aaaaaaaa*) exit 32 ;; esac'
    said = two.capture(**first)
    assert f"saved /var/crash/{CRASH_NAME} result=dmesg" in said
    assert "vmcore" not in two.files and "dmesg.txt" in two.files


@pytest.mark.parametrize("fstype", ["vfat", "exfat"])
def test_nobody_else_reads_a_file_system_without_modes(machine: Machine, fstype: str) -> None:
    machine.capture(**target(1, FSTYPE=fstype, OPTIONS="flush"))
    assert f"-t {fstype} -o rw,flush,umask=0077 " in machine.calls("mount")[0]


def test_btrfs_of_several_devices_is_scanned_first(machine: Machine) -> None:
    machine.capture(**target(1, FSTYPE="btrfs", OPTIONS="subvol=/@var", DEVICES="2"))
    assert [call.split()[0] for call in machine.calls() if call.split()[0] in ("btrfs", "mount")] == ["btrfs", "mount"]
    assert machine.calls("btrfs") == ["btrfs device scan"]
    assert " -o rw,subvol=/@var " in machine.calls("mount")[0]


def test_btrfs_waits_for_its_other_device(machine: Machine) -> None:
    machine.shims["mount"] = '[ -e "$KDUMP_ROOT/second" ] || { : >"$KDUMP_ROOT/second"; exit 32; }'
    machine.capture(**target(1, FSTYPE="btrfs", DEVICES="2"))
    assert machine.meta()["result"] == "complete"
    assert len(machine.calls("mount")) == 2


# --- layers ---


def layered(machine: Machine, layers: str, **tools: str) -> list[str]:
    """Capture to a target on these layers, whose file system shows once the last is open; the tools' calls."""
    machine.path(f"dev/disk/by-uuid/{UUID}").unlink()
    machine.shims.update(tools)
    machine.output = ""
    machine.capture(**target(1, LAYERS=layers))
    return [call for call in machine.calls() if call.split()[0] in (*tools, "mount")]


def test_array(machine: Machine) -> None:
    node = machine.path("dev/md/kdump-11112222")
    calls = layered(machine, f"md:{ARRAY}", mdadm='mkdir -p "${2%/*}"; : >"$2"')
    assert calls == [
        f"mdadm --assemble {node} --config=partitions --uuid={ARRAY}",
        f"mount -t ext4 -o rw {node} {machine.root}/run/kdump/target",
    ]
    assert machine.meta()["result"] == "complete"


def test_degraded_array_is_started_after_a_while(machine: Machine) -> None:
    calls = layered(
        machine, f"md:{ARRAY}", mdadm='case "$*" in *--run*) mkdir -p "${2%/*}"; : >"$2" ;; *) exit 1 ;; esac'
    )
    assert calls[0].endswith(f"--uuid={ARRAY}") and calls[-2].endswith("--run")
    assert len(calls) > 5
    assert machine.meta()["result"] == "complete"


def test_member_of_an_old_array_is_not_taken_for_the_array(machine: Machine) -> None:
    machine.write("dev/vda2", "")
    machine.shims["findfs"] = 'echo "$KDUMP_ROOT/dev/vda2"'
    calls = layered(machine, f"md:{ARRAY}", mdadm='mkdir -p "${2%/*}"; : >"$2"')
    assert "vda2" not in calls[-1] and "md/kdump-11112222" in calls[-1]


def test_what_is_open_already_is_not_opened_again(machine: Machine) -> None:
    machine.write("dev/dm-0", "")
    machine.shims["findfs"] = 'echo "$KDUMP_ROOT/dev/dm-0"'
    calls = layered(machine, f"md:{ARRAY} crypt:{LUKS} lvm:vg/root", mdadm="", cryptsetup="", lvm="")
    assert [call.split()[0] for call in calls] == ["mount"]


def test_logical_volume(machine: Machine) -> None:
    calls = layered(machine, "lvm:vg/crash", lvm='mkdir -p "$KDUMP_ROOT/dev/vg"; : >"$KDUMP_ROOT/dev/vg/crash"')
    assert calls[0].startswith("lvm lvchange -ay --sysinit --nolocking --config ")
    assert " udev_sync=0 " in calls[0] and calls[0].endswith(" vg/crash")
    assert f"{machine.root}/dev/vg/crash" in calls[-1]


def test_why_a_layer_could_not_be_opened(machine: Machine) -> None:
    layered(machine, "lvm:vg/crash", lvm='echo "  Volume group vg not found" >&2; exit 5')
    why = "lvm:vg/crash: lvm exited with 5: Volume group vg not found"
    assert f"step target failed exit=1: {why}" in machine.output


CRYPTSETUP = """case "$*" in *volume-key*|*key-file*) : ;; esac
for last; do :; done
mkdir -p "$KDUMP_ROOT/dev/mapper"; : >"$KDUMP_ROOT/dev/mapper/$last"
"""


@pytest.fixture
def encrypted(machine: Machine) -> Machine:
    """Its target lies in a LUKS volume whose key was handed over."""
    machine.write(f"dev/disk/by-uuid/{LUKS}", "")
    machine.write(f"{KEYS}/restore", "")
    return machine


def test_key_that_was_handed_over(encrypted: Machine) -> None:
    calls = layered(encrypted, f"crypt:{LUKS}", cryptsetup=CRYPTSETUP)
    device = f"{encrypted.root}/dev/disk/by-uuid/{LUKS}"
    assert calls[0] == (
        f"cryptsetup open --disable-locks --volume-key-keyring %user:cryptsetup:{LUKS} {device} kdump-{LUKS}"
    )
    assert f"/dev/mapper/kdump-{LUKS} " in calls[1]
    assert encrypted.path(f"{KEYS}/restore").read_text() == "1\n"


def test_lvm_in_luks_on_md(encrypted: Machine) -> None:
    encrypted.path(f"dev/disk/by-uuid/{LUKS}").unlink()
    calls = layered(
        encrypted, f"md:{ARRAY} crypt:{LUKS} lvm:vg/root", cryptsetup=CRYPTSETUP,
        mdadm='mkdir -p "${2%/*}"; : >"$2"', lvm='mkdir -p "$KDUMP_ROOT/dev/vg"; : >"$KDUMP_ROOT/dev/vg/root"',
    )  # fmt: skip
    assert [call.split()[0] for call in calls] == ["mdadm", "cryptsetup", "lvm", "mount"]
    assert f"{encrypted.root}/dev/md/kdump-11112222 kdump-{LUKS}" in calls[1]


ASKED = """case "$*" in
*key-file*)
    read -r given <"$4" || [ -n "$given" ]
    [ "$given" = "open sesame" ] || { echo "No key available" >&2; exit 2; } ;;
*) exit 1 ;;
esac
""" + CRYPTSETUP  # fmt: skip


def test_without_a_key_the_others_come_first_and_nobody_is_asked(encrypted: Machine) -> None:
    encrypted.write(f"dev/disk/by-uuid/{SECOND_UUID}", "")
    encrypted.shims["cryptsetup"] = "exit 1"
    encrypted.path(f"dev/disk/by-uuid/{UUID}").unlink()
    said = encrypted.capture(**SECOND, **target(1, LAYERS=f"crypt:{LUKS}"))
    assert f"saved /crash/{CRASH_NAME} result=complete" in said
    assert not [line for line in said if line.startswith("passphrase")]


def test_passphrase_from_the_console(encrypted: Machine) -> None:
    encrypted.write("dev/console", "open sesame\n")
    layered(encrypted, f"crypt:{LUKS}", cryptsetup=ASKED)
    assert f"kdump-save: passphrase for the volume {LUKS} of the target root, within 60 s:" in encrypted.output
    assert encrypted.meta()["result"] == "complete"
    assert encrypted.calls("stty") == ["stty -echo", "stty echo"]
    assert "sesame" not in encrypted.output and not encrypted.path("run/kdump/passphrase").exists()


def test_wrong_passphrases_until_the_time_is_over(encrypted: Machine) -> None:
    encrypted.write("dev/console", "open barley\n")
    layered(encrypted, f"crypt:{LUKS}", cryptsetup=ASKED)
    assert "cryptsetup exited with 2: No key available: again:" in encrypted.output
    assert "kdump-save: saved nothing result=failed" in encrypted.output
    assert "barley" not in encrypted.output


def test_nobody_answers(encrypted: Machine) -> None:
    layered(encrypted, f"crypt:{LUKS}", cryptsetup=ASKED)
    assert "no passphrase within 60 s" in encrypted.output
    assert "kdump-save: saved nothing result=failed" in encrypted.output


def test_nobody_is_asked_when_it_is_switched_off(encrypted: Machine) -> None:
    encrypted.write("dev/console", "open sesame\n")
    encrypted.shims["cryptsetup"] = ASKED
    encrypted.path(f"dev/disk/by-uuid/{UUID}").unlink()
    said = encrypted.capture(KDUMP_PASSPHRASE_TIMEOUT="0", **target(1, LAYERS=f"crypt:{LUKS}"))
    assert not [line for line in said if line.startswith("passphrase")]
    assert said[-2:] == ["saved nothing result=failed", "final reboot"]


def test_kernel_that_hands_over_no_keys(encrypted: Machine) -> None:
    encrypted.path(f"{KEYS}/restore").unlink()
    encrypted.path(KEYS).rmdir()
    layered(encrypted, f"crypt:{LUKS}", cryptsetup=ASKED)
    assert f"crypt:{LUKS}: no key was handed over: this kernel can't" in encrypted.output
    assert "mount -t configfs configfs" in "\n".join(encrypted.calls())


# --- the real root ---


def on_the_real_root(machine: Machine, mounts: str, **changes: str) -> list[str]:
    machine.write("proc/mounts", mounts)
    machine.write("dev/vda2", "")
    node = machine.path(f"dev/disk/by-uuid/{UUID}")
    node.unlink()
    node.symlink_to("../../vda2")
    return machine.capture(KDUMP_CAPTURE="system", KDUMP_FLAVOUR="system", **target(1, MOUNTED="/var/crash", **changes))


def test_what_the_system_has_mounted_is_used_as_it_is(machine: Machine) -> None:
    said = on_the_real_root(machine, "/dev/vda2 / ext4 rw,relatime 0 0\n")
    assert (machine.path("var/crash") / CRASH_NAME / "vmcore").exists()
    assert f"saved /var/crash/{CRASH_NAME} result=complete" in said
    assert machine.calls("mount") == machine.calls("umount") == []
    assert "sync " in machine.calls()


def test_read_only_root_is_remounted(machine: Machine) -> None:
    on_the_real_root(
        machine, "/dev/vda3 / ext4 rw 0 0\n/dev/vda2 /var ext4 ro,relatime 0 0\n/dev/x /varied ext4 rw 0 0\n"
    )
    assert machine.calls("mount") == [f"mount -o remount,rw {machine.root}/var"]


def test_the_directory_below_a_mount_that_is_missing_is_not_the_target(machine: Machine) -> None:
    on_the_real_root(machine, "/dev/vda3 / ext4 rw 0 0\n")
    assert not machine.path("var/crash").exists()
    assert [call for call in machine.calls("mount") if f"{UUID} {machine.root}/run/kdump/target" in call]


def test_what_the_system_has_not_mounted_is_mounted(machine: Machine) -> None:
    machine.capture(KDUMP_CAPTURE="system")
    assert machine.calls("mount") and machine.calls("umount")
