"""What the log of a crashed kernel says, and the report made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "oops", "bug", "panic", "hard lockup", "soft lockup", "hung task", "rcu stall", "mce", "oom", "stack overflow",
    "sysrq", "nmi", "warning", "unknown",
]  # fmt: skip
"""Why the kernel died, from its own words. `oops`: an access that the processor refused (null pointer, page fault,
general protection …); `bug`: BUG(), BUG_ON() and what is reported as such; `panic`: any other call of panic()."""


@dataclass(frozen=True)
class Frame:
    """One line of a call trace: `? nouveau_fence_update+0x1d/0x70 [nouveau]`."""

    function: str
    """Without compiler suffixes (.constprop.0, .isra.0 …); empty where only an address was printed."""
    offset: int | None = None
    """Bytes from the beginning of the function."""
    size: int | None = None
    """Of the function, in bytes."""
    module: str = ""
    """Empty: the kernel itself."""
    reliable: bool = True
    """Without the `?` that the kernel puts before what it found on the stack by chance."""
    context: str = ""
    """IRQ, NMI, #DF, SYSENTER … where the kernel printed the frame between <IRQ> and </IRQ>; empty: TASK."""


@dataclass(frozen=True)
class LoadedModule:
    """One of `Modules linked in:`."""

    name: str
    flags: str = ""
    """As printed in brackets: P proprietary, O out of tree, E unsigned, F forced, C staging, K live patch, +/- coming
    and going."""


@dataclass(frozen=True)
class Crash:
    """What is known from the log alone. All text is of printable characters; nothing in it can command a terminal."""

    kind: Kind = "unknown"
    cause: str = ""
    """A noun phrase that follows "died of": `a null pointer access`, `a soft lockup of CPU 3 for 26 s`."""
    words: str = ""
    """The kernel's own first line about it, without prefixes."""
    panic: str = ""
    """What follows `Kernel panic - not syncing: `; empty where there is no such line."""
    release: str = ""
    version: str = ""
    """`#1 SMP PREEMPT_DYNAMIC …`"""
    architecture: Literal["", "x86_64", "aarch64", "other"] = ""
    cpu: int | None = None
    pid: int | None = None
    process: str = ""
    """comm of the task that ran, as `kworker/3:1`."""
    workqueue: str = ""
    """`events fn_name` after `Workqueue:`."""
    where: Frame | None = None
    """The function at fault: of RIP or pc, or the first of the trace that is not the machinery of crashing."""
    address: int | None = None
    """That was accessed, of an oops."""
    trace: tuple[Frame, ...] = ()
    """Of the task that crashed, innermost first, without the machinery of crashing."""
    taint: str = ""
    """Letters, as `POE`; empty: not tainted, or not known."""
    modules: tuple[LoadedModule, ...] = ()
    hardware: str = ""
    """After `Hardware name:`, without the firmware."""
    firmware: str = ""
    """`BIOS F14 11/11/2023`."""
    microcode: str = ""
    cmdline: str = ""
    uptime: float | None = None
    """Seconds from boot to crash."""
    before: tuple[str, ...] = ()
    """The last lines before the first of the crash, oldest first, at most 40."""
    lines: tuple[str, ...] = ()
    """The lines of the crash itself, from its first to the end of its trace, at most 200."""
    truncated: bool = False
    """The log begins or ends in the middle of the crash."""
    signature: str = ""
    """Sixteen hexadecimal digits, of kind and trace: the same for the same crash in another boot, with other addresses,
    other offsets and another build. Empty where there is nothing to make one of."""


@dataclass(frozen=True)
class Owner:
    """The package that a module, or the kernel, comes from."""

    module: str
    """Empty: the kernel itself."""
    package: str
    version: str
    upgraded: int | None = None
    """Seconds since 1970 of the last installation or upgrade before the crash, from pacman's log; None: not known."""
    out_of_tree: bool = False


@dataclass(frozen=True)
class Taint:
    letter: str
    meaning: str


@dataclass(frozen=True)
class Advice:
    """Something to do next."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class TaskFacts:
    """A task as it stands in the vmcore."""

    pid: int
    name: str
    state: str
    """R, S, D …"""
    cpu: int
    trace: tuple[str, ...] = ()
    """Function names, innermost first."""


@dataclass(frozen=True)
class VmcoreFacts:
    """What the memory says besides the log."""

    tasks: int = 0
    running: tuple[TaskFacts, ...] = ()
    """One for each CPU, with its trace."""
    blocked: tuple[TaskFacts, ...] = ()
    """In state D, at most 50."""
    memory: tuple[tuple[str, int], ...] = ()
    """Name as in /proc/meminfo, and KiB."""
    fault: str = ""
    """The first thing that could not be read of what every dump must hold; empty: all could."""
    missing: str = ""
    """Why nothing could be read at all, as `drgn is not installed`; empty: it was."""


@dataclass(frozen=True)
class Check:
    """One thing that `verify` looked at."""

    name: str
    state: Literal["ok", "bad", "skipped"]
    text: str


@dataclass(frozen=True)
class Verification:
    checks: tuple[Check, ...] = ()
    time: int = 0
    """When, in seconds since 1970."""

    @property
    def good(self) -> bool:
        return not any(check.state == "bad" for check in self.checks)


@dataclass(frozen=True)
class Report:
    """All that is told of one crash: the text, the page and report.json are made of it."""

    id: str
    """Name of the dump."""
    time: int
    sentence: str
    crash: Crash
    taints: tuple[Taint, ...] = ()
    owners: tuple[Owner, ...] = ()
    """Of the modules in the trace and of those that taint, the kernel first."""
    first_since: str = ""
    """`the first crash since linux was upgraded to 6.17.8.arch1-1, 2 h before it`; empty where it isn't, or unknown."""
    seen: tuple[str, ...] = ()
    """Other dumps with the same signature, newest first."""
    verification: Verification | None = None
    vmcore: VmcoreFacts | None = None
    advice: tuple[Advice, ...] = ()
    machine: tuple[tuple[str, str], ...] = ()
    """What the machine said of itself when the report was made: name and value; the log's own words are in `crash`."""
    encrypted: bool = False
    """Whether it was made without the log because that can't be read without a key."""
    has_log: bool = True
    made_by: str = ""
    """Version of kdump-pkg: another one may read more out of the same log."""
