"""How `setup` is taken back, pure: the first bytes where a file is as we left it, else only what is ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdump_pkg import crashkernel
from kdump_pkg.errors import KdumpError
from kdump_pkg.loaders import bls, cmdline_files, edit, places
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
        files = [_renamed(file, loader, now) for file in record.files if file.loader == name]
        edits, said = _edits(files, loader, now, record.values)
        changes += edits
        notes += said
        if loader is None:
            notes.append(f"{name} isn't here any more: what it generated is left alone")
            continue
        if loader.problem:
            raise KdumpError(f"{loader.title}: {loader.problem}")
        generated = [one for one in record.generated if one.loader == name]
        back = _as_before(generated, now.generated.get(name, {})) if _exact(files, edits, now) else None
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


def _edits(
    files: Sequence[Recorded], loader: Loader | None, now: Now, values: Sequence[str]
) -> tuple[list[Change], list[str]]:
    changes, notes = [], []
    for file in files:
        renamed = loader if file.path not in now.files else None
        data = renamed.data(file.path) if renamed else now.files.get(file.path)
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
    more, said = _copies(files, loader, values) if loader else ([], [])
    return changes + more, notes + said


def _renamed(file: Recorded, loader: Loader | None, now: Now) -> Recorded:
    """Under the name that it has by now: systemd-boot counts boots in the names of its entries."""
    if loader is None or now.files.get(file.path) is not None:
        return file
    known = bls.uncounted(file.path)
    same = [one.path for one in loader.files if one.data is not None and bls.uncounted(one.path) == known]
    return replace(file, path=same[0]) if same else file


def _copies(files: Sequence[Recorded], loader: Loader, values: Sequence[str]) -> tuple[list[Change], list[str]]:
    """What was made since from files that had our words: kernel-install's entries are ours, others their user's."""
    known = {file.path for file in files}
    tokens = set(filter(None, map(_token, known))) if cmdline_files.ETC in known else set()
    changes, notes = [], []
    for file in loader.files:
        rest = edit.without(loader, file.path, values) if file.path not in known else None
        if rest is not None and _token(file.path) in tokens:
            changes.append(Change(file.path, file.data, rest))
        elif rest is not None:
            notes.append(f"{file.path} has {crashkernel.text(values)} too, but not from setup: it stays")
    return changes, notes


def _token(path: str) -> str:
    """What kernel-install has in front of an entry's version."""
    name = path.rpartition("/loader/entries/")[2]
    return name.partition("-")[0] if name != path else ""


def _exact(files: Sequence[Recorded], edits: Sequence[Change], now: Now) -> bool:
    """Whether they all become what they were at first, so that what was generated from that can come back too."""
    after = {**now.files, **{change.path: change.after for change in edits}}
    return all(after.get(file.path) == file.original for file in files)


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
