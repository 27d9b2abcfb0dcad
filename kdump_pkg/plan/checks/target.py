"""Where a dump would go: whether the capture gets there, whether there is room, and how what is encrypted is opened."""

from __future__ import annotations

from kdump_pkg.model import CryptVolume, Finding, Target
from kdump_pkg.plan import level, retention, targets
from kdump_pkg.plan.checks import REBUILD, Case, mib

LOG_ROOM = 16 << 10
"""KiB for what is saved first and always."""


def check(case: Case) -> list[Finding]:
    """Each target in the order in which they are tried, and then what can't be used."""
    if case.capture is None:
        return []
    found = []
    for number, target in enumerate(case.capture.targets):
        only = ", its log alone" if target.save == "dmesg" else ""
        name = "target" if number == 0 else f"target {number + 1}"
        found.append(Finding(name, "ok", f"{targets.text(target)}{only}", evidence=target.source))
        found += _room(case, name, target)
        found += [_key(case, volume) for volume in target.crypt]
    return [*found, *(Finding("target", "bad", problem) for problem in case.capture.unusable)]


def _room(case: Case, name: str, target: Target) -> list[Finding]:
    """What is free beyond what has to stay free, against what a dump may take."""
    space = case.health.spaces.get(target.name)
    if space is None:
        return []
    where = target.mounted or target.path
    free = space.free - retention.kib(target.retention.keep_free, space.total)
    wanted = LOG_ROOM if target.save == "dmesg" else _guess(case)
    if free < LOG_ROOM:
        text = f"no room: {mib(space.free << 10)} are free, and {target.retention.keep_free} have to stay free"
        return [Finding(name, "todo", text, f"free some space on the file system of {where}", where)]
    if free < wanted:
        text = f"little room: {mib(free << 10)} can be used, a dump may take {mib(wanted << 10)}"
        return [Finding(name, "note", text, f"free some space on the file system of {where}", where)]
    return []


def _guess(case: Case) -> int:
    """KiB that a dump may take: the kernel's own memory, compressed, and where user pages stay in it those too."""
    memory = (case.facts.boot.memory_total or 0) >> 10
    user_pages = case.capture is not None and not case.capture.level & level.USER_PAGES
    return max(memory // (4 if user_pages else 16), 64 << 10)


def _key(case: Case, volume: CryptVolume) -> Finding:
    facts, part = case.facts, "encryption"
    if targets.way(facts, volume) == "handed over":
        if facts.loaded and volume.uuid in facts.loaded.wanted.split() and volume.uuid not in facts.loaded.keys.split():
            text = f"the key of {volume.uuid} could not be handed to the capture kernel ({volume.key})"
            return Finding(part, "todo", text, f"{REBUILD} --force, which says why")
        return Finding(part, "ok", f"the key of {volume.uuid} is handed to the capture kernel ({volume.key})")
    cost = f"; Argon2 takes {volume.argon2_kib >> 10} MiB of the reservation then" if volume.argon2_kib else ""
    asked = f"the passphrase of {volume.uuid} would be asked for, {case.config.passphrase_timeout} s long{cost}"
    if not facts.boot.crash_dm_crypt and case.live:
        return Finding(part, "note", f"{asked}: this kernel has no CONFIG_CRASH_DM_CRYPT to hand its key over")
    return Finding(part, "note", f"{asked}{f': {volume.problem}' if volume.problem else ''}")
