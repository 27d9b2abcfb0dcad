"""The virtual machine of a rehearsal, pure: its disks and their controller, and what QEMU is called with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import ModuleIndex
from kdump_pkg.plan.first_stage import Mode

Accelerator = Literal["kvm", "tcg"]

QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class Controller:
    """A disk controller that QEMU has and that the image may have the drivers for."""

    name: str
    drivers: tuple[str, ...]
    disk: str
    """Argument of -device for a disk: {drive} is its name, {host} the number of its adapter, {port} its place there,
    {place} the same, counted from 1."""
    adapter: str = ""
    """That of an adapter, where disks need one."""
    ports: int = 1
    """Disks that an adapter takes."""
    most: int = 16
    """Disks that the machine takes."""


# Under TCG without 5-level paging (slow, and some kernels die of it), without fast string moves (emulated byte by byte)
# and without cmpxchg16b: around it QEMU 7.2 now and then corrupts the flags, and one kernel in ten died of a trap that
# nobody had set. The second one is for programs that are compiled for x86-64-v2 and don't start without it.
CPUS: dict[Accelerator, tuple[str, ...]] = {
    "kvm": ("host",),
    "tcg": ("max,la57=off,cx16=off,erms=off", "max,la57=off,erms=off"),
}
"""What to start the machine with, until one comes to the first stage."""

CONTROLLERS = (
    Controller("virtio_blk", ("virtio_pci", "virtio_blk"), "virtio-blk-pci,drive={drive}"),
    Controller("nvme", ("nvme",), "nvme,drive={drive},serial={drive}"),
    Controller("ahci", ("ahci", "sd_mod"), "ide-hd,drive={drive},bus=ahci{host}.{port}", "ich9-ahci,id=ahci{host}", 6),
    Controller(
        "virtio_scsi", ("virtio_pci", "virtio_scsi", "sd_mod"),
        "scsi-hd,drive={drive},bus=scsi{host}.0,scsi-id={port}", "virtio-scsi-pci,id=scsi{host}", 16,
    ),
    Controller(
        "usb_storage", ("xhci_pci", "usb_storage", "sd_mod"),
        "usb-storage,drive={drive},bus=usb{host}.0,port={place}", "qemu-xhci,id=usb{host}", 4,
    ),
    Controller("ata_piix", ("ata_piix", "sd_mod"), "ide-hd,drive={drive},bus=ide.{host},unit={port}", "", 2, 4),
)  # fmt: skip


def choose_controller(index: ModuleIndex, names: tuple[str, ...], system: ModuleIndex, disks: int) -> Controller:
    """One that the image can drive, by a module that was asked for or built in, and that the system's kernel can."""
    named = {name.rstrip("?").replace("-", "_") for name in names}
    there = {name for name in named if name in index.files} | index.builtin
    fit = [c for c in CONTROLLERS if disks <= c.most and all(has(system, driver) for driver in c.drivers)]
    driven = [controller for controller in fit if there.issuperset(controller.drivers)]
    asked_for = [controller for controller in driven if controller.name in named]
    if driven:
        return (asked_for or driven)[0]
    wanted = "; ".join(" and ".join(controller.drivers) for controller in fit)
    raise KdumpError(
        f"the image has no driver for any disk that the virtual machine can have ({wanted})",
        hint="drivers = common in /etc/kdump-pkg.conf puts them in",
    )


def has(index: ModuleIndex, name: str) -> bool:
    return name in index.files or name in index.builtin


@dataclass(frozen=True)
class Disk:
    path: str
    readonly: bool = False


@dataclass(frozen=True)
class Files:
    """What the machine is made from, as paths on the host."""

    kernel: str
    initrd: str
    disks: tuple[Disk, ...] = ()


@dataclass(frozen=True)
class Host:
    """How it is run."""

    accelerator: Accelerator
    cpu: str
    memory_mib: int
    more: tuple[str, ...] = ()
    """Arguments for QEMU besides our own."""


def command(files: Files, controller: Controller, host: Host, mode: Mode, crashkernel: str = "") -> list[str]:
    """The machine in which the crash happens, or in which its disks are made or read."""
    reserve = "".join(f" crashkernel={value}" for value in crashkernel.split())
    return [*_machine(files, host, mode, reserve), *_disks(files.disks, controller), *host.more]


def _disks(disks: Sequence[Disk], controller: Controller) -> list[str]:
    words: list[str] = []
    for number, disk in enumerate(disks):
        host, port = divmod(number, controller.ports)
        name = f"disk{number}"
        drive = f"if=none,id={name},format=raw,cache=unsafe,werror=report,file={disk.path.replace(',', ',,')}"
        if controller.adapter and port == 0:
            words += ["-device", controller.adapter.format(host=host)]
        words += ["-drive", f"{drive},readonly=on" if disk.readonly else drive]
        words += ["-device", controller.disk.format(drive=name, host=host, port=port, place=port + 1)]
    return words


def probe_command(files: Files) -> list[str]:
    """A machine that only shows that KVM runs this kernel: /dev/kvm may open and the guest die or hang."""
    return _machine(files, Host("kvm", CPUS["kvm"][0], 512), "probe", "")


def _machine(files: Files, host: Host, mode: Mode, append: str) -> list[str]:
    return [
        "setpriv", "--pdeathsig", "KILL",  # whatever ends us ends the machine
        QEMU, "-accel", {"kvm": "kvm", "tcg": "tcg,thread=multi"}[host.accelerator], "-cpu", host.cpu, "-smp", "1",
        "-m", str(host.memory_mib), "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-kernel", files.kernel, "-initrd", files.initrd, "-append",
        f"console=ttyS0{append} KDUMP_REHEARSAL={mode} quiet panic=1 mitigations=off printk.devkmsg=on",
    ]  # fmt: skip
