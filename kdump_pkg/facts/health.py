"""What `status` looks at besides the facts that a plan is made from. Reads only; what is missing is left out."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import replace

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps
from kdump_pkg.facts.debuggers import read_debuggers
from kdump_pkg.facts.kconfig import read_kconfig
from kdump_pkg.facts.records import read_rehearsed, read_test
from kdump_pkg.facts.results import read_result
from kdump_pkg.facts.surroundings import read_loaders, read_surroundings
from kdump_pkg.facts.upload import read_record
from kdump_pkg.model import Config, Facts, Space
from kdump_pkg.model.bootloader import Loader, Result, ResultLine, Surroundings
from kdump_pkg.model.health import Health, LastDump

SYSCTLS = (
    "panic_on_oops", "softlockup_panic", "hardlockup_panic", "hung_task_panic", "panic_on_unrecovered_nmi",
    "unknown_nmi_panic", "panic_on_warn", "sysrq",
)  # fmt: skip
"""Of /proc/sys/kernel; those that this kernel doesn't have are left out."""
PLACED = re.compile(r"^\s*([0-9a-f]+)-([0-9a-f]+) : Crash kernel$", re.MULTILINE)


def read_health(ctx: Context, config: Config, facts: Facts) -> Health:
    """For the system that FACTS are of."""
    around = read_surroundings(ctx)
    loaders = read_loaders(ctx, around)
    health = Health(
        privileged=os.geteuid() == 0,
        surroundings=around,
        loaders=loaders,
        results=_results(ctx, around, loaders),
        rehearsed=read_rehearsed(ctx),
        test=read_test(ctx),
        last_dump=_last_dump(ctx, config, facts),
        spaces=_spaces(ctx, config, facts),
        debuggers=read_debuggers(ctx, facts.tools),
    )
    if config.upload.remote:
        health = replace(health, dumps=_dumps(ctx, config, facts), uploads=read_record(ctx))
    return health if facts.boot.confined else _of_this_boot(ctx, facts, health)


def _of_this_boot(ctx: Context, facts: Facts, health: Health) -> Health:
    """And what only the running kernel can say."""
    kconfig, source = read_kconfig(ctx, facts.boot.running or "")
    return replace(
        health,
        boot_id=read_boot_id(ctx),
        kconfig=kconfig,
        kconfig_source=source,
        sysctls=_sysctls(ctx),
        placed=_placed(ctx),
    )


def _results(ctx: Context, around: Surroundings, loaders: tuple[Loader, ...]) -> dict[Result, tuple[ResultLine, ...]]:
    """What is generated for the boot loader that is used, as far as it can be read."""
    found = {}
    used = [loader for loader in loaders if loader.booted or len(loaders) == 1]
    for result in (result for loader in used for result in loader.results if result.kind != "uki"):
        with contextlib.suppress(KdumpError):
            found[result] = read_result(ctx, result, around)
    return found


def read_boot_id(ctx: Context) -> str:
    """What tells this boot from any other; empty where nothing does."""
    return ctx.read_text("/proc/sys/kernel/random/boot_id") or ""


def _sysctls(ctx: Context) -> dict[str, str]:
    values = {f"kernel.{name}": ctx.read_text(f"/proc/sys/kernel/{name}") for name in SYSCTLS}
    return {name: value for name, value in values.items() if value is not None}


def _placed(ctx: Context) -> tuple[tuple[int, int], ...]:
    """Where the reservation lies; to anybody but root the kernel shows zeros."""
    text = ctx.read_text("/proc/iomem") or ""
    ranges = ((int(first, 16), int(last, 16)) for first, last in PLACED.findall(text))
    return tuple((first, last) for first, last in ranges if last)


def _last_dump(ctx: Context, config: Config, facts: Facts) -> LastDump | None:
    """The newest of all targets that are mounted."""
    places = dumps.places(ctx, config, facts.targets)
    found = [newest for place in places if (newest := dumps.read_newest(ctx, place.directory)) is not None]
    return max(found, key=lambda one: one.time, default=None)


def _dumps(ctx: Context, config: Config, facts: Facts) -> tuple[str, ...]:
    homes = [place.directory for place in dumps.places(ctx, config, facts.targets)]
    return tuple(f"{home.rstrip('/')}/{dump.name}" for home in homes for dump in dumps.read_dumps(ctx, home))


def _spaces(ctx: Context, config: Config, facts: Facts) -> dict[str, Space]:
    found = {}
    for wish, target in zip(config.targets, facts.targets, strict=False):
        directory = dumps.directory_of(wish, target)
        space = dumps.read_space(ctx, _existing(ctx, directory)) if directory else None
        if space:
            found[target.name] = space
    return found


def _existing(ctx: Context, directory: str) -> str:
    """The directory, or what is above it as long as it isn't made."""
    while directory.rstrip("/") and not os.path.lexists(ctx.path(directory, follow=False)):
        directory = directory.rstrip("/").rpartition("/")[0] or "/"
    return directory
