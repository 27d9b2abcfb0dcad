"""All that is known of one crash, put together from its report, the panic after it and what was printed at boot."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdump_pkg.crashlog import body as bodies
from kdump_pkg.crashlog import causes, faulty, frames, machine, signature
from kdump_pkg.crashlog.body import Body
from kdump_pkg.crashlog.causes import Cause
from kdump_pkg.crashlog.choice import Choice
from kdump_pkg.crashlog.events import FAULTS, Event
from kdump_pkg.crashlog.lines import Line
from kdump_pkg.crashlog.machinery import FREEING
from kdump_pkg.model.crash import Crash, Frame

BEFORE, LINES = 40, 200
ELSEWHERE = ("hung task", "rcu stall", "hard lockup")
"""Who panics at these need not be who is meant."""
ALLOCATORS = ("mm/slub.c", "mm/slab_common.c", "mm/slab.h")
ORPHAN = 60
"""Lines at the beginning of a log in which the rest of a report may stand whose beginning is lost."""
NUMBER = re.compile(r"address (0x[0-9a-f]{1,16})")
ACCESS = re.compile(r"(?:Read|Write|Access) (?:of size \d{1,9} )?at (?:addr )?(?:0x)?([0-9a-f]{8,16})\b")
TAINTED = re.compile(r"(?:Not tainted|Tainted: ([A-Z ]{1,40})) ?(\S{1,128})(?: (#\S{1,40}))?")
STALLED = re.compile(r"(?:rcu: )?\s{0,8}(\d{1,5})-\S{1,12}: \(|.{0,90}stalls on CPUs/tasks: \{ (\d{1,5})-")
DETECTED = re.compile(r"\(detected by (\d{1,5}), ")


def tell(choice: Choice) -> Crash:
    cause, panic, lines = choice.cause, choice.panic, choice.lines
    if cause is None and panic is None:
        return _orphan(lines)
    after = bodies.read(lines, panic.last + 1, len(lines), panic.caller) if panic else Body()
    if cause is not None:
        return _of_report(choice, cause, after)
    assert panic is not None
    what = causes.of_panic(panic.get("text"))
    lost, begin = what.kind == "oops", None
    if lost and panic.start < bodies.REACH:
        after = _filled(bodies.read(lines, 0, panic.start, panic.caller), after)
        begin = 0 if after.trace or after.at else None
    start = _oom(lines, panic) if what.kind == "oom" else panic.start
    cut = lost or what.kind in ("soft lockup", "rcu stall", "warning") or _ends_within(choice, what, after)
    _by_caller(panic.caller, after)
    named = _named(panic.get("text"))
    return _crash(choice, what, after, after, start=start, begin=begin, named=named, truncated=cut)


def _named(text: str) -> str:
    """What a panic says of where it was."""
    return text if text.startswith((faulty.ENDED, "stack-protector: ")) else ""


def _of_report(choice: Choice, cause: Event, after: Body) -> Crash:
    lines, panic = choice.lines, choice.panic
    stop = panic.start if panic and panic.start > cause.last else len(lines)
    start, caller = _beginning(lines, cause, stop)
    body = bodies.read(lines, start, stop, caller)
    body.at = body.at or _told(cause, lines[start - 1 : start + 3])
    address = _address(lines, cause, body)
    what = causes.of_event(cause, lines, max(body.end, cause.last + 1), address)
    if what.kind == "mce" and panic is not None:
        what = causes.of_panic(panic.get("text"))
    if what.phrase in (causes.JUMP, causes.EXECUTION) or _found_by_allocator(cause, body):
        _forget_where(body)
    if not body.trace and body.at is None and _is_meant(cause, after):
        body.trace, body.interrupted, body.ended = after.trace, after.interrupted, body.ended or after.ended
    if cause.family not in ELSEWHERE:
        body = body if body.cpu is not None else _filled(body, after)
        _by_caller(lines[cause.start].caller, body)
    _named_by(cause, lines, body)
    cut = _begins_within(cause) or (_ends_within(choice, what, after) if panic else not body.ended)
    return _crash(
        choice, what, body, after, start=cause.start, named=cause.get("place"), truncated=cut, address=address,
    )  # fmt: skip


def _crash(
    choice: Choice, what: Cause, body: Body, after: Body, *,
    start: int, begin: int | None = None, named: str = "", truncated: bool = False, address: int | None = None,
) -> Crash:  # fmt: skip
    """Of the report whose words stand at START, which began at BEGIN where that is not the same."""
    lines, panic = choice.lines, choice.panic
    begin = start if begin is None else begin
    where, trace = faulty.find(what.kind, body, named)
    known = machine.read(lines)
    hardware, _, firmware = (body.hardware or after.hardware or known.hardware).rpartition(", BIOS ")
    said = next((one for one in (body, after) if one.release or one.taint), None)
    taint = said.taint if said else known.taint
    words = lines[start].text
    text = panic.get("text") if panic else ""
    return Crash(
        kind=what.kind, cause=what.phrase, words=words, panic=text,
        release=body.release or after.release or known.release,
        version=known.version or body.version or after.version,
        architecture=known.architecture or machine.of_trace([*body.trace, *after.trace]),
        cpu=body.cpu, pid=body.pid, process=body.process, workqueue=body.workqueue,
        where=where, address=address, trace=trace, taint=taint,
        modules=body.modules or after.modules,
        hardware=hardware or firmware, firmware=f"BIOS {firmware}" if hardware else "",
        microcode=known.microcode, cmdline=known.cmdline, uptime=lines[start].time,
        before=tuple(line.shown for line in lines[max(begin - BEFORE, 0) : begin]),
        lines=_own_lines(lines, begin, body, after, panic), truncated=truncated,
        signature=signature.make(what.kind, text or words, where, trace),
    )  # fmt: skip


def _own_lines(lines: Sequence[Line], start: int, body: Body, after: Body, panic: Event | None) -> tuple[str, ...]:
    caller = lines[start].caller
    end = max(body.end, start + 1)
    own = [line.shown for line in lines[start:end] if not caller or line.caller in ("", caller)]
    if panic is not None and panic.start >= end:
        own += [line.shown for line in lines[panic.start : max(after.end, panic.start + 1)]]
    return tuple(own if len(own) <= LINES else own[: LINES // 2] + own[-LINES // 2 :])


def _beginning(lines: Sequence[Line], cause: Event, stop: int) -> tuple[int, str]:
    """Where to read on behind the first lines, and whose lines: what a CPU did that others found stuck is its own."""
    start = cause.last + 1
    if cause.family not in ("hard lockup", "rcu stall"):
        return start, cause.caller
    near = range(start, min(stop, start + bodies.REACH))
    if not cause.get("cpu"):
        cause.learnt["cpu"] = _stalled(lines, cause)
    cpu = cause.get("cpu")
    shown = re.compile(rf"(?:NMI backtrace for cpu|Task dump for CPU) {cpu}\b") if cpu else None
    found = next((index for index in near if shown and shown.match(lines[index].text)), None)
    if found is None:
        return start, cause.caller
    return found + 1, lines[found].caller


def _is_meant(cause: Event, after: Body) -> bool:
    """Whether who panicked is whom the report is about."""
    return cause.family not in ELSEWHERE or (cause.family != "hung task" and cause.get("cpu") == str(after.cpu))


def _found_by_allocator(cause: Event, body: Body) -> bool:
    """Whether a BUG is about memory that somebody freed twice, or wrote to when it was not his."""
    return cause.get("file") in ALLOCATORS and body.at is not None and body.at.function in FREEING


def _forget_where(body: Body) -> None:
    """What was executed is no function, or found what others had done: its caller is at fault."""
    if body.at is not None and body.trace and body.trace[0].function == body.at.function:
        del body.trace[0]
    body.at = None


def _told(cause: Event, lines: Sequence[Line]) -> Frame | None:
    """Where a processor was, of reports that say no more than that."""
    idle = next((line.text for line in lines[:1] if " skipped: idling at " in line.text), "")
    checked = next((line.text for line in lines if line.text.startswith("mce: [Hardware Error]: RIP ")), "")
    return frames.within(idle) or (frames.within(checked) if cause.family == "mce" else None)


def _by_caller(caller: str, body: Body) -> None:
    """Who printed a line with its number is known even where no line says more."""
    if caller.startswith("T") and not body.process:
        body.pid = int(caller[1:]) if body.pid is None else body.pid
    elif caller.startswith("C") and body.cpu is None:
        body.cpu = int(caller[1:])


def _stalled(lines: Sequence[Line], cause: Event) -> str:
    for line in lines[cause.start : cause.start + 40]:
        if (match := STALLED.match(line.text)) is not None:
            return match[1] or match[2]
    return ""


def _named_by(cause: Event, lines: Sequence[Line], body: Body) -> None:
    """What the first line says of processor and process is surer than who printed it."""
    if cause.get("comm"):
        body.process, body.pid = cause.get("comm").strip(), int(cause.get("pid"))
    if cause.get("cpu"):
        body.cpu = int(cause.get("cpu"))
    elif cause.family == "rcu stall" and body.of_task and body.interrupted is not None:
        body.cpu = _detected_by(lines, cause)
    if cause.family == "hung task":
        body.cpu = None
        for line in lines[cause.start + 1 : cause.start + 4]:
            if (match := TAINTED.match(line.text)) is not None:
                body.taint = "".join(char for char in match[1] or "" if char not in " G")
                body.release, body.version = match[2], match[3] or ""


def _detected_by(lines: Sequence[Line], cause: Event) -> int | None:
    """A task that holds up RCU, shown by the processor on which it was interrupted for that."""
    found = (DETECTED.search(line.text) for line in lines[cause.start : cause.start + 40])
    return next((int(match[1]) for match in found if match), None)


def _address(lines: Sequence[Line], cause: Event, body: Body) -> int | None:
    if found := cause.get("address"):
        hashed = cause.family == "stack" and int(found, 16) < causes.USER  # %p, until 6.12
        return None if hashed else int(found, 16)
    if (match := NUMBER.search(cause.get("name"))) is not None:
        return int(match[1], 16)
    if cause.family == "report":
        said = (ACCESS.search(line.text) for line in lines[cause.start : cause.start + 6])
        return next((int(match[1], 16) for match in said if match), None)
    return body.address if cause.families & FAULTS else None


def _begins_within(cause: Event) -> bool:
    """The number of an oops without the words before it, which say what it was."""
    return cause.family == "number" and cause.get("name") == "Oops"


def _ends_within(choice: Choice, what: Cause, after: Body) -> bool:
    """A panic shows its trace, but not after an oops, and not of a machine check."""
    if after.trace:
        return not after.ended and after.end >= len(choice.lines)
    bare = what.kind == "mce" or any(event.families & FAULTS for event in choice.also)
    return not bare and choice.panic is not None and choice.panic.last + 1 >= len(choice.lines)


def _filled(first: Body, second: Body) -> Body:
    """FIRST, with what only SECOND knows."""
    for name in ("cpu", "pid", "process", "taint", "release", "version", "hardware", "workqueue", "modules"):
        if getattr(first, name) in (None, "", ()):
            setattr(first, name, getattr(second, name))
    return first


def _oom(lines: Sequence[Line], panic: Event) -> int:
    """It begins where a process asked for memory that there wasn't."""
    for index in range(panic.start - 1, max(panic.start - 2000, -1), -1):
        if " invoked oom-killer: " in lines[index].text:
            return index
    return panic.start


def _orphan(lines: Sequence[Line]) -> Crash:
    """No first line of anything. What begins in the middle of a report shows at least where that was."""
    known = machine.read(lines)
    body = bodies.read(lines, 0, len(lines), "")
    plain = Crash(
        release=known.release, version=known.version, architecture=known.architecture, hardware=known.hardware,
        microcode=known.microcode, cmdline=known.cmdline, before=tuple(line.shown for line in lines[-BEFORE:]),
    )  # fmt: skip
    seen = any(_within(line) for line in lines[:ORPHAN])
    if not seen or not (body.at or body.trace):
        return plain
    what = Cause("oops", "a fatal exception") if body.address is not None else Cause("unknown", "")
    return _crash(Choice(lines, None, None, ()), what, body, Body(), start=0, truncated=True, address=body.address)


def _within(line: Line) -> bool:
    return line.text.startswith(("RIP: ", "pc : ", "Call Trace:", "Call trace:")) or frames.frame(line.text) is not None
