"""The verb `report`, and the report of a dump: made once, kept beside the dump, read again."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from kdump_pkg import __version__, catalogue, crashlog, fs, ui
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import crashed, owners, pacman_log
from kdump_pkg.model.crash import Crash, Report, Verification, VmcoreFacts
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.evidence import Evidence
from kdump_pkg.paths import REPORT_JSON, REPORT_TEXT
from kdump_pkg.plan import origin, stored
from kdump_pkg.plan import report as planning
from kdump_pkg.report import page, text
from kdump_pkg.untrusted import number, release


def make(
    ctx: Context,
    entry: Entry,
    verification: Verification | None = None,
    vmcore: VmcoreFacts | None = None,
    *,
    others: tuple[Entry, ...] | None = None,
) -> Report:
    """The report of a dump from its log, this machine's packages and the dumps before it, and what else is known.

    OTHERS are all dumps of this machine, where they have been read already.
    """
    log = _log(ctx, entry)
    meta = crashed.read_meta(ctx, entry)
    crash = crashlog.read(log) if log else Crash()
    if not crash.release:
        crash = replace(crash, release=release(entry.release or meta.get("release", "")))
    every = catalogue.read(ctx, catalogue.settings(ctx, warn=False)) if others is None else others
    evidence = _evidence(ctx, entry, crash, meta, every, has_log=bool(log))
    return planning.make(entry, crash, evidence, verification, vmcore)


def load(ctx: Context, entry: Entry) -> Report | None:
    """The one that was kept; None where there is none that can be read."""
    data = crashed.read_report(ctx, entry)
    found = stored.read(data) if data else None
    if found is None or found.id.partition("@")[0] != entry.id.partition("@")[0]:
        return None
    return replace(found, id=entry.id)  # `@esp` comes and goes with another target's dump of that name


def current(ctx: Context, entry: Entry, *, others: tuple[Entry, ...] | None = None) -> tuple[Report, bool]:
    """The report as it is today, and whether it is another than the one that was kept.

    More can be said when the log was decrypted since, when makedumpfile, which takes it out of the memory, may be there
    by now, and when another version of this program made the report. What was found in the dump itself stays: only
    `collect` looks into it.
    """
    kept = load(ctx, entry)
    if kept is None:
        return make(ctx, entry, others=others), True
    has_more = not kept.has_log and (entry.log or (entry.vmcore and not entry.encrypted))
    if kept.made_by == __version__ and not has_more:
        return kept, False
    made = make(ctx, entry, kept.verification, kept.vmcore, others=others)
    return made, made != kept


def may_keep(entry: Entry, report: Report) -> bool:
    """Nothing is written beside a foreign dump, and nothing in clear beside an encrypted one."""
    return not entry.foreign and (report.encrypted or not entry.encrypted)


def keep(ctx: Context, entry: Entry, report: Report) -> None:
    """Write report.json and report.txt beside a dump of ours. Raises KdumpError for a foreign one."""
    if entry.foreign:
        raise KdumpError(f"{entry.id}: was not made by kdump-pkg; nothing is written beside it")
    if entry.encrypted and not report.encrypted:
        raise KdumpError(f"{entry.id}: is encrypted; its report in clear is not kept beside it")
    home = ctx.path(entry.path)
    fs.write_atomic(home / REPORT_JSON, (as_json(report) + "\n").encode(), 0o600)
    fs.write_atomic(home / REPORT_TEXT, text.render(report).encode(), 0o600)


def as_json(report: Report) -> str:
    return json.dumps(told(report), indent=1, sort_keys=True)


def told(report: Report) -> dict[str, object]:
    """What report.json and `report --json` hold."""
    return {"version": stored.VERSION, **ui.plain(report)}


def show(ctx: Context, match: str | None, *, html: str | None, as_json: bool) -> int:
    """The verb `report`. Returns the exit code."""
    entry = catalogue.find(ctx, catalogue.settings(ctx), match)
    report, is_new = current(ctx, entry)
    if is_new and may_keep(entry, report) and os.geteuid() == 0:
        _try_to_keep(ctx, entry, report)
    if html is not None:
        said = _write_page(report, html)
        if said and not as_json:
            ui.say(said)
    if as_json:
        ui.out_json(told(report))
    elif html is None:
        ui.out(text.render(report).rstrip("\n"))
    return 0


def _try_to_keep(ctx: Context, entry: Entry, report: Report) -> None:
    """A report that can't be kept can be shown all the same."""
    try:
        keep(ctx, entry, report)
    except KdumpError as error:
        ui.warn(f"the report is not kept: {error.message}")


def _write_page(report: Report, file: str) -> str:
    """The log is for root's eyes, so a new file is for its owner's; one that is there keeps its mode and owner.

    Returns what to say of it. Raises KdumpError.
    """
    made = page.render(report)
    if file == "-":
        ui.out(made.rstrip("\n"))
        return ""
    path = Path(file).absolute()
    if os.path.lexists(path):
        fs.rewrite(path, made.encode())
        return f"{file}: written"
    fs.write_atomic(path, made.encode(), 0o600)
    return f"{file}: written, for its owner alone"


# --- what it is made of ---


def _log(ctx: Context, entry: Entry) -> bytes | None:
    """The log that was saved, or the one in the memory that was."""
    log = crashed.read_log(ctx, entry)
    if log or entry.encrypted or not entry.vmcore:
        return log
    with tempfile.TemporaryDirectory(prefix="kdump-pkg-") as work:
        return crashed.make_dmesg(ctx, entry, Path(work))


def _evidence(
    ctx: Context, entry: Entry, crash: Crash, meta: dict[str, str], others: tuple[Entry, ...], *, has_log: bool
) -> Evidence:
    evidence = Evidence(
        has_log=has_log,
        in_a_row=number(meta.get("in_a_row"), digits=5) or 1,
        others=others,
        machine=crashed.read_machine(ctx),
    )
    if not any(other.path == entry.path for other in others) and origin.is_elsewhere(crash, evidence.machine):
        return replace(evidence, machine=())
    modules = origin.modules_of(crash)
    sources = owners.read_sources(
        ctx, crash.release, [m.name for m in modules], [m.name for m in modules if origin.is_foreign(m)]
    )
    changes = pacman_log.read_changes(ctx, entry.time)
    names = {source.package for source in sources.values()} | {c.package for c in changes if c.package[:5] == "linux"}
    return replace(evidence, sources=sources, changes=changes, cached=crashed.read_cached(ctx, names))
