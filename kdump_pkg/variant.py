"""The verb `variant`: builds linux-kdump, tries it and installs it; says how far that is; takes it away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from kdump_pkg import config as configuration
from kdump_pkg import fs, paths, reconcile, ui
from kdump_pkg.apply import package_build, queue, stage
from kdump_pkg.context import Context
from kdump_pkg.errors import BusyError, KdumpError
from kdump_pkg.facts.variant import read_record
from kdump_pkg.model import Config, Facts, Kernel, Wanted
from kdump_pkg.model.variant import Record
from kdump_pkg.plan import variant
from kdump_pkg.plan.kernel import choose
from kdump_pkg.plan.rebuild import Scope, load_obstacle
from kdump_pkg.run import stopped_by_sigterm
from kdump_pkg.variant_build import AnewError, Build

TRIES = 4
"""Builds that one run begins, when upgrades come faster than they end."""
STOPPING = 30  # seconds that a build which was told to stop may take
STATUS = "kdump-pkg variant status shows how far it is"


# --- building ---------------------------------------------------------------------------------------------------------


def build(ctx: Context, *, automatic: bool, force: bool) -> int:
    """Build what is wanted, or try what is there and isn't trusted. Returns the exit code."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_alone(ctx))
        except BusyError as error:
            if not automatic:
                raise
            ui.say(f"{error.message}: it sees by itself what is wanted")
            return 0
        config = configuration.load(ctx)
        if automatic and _is_idle(ctx, config):
            return 0
        work = Build(ctx, config)
        for _ in range(TRIES):
            try:
                if not _build(ctx, work, automatic=automatic, force=force):
                    return 0
            except AnewError as error:
                ui.say(f"begun anew: {error.message}")
            force = False
        raise KdumpError(f"{TRIES} times something newer was wanted during the build", hint="kdump-pkg variant build")


@contextmanager
def _alone(ctx: Context, wait: float = 0) -> Iterator[None]:
    """Under the lock of all builds; left by Ctrl-C and SIGTERM in an orderly way. Raises BusyError."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(fs.lock(ctx.path(paths.VARIANT_LOCK), wait=wait))
        except BusyError:
            raise BusyError(f"a build of {paths.VARIANT} is running", hint=STATUS) from None
        stack.enter_context(stopped_by_sigterm())
        queue.tell(ctx, None)  # what a killed one has left
        try:
            yield
        except KeyboardInterrupt:
            text = "stopped; what was armed stays armed"
            raise KdumpError(text, hint="kdump-pkg variant build goes on where it was") from None
        finally:
            queue.tell(ctx, None)
            with contextlib.suppress(OSError):
                stage.clear(ctx)


def _is_idle(ctx: Context, config: Config) -> bool:
    """Whether nothing is to be done by itself, which is said."""
    facts = reconcile.read_facts(ctx, config)
    if facts.boot.confined:
        ui.say(f"nothing is built by itself {facts.boot.confined}")
    elif not read_record(ctx).followed:
        ui.say(f"nobody has asked for {paths.VARIANT} yet: kdump-pkg variant build")
    else:
        return False
    return True


def _build(ctx: Context, work: Build, *, automatic: bool, force: bool) -> bool:
    """One build from beginning to end. Returns whether to look once more: something else may be wanted by now."""
    facts, want = _wanted(ctx, work.config, automatic=automatic, force=force)
    if want is not None and automatic:
        work.wait()
        facts, want = _wanted(ctx, work.config, automatic=automatic, force=force)
    if want is None:
        _settle(ctx, work, facts)
        return False
    asked = want
    queue.update(ctx, lambda record: replace(record, followed=True, wanted=asked))
    with work.reporting(want):
        made = work.make(facts, want)
        stage.unpack(ctx, made.package)
        build_id = work.trust(made.release, f"pacman -U {made.package}")
        work.install(want, made, build_id)
    _conclude(ctx, work.config)
    return read_record(ctx).wanted is not None


def _wanted(ctx: Context, config: Config, *, automatic: bool, force: bool) -> tuple[Facts, Wanted | None]:
    """The build to make now; None where what is there will do. Raises KdumpError where none can be made."""
    if not automatic:
        queue.update(ctx, lambda record: replace(record, followed=True))
    facts = reconcile.read_facts(ctx, config)
    if automatic:
        due = variant.out_of_date(config, facts)
        failure = facts.variant.record.failure
        if due is not None and failure is not None and failure.wanted.key == due.key:
            ui.say(f"not tried again by itself, it failed for {due.base} {due.version}: kdump-pkg variant build does")
            due = None
        return facts, due
    if config.capture == "system":
        raise KdumpError(f"capture = system: {paths.VARIANT} is too small for it", hint="see capture =")
    system = variant.followed(config, facts)
    if system is None or system.pkgbase is None:
        raise KdumpError("there is no system kernel to build it from", hint="install one: pacman -S linux")
    want = variant.wanted(config, facts, system, "asked for")
    return facts, want if force or not _will_do(config, facts, want) else None


def _newest(facts: Facts) -> Kernel | None:
    return next((k for k in reversed(facts.kernels) if k.variant and k.usable), None)


def _will_do(config: Config, facts: Facts, want: Wanted) -> bool:
    """Whether what is installed was built from just that source, for just these drivers."""
    kernel, built = _newest(facts), facts.variant.record.built
    if kernel is None or variant.lacks(config, facts, kernel):
        return False
    if built is not None and built.build_id == kernel.build_id:
        return built.wanted.key == want.key
    return variant.numbers(kernel.release) == variant.numbers(want.version)


def _settle(ctx: Context, work: Build, facts: Facts) -> None:
    """Nothing is to be built; but what is installed may never have been tried."""
    kernel, asked = _newest(facts), facts.variant.record.wanted
    queue.update(ctx, lambda record: replace(record, wanted=None) if record.wanted == asked else record)
    if kernel is None:
        ui.say("nothing is to be built")
        return
    if kernel.held != variant.UNTRIED:
        ui.say(f"{kernel.release} is up to date{'' if kernel.held is None else f', but {kernel.held}'}")
        return
    system = variant.followed(work.config, facts)
    assert system is not None
    with work.reporting(variant.wanted(work.config, facts, system)):
        stage.borrow(ctx, kernel.release)
        work.trust(kernel.release, "it stays installed")
    queue.update(ctx, lambda record: replace(record, failure=None))
    outcome = reconcile.rebuild(ctx, work.config, Scope(load=not facts.boot.confined), ui.say, wait=reconcile.WAIT)
    for failure in outcome.failures:
        raise failure
    _conclude(ctx, work.config)


def _conclude(ctx: Context, config: Config) -> None:
    """Whether it captures now; if not, why."""
    facts = reconcile.read_facts(ctx, config)
    kernel = _newest(facts)
    chosen = _chosen(config, facts)
    if kernel is None or chosen is None:
        raise KdumpError(f"pacman has installed {paths.VARIANT}, and it can't be used", hint="kdump-pkg status")
    if chosen.release != kernel.release:
        why = kernel.held or f"kernel = {config.kernel}"
        ui.say(f"{kernel.release} is installed, but {chosen.release} captures: {why}")
        return
    obstacle = "" if facts.boot.confined else load_obstacle(facts)
    loaded = facts.boot.crash_loaded and facts.loaded is not None and facts.loaded.release == kernel.release
    if loaded:
        ui.say(f"{kernel.release} is loaded: it captures from now on")
    else:
        why = f": {facts.boot.confined}" if facts.boot.confined else f": {obstacle}" if obstacle else ""
        ui.say(f"{kernel.release} is the capture kernel, and is not loaded yet{why} (kdump-pkg status)")


def _chosen(config: Config, facts: Facts) -> Kernel | None:
    try:
        return choose(config, facts.kernels, facts.boot.running)
    except KdumpError:
        return None


def build_debug_kernel(ctx: Context) -> int:
    """The system's own kernel, for debuggers."""
    from kdump_pkg import debug_kernel

    return debug_kernel.build(ctx)


# --- the rest ---------------------------------------------------------------------------------------------------------


def show(ctx: Context, *, as_json: bool) -> int:
    """The verb `variant status`."""
    from kdump_pkg.plan import variant_text

    config = configuration.load(ctx)
    facts = reconcile.read_facts(ctx, config)
    if as_json:
        ui.out_json(variant_text.data(config, facts))
    else:
        ui.out("\n".join(variant_text.lines(config, facts)))
    return 0


def remove(ctx: Context, *, yes: bool) -> int:
    """The verb `variant remove`. Returns 1 when the user doesn't want it after all."""
    config = configuration.load(ctx)
    name = f"{paths.VARIANT} and {paths.VARIANT_BUILD}, and follow upgrades no more"
    if not yes and not _agreed(f"Remove {name}?"):
        ui.say("nothing was removed")
        return 1
    queue.update(ctx, lambda record: replace(record, followed=False, wanted=None))
    queue.stop(ctx)
    with _alone(ctx, wait=STOPPING):
        if package_build.is_installed(ctx, paths.VARIANT):
            package_build.uninstall(ctx, paths.VARIANT, ui.detail)
        queue.update(ctx, lambda record: Record())
        package_build.drop(ctx, paths.VARIANT_BUILD, paths.VARIANT)
    facts = reconcile.read_facts(ctx, config)
    left = _chosen(config, facts)
    ui.say(f"{paths.VARIANT} is removed{f'; {left.release} captures' if left else ''}")
    return 0


def _agreed(question: str) -> bool:
    if not ui.interactive():
        raise KdumpError("nobody is there to be asked", hint="--yes does it unasked")
    return ui.confirm(question)
