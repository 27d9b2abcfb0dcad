"""What a log says of the machine and its kernel: from what was printed while it started."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kdump_pkg.crashlog.lines import Line
from kdump_pkg.model.crash import Frame

Architecture = Literal["", "x86_64", "aarch64", "other"]

KERNEL = re.compile(r"Linux version (\S{1,128})(?: .*?(#\d.*))?")
BANNER = "Linux version "
DMI = ("DMI: ", "Hardware name: ")
COMMAND = ("Kernel command line: ", "Command line: ")
MICROCODE = (
    re.compile(r"microcode: (?:microcode )?[Uu]pdated early(?: to revision|:.{0,20}->)[: ]+(0x[0-9a-f]{1,8})"),
    re.compile(r"microcode: Current revision: (0x[0-9a-f]{1,8})"),
    re.compile(r"microcode: (?:CPU\d{1,4}: )?(?:new )?patch_level=(0x[0-9a-f]{1,8})"),
    re.compile(r"microcode: sig=\S{1,20}, pf=\S{1,10}, revision=(0x[0-9a-f]{1,8})"),
    re.compile(r"mce: \[Hardware Error\]: PROCESSOR .{0,80} microcode ([0-9a-f]{1,8})"),
)
SIGNS: tuple[tuple[Architecture, tuple[str, ...]], ...] = (
    ("x86_64", ("RIP: ", "RAX: ", "#PF: ", "BIOS-", "x86/", "smpboot: ", "mce: [Hardware Error]")),
    ("aarch64", ("pstate: ", "Mem abort info", "Internal error: ", "x29: ", "PHYS_OFFSET", "CPU features: ")),
    ("other", ("epc : ", "PC is at ", "NIP: ", "NIP [", "Krnl PSW", "EIP: ")),
)
TAINTED = re.compile(r" Tainted: ([A-Z ]{1,40}) ")
BOOTING = re.compile(r"Booting Linux on physical CPU 0x[0-9a-f]{10} \[0x[0-9a-f]{8}\]")
PARTS: tuple[tuple[Architecture, tuple[str, ...]], ...] = (
    ("x86_64", ("__x64_sys_", "asm_sysvec_", "asm_exc_", "do_syscall_64", "entry_SYSCALL_64", "x86_64_")),
    ("aarch64", ("__arm64_sys_", "el0t_64", "el1h_64", "el0_svc", "__secondary_switched", "__primary_switched")),
)  # fmt: skip


@dataclass
class Machine:
    release: str = ""
    version: str = ""
    hardware: str = ""
    cmdline: str = ""
    microcode: str = ""
    architecture: Architecture = ""
    taint: str = ""
    """When it was last said."""


def read(lines: Sequence[Line]) -> Machine:
    """LINES are of one boot."""
    found = Machine()
    command: list[str] = []
    for line in lines:
        text = line.text
        if text.startswith(BANNER) and (match := KERNEL.match(text)) is not None:
            found.release, found.version = match[1], (match[2] or "").rstrip()
        elif text.startswith(COMMAND):
            command.append(text)
        elif text.startswith(DMI) or text.startswith("Machine model: "):
            found.hardware = found.hardware or text.partition(": ")[2]
        elif text.startswith("CPU: "):
            found.taint = _taint(text) or found.taint
        elif "icrocode" in text:
            found.microcode = _microcode(text) or found.microcode
        elif not found.architecture:
            found.architecture = _sign(text)
    found.cmdline = _command(command)
    return found


def of_trace(trace: Sequence[Frame]) -> Architecture:
    """By the functions through which a kernel is entered."""
    for architecture, starts in PARTS:
        if any(frame.function.startswith(starts) for frame in trace):
            return architecture
    return ""


def _taint(text: str) -> str:
    match = TAINTED.search(text)
    return "".join(char for char in match[1] if char not in " G") if match else ""


def _microcode(text: str) -> str:
    match = next((match for pattern in MICROCODE if (match := pattern.match(text))), None)
    if match is None:
        return ""
    return match[1] if match[1].startswith("0x") else f"0x{match[1]}"


def _sign(text: str) -> Architecture:
    if text.startswith("Booting Linux on physical CPU"):
        return "aarch64" if BOOTING.match(text) else "other"
    return next((architecture for architecture, signs in SIGNS if text.startswith(signs)), "")


def _command(found: list[str]) -> str:
    """The kernel's own one, put together where it was too long for one line; what was set up before it otherwise."""
    for start in COMMAND:
        parts = [text.removeprefix(start) for text in found if text.startswith(start)]
        whole: list[str] = []
        for part in parts:
            whole.append(part.removesuffix("\\").strip())
            if not part.endswith("\\"):
                break
        if whole:
            return " ".join(whole)
    return ""
