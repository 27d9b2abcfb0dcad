"""Tells others of a crash: an entry in the journal, a notice that a desktop session may show."""

from __future__ import annotations

from kdump_pkg import fs, paths
from kdump_pkg.context import Context


def to_journal(ctx: Context, lines: bytes) -> None:
    """One structured entry. Raises KdumpError where it can't be made."""
    ctx.runner(["logger", "--journald"], stdin=lines, timeout=30)


def to_desktop(ctx: Context, text: bytes) -> None:
    """For everybody to read, until the next boot."""
    fs.write_atomic(ctx.path(paths.NOTICE, follow=False), text, 0o644)
