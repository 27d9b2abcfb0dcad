"""The plan for the day kdump-pkg is removed: nothing of ours stays but dumps and what the user edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdump_pkg import paths
from kdump_pkg.model import Action, DropDebug, Facts, OwnFile, Plan, Remove, Unload

if TYPE_CHECKING:
    from kdump_pkg.model.setup import Record

NO_SYSCTL = OwnFile(paths.SYSCTL, None)


def plan_remove(facts: Facts, sysctl: OwnFile = NO_SYSCTL, setup: Record | None = None) -> Plan:
    """A hook doesn't touch boot loaders, so their configuration stays, and with it the record of what was changed."""
    actions: list[Action] = []
    if not facts.boot.confined and facts.boot.crash_loaded and facts.loaded is not None:
        actions.append(Unload("kdump-pkg is being removed"))
    kept: list[str] = []
    for file in (facts.preset, facts.derived, sysctl):
        if file.data is not None and file.pristine:
            actions.append(Remove(file.path, "made by kdump-pkg"))
        elif file.data is not None:
            kept.append(f"{file.path} was edited and stays")
    if facts.image.exists:
        actions.append(Remove(facts.image.path, "made by kdump-pkg"))
    actions += [DropDebug(d.release, "made by kdump-pkg") for d in facts.debug if d.recorded]
    actions += [Remove(path, "left by an interrupted run") for path in facts.leftovers]
    edited = [] if setup is None else list(dict.fromkeys(file.path for file in setup.files))
    if edited:
        kept.append(
            f"crashkernel= stays in {', '.join(edited)}: take it out by hand, "
            "or install kdump-pkg again for kdump-pkg setup --undo"
        )
    elif setup is not None:
        actions.append(Remove(paths.SETUP, "it names no file of a boot loader"))
    actions += [Remove(path, "made by kdump-pkg") for path in (paths.CACHE, paths.STATE, paths.RUN)]
    kept += [f"{k.package} stays: pacman -R {k.package}" for k in facts.kernels if k.variant and k.package]
    return Plan(tuple(actions), tuple(kept))
