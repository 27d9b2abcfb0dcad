"""The verb `collect`, after a boot: what the last crash left behind is gathered, checked, reported and pruned.

One step that fails is told and stops no other: the rules for old dumps hold, whatever a new one is like.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kdump_pkg import catalogue, crash_test, crashlog, fs, paths, reconcile, reports, ui, verification
from kdump_pkg import config as configuration
from kdump_pkg.apply import Reporter, announce, vmlinux
from kdump_pkg.apply import pstore as records
from kdump_pkg.apply import trace as traces
from kdump_pkg.context import Context
from kdump_pkg.dumps import conclude, places, plan_prune, told
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps, pstore, trace
from kdump_pkg.model import Config, Trace
from kdump_pkg.model.crash import Check, Report
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.health import CrashTest
from kdump_pkg.plan import announcement, pstore_dump
from kdump_pkg.plan.checks import moment
from kdump_pkg.untrusted import one_line

MOST = 3
"""Dumps that are looked at in one run: each may take minutes, and the newest is the one that is waited for."""
LOOKED_AT = 100
"""Of all dumps, the newest."""


@dataclass
class Run:
    """What one `collect` does, says and could not do."""

    ctx: Context
    config: Config
    report: Reporter
    failures: list[KdumpError] = field(default_factory=list)

    def attempt(self, what: str, do: Callable[[], object]) -> bool:
        """An error of any kind is one line: nothing of a hostile dump may keep the rest from being done."""
        try:
            do()
            return True
        except KdumpError as error:
            self.failures.append(error)
        except Exception as error:
            words = one_line(str(error), announcement.LONGEST)
            self.failures.append(KdumpError(f"{what}: {type(error).__name__}: {words}"))
        return False


def collect(ctx: Context, *, as_json: bool) -> int:
    """The verb `collect`: a word for each thing done, none where there was nothing to do."""
    report: Reporter = (lambda text: None) if as_json else ui.say
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        new = gather(ctx, report)
    run = Run(ctx, configuration.load(ctx), report)  # a bad one must not keep the traces from being gathered
    kept: list[str] = []
    made: list[tuple[Entry, Report]] = []
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        run.attempt(paths.PSTORE_ARCHIVE, lambda: keep_records(run, kept))
        test = crash_test.settle(ctx, places(ctx, run.config))
    if test:
        report(_told_of(test))
    run.attempt("the dumps", lambda: _one_after_the_other(run, made))
    outcome = reconcile.carry_out(ctx, lambda: plan_prune(ctx, run.config), report, wait=reconcile.WAIT)
    if ctx.live:
        run.attempt("the notice", lambda: _give_notice(ctx, made, new))
    failures = (*run.failures, *outcome.failures)
    if as_json:
        more = {"records": kept, "reports": [_briefly(one) for one in made]}
        ui.out_json({"traces": new, "test": test, **more, **told(reconcile.Outcome(outcome.plan, failures))})
    return conclude(failures)


def gather(ctx: Context, report: Callable[[str], None]) -> tuple[Trace, ...]:
    """Take the traces of failed captures into our list and clear their places. Returns the new ones."""
    known = trace.read_collected(ctx)
    every = trace.read_traces(ctx)
    new = tuple(t for t in every if t not in known)
    if new:
        traces.keep(ctx, every)
    for one in new:
        report(f"a crash on {moment(one.time)} ({one.release}) could not be saved: {one.text} [{one.source}]")
    for place in traces.clear(ctx):
        report(f"cleared for the next one: {place}")
    return new


def _told_of(test: CrashTest) -> str:
    if test.result == "saved":
        return f"the crash test {test.id} was saved: {test.dump}"
    return f"the crash test {test.id} was lost: {test.reason}"


# --- logs in pstore ---------------------------------------------------------------------------------------------------


def keep_records(run: Run, kept: list[str]) -> None:
    """Make a dump of every log in pstore whose crash has none; KEPT gets their names."""
    seen = list(records.read_seen(run.ctx))
    for record in pstore.read_records(run.ctx):
        todo = partial(_keep_record, run, record, kept)
        if record.digest not in seen and run.attempt("a log in pstore", todo):
            seen.append(record.digest)
    if tuple(seen) != records.read_seen(run.ctx):
        records.remember(run.ctx, seen)


def _keep_record(run: Run, record: pstore.Record, kept: list[str]) -> None:
    where = places(run.ctx, run.config)
    if not where:
        raise KdumpError("a log in pstore can't be kept: no target is mounted", hint="mount it; kdump-pkg collect")
    crash = crashlog.read(record.text)
    word = pstore.last_line(record.text)
    near = record.time - pstore_dump.NEAR
    found = [one for place in where for one in dumps.read_since(run.ctx, place.directory, near, word or b"\n")]
    if pstore_dump.is_known(record.time, crash.release, found, sure=bool(word)):
        return
    made = pstore_dump.make(record.time, crash.release, record.panic, record.backend, int(run.ctx.clock()))
    directory = where[0].directory
    if records.make(run.ctx, directory, made.name, dict(made.meta), record.text, run.config.encrypt_to):
        kept.append(made.name)
        run.report(f"a crash left its log in pstore ({record.backend}): {directory.rstrip('/')}/{made.name}")


# --- reports ----------------------------------------------------------------------------------------------------------


def _one_after_the_other(run: Run, made: list[tuple[Entry, Report]]) -> None:
    """Two at once would tell of the same crash twice. It is not the one lock: a hook must not wait for minutes."""
    with fs.lock(run.ctx.path(paths.COLLECT_LOCK), wait=reconcile.WAIT):
        report_new(run, made)


def report_new(run: Run, made: list[tuple[Entry, Report]]) -> None:
    """Check and report the newest of our dumps that were not yet; MADE gets those that were."""
    every = catalogue.read(run.ctx, run.config)
    ours = [entry for entry in every if not entry.foreign and entry.state != "being written"][:LOOKED_AT]
    new = [entry for entry in ours if _is_new(run, entry)]
    if new:
        for entry in (one for one in ours if one not in new):
            run.attempt(entry.id, partial(_renew, run, entry, every))
        every = catalogue.read(run.ctx, run.config)
    for entry in new[:MOST]:
        run.attempt(entry.id, partial(_report, run, entry, every, made))


def _renew(run: Run, entry: Entry, every: tuple[Entry, ...]) -> None:
    """The report that another version of this program made: by its signature a crash is known again."""
    report, is_new = reports.current(run.ctx, entry, others=every)
    if is_new and reports.may_keep(entry, report):
        reports.keep(run.ctx, entry, report)


def _is_new(run: Run, entry: Entry) -> bool:
    """A report that was asked for meanwhile is no reason not to look at the dump."""
    known = reports.load(run.ctx, entry)
    return known is None or known.verification is None


def _report(run: Run, entry: Entry, every: tuple[Entry, ...], made: list[tuple[Entry, Report]]) -> None:
    ctx = run.ctx
    sums = _sums(run, entry)
    facts = verification.read_vmcore(ctx, entry, _vmlinux(run, entry))
    checked = verification.verify(ctx, entry, facts, sums=sums)
    report = reports.make(ctx, entry, checked, facts if entry.vmcore else None, others=every)
    made.append((entry, report))
    run.attempt(entry.id, lambda: reports.keep(ctx, entry, report))
    run.report(f"{report.sentence.rstrip('.')}; its dump is {entry.path}")
    for check in checked.checks:
        if check.state == "bad":
            run.report(f"the dump is damaged: {check.text}")
    if ctx.live:
        lines = announcement.as_lines(announcement.fields(entry, report))
        run.attempt("the journal", lambda: announce.to_journal(ctx, lines))


def _sums(run: Run, entry: Entry) -> Check | None:
    """A disk that is full, which a dump can well do, is no reason to say nothing of the crash."""
    try:
        return verification.write_sums(run.ctx, entry)
    except KdumpError as error:
        if not run.ctx.path(entry.path).is_dir():
            raise  # removed meanwhile
        run.failures.append(error)
        return None


def _vmlinux(run: Run, entry: Entry) -> Path | None:
    """With it there are traces of the tasks; without, the report says less."""
    if not entry.vmcore or verification.is_sealed(entry):
        return None
    try:
        return vmlinux.ensure(run.ctx, entry.release, entry.build_id, run.report)
    except KdumpError as error:
        run.report(f"no vmlinux for the traces of {entry.id}: {error.message}")
        return None


def _give_notice(ctx: Context, made: list[tuple[Entry, Report]], lost: tuple[Trace, ...]) -> None:
    """One for all: the newest, which was made first."""
    if made:
        announce.to_desktop(ctx, announcement.notice(made[0][0].id, made[0][1].sentence))
    elif lost:
        words = f"the kernel crashed on {moment(lost[-1].time)} and nothing could be saved: {lost[-1].text}"
        announce.to_desktop(ctx, announcement.notice("", words))


def _briefly(one: tuple[Entry, Report]) -> dict[str, object]:
    entry, report = one
    good = report.verification.good if report.verification else None
    return {"id": entry.id, "path": entry.path, "sentence": report.sentence, "good": good}
