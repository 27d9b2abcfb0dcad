"""What this machine knows about a crash besides the log: where its modules come from, what was changed before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kdump_pkg.model.dumps import Entry

Deed = Literal["installed", "upgraded", "downgraded", "reinstalled", "removed"]


@dataclass(frozen=True)
class Change:
    """A line of pacman's log."""

    package: str
    deed: Deed
    version: str
    """That is there afterwards; of a removed one, that was there."""
    before: str
    """The one that it replaced; empty where there was none."""
    time: int
    """In seconds since 1970."""


@dataclass(frozen=True)
class Source:
    """The package that a module's file, or a kernel, comes from, as installed now."""

    package: str
    version: str
    out_of_tree: bool = False


@dataclass(frozen=True)
class Evidence:
    """Read for one report; what can't be known is empty."""

    has_log: bool = True
    in_a_row: int = 1
    """Crashes within a short time, this one included, as the capture counted them."""
    sources: dict[str, Source] = field(default_factory=dict)
    """By name of module; the empty one is the kernel."""
    changes: tuple[Change, ...] = ()
    """From pacman's log, newest first, none later than the crash."""
    others: tuple[Entry, ...] = ()
    """The other dumps of this machine, newest first."""
    cached: tuple[str, ...] = ()
    """Paths of packages in pacman's cache."""
    machine: tuple[tuple[str, str], ...] = ()
    """What this machine says of itself today."""
