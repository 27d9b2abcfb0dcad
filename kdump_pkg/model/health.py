"""What `status` and `estimate` look at besides the facts that a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kdump_pkg.model.bootloader import Loader, Result, ResultLine, Surroundings
from kdump_pkg.model.machine import Space
from kdump_pkg.model.upload import Record


@dataclass(frozen=True)
class Rehearsed:
    """The last rehearsal on this machine, as it was recorded."""

    time: int
    """Seconds since 1970."""
    fingerprint: str
    """Of the image."""
    release: str
    crashkernel: str
    captured: bool
    reason: str = ""
    reserved: int = 0
    """Bytes that the reservation had in it."""
    least_kib: int | None = None
    """Memory available at the least."""
    seconds: float | None = None
    """From the panic to the reboot."""


@dataclass(frozen=True)
class CrashTest:
    """A crash on purpose, by `kdump-pkg test`."""

    id: str
    boot_id: str
    time: int
    release: str
    result: Literal["pending", "saved", "lost"] = "pending"
    dump: str = ""
    """Path of its directory."""
    seconds: int | None = None
    """From the crash to the end of the saving."""
    certain: bool = True
    """False where its log can't be read without a key: time and release fit."""
    reason: str = ""
    """Why it was lost, as far as anything tells."""


@dataclass(frozen=True)
class LastDump:
    """The newest dump that can be seen from here."""

    path: str
    time: int
    release: str
    result: str
    """As its `meta` says it: complete, partial, dmesg, incomplete, started; empty without one."""
    seconds: int | None = None
    damaged: bool = False
    """Whether `collect` found that it can't be read as it is."""


@dataclass(frozen=True)
class Health:
    """Read for `status` alone; what can't be known is None or empty."""

    privileged: bool = True
    """Whether we are root: else much can't be read."""
    boot_id: str = ""
    kconfig: dict[str, str] | None = None
    """The running kernel's configuration: CRASH_DUMP to y, m or n (those that are asked for)."""
    kconfig_source: str = ""
    sysctls: dict[str, str] = field(default_factory=dict)
    """kernel.panic_on_oops to 1, as they are now."""
    placed: tuple[tuple[int, int], ...] = ()
    """Where the reservation lies: first and last byte of each range (/proc/iomem)."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    loaders: tuple[Loader, ...] = ()
    results: dict[Result, tuple[ResultLine, ...]] = field(default_factory=dict)
    """What was generated for the one that is used, where that costs little to read: no unified kernel images."""
    rehearsed: Rehearsed | None = None
    test: CrashTest | None = None
    last_dump: LastDump | None = None
    spaces: dict[str, Space] = field(default_factory=dict)
    """Name of a target to the room in its file system, where it is mounted."""
    debuggers: dict[str, str] = field(default_factory=dict)
    """Which of crash and drgn are installed, to their versions; empty where one doesn't say it."""
    dumps: tuple[str, ...] = ()
    """Paths of our dumps, where `[upload]` says that they are to be sent away."""
    uploads: Record = field(default_factory=Record)
    """What has arrived of them."""
