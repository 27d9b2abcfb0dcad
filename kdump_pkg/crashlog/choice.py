"""Which of a log's reports tells what the kernel died of: the panic's own cause, not what else went wrong before."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from kdump_pkg.crashlog.events import FAULTS, Event, events
from kdump_pkg.crashlog.lines import Line

BOOT = "Linux version "
FIRST = "Booting Linux on physical CPU"
"""What an arm64 kernel prints before that."""
TAIL = 400
"""Lines: what was reported longer before the end of a log without a panic is no cause."""
BURST = 5.0
"""Seconds in which hung tasks are reported together."""
FAULTY = tuple(FAULTS)

LED_BY: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), families)
    for pattern, families in (
        (r".{0,40}Fatal exception|Oopsed too often", (*FAULTY, "serror")),
        (r"softlockup: hung tasks", ("soft lockup",)),
        (r"Hard LOCKUP|Watchdog detected hard LOCKUP", ("hard lockup",)),
        (r"hung_task: blocked tasks", ("hung task",)),
        (r"RCU Stall", ("rcu stall",)),
        (r"(?:KASAN|KFENCE|UBSAN|KMSAN|KCSAN): |kasan\.fault=panic|scheduling while atomic", ("report",)),
        (r".{0,40}panic_on_warn set|.{0,40}system warned too often", ("warning", "report")),
        (r".{0,60}[Mm]achine check|Timeout: Not all CPUs entered|Fatal hardware error", ("mce",)),
        (r"sysrq triggered crash", ("sysrq",)),
        (r"NMI|An NMI occurred", ("nmi",)),
        (r"Asynchronous SError", ("serror",)),
        (r"kernel stack overflow", ("stack",)),
    )
)
"""What follows `Kernel panic - not syncing: `, and the families of reports that it follows from."""
DEATH_OF_A_TASK = ("Attempted to kill", "Aiee, killing interrupt handler", "Fatal exception")


@dataclass(frozen=True)
class Choice:
    lines: Sequence[Line]
    """Of the boot that ended in it."""
    cause: Event | None
    panic: Event | None
    also: tuple[Event, ...]
    """All reports of that boot."""


def choose(lines: Sequence[Line]) -> Choice:
    """The last boot of LINES in which something happened that ends a kernel; the last of all where there is none."""
    best: Choice | None = None
    for boot in _boots(lines):
        choice = _of_boot(boot)
        if best is None or choice.panic or choice.cause:
            best = choice
    return best or Choice(lines, None, None, ())


def _boots(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """A serial console also shows what was started before, and the capture kernel after it."""
    starts = [index for index, line in enumerate(lines) if line.text.startswith(BOOT)]
    starts = [start - lines[start - 1].text.startswith(FIRST) if start else 0 for start in starts]
    cuts = [0, *(start for start in starts[-16:] if start > 0), len(lines)]
    return [lines[start:end] for start, end in pairwise(cuts) if end > start]


def _of_boot(lines: Sequence[Line]) -> Choice:
    found = tuple(events(lines))
    panic = next((event for event in found if event.family == "panic"), None)
    if panic is None:
        return Choice(lines, _last(found, len(lines)), None, found)
    before = found[: found.index(panic)]
    text = panic.get("text")
    return Choice(lines, _cause(lines, before, panic, text), panic, found)


def _cause(lines: Sequence[Line], before: Sequence[Event], panic: Event, text: str) -> Event | None:
    families = next((families for pattern, families in LED_BY if pattern.match(text)), ())
    wanted = [event for event in before if set(families) & event.families]
    if text.startswith(DEATH_OF_A_TASK[:2]):
        wanted = [event for event in before if event.families & FAULTS and _just_before(lines, event, panic)]
    if not wanted:
        return None
    if wanted[-1].family == "hung task":
        return _first_of_burst(lines, wanted)
    own = [event for event in wanted if event.caller == panic.caller]
    return (own or wanted)[-1] if families and families[0] in FAULTS else wanted[-1]


def _just_before(lines: Sequence[Line], event: Event, panic: Event) -> bool:
    """The oops of the very task whose end is a panic."""
    then, now = lines[event.start].time, lines[panic.start].time
    if then is not None and now is not None and not -1.0 < now - then < 1.0:
        return False
    return panic.start - event.start < TAIL


def _first_of_burst(lines: Sequence[Line], hung: Sequence[Event]) -> Event:
    """They are found in the order of their age: the first is likelier than the others what they wait for."""
    last = lines[hung[-1].start].time
    if last is None:
        return hung[-1]
    times = ((event, lines[event.start].time) for event in hung)
    return next(event for event, time in times if time is not None and 0 <= last - time < BURST)


def _last(found: Sequence[Event], end: int) -> Event | None:
    """Without a panic: an exception ends in kdump before it prints one; the rest only where the log stops with it."""
    faults = [event for event in found if event.families & FAULTS]
    if faults:
        return faults[-1]
    others = [event for event in found if end - event.start < TAIL]
    serious = [event for event in others if event.family not in ("warning", "report")]
    return (serious or others)[-1] if others else None
