"""All dumps that lie in some directories: ours and those of other programs, each with a few small reads.

No log and no memory is read here, so thousands of dumps cost a second. Nothing is reached through a symbolic link, and
a dump that goes away meanwhile is not there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps, foreign
from kdump_pkg.facts.foreign import Now
from kdump_pkg.fs import TEMPORARY
from kdump_pkg.model import Config, Target
from kdump_pkg.model.dumps import Details, Entry, State
from kdump_pkg.paths import REPORT_JSON
from kdump_pkg.untrusted import escaped, number, release

HOME = "/var/crash"
RECENT = 60  # seconds
LONGEST, LONGEST_META = 120, 4096  # characters of a text in a report, and of one in `meta`
STATES: dict[str, State] = {"complete": "complete", "partial": "partial", "dmesg": "dmesg only", "failed": "failed"}
CORE_LIKE = re.compile(r"vmcore|crashdump|dump\b")
"""Names of which one would like to hear what is wrong with them, when they are none."""


@dataclass(frozen=True)
class Shelf:
    """A directory with dumps, and a word for it that tells two dumps of the same name apart."""

    word: str
    directory: str


@dataclass(frozen=True)
class Survey:
    entries: tuple[Entry, ...]
    """Newest first."""
    refused: tuple[str, ...] = ()
    """What only root can look into."""


def shelves(ctx: Context, config: Config, targets: Sequence[Target]) -> tuple[Shelf, ...]:
    """Where dumps may lie on this system: on every target that is mounted, and where everybody puts them."""
    wishes = zip(config.targets, targets, strict=False)
    named = [Shelf(re.sub(r"[^\w.+=-]", "-", w.name), dumps.directory_of(w, t)) for w, t in wishes]
    found: dict[tuple[int, int], Shelf] = {}
    for shelf in (*named, Shelf("crash", HOME), Shelf("kdumpst", foreign.KDUMPST)):
        with suppress(OSError, KdumpError):
            facts = ctx.path(shelf.directory).stat()
            found.setdefault((facts.st_dev, facts.st_ino), shelf)
    return tuple(found.values())


def read(ctx: Context, where: Iterable[Shelf]) -> Survey:
    """All dumps, each with an id of its own."""
    refused: list[str] = []
    known: dict[str, Entry] = {}
    now = _now(ctx)
    for shelf in where:
        for entry in _read_shelf(ctx, shelf.directory, now, refused):
            key, count = entry.id, 1
            while key in known:
                key, count = f"{entry.id}@{shelf.word}" + (f".{count}" if count > 1 else ""), count + 1
            known[key] = replace(entry, id=key)
    newest = sorted(known.values(), key=lambda entry: (entry.time, not entry.foreign, entry.id), reverse=True)
    return Survey(tuple(newest), tuple(refused))


def read_path(ctx: Context, path: str) -> Entry | None:
    """The dump that is the directory PATH, or that the file PATH is of; None when it is none. Raises OSError."""
    where = ctx.path(path)
    if stat.S_ISDIR(where.stat().st_mode):
        return _read_directory(ctx, where, path.rstrip("/") or "/")
    directory, _, name = path.rpartition("/")
    with suppress(OSError):
        around = _read_directory(ctx, where.parent, directory or "/")
        if around is not None and path in (around.vmcore, around.log):
            return around
    base = os.open(where.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = foreign.read_file(base, directory, where.name, _now(ctx), "unknown")
    finally:
        os.close(base)
    if found is None or (found.state != "complete" and not CORE_LIKE.match(name)):
        return None
    return replace(found, id=escaped(name), path=path, vmcore=path)


@contextmanager
def opened(ctx: Context, entry: Entry) -> Iterator[int]:
    """A descriptor of the directory that the files of a dump lie in. Raises KdumpError when the dump is gone."""
    alone = entry.path == entry.vmcore
    with opened_directory(ctx, entry) as fd:
        if not (alone or entry.foreign or dumps.read_meta(fd) is not None):
            raise KdumpError(f"{escaped(entry.path)}: gone meanwhile")
        yield fd


@contextmanager
def opened_directory(ctx: Context, entry: Entry) -> Iterator[int]:
    """The same, whatever is left in there."""
    try:
        fd = os.open(ctx.path(parent_of(entry)), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KdumpError(f"{escaped(entry.path)}: can't be read: {error.strerror}") from None
    try:
        yield fd
    except OSError as error:
        raise KdumpError(f"{escaped(entry.path)}: {error.strerror or error}") from None
    finally:
        os.close(fd)


def parent_of(entry: Entry) -> str:
    """The directory that the files of a dump lie in."""
    return entry.path if entry.path != entry.vmcore else entry.path.rpartition("/")[0] or "/"


def read_details(ctx: Context, entry: Entry) -> Details:
    """All that can be told of a dump without a look at its memory."""
    with opened(ctx, entry) as fd:
        meta = dumps.read_meta(fd) if not entry.foreign else None
        files = dumps.stats_of(fd, _wanted(entry))
    return Details(
        meta=tuple((escaped(key[:LONGEST]), escaped(value[:LONGEST_META])) for key, value in (meta or {}).items()),
        files=tuple((name, files[name].st_size) for name in sorted(files)),
    )


def _wanted(entry: Entry) -> Callable[[str], bool]:
    """Which files are of a dump; others that lie there are none of it."""
    if entry.path == entry.vmcore:
        name = entry.path.rpartition("/")[2]
        return lambda one: one == name
    if entry.foreign:
        return foreign.layout_of(entry.maker).knows
    return lambda one: dumps.is_known(one) and not one.startswith(TEMPORARY)


def _now(ctx: Context) -> Now:
    """The last minute, as far as it is of this boot: what the crash cut off a moment ago is not being written now."""
    boot = re.search(r"^btime ([0-9]{1,11})$", ctx.read_text("/proc/stat") or "", re.MULTILINE)
    return Now(max(ctx.clock() - RECENT, float(boot[1]) if boot else 0), ctx.clock() + RECENT)


def _read_shelf(ctx: Context, directory: str, now: Now, refused: list[str]) -> Iterator[Entry]:
    try:
        base = os.open(ctx.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        refused.append(directory)
        return
    except (OSError, KdumpError):
        return
    try:
        for name in _names(base, directory):
            try:
                entry = _read_one(base, directory, name, now)
            except PermissionError:
                refused.append(f"{directory}/{name}")
            except OSError:
                continue
            else:
                if entry is not None:
                    yield entry
    finally:
        os.close(base)


def _names(base: int, directory: str) -> list[str]:
    def wanted(name: str) -> bool:
        return dumps.NAME.fullmatch(name) is not None or foreign.is_candidate(directory, name)

    with suppress(OSError), os.scandir(base) as entries:
        return sorted(entry.name for entry in entries if wanted(entry.name))
    return []


def _read_one(base: int, directory: str, name: str, now: Now) -> Entry | None:
    if not dumps.NAME.fullmatch(name):
        return foreign.read(base, directory, name, now)
    fd = os.open(name, dumps.HERE | os.O_DIRECTORY, dir_fd=base)
    try:
        found = _read_ours(fd, f"{directory.rstrip('/')}/{name}", now)
        if found is None:
            os.close(os.open("meta", dumps.HERE | os.O_NONBLOCK, dir_fd=fd))  # raises what keeps us from knowing
        return found
    finally:
        os.close(fd)


def _read_directory(ctx: Context, where: Path, path: str) -> Entry | None:
    """A dump with any name, wherever it lies."""
    now = _now(ctx)
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _read_ours(fd, path, now) or foreign.read_any(fd, path, now)
        return replace(found, id=escaped(found.id)) if found is not None else None
    finally:
        os.close(fd)


def _read_ours(fd: int, path: str, now: Now) -> Entry | None:
    """The dump that FD is open on; None when it isn't one of ours."""
    meta = dumps.read_meta(fd)
    if meta is None:
        return None
    files = dumps.stats_of(fd, dumps.is_known)
    own = os.fstat(fd)
    core = dumps.core_of(files)
    name = path.rpartition("/")[2]
    build_id = meta.get("build_id", "")
    crashed = number(meta.get("crash_time"))
    entry = Entry(
        id=name,
        path=path,
        maker="kdump-pkg",
        time=dumps.time_of(name) if crashed is None else crashed,
        release=release(meta.get("release", "")),
        state=_state_of(meta, files, core, now.covers(max(one.st_mtime for one in (own, *files.values())))),
        encrypted=any(file.endswith(".age") and file.removesuffix(".age") not in files for file in files),
        pinned=dumps.is_pinned(fd),
        size=sum(facts.st_blocks * 512 for facts in (own, *files.values())),
        vmcore=f"{path}/{core}" if core else "",
        log=f"{path}/dmesg.txt" if "dmesg.txt" in files else "",
        build_id=build_id if re.fullmatch(r"[0-9a-f]{2,64}", build_id) else "",
    )
    return _reported(entry, fd) if REPORT_JSON in files else entry


def _state_of(meta: dict[str, str], files: dict[str, os.stat_result], core: str, recent: bool) -> State:
    """What `meta` says, as far as that is still there."""
    state = STATES.get(meta.get("result", ""))
    if state is None:
        return "being written" if recent else "incomplete"
    if state in ("complete", "partial") and not core:
        return "dmesg only" if {"dmesg.txt", "dmesg.txt.age"} & set(files) else "damaged"
    if state == "complete" and dumps.is_short(meta, files):
        return "damaged"
    return state


def _reported(entry: Entry, fd: int) -> Entry:
    """With what its report says in short."""
    report = dumps.read_json(fd, REPORT_JSON)
    crash = _table(report, "crash")
    where, signature = _table(crash, "where"), _text(crash, "signature")
    function, module = _text(where, "function"), _text(where, "module")
    kind = _text(crash, "kind")
    return replace(
        entry,
        what=_text(crash, "cause") or ("" if kind == "unknown" else kind),
        where=f"{function} [{module}]" if function and module else function,
        signature=signature if re.fullmatch(r"[0-9a-f]{16}", signature) else "",
        state="damaged" if dumps.is_damaged(report) and entry.state == "complete" else entry.state,
    )


def _table(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return escaped(found[:LONGEST])[: 2 * LONGEST] if isinstance(found, str) else ""
