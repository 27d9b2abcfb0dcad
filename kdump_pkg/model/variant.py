"""linux-kdump, the slim capture kernel: what is wanted of it, what was built, what is being done just now."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wanted:
    """A build that has been asked for."""

    base: str
    """Package base of the system kernel that it follows: linux."""
    version: str
    """Of that package, as pacman has it."""
    release: str
    """What uname -r says under that kernel."""
    drivers: tuple[str, ...]
    """Modules of the stock kernel that it has to have built in; ("all",) for every part there is."""
    reason: str = ""

    @property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """Two builds with the same one would be the same."""
        return self.base, self.version, self.drivers


@dataclass(frozen=True)
class Built:
    """The last one that was built and installed."""

    wanted: Wanted
    release: str
    """Its own: 6.12.1-kdump."""
    build_id: str
    time: int
    """Seconds since 1970."""
    seconds: int = 0
    """That it took."""
    objects: int = 0
    """Files that were compiled, to know how far the next one is."""


@dataclass(frozen=True)
class Failure:
    """Why the last build came to nothing."""

    wanted: Wanted
    time: int
    step: str
    text: str
    hint: str = ""
    tail: tuple[str, ...] = ()
    """The last lines that were said."""


@dataclass(frozen=True)
class Record:
    """What is remembered: `paths.VARIANT_RECORD`."""

    followed: bool = False
    """Whether somebody has asked for a variant: only then are upgrades followed."""
    wanted: Wanted | None = None
    built: Built | None = None
    failure: Failure | None = None
    trusted: dict[str, str] = field(default_factory=dict)
    """Build ID of each variant that may capture, and what is its warrant: a rehearsal, or the configuration."""


@dataclass(frozen=True)
class Progress:
    """What the build that runs now is at: `paths.VARIANT_PROGRESS`."""

    step: str
    """waiting, preparing, building, rehearsing, installing."""
    text: str = ""
    since: int = 0
    """Seconds since 1970, of the whole run."""
    done: int = 0
    of: int = 0
    """Files compiled, and about how many there are; 0 where nobody knows."""


@dataclass(frozen=True)
class VariantState:
    """All of it, as facts have it."""

    record: Record = field(default_factory=Record)
    running: bool = False
    progress: Progress | None = None
    now: int = 0
    """When it was read; seconds since 1970."""
