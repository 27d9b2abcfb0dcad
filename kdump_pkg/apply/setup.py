"""Carries out what `setup` planned: record, files, programs, a look at what came of it, units; or all of it back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.results import read_files
from kdump_pkg.facts.state import read_units
from kdump_pkg.model.setup import Change, Contents, Record, SetupPlan, dump, load, settled, with_generated

TIMEOUT = 1800  # seconds: images of several kernels, on a slow machine
UNDO = "kdump-pkg setup --undo"

Check = Callable[[], str | None]
"""Says what is wrong with what was generated."""
Report = Callable[[str], None]


def read(ctx: Context, path: str) -> bytes | None:
    """A file as it is; None where there is none. Raises KdumpError for one that can't be read."""
    data = ctx.read_bytes(path)
    if data is None and os.path.lexists(ctx.path(path)):
        raise KdumpError(f"{path}: can't be read", hint="see whether it is a file, and run this as root")
    return data


def reserve(ctx: Context, plan: SetupPlan, check: Check, report: Report) -> None:
    """Make it so, or raise KdumpError with everything as it was. Call it under `fs.lock` only."""
    assert plan.record is not None
    must_be_unchanged(ctx, plan)
    _tidy(ctx, plan, plan.record)
    before = read_files(ctx, plan.results)
    begun: set[str] = set()
    try:
        _write_record(ctx, plan.record)
        for change in plan.changes:
            report(f"writing {change.path}")
            _put(ctx, change)
        begun.add("commands")
        _run(ctx, plan.commands, report)
        problem = check() if plan.commands else None
        if problem:
            raise KdumpError(problem, hint=f"look for what else {plan.commands[-1][0]} takes a command line from")
        if plan.sysctl:
            report(f"writing {plan.sysctl.path}")
            _put(ctx, plan.sysctl)
        begun.add("units")
        _switch(ctx, "enable", plan.enable, report)
        _write_record(ctx, _final(ctx, plan, plan.record, before))
    except BaseException as error:
        left = _roll_back(ctx, plan, before, begun)
        if not isinstance(error, KdumpError):
            raise
        if left:
            raise KdumpError(f"{error.message}; {'; '.join(left)}", hint=UNDO) from None
        raise KdumpError(f"{error.message}; nothing was changed", hint=error.hint) from None


def undo(ctx: Context, plan: SetupPlan, report: Report) -> None:
    """Take it back. What fails is raised, with the record still there: it can be repeated. Under `fs.lock` only."""
    must_be_unchanged(ctx, plan)
    _tidy(ctx, plan, load(plan.recorded) if plan.recorded else None)
    for change in (*plan.changes, *plan.restored):
        report(f"removing {change.path}" if change.after is None else f"writing {change.path}")
        _put(ctx, change)
    _run(ctx, plan.commands, report)
    _disable(ctx, plan.disable, report)
    if plan.sysctl:
        report(f"removing {plan.sysctl.path}")
        _put(ctx, plan.sysctl)
    fs.remove(ctx.path(paths.SETUP, follow=False))


def must_be_unchanged(ctx: Context, plan: SetupPlan) -> None:
    """Raise KdumpError when a file isn't what it was when the plan was made: somebody was asked in between."""
    changes = (*plan.changes, *plan.restored, *((plan.sysctl,) if plan.sysctl else ()))
    expected = {change.path: change.before for change in changes} | {paths.SETUP: plan.recorded}
    for path, data in expected.items():
        if read(ctx, path) != data:
            raise KdumpError(f"{path} was changed meanwhile; nothing was done", hint="run it again")


def _tidy(ctx: Context, plan: SetupPlan, record: Record | None) -> None:
    """Remove what a killed run left half written; none is at work, for we have the lock."""
    found = [change.path for change in (*plan.changes, *plan.restored)]
    if record:
        found += [file.path for file in record.files] + [one.path for one in record.generated]
    for directory in sorted({str(PurePosixPath(path).parent) for path in found}):
        for name in ctx.names(directory):
            if name.startswith(fs.TEMPORARY):
                fs.remove(ctx.path(f"{directory}/{name}", follow=False))


def _write_record(ctx: Context, record: Record) -> None:
    """Only root may read it: boot loaders keep passwords in their configuration."""
    _put_record(ctx, dump(record))


def _final(ctx: Context, plan: SetupPlan, record: Record, before: Contents) -> Record:
    if plan.loader is None or not plan.commands:
        return settled(record)
    return settled(with_generated(record, plan.loader.name, before, read_files(ctx, plan.results)))


def _put(ctx: Context, change: Change) -> None:
    """Through links, both ways: what was made where a link leads is what goes."""
    if change.after is None:
        fs.remove(Path(os.path.realpath(ctx.path(change.path))))
    else:
        fs.rewrite(ctx.path(change.path), change.after)


def _run(ctx: Context, commands: Iterable[tuple[str, ...]], report: Report) -> None:
    for argv in commands:
        report(f"running {' '.join(argv)}")
        ctx.runner(argv, root=ctx.root, capture=False, timeout=TIMEOUT)


def _switch(ctx: Context, verb: str, units: tuple[str, ...], report: Report) -> None:
    if units:
        report(f"{verb[:-1]}ing {', '.join(units)}")
        ctx.runner(systemctl(ctx, verb, units))


def systemctl(ctx: Context, verb: str, units: Iterable[str]) -> list[str]:
    where = [] if ctx.live else [f"--root={ctx.root}"]
    return ["systemctl", *where, verb, *units]


def _disable(ctx: Context, units: tuple[str, ...], report: Report) -> None:
    """These and no others: a unit's `Also=` takes along those that were enabled before we came."""
    if units:
        before = enabled(ctx)
        _switch(ctx, "disable", units, report)
        taken = before - enabled(ctx) - set(units)
        _switch(ctx, "enable", tuple(sorted(taken)), report)


def enabled(ctx: Context) -> set[str]:
    return {unit for unit, on in read_units(ctx).items() if on}


def _roll_back(ctx: Context, plan: SetupPlan, before: Contents, begun: set[str]) -> list[str]:
    """Everything as it was, as far as it goes; what couldn't be put back, a line each."""
    left: list[str] = []
    for change in (*plan.changes, *((plan.sysctl,) if plan.sysctl else ())):
        if ctx.read_bytes(change.path) == change.after:
            _attempt(left, change.path, _put, ctx, Change(change.path, change.after, change.before))
    if plan.commands and "commands" in begun:
        now = read_files(ctx, plan.results)
        for path in sorted({*now, *before}):
            if now.get(path) != before.get(path):
                _attempt(left, path, _put, ctx, Change(path, now.get(path), before.get(path)))
        if any(result.kind == "uki" for result in plan.results):
            _attempt(left, "the images", _run, ctx, plan.commands, lambda text: None)
    on = tuple(unit for unit in plan.enable if unit in enabled(ctx)) if "units" in begun else ()
    if on:
        _attempt(left, ", ".join(on), _disable, ctx, on, lambda text: None)
    if not left:
        _attempt(left, paths.SETUP, _put_record, ctx, plan.recorded)
    return left


def _attempt(left: list[str], what: str, step: Callable[..., None], *args: object) -> None:
    try:
        step(*args)
    except KdumpError as error:
        left.append(f"{what} could not be put back: {error.message}")


def _put_record(ctx: Context, data: bytes | None) -> None:
    path = ctx.path(paths.SETUP, follow=False)
    if data is None:
        fs.remove(path)
    else:
        fs.write_atomic(path, data, 0o600)
