"""The verbs about what was saved: `prune` keeps to the rules, `collect` tidies up after a crash, `decrypt` opens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kdump_pkg import config as configuration
from kdump_pkg import crash_test, fs, paths, reconcile, ui
from kdump_pkg.apply import Reporter, describe
from kdump_pkg.apply import decrypt as opening
from kdump_pkg.apply import trace as traces
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps, storage, trace
from kdump_pkg.facts.dumps import Place
from kdump_pkg.model import Config, Dump, Plan, RemoveDump, Trace
from kdump_pkg.model.health import CrashTest
from kdump_pkg.plan import retention
from kdump_pkg.plan.checks import moment


def places(ctx: Context, config: Config) -> tuple[Place, ...]:
    """Where dumps are on this system."""
    return dumps.places(ctx, config, storage.read_targets(ctx, config))


def plan_prune(ctx: Context, config: Config) -> Plan:
    """What the rules want removed now, on all targets."""
    actions = []
    for place in places(ctx, config):
        space = dumps.read_space(ctx, place.directory)
        if space is None:
            continue
        chosen = retention.choose(dumps.read_dumps(ctx, place.directory), place.rules, space, ctx.clock())
        actions += [RemoveDump(place.directory, r.dump.name, r.dump.kib, r.reason) for r in chosen]
    return Plan(tuple(actions))


def prune(ctx: Context, *, dry_run: bool, as_json: bool) -> int:
    """The verb `prune`. Returns the exit code."""
    config = configuration.load(ctx)
    report: Reporter = (lambda text: None) if as_json else ui.say
    if dry_run:
        outcome = reconcile.Outcome(plan_prune(ctx, config))
    else:
        outcome = reconcile.carry_out(ctx, lambda: plan_prune(ctx, config), report, wait=reconcile.WAIT)
    if as_json:
        ui.out_json(_told(outcome))
    elif not outcome.plan.actions:
        ui.out("nothing to prune")
    elif dry_run:
        for action in outcome.plan.actions:
            ui.out(describe(action))
    return _exit_code(outcome.failures)


def collect(ctx: Context, *, as_json: bool) -> int:
    """The verb `collect`: a word for each thing done, none where there was nothing to do."""
    report: Reporter = (lambda text: None) if as_json else ui.say
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        new = gather(ctx, report)
    config = configuration.load(ctx)  # a bad one must not keep the traces from being gathered
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        test = crash_test.settle(ctx, places(ctx, config))
    if test:
        report(_told_of(test))
    outcome = reconcile.carry_out(ctx, lambda: plan_prune(ctx, config), report, wait=reconcile.WAIT)
    if as_json:
        ui.out_json({"traces": new, "test": test, **_told(outcome)})
    return _exit_code(outcome.failures)


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


def _told(outcome: reconcile.Outcome) -> dict[str, object]:
    return {"dumps": outcome.plan.actions, "failures": [f.message for f in outcome.failures]}


def _exit_code(failures: tuple[KdumpError, ...]) -> int:
    for failure in failures:
        ui.error(failure.message, failure.hint)
    return 1 if failures else 0


# --- decrypt ---


def decrypt(ctx: Context, match: str | None, identity: str, output: str | None) -> int:
    """The verb `decrypt`: all encrypted files of a dump beside them, or its vmcore as OUTPUT."""
    key = Path(identity)
    if not key.is_file():
        raise KdumpError(f"{identity}: no such file", hint="--identity takes the file with the private key")
    directory = find(ctx, match)
    for source, target in _pairs(directory, Path(output) if output else None):
        with ui.progress(f"decrypting {source.name}"):
            opening.decrypt(source, target, key.absolute())
        ui.say(f"decrypted {target}")
    return 0


def find(ctx: Context, match: str | None) -> Path:
    """The directory of one encrypted dump: the newest, the only one whose name begins with MATCH, or a path."""
    if match is not None and (os.sep in match or match in (".", "..")):
        return Path(match)
    found = [(dump, place) for place in places(ctx, configuration.load(ctx)) for dump in _dumps(ctx, place)]
    if match is None:
        found = sorted((pair for pair in found if pair[0].encrypted), key=lambda pair: pair[0].name)[-1:]
    else:
        exact = [pair for pair in found if pair[0].name == match]
        found = exact[:1] or [pair for pair in found if pair[0].name.startswith(match)]
    if not found:
        what = "encrypted dump" if match is None else f"dump whose name begins with {match}"
        raise KdumpError(f"no {what} on the targets", hint="name its directory; only root can read /var/crash")
    if len(found) > 1:
        names = ", ".join(dump.name for dump, _ in found[:3])
        raise KdumpError(f"{len(found)} dumps begin with {match}: {names}{' …' if found[3:] else ''}; say more of it")
    dump, place = found[0]
    return ctx.path(place.directory) / dump.name


def _dumps(ctx: Context, place: Place) -> tuple[Dump, ...]:
    return dumps.read_dumps(ctx, place.directory)


def _pairs(directory: Path, output: Path | None) -> list[tuple[Path, Path]]:
    """What to decrypt, and to where: the log first, for it is small and says soon whether the key fits."""
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".age"))  # noqa: PTH208
    except OSError as error:
        raise KdumpError(f"{directory}: can't be read: {error.strerror}") from None
    if not names:
        raise KdumpError(f"{directory}: nothing in it is encrypted", hint="its vmcore can be opened as it is")
    if output is not None:
        main = "vmcore.age" if "vmcore.age" in names else "dmesg.txt.age" if "dmesg.txt.age" in names else names[0]
        return [(directory / main, output)]
    every = [(directory / name, directory / name.removesuffix(".age")) for name in names]
    todo = [pair for pair in every if not os.path.lexists(pair[1])]
    if not todo:
        raise KdumpError(
            f"{directory}: decrypted already, left alone", hint="--output FILE writes the vmcore elsewhere"
        )
    return todo
