"""What was tried, and what really happened: the last rehearsal, the last crash, one on purpose, what was sent away."""

from __future__ import annotations

from kdump_pkg.model import Finding, Trace
from kdump_pkg.model.health import CrashTest, LastDump, Rehearsed
from kdump_pkg.plan.checks import REHEARSE, Case, State, moment
from kdump_pkg.plan.upload import unsent

WORTH = {
    "complete": "saved", "partial": "saved in part", "dmesg": "saved, but only its log",
    "incomplete": "saved, but the saving was cut short", "started": "the saving was cut short at its beginning",
    "failed": "not saved, but for a few words",
}  # fmt: skip
KEPT = f"{REHEARSE} --keep DIR, and read the console log in it"


def check(case: Case) -> list[Finding]:
    return [_rehearsal(case), *_crash(case), *_test(case), *_upload(case)]


def seconds(case: Case) -> float | None:
    """How long the next crash will take: as long as the last one, or the rehearsal of this very image."""
    last, tried = case.health.last_dump, case.rehearsed
    if last and last.result == "complete" and last.seconds is not None:
        return last.seconds
    return tried.seconds if tried and tried.captured else None


def _rehearsal(case: Case) -> Finding:
    part, last = "rehearsal", case.health.rehearsed
    if last is None:
        return Finding(part, "note", "never", REHEARSE)
    when = f"on {moment(last.time)}"
    if case.rehearsed is None:
        ended = "captured" if last.captured else "not captured"
        return Finding(part, "note", f"the last one, {when}, {ended}, was of another image", REHEARSE)
    evidence = f"crashkernel={last.crashkernel}"
    if last.captured:
        took = f", in {_seconds(last.seconds)}" if last.seconds else ""
        return Finding(part, "ok", f"captured {when}{took}, with what would be started now", evidence=evidence)
    state: State = "bad" if _as_here(case, last) else "note"
    return Finding(part, state, f"not captured {when}: {last.reason}", KEPT, evidence)


def _as_here(case: Case, last: Rehearsed) -> bool:
    """Whether it had as much memory as a crash here would have: with less it proves nothing."""
    return not case.live or last.reserved >= (case.facts.boot.crash_size or 0)


def _crash(case: Case) -> list[Finding]:
    """The newest dump; and what captures left that could save nothing, if that came later."""
    found, last = [], case.health.last_dump
    if last:
        took = f", in {_seconds(last.seconds)}" if last.seconds is not None else ""
        damage = ", but it is damaged" if last.damaged else ""
        text = f"{WORTH.get(last.result, 'nobody knows how it was saved')}{damage}: {last.path}{took}"
        state: State = "ok" if last.result == "complete" and not last.damaged else "note"
        remedy = f"kdump-pkg verify {last.path} says how" if last.damaged else None
        found.append(Finding("last crash", state, text, remedy))
    traces = case.facts.traces[-1:]
    return [*found, *(_trace(trace) for trace in traces if last is None or trace.time > last.time)]


def _trace(trace: Trace) -> Finding:
    text = f"a crash on {moment(trace.time)} could not be saved: {trace.text}"
    return Finding("last crash", "note", text, KEPT, trace.source)


def _test(case: Case) -> list[Finding]:
    test, part = case.health.test, "crash test"
    if test is None:
        return []
    name = f"{test.id} on {moment(test.time)}"
    if test.result == "pending":
        if test.boot_id == case.health.boot_id:
            return [Finding(part, "note", f"{name}: announced, and this machine has not crashed yet")]
        return [Finding(part, "note", f"{name}: nobody has looked yet what became of it", "kdump-pkg collect")]
    if test.result == "saved":
        took = f", in {_seconds(test.seconds)}" if test.seconds is not None else ""
        how = "" if test.certain else "; by time and release, for its log is encrypted"
        return [Finding(part, "ok", f"{name}: saved{took}{how}", evidence=test.dump)]
    state: State = "note" if _disproved(case, test) else "bad"
    return [Finding(part, state, f"{name}: lost: {test.reason or 'nothing says why'}", KEPT, test.dump)]


def _disproved(case: Case, test: CrashTest) -> bool:
    """Whether it was shown since that a crash is saved."""
    last, tried = case.health.last_dump, case.rehearsed
    return _saved_after(last, test) or bool(tried and tried.captured and tried.time > test.time)


def _saved_after(last: LastDump | None, test: CrashTest) -> bool:
    return last is not None and last.result == "complete" and last.time > test.time and last.path != test.dump


def _upload(case: Case) -> list[Finding]:
    """Nothing where nothing is to be sent; what failed last, as long as something waits."""
    wish, record = case.config.upload, case.health.uploads
    if not wish.remote or not case.health.privileged:
        return []
    waiting = len(unsent(wish, case.health.dumps, record))
    if not waiting:
        return [Finding("upload", "ok", f"all of {len(case.health.dumps)} dumps have arrived", evidence=wish.remote)]
    text = f"{waiting} of {len(case.health.dumps)} dumps have not arrived yet"
    if record.failure is None:
        return [Finding("upload", "note", text, "kdump-pkg upload", wish.remote)]
    remedy = record.failure.hint or "kdump-pkg upload"
    return [Finding("upload", "note", f"{text}: {record.failure.text}", remedy, wish.remote)]


def _seconds(value: float | None) -> str:
    return f"{value or 0:.0f} s"
