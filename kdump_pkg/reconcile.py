"""Facts, plan, execution, in this order and under one lock: what every verb, both hooks and the unit go through."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdump_pkg import config as configuration
from kdump_pkg import fs, paths
from kdump_pkg.apply import Reporter, execute, keys
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.facts import collect
from kdump_pkg.facts.boot import read_boot
from kdump_pkg.facts.kernels import read_modules
from kdump_pkg.facts.state import read_own_file
from kdump_pkg.model import Config, Facts, Plan, Unload
from kdump_pkg.plan import variant
from kdump_pkg.plan.kernel import choose
from kdump_pkg.plan.rebuild import Scope, plan_rebuild
from kdump_pkg.plan.remove import plan_remove

if TYPE_CHECKING:
    from kdump_pkg.model.setup import Record
    from kdump_pkg.plan.status import Status

WAIT = 60  # seconds that a hook or the unit waits for another kdump-pkg: an image build takes up to ten


@dataclass(frozen=True)
class Outcome:
    plan: Plan
    failures: tuple[KdumpError, ...] = ()

    @property
    def good(self) -> bool:
        """Whether what was asked for is so now; a warning says why something could not even be tried."""
        return not self.failures and not self.plan.fatal


def read_facts(ctx: Context, config: Config) -> Facts:
    """All facts; the module index last, because it is large and only the chosen kernel's is needed."""
    facts = variant.hold(config, collect(ctx, config))
    try:
        release = choose(config, facts.kernels, facts.boot.running).release
    except KdumpError:
        return facts  # the planner meets the same error and says it
    return replace(facts, modules=read_modules(ctx, release))


def read_status(ctx: Context, config: Config) -> Status:
    """What is so, and what is to be done; changes nothing."""
    from kdump_pkg.facts.health import read_health  # of no use to hooks, which have to be fast
    from kdump_pkg.plan.status import plan_status

    facts = read_facts(ctx, config)
    return plan_status(config, facts, plan_rebuild(config, facts), read_health(ctx, config, facts))


def rebuild(ctx: Context, config: Config, scope: Scope, report: Reporter, *, wait: float = 0) -> Outcome:
    """Make the machine what the configuration asks for."""
    return carry_out(ctx, lambda: plan_rebuild(config, read_facts(ctx, config), scope), report, wait=wait)


def remove(ctx: Context, report: Reporter) -> Outcome:
    """Take away all that is ours; a configuration that can't be read doesn't stop it."""
    try:
        config = configuration.load(ctx)
    except ConfigError:
        config = Config()

    def make() -> Plan:
        return plan_remove(collect(ctx, config), read_own_file(ctx, paths.SYSCTL), _read_setup(ctx))

    outcome = carry_out(ctx, make, report, wait=WAIT)
    ctx.path(paths.LOCK).unlink(missing_ok=True)
    return outcome


def _read_setup(ctx: Context) -> Record | None:
    """What setup did; one that is damaged tells nothing, and stays."""
    from kdump_pkg.model.setup import load  # only the removal of the package asks

    data = ctx.read_bytes(paths.SETUP)
    with contextlib.suppress(KdumpError):
        return load(data) if data is not None else None
    return None


def plan_unload(ctx: Context) -> Plan:
    """Unload what is loaded; nothing to do when nothing is."""
    facts = read_boot(ctx)
    if facts.confined:
        raise KdumpError(f"{facts.confined}: the capture kernel is the host's", hint="run it on the host")
    return Plan((Unload("asked for"),) if facts.crash_loaded else ())


def unlock(ctx: Context, config: Config, ask: Callable[[str], str]) -> None:
    """Link the keys of those encrypted targets whose keys come from nowhere else; ASK gives a passphrase."""
    facts = collect(ctx, config)
    if facts.boot.confined:
        raise KdumpError(f"{facts.boot.confined}: the capture kernel is the host's", hint="run it on the host")
    if not facts.boot.crash_dm_crypt:
        raise KdumpError(
            "this kernel hands no keys over: it has no CONFIG_CRASH_DM_CRYPT", hint="load without --unlock"
        )
    volumes = {volume.uuid: volume for target in facts.targets for volume in target.crypt if volume.key == "none"}
    keys.unlock(ctx, tuple(volumes.values()), ask)


def carry_out(ctx: Context, make: Callable[[], Plan], report: Reporter, *, wait: float = 0) -> Outcome:
    """Make a plan and execute it under the same lock, so that hook, unit and user never act on stale facts."""
    with fs.lock(ctx.path(paths.LOCK), wait=wait):
        plan = make()
        failed: tuple[KdumpError, ...] = ()
        if plan.prepare:
            failed = execute(ctx, Plan(plan.prepare), report)
            plan = make()
        return Outcome(plan, (*failed, *execute(ctx, plan, report)))
