"""What taints a kernel, spelled out: the letters of Documentation/admin-guide/tainted-kernels.rst, in our words."""

from __future__ import annotations

from kdump_pkg.model.crash import Crash, Taint
from kdump_pkg.report.words import and_so_on

MEANINGS = {
    "P": "a module with a proprietary licence was loaded",
    "F": "a module was loaded by force",
    "S": "the kernel ran on hardware, or with settings, that it is not made for",
    "R": "a module was unloaded by force",
    "M": "the processor had reported a machine check: broken hardware, most of the time",
    "B": "a page of memory was found in a state that it must not be in: broken memory, or somebody wrote to it",
    "U": "a program asked for this mark",
    "D": "the kernel had died of an oops or a BUG before",
    "A": "an ACPI table of the firmware was replaced by the user",
    "W": "the kernel had given a warning before",
    "C": "a module from the staging tree was loaded, which is not held to be finished",
    "I": "the kernel worked around a serious bug of the firmware",
    "O": "a module was loaded that is no part of the kernel",
    "E": "a module was loaded whose signature is missing or wrong",
    "L": "a CPU had been stuck in the kernel before: a soft lockup",
    "K": "the kernel was patched while it ran",
    "X": "a mark of the distribution's own",
    "T": "the kernel was built with structures laid out at random",
    "N": "a test of the kernel was run inside it",
    "J": "a program changed a device's state through its firmware, by fwctl",
}
OF_MODULES = {"P": "P", "F": "F", "C": "C", "O": "O", "E": "E", "K": "K", "N": "N"}
"""The letters that a module carries itself, in `Modules linked in:`."""
MOST = 12


def spell_out(crash: Crash) -> tuple[Taint, ...]:
    """Each letter with its meaning, and the modules that brought it in."""
    return tuple(
        Taint(letter, _meaning(letter, crash)) for letter in dict.fromkeys(crash.taint) if letter not in ("G", " ")
    )


def _meaning(letter: str, crash: Crash) -> str:
    meaning = MEANINGS.get(letter, "not known to this version of kdump-pkg")
    names = [module.name for module in crash.modules if OF_MODULES.get(letter, "-") in module.flags]
    if not names:
        return meaning
    more = [f"{len(names) - MOST} others"] if len(names) > MOST else []
    return f"{meaning}: {and_so_on([*names[:MOST], *more])}"
