"""How `setup` is taken back, pure: the first bytes where a file is as we left it, else only what is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdump_pkg import crashkernel
from kdump_pkg.errors import KdumpError
from kdump_pkg.loaders import edit, places
from kdump_pkg.model.bootloader import Loader, Surroundings
from kdump_pkg.model.setup import Change, Contents, Generated, Record, Recorded, SetupPlan, digest
from kdump_pkg.plan.reservation import Results, released


@dataclass(frozen=True)
class Now:
    """The machine as it is when it is to be undone."""

    recorded: bytes
    files: Contents
    """Those that the record names."""
    generated: Mapping[str, Contents] = field(default_factory=dict)
    """Loader to the files that its programs make."""
    results: Mapping[str, Results] = field(default_factory=dict)
    """Loader to what its results hold."""
    units: Mapping[str, bool | None] = field(default_factory=dict)
    sysctl: Change | None = None
    """The removal of our file in /etc/sysctl.d, as long as it is ours."""
    notes: tuple[str, ...] = ()
    around: Surroundings = field(default_factory=Surroundings)


def plan_undo(record: Record, loaders: Sequence[Loader], now: Now) -> SetupPlan:
    """Raises KdumpError where a boot loader that we changed can't be changed now."""
    trouble = places.problem(now.around, [*now.files, *(one.path for one in record.generated)])
    if trouble:  # a file on what isn't mounted is not gone
        raise KdumpError(trouble)
    changes: list[Change] = []
    restored: list[Change] = []
    commands: list[tuple[str, ...]] = []
    notes = list(now.notes)
    for name in dict.fromkeys((*(file.loader for file in record.files), *(one.loader for one in record.generated))):
        loader = next((one for one in loaders if one.name == name), None)
        edits, said = _edits([file for file in record.files if file.loader == name], loader, now)
        changes += edits
        notes += said
        if loader is None:
            notes.append(f"{name} isn't here any more: what it generated is left alone")
            continue
        if loader.problem:
            raise KdumpError(f"{loader.title}: {loader.problem}")
        generated = [one for one in record.generated if one.loader == name]
        back = _as_before(generated, now.generated.get(name, {}))
        if generated and back is not None and not any(result.kind == "uki" for result in loader.results):
            restored += back
        elif edits or (generated and back is None) or _still_there(record, loader, now):
            commands += loader.regenerate
    return SetupPlan(
        changes=tuple(changes),
        restored=tuple(restored),
        commands=tuple(dict.fromkeys(commands)),
        sysctl=now.sysctl,
        disable=tuple(unit for unit in record.units if now.units.get(unit)),
        recorded=now.recorded,
        notes=tuple(notes),
        values=record.values,
    )


def _edits(files: Sequence[Recorded], loader: Loader | None, now: Now) -> tuple[list[Change], list[str]]:
    changes, notes = [], []
    for file in files:
        data = now.files.get(file.path)
        if data == file.original:
            continue
        if data is None:
            notes.append(f"{file.path} is gone, and stays so")
        elif any(data == version.data for version in file.ours):
            changes.append(Change(file.path, data, file.original))
        else:
            rest = released(loader, file) if loader else None
            if rest is None or rest == data:
                notes.append(f"{file.path}: nothing of ours is left in it; left alone")
                continue
            notes.append(f"{file.path} was edited since: only what is ours goes")
            changes.append(Change(file.path, data, None if file.original is None and not rest.strip() else rest))
    return changes, notes


def _as_before(generated: Sequence[Generated], now: Contents) -> list[Change] | None:
    """What gives generated files their first content back; None where they are no longer what we had generated."""
    known = {one.path: one for one in generated}
    if any(data is not None and path not in known for path, data in now.items()):
        return None
    changes = []
    for path, one in known.items():
        data = now.get(path)
        if data == one.original:
            continue
        if not one.ours or digest(data) != one.ours:
            return None
        changes.append(Change(path, data, one.original))
    return changes


def _still_there(record: Record, loader: Loader, now: Now) -> bool:
    """Whether an image still has the values that its sources have not: we were killed before it was made anew."""
    sources = {values for line in edit.own_lines(loader) for values in edit.present(loader, line)}
    lines = [line for found in now.results.get(loader.name, {}).values() for line in found or () if not line.foreign]
    return any(set(record.values) & set(crashkernel.values(line.text)) - sources for line in lines)
