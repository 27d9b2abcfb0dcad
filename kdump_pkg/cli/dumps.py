"""The verbs about what was saved: to find it, read it, open it, hand it on and let it go."""

from __future__ import annotations

import argparse

from kdump_pkg.cli.verb import Verb, check_file, need_root, with_json, with_root
from kdump_pkg.context import Context

MATCH = "the dump: how its name begins, its kernel's release, or its time (the newest)"


def _match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("match", nargs="?", metavar="MATCH", help=MATCH)


def _must_match(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("match", metavar="MATCH", help=MATCH.removesuffix(" (the newest)"))


def _read_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    _match(parser)


def _list(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    return catalogue.show_list(ctx, args.match, as_json=args.json)


def _info(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    return catalogue.show_info(ctx, args.match, as_json=args.json)


def _verify(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    return catalogue.verify(ctx, args.match, as_json=args.json)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _read_arguments(parser)
    parser.add_argument("--html", metavar="FILE", help="write the report to FILE as a page that needs nothing else")


def _report(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import reports

    if args.html is not None:
        check_file(args.html)
    return reports.show(ctx, args.match, html=args.html, as_json=args.json)


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _must_match(parser)
    parser.add_argument("file", metavar="FILE", help="the archive to write, a tar compressed by zstd")
    parser.add_argument("--debug-kernel", action="store_true", help="put the vmlinux that opens the dump into it, too")


def _export(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import exporting

    need_root()
    check_file(args.file)
    return exporting.export(ctx, args.match, args.file, debug_kernel=args.debug_kernel)


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    _must_match(parser)
    parser.add_argument("--yes", action="store_true", help="don't ask")


def _remove(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    need_root()
    return catalogue.remove(ctx, args.match, yes=args.yes)


def _pin(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    need_root()
    return catalogue.pin(ctx, args.match, pinned=True)


def _unpin(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import catalogue

    need_root()
    return catalogue.pin(ctx, args.match, pinned=False)


def _debug_arguments(parser: argparse.ArgumentParser) -> None:
    _match(parser)
    parser.add_argument(
        "--tool", metavar="TOOL", choices=("crash", "drgn"), help="what to open it with (crash where it can, else drgn)"
    )
    text = "run this command of the tool and no prompt; may be given several times"
    parser.add_argument("--command", action="append", default=[], metavar="COMMAND", help=text)
    parser.add_argument("--force", action="store_true", help="try even with a kernel that is not the one that crashed")
    parser.add_argument("--prepare", action="store_true", help="make the vmlinux, print its path, and open nothing")


def _debug(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import debugging

    need_root()
    wish = debugging.Wish(args.tool, tuple(args.command), force=args.force, prepare=args.prepare)
    return debugging.debug(ctx, args.match, wish)


def _prune_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be done, and why")


def _prune(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import dumps

    need_root()  # even to look: nobody else can read the dumps
    return dumps.prune(ctx, dry_run=args.dry_run, as_json=args.json)


def _collect_arguments(parser: argparse.ArgumentParser) -> None:
    with_root(parser)
    with_json(parser)


def _collect(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import collect

    need_root()
    return collect.collect(ctx, as_json=args.json)


def _decrypt_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dump", nargs="?", metavar="DUMP", help="its directory, or how its name begins (the newest)")
    parser.add_argument("--identity", required=True, metavar="FILE", help="private key, as age takes it")
    parser.add_argument("--output", metavar="FILE", help="write the vmcore to FILE, and nothing else")


def _decrypt(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import dumps

    return dumps.decrypt(ctx, args.dump, args.identity, args.output)


def _upload_arguments(parser: argparse.ArgumentParser) -> None:
    with_json(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and where to")


def _upload(ctx: Context, args: argparse.Namespace) -> int:
    from kdump_pkg import upload

    need_root()
    return upload.upload(ctx, dry_run=args.dry_run, as_json=args.json)


VERBS = (
    Verb("list", "list the dumps: when, which kernel, what happened, how much of it was saved", _list, _read_arguments),
    Verb("info", "show all that is known of a dump", _info, _read_arguments),
    Verb("report", "say what happened, why, and what to do next", _report, _report_arguments),
    Verb(
        "debug", "open a dump in crash or drgn, with the kernel and modules that belong to it", _debug, _debug_arguments
    ),
    Verb("verify", "check whether a dump is whole and can be read", _verify, _read_arguments),
    Verb("export", "write a dump and its report into one archive, to hand to somebody", _export, _export_arguments),
    Verb("pin", "keep a dump, whatever the rules say", _pin, _must_match),
    Verb("unpin", "leave a dump to the rules again", _unpin, _must_match),
    Verb("remove", "remove a dump", _remove, _remove_arguments),
    Verb("prune", "remove dumps by the rules of the configuration", _prune, _prune_arguments),
    Verb("collect", "report what the last crash left behind, then prune", _collect, _collect_arguments),
    Verb("decrypt", "make readable files of an encrypted dump", _decrypt, _decrypt_arguments),
    Verb("upload", "send new dumps and reports to where the configuration says", _upload, _upload_arguments),
)
