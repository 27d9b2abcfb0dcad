"""The verbs a user types, and the one place where errors become lines and exit codes."""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from kdump_pkg import __version__, ui
from kdump_pkg.cli import dumps, machine, variant
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError, missing_module
from kdump_pkg.fs import HINTS
from kdump_pkg.options import OPTIONS

VERBS = (*machine.VERBS, *variant.VERBS, *dumps.VERBS)
EXIT_CODES = {0: "done", 1: "failed", 2: "wrong usage", 3: "`status` found something to do"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code, see EXIT_CODES."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        return int(args.verb.run(_context(args), args))
    except KdumpError as error:
        if args.debug:
            traceback.print_exc()
        ui.error(error.message, error.hint)
    except ImportError as error:
        if args.debug:
            traceback.print_exc()
        gone = missing_module(error)
        ui.error(gone.message, gone.hint)
    except KeyboardInterrupt:
        ui.error("interrupted; what was there stays")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        if args.debug:
            traceback.print_exc()
        ui.error(f"{error.filename or 'kdump-pkg'}: {error.strerror or error}", HINTS.get(error.errno or 0))
    return 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; manual page and completions are tested against it."""
    codes = ", ".join(f"{code} {text}" for code, text in EXIT_CODES.items())
    parser = argparse.ArgumentParser(
        prog="kdump-pkg", allow_abbrev=False, description="Keeps this machine ready to save a kernel crash.",
        epilog=f"Exit codes: {codes}. Configuration: kdump-pkg.conf(5).",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"kdump-pkg {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        epilog = _options_help() if verb.name == "rebuild" else None
        sub = verbs.add_parser(
            verb.name, help=verb.help, description=verb.help, epilog=epilog, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        sub.set_defaults(verb=verb)
        sub.add_argument("--debug", action="store_true", help="show where an error comes from")
        verb.arguments(sub)
    return parser


def _options_help() -> str:
    lines = [f"  {o.name} = {o.default or '(none)'}" for o in OPTIONS]
    return "options of /etc/kdump-pkg.conf and their defaults:\n" + "\n".join(lines)


def _context(args: argparse.Namespace) -> Context:
    name = getattr(args, "root", None)
    root = Path(os.path.realpath("/" if name is None else name))  # unlike resolve() it bears a loop of links
    if name == "" or not root.is_dir():  # a script's variable that was never set does not mean this system
        what = root if name != "" else "an empty word"
        raise KdumpError(f"{what}: not a directory", hint="--root takes the directory that holds the system")
    return Context(root=root)
