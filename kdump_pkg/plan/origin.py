"""Which package, in which version, each part of a crashed kernel came from, and whether its upgrade may be to blame."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdump_pkg.model.crash import Crash, LoadedModule, Owner
from kdump_pkg.model.evidence import Change, Evidence, Source
from kdump_pkg.report.words import and_so_on, span

OUT_OF_TREE = "POEFC"
"""Flags of modules that a report names even where the trace doesn't touch them."""
FRESH = 60 * 86400
"""Seconds after which a first crash says nothing about the upgrade before it."""
TOGETHER = 600
"""Seconds within which upgrades are taken for one."""
MOST = 60


def modules_of(crash: Crash) -> tuple[LoadedModule, ...]:
    """The modules that a report asks the packages of: at fault, in the trace, and those that taint."""
    flags = {module.name: module for module in crash.modules}
    touched = [crash.where.module] if crash.where else []
    touched += [frame.module for frame in crash.trace]
    tainting = [m.name for m in crash.modules if set(m.flags) & set(OUT_OF_TREE)]
    names = [name for name in dict.fromkeys([*touched, *tainting]) if name][:MOST]
    return tuple(flags.get(name, LoadedModule(name)) for name in names)


def is_foreign(module: LoadedModule) -> bool:
    """Whether it is no part of the kernel's own tree, by its flags."""
    return bool(set(module.flags) & set("PO"))


def is_elsewhere(crash: Crash, machine: tuple[tuple[str, str], ...]) -> bool:
    """Whether the log is of another machine than this one, by the names that both have of the firmware."""
    here = dict(machine).get("machine", "")
    return bool(here and crash.hardware) and " ".join(here.split()) not in " ".join(crash.hardware.split())


def owners(crash: Crash, time: int, evidence: Evidence) -> tuple[Owner, ...]:
    """The kernel first, then the modules in the order of the trace; what no package is known of is left out."""
    kernel = _kernel(crash, time, evidence)
    found = [kernel] if kernel else []
    booted = time - int(crash.uptime or 0)
    for module in modules_of(crash):
        source = evidence.sources.get(module.name)
        foreign = is_foreign(module) or bool(source and source.out_of_tree)
        if source is not None and not (kernel and source.package == kernel.package):
            found.append(_owner(module.name, source, _last(evidence.changes, source.package, booted), foreign))
        elif kernel and not foreign:
            found.append(Owner(module.name, kernel.package, kernel.version, kernel.upgraded))
    return tuple(found)


def _kernel(crash: Crash, time: int, evidence: Evidence) -> Owner | None:
    """By its release: it may be older than what was installed at the time, and gone since."""
    source = evidence.sources.get("")
    change = next(
        (c for c in evidence.changes if c.deed != "removed" and c.time <= time and is_of(c, crash.release, source)),
        None,
    )
    if change is not None:
        return Owner("", change.package, change.version, change.time)
    return Owner("", source.package, source.version) if source else None


def is_of(change: Change, release: str, source: Source | None) -> bool:
    """Whether a package's version is that of a kernel's release: linux-zen 6.17.8.zen1-1 and 6.17.8-zen1-1-zen."""
    if source is not None and change.package != source.package:
        return False
    if not change.package.startswith("linux") or not release:
        return False
    base = _words(change.version.rpartition(":")[2])
    name = _words(change.package.removeprefix("linux"))  # and so no linux-headers, which have the same version
    return _words(release) == base + name


def _words(text: str) -> list[str]:
    return re.findall(r"[0-9A-Za-z]+", text)


def _last(changes: Sequence[Change], package: str, before: int) -> Change | None:
    return next((c for c in changes if c.package == package and c.time <= before and c.deed != "removed"), None)


def _owner(module: str, source: Source, change: Change | None, foreign: bool) -> Owner:
    version = change.version if change else source.version
    return Owner(module, source.package, version, change.time if change else None, out_of_tree=foreign)


# --- the first since ---


def upgrades(found: Sequence[Owner], changes: Sequence[Change]) -> tuple[Change, ...]:
    """What was changed last of all that the crash passed through, with what came in the same go; newest first."""
    last: dict[str, Change] = {}
    for owner in found:
        for change in changes:
            if change.package == owner.package and change.time == owner.upgraded and change.version == owner.version:
                last.setdefault(change.package, change)
    newest = max((c.time for c in last.values()), default=0)
    return tuple(c for c in last.values() if newest - c.time <= TOGETHER)


def first_since(latest: Sequence[Change], time: int, crashes: Sequence[int]) -> str:
    """`the first crash since linux was upgraded to 6.17.8.arch1-1, 2 h before it`; CRASHES are the times of others."""
    since = max((c.time for c in latest), default=0)
    if not latest or not 0 <= time - since <= FRESH or any(since <= other < time for other in crashes):
        return ""
    told = and_so_on([f"{c.package} was {_deed(c)} {c.version}" for c in latest[:4]])
    return f"the first crash since {told}, {span(time - since)} before it"


def _deed(change: Change) -> str:
    return {"installed": "installed as", "reinstalled": "installed again as"}.get(change.deed, f"{change.deed} to")


def not_rebooted(kernel: Owner | None, time: int, evidence: Evidence) -> Change | None:
    """The upgrade of the kernel's package that the crashed kernel had not been rebooted into."""
    if kernel is None:
        return None
    change = _last(evidence.changes, kernel.package, time)
    return change if change and change.version != kernel.version and change.time > (kernel.upgraded or 0) else None
