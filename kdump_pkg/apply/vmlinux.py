"""Debug files on demand: of a kernel and of its modules, the real ones or made of what a stock kernel carries.

What is made is kept beside the rest under /usr/lib/debug, as `vmlinux.made` and `made/<module>.ko`, and lasts as long
as the release is kept. It is made anew when there is something better to make it of, or a newer version of this program
makes it otherwise. The link by build ID leads to it when there is nothing better: gdb and drgn look there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdump_pkg import fs, paths, untrusted
from kdump_pkg.apply import debug
from kdump_pkg.context import Context, stamp
from kdump_pkg.debuginfo import btf, image, module
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts import debugfiles, elf, ko, vmlinuz

Report = Callable[[str], None]
WAIT = 120  # seconds for another process that makes the same, on a slow machine
RECORD_WAIT = 60  # and for a hook that builds an image
_BUILD_ID = re.compile(r"[0-9a-f]{16,64}")
_MODULE = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class _Source:
    """A kernel with BTF, of the right build."""

    path: str
    data: bytes


def ensure(ctx: Context, release: str, build_id: str, report: Report | None = None) -> Path:
    """The best vmlinux with DWARF of that very build: a real one, else a made one, which is made where it isn't there.

    Call it without the lock: it may take seconds, and takes the lock itself for the record. Raises KdumpError that says
    why there is none. REPORT gets a line when something is made.
    """
    _check(release, build_id)
    real = _real(ctx, release, build_id)
    if real:
        return ctx.path(real)
    if not _current(ctx, release, build_id):
        with fs.lock(ctx.path(paths.DEBUG_LOCK), wait=WAIT):
            if not _current(ctx, release, build_id):  # nobody else has made it meanwhile
                _make(ctx, release, build_id, report or (lambda line: None))
    return ctx.path(debugfiles.made(release))


def limits(ctx: Context, release: str) -> tuple[str, ...]:
    """What the made vmlinux of a release can't do, in sentences; empty where there is none."""
    found = _entry(ctx, release).get("limits", [])
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def ensure_modules(ctx: Context, release: str, names: Iterable[str], report: Report | None = None) -> dict[str, Path]:
    """Files of modules with DWARF in them, by the names that were asked for.

    Left out are those whose files are not there any more, have no BTF or are damaged: REPORT hears why.
    """
    _check(release, None)
    known = _module_files(ctx, release)
    keys = {name: name.replace("-", "_") for name in names if _MODULE.fullmatch(name)}
    files = {key: known[key] for key in sorted(set(keys.values())) if key in known}
    found = _Modules(ctx, release).kept(files)
    if len(found) < len(files):
        with fs.lock(ctx.path(paths.DEBUG_LOCK), wait=WAIT):
            work = _Modules(ctx, release)  # again: somebody else may have made some meanwhile
            found = work.make(files, report or (lambda line: None))
            if work.made:
                _note(ctx, release, {"modules": work.marks})
    return {name: found[key] for name, key in keys.items() if key in found}


# --- the kernel ---------------------------------------------------------------------------------------------------


def _check(release: str, build_id: str | None) -> None:
    """Both come out of a dump, and go into paths."""
    if not release:
        raise KdumpError("the release of its kernel is not known")
    if not untrusted.release(release):
        raise KdumpError(f"{release[:60]!r} is no kernel release")
    if build_id is not None and not _BUILD_ID.fullmatch(build_id):
        raise KdumpError(f"the build ID of the kernel {release} is not known, so no vmlinux can be told to be its own")


def _real(ctx: Context, release: str, build_id: str) -> str | None:
    """A vmlinux with real DWARF, wherever a debugger or a package would put it."""
    made = ctx.path(debugfiles.made(release))
    for place in (*debugfiles.places(ctx, release), debug.link_name(build_id)):
        if ctx.is_file(place) and not _same(ctx.path(place), made):
            facts = _facts(ctx, place)
            if facts and facts.build_id == build_id and facts.abilities == "DWARF":
                return place
    return None


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.samefile(other)


def _facts(ctx: Context, place: str) -> elf.ElfFacts | None:
    try:
        return elf.inspect_file(ctx.path(place))
    except BadImageError:
        return None


def _current(ctx: Context, release: str, build_id: str) -> bool:
    """Whether what was made is still there, and would not be made otherwise now."""
    entry = _entry(ctx, release)
    now = stamp(ctx.path(debugfiles.made(release)))
    if not now or (entry.get("format"), entry.get("build_id"), entry.get("stamp")) != (image.FORMAT, build_id, now):
        return False
    here = _marked(ctx, release)
    return not here or entry.get("sources") == here


def _entry(ctx: Context, release: str) -> Mapping[str, Any]:
    found = debug.read_record(ctx).get(release, {}).get("made")
    return found if isinstance(found, dict) else {}


def _places(release: str) -> tuple[str, ...]:
    """Kernels that something can be made of, best first: those that may have a symbol table of their own."""
    home = f"{paths.MODULES}/{release}"
    return f"{home}/build/vmlinux", f"{home}/vmlinux", f"{paths.DEBUG_MODULES}/{release}/vmlinux", f"{home}/vmlinuz"


def _maps(release: str) -> tuple[str, ...]:
    name = "System.map"
    return (
        f"{paths.MODULES}/{release}/build/{name}",
        f"{paths.DEBUG_MODULES}/{release}/{name}",
        f"/boot/{name}-{release}",
    )


def _marked(ctx: Context, release: str) -> str:
    """All that it can be made of, with size and time of each."""
    found = [place for place in (*_places(release), *_maps(release)) if ctx.is_file(place)]
    return ";".join(f"{place}={stamp(ctx.path(place))}" for place in found)


def _make(ctx: Context, release: str, build_id: str, report: Report) -> None:
    refused: list[str] = []
    for source in _sources(ctx, release, build_id, refused):
        report(f"making a vmlinux with types and symbols for {release} of {source.path}")
        try:
            made = image.make(source.data, elf.layout(source.data, source.path), _system_map(ctx, release))
        except BadImageError as error:
            refused.append(f"{source.path}: {error.message.removeprefix(f'{source.path}: ')}")
            continue
        target = ctx.path(debugfiles.made(release))
        _write(target, made)
        _link(ctx, release, build_id)
        entry = {
            "abilities": "BTF+symbols",
            "build_id": build_id,
            "format": image.FORMAT,
            "limits": list(made.limits),
            "origin": source.path,
            "sources": _marked(ctx, release),
            "stamp": stamp(target),
        }
        _note(ctx, release, {"made": entry}, build_id)
        return
    why = "; ".join(refused) or "no kernel image of it is left"
    raise KdumpError(
        f"no vmlinux for {release} with build ID {build_id}: {why}",
        hint="install that very version of the kernel again, or its debug package",
    )


def _write(target: Path, made: image.Made) -> None:
    fs.ensure_directory(target.parent)
    fs.drop_leftovers(target)
    fs.write_sparse(target, made.pieces, made.size)


def _sources(ctx: Context, release: str, build_id: str, refused: list[str]) -> Iterator[_Source]:
    """Kernels of that build with BTF, those with a symbol table first. Why others are none goes to REFUSED."""
    fitting: dict[str, elf.ElfFacts] = {}
    for place in _places(release)[:-1]:
        if ctx.is_file(place):
            try:
                facts = elf.inspect_file(ctx.path(place))
            except BadImageError as error:
                refused.append(error.message.replace(str(ctx.path(place)), place))
                continue
            if _fits(facts, place, build_id, refused):
                fitting[place] = facts
    for place in sorted(fitting, key=lambda p: fitting[p].abilities == "BTF"):
        try:
            yield _Source(place, ctx.path(place).read_bytes())
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
    packed = _places(release)[-1]
    if ctx.is_file(packed):
        try:
            data = vmlinuz.unpack(ctx.path(packed), ctx.runner)
            facts = elf.inspect_bytes(data, packed)
        except BadImageError as error:
            refused.append(error.message.replace(str(ctx.path(packed)), packed))
            return
        if _fits(facts, packed, build_id, refused):
            yield _Source(packed, data)


def _fits(facts: elf.ElfFacts, place: str, build_id: str, refused: list[str]) -> bool:
    if facts.build_id != build_id:
        refused.append(f"{place} is of another build, {facts.build_id or 'without an ID'}")
    elif "BTF" not in facts.abilities:
        refused.append(f"{place} has no BTF: the kernel was built without CONFIG_DEBUG_INFO_BTF")
    else:
        return True
    return False


def _system_map(ctx: Context, release: str) -> bytes | None:
    return next((data for data in map(ctx.read_bytes, _maps(release)) if data), None)


def _link(ctx: Context, release: str, build_id: str) -> None:
    """By the build ID, where nobody else has put something."""
    path = ctx.path(debug.link_name(build_id), follow=False)
    if not os.path.lexists(path) or (path.is_symlink() and f"/{release}/" in os.readlink(path)):  # noqa: PTH115
        debug.link(ctx, build_id, debugfiles.made(release))


def _note(ctx: Context, release: str, what: dict[str, Any], build_id: str | None = None) -> None:
    with fs.lock(ctx.path(paths.LOCK), wait=RECORD_WAIT):
        record = debug.read_record(ctx)
        entry = record.setdefault(release, {})
        if build_id:
            entry.setdefault("build_id", build_id)
        entry.update(what)
        debug.write_record(ctx, record)


# --- modules ------------------------------------------------------------------------------------------------------


def _module_files(ctx: Context, release: str) -> dict[str, str]:
    """Paths of modules by name, those that the name of a file of ours can be made of."""
    found = ko.read_files(ctx, release)
    return {name: file for name, file in found.items() if ".." not in file.split("/") and _MODULE.fullmatch(name)}


class _Modules:
    """Makes modules of one release; the kernel's types are read when the first of them needs them."""

    def __init__(self, ctx: Context, release: str) -> None:
        self._ctx = ctx
        self._release = release
        self._kernel = stamp(ctx.path(f"{paths.MODULES}/{release}/vmlinuz"))
        self._base: btf.Btf | BadImageError | None = None
        found = debug.read_record(ctx).get(release, {}).get("modules")
        self.marks: dict[str, str] = dict(found) if isinstance(found, dict) else {}
        """By name: of what each was made, and the file that came out."""
        self.made = 0

    def kept(self, files: Mapping[str, str]) -> dict[str, Path]:
        """Those that are made already, and would not be made otherwise now. FILES are the modules' own, by name."""
        targets = {name: self._target(name) for name in files}
        return {n: t for n, t in targets.items() if stamp(t) and self.marks.get(n) == self._mark(files[n], t)}

    def make(self, files: Mapping[str, str], say: Report) -> dict[str, Path]:
        """All that are or can be made; SAY hears why others can't."""
        found = self.kept(files)
        for name, file in files.items():
            if name not in found:
                try:
                    found[name] = self._make(name, file)
                except BadImageError as error:
                    say(error.message)
        return found

    def _target(self, name: str) -> Path:
        return self._ctx.path(f"{paths.DEBUG_MODULES}/{self._release}/{paths.MADE}/{name}.ko")

    def _mark(self, file: str, target: Path) -> str:
        return f"{image.FORMAT};{stamp(self._ctx.path(file))};{self._kernel}={stamp(target)}"

    def _make(self, name: str, file: str) -> Path:
        """Raises BadImageError when it has no BTF, or that of another kernel, or is no module."""
        target = self._target(name)
        try:
            data = ko.read(self._ctx.path(file), self._ctx.runner)
            made = module.make(data, elf.layout(data, file), self._types())
        except BadImageError as error:
            text = error.message.replace(str(self._ctx.path(file)), file)
            raise BadImageError(text if file in text else f"{file}: {text}", hint=error.hint) from None
        _write(target, made)
        self.made += 1
        self.marks[name] = self._mark(file, target)
        return target

    def _types(self) -> btf.Btf:
        """The types of the kernel, which those of its modules continue."""
        if self._base is None:
            try:
                self._base = _kernel_types(self._ctx, self._release)
            except BadImageError as error:
                self._base = error
        if isinstance(self._base, BadImageError):
            raise self._base
        return self._base


def _kernel_types(ctx: Context, release: str) -> btf.Btf:
    """Those of the vmlinuz that the modules came with, if it is there: only they are surely the right ones."""
    *others, packed = _places(release)
    for place in (packed, *others, f"/usr/lib/debug/boot/vmlinux-{release}"):
        if not ctx.is_file(place):
            continue
        if place.endswith("/vmlinuz"):
            data = vmlinuz.unpack(ctx.path(place), ctx.runner)
            return btf.read(image.content(data, elf.layout(data, place), ".BTF"))
        types = elf.section_file(ctx.path(place), ".BTF")
        if types:
            return btf.read(types)
    raise BadImageError(f"no kernel {release} with BTF is left")
