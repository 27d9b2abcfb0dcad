"""What pacman's log says was changed before a time; read from its end, for it grows as old as the system."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import get_args

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model.evidence import Change, Deed

LOG = "/var/log/pacman.log"
CONFIG = "/etc/pacman.conf"
LARGEST = 1 << 26
"""Bytes from the end that are looked at: more than twenty years of upgrades."""
PIECE = 1 << 20
MOST = 50_000
"""Changes that are kept: some ten years."""

LINE = re.compile(
    rb"^\[(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[+-]\d{4})?)\] (?:\[ALPM\] )?"
    rb"(installed|upgraded|downgraded|reinstalled|removed) ([A-Za-z0-9@._+-]{1,255}) "
    rb"\(([A-Za-z0-9:._+~-]{1,255})(?: -> ([A-Za-z0-9:._+~-]{1,255}))?\)\r?$",
    re.MULTILINE,
)
"""pacman 5.2 and later write the time's zone, those before local time; before 3.5 there was no [ALPM]. What the scripts
of packages print has another word in the brackets."""
DEEDS: tuple[Deed, ...] = get_args(Deed)


def read_changes(ctx: Context, before: int) -> tuple[Change, ...]:
    """All changes that are not later than BEFORE, newest first; none where there is no log that can be read."""
    try:
        fd = os.open(ctx.path(_place(ctx)), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, KdumpError):
        return ()
    found: list[Change] = []
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ()
        for change in _backwards(fd):
            if change.time <= before:
                found.append(change)
            if len(found) >= MOST:
                break
    except OSError:
        pass
    finally:
        os.close(fd)
    return tuple(found)


def _place(ctx: Context) -> str:
    found = re.search(r"^\s*LogFile\s*=\s*(/\S+)\s*$", ctx.read_text(CONFIG) or "", re.MULTILINE)
    return found[1] if found else LOG


def _backwards(fd: int) -> Iterator[Change]:
    """The lines of a file from the last to the first, piece by piece; one longer than a piece is none of ours."""
    end = os.fstat(fd).st_size
    stop = max(end - LARGEST, 0)
    rest = b""
    while end > stop:
        start = max(end - PIECE, stop)
        data = os.pread(fd, end - start, start) + rest
        first = data.find(b"\n") + 1 if start > stop else 0  # what is before it continues in the piece before
        rest = data[:first] if first < PIECE else b""
        found = [change for match in LINE.finditer(data, first) if (change := _change(match)) is not None]
        yield from reversed(found)
        end = start


def _change(match: re.Match[bytes]) -> Change | None:
    time, deed, package, one, other = ((group or b"").decode("ascii") for group in match.groups())
    seconds = _seconds(time)
    known = next((d for d in DEEDS if d == deed), None)
    if seconds is None or known is None:
        return None
    return Change(package, known, other or one, one if other else "", seconds)


def _seconds(text: str) -> int | None:
    """Without a zone it is local time."""
    try:
        return int(datetime.fromisoformat(text).astimezone(UTC).timestamp())
    except (ValueError, OverflowError, OSError):
        return None
