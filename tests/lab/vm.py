"""Disks and bounded boots in QEMU; judged by what the serial line said and what the disk holds, never by an exit code.

A machine is started with a kernel that QEMU is handed, or by UEFI firmware (OVMF) from an EFI system partition; that is
a directory of the host, which QEMU shows as a FAT disk, read-only.

KVM is used only after a probe boot showed that it works here: /dev/kvm may open, create a machine, and an unmodified
kernel still dies in it without QEMU ever ending.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .common import LabError, cache, locked, need, run, say

# QEMU 7.2 corrupts EFLAGS around cmpxchg16b; what is emulated byte by byte or by calls makes guests an eighth slower.
TCG = ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off,cx16=off,erms=off,avx=off")
KVM = ("-accel", "kvm", "-cpu", "host")
CONSOLE = "console=ttyS0"
PROBE_MARK = "kdump-lab: userspace"
PROBE_SECONDS = 20
FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),  # Debian's package ovmf
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),  # Arch's edk2-ovmf
)
WITHOUT_FIRMWARE = "no UEFI firmware for QEMU: apt-get install ovmf, or pacman -S edk2-ovmf"
DISK_CACHE = "cache=unsafe"  # of the host's crash only: what the guest's kernel wrote is there when QEMU is gone


@dataclass(frozen=True)
class BootResult:
    """What one boot said; `timeline` has each line with the seconds since QEMU was started."""

    console: str
    timeline: tuple[tuple[float, str], ...] = field(repr=False)
    timed_out: bool
    seconds: float

    def when(self, pattern: str | re.Pattern[str]) -> float | None:
        """The second at which a line first matched."""
        return next((at for at, line in self.timeline if re.search(pattern, line)), None)


def disk_from_root(root: Path, dest: Path, *, uuid: str, size: str = "3G") -> Path:
    """A sparse ext4 image that holds what `root` holds, its file system named by `uuid`."""
    need("mkfs.ext4")
    dest.unlink(missing_ok=True)
    run(["mkfs.ext4", "-q", "-F", "-U", uuid, "-d", root, dest, size])
    return dest


def boot(
    *,
    kernel: Path,
    initrd: Path | None,
    append: str,
    disk: Path | None = None,
    memory: int = 1024,
    timeout: float = 300,
    until: re.Pattern[str] | None = None,
    smp: int = 1,
    extra: Sequence[str] = (),
) -> BootResult:
    """Boot once, until a line matches `until`, the machine goes down, or `timeout` seconds are over.

    `disk` is the guest's /dev/vda, written to; its journal is replayed afterwards so that it can be read as it is.
    """
    need("qemu-system-x86_64", "setpriv")
    argv = _qemu(accelerator(kernel), memory, smp) + _direct(kernel, initrd, append, disk)
    result = _watch([*argv, *extra], timeout, until)
    if disk is not None:
        run(["e2fsck", "-E", "journal_only", "-p", disk], check=False)
    return result


def boot_esp(
    esp: Path, variables: Path, kernel: Path, *, memory: int = 512, timeout: float = 300, until: re.Pattern[str]
) -> BootResult:
    """Boot what UEFI firmware finds in the directory ESP, whose kernel is KERNEL, until a line matches `until`.

    What the firmware has kept in the file VARIABLES stays there for the next boot.
    """
    need("qemu-system-x86_64", "setpriv")
    argv = [*_qemu(accelerator(kernel), memory, 1), *firmware(variables)]
    # read-only: nothing of a boot may end in what the next one is compared with
    argv += ["-drive", f"file=fat:{esp},format=raw,if=virtio,readonly=on"]
    return _watch(argv, timeout, until)


def has_firmware() -> bool:
    return any(Path(code).is_file() for code, _ in FIRMWARE)


def firmware(variables: Path) -> tuple[str, ...]:
    """QEMU's options for UEFI firmware that keeps its variables in a file, which is made if it isn't there."""
    found = next(((code, empty) for code, empty in FIRMWARE if Path(code).is_file()), None)
    if found is None:
        raise LabError(WITHOUT_FIRMWARE)
    if not variables.exists():
        shutil.copyfile(found[1], variables)
    code = f"if=pflash,format=raw,readonly=on,file={found[0]}"
    return ("-drive", code, "-drive", f"if=pflash,format=raw,file={variables}")


def accelerator(kernel: Path) -> tuple[str, ...]:
    """QEMU's options for the fastest way to run this kernel here: KVM if it was seen to reach userspace, else TCG."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    this_boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    answer = cache() / f"kvm-{this_boot}"
    with locked("kvm"):
        if not answer.exists():
            works = _probe_kvm(kernel)
            say(f"KVM {'works' if works else 'does not work'} on this machine")
            answer.write_text("yes" if works else "no")
    return KVM if answer.read_text() == "yes" else TCG


def read_file(disk: Path, path: str) -> bytes:
    """One file of an ext4 image."""
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        copy = Path(work) / "file"
        said = run(["debugfs", "-R", f'dump "{path}" "{copy}"', disk]).stderr
        if not copy.exists() or "File not found" in said:
            raise LabError(f"{disk}: no {path}: {said.strip()}")
        return copy.read_bytes()


def list_dir(disk: Path, path: str) -> list[str]:
    """The names in one directory of an ext4 image."""
    done = run(["debugfs", "-R", f'ls -p "{path}"', disk])
    if "File not found" in done.stderr:
        raise LabError(f"{disk}: no {path}")
    names = [line.split("/")[5] for line in done.stdout.splitlines() if line.startswith("/")]
    return sorted(name for name in names if name not in {".", ".."})


def pack_initramfs(tree: Path, dest: Path) -> Path:
    """An uncompressed initramfs of a directory."""
    run(["bsdtar", "--format=newc", "--uid", "0", "--gid", "0", "-cf", dest, "-C", tree, "."])
    return dest


def tiny_initramfs(script: str, dest: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """An initramfs whose init is a script for busybox, and nothing else but FILES."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        raise LabError("no busybox on this machine (run tests/lab/provision)")
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        tree = Path(work)
        for name, data in {"bin/busybox": busybox.read_bytes(), "init": script.encode(), **(files or {})}.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o755)
        for name in ("dev", "proc", "sys"):
            (tree / name).mkdir()
        return pack_initramfs(tree, dest)


DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
SWITCH = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module"
done
/bin/busybox mkdir /disk
/bin/busybox mount -t ext4 -o ro /dev/vda /disk
exec /bin/busybox switch_root /disk /usr/lib/systemd/systemd
"""
"""Goes on with what is on the disk; the system's own initramfs takes as long as all the rest of an emulated boot."""


def disk_initramfs(kernel: Path, dest: Path) -> Path:
    """What a kernel, with its modules beside it, needs to start from `disk_from_root`'s disk."""
    files = disk_modules(kernel)
    names = "\n".join(Path(name).name for name in files)
    return tiny_initramfs(SWITCH, dest, {**files, "modules/order": names.encode()})


def disk_modules(kernel: Path) -> dict[str, bytes]:
    """The modules for the disk, by their paths in an initramfs, in the order in which they can be loaded."""
    order = in_order(kernel, DISK_MODULES)
    return {f"modules/{Path(path).stem}": unpack_module(kernel.parent / path) for path in order}


def in_order(kernel: Path, names: Sequence[str]) -> list[str]:
    """Paths, beside a kernel, of these modules and of what they need, as they can be loaded one after the other."""
    text = kernel.with_name("modules.dep").read_text()
    needs = {path: rest.split() for path, _, rest in (line.partition(":") for line in text.splitlines())}
    wanted = [path for name in names for path in needs if Path(path).name == f"{name}.ko.zst"]
    return list(dict.fromkeys(path for one in wanted for path in (*reversed(needs[one]), one)))


def unpack_module(packed: Path) -> bytes:
    """A module as a plain busybox can load it."""
    return subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True).stdout


def _qemu(accel: Sequence[str], memory: int, smp: int) -> list[str]:
    """A machine with a processor, memory and a serial line."""
    argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *accel]  # gone when we are
    argv += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    return [*argv, "-smp", str(smp), "-m", str(memory)]


def _direct(kernel: Path, initrd: Path | None, append: str, disk: Path | None) -> list[str]:
    """What it is to run, and on which disk."""
    argv = ["-kernel", str(kernel), "-append", append if CONSOLE in append else f"{CONSOLE} {append}"]
    if initrd is not None:
        argv += ["-initrd", str(initrd)]
    if disk is not None:
        argv += ["-drive", f"file={disk},format=raw,if=virtio,{DISK_CACHE}"]
    return argv


def _watch(argv: Sequence[str], timeout: float, until: re.Pattern[str] | None) -> BootResult:
    """Run QEMU, note when each line came, and end it by its id."""
    start = time.monotonic()
    timeline: list[tuple[float, str]] = []
    rest = b""
    matched = False
    guest = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert guest.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(guest.stdout, selectors.EVENT_READ)
            while not matched and (left := start + timeout - time.monotonic()) > 0:
                if not selector.select(left):
                    break
                data = os.read(guest.stdout.fileno(), 65536)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                texts = [line.decode(errors="replace").rstrip("\r") for line in lines]
                timeline += [(time.monotonic() - start, text) for text in texts]
                matched = until is not None and any(until.search(text) for text in texts)
        seconds = time.monotonic() - start
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            guest.wait(0.2)
        guest.kill()
        guest.wait()
    if rest:
        timeline.append((seconds, rest.decode(errors="replace")))
    console = "\n".join(line for _, line in timeline)
    return BootResult(console, tuple(timeline), timed_out=not matched and seconds >= timeout, seconds=seconds)


def _probe_kvm(kernel: Path) -> bool:
    """Whether this kernel reaches a first process under KVM within a few seconds."""
    if not Path("/bin/busybox").exists():
        return False
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        script = f"#!/bin/busybox sh\n/bin/busybox echo {PROBE_MARK}\n/bin/busybox reboot -f\n"
        initrd = tiny_initramfs(script, Path(work) / "initrd")
        argv = _qemu(KVM, 512, 1) + _direct(kernel, initrd, "panic=-1", None)
        return PROBE_MARK in _watch(argv, PROBE_SECONDS, re.compile(PROBE_MARK)).console
