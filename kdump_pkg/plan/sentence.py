"""What happened, in one sentence: each part of it only where it is known, and none that would mislead."""

from __future__ import annotations

import re

from kdump_pkg.model.crash import Crash, Kind
from kdump_pkg.report.words import place, span

CAUSES: dict[Kind, str] = {
    "oops": "an access that the processor refused",
    "bug": "a bug that it found in itself",
    "hard lockup": "a hard lockup: a CPU that took no interrupts any more",
    "soft lockup": "a soft lockup: a CPU that was stuck in the kernel",
    "hung task": "a task that hung",
    "rcu stall": "a CPU that stalled RCU",
    "mce": "a machine check, that is an error of the hardware",
    "oom": "a lack of memory",
    "stack overflow": "an overflow of its stack",
    "nmi": "an NMI that it could not explain",
    "warning": "a warning, which is a panic by its settings",
}
"""Where the log gives no better one."""
NO_PLACE = ("mce", "oom", "sysrq", "nmi")
"""Kinds whose trace shows who noticed it, not who did it."""
NO_PROCESS = ("mce", "oom", "nmi")
"""Kinds that happen to the process that runs by chance."""
ENDS = ("do_exit", "make_task_dead", "do_group_exit")
"""Functions in which every process ends."""
WATCHER = "khungtaskd"
"""Finds tasks that hang; where nothing is known of these, its own name and trace would mislead."""


def tell(crash: Crash, *, encrypted: bool = False, has_log: bool = True) -> str:
    """Without the full stop, and without a capital letter: it may stand behind another word."""
    who = f"kernel {crash.release}" if crash.release else "a kernel of unknown release"
    if encrypted:
        return f"{who} crashed; what of, is encrypted"
    if not has_log:
        return f"{who} crashed; there is no log that says what of"
    how = _how(crash)
    if how is None:
        when = f" {span(crash.uptime)} after boot" if crash.uptime is not None else ""
        return f"{who} crashed{when}; its log doesn't say what of"
    return ", ".join([f"{who} {how}", *_circumstances(crash)])


def _how(crash: Crash) -> str | None:
    if crash.kind == "sysrq":
        return "was crashed on purpose by sysrq"
    cause = crash.cause or CAUSES.get(crash.kind, "")
    if not cause and crash.panic:
        cause = f"a panic: {crash.panic}"
    if not cause:
        return None
    where = "" if crash.kind in NO_PLACE or crash.process == WATCHER else place(crash.where)
    function = crash.where.function if crash.where else ""
    if function in ENDS or _says(cause, function):
        where = ""
    return f"died of {cause} in {where}" if where else f"died of {cause}"


def _says(cause: str, word: str) -> bool:
    """Whether it is one of the words of CAUSE; the `sh` of `crash.c` is not."""
    return re.search(rf"(?<![\w./]){re.escape(word)}(?![\w./])", cause) is not None


def _circumstances(crash: Crash) -> list[str]:
    parts = []
    known = crash.process not in ("", WATCHER) and not _says(crash.cause, crash.process)
    if known and crash.kind not in NO_PROCESS:
        parts.append(_whose(crash))
    if crash.uptime is not None:
        parts.append(f"{span(crash.uptime)} after boot")
    return parts


def _whose(crash: Crash) -> str:
    """The idle tasks have the process id 0; before it becomes init, so is called what has the 1."""
    if crash.process.startswith("swapper/"):
        return "while booting" if crash.pid == 1 else "while idle"
    return f"in process {crash.process}"
