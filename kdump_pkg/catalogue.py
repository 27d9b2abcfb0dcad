"""The verbs list, info, verify, pin, unpin and remove, and what a MATCH of any verb means."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import replace

from kdump_pkg import config as configuration
from kdump_pkg import fs, paths, reconcile, ui
from kdump_pkg.apply import pin as pinning
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.facts import catalogue, storage
from kdump_pkg.facts.catalogue import Survey
from kdump_pkg.facts.dumps import NAME
from kdump_pkg.model import Config, Plan, RemoveDump
from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan import listing
from kdump_pkg.plan import match as matching
from kdump_pkg.untrusted import escaped

ROOT = "run it with sudo"
LIST = "kdump-pkg list shows those that there are"


def settings(ctx: Context, *, warn: bool = True) -> Config:
    """For verbs that only read: who has to know why the machine crashed needs no good configuration for it.

    WARN says so; it is for the first who asks.
    """
    try:
        return configuration.load(ctx)
    except ConfigError as error:
        if warn:
            words = escaped(error.problems[0])
            ui.warn(f"the configuration can't be used, so only {catalogue.HOME} is looked through: {words}")
        return Config()


def read(ctx: Context, config: Config) -> tuple[Entry, ...]:
    """All dumps of this machine, newest first: ours on every target, and those that others have made."""
    return survey(ctx, config).entries


def survey(ctx: Context, config: Config) -> Survey:
    """The same, with what only root can look into."""
    return catalogue.read(ctx, catalogue.shelves(ctx, config, storage.read_targets(ctx, config)))


def find(ctx: Context, config: Config, match: str | None, *, sole: bool = False, encrypted: bool = False) -> Entry:
    """The newest dump, or the newest of those that MATCH means. Raises KdumpError where none does, or it is unclear.

    SOLE: MATCH has to mean one dump alone. ENCRYPTED: without MATCH the newest that is encrypted.
    """
    if match is not None and (os.sep in match or match in (".", "..")):
        return _find_path(ctx, match)
    known = survey(ctx, config)
    found = select(ctx, known.entries, match)
    if match is None and encrypted:
        found = tuple(entry for entry in found if entry.encrypted)
    if not found:
        raise _nothing(known, match, "encrypted dump" if encrypted else "dump")
    if sole and match is not None and len(found) > 1:
        names = ", ".join(escaped(entry.id) for entry in found[:3])
        words = f"{len(found)} dumps match {escaped(match)}: {names}{' …' if found[3:] else ''}; say more of it"
        raise KdumpError(words)
    return found[0]


def select(ctx: Context, entries: tuple[Entry, ...], match: str | None) -> tuple[Entry, ...]:
    return matching.select(entries, match, ctx.clock(), offset)


def offset(moment: int) -> int:
    """Seconds that local time was ahead of UTC at a moment."""
    try:
        return time.localtime(moment).tm_gmtoff
    except (OverflowError, OSError, ValueError):
        return 0


def _find_path(ctx: Context, match: str) -> Entry:
    path = os.path.abspath(match) if ctx.live else f"/{match.lstrip('/')}"  # noqa: PTH100 - links stay as they are
    try:
        found = catalogue.read_path(ctx, path)
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or "no such name"
        hint = ROOT if isinstance(error, PermissionError) else LIST
        raise KdumpError(f"{escaped(path)}: can't be read: {words}", hint=hint) from None
    if found is None:
        raise KdumpError(f"{escaped(path)}: can't be read: it is no dump", hint=LIST)
    return found


def _nothing(known: Survey, match: str | None, what: str) -> KdumpError:
    if known.refused:
        return KdumpError(f"only root can read {_refused(known)}", hint=ROOT)
    if match is not None and known.entries:
        return KdumpError(f"no dump matches {escaped(match) or 'an empty word'}", hint=LIST)
    return KdumpError(f"no {what}s")


def _refused(known: Survey) -> str:
    more = len(known.refused) - 1
    return f"{escaped(known.refused[0])}{f' and {more} more' if more else ''}"


def show_list(ctx: Context, match: str | None, *, as_json: bool) -> int:
    """The verb `list`: the newest last, where one looks first. Returns 1 where there is none, as coredumpctl does."""
    if match is not None and os.sep in match:
        known = Survey((_find_path(ctx, match),))
        found = known.entries
    else:
        known = survey(ctx, settings(ctx))
        found = select(ctx, known.entries, match)
    if as_json and (found or not known.refused):
        ui.out_json(found[::-1])
    elif not found:
        raise _nothing(known, match, "dump")
    else:
        ui.out(ui.table(listing.rows(found[::-1], offset)))
    if known.refused:
        ui.warn(f"only root can read {_refused(known)}: more may be there")
    return 0 if found else 1


def show_info(ctx: Context, match: str | None, *, as_json: bool) -> int:
    """The verb `info`."""
    entry = find(ctx, settings(ctx), match)
    details = catalogue.read_details(ctx, entry)
    if as_json:
        files = [{"name": name, "size": count} for name, count in details.files]
        told = {"opened_by": listing.openers(entry), "next": listing.commands(entry)}
        ui.out_json({"entry": entry, "meta": dict(details.meta), "files": files, **told})
    else:
        shown = replace(entry, path=escaped(entry.path), vmcore=escaped(entry.vmcore))
        ui.out(listing.info(shown, details, offset))
    return 0


def verify(ctx: Context, match: str | None, *, as_json: bool) -> int:
    """The verb `verify`. Returns 1 for a dump that is bad."""
    from kdump_pkg import verification

    entry = find(ctx, settings(ctx), match)
    with ui.progress(f"verifying {escaped(entry.id)}"):
        result = verification.verify(ctx, entry)
    if as_json:
        ui.out_json({"id": entry.id, "path": entry.path, "good": result.good, **ui.plain(result)})
    else:
        skipped = any(check.state == "skipped" for check in result.checks)
        good = f"good{', as far as it was looked at' if skipped else ''}"
        ui.say(f"{escaped(entry.id)}: {good if result.good else 'bad'}")
        ui.out(ui.table([(check.state, escaped(check.name), escaped(check.text)) for check in result.checks]))
    return 0 if result.good else 1


def pin(ctx: Context, match: str, *, pinned: bool) -> int:
    """The verbs `pin` and `unpin`."""
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        entry = _ours(ctx, match, "pinned" if pinned else "unpinned")
        directory, _, name = entry.path.rpartition("/")
        pinning.pin(ctx, directory or "/", name, pinned=pinned)
    ui.say(f"{entry.id}: {'pinned' if pinned else 'unpinned'}{'' if entry.pinned != pinned else ' already'}")
    return 0


def remove(ctx: Context, match: str, *, yes: bool) -> int:
    """The verb `remove`. Returns 1 when the user doesn't want it after all."""
    entry = _ours(ctx, match, "removed")
    if entry.pinned:
        raise KdumpError(
            f"{escaped(entry.path)}: pinned, left alone", hint=f"kdump-pkg unpin {shlex.quote(escaped(match))}"
        )
    if entry.state == "being written":
        raise KdumpError(f"{escaped(entry.path)}: being written just now", hint="wait until it is done")
    said = ", ".join(part for part in (entry.what, listing.size(entry.size), entry.state) if part)
    if not yes and not ui.confirm(f"Remove {escaped(entry.path)} ({said})?"):
        ui.say("nothing was removed")
        return 1
    directory, _, name = entry.path.rpartition("/")
    plan = Plan((RemoveDump(directory or "/", name, entry.size // 1024, "asked for"),))
    for failure in reconcile.carry_out(ctx, lambda: plan, ui.say, wait=reconcile.WAIT).failures:
        raise failure
    return 0


def _ours(ctx: Context, match: str, done: str) -> Entry:
    """The one dump that is meant, when it is one of ours and has the name of one."""
    entry = find(ctx, configuration.load(ctx), match, sole=True)
    if entry.foreign:
        whose = "another program" if entry.maker == "unknown" else entry.maker
        words = f"{escaped(entry.path)}: not {done}: it is a dump of {whose}"
        raise KdumpError(words, hint="use that program's own tools, or rm")
    if not NAME.fullmatch(entry.path.rpartition("/")[2]):
        words = f"{escaped(entry.path)}: not {done}: it was renamed, so nothing tells that it is still ours"
        raise KdumpError(words, hint="give it back the name of a dump, or use rm")
    return entry
