"""What is remembered of the variant, written; and asking for a build: its unit started without waiting for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, replace

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts.variant import read_record
from kdump_pkg.model import Wanted
from kdump_pkg.model.variant import Progress, Record

UNIT = "kdump-pkg-variant.service"
TIMEOUT = 10  # seconds; systemd only takes the job
STOP_TIMEOUT = 120  # seconds; what is being built has to end


def ask(ctx: Context, wanted: Wanted) -> None:
    """Remember WANTED; a build that runs sees it and begins anew. In a chroot the next boot starts the unit."""
    update(ctx, lambda record: replace(record, wanted=wanted))
    start(ctx)


def update(ctx: Context, change: Callable[[Record], Record]) -> Record:
    """Write the record as CHANGE makes it of what is there now: a hook and a build may both be at it."""
    with fs.lock(ctx.path(paths.VARIANT_RECORD_LOCK), wait=TIMEOUT):
        record = change(read_record(ctx))
        fs.write_record(ctx.path(paths.VARIANT_RECORD), asdict(record))
    return record


def start(ctx: Context) -> None:
    """Where systemd is at work (sd_booted(3)). That it can't be started is no failure of whoever asked."""
    if has_systemd(ctx):
        with contextlib.suppress(CommandError):
            ctx.runner(["systemctl", "start", "--no-block", UNIT], timeout=TIMEOUT)


def stop(ctx: Context) -> None:
    """End a build that the unit is at."""
    if has_systemd(ctx):
        with contextlib.suppress(CommandError):
            ctx.runner(["systemctl", "stop", UNIT], timeout=STOP_TIMEOUT)


def has_systemd(ctx: Context) -> bool:
    return ctx.live and ctx.path("/run/systemd/system").is_dir()


def tell(ctx: Context, progress: Progress | None) -> None:
    """Say how far a build is, or that there is none; no build fails for it."""
    path = ctx.path(paths.VARIANT_PROGRESS)
    with contextlib.suppress(KdumpError, OSError):
        if progress is None:
            path.unlink(missing_ok=True)
        else:
            fs.write_record(path, asdict(progress))
