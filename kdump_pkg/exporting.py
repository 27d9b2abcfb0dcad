"""The verb `export`: a dump, its report and a word about them in one archive, to hand to somebody."""

from __future__ import annotations

import os
from pathlib import Path

from kdump_pkg import catalogue, reports, ui
from kdump_pkg.apply import export as archives
from kdump_pkg.apply.export import Archive
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import catalogue as shelf
from kdump_pkg.model.crash import Report
from kdump_pkg.model.dumps import Entry
from kdump_pkg.paths import REPORT_JSON, REPORT_SUMS, REPORT_TEXT
from kdump_pkg.plan import listing
from kdump_pkg.report import text
from kdump_pkg.untrusted import escaped

REPORTS = (REPORT_JSON, REPORT_TEXT)


def export(ctx: Context, match: str, file: str, *, debug_kernel: bool) -> int:
    """The verb `export`: to FILE, or to where standard output goes."""
    entry = catalogue.find(ctx, catalogue.settings(ctx), match)
    if entry.state == "being written":
        raise KdumpError(f"{escaped(entry.path)}: being written just now", hint="wait until it is done")
    if file == "-":
        if os.isatty(1):
            raise KdumpError("standard output is a terminal", hint="name a file, or send it to a program")
        _to_stdout(_archive(ctx, entry, debug_kernel=debug_kernel))
        return 0
    target = Path(file).absolute()
    with ui.progress(f"exporting {escaped(entry.id)}"):
        count = archives.write(_archive(ctx, entry, debug_kernel=debug_kernel), target)
    memory = "the machine's memory is in it, and what was secret there"
    log = "the machine's log is in it, with addresses and serial numbers"
    ui.say(f"{escaped(file)}: {listing.size(count)}; {memory if entry.vmcore else log}")
    return 0


def _to_stdout(archive: Archive) -> None:
    try:
        with ui.progress(f"exporting {archive.home}"):
            archives.pack(archive, 1)
    except CommandError as error:
        if "SIGPIPE" in error.message:
            raise BrokenPipeError from None  # who reads has had enough, and knows it
        full = "No space left" in error.message
        raise KdumpError(error.message, hint="free some space" if full else error.hint) from None


def _archive(ctx: Context, entry: Entry, *, debug_kernel: bool) -> Archive:
    """What goes into it: the dump, and what it takes to understand it."""
    more = (("vmlinux", _kernel(ctx, entry)),) if debug_kernel else ()
    details = shelf.read_details(ctx, entry)
    every = {name for name, _ in details.files}
    double = {name for name in every if name.endswith(".age") and name.removesuffix(".age") in every}
    report = _report(ctx, entry)
    kept = report is None or (every >= set(REPORTS) and reports.load(ctx, entry) == report)
    texts = () if report is None or kept else tuple(zip(REPORTS, _told(report), strict=True))
    files = every - double - {"meta.new"} - (set() if kept else set(REPORTS))
    if double:
        files.discard(REPORT_SUMS)  # for it speaks of files that stay here
    names = [*files, *(name for name, _ in texts), *(name for name, _ in more)]
    info = listing.archive_text(entry, names, report.sentence if report else "")
    return Archive(
        home=entry.id or "dump",
        time=entry.time,
        directory=ctx.path(shelf.parent_of(entry)),
        files=tuple(sorted(files)),
        texts=(("INFO", info.encode("utf-8", "replace")), *texts),
        more=more,
    )


def _report(ctx: Context, entry: Entry) -> Report | None:
    """The one that is kept, unless there is more to say by now; none where none can be made: the dump is worth it."""
    try:
        return reports.current(ctx, entry)[0]
    except KdumpError as error:
        ui.warn(f"without a report: {escaped(error.message)}")
        return None


def _told(report: Report) -> tuple[bytes, bytes]:
    return f"{reports.as_json(report)}\n".encode("utf-8", "replace"), text.render(report).encode("utf-8", "replace")


def _kernel(ctx: Context, entry: Entry) -> Path:
    from kdump_pkg.apply import vmlinux

    if not entry.release:
        words = f"{escaped(entry.path)}: the release of its kernel is not known"
        raise KdumpError(words, hint="export it without --debug-kernel")
    return vmlinux.ensure(ctx, entry.release, entry.build_id)
