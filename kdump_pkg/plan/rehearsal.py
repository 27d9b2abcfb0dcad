"""The rehearsal, pure: which machine crashes what, on which disk; and what to make of how it went."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Config, Facts, Kernel, ModuleIndex, Target
from kdump_pkg.plan.console import MARK, Console
from kdump_pkg.plan.rebuild import design_capture

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


class Directory(Protocol):
    """A path, as far as it matters here: nothing in this module touches it."""

    def __fspath__(self) -> str: ...


@dataclass(frozen=True)
class Wish:
    """What the user asks for."""

    memory_mib: int = 1024
    crashkernel: str = "256M"
    timeout_s: int = 600
    keep: Directory | None = None


@dataclass(frozen=True)
class Controller:
    """A disk controller that QEMU has and that the image may have the drivers for."""

    name: str
    drivers: tuple[str, ...]
    devices: tuple[str, ...]
    """Arguments of -device; the disk is the drive `target`."""


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


@dataclass(frozen=True)
class Rehearsal:
    """Everything that is decided before the machine starts; paths are the system's own, in its root."""

    wish: Wish
    capture: Capture
    image_bytes: int
    kernel: str
    system: str
    system_release: str
    cmdline: str
    methods: tuple[str, ...]
    controller: Controller
    file_system: FileSystem

    @property
    def disk_mib(self) -> int:
        """Room for all memory of the machine, whatever the dump leaves out; the file has holes."""
        return self.wish.memory_mib + 512


@dataclass(frozen=True)
class DumpFile:
    name: str
    size: int


@dataclass(frozen=True)
class Saved:
    """What was found on the scratch disk afterwards."""

    directory: str | None = None
    files: tuple[DumpFile, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    readable: bool | None = None
    """Whether makedumpfile can read the vmcore; None where none was there to ask."""
    panic_line: str | None = None
    """From the log inside the dump."""


@dataclass(frozen=True)
class Ran:
    """How the machine ran."""

    console: Console
    seconds: float
    timed_out: bool
    accelerator: Accelerator


@dataclass(frozen=True)
class Verdict:
    """Whether the crash was saved; if not, why; and the figures."""

    captured: bool
    reason: str | None
    console_line: str | None
    """Where the console shows that reason."""
    result: str | None
    directory: str | None
    dump: tuple[DumpFile, ...]
    makedumpfile_readable: bool | None
    panic_line: str | None
    seconds_total: float
    seconds_panic_to_reboot: float | None
    min_available_kib: int | None
    reserved_bytes: int | None
    crashkernel: str
    memory_mib: int
    accelerator: Accelerator
    release: str
    system_release: str
    flavour: str
    generator: str
    image: str
    image_bytes: int
    load_method: str | None
    controller: str
    target: str
    cmdline: str
    kept: str | None = None


def design(config: Config, facts: Facts, wish: Wish) -> Rehearsal:
    """The rehearsal of what is, or would be, loaded. Raises KdumpError when that can't be rehearsed."""
    _check(wish)
    capture = design_capture(config, facts)
    if not facts.image.exists or facts.image.fingerprint != capture.fingerprint:
        state = "stale" if facts.image.exists else "missing"
        raise KdumpError(f"{capture.image} is {state}: there is nothing to rehearse", hint="kdump-pkg rebuild")
    system = _system_kernel(facts, capture)
    assert capture.kernel.vmlinuz is not None and system.vmlinuz is not None
    return Rehearsal(
        wish=wish,
        capture=capture,
        image_bytes=facts.image.size,
        kernel=capture.kernel.vmlinuz,
        system=system.vmlinuz,
        system_release=system.release,
        cmdline=with_console(capture.cmdline),
        methods=("-s",) if facts.boot.lockdown in ("integrity", "confidentiality") else ("-s", "-c"),
        controller=choose_controller(facts.modules, capture.modules),
        file_system=choose_file_system(capture.target),
    )


def _check(wish: Wish) -> None:
    if not re.fullmatch(r"[0-9A-Za-z,:@-]+", wish.crashkernel):
        raise KdumpError(f"--crashkernel {wish.crashkernel}: not a size", hint="for example 256M")
    if wish.memory_mib < 256:
        raise KdumpError(f"--memory {wish.memory_mib}: too little for a kernel and a reservation", hint="256 or more")
    if wish.timeout_s < 1:
        raise KdumpError(f"--timeout {wish.timeout_s}: not a time", hint="seconds, 1 or more")


def _system_kernel(facts: Facts, capture: Capture) -> Kernel:
    """The one that runs now, if its file is still there: it is the one that would crash."""
    running = (k for k in facts.kernels if k.usable and k.release == facts.boot.running)
    return next(running, capture.kernel)


def with_console(cmdline: str) -> str:
    """The capture command line, byte for byte, and the serial port as its last console: only there can we read it."""
    consoles = re.findall(r"(?:^|\s)console=(\S+)", cmdline)
    at_the_port = bool(consoles) and re.fullmatch(r"ttyS0(,.*)?", consoles[-1]) is not None
    return cmdline if at_the_port else f"{cmdline} console=ttyS0"


def choose_controller(index: ModuleIndex, names: tuple[str, ...]) -> Controller:
    """The first that the image can drive: its modules, or what the capture kernel has built in."""
    there = {name for name in (n.rstrip("?").replace("-", "_") for n in names) if name in index.files} | index.builtin
    for controller in CONTROLLERS:
        if there.issuperset(controller.drivers):
            return controller
    wanted = "; ".join(" and ".join(controller.drivers) for controller in CONTROLLERS)
    raise KdumpError(
        f"the image has no driver for any disk that the virtual machine can have ({wanted})",
        hint="drivers = common in /etc/kdump-pkg.conf puts them in",
    )


def choose_file_system(target: Target) -> FileSystem:
    """How the scratch disk becomes a double of the target."""
    found = FILE_SYSTEMS.get(target.fstype)
    if found is None:
        raise KdumpError(f"can't rehearse on {target.fstype} yet, only on {', '.join(FILE_SYSTEMS)}")
    if target.device.partition("=")[0] not in dict(found.names):
        ways = " or ".join(f"{name}=" for name, _ in found.names)
        raise KdumpError(f"can't rehearse with a target named {target.device}", hint=f"name it by {ways} in /etc/fstab")
    return found


def make_command(rehearsal: Rehearsal, disk: str) -> list[str]:
    """What makes the file system of the scratch disk."""
    kind, _, value = rehearsal.capture.target.device.partition("=")
    option = dict(rehearsal.file_system.names)[kind]
    name = [option, value]
    words = [name if w == "{name}" else [w.format(disk=disk)] for w in rehearsal.file_system.make]
    return [word for group in words for word in group]


def read_command(rehearsal: Rehearsal, disk: str, into: str) -> list[str]:
    """What copies the directory of the dumps from the scratch disk."""
    directory = rehearsal.capture.target.path
    return [w.format(disk=disk, directory=directory, into=into) for w in rehearsal.file_system.read]


def machine(rehearsal: Rehearsal, accelerator: Accelerator, *, kernel: str, initrd: str, disk: str) -> list[str]:
    """The virtual machine in which the crash happens."""
    append = f"console=ttyS0 crashkernel={rehearsal.wish.crashkernel}"
    drive = f"if=none,id=target,format=raw,cache=unsafe,werror=report,file={disk.replace(',', ',,')}"
    devices = [word for device in rehearsal.controller.devices for word in ("-device", device)]
    return [*_machine(accelerator, rehearsal.wish.memory_mib, kernel, initrd, append), "-drive", drive, *devices]


def probe(*, kernel: str, initrd: str) -> list[str]:
    """A machine that only shows that KVM runs this kernel: /dev/kvm may open and the guest die or hang."""
    return _machine("kvm", 512, kernel, initrd, f"console=ttyS0 {PROBE}")


def _machine(accelerator: Accelerator, memory: int, kernel: str, initrd: str, append: str) -> list[str]:
    # la57: 5-level paging under TCG is slow, and some kernels die of it.
    speed = ["kvm", "-cpu", "host"] if accelerator == "kvm" else ["tcg,thread=multi", "-cpu", "max,la57=off"]
    return [
        QEMU, "-accel", *speed, "-smp", "1", "-m", str(memory), "-nodefaults", "-display", "none",
        "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
        "-append", f"{append} quiet panic=1 mitigations=off printk.devkmsg=on",
    ]  # fmt: skip


def judge(rehearsal: Rehearsal, ran: Ran, saved: Saved) -> Verdict:
    """The verdict: the disk decides whether it was captured, the console says why not."""
    console, capture, meta = ran.console, rehearsal.capture, dict(saved.meta)
    reason, line = _failure(rehearsal, ran, saved)
    end = console.final.seconds if console.final and ran.timed_out else ran.seconds
    came_back = console.crash is not None and (console.final is not None or not ran.timed_out)
    least = meta.get("min_available_kib", "")
    return Verdict(
        captured=reason is None,
        reason=reason,
        console_line=line,
        result=meta.get("result") or console.result,
        directory=saved.directory,
        dump=saved.files,
        makedumpfile_readable=saved.readable,
        panic_line=saved.panic_line or (console.crash.text if console.crash else None),
        seconds_total=round(ran.seconds, 1),
        seconds_panic_to_reboot=round(end - console.crash.seconds, 1) if console.crash and came_back else None,
        min_available_kib=int(least) if least.isdigit() else console.least_kib,
        reserved_bytes=console.reserved,
        crashkernel=rehearsal.wish.crashkernel,
        memory_mib=rehearsal.wish.memory_mib,
        accelerator=ran.accelerator,
        release=capture.kernel.release,
        system_release=rehearsal.system_release,
        flavour=capture.flavour,
        generator=capture.generator,
        image=capture.image,
        image_bytes=rehearsal.image_bytes,
        load_method=console.method,
        controller=rehearsal.controller.name,
        target=f"{capture.target.path} on {capture.target.device} ({capture.target.fstype})",
        cmdline=rehearsal.cmdline,
    )


def _failure(rehearsal: Rehearsal, ran: Ran, saved: Saved) -> tuple[str | None, str | None]:
    """Why it is no capture, and the console's line on it; None when it is one."""
    console = ran.console
    problem = _on_disk(saved)
    if problem is None:
        return None, None
    last = console.last.text if console.last else None
    if console.refused:
        wish = rehearsal.wish
        if console.reserved == 0:
            return f"crashkernel={wish.crashkernel} reserved nothing in a machine of {wish.memory_mib} MiB", None
        return console.refused, None
    if console.trouble:
        return console.trouble, console.trouble_line
    if ran.timed_out and console.stage != "ended":
        return f"not done after {rehearsal.wish.timeout_s} s: {_REACHED[console.stage]}", last
    if console.stage in ("saved", "ended"):
        return problem, None
    return f"the machine ended too early: {_REACHED[console.stage]}", last


_REACHED = {
    "nothing": "nothing came from the virtual machine",
    "system": "the system kernel did not reach the first stage",
    "first stage": "the capture kernel was not loaded",
    "loaded": "the system kernel did not panic",
    "panicked": "the capture kernel did not start",
    "capture": "the capture kernel did not reach kdump-save",
    "saving": "kdump-save did not come to its end",
    "saved": "it was saved, but the capture kernel did not reboot",
    "ended": "the machine did not reboot",
}


def _on_disk(saved: Saved) -> str | None:
    """What is wrong with the dump itself."""
    names = {file.name for file in saved.files if file.size > 0}
    result = dict(saved.meta).get("result")
    if saved.directory is None:
        return "there is no dump on the disk"
    if result != "complete":
        return f"the dump is not complete: {result or 'it has no meta'}"
    if "vmcore" not in names:
        return "the dump has no vmcore"
    if saved.readable is False:
        return "makedumpfile can't read the vmcore"
    if saved.panic_line is None:
        return "the panic is not in the dump's log"
    return None
