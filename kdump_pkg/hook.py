"""What pacman's hooks and nobody else start: decide fast, do it, and never fail or block a transaction.

The standard library is enough here as long as there is no configuration file to read: pyalpm and pyelftools may have
vanished in the very transaction that called us (style.md, rule 21).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

VERBS = ("preset", "rebuild", "remove")


def main(argv: Sequence[str]) -> int:
    """`hook preset|rebuild|remove`, targets on standard input. Returns 0, or 1 after a line that says what failed."""
    if len(argv) != 1 or argv[0] not in VERBS:
        sys.stderr.write(f"usage: kdump-pkg hook {'|'.join(VERBS)}\n")
        return 2
    _drain()
    from kdump_pkg import ui
    from kdump_pkg.errors import ConfigError, KdumpError, missing_module

    try:
        return _act(argv[0])
    except ImportError as error:
        gone = missing_module(error)
        said = f"kdump-pkg: {gone.message}", gone.hint
    except ConfigError as error:
        said = error.message, "what is armed stays armed; correct it, then: kdump-pkg rebuild"
    except KdumpError as error:
        said = f"kdump-pkg: {error.message}", error.hint
    if argv[0] == "preset":
        return 0  # 95 meets the same in the same transaction, and says it
    ui.error(*said)
    return 1


def _drain() -> None:
    """Targets only say that something happened; what to do comes from facts, so a missed event heals the next time.

    They are read to the end all the same: pacman would get SIGPIPE otherwise.
    """
    with contextlib.suppress(OSError):  # there may be no standard input at all
        while not os.isatty(0) and os.read(0, 1 << 16):
            pass


def _act(verb: str) -> int:
    from kdump_pkg import config as configuration
    from kdump_pkg import reconcile, ui
    from kdump_pkg.context import Context
    from kdump_pkg.plan.rebuild import Scope

    ctx = Context()
    if verb == "remove":
        outcome = reconcile.remove(ctx, ui.detail)
    else:
        scope = Scope(images=verb == "rebuild", load=verb == "rebuild")
        outcome = reconcile.rebuild(ctx, configuration.load(ctx), scope, ui.detail, wait=reconcile.WAIT)
    for failure in outcome.failures:
        ui.error(failure.message, failure.hint)
    if verb != "preset":
        for warning in outcome.plan.warnings:
            ui.warn(warning)
    return 1 if outcome.failures else 0
