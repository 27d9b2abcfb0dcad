"""What each kind of crash asks for by itself, whoever is at fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from kdump_pkg.model.crash import Advice, Crash, Kind

VIRTUAL = re.compile(
    r"\b(QEMU|KVM|VMware|VirtualBox|Virtual Machine|Xen|Bochs|Parallels|Google Compute)\b", re.IGNORECASE
)

PLAIN: dict[Kind, tuple[Advice, ...]] = {
    "unknown": (Advice("The log tells of no crash: the kernel had no time to write it down, or its end is lost."),),
    "sysrq": (
        Advice(
            "Nothing broke: somebody asked for this crash, by Alt+SysRq+c, by /proc/sysrq-trigger or by kdump-pkg "
            "test.",
        ),
        Advice(
            "If that was because the machine hung: let the kernel see hangs itself and save them as they happen.",
            "kdump-pkg setup --panic-on-hang",
        ),
    ),
    "mce": (
        Advice(
            "The hardware reported this, no program can be at fault: a processor, memory, or a bus. See what was "
            "logged before it, and whether it goes on.",
            "journalctl --boot=-1 --dmesg --grep='mce|Hardware Error|EDAC'",
        ),
        Advice("Let rasdaemon name the part: which processor, which memory module.", "pacman -S rasdaemon"),
        Advice(
            "Then the usual ones: the firmware's defaults without an overclock or XMP/EXPO profile, newer firmware and "
            "microcode, cooling, and a night of memtest86+.",
            "pacman -S memtest86+-efi",
        ),
    ),
    "oom": (
        Advice(
            "Memory was full, and either vm.panic_on_oom asks for a panic then, or nothing was left to kill. Which "
            "process had it all stands in the table of tasks in the log.",
            "sysctl vm.panic_on_oom",
        ),
        Advice("Without that setting the kernel kills the largest process and goes on; zram or swap puts it off."),
    ),
    "hung task": (
        Advice(
            "A process waited for longer than kernel.hung_task_timeout_secs for something that didn't come: most of "
            "the time a disk, a file server or a lock. What it waited in stands in its trace.",
        ),
        Advice("See what all the others waited for.", "kdump-pkg debug DUMP --tool crash --command 'foreach UN bt'"),
        Advice("Ask the disk whether it is well.", "smartctl --all /dev/DISK"),
    ),
    "nmi": (
        Advice(
            "An NMI comes from hardware (a memory or bus error, a watchdog, a button) or, in a virtual machine, from "
            "whoever runs it. A server's management controller keeps a list.",
            "ipmitool sel list",
        ),
    ),
    "warning": (
        Advice(
            "The kernel would have gone on after this: kernel.panic_on_warn makes a panic of every warning. That is "
            "for testing.",
            "sysctl kernel.panic_on_warn=0",
        ),
    ),
    "stack overflow": (
        Advice(
            "The kernel's stack is small, and something called itself too often or too deep; the functions that come "
            "again and again in the trace are the ones. Layers of file systems and block devices add up.",
        ),
    ),
}


def for_kind(crash: Crash, name: str) -> Iterator[Advice]:
    """NAME is the dump's, as the shell takes it."""
    for advice in PLAIN.get(crash.kind, ()):
        yield replace(advice, command=advice.command.replace("DUMP", name))
    if crash.kind in ("hard lockup", "soft lockup", "rcu stall") and VIRTUAL.search(crash.hardware):
        yield Advice(
            "This is a virtual machine: a host that is overloaded, or was suspended, looks just like this. If so, "
            "turn the panic off here.",
            "sysctl kernel.softlockup_panic=0",
        )
    if crash.kind in ("panic", "unknown"):
        yield from _panic(crash.panic)


def has_a_name(panic: str) -> bool:
    """Whether it is one of those panics that no bug of the kernel makes."""
    return next(_panic(panic), None) is not None


def _panic(words: str) -> Iterator[Advice]:
    if "Unable to mount root fs" in words:
        yield Advice(
            "The kernel found no root file system: its initramfs is missing, or lacks a module, or root= names what "
            "isn't there. Boot another kernel, then make the images again.",
            "mkinitcpio -P",
        )
    elif "Attempted to kill init" in words:
        yield Advice(
            "Process 1 ended, which takes the machine down. Its exit code stands in the panic's line: the low 7 bits "
            "are a signal (0xb is a crash of its own, 0x7 an error of the disk or the memory under it), the next 8 "
            "what it returned. In an initramfs, it is most of the time a root that could not be mounted.",
        )
