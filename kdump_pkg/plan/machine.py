"""The virtual machine of a rehearsal, pure: its disk and controller, what it starts from, what QEMU is called with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import ModuleIndex, Target
from kdump_pkg.plan.console import MARK

Accelerator = Literal["kvm", "tcg"]

QEMU = "qemu-system-x86_64"
PROGRAMS = ("sh", "mount", "kexec")
"""What the first stage runs. The system's own, with their libraries: a busybox need not be there, nor have them all."""
PROBE = "KDUMP_REHEARSAL=probe"
"""On the kernel's command line: the kernel hands it to /init as a variable."""
PROBED = f"{MARK}it starts"

# What a running system does on the host, in the least possible. It speaks through /dev/kmsg, which is on the console at
# once: what a tty still holds is lost in a reset. An init that exits ends the machine too, by panic=1.
FIRST_STAGE = f"""#!/bin/sh
# First stage of `kdump-pkg rehearse`: loads the capture kernel as the host would, then panics.
PATH=/bin
export PATH
say() {{
    printf '<1>{MARK}%s\\n' "$*" >/dev/kmsg
}}
restart() {{
    echo b >/proc/sysrq-trigger
    exit 1
}}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
[ "$KDUMP_REHEARSAL" != probe ] || {{ say '{PROBED.removeprefix(MARK)}'; restart; }}
size=0
for file in /sys/kernel/kexec/crash_size /sys/kernel/kexec_crash_size; do
    [ -r "$file" ] && read -r size <"$file" && break
done
say "reserved $size"
[ "$size" -gt 0 ] || {{ say 'failed: nothing was reserved'; restart; }}
IFS= read -r cmdline </cmdline
read -r methods </methods
for method in $methods; do
    if words=$(kexec -p "$method" --initrd=/image --command-line="$cmdline" /vmlinuz 2>&1); then
        say "loaded by $method"
        echo c >/proc/sysrq-trigger
    fi
    refused="$refused kexec $method: $(echo $words);"
done
say "failed: the kernel took no capture kernel:$refused"
restart
"""


@dataclass(frozen=True)
class Controller:
    """A disk controller that QEMU has and that the image may have the drivers for."""

    name: str
    drivers: tuple[str, ...]
    devices: tuple[str, ...]
    """Arguments of -device; the disk is the drive `target`."""


# Under TCG without 5-level paging (slow, and some kernels die of it) and without cmpxchg16b: around it QEMU 7.2 now and
# then corrupts the flags, and one kernel in ten died of a trap that nobody had set. The second one is for programs that
# are compiled for x86-64-v2 and don't start without it.
CPUS: dict[Accelerator, tuple[str, ...]] = {"kvm": ("host",), "tcg": ("max,la57=off,cx16=off", "max,la57=off")}
"""What to start the machine with, until one comes to the first stage."""

CONTROLLERS = (
    Controller("virtio_blk", ("virtio_pci", "virtio_blk"), ("virtio-blk-pci,drive=target",)),
    Controller("nvme", ("nvme",), ("nvme,drive=target,serial=kdump",)),
    Controller("ahci", ("ahci", "sd_mod"), ("ich9-ahci,id=ahci", "ide-hd,drive=target,bus=ahci.0")),
    Controller(
        "virtio_scsi", ("virtio_pci", "virtio_scsi", "sd_mod"),
        ("virtio-scsi-pci,id=scsi", "scsi-hd,drive=target,bus=scsi.0"),
    ),
    Controller("ata_piix", ("ata_piix", "sd_mod"), ("ide-hd,drive=target,bus=ide.0",)),
)  # fmt: skip


@dataclass(frozen=True)
class FileSystem:
    """How a scratch disk is made and read without mounting it; words in braces are filled in."""

    make: tuple[str, ...]
    read: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    """By which name the target may be known, and the option of `make` that gives it."""


# -E: all tables written now, not by a thread in the capture kernel; on a file they are holes.
_EXT = "-q -F {name} -E lazy_itable_init=0,lazy_journal_init=0 {disk}"
_DEBUGFS = ("debugfs", "-R", 'rdump "{directory}" "{into}"', "{disk}")
_EXT_NAMES = (("UUID", "-U"), ("LABEL", "-L"))
FILE_SYSTEMS: dict[str, FileSystem] = {
    fstype: FileSystem((f"mkfs.{fstype}", *_EXT.split()), _DEBUGFS, _EXT_NAMES) for fstype in ("ext4", "ext3", "ext2")
}


def choose_controller(index: ModuleIndex, names: tuple[str, ...]) -> Controller:
    """One that the image can drive: by a module that was asked for, else by what the capture kernel has built in."""
    named = {name.rstrip("?").replace("-", "_") for name in names}
    there = {name for name in named if name in index.files} | index.builtin
    driven = [controller for controller in CONTROLLERS if there.issuperset(controller.drivers)]
    asked_for = [controller for controller in driven if controller.name in named]
    if driven:
        return (asked_for or driven)[0]
    wanted = "; ".join(" and ".join(controller.drivers) for controller in CONTROLLERS)
    raise KdumpError(
        f"the image has no driver for any disk that the virtual machine can have ({wanted})",
        hint="drivers = common in /etc/kdump-pkg.conf puts them in",
    )


def choose_file_system(target: Target) -> FileSystem:
    """How the scratch disk becomes a double of the target. Raises KdumpError where it can't yet."""
    found = FILE_SYSTEMS.get(target.fstype)
    if found is None:
        raise KdumpError(f"can't rehearse on {target.fstype} yet, only on {', '.join(FILE_SYSTEMS)}")
    if target.device.partition("=")[0] not in dict(found.names):
        ways = " or ".join(f"{name}=" for name, _ in found.names)
        raise KdumpError(f"can't rehearse with a target named {target.device}", hint=f"name it by {ways} in /etc/fstab")
    return found


def make_command(target: Target, disk: str) -> list[str]:
    """What makes the file system of the scratch disk."""
    system = choose_file_system(target)
    kind, _, value = target.device.partition("=")
    name = [dict(system.names)[kind], value]
    return [word for w in system.make for word in (name if w == "{name}" else [w.format(disk=disk)])]


def read_command(target: Target, disk: str, into: str) -> list[str]:
    """What copies the directory of the dumps from the scratch disk."""
    return [w.format(disk=disk, directory=target.path, into=into) for w in choose_file_system(target).read]


@dataclass(frozen=True)
class Files:
    """What the machine is made from, as paths on the host."""

    kernel: str
    initrd: str
    disk: str


def crash_command(
    files: Files, controller: Controller, accelerator: Accelerator, cpu: str, *, memory_mib: int, crashkernel: str
) -> list[str]:
    """The machine in which the crash happens."""
    append = f"console=ttyS0 crashkernel={crashkernel}"
    drive = f"if=none,id=target,format=raw,cache=unsafe,werror=report,file={files.disk.replace(',', ',,')}"
    devices = [word for device in controller.devices for word in ("-device", device)]
    return [*_machine(files, accelerator, cpu, memory_mib, append), "-drive", drive, *devices]


def probe_command(files: Files) -> list[str]:
    """A machine that only shows that KVM runs this kernel: /dev/kvm may open and the guest die or hang."""
    return _machine(files, "kvm", CPUS["kvm"][0], 512, f"console=ttyS0 {PROBE}")


def _machine(files: Files, accelerator: Accelerator, cpu: str, memory: int, append: str) -> list[str]:
    return [
        "setpriv", "--pdeathsig", "KILL",  # whatever ends us ends the machine
        QEMU, "-accel", {"kvm": "kvm", "tcg": "tcg,thread=multi"}[accelerator], "-cpu", cpu, "-smp", "1",
        "-m", str(memory), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", files.kernel, "-initrd", files.initrd,
        "-append", f"{append} quiet panic=1 mitigations=off printk.devkmsg=on",
    ]  # fmt: skip
