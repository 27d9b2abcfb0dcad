"""Keeps what failed captures left behind, and clears the places for the next one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.facts import trace
from kdump_pkg.model import Trace


def make_record(ctx: Context) -> None:
    """Make the record, once: afterwards only its second block is written to, in its place."""
    path = ctx.path(paths.RECORD, follow=False)
    head = f"kdump-pkg record {os.urandom(16).hex()}\n".encode()
    fs.write_atomic(path, head.ljust(trace.RECORD_SIZE, b"\0"), 0o600)


def keep(ctx: Context, traces: Sequence[Trace]) -> None:
    """Replace our list of them."""
    fs.write_record(ctx.path(paths.TRACES, follow=False), {"traces": [asdict(t) for t in traces]})


def clear(ctx: Context) -> tuple[str, ...]:
    """Make room for the next one: say what was cleared. Only after `keep`, or a power cut loses it."""
    done = []
    variable = ctx.path(paths.EFI_TRACE, follow=False)
    if variable.is_file() and not variable.is_symlink():
        fs.clear_immutable(variable)
        fs.remove(variable)
        done.append(trace.EFI)
    if trace.read_record_line(ctx):
        fs.overwrite(ctx.path(paths.RECORD, follow=False), trace.BLOCK, bytes(trace.BLOCK))
        done.append(trace.RECORD)
    return tuple(done)
