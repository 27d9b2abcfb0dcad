"""Keeping the unpacked kernels under /usr/lib/debug, where crash and drgn look for them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from kdump_pkg import fs, paths
from kdump_pkg.context import Context, stamp
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.model import SaveDebug

NAMELESS = ("/usr/src/debug/", paths.VARIANT_BUILD)
"""Places that have no release in their path: what lies there may well be another one's."""


def save(ctx: Context, action: SaveDebug) -> None:
    """Keep the best vmlinux there is whose build ID is the kernel's own: one that is kept already, or a new one.

    Raises KdumpError when there is none, and for a damaged candidate, so that somebody mends it; what can be kept is
    kept all the same. With nothing better than what is kept, nothing is written then.
    """
    refused: list[str] = []
    chosen = _choose(ctx, action, refused)
    kept = _kept(ctx, action)
    if chosen and (kept is None or elf.better(chosen.facts.abilities, kept.abilities)):
        _store(ctx, action, chosen, "" if refused else action.digest)
    elif kept and not refused:
        _touch(ctx, action)
    if refused:
        raise KdumpError(f"{'' if kept or chosen else f'no debug kernel for {action.release}: '}{'; '.join(refused)}")


def drop(ctx: Context, release: str) -> None:
    """Forget a release: its vmlinux, System.map, what was made of them, build-ID link and record."""
    record = read_record(ctx)
    build_id = str(record.pop(release, {}).get("build_id", ""))
    for name in ("System.map", "vmlinux", f"vmlinux.{paths.MADE}"):
        fs.remove(ctx.path(f"{paths.DEBUG_MODULES}/{release}/{name}"))
    fs.remove_tree(ctx.path(f"{paths.DEBUG_MODULES}/{release}/{paths.MADE}"))
    if build_id:
        path = ctx.path(link_name(build_id), follow=False)
        if path.is_symlink() and f"/{release}/" in os.readlink(path):  # noqa: PTH115
            fs.remove(path)
            fs.remove_empty_parents(path, ctx.path("/usr/lib"))
    fs.remove_empty_parents(ctx.path(f"{paths.DEBUG_MODULES}/{release}/vmlinux"), ctx.path("/usr/lib"))
    if ctx.path(paths.STATE).is_dir():
        write_record(ctx, record)


@dataclass(frozen=True)
class _Candidate:
    source: str
    facts: elf.ElfFacts
    data: bytes | None
    """What was unpacked; None for a file that can be copied as it is."""


def _choose(ctx: Context, action: SaveDebug, refused: list[str]) -> _Candidate | None:
    """The first candidate that fits. Why others don't goes to REFUSED, but for those that belong to another release."""
    for source in action.sources:
        path = ctx.path(source)
        try:
            data = vmlinuz.unpack(path, ctx.runner) if source.endswith("/vmlinuz") else None
            facts = elf.inspect_file(path) if data is None else elf.inspect_bytes(data, source)
        except BadImageError as error:
            if not source.startswith(paths.VARIANT_BUILD):  # it may just be being linked
                refused.append(error.message.replace(str(path), source))
            continue
        if facts.build_id == action.build_id:
            return _Candidate(source, facts, data)
        if not source.startswith(NAMELESS):
            found = facts.build_id or "missing"
            refused.append(f"{source}: build ID {found} is not that of {action.release}, {action.build_id}")
    return None


def _target(release: str) -> str:
    return f"{paths.DEBUG_MODULES}/{release}/vmlinux"


def _kept(ctx: Context, action: SaveDebug) -> elf.ElfFacts | None:
    """What is kept already, if it is of this very build."""
    try:
        facts = elf.inspect_file(ctx.path(_target(action.release)))
    except BadImageError:
        return None
    return facts if facts.build_id == action.build_id else None


def _store(ctx: Context, action: SaveDebug, chosen: _Candidate, digest: str) -> None:
    target = _target(action.release)
    if chosen.data is None:
        fs.copy_atomic(ctx.path(chosen.source), ctx.path(target))
    else:
        fs.write_atomic(ctx.path(target), chosen.data)
    if action.system_map:
        fs.copy_atomic(ctx.path(action.system_map), ctx.path(f"{paths.DEBUG_MODULES}/{action.release}/System.map"))
    link(ctx, action.build_id, target)
    record = read_record(ctx)
    record[action.release] = {
        "abilities": chosen.facts.abilities,
        "build_id": action.build_id,
        "origin": chosen.source,
        "sources": digest,
        "stamp": stamp(ctx.path(target)),
    }
    write_record(ctx, record)


def _touch(ctx: Context, action: SaveDebug) -> None:
    """Record that what there is now was looked at and is no better."""
    record = read_record(ctx)
    if action.release in record:
        record[action.release]["sources"] = action.digest
        write_record(ctx, record)


def link_name(build_id: str) -> str:
    return f"{paths.DEBUG_BUILD_ID}/{build_id[:2]}/{build_id[2:]}.debug"


def link(ctx: Context, build_id: str, target: str) -> None:
    """Let debuggers find TARGET by the build ID."""
    path = ctx.path(link_name(build_id), follow=False)
    fs.symlink_atomic(os.path.relpath(target, os.path.dirname(link_name(build_id))), path)  # noqa: PTH120


def read_record(ctx: Context) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in ctx.read_record(paths.DEBUG_RECORD).items() if isinstance(v, dict)}


def write_record(ctx: Context, record: dict[str, dict[str, Any]]) -> None:
    fs.write_record(ctx.path(paths.DEBUG_RECORD), record)
