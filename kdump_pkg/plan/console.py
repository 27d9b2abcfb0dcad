"""What the console of a rehearsal tells, pure: how far it came, when, and the line on which it went wrong.

Nothing on it is trusted: what a guest writes is cleaned before anybody shows it, and looked at for known words only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Stage = Literal["nothing", "system", "first stage", "loaded", "panicked", "capture", "saving", "saved", "ended"]

MARK = "kdump-rehearsal: "
"""Before everything that the first stage says."""

# ECMA-48 control sequences, operating system commands with their text, and other escapes of two characters.
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
LONGEST = 400  # characters of a line that are kept

CRASH = re.compile(r"(?<!end )Kernel panic - not syncing: sysrq triggered crash")
CRASH_ASKED = re.compile(rf"sysrq: Trigger a crash|{CRASH.pattern}")
NOT_TAKEN = re.compile(r"end Kernel panic - not syncing: sysrq triggered crash")
CAPTURE_BEGINS = re.compile(r"\bLinux version \d|kdump-(?:init|save): ")
PANIC = re.compile(r"Kernel panic - not syncing:? ?(.*)")
FINAL = re.compile(r"kdump-save: final (\w+)")

NO_MEMORY = "the capture ran out of memory; reserve more"
# Causes before effects: the first row that any line fits is the reason, whatever else went wrong after it.
TROUBLES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[Ss]ystem is deadlocked on memory"), NO_MEMORY),
    (re.compile(r"Out of memory|invoked oom-killer|page allocation failure|not enough memory"), NO_MEMORY),
    # Below it 6.12 and 7.2 oops with cgroup_disable=memory, if no page was on any list yet (lruvec->pgdat is NULL).
    (re.compile(r"\btry_to_free_pages\+0x"), NO_MEMORY),
    (re.compile(r"Initramfs unpacking failed: write error"), "the image did not fit into the memory; reserve more"),
    (re.compile(r"Initramfs unpacking failed: (.*)"), "the capture kernel could not unpack the image: {}"),
    (re.compile(r"\b(BUG: .*|Oops: .*)"), "the capture kernel crashed: {}"),
    (PANIC, "the capture kernel panicked: {}"),
    (re.compile(r"kdump-save: step (\w+ failed.*)"), "{}"),
    (re.compile(r"kdump-save: (not done after .*)"), "kdump-save was {}"),
    (re.compile(r"kdump-init: (.*(?<!can't be loaded))$"), "the image's init said: {}"),  # drivers may find no device
    (re.compile(r"dracut[^:]*: (FATAL: .*)"), "the image gave up: {}"),
    (re.compile(r"(You are in (?:rescue|emergency) mode)"), "the image gave up: {}"),
)


@dataclass(frozen=True)
class Line:
    seconds: float
    """Since the machine was started, by the host's clock."""
    text: str


@dataclass(frozen=True)
class Console:
    stage: Stage
    """The furthest point that was reached."""
    last: Line | None
    crash: Line | None = None
    """The line of the panic that was asked for."""
    trouble: str | None = None
    trouble_line: str | None = None
    refused: str | None = None
    """What the first stage said when it could not go on."""
    reserved: int | None = None
    method: str | None = None
    least_kib: int | None = None
    result: str | None = None
    final: Line | None = None
    keys: tuple[str, ...] = ()
    """Volumes whose keys the first stage handed over."""
    there: frozenset[tuple[int, str]] = frozenset()
    """Directories that lay on the targets before the crash: number of the target, name."""
    trace: str | None = None
    """Where a capture that saved nothing left word of that."""


def clean(raw: bytes) -> str:
    """A line that can't harm a terminal: no escapes, no control or invisible characters, no end of it."""
    text = ESCAPE.sub("", raw.decode("utf-8", "replace"))
    shown = "".join(c if c.isprintable() else " " for c in text).strip()
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} …"


def ends(raw: bytes) -> bool:
    """Whether nothing more is to be expected after this line, though the machine goes on for ever."""
    return re.search(rb"kdump-save: final (halt|shell)", raw) is not None


def lines(raw: Iterable[tuple[float, bytes]]) -> tuple[Line, ...]:
    cleaned = (Line(seconds, clean(data)) for seconds, data in raw)
    return tuple(line for line in cleaned if line.text)


def read(said: Sequence[Line]) -> Console:
    """What the whole console says."""
    crash_at = _index(said, CRASH_ASKED)
    before = said if crash_at is None else said[:crash_at]
    after = () if crash_at is None else said[crash_at:]
    begin = _index(after, CAPTURE_BEGINS)
    capture = () if begin is None else after[begin:]
    trouble, trouble_line = _trouble(capture) if capture else _no_handover(after)
    reserved, least = _found(before, rf"{MARK}reserved (\d+)"), _found(capture, r"kdump-save: least .*: (\d+) KiB")
    final_at = _index(capture, FINAL)
    crash = next((line for line in after if CRASH.search(line.text)), None)
    return Console(
        stage=_stage(said, before, crash_at is not None, capture),
        last=said[-1] if said else None,
        crash=crash or (after[0] if after else None),
        trouble=trouble,
        trouble_line=trouble_line,
        refused=_found(before, rf"{MARK}failed: (.*)"),
        reserved=int(reserved) if reserved else None,
        method=_found(before, rf"{MARK}loaded by (-\w)"),
        least_kib=int(least) if least else None,
        result=_found(capture, r"kdump-save: saved .* result=(\w+)"),
        final=capture[final_at] if final_at is not None else None,
        keys=tuple((_found(before, rf"{MARK}keys (.*)") or "").split()),
        trace=_found(capture, r"kdump-save: a trace is left in (.*) for the next boot"),
        there=frozenset((int(hit[1]), hit[2]) for hit in _all(before, rf"{MARK}there (\d+) (.+)")),
    )


def _stage(said: Sequence[Line], before: Sequence[Line], crashed: bool, capture: Sequence[Line]) -> Stage:
    """The last point that left its mark."""
    marks: tuple[tuple[Stage, bool], ...] = (
        ("ended", _index(capture, FINAL) is not None),
        ("saved", _found(capture, r"(kdump-save: saved )") is not None),
        ("saving", _found(capture, r"(kdump-save: )") is not None),
        ("capture", bool(capture)),
        ("panicked", crashed),
        ("loaded", _found(before, rf"({MARK}loaded by)") is not None),
        ("first stage", _found(before, f"({MARK})") is not None),
        ("system", bool(said)),
    )
    return next((stage for stage, reached in marks if reached), "nothing")


def _trouble(capture: Sequence[Line]) -> tuple[str | None, str | None]:
    for pattern, text in TROUBLES:
        for line in capture:
            found = pattern.search(line.text)
            if found:
                return text.format(*found.groups()), line.text
    return None, None


def _no_handover(after: Sequence[Line]) -> tuple[str | None, str | None]:
    at = _index(after, NOT_TAKEN)
    return (None, None) if at is None else ("the panic did not start the capture kernel", after[at].text)


def _index(said: Sequence[Line], pattern: re.Pattern[str]) -> int | None:
    return next((n for n, line in enumerate(said) if pattern.search(line.text)), None)


def _found(said: Sequence[Line], pattern: str) -> str | None:
    return next((hit[1] for hit in _all(said, pattern)), None)


def _all(said: Sequence[Line], pattern: str) -> Iterator[re.Match[str]]:
    hits = (re.search(pattern, line.text) for line in said)
    return (hit for hit in hits if hit)


def checked(said: Sequence[Line]) -> tuple[tuple[int, str | None], ...]:
    """The file systems that were checked: number, and what is wrong with it."""
    hits = _all(said, rf"{MARK}(?:sound (\d+)$|unsound (\d+): (.*))")
    return tuple((int(hit[1] or hit[2]), hit[3]) for hit in hits)


def uncopied(said: Sequence[Line]) -> str | None:
    """Why the dumps could not be copied from the disks; None when they were."""
    if _found(said, rf"({MARK}copied)"):
        return None
    words = _found(said, rf"{MARK}failed: (.*)") or (said[-1].text if said else "nothing came from the virtual machine")
    return f"the disks can't be read back: {words}"
