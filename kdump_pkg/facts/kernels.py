"""The kernels under /usr/lib/modules: which are there, whose they are, and what can be known of their files."""

from __future__ import annotations

import re
from typing import Any

from kdump_pkg import paths
from kdump_pkg.context import Context, stamp
from kdump_pkg.errors import BadImageError
from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.facts.alpm import Packages
from kdump_pkg.model import Kernel, ModuleIndex, module_name

PKGBASE = re.compile(r"[A-Za-z0-9@._+-]+")


def read_kernels(ctx: Context, packages: Packages, *, want_build_id: bool = True) -> tuple[Kernel, ...]:
    """All kernels of this root in the order of their releases, left-over directories included.

    A build ID costs the unpacking of the image (0.2 s), so those seen before are taken from our own record.
    """
    record = _record(ctx)
    return tuple(
        _read_kernel(ctx, packages, release, record.get(release, {}), want_build_id)
        for release in sorted(ctx.names(paths.MODULES), key=natural)
        if re.fullmatch(r"[A-Za-z0-9._+~-]+", release) and ctx.path(f"{paths.MODULES}/{release}").is_dir()
    )


def natural(text: str) -> list[tuple[int, str]]:
    """Sort key that takes 6.9 for older than 6.12."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text) if part]


def _read_kernel(ctx: Context, packages: Packages, release: str, known: dict[str, Any], want: bool) -> Kernel:
    home = f"{paths.MODULES}/{release}"
    image = f"{home}/vmlinuz" if ctx.is_file(f"{home}/vmlinuz") else None
    pkgbase = ctx.read_text(f"{home}/pkgbase") or None
    if pkgbase and not PKGBASE.fullmatch(pkgbase):
        pkgbase = None
    owner = _owner(packages, pkgbase or _variant(release), image)
    mark = stamp(ctx.path(image)) if image else ""
    fresh = known.get("stamp") == mark
    build_id, problem, init_size = known.get("build_id"), known.get("problem"), known.get("init_size")
    if image and want and not fresh:
        build_id, problem = _build_id(ctx, image)
    if image and want and not (fresh and "init_size" in known):
        init_size = _init_size(ctx, image)
    unpacked = tuple(p for p in _debug_candidates(release, pkgbase) if ctx.is_file(p))
    return Kernel(
        release=release,
        vmlinuz=image,
        pkgbase=pkgbase,
        package=owner,
        version=packages.version(owner) if owner else None,
        build_id=build_id if image else None,
        stamp=mark,
        vmlinux=unpacked,
        sources=";".join(f"{p}={stamp(ctx.path(p))}" for p in (*unpacked, *([image] if image else []))),
        system_map=next((p for p in (f"{home}/build/System.map", f"{home}/System.map") if ctx.is_file(p)), None),
        problem=problem if image else None,
        init_size=init_size if image else None,
        builtin=read_builtin(ctx, home) if image and pkgbase is None and _variant(release) else None,
    )


def read_builtin(ctx: Context, home: str) -> frozenset[str]:
    """Names of the modules that are in the kernel itself, as its build wrote them down."""
    return frozenset(module_name(file) for file in (ctx.read_text(f"{home}/modules.builtin") or "").split())


def _variant(release: str) -> str | None:
    return paths.VARIANT if release.endswith("-kdump") else None


def _owner(packages: Packages, name: str | None, image: str | None) -> str | None:
    """The package that ships the image; with split packages the base's name need not be one."""
    if name is None or image is None:
        return None
    return name if packages.owns(name, image) else None


def _build_id(ctx: Context, image: str) -> tuple[str | None, str | None]:
    try:
        facts = elf.inspect_bytes(vmlinuz.unpack(ctx.path(image), ctx.runner), image)
    except BadImageError as error:
        return None, error.message.replace(str(ctx.path(image)), image)
    return facts.build_id, None if facts.build_id else f"{image}: has no build ID"


def _init_size(ctx: Context, image: str) -> int | None:
    """What it takes to start; a record that an older version left doesn't say it."""
    try:
        return vmlinuz.read_header(ctx.path(image)).init_size
    except BadImageError:
        return None


def _debug_candidates(release: str, pkgbase: str | None) -> list[str]:
    """Where unpacked kernels lie, best first: a debug package's, the headers' (arch-facts, section 3)."""
    debug = [f"/usr/src/debug/{pkgbase}/vmlinux"] if pkgbase else []
    if _variant(release):
        debug.append(f"{paths.VARIANT_BUILD}/src/build/vmlinux")
    return [*debug, f"{paths.MODULES}/{release}/build/vmlinux", f"{paths.MODULES}/{release}/vmlinux"]


def _record(ctx: Context) -> dict[str, dict[str, Any]]:
    """What was found out before, by release; an entry of another shape counts as none."""
    entries = ctx.read_record(paths.KERNEL_CACHE)
    return {k: v for k, v in entries.items() if isinstance(v, dict) and all(map(_of_its_type, v.items()))}


def _of_its_type(item: tuple[str, object]) -> bool:
    name, value = item
    return value is None or type(value) is (int if name == "init_size" else str)


def read_modules(ctx: Context, release: str) -> ModuleIndex:
    """What depmod(8) wrote for a release, in its text form; empty where it wrote nothing."""
    home = f"{paths.MODULES}/{release}"
    depends = {}
    for line in (ctx.read_text(f"{home}/modules.dep") or "").splitlines():
        file, _, needs = line.partition(":")
        depends[file] = tuple(needs.split())
    softdeps = {}
    for line in (ctx.read_text(f"{home}/modules.softdep") or "").splitlines():
        words = line.split()
        if len(words) > 3 and words[0] == "softdep" and "pre:" in words:
            after = words[words.index("pre:") + 1 :]
            softdeps[module_name(words[1])] = tuple(after[: after.index("post:")] if "post:" in after else after)
    aliases: dict[str, tuple[str, ...]] = {}
    for line in (ctx.read_text(f"{home}/modules.alias") or "").splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == "alias" and words[1].startswith(("crypto-", "fs-")):
            key = module_name(words[1])
            aliases[key] = (*aliases.get(key, ()), module_name(words[2]))
    return ModuleIndex(
        release=release,
        files={module_name(file): file for file in depends},
        depends=depends,
        softdeps=softdeps,
        aliases=aliases,
        builtin=read_builtin(ctx, home),
    )
