"""Of a log in pstore: whether its crash has a dump already, and what the dump that is made of it says of itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kdump_pkg.model.health import LastDump

NEAR = 86400
"""Seconds before the record's time in which a dump of the same crash may lie: ramoops doesn't tell the time."""
SAME = 600
"""Seconds that the two may be apart where nothing but the time tells."""


@dataclass(frozen=True)
class Made:
    name: str
    meta: tuple[tuple[str, str], ...]


def is_known(time: int, release: str, found: Sequence[tuple[LastDump, bool | None]], *, sure: bool) -> bool:
    """Whether one of FOUND is of this crash: its log has the same words; without words to go by, the time is near."""
    for dump, has in found:
        if has is True and sure:
            return True
        near = abs(dump.time - time) <= SAME and (not release or dump.release in (release, "unknown"))
        if near and (has is None or not sure):
            return True
    return False


def make(time: int, release: str, panic: bool, backend: str, now: int) -> Made:
    """TIME is the crash's, NOW when it was found."""
    named = release if re.fullmatch(r"[A-Za-z0-9._+-]{1,64}", release) else "unknown"
    try:
        stamp = datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    except (OverflowError, OSError, ValueError):
        time, stamp = 0, "1970-01-01T00-00-00Z"
    meta = {
        "format": "1",
        "release": "" if named == "unknown" else named,
        "crash_time": str(time),
        "saved_time": str(now),
        "origin": "pstore",
        "backend": backend,
        "panic": "yes" if panic else "no",
        "result": "dmesg",
    }
    return Made(f"{stamp}-{named}", tuple(meta.items()))
