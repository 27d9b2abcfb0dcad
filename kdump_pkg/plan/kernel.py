"""Which of the installed kernels captures: exactly one, whatever their number."""

from __future__ import annotations

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Kernel


def choose(config: Config, kernels: tuple[Kernel, ...], running: str | None) -> Kernel:
    """The capture kernel, by the rule of `kernel = ` (KERNELS sorted by release, oldest first).

    Raises KdumpError when there is none, with what to install or to configure.
    """
    usable = [k for k in kernels if k.usable and (k.pkgbase or k.variant)]
    if config.kernel != "auto":
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
    found = [k for k in usable if k.pkgbase == name or (k.variant and name == "linux-kdump")]
    if found:
        return found[-1]
    broken = next((k.problem for k in kernels if k.pkgbase == name and k.problem), None)
    if broken:
        raise KdumpError(f"kernel = {name} can't capture: {broken}", hint=f"reinstall it: pacman -S {name}")
    names = ", ".join(sorted({k.pkgbase for k in usable if k.pkgbase})) or "none"
    raise KdumpError(f"kernel = {name}: no such kernel is installed; installed: {names}", hint=f"pacman -S {name}")


def _why(kernels: tuple[Kernel, ...]) -> str:
    problems = [k.problem for k in kernels if k.problem]
    return f": {'; '.join(problems)}" if problems else ""
