"""The reservation: whether it is there, large enough, not too large, and in a place that does."""

from __future__ import annotations

from kdump_pkg import crashkernel
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Finding
from kdump_pkg.plan.checks import Case, State, loader, mib
from kdump_pkg.plan.rebuild import load_obstacle

PART = "reservation"
BYTES = "crash_size in /sys/kernel"
FOUR_GIB = 1 << 32
SPARE_MIB = 64
"""So much too much is nobody's concern."""


def check(case: Case) -> list[Finding]:
    if not case.live:
        return []
    size = case.facts.boot.crash_size
    if size is None:
        text, _, why = (load_obstacle(case.facts) or "").partition(": ")
        return [Finding(PART, "bad", f"{text}: {why}", "boot a kernel that has it; Arch's kernels have", BYTES)]
    if size == 0:
        return [_nothing(case)]
    return [_amount(case, size), *_asked(case, size), *_place(case)]


def _nothing(case: Case) -> Finding:
    values = loader.asked_now(case)
    if values:
        words = crashkernel.text(values)
        return Finding(PART, "bad", _why(case, words, values), f"{_larger(case)}, then reboot", "/proc/cmdline")
    if loader.comes(case):
        return Finding(PART, "todo", "none in this boot", "reboot", BYTES)
    return Finding(PART, "bad", "no memory is reserved", loader.command(case), BYTES)


def _why(case: Case, words: str, values: tuple[str, ...]) -> str:
    """What is wrong with what the command line asks for."""
    memory = case.facts.boot.memory_total
    try:
        request = crashkernel.parse(values, memory or 0)
    except KdumpError as error:
        return error.message
    if memory and not request.cost:
        return f"{words} asks for nothing on a machine of {mib(memory)}"
    return f"{words} reserved nothing: there was no free block of that size"


def _larger(case: Case) -> str:
    """The command that reserves what is needed."""
    values = " ".join(case.need.values) if case.need else "SIZE"
    return f"kdump-pkg setup --crashkernel '{values}'" if " " in values else f"kdump-pkg setup --crashkernel {values}"


def _amount(case: Case, size: int) -> Finding:
    have = size >> 20
    below = sum(last + 1 - first for first, last in case.health.placed if last < FOUR_GIB)
    where = "" if not case.health.placed else ", below 4 GiB" if below else ", above 4 GiB"
    text, evidence = f"{have} MiB{where}", f"{BYTES}, /proc/iomem" if where else BYTES
    if case.need is None:
        return Finding(PART, "ok", text, evidence=evidence)
    need = case.need.need_mib
    if not case.need.enough and have + _cma(case) < need:
        margin = sum(part.mib for part in case.need.parts if part.name == "margin")
        sure = case.need.certain and have + _cma(case) < need - margin
        state: State = "bad" if sure else "note"
        few = "are too few" if sure else "may be too few"
        return Finding(PART, state, f"{have} MiB {few}, about {need} are needed", _larger(case), evidence)
    if have > 2 * need and have - need > SPARE_MIB:
        return Finding(PART, "note", f"{text}; about {need} would do", "kdump-pkg estimate --shrink", evidence)
    return Finding(PART, "ok", f"{text}; about {need} are needed", evidence=evidence)


def _cma(case: Case) -> int:
    """MiB that the capture gets besides, out of memory that the system uses."""
    try:
        return crashkernel.parse(loader.asked_now(case), case.facts.boot.memory_total or 0).cma >> 20
    except KdumpError:
        return 0


def _asked(case: Case, size: int) -> list[Finding]:
    """Whether it is what the command line asks for; a range can't be judged, for the reservation is not in MemTotal."""
    values = loader.asked_now(case)
    try:
        request = crashkernel.parse(values, case.facts.boot.memory_total or 0)
    except KdumpError:
        return []
    if any(":" in value for value in values) or request.size - size < 1 << 20:
        return []
    text = f"{mib(size)} of the {mib(request.size)} that are asked for: it was made smaller in this boot"
    return [Finding(PART, "note", text, evidence="/proc/cmdline")]


def _place(case: Case) -> list[Finding]:
    placed = case.health.placed
    if placed and all(first >= FOUR_GIB for first, _ in placed):
        text = "all of it lies above 4 GiB: drivers whose devices reach no further find no memory in the capture"
        return [Finding(PART, "note", text, "add crashkernel=72M,low", "/proc/iomem")]
    if case.health.boot_id and case.health.privileged and not placed:
        return [Finding(PART, "unknown", "where it lies can't be seen", evidence="/proc/iomem")]
    return []
