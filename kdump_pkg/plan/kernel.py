"""Which of the installed kernels captures: exactly one, whatever their number."""

from __future__ import annotations

from kdump_pkg import paths
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Kernel


def choose(config: Config, kernels: tuple[Kernel, ...], running: str | None) -> Kernel:
    """The capture kernel, by the rule of `kernel = ` (KERNELS sorted by release, oldest first).

    Raises KdumpError when there is none, with what to install or to configure.
    """
    usable = [k for k in kernels if k.usable and not k.held and (k.pkgbase or k.variant)]
    # The variant by name, which must not capture: another kernel has to, or nothing would be armed.
    there = config.kernel == paths.VARIANT and any(k.variant and k.vmlinuz for k in kernels)
    if config.kernel != "auto" and not there:
        return _by_name(config.kernel, usable, kernels)
    variants = [k for k in usable if k.variant]
    if variants:
        return variants[-1]
    current = next((k for k in usable if k.release == running), None)
    if current is not None:
        return current
    if usable:
        return _newest_of_running_base(usable, kernels, running)
    raise KdumpError(f"no kernel that can capture is installed{_why(kernels)}", hint="install one: pacman -S linux")


def _newest_of_running_base(usable: list[Kernel], kernels: tuple[Kernel, ...], running: str | None) -> Kernel:
    """After an upgrade the running release is gone; its package's new release is meant, if that can be told."""
    base = next((k.pkgbase for k in kernels if k.release == running), None)
    return next((k for k in reversed(usable) if base and k.pkgbase == base), usable[-1])


def _by_name(name: str, usable: list[Kernel], kernels: tuple[Kernel, ...]) -> Kernel:
    found = [k for k in usable if k.pkgbase == name]
    if found:
        return found[-1]
    broken = next((k.problem for k in kernels if k.pkgbase == name and k.problem), None)
    if broken:
        raise KdumpError(f"kernel = {name} can't capture: {broken}", hint=f"reinstall it: pacman -S {name}")
    names = ", ".join(sorted({k.pkgbase for k in usable if k.pkgbase})) or "none"
    remedy = "kdump-pkg variant build" if name == paths.VARIANT else f"pacman -S {name}"
    raise KdumpError(f"kernel = {name}: no such kernel is installed; installed: {names}", hint=remedy)


def mending(kernel: Kernel) -> str:
    """What makes a damaged one whole."""
    return "kdump-pkg variant build --force" if kernel.variant else f"reinstall {kernel.pkgbase or 'it'}"


def _why(kernels: tuple[Kernel, ...]) -> str:
    problems = [k.problem or f"{k.release}: {k.held}" for k in kernels if k.problem or k.held]
    return f": {'; '.join(problems)}" if problems else ""
