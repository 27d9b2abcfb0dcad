"""Disks and bounded boots in QEMU; judged by what the serial line said and what the disk holds, never by an exit code.

KVM is used only after a probe boot showed that it works here: /dev/kvm may open, create a machine, and an unmodified
kernel still dies in it without QEMU ever ending.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .common import LabError, cache, locked, need, run, say

TCG = ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off,cx16=off")  # QEMU 7.2 corrupts EFLAGS around cmpxchg16b
KVM = ("-accel", "kvm", "-cpu", "host")
CONSOLE = "console=ttyS0"
PROBE_MARK = "kdump-lab: userspace"
PROBE_SECONDS = 20
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
    argv = _qemu(kernel, initrd, append, disk, memory, smp, accelerator(kernel))
    result = _watch([*argv, *extra], timeout, until)
    if disk is not None:
        run(["e2fsck", "-E", "journal_only", "-p", disk], check=False)
    return result


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


def _qemu(
    kernel: Path, initrd: Path | None, append: str, disk: Path | None, memory: int, smp: int, accel: Sequence[str]
) -> list[str]:
    argv = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", *accel]  # gone when we are
    argv += ["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"]
    argv += ["-smp", str(smp), "-m", str(memory), "-kernel", str(kernel)]
    argv += ["-append", append if CONSOLE in append else f"{CONSOLE} {append}"]
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
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        return False
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        tree = Path(work) / "tree"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/busybox").write_bytes(busybox.read_bytes())
        (tree / "bin/busybox").chmod(0o755)
        (tree / "init").write_text(f"#!/bin/busybox sh\n/bin/busybox echo {PROBE_MARK}\n/bin/busybox reboot -f\n")
        (tree / "init").chmod(0o755)
        (tree / "dev").mkdir()
        initrd = pack_initramfs(tree, Path(work) / "initrd")
        argv = _qemu(kernel, initrd, "panic=-1", None, 512, 1, KVM)
        return PROBE_MARK in _watch(argv, PROBE_SECONDS, re.compile(PROBE_MARK)).console
