"""The verb `variant`: linux-kdump, the slim capture kernel, and the system's own kernel built to be debugged."""

from __future__ import annotations

import argparse

from kdump_pkg.cli.verb import Verb, need_root, with_json
from kdump_pkg.context import Context

ACTIONS = {
    "build": "build it from the system kernel's source, rehearse it and install it",
    "status": "show which there is, whether it captures, and what is being done",
    "remove": "remove it, and follow upgrades no more",
}
BELONGS = {
    "--json": "status",
    "--automatic": "build",
    "--debug-kernel": "build",
    "--force": "build",
    "--yes": "remove",
}
"""Flags, and the one action that takes each."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    listed = "; ".join(f"{name}: {text}" for name, text in ACTIONS.items())
    parser.add_argument("action", metavar="ACTION", choices=ACTIONS, help=listed)
    with_json(parser)
    text = "with build: what the last upgrade asked for, as soon as the machine is idle; for the unit"
    parser.add_argument("--automatic", action="store_true", help=text)
    text = "with build: the system's own kernel with debug information, beside the one that is there"
    parser.add_argument("--debug-kernel", action="store_true", help=text)
    parser.add_argument("--force", action="store_true", help="with build: even if what there is will do")
    parser.add_argument("--yes", action="store_true", help="with remove: don't ask")
    parser.set_defaults(parser=parser)


def _run(ctx: Context, args: argparse.Namespace) -> int:
    _check(args)
    from kdump_pkg import variant

    if args.action == "status":
        return variant.show(ctx, as_json=args.json)
    need_root()
    if args.action == "remove":
        return variant.remove(ctx, yes=args.yes)
    if args.debug_kernel:
        return variant.build_debug_kernel(ctx)
    return variant.build(ctx, automatic=args.automatic, force=args.force)


def _check(args: argparse.Namespace) -> None:
    """End with the usage where a flag is none of the action's, or says the opposite of another one."""
    given = [flag for flag in BELONGS if getattr(args, flag.removeprefix("--").replace("-", "_"))]
    for flag in given:
        if BELONGS[flag] != args.action:
            args.parser.error(f"{flag} goes with `variant {BELONGS[flag]}`, not with `variant {args.action}`")
    for flag in given:
        if args.debug_kernel and flag != "--debug-kernel":
            args.parser.error(f"{flag} doesn't go with --debug-kernel")


VERBS = (Verb("variant", "build, show or remove the slim capture kernel linux-kdump", _run, _arguments),)
