"""Which debugger opens dumps of which kernels, by version. What makedumpfile does to them is in plan/level.py.

crash knows the kernel's structures by name, and one that was renamed ends it as it starts, whatever the debug file:
Linux 6.4 took `module_core_size` away (crash 8.0.4 knows, upstream 7750e61), Linux 7.1 `num_gpl_syms` (what follows
9.0.2 does, upstream 3a415c0). Tried: 9.0.2 with 6.12 and 7.2, 8.0.2 with 6.12. drgn looks at structures only when a
helper needs them, and opened every kernel that it was tried with, 7.2 by 0.3.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kdump_pkg.errors import KdumpError
from kdump_pkg.plan.level import numbers, plain, version

TOOLS = ("crash", "drgn")
"""The first is taken where it can."""


@dataclass(frozen=True)
class Bound:
    since: tuple[int, int]
    """Series of Linux that brought the change."""
    last: tuple[int, ...]
    """The newest version that doesn't know it."""


BOUNDS: dict[str, tuple[Bound, ...]] = {
    "crash": (Bound((7, 1), (9, 0, 2)), Bound((6, 4), (8, 0, 3))),
    "drgn": (),
}


@dataclass(frozen=True)
class Choice:
    tool: str
    reason: str = ""
    """Why it isn't the other one; empty where nobody would ask."""


def obstacle(tool: str, package: str, release: str) -> str:
    """Why this version of TOOL opens no dump of RELEASE; empty: nothing is known that speaks against it."""
    mine, kernel = version(package), numbers(release)[:2]
    for bound in BOUNDS[tool] if mine else ():
        if kernel >= bound.since and mine <= bound.last:
            series, last = (".".join(map(str, parts)) for parts in (bound.since, bound.last))
            return f"{tool} {plain(package)} can't open dumps of Linux {series} and later; one after {last} can"
    return ""


def choose(release: str, installed: Mapping[str, str], wanted: str | None = None, *, force: bool = False) -> Choice:
    """What to open a dump of RELEASE with, of what is INSTALLED (version by name, empty where it isn't known).

    Raises KdumpError where there is nothing, or nothing that can.
    """
    against = {tool: obstacle(tool, installed[tool], release) for tool in TOOLS if tool in installed}
    if wanted:
        if wanted not in against:
            raise KdumpError(f"{wanted} is not installed", hint=f"pacman -S {wanted}")
        if against[wanted] and not force:
            others = [tool for tool, reason in against.items() if not reason]
            hint = f"--tool {others[0]}" if others else "pacman -S drgn"
            raise KdumpError(against[wanted], hint=f"{hint}, or --force")
        return Choice(wanted, against[wanted])
    able = [tool for tool, reason in against.items() if not reason]
    if able:
        return Choice(able[0], next((reason for reason in against.values() if reason), ""))
    if against and force:
        return Choice(*next(iter(against.items())))
    text = next(iter(against.values()), "neither crash nor drgn is installed")
    raise KdumpError(text, hint=f"pacman -S {best([release])}")


def best(releases: Iterable[str]) -> str:
    """The debugger to install for these kernels: the first that opens them all in its newest known version."""
    for tool in TOOLS:
        if not any(numbers(r)[:2] >= bound.since for r in releases for bound in BOUNDS[tool][:1]):
            return tool
    return TOOLS[-1]
