"""What debug files there are for a kernel: of which build each is, and what debuggers can get out of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from kdump_pkg import paths, untrusted
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts import elf, vmlinuz

DEPTH = 12
"""Directories that a module may lie deep; the deepest of Linux 7.2 has 8."""


@dataclass(frozen=True)
class DebugFile:
    path: str
    build_id: str
    """Empty: it has none."""
    abilities: str
    """One of elf.ABILITIES."""

    @property
    def dwarf(self) -> bool:
        return self.abilities == "DWARF"

    @property
    def made(self) -> bool:
        """Of types and symbols alone: no source lines, no local variables."""
        return is_made(self.path)


def is_made(path: str) -> bool:
    """Whether that is one of our own files."""
    return path.endswith(f".{paths.MADE}") or f"/{paths.MADE}/" in path


def made(release: str) -> str:
    """Where our own vmlinux of RELEASE lies, if there is one."""
    return f"{paths.DEBUG_MODULES}/{release}/vmlinux.{paths.MADE}"


def places(ctx: Context, release: str) -> tuple[str, ...]:
    """Where a package, a build or `rebuild` may have put the vmlinux of RELEASE, those for debuggers first."""
    debug, modules = f"{paths.DEBUG_MODULES}/{release}", f"{paths.MODULES}/{release}"
    base = (ctx.read_text(f"{modules}/pkgbase") or "").strip("/")
    return (
        f"{debug}/vmlinux",
        f"{debug}/vmlinux.debug",
        f"/usr/lib/debug/boot/vmlinux-{release}",
        f"/usr/lib/debug{modules}/vmlinux",
        f"{modules}/build/vmlinux",
        f"{modules}/vmlinux",
        *([f"/usr/src/debug/{base}/vmlinux"] if untrusted.release(base) else []),
    )


def read_vmlinux(ctx: Context, release: str) -> tuple[DebugFile, ...]:
    """The kernels of RELEASE that lie where a debugger would look for them, and what is installed; damaged ones not."""
    if not untrusted.release(release):
        return ()
    found: dict[str, DebugFile] = {}
    for path in (*places(ctx, release), f"{paths.MODULES}/{release}/vmlinuz", made(release)):
        try:
            if ctx.is_file(path) and (real := os.path.realpath(ctx.path(path))) not in found:
                found[real] = _inspect(ctx, path)
        except KdumpError:
            continue
    return tuple(found.values())


def read_modules(ctx: Context, release: str, names: Iterable[str]) -> dict[str, str]:
    """Paths of somebody's debug files of these modules, with DWARF in them, by name."""
    wanted = {name.replace("-", "_") for name in names}
    base = f"{paths.DEBUG_MODULES}/{release}"
    if not untrusted.release(release) or not wanted:
        return {}
    found: dict[str, str] = {}
    todo = [(base, 0)]
    while todo:
        directory, depth = todo.pop()
        for name in ctx.names(directory):
            path, module = f"{directory}/{name}", re.fullmatch(r"([\w-]+)\.ko(?:\.debug)?", name)
            if module is None:
                if depth < DEPTH and name != paths.MADE and ctx.path(path, follow=False).is_dir():
                    todo.append((path, depth + 1))
            elif (key := module[1].replace("-", "_")) in wanted and _has_dwarf(ctx, path):
                found[key] = path
    return found


def _inspect(ctx: Context, path: str) -> DebugFile:
    if path.endswith("/vmlinuz"):
        facts = elf.inspect_bytes(vmlinuz.unpack(ctx.path(path), ctx.runner), path)
    else:
        facts = elf.inspect_file(ctx.path(path))
    return DebugFile(path, facts.build_id or "", facts.abilities)


def _has_dwarf(ctx: Context, path: str) -> bool:
    try:
        return elf.inspect_file(ctx.path(path)).abilities == "DWARF"
    except BadImageError:
        return False
