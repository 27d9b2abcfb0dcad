"""Which dumps of a target have to go: the rule and nothing but the rule; hooks/save/room.sh keeps to the same one.

A dump that is to be sent away and has not arrived goes for want of room alone, and last. Only the running system knows
of such: in the capture none is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kdump_pkg.model import Dump, Retention, Space

DAY = 86400


@dataclass(frozen=True)
class Removal:
    dump: Dump
    reason: str


@dataclass(frozen=True)
class _State:
    """What is there now, with the dump that is about to be written counted in."""

    count: int
    used: int
    free: int

    def without(self, dump: Dump) -> _State:
        return _State(self.count - 1, self.used - dump.kib, self.free + dump.kib)


def choose(
    dumps: Sequence[Dump], rules: Retention, space: Space, now: float, *, incoming: int = 0, need: int = 0
) -> tuple[Removal, ...]:
    """What must be removed, in this order, until the rules are kept or nothing is left that may be.

    INCOMING is 1 for a dump about to be written, and NEED the KiB that it will want.
    """
    state = _State(len(dumps) + incoming, sum(d.kib for d in dumps) + need, space.free)
    order = candidates(dumps)
    aged = [d for d in order if _too_old(d, rules.max_age, now) and not d.unsent]
    removals = [Removal(d, f"older than {_days(rules.max_age)}") for d in aged]
    gone = {r.dump.name for r in removals}
    for removal in removals:
        state = state.without(removal.dump)
    for dump in order:
        if dump.name in gone:
            continue
        reason = _excess(state, replace(rules, keep=0, max_use="0") if dump.unsent else rules, space.total, need)
        if reason is None:
            break
        removals.append(Removal(dump, reason))
        state = state.without(dump)
    return tuple(removals)


def candidates(dumps: Iterable[Dump]) -> tuple[Dump, ...]:
    """The dumps that may be removed at all, first those that are missed least: incomplete before complete, by age.

    Those that are yet to be sent come last.
    """
    ordered = sorted(dumps, key=lambda d: d.name)
    complete = [d for d in ordered if d.complete]
    kept = {d.name for d in (*ordered[-1:], *complete[-1:])}
    free = [d for d in ordered if not d.pinned and d.name not in kept]
    return tuple(sorted(free, key=lambda d: (d.unsent, d.complete)))


def _excess(state: _State, rules: Retention, total: int, need: int) -> str | None:
    """Which rule is broken, in words; None when all are kept."""
    most, least = kib(rules.max_use, total), kib(rules.keep_free, total)
    if 0 < rules.keep < state.count:
        return f"more than {rules.keep} dump{'s' if rules.keep > 1 else ''}"
    if 0 < most < state.used:
        return f"the dumps take more than {_shown(rules.max_use)}"
    if state.free < least + need:
        return f"less than {_shown(rules.keep_free)} is free" if least and not need else "room for the next dump"
    return None


def kib(limit: str, total: int) -> int:
    """A limit as KiB: it is written so, or as a share of the file system."""
    digits = limit.removesuffix("%")
    if not (digits.isascii() and digits.isdigit()):
        return 0
    return total * int(digits) // 100 if limit.endswith("%") else int(digits)


def _too_old(dump: Dump, max_age: int, now: float) -> bool:
    if max_age <= 0:
        return False
    try:
        made = datetime.strptime(dump.name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC)
    except ValueError:  # the form of a time, but no such day
        return False
    return now - made.timestamp() > max_age * DAY


def _days(count: int) -> str:
    return f"{count} day{'s' if count > 1 else ''}"


def _shown(limit: str) -> str:
    return limit if limit.endswith("%") else f"{int(limit) / 1024:.0f} MiB"
