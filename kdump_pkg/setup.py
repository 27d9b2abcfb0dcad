"""The verb `setup`: memory reserved in the boot loader's configuration, units enabled; and all of it taken back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from kdump_pkg import config as configuration
from kdump_pkg import crashkernel, fs, paths, reconcile, ui
from kdump_pkg.apply import setup as stage
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.results import read_files, read_result
from kdump_pkg.facts.state import read_own_file, read_units
from kdump_pkg.facts.surroundings import read_loaders, read_surroundings
from kdump_pkg.model import Config, Facts
from kdump_pkg.model.bootloader import Loader, Result, ResultLine, Surroundings
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.model.setup import Change, Record, SetupPlan, load
from kdump_pkg.plan import diff, reservation
from kdump_pkg.plan.estimate import estimate
from kdump_pkg.plan.hangs import sysctl_file
from kdump_pkg.plan.rebuild import plan_rebuild
from kdump_pkg.plan.reservation import Amount, Here, Results
from kdump_pkg.plan.undo import Now, plan_undo

SYSRQ = "/proc/sys/kernel/sysrq"
WHY = "the kernel reserves memory only while it boots"
NEXT = "kdump-pkg status says whether a crash would be saved, kdump-pkg rehearse proves it"


@dataclass(frozen=True)
class Wish:
    """What the user wants of it."""

    loader: str | None = None
    values: tuple[str, ...] = ()
    """For `crashkernel=`, in place of what is there and of the estimate."""
    undo: bool = False
    panic_on_hang: bool = False


@dataclass(frozen=True)
class _Job:
    """What is to be done, and how it is done."""

    plan: SetupPlan
    carry_out: Callable[[stage.Report], None]
    nothing: str
    """What is said where nothing is to be done."""
    done: tuple[str, ...]
    """What is said when it is done, and what comes next."""


def setup(ctx: Context, wish: Wish, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show it, ask, do it. Returns the exit code."""
    if as_json and not (dry_run or yes):
        raise KdumpError("--json asks nothing", hint="add --yes, or --dry-run to see what would be done")
    job = _undoing(ctx) if wish.undo else _setting_up(ctx, wish, ask=not (yes or dry_run or as_json))
    if not as_json:
        _show(job, dry_run=dry_run)
    if not (dry_run or yes or job.plan.empty or _agreed()):
        ui.out("nothing was changed")
        return 1
    if not dry_run:
        with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT), ui.only_data(as_json):
            job.carry_out((lambda text: None) if as_json else ui.say)
    if as_json:
        ui.out_json({**_as_json(job.plan), "undo": wish.undo, "changed": not dry_run and not job.plan.empty})
    elif not dry_run:
        _say_done(job)
    return 0


def _agreed() -> bool:
    if not ui.interactive():
        raise KdumpError("nobody is there to be asked", hint="--yes does it unasked, --dry-run shows it")
    return ui.confirm("Proceed?")


# --- setting up -----------------------------------------------------------------------------------------------------


def _setting_up(ctx: Context, wish: Wish, *, ask: bool) -> _Job:
    config = configuration.load(ctx)
    facts = reconcile.read_facts(ctx, config)
    around = read_surroundings(ctx)
    loader = _choose(read_loaders(ctx, around), wish.loader, ask=ask and ui.interactive())
    values = tuple(value.removeprefix(f"{crashkernel.NAME}=") for value in wish.values)
    amount = reservation.decide(loader, values, _estimate(config, facts), facts.boot.memory_total)
    recorded, notes = _recorded(ctx)
    sysctl, said = _sysctl(ctx) if wish.panic_on_hang else (None, ())
    here = Here(
        results=_results(ctx, loader, around),
        generated=read_files(ctx, loader.results),
        record=load(recorded) if recorded is not None else None,
        recorded=recorded,
        units=facts.units,
        sysctl=sysctl,
        notes=(*amount.notes, *notes, *said),
    )
    plan = reservation.plan_setup(loader, around, amount, here)
    return _Job(
        plan, lambda report: _reserve(ctx, around, plan, amount, report), _up_to_date(plan), _after_setup(plan, around)
    )


def _choose(loaders: tuple[Loader, ...], wanted: str | None, *, ask: bool) -> Loader:
    several = reservation.candidates(loaders)
    if wanted is None and len(several) > 1 and ask:
        picked = ui.pick(
            "Several boot loaders are here. Which of them boots this machine?",
            [f"{loader.name}: {loader.evidence}" for loader in several],
        )
        wanted = several[picked].name if picked is not None else None
    return reservation.choose(loaders, wanted)


def _estimate(config: Config, facts: Facts) -> Estimate:
    return estimate(facts, plan_rebuild(config, facts).capture, None)


def _recorded(ctx: Context) -> tuple[bytes | None, tuple[str, ...]]:
    """The record's file, and what has to be said of it; only root can read it."""
    if os.geteuid() != 0 and os.path.lexists(ctx.path(paths.SETUP)) and ctx.read_bytes(paths.SETUP) is None:
        return None, ("what an earlier setup did is known to root only",)
    return stage.read(ctx, paths.SETUP), ()


def _sysctl(ctx: Context) -> tuple[Change | None, tuple[str, ...]]:
    """The file that makes hangs panics, unless it is there, or is the user's."""
    text = ctx.read_text(SYSRQ) if ctx.live else None
    want = sysctl_file(int(text) if text and text.isdecimal() else None)
    have = read_own_file(ctx, paths.SYSCTL)
    if have.problem or not have.pristine:
        return None, (f"{paths.SYSCTL} is yours, and left alone{f': {have.problem}' if have.problem else ''}",)
    # A file of ours that is there was made from what held then: kernel.sysrq is what it made of that by now.
    return (Change(paths.SYSCTL, None, want) if have.data is None else None), ()


def _results(ctx: Context, loader: Loader, around: Surroundings) -> Results:
    """What was generated last; None for what can't be read, without root or without a module of Python."""
    found: dict[Result, tuple[ResultLine, ...] | None] = {}
    for result in loader.results:
        try:
            found[result] = read_result(ctx, result, around)
        except KdumpError:
            found[result] = None if ctx.path(result.path).exists() else ()
    return found


def _reserve(ctx: Context, around: Surroundings, plan: SetupPlan, amount: Amount, report: stage.Report) -> None:
    if plan.record is None or plan.loader is None:
        return
    wanted = reservation.accepted(plan.loader, amount)

    def check() -> str | None:
        return reservation.lacking({result: read_result(ctx, result, around) for result in plan.results}, wanted)

    stage.reserve(ctx, plan, check, report)


def _up_to_date(plan: SetupPlan) -> str:
    title = plan.loader.title if plan.loader else ""
    there = "" if plan.manual else f"{crashkernel.text(plan.values)} is in the configuration of {title}, "
    return f"nothing to do: {there}the units are enabled"


def _after_setup(plan: SetupPlan, around: Surroundings) -> tuple[str, ...]:
    if plan.reboot:
        return (f"{'then ' if plan.manual else ''}reboot: {WHY}", f"after that {NEXT}")
    if around.live:
        return (NEXT,)
    return () if plan.empty else (f"it holds from the next boot of that system on: {WHY}",)


# --- undoing --------------------------------------------------------------------------------------------------------


def _undoing(ctx: Context) -> _Job:
    recorded = stage.read(ctx, paths.SETUP)
    if recorded is None:
        return _Job(SetupPlan(), lambda report: None, "nothing to undo: setup has changed nothing here", ())
    record = load(recorded)
    around = read_surroundings(ctx)
    loaders = read_loaders(ctx, around)
    now = _now(ctx, record, recorded, loaders, around)
    plan = plan_undo(record, loaders, now)
    running = crashkernel.values(around.cmdline or "")
    reboot = around.live and bool(plan.changes or plan.restored or plan.commands) and bool(running)
    plan = replace(plan, reboot=reboot)
    nothing = "nothing to undo: what setup did is gone already"
    done = (f"reboot to have the memory back: {WHY}",) if plan.reboot else ()

    def carry_out(report: stage.Report) -> None:
        stage.undo(ctx, plan, report)
        if not plan.empty:
            report("what setup did is taken back")

    return _Job(plan, carry_out, nothing, done)


def _now(ctx: Context, record: Record, recorded: bytes, loaders: tuple[Loader, ...], around: Surroundings) -> Now:
    names = {file.loader for file in record.files} | {one.loader for one in record.generated}
    ours = {loader.name: loader for loader in loaders if loader.name in names}
    generated = {}
    for name in {one.loader for one in record.generated}:
        known = {one.path: ctx.read_bytes(one.path) for one in record.generated if one.loader == name}
        generated[name] = {**known, **(read_files(ctx, ours[name].results) if name in ours else {})}
    sysctl, notes = _sysctl_back(ctx) if record.sysctl else (None, ())
    return Now(
        recorded=recorded,
        files={one.path: stage.read(ctx, one.path) for one in record.files},
        generated=generated,
        results={name: _results(ctx, loader, around) for name, loader in ours.items()},
        units=read_units(ctx),
        sysctl=sysctl,
        notes=notes,
        around=around,
    )


def _sysctl_back(ctx: Context) -> tuple[Change | None, tuple[str, ...]]:
    have = read_own_file(ctx, paths.SYSCTL)
    if have.data is None:
        return None, ()
    if not have.pristine:
        return None, (f"{paths.SYSCTL} was edited, and stays",)
    return Change(paths.SYSCTL, have.data, None), ()


# --- what is said ---------------------------------------------------------------------------------------------------


def _show(job: _Job, *, dry_run: bool) -> None:
    plan = job.plan
    if plan.loader:
        ui.say(f"{plan.loader.title}: {diff.shown(plan.loader.evidence)}")
    for note in plan.notes:
        ui.detail(diff.shown(note))
    if plan.empty and not plan.manual:
        ui.out(job.nothing)
    for change in _edits(plan):
        ui.diff(diff.unified(change))
    for change in plan.restored:
        ui.detail(f"{'removes' if change.after is None else 'gives its first content back to'} {change.path}")
    for argv in plan.commands:
        ui.detail(f"runs {' '.join(argv)}")
    for verb, units in (("enables", plan.enable), ("disables", plan.disable)):
        if units:
            ui.detail(f"{verb} {', '.join(units)}")
    if dry_run:
        _say_done(job)


def _say_done(job: _Job) -> None:
    if job.plan.manual:
        ui.say("this has to be run by hand:")
        for command in job.plan.manual:
            ui.out(f"    {diff.shown(command)}")
    for line in job.done:
        ui.say(line)


def _edits(plan: SetupPlan) -> tuple[Change, ...]:
    return (*plan.changes, *((plan.sysctl,) if plan.sysctl else ()))


def _as_json(plan: SetupPlan) -> dict[str, object]:
    loader = plan.loader
    named = {"name": loader.name, "title": loader.title, "evidence": loader.evidence} if loader else None
    return {
        "version": 1,
        "loader": named,
        "values": plan.values,
        "edits": [{"path": change.path, "diff": diff.unified(change)} for change in _edits(plan)],
        "restored": [change.path for change in plan.restored],
        "commands": [" ".join(argv) for argv in plan.commands],
        "manual": plan.manual,
        "units": {"enable": plan.enable, "disable": plan.disable},
        "notes": plan.notes,
        "reboot_needed": plan.reboot,
    }
