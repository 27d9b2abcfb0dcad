"""Which dumps MATCH means, as coredumpctl has it: an id or its beginning, a release, a time as the list shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from kdump_pkg.model.dumps import Entry

Offset = Callable[[int], int]
"""Seconds that local time is ahead of UTC, at a moment in seconds since 1970."""

TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}(?::[0-9]{2}(?::[0-9]{2})?)?))?")
OF_TODAY = re.compile(r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?")
DAYS = {"today": 0, "yesterday": 1}
LATEST = 253402300799  # the end of the year 9999, after which no calendar here goes


def select(entries: Sequence[Entry], match: str | None, now: float, offset: Offset) -> tuple[Entry, ...]:
    """Those that are meant, in their order: of the first rule that finds any."""
    if match is None:
        return tuple(entries)
    prefix = _time(match, now, offset)
    rules: tuple[Callable[[Entry], bool], ...] = (
        lambda entry: entry.id == match,
        lambda entry: entry.release == match != "",
        lambda entry: prefix != "" and local(entry.time, offset).startswith(prefix),
        lambda entry: match.startswith("@") and str(entry.time) == match[1:],
        lambda entry: match != "" and entry.id.startswith(match),
    )
    for rule in rules:
        found = tuple(entry for entry in entries if rule(entry))
        if found:
            return found
    return ()


def local(time: int, offset: Offset) -> str:
    """`2026-11-23 07:46:54`, as everything is shown."""
    moment = max(0, min(time + offset(time), LATEST))
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _time(match: str, now: float, offset: Offset) -> str:
    """How the local times that MATCH means begin; empty where it is none."""
    today = datetime.fromtimestamp(int(now) + offset(int(now)), UTC)
    if match in DAYS:
        return (today - timedelta(days=DAYS[match])).strftime("%Y-%m-%d")
    if OF_TODAY.fullmatch(match):
        return f"{today:%Y-%m-%d} {match}"
    found = TIME.fullmatch(match)
    return " ".join(part for part in found.groups() if part) if found else ""
