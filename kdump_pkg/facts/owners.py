"""Where the modules of a release come from: the packages that ship their files, or what these were built of."""

from __future__ import annotations

import re
from collections.abc import Iterable

from kdump_pkg import paths, untrusted
from kdump_pkg.context import Context
from kdump_pkg.facts.alpm import Packages, open_packages
from kdump_pkg.facts.ko import read_files
from kdump_pkg.model import module_name
from kdump_pkg.model.evidence import Source

MODULE = re.compile(r"[A-Za-z0-9_]{1,64}")
EXTRA = ("updates", "updates/dkms", "extramodules", "extra")
"""Directories of modules that are no part of the kernel's tree."""
DKMS = "/var/lib/dkms"
SOURCES = "/usr/src"
BUILT = re.compile(r"""^\s*BUILT_MODULE_NAME(?:\[\d+\])?=["']?([A-Za-z0-9_.-]+)""", re.MULTILINE)
NAMED = re.compile(r"""^\s*PACKAGE_NAME=["']?([A-Za-z0-9_.-]+)""", re.MULTILINE)


def read_sources(ctx: Context, release: str, modules: Iterable[str], foreign: Iterable[str]) -> dict[str, Source]:
    """The packages of MODULES and, under the empty name, of the kernel, as far as any is known.

    FOREIGN are those that say of themselves that they are no part of the kernel's tree: where this release is gone from
    the disk, they are looked for among other releases.
    """
    if not untrusted.release(release):
        return {}
    packages = open_packages(ctx)
    files = _files(ctx, release, {name for name in modules if MODULE.fullmatch(name)})
    elsewhere = {name for name in foreign if MODULE.fullmatch(name) and name not in files}
    built = _built(ctx, {*elsewhere, *(name for name, file in files.items() if _is_extra(release, file))})
    found = _owned(packages, files, built, elsewhere)
    kernel = ctx.read_text(f"{paths.MODULES}/{release}/pkgbase") or ""
    image = f"{paths.MODULES}/{release}/vmlinuz"
    if kernel and packages.owns(kernel, image):
        found[""] = kernel
    return {
        name: Source(owner, version, name in elsewhere or (name in files and _is_extra(release, files[name])))
        for name, owner in found.items()
        if (version := packages.version(owner)) is not None
    }


def _files(ctx: Context, release: str, wanted: set[str]) -> dict[str, str]:
    """Absolute paths of modules, by what depmod wrote; those that it hasn't seen yet are looked for."""
    home = f"{paths.MODULES}/{release}"
    found = {name: file for name, file in read_files(ctx, release).items() if name in wanted}
    for directory in EXTRA if wanted - found.keys() else ():
        for file in ctx.names(f"{home}/{directory}"):
            if ".ko" in file and (name := module_name(file)) in wanted:
                found.setdefault(name, f"{home}/{directory}/{file}")
    return found


def _is_extra(release: str, file: str) -> bool:
    return not file.startswith(f"{paths.MODULES}/{release}/kernel/")


def _built(ctx: Context, wanted: set[str]) -> dict[str, str]:
    """Modules that DKMS built on this machine, and the file that tells it how: a package ships that, not the module."""
    found: dict[str, str] = {}
    if not wanted:
        return found
    for directory in ctx.names(SOURCES):
        config = f"{SOURCES}/{directory}/dkms.conf"
        text = ctx.read_text(config) if ctx.is_file(config) else None
        for name in BUILT.findall(text or "") or NAMED.findall(text or ""):
            if (module := module_name(name)) in wanted:
                found[module] = config
    return found


def _owned(packages: Packages, files: dict[str, str], built: dict[str, str], elsewhere: set[str]) -> dict[str, str]:
    """Names of packages by module: who ships the file, or its source, or a module of that name for another release."""
    paths_wanted = {*files.values(), *built.values()}

    def wanted(path: str) -> bool:
        return path in paths_wanted or (
            bool(elsewhere)
            and path.startswith(f"{paths.MODULES}/")
            and ".ko" in path
            and module_name(path) in elsewhere
        )

    owners = packages.owners(wanted)
    found = {module_name(path): owner for path, owner in owners.items() if ".ko" in path.rpartition("/")[2]}
    found |= {name: owners[config] for name, config in built.items() if config in owners}
    return found
