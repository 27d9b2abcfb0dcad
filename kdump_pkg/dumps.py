"""What was saved: `prune` keeps to the rules, `decrypt` opens what is encrypted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from kdump_pkg import catalogue, reconcile, ui
from kdump_pkg import config as configuration
from kdump_pkg.apply import Reporter, describe
from kdump_pkg.apply import decrypt as opening
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps, storage
from kdump_pkg.facts import upload as sent
from kdump_pkg.facts.dumps import Place
from kdump_pkg.model import Config, Dump, Plan, RemoveDump
from kdump_pkg.model.upload import Record
from kdump_pkg.plan import retention
from kdump_pkg.plan import upload as sending


def places(ctx: Context, config: Config) -> tuple[Place, ...]:
    """Where dumps are on this system."""
    return dumps.places(ctx, config, storage.read_targets(ctx, config))


def plan_prune(ctx: Context, config: Config) -> Plan:
    """What the rules want removed now, on all targets."""
    actions = []
    record = sent.read_record(ctx) if config.upload.remote else Record()
    for place in places(ctx, config):
        space = dumps.read_space(ctx, place.directory)
        if space is None:
            continue
        known = _with_unsent(config, place, dumps.read_dumps(ctx, place.directory), record)
        chosen = retention.choose(known, place.rules, space, ctx.clock())
        actions += [RemoveDump(place.directory, r.dump.name, r.dump.kib, r.reason) for r in chosen]
    return Plan(tuple(actions))


def _with_unsent(config: Config, place: Place, found: tuple[Dump, ...], record: Record) -> tuple[Dump, ...]:
    """The same, each knowing whether it has yet to be sent away."""
    paths = {dump.name: f"{place.directory.rstrip('/')}/{dump.name}" for dump in found}
    waiting = sending.unsent(config.upload, paths.values(), record)
    return tuple(replace(dump, unsent=paths[dump.name] in waiting) for dump in found)


def prune(ctx: Context, *, dry_run: bool, as_json: bool) -> int:
    """The verb `prune`. Returns the exit code."""
    config = configuration.load(ctx)
    report: Reporter = (lambda text: None) if as_json else ui.say
    if dry_run:
        outcome = reconcile.Outcome(plan_prune(ctx, config))
    else:
        outcome = reconcile.carry_out(ctx, lambda: plan_prune(ctx, config), report, wait=reconcile.WAIT)
    if as_json:
        ui.out_json(told(outcome))
    elif not outcome.plan.actions:
        ui.out("nothing to prune")
    elif dry_run:
        for action in outcome.plan.actions:
            ui.out(describe(action))
    return conclude(outcome.failures)


def told(outcome: reconcile.Outcome) -> dict[str, object]:
    return {"dumps": outcome.plan.actions, "failures": [f.message for f in outcome.failures]}


def conclude(failures: tuple[KdumpError, ...]) -> int:
    for failure in failures:
        ui.error(failure.message, failure.hint)
    return 1 if failures else 0


# --- decrypt ---


def decrypt(ctx: Context, match: str | None, identity: str, output: str | None) -> int:
    """The verb `decrypt`: all encrypted files of a dump beside them, or its vmcore as OUTPUT."""
    key = Path(identity)
    if not key.is_file():
        raise KdumpError(f"{identity}: no such file", hint="--identity takes the file with the private key")
    entry = catalogue.find(ctx, configuration.load(ctx), match, sole=True, encrypted=True)
    for source, target in _pairs(ctx.path(entry.path), Path(output) if output else None):
        with ui.progress(f"decrypting {source.name}"):
            opening.decrypt(source, target, key.absolute())
        ui.say(f"decrypted {target}")
    return 0


def _pairs(directory: Path, output: Path | None) -> list[tuple[Path, Path]]:
    """What to decrypt, and to where: the log first, for it is small and says soon whether the key fits."""
    alone = directory.name if directory.name.endswith(".age") and directory.is_file() else ""
    directory = directory.parent if alone else directory
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".age") and alone in ("", name))  # noqa: PTH208
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
