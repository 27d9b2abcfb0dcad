"""The checks of `status`, a module for each group; each gives its findings in their order, and decides nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from kdump_pkg.model import Capture, Config, Facts, Plan
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.model.health import Health, Rehearsed

State = Literal["ok", "todo", "bad", "note", "unknown"]
REBUILD = "kdump-pkg rebuild"
SETUP = "kdump-pkg setup"
REHEARSE = "kdump-pkg rehearse"


@dataclass(frozen=True)
class Case:
    """All that the checks look at."""

    config: Config
    facts: Facts
    plan: Plan
    health: Health = field(default_factory=Health)
    need: Estimate | None = None
    """None where no capture can be designed."""

    @property
    def capture(self) -> Capture | None:
        return self.plan.capture

    @property
    def live(self) -> bool:
        """Whether this is the running system, so that what its kernel says counts."""
        return self.facts.boot.confined is None

    @property
    def hidden(self) -> bool:
        """Whether a capture kernel is loaded, and which one only root can see."""
        return bool(self.facts.boot.crash_loaded) and self.facts.loaded is None and not self.health.privileged

    @property
    def image(self) -> str:
        """Fingerprint of the image that a crash now would start; where nothing is loaded, of the one that is to be."""
        if self.facts.boot.crash_loaded and self.facts.loaded:
            return self.facts.loaded.fingerprint
        return self.capture.fingerprint if self.capture else ""

    @property
    def rehearsed(self) -> Rehearsed | None:
        """The last rehearsal, if it was one of that very image."""
        last = self.health.rehearsed
        return last if last and last.fingerprint == self.image else None


def moment(seconds: int) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def mib(size: int) -> str:
    """Bytes as MiB, and as GiB where that is easier to read."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 10 << 30 else f"{size >> 20} MiB"
