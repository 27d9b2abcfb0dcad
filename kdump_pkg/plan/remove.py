"""The plan for the day kdump-pkg is removed: nothing of ours stays but dumps and what the user edited."""

from __future__ import annotations

from kdump_pkg import paths
from kdump_pkg.model import Action, DropDebug, Facts, Plan, Remove, Unload


def plan_remove(facts: Facts) -> Plan:
    actions: list[Action] = []
    if not facts.boot.confined and facts.boot.crash_loaded and facts.loaded is not None:
        actions.append(Unload("kdump-pkg is being removed"))
    kept: list[str] = []
    for file in (facts.preset, facts.derived):
        if file.data is not None and file.pristine:
            actions.append(Remove(file.path, "made by kdump-pkg"))
        elif file.data is not None:
            kept.append(f"{file.path} was edited and stays")
    if facts.image.exists:
        actions.append(Remove(facts.image.path, "made by kdump-pkg"))
    actions += [DropDebug(d.release, "made by kdump-pkg") for d in facts.debug if d.recorded]
    actions += [Remove(path, "left by an interrupted run") for path in facts.leftovers]
    actions += [Remove(path, "made by kdump-pkg") for path in (paths.STATE, paths.RUN)]
    return Plan(tuple(actions), tuple(kept))
