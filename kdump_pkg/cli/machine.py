"""The verbs about this machine: whether it is armed, what arms it, what tries it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from kdump_pkg import config as configuration
from kdump_pkg import reconcile, ui
from kdump_pkg.apply import Reporter, describe
from kdump_pkg.cli.verb import Verb, need_root, with_json, with_root
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.model import Finding, Plan
from kdump_pkg.model.wishes import LoaderName
from kdump_pkg.plan.rebuild import Scope, plan_load, plan_rebuild

if TYPE_CHECKING:
    from kdump_pkg.plan.status import Status

WIDTH = 120


def _status_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)


def _status(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg.plan.status import bad_config_status

    try:
        config = configuration.load(ctx)
    except ConfigError as error:
        status = bad_config_status(error.problems)
    else:
        status = reconcile.read_status(ctx, config)
    if args.json:
        ui.out_json({"version": 2, **ui.plain(status), "todo": status.todo})
    else:
        _print_status(status)
    return 3 if status.todo else 0


def _print_status(status: Status) -> None:
    ui.out(status.verdict)
    room = WIDTH - len(ui.table([("", f.part, f.state, "|") for f in status.findings]).splitlines()[-1])
    for line in ui.table([("", f.part, f.state, _told(f, room)) for f in status.findings]).splitlines():
        ui.out(line)
    for remedy in dict.fromkeys(f.remedy for f in status.findings if f.remedy and f.state in ("todo", "bad")):
        ui.out(f"  to do: {remedy}")


def _told(finding: Finding, room: int) -> str:
    """Its text, where it was read unless the text says so or ROOM is short, and the remedy where that is but advice."""
    text, evidence = finding.text, finding.evidence
    advice = f": {finding.remedy}" if finding.remedy and finding.state in ("note", "unknown") else ""
    if evidence and evidence not in text:
        proved = f"{text[:-1]}; {evidence})" if text.endswith(")") else f"{text} ({evidence})"
        text = proved if len(proved) + len(advice) <= room else text
    return f"{text}{advice}"


def _rebuild_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and why")
    parser.add_argument("--force", action="store_true", help="rebuild and load what is current, too")


def _rebuild(ctx: Context, args: argparse.Namespace) -> int:
    config = configuration.load(ctx)
    scope = Scope(force=args.force)
    if args.dry_run:
        plan = plan_rebuild(config, reconcile.read_facts(ctx, config), scope)
        return _show_plan(plan, as_json=args.json)
    need_root()
    with ui.progress("rebuilding"), ui.only_data(args.json):
        report: Reporter = (lambda text: None) if args.json else ui.say
        outcome = reconcile.rebuild(ctx, config, scope, report, wait=reconcile.WAIT)
    return _conclude(outcome, as_json=args.json)


def _show_plan(plan: Plan, *, as_json: bool) -> int:
    if as_json:
        ui.out_json({"actions": [describe(a) for a in (*plan.prepare, *plan.actions)], "warnings": plan.warnings})
        return 1 if plan.fatal else 0
    for action in (*plan.prepare, *plan.actions):
        ui.out(describe(action))
    _say_warnings(plan)
    if not plan.actions and not plan.fatal:
        ui.out("nothing to do")
    return 1 if plan.fatal else 0


def _say_warnings(plan: Plan) -> None:
    """What could not be planned; an error where that means that nothing can be done at all."""
    for number, warning in enumerate(plan.warnings):
        (ui.error if plan.fatal and number == 0 else ui.warn)(warning)


def _conclude(outcome: reconcile.Outcome, *, as_json: bool = False) -> int:
    for failure in outcome.failures:
        ui.error(failure.message, failure.hint)
    _say_warnings(outcome.plan)
    if as_json:
        done = [describe(a) for a in outcome.plan.actions]
        failures = [f.message for f in outcome.failures]
        ui.out_json({"actions": done, "failures": failures, "warnings": outcome.plan.warnings})
    return 0 if outcome.good else 1


def _load_arguments(parser: argparse.ArgumentParser) -> None:
    text = "ask for the passphrases of encrypted targets, so that a crash before the next boot needs none"
    parser.add_argument("--unlock", action="store_true", help=text)


def _load(ctx: Context, args: argparse.Namespace) -> int:
    need_root()
    config = configuration.load(ctx)
    if args.unlock:
        reconcile.unlock(ctx, config, ui.ask)
    return _conclude(reconcile.carry_out(ctx, lambda: plan_load(config, reconcile.read_facts(ctx, config)), ui.say))


def _unload(ctx: Context, args: argparse.Namespace) -> int:
    need_root()
    return _conclude(reconcile.carry_out(ctx, lambda: reconcile.plan_unload(ctx), ui.say))


def _rehearse_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="memory of the virtual machine (1024)")
    parser.add_argument("--crashkernel", default="256M", metavar="SIZE", help="reservation to try (256M)")
    parser.add_argument("--timeout", type=int, default=600, metavar="SECONDS", help="give up after so long (600)")
    parser.add_argument("--passphrase", action="store_true", help="type the passphrase of an encrypted scratch disk")
    parser.add_argument("--keep", metavar="DIR", help="keep the dump, the disk and the console log in DIR")


def _rehearse(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import rehearsal

    config = configuration.load(ctx)
    keep = Path(args.keep) if args.keep else None
    wish = rehearsal.Wish(args.memory, args.crashkernel, args.timeout, keep, args.passphrase)
    with ui.progress("rehearsing a crash"):
        verdict = rehearsal.rehearse(ctx, config, reconcile.read_facts(ctx, config), wish)
    if args.json:
        ui.out_json(verdict)
    else:
        ui.out(rehearsal.report(verdict))
    return 0 if verdict.captured else 1


def _setup_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, as a diff")
    parser.add_argument("--yes", action="store_true", help="don't ask")
    parser.add_argument("--undo", action="store_true", help="take back what setup has changed")
    parser.add_argument(
        "--loader", metavar="LOADER", choices=get_args(LoaderName), help="boot loader to set up, where several are here"
    )
    parser.add_argument("--crashkernel", metavar="SIZE", help="reserve so much, whatever is reserved now")
    text = "let an oops or a hang become a panic, which is saved, by a file in /etc/sysctl.d"
    parser.add_argument("--panic-on-hang", action="store_true", help=text)


def _setup(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import setup

    if not args.dry_run:
        need_root()
    values = tuple((args.crashkernel or "").split())
    if args.crashkernel is not None and not values:
        raise KdumpError("--crashkernel is empty", hint="for example --crashkernel 192M")
    wish = setup.Wish(args.loader, values, undo=args.undo, panic_on_hang=args.panic_on_hang)
    return setup.setup(ctx, wish, dry_run=args.dry_run, yes=args.yes, as_json=args.json)


def _estimate_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    parser.add_argument("--measure", action="store_true", help="find the smallest that captures, by rehearsing")
    parser.add_argument("--shrink", action="store_true", help="give back now what is reserved in excess, until reboot")


def _estimate(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import estimate

    if args.shrink:
        need_root()
    return estimate.estimate(ctx, measure=args.measure, shrink=args.shrink, as_json=args.json)


def _test(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import crash_test

    need_root()
    return crash_test.crash(ctx)


VERBS = (
    Verb("status", "show whether a crash now would be saved, and what to do if not", _status, _status_arguments),
    Verb("rebuild", "make configuration, preset, image and load what they should be", _rebuild, _rebuild_arguments),
    Verb("load", "load the capture kernel", _load, _load_arguments),
    Verb("unload", "take the capture kernel out; a crash saves nothing then", _unload),
    Verb("setup", "reserve memory in the boot loader's configuration and enable the units", _setup, _setup_arguments),
    Verb("estimate", "say how much memory to reserve, and why", _estimate, _estimate_arguments),
    Verb("rehearse", "crash kernel, image and command line in a virtual machine", _rehearse, _rehearse_arguments),
    Verb("test", "crash this machine on purpose, to see that it is saved", _test),
)
