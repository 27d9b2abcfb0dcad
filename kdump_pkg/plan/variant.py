"""The variant linux-kdump, as far as every run has to know: whether it may capture, whether it is out of date."""

from __future__ import annotations

import re
from dataclasses import replace

from kdump_pkg import paths
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Action, Config, Facts, Kernel, QueueVariant, Target, Wanted
from kdump_pkg.plan import modules, targets
from kdump_pkg.plan.kernel import choose

UNTRIED = "no rehearsal has shown yet that it captures"
TOO_SMALL = "capture = system starts the whole system, for which it has too little"
BY_DRIVER = {"xhci_hcd": "xhci_pci", "mmcblk": "mmc_block"}
"""Drivers that aren't called as the modules are that hold them."""
BUILT_IN = frozenset({name.rstrip("?") for name in modules.COMMON_DRIVERS} | {"ehci_pci", "mpi3mr", "hpsa", "aacraid"})
"""Names that a driver shares with its module. One that the stock kernel has built in is no less needed in another."""


# --- what it needs ------------------------------------------------------------------------------------------------


def build_targets(facts: Facts) -> tuple[Target, ...]:
    """Those that a build is for: all that can be, and the ESP where the capture may have to fall back on it."""
    found = tuple(target for target in facts.targets if not target.problem)
    locked = any(target.crypt for target in found)
    return (*found, facts.esp) if facts.esp and locked and all(t.name != "esp" for t in found) else found


def needs(config: Config, facts: Facts, where: tuple[Target, ...]) -> tuple[str, ...]:
    """Modules of a capture on these targets, with what feeds the watchdog; `?` after those that may be missing."""
    sure = [replace(t, drivers=tuple(map(_surely, t.drivers))) if t.drivers else t for t in where]
    watchdog = facts.boot.watchdog.driver if facts.boot.watchdog else ""
    names = modules.wanted(config, sure, (watchdog,) if watchdog else ())
    return tuple(dict.fromkeys(name.replace("-", "_") for name in names))


def _surely(name: str) -> str:
    """A driver of the machine's own that was seen without its module: it has one of that name all the same."""
    plain = BY_DRIVER.get(name.rstrip("?"), name.rstrip("?"))
    return plain if plain in BUILT_IN else name


def lacks(config: Config, facts: Facts, kernel: Kernel) -> tuple[str, ...]:
    """Modules that the capture needs and this variant hasn't built in: nothing can be loaded into it."""
    have = kernel.builtin or frozenset()
    names = needs(config, facts, targets.choose(config, facts).targets)
    return tuple(name for name in names if not name.endswith("?") and name not in have)


# --- whether it captures ------------------------------------------------------------------------------------------


def hold(config: Config, facts: Facts) -> Facts:
    """FACTS in which every variant that must not capture says why (`Kernel.held`)."""
    if not any(kernel.variant for kernel in facts.kernels):
        return facts  # as on most machines
    kernels = (replace(k, held=_held(config, facts, k)) if k.variant and k.usable else k for k in facts.kernels)
    return replace(facts, kernels=tuple(kernels))


def _held(config: Config, facts: Facts, kernel: Kernel) -> str | None:
    if config.capture == "system":
        return TOO_SMALL
    lacking = lacks(config, facts, kernel)
    if lacking:
        return f"it has no {' and no '.join(lacking)}"
    trusted = config.variant.trust or kernel.build_id in facts.variant.record.trusted
    return None if trusted else UNTRIED


def warnings(config: Config, facts: Facts, chosen: Kernel) -> list[str]:
    """What is to be said when the user asks for it by name and another one captures."""
    if config.kernel != paths.VARIANT or chosen.variant:
        return []
    others = reversed([kernel for kernel in facts.kernels if kernel.held or broken(kernel)])
    why = next((f"{k.release} can't: {k.held or k.problem}" for k in others), "")
    return [f"{chosen.release} captures instead of {paths.VARIANT}, {why} (kdump-pkg variant build)"]


def broken(kernel: Kernel) -> bool:
    """Whether it is a variant that can't even be read."""
    return kernel.variant and kernel.problem is not None


# --- whether it is out of date ------------------------------------------------------------------------------------


def followed(config: Config, facts: Facts) -> Kernel | None:
    """The system kernel whose source a build would take now: what would capture without the variant."""
    stock = tuple(k for k in facts.kernels if not k.variant and not _for_debugging(k))
    wish = config if config.kernel != paths.VARIANT else replace(config, kernel="auto")
    running = next((k for k in facts.kernels if k.release == facts.boot.running), None)
    try:
        if running is not None and _for_debugging(running):
            base = (running.pkgbase or "").removesuffix(paths.DEBUG_SUFFIX)
            return newest_of(stock, base) or choose(wish, stock, None)
        return choose(wish, stock, facts.boot.running)
    except KdumpError:
        return None


def _for_debugging(kernel: Kernel) -> bool:
    return (kernel.pkgbase or "").endswith(paths.DEBUG_SUFFIX)


def newest_of(kernels: tuple[Kernel, ...], base: str) -> Kernel | None:
    """The one that the package of this base has installed; one that it left behind only where there is no other."""
    found = [k for k in kernels if k.usable and k.pkgbase == base]
    return next((k for k in reversed(found) if k.version), found[-1] if found else None)


def tracked(config: Config, facts: Facts) -> Kernel | None:
    """The system kernel whose upgrades are followed: of the base that the last build was for, whatever runs now.

    To boot another one of those that are installed is no upgrade.
    """
    built = facts.variant.record.built
    same = newest_of(facts.kernels, built.wanted.base) if built else None
    return same or followed(config, facts)


def wanted(config: Config, facts: Facts, kernel: Kernel, reason: str = "") -> Wanted:
    """The build that belongs to a system kernel."""
    plain = {name.rstrip("?") for name in needs(config, facts, build_targets(facts))}
    drivers = ("all",) if config.variant.drivers == "all" else tuple(sorted(plain))
    return Wanted(kernel.pkgbase or "", kernel.version or kernel.release, kernel.release, drivers, reason)


def out_of_date(config: Config, facts: Facts) -> Wanted | None:
    """The build that is needed now, with its reason; None while what there is will do, or nobody wants another."""
    record = facts.variant.record
    if not record.followed or config.variant.follow == "never" or config.capture == "system":
        return None
    if config.kernel not in ("auto", paths.VARIANT):
        return None  # it wouldn't capture anyway
    system = tracked(config, facts)
    if system is None or system.pkgbase is None:
        return None
    want = wanted(config, facts, system)
    reason = _reason(config, facts, want)
    return replace(want, reason=reason) if reason else None


def _reason(config: Config, facts: Facts, want: Wanted) -> str | None:
    built = facts.variant.record.built
    installed = [k for k in facts.kernels if k.variant and k.vmlinuz]
    if not installed:
        # One that was built is not there any more when somebody has removed it, who then doesn't want it.
        return "it has not been built yet" if built is None else None
    kernel = next((k for k in reversed(installed) if k.usable), installed[-1])
    if kernel.problem:
        return kernel.problem
    lacking = lacks(config, facts, kernel)
    if lacking:
        same = built is not None and built.build_id == kernel.build_id and built.wanted.key == want.key
        return None if same else f"{kernel.release} has no {' and no '.join(lacking)}"
    if built is not None:
        version, name = built.wanted.version, f"{built.wanted.base} {built.wanted.version}"
        same = (built.wanted.base, version) == (want.base, want.version)
    else:  # somebody else has built it
        version = name = kernel.release
        same = numbers(version) == numbers(want.version)
    if same or (config.variant.follow == "series" and series(version) == series(want.version)):
        return None
    return f"{want.base} is {want.version} now, the variant is of {name}"


def series(version: str) -> str:
    """6.12 of 6.12.1.arch1-1."""
    return ".".join(numbers(version).split(".")[:2])


def numbers(version: str) -> str:
    """6.12.1 of 6.12.1.arch1-1, of 1:6.12.1-2 and of 6.12.1-kdump; 6.13 of 6.13.0-arch1-1."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+){1,2})", version)
    return (found[1].removesuffix(".0") if found and found[1].count(".") == 2 else found[1]) if found else version


def queue(config: Config, facts: Facts) -> list[Action]:
    """Ask for the build that is needed, unless it is being done, or has failed for just that."""
    want = out_of_date(config, facts)
    if want is None:
        return []
    state, asked = facts.variant, facts.variant.record.wanted
    if state.record.failure is not None and state.record.failure.wanted.key == want.key:
        return []
    waiting = asked is not None and asked.key == want.key
    if waiting and (state.running or facts.boot.confined):
        return []
    return [QueueVariant(want, want.reason)]
