"""What is loaded now, and whether it will be after the next boot."""

from __future__ import annotations

from kdump_pkg.model import Finding, Load
from kdump_pkg.plan.checks import REBUILD, Case, loader


def check(case: Case) -> list[Finding]:
    return [*_loaded(case), *_units(case)]


def _loaded(case: Case) -> list[Finding]:
    boot, loaded = case.facts.boot, case.facts.loaded
    if boot.confined:
        return [Finding("load", "unknown", f"{boot.confined}: nothing is ever loaded from here")]
    if case.hidden:
        return [Finding("load", "unknown", "something is loaded; what it is, only root can see", "run it as root")]
    load = next((a for a in case.plan.actions if isinstance(a, Load)), None)
    if load:
        return [Finding("load", "todo", load.reason, REBUILD)]
    if boot.crash_loaded and loaded:
        call = {"-s": "kexec_file_load", "-c": "kexec_load"}.get(loaded.method, loaded.method)
        return [Finding("load", "ok", f"{loaded.release}, by {call}")]
    return [] if boot.crash_size == 0 else [Finding("load", "bad", "nothing is loaded")]


def _units(case: Case) -> list[Finding]:
    units = case.facts.units
    on = (Finding(unit, "ok", "enabled") for unit, enabled in units.items() if enabled)
    off = (unit for unit, enabled in units.items() if enabled is False)
    remedy = "systemctl enable --now kdump.service"  # and the other one with it
    if case.live and not case.facts.boot.crash_size and not loader.comes(case):
        remedy = loader.command(case)  # does that too
    return [*on, *(Finding(unit, "todo", "not enabled", remedy) for unit in off)]
