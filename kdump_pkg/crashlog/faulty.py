"""Whose fault: the function of a report, and its trace without what only shows that the kernel was dying."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kdump_pkg.crashlog import frames
from kdump_pkg.crashlog.body import Body
from kdump_pkg.crashlog.machinery import ALLOCATING, CHECKS, DYING, SLEEPING, WAITING, WATCHING
from kdump_pkg.model.crash import Frame, Kind

ENDED = "Attempted to kill"
"""A process that must not end did: no function is at fault."""
CHANCE = 4
"""Frames found by chance that may stand among the machinery."""
INTERRUPTING = ("soft lockup", "hard lockup", "rcu stall", "nmi", "mce")
"""These say what a processor did when somebody looked at it."""
CRASHER = Frame("sysrq_handle_crash")
"""It says so itself; on arm64 the trace shows another name for it."""
MACHINERY: dict[str, frozenset[str]] = dict.fromkeys(INTERRUPTING, DYING | WATCHING) | {
    "hung task": DYING | SLEEPING,
    "rcu stall": DYING | WATCHING | SLEEPING,
    "oom": DYING | ALLOCATING,
}


def find(kind: Kind, body: Body, named: str) -> tuple[Frame | None, tuple[Frame, ...]]:
    """The function at fault and the trace, of a report of KIND in whose words NAMED may name one."""
    machinery = MACHINERY.get(kind, DYING | CHECKS)
    if kind == "bug" and body.at is None:  # found asleep where it must not
        machinery |= SLEEPING
    if ENDED in named:
        return None, tuple(_stripped(body.trace, machinery))
    if kind in INTERRUPTING and body.at is None and body.interrupted is not None:
        return _headed(body.trace[body.interrupted], body.trace[body.interrupted :])
    trace = _stripped(body.trace, machinery)
    where = body.at if body.at is not None and body.at.function not in machinery else None
    if where is not None:
        return _headed(where, trace)
    if (where := frames.within(named)) is not None:
        return _below(where, trace)
    if kind == "sysrq":
        return _asked_for(trace)
    if kind == "hung task":
        return _sure(frame for frame in trace if frame.function not in WAITING) or _sure(trace), tuple(trace)
    return _sure(trace), tuple(trace)


def _stripped(trace: Sequence[Frame], machinery: frozenset[str]) -> list[Frame]:
    """TRACE from behind the last function of MACHINERY before the first that is sure and isn't of it.

    Behind a function that never returns, its caller's return address may be the beginning of what comes next in memory.
    """
    cut = 0
    for index, frame in enumerate(trace):
        if frame.function in machinery or (cut == index > 0 and frame.offset == 0):
            cut = index + 1
        elif (frame.reliable and frame.function) or index - cut >= CHANCE:
            break
    rest = list(trace[cut:])
    first = next((index for index, frame in enumerate(rest) if frame.reliable and frame.function), 0)
    return rest[first:] if first <= CHANCE else rest


def _headed(where: Frame, trace: list[Frame]) -> tuple[Frame, tuple[Frame, ...]]:
    """Where the processor was is the innermost frame, also where the trace begins with its caller."""
    rest = trace
    while rest and (_same(rest[0], where) or (not rest[0].reliable and rest[0].function == where.function)):
        rest = rest[1:]
    head = replace(where, context=where.context or (trace[0].context if trace else ""))
    return head, (head, *rest)


def _below(where: Frame, trace: list[Frame]) -> tuple[Frame, tuple[Frame, ...]]:
    """The function that the kernel names, and the trace from there on if it is in it."""
    for index, frame in enumerate(trace):
        if frame.reliable and frame.function == where.function:
            return frame, tuple(trace[index:])
    return where, (where, *trace)


def _asked_for(trace: list[Frame]) -> tuple[Frame, tuple[Frame, ...]]:
    """What the key calls, and from its caller on the trace."""
    start = next((index for index, frame in enumerate(trace[:8]) if frame.function == "__handle_sysrq"), 0)
    head = next((frame for frame in trace[: start + 1] if frame.function == CRASHER.function), CRASHER)
    return head, (head, *(frame for frame in trace[start:] if frame is not head))


def _same(one: Frame, other: Frame) -> bool:
    return (one.function, one.offset, one.module) == (other.function, other.offset, other.module)


def _sure(trace: Iterable[Frame]) -> Frame | None:
    found = [frame for frame in trace if frame.function]
    return next((frame for frame in found if frame.reliable), found[0] if found else None)
