"""The verb `estimate`: how much memory to reserve and why, found out by rehearsing; and what is too much given back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kdump_pkg import config as configuration
from kdump_pkg import crashkernel, fs, paths, reconcile, rehearsal, ui
from kdump_pkg.apply import execute, images
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.initramfs import unpacked_size
from kdump_pkg.facts.records import read_rehearsed
from kdump_pkg.model import Capture, Config, Facts, Plan, Unload
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.model.health import Rehearsed
from kdump_pkg.plan import estimate as plan
from kdump_pkg.plan import search, targets
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.checks import moment
from kdump_pkg.plan.rebuild import plan_load

MIB = 1 << 20


def estimate(ctx: Context, *, measure: bool, shrink: bool, as_json: bool) -> int:
    """Say it; with MEASURE find it out first, with SHRINK give back afterwards what is too much."""
    if shrink and as_json:
        raise KdumpError("--shrink asks before it does anything", hint="use it without --json")
    config = configuration.load(ctx)
    facts = _with_image(ctx, reconcile.read_facts(ctx, config))
    capture = _design(config, facts)
    cma: Cma | None = None
    if measure:
        if capture is None:
            design_capture(config, facts)  # says why
            raise AssertionError
        tries = Tries(ctx, config, facts, capture, report=(lambda text: None) if as_json else ui.detail)
        facts, cma = _measure(ctx, tries)
    found = plan.estimate(facts, capture, read_rehearsed(ctx))
    if as_json:
        ui.out_json(_plain(found, read_rehearsed(ctx), cma))
    else:
        _print(found, capture, read_rehearsed(ctx), cma)
    return give_back(ctx, config, facts, found) if shrink else 0


def _with_image(ctx: Context, facts: Facts) -> Facts:
    """The size of an unpacked image that nobody has measured yet is measured now: `status` has no time for it."""
    image = facts.image
    if not image.exists or not image.readable or image.unpacked is not None:
        return facts
    return replace(facts, image=replace(image, unpacked=unpacked_size(ctx.path(image.path))))


def _design(config: Config, facts: Facts) -> Capture | None:
    try:
        return design_capture(config, facts)
    except KdumpError as error:
        ui.warn(f"{error.message}; so the figure is no more than what is usual")
        return None


# --- what is printed --------------------------------------------------------------------------------------------------


def _print(found: Estimate, capture: Capture | None, last: Rehearsed | None, cma: Cma | None) -> None:
    rows = [(part.name, f"{part.mib:.1f}", "MiB", part.source) for part in found.parts]
    width = max((len(row[1]) for row in rows), default=0)
    lines = [(name, mib.rjust(width), unit, source) for name, mib, unit, source in rows]
    if lines:
        ui.out(ui.table(lines))
    ui.out(found.text)
    rehearsed = _rehearsed(found, capture, last)
    if rehearsed:
        ui.out(rehearsed)
    ui.out(f"proposal: {crashkernel.text(found.values)}; kdump-pkg setup puts it where the boot loader has it")
    if cma:
        ui.out(cma.text)


def _rehearsed(found: Estimate, capture: Capture | None, last: Rehearsed | None) -> str:
    """What the last rehearsal says to it."""
    if last is None or capture is None:
        return "not rehearsed yet: kdump-pkg rehearse"
    when = f"the last rehearsal ({moment(last.time)}) with {crashkernel.text(last.crashkernel.split())}"
    if last.fingerprint != capture.fingerprint:
        return f"{when} was of another image: kdump-pkg rehearse"
    if not last.captured:
        return f"{when} saved nothing: {last.reason}"
    if found.used_mib is None:
        return f"{when} captured"
    return f"{when} captured, and used {found.used_mib:.0f} MiB while it saved (less fits where less is reserved)"


def _plain(found: Estimate, last: Rehearsed | None, cma: Cma | None) -> dict[str, object]:
    own: dict[str, object] = ui.plain(found)
    alternative = None if cma is None else {**ui.plain(cma), "crashkernel": crashkernel.text(cma.values)}
    return {
        "version": 1,
        **own,
        "crashkernel": crashkernel.text(found.values),
        "rehearsed": ui.plain(last),
        "cma": alternative,
    }


# --- by rehearsing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cma:
    """The other way to reserve, which a rehearsal has captured with."""

    values: tuple[str, ...]
    cost_mib: int
    """What the system can't use then."""
    plain_mib: int
    """What it can't use without it."""

    @property
    def text(self) -> str:
        return (
            f"or {crashkernel.text(self.values)}: costs {self.cost_mib} MiB instead of {self.plain_mib}, and captured, "
            "too. Its price: a crash waits 10 s for devices that still write there, memory of programs that lies there "
            "is not in the dump, and a device that writes later than that can spoil it. "
            "Kernels before 6.17 have none: there it is too little."
        )


@dataclass
class Tries:
    """Rehearsals with one size after the other."""

    ctx: Context
    config: Config
    facts: Facts
    capture: Capture
    report: Callable[[str], None]
    captured: bool = False
    """Whether one has."""

    def __post_init__(self) -> None:
        self.start = plan.estimate(self.facts, self.capture, None).need_mib
        self.memory = search.memory_mib(self.facts, self.capture, self.start)
        self.typed = not all(targets.sure(self.facts, target) for target in self.capture.targets)

    def plain(self, mib: int) -> bool:
        return self.captures(f"{mib}M")

    def captures(self, words: str) -> bool:
        """Raises KdumpError where it fails for a reason that no size mends."""
        wish = rehearsal.Wish(self.memory, words, type_passphrase=self.typed)
        with ui.progress(f"rehearsing with {crashkernel.text(words.split())}"):
            verdict = rehearsal.rehearse(self.ctx, self.config, self.facts, wish)
        least = verdict.min_available_kib
        left = "" if least is None else f", at the least {least / 1024:.0f} MiB available"
        how = f"captured{left}" if verdict.captured else f"not captured: {verdict.reason}"
        self.report(f"{crashkernel.text(words.split())}: {how}")
        if not verdict.captured:
            search.check(verdict.reason, seen=self.captured)
        self.captured = self.captured or verdict.captured
        return verdict.captured


def _measure(ctx: Context, tries: Tries) -> tuple[Facts, Cma | None]:
    """The facts with what was found; the last rehearsal is then one of what is proposed."""
    facts, capture = tries.facts, tries.capture
    by = search.step(tries.start)
    floor = search.loadable(facts, capture) or by
    least = search.smallest(tries.plain, tries.start, by=by, floor=floor, ceiling=tries.memory // 2)
    if least is None:
        raise KdumpError(f"no reservation up to {tries.memory // 2} MiB captures", hint="kdump-pkg rehearse says why")
    facts = replace(facts, image=replace(facts.image, least_mib=least))
    cma = _with_cma(tries, facts, least)
    proposed = plan.estimate(facts, capture, None)
    if not tries.captures(" ".join(proposed.values)):
        raise KdumpError(f"{least} MiB captured once, {proposed.need_mib} MiB did not", hint="measure again")
    images.remember(ctx, capture.fingerprint, facts.image.unpacked, least)
    return facts, cma


def _with_cma(tries: Tries, facts: Facts, least: int) -> Cma | None:
    """With less of its own and more from CMA, where the kernel that would crash has it: tried, not asked."""
    floor = search.loadable(facts, tries.capture)
    most = least - search.CMA_GAIN
    if floor is None or floor > most:
        return None
    more = max(search.CMA_LEAST, least)
    by = search.step(tries.start)
    if not tries.captures(search.with_cma(most, more)):
        return None
    size = search.smallest(
        lambda mib: mib == most or tries.captures(search.with_cma(mib, more)), floor, by=by, floor=floor, ceiling=most
    )
    if size is None:
        return None
    cost = plan.round_up(size + plan.measured_margin(size))
    without = plan.round_up(least + plan.measured_margin(least))
    if without - cost < search.CMA_GAIN:
        return None
    words = search.with_cma(cost, more)
    return Cma(tuple(words.split()), cost, without) if tries.captures(words) else None


# --- giving back ------------------------------------------------------------------------------------------------------


def give_back(ctx: Context, config: Config, facts: Facts, found: Estimate) -> int:
    """Let the running kernel have what is reserved in excess, until the next boot."""
    spare = _spare(ctx, facts, found)
    if spare <= 0:
        ui.out("nothing is reserved in excess; nothing was changed")
        return 0
    if facts.boot.crash_loaded:
        plan_load(config, facts)  # what could not be loaded again is not taken out
    again = ", and load the capture kernel anew into the rest" if facts.boot.crash_loaded else ""
    if not ui.confirm(f"Give {spare} MiB back to the system until the next boot{again}?"):
        ui.out("nothing was changed")
        return 0
    with fs.lock(ctx.path(paths.LOCK), wait=reconcile.WAIT):
        _shrink(ctx, config, found.need_mib)
    ui.say(f"{found.need_mib} MiB are reserved now; crashkernel= still asks for more at the next boot")
    return 0


def _spare(ctx: Context, facts: Facts, found: Estimate) -> int:
    """MiB that can go. Raises KdumpError where that isn't known well enough, or the kernel doesn't let it go."""
    boot = facts.boot
    if boot.confined:
        raise KdumpError(f"{boot.confined}: the reservation is the host's", hint="run it on the host")
    if not found.reserved_mib:
        raise KdumpError("no memory is reserved, there is nothing to give back", hint="kdump-pkg setup")
    last = read_rehearsed(ctx)
    proven = found.used_mib is not None and last is not None and last.reserved <= found.need_mib * MIB
    if not found.certain and not proven:
        raise KdumpError("the estimate has guesses in it, too little to give memory back by", hint="use --measure, too")
    if any(value.endswith((",high", ",low")) for value in crashkernel.values(boot.cmdline or "")):
        raise KdumpError("a reservation in two parts, below 4 GiB and above, can't be made smaller in a known way")
    if boot.load_disabled:
        raise KdumpError("kernel.kexec_load_disabled is 1: what is loaded stays, and so does its memory")
    return found.reserved_mib - found.need_mib


def _shrink(ctx: Context, config: Config, mib: int) -> None:
    """Unload, for the kernel refuses while something is loaded (ENOENT); write; load again whatever came of that."""
    name = next((name for name in paths.CRASH_SIZE if ctx.is_file(name)), paths.CRASH_SIZE[0])
    loaded = reconcile.read_facts(ctx, config).boot.crash_loaded
    failed: tuple[KdumpError, ...] = ()
    if loaded:
        failed = execute(ctx, Plan((Unload("its memory is made smaller"),)), ui.say)
    if not failed:
        try:
            fs.feed(ctx.path(name), f"{mib * MIB}\n".encode())
        except KdumpError as error:
            failed = (KdumpError(f"the kernel gives nothing back: {error.message}", hint=error.hint),)
    if loaded:
        failed = (*failed, *_load_again(ctx, config))
    if failed:
        raise failed[-1]


def _load_again(ctx: Context, config: Config) -> tuple[KdumpError, ...]:
    try:
        failed = execute(ctx, plan_load(config, reconcile.read_facts(ctx, config)), ui.say)
    except KdumpError as error:
        failed = (error,)
    return tuple(
        KdumpError(f"nothing is loaded now, a crash saves nothing: {error.message}", hint="reboot, or kdump-pkg load")
        for error in failed
    )
