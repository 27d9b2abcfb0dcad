"""Keeping the unpacked kernels under /usr/lib/debug, where crash and drgn look for them."""

from __future__ import annotations

import json
import os
from typing import Any

from kdump_pkg import fs, paths
from kdump_pkg.context import Context, stamp
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.model import SaveDebug


def save(ctx: Context, action: SaveDebug) -> None:
    """Save the best vmlinux whose build ID is the kernel's own. Raises KdumpError when not even vmlinuz has one."""
    target = f"{paths.DEBUG_MODULES}/{action.release}/vmlinux"
    refused: list[str] = []
    for source in action.sources:
        try:
            facts = _store(ctx, source, target, action.build_id)
        except BadImageError as error:
            refused.append(f"{source}: {error.message}")
            continue
        if action.system_map:
            fs.copy_atomic(ctx.path(action.system_map), ctx.path(f"{paths.DEBUG_MODULES}/{action.release}/System.map"))
        _link(ctx, action.build_id, target)
        _note(ctx, action, source, facts, stamp(ctx.path(target)))
        return
    raise KdumpError(f"no debug kernel for {action.release}: {'; '.join(refused)}")


def drop(ctx: Context, release: str) -> None:
    """Forget a release: its vmlinux, System.map, build-ID link and record."""
    record = _record(ctx)
    build_id = str(record.pop(release, {}).get("build_id", ""))
    for name in ("System.map", "vmlinux"):
        fs.remove(ctx.path(f"{paths.DEBUG_MODULES}/{release}/{name}"))
    if build_id:
        link = ctx.path(_link_name(build_id), follow=False)
        if link.is_symlink() and f"/{release}/" in os.readlink(link):  # noqa: PTH115
            fs.remove(link)
            fs.remove_empty_parents(link, ctx.path("/usr/lib"))
    fs.remove_empty_parents(ctx.path(f"{paths.DEBUG_MODULES}/{release}/vmlinux"), ctx.path("/usr/lib"))
    if ctx.path(paths.STATE).is_dir():
        _write(ctx, record)


def _store(ctx: Context, source: str, target: str, build_id: str) -> elf.ElfFacts:
    path = ctx.path(source)
    if source.endswith("/vmlinuz"):
        data = vmlinuz.unpack(path, ctx.runner)
        facts = _checked(elf.inspect_bytes(data, source), build_id)
        fs.write_atomic(ctx.path(target), data)
        return facts
    facts = _checked(elf.inspect_file(path), build_id)
    fs.copy_atomic(path, ctx.path(target))
    return facts


def _checked(facts: elf.ElfFacts, build_id: str) -> elf.ElfFacts:
    if facts.build_id != build_id:
        raise BadImageError(f"build ID {facts.build_id or 'missing'} is not the kernel's, {build_id}")
    return facts


def _link_name(build_id: str) -> str:
    return f"{paths.DEBUG_BUILD_ID}/{build_id[:2]}/{build_id[2:]}.debug"


def _link(ctx: Context, build_id: str, target: str) -> None:
    link = ctx.path(_link_name(build_id), follow=False)
    fs.symlink_atomic(os.path.relpath(target, os.path.dirname(_link_name(build_id))), link)  # noqa: PTH120


def _note(ctx: Context, action: SaveDebug, source: str, facts: elf.ElfFacts, mark: str) -> None:
    record = _record(ctx)
    record[action.release] = {
        "abilities": facts.abilities,
        "build_id": action.build_id,
        "origin": source,
        "sources": action.digest,
        "stamp": mark,
    }
    _write(ctx, record)


def _record(ctx: Context) -> dict[str, dict[str, Any]]:
    return {k: v for k, v in ctx.read_record(paths.DEBUG_RECORD).items() if isinstance(v, dict)}


def _write(ctx: Context, record: dict[str, dict[str, Any]]) -> None:
    data = (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
    fs.write_atomic(ctx.path(paths.DEBUG_RECORD), data)
