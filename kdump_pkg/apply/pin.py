"""Puts the mark `pinned` into a dump of ours, or takes it away: while it is there, no rule removes the dump."""

from __future__ import annotations

import os
from contextlib import suppress

from kdump_pkg import fs
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps

MARK = "pinned"


def pin(ctx: Context, directory: str, name: str, *, pinned: bool) -> None:
    """Raises KdumpError when the dump NAME of DIRECTORY is not one of ours (any more), or can't be changed."""
    try:
        base = os.open(ctx.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = dumps.open_dump(base, name)
        finally:
            os.close(base)
        if fd is None:
            raise KdumpError(f"{directory}/{name}: no dump of kdump-pkg, left alone")
        try:
            _mark(fd, pinned=pinned)
        finally:
            os.close(fd)
    except OSError as error:
        verb = "pinned" if pinned else "unpinned"
        raise KdumpError(
            f"{directory}/{name}: not {verb}: {error.strerror or error}", hint=fs.HINTS.get(error.errno or 0)
        ) from None


def _mark(fd: int, *, pinned: bool) -> None:
    if pinned:
        with suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(MARK, flags, 0o600, dir_fd=fd))
    else:
        with suppress(FileNotFoundError):
            os.unlink(MARK, dir_fd=fd)
    os.fsync(fd)
