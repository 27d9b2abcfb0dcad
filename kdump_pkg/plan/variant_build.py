"""What linux-kdump is built from, pure: the source, the parts of its configuration, the file `settings`; and when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Facts, VariantWish
from kdump_pkg.model.building import Local, Power
from kdump_pkg.plan import variant
from kdump_pkg.untrusted import escaped

KERNEL_ORG = "https://cdn.kernel.org/pub/linux/kernel"
TORVALDS = "ABAF11C65A2970B130ABE3C479BE3E4300411886"
KROAH_HARTMAN = "647F28654894E3BD457199BE38DBBDC86092693E"
LEVIN = "E27E5D8A3403A2EF66873BBCDEA66FF797772CDC"
STEFFENS = "83BC8889351B5DEBBB68416EB8AC08600F108CDF"
POLYAK = "E240B57E2C4630BA768E2F26FC1B547C8D8172C8"
RELEASERS = (TORVALDS, KROAH_HARTMAN, LEVIN)
"""Who signs the archives on kernel.org (its page signature.html)."""
SIGNERS = (*RELEASERS, STEFFENS, POLYAK)
KEY_OWNERS = {
    TORVALDS: "torvalds@kernel.org",
    KROAH_HARTMAN: "gregkh@kernel.org",
    LEVIN: "sashal@kernel.org",
    STEFFENS: "heftig@archlinux.org",
    POLYAK: "anthraxx@archlinux.org",
}
"""Under which address gpg --locate-external-keys finds them."""


@dataclass(frozen=True)
class Patch:
    """The release patch of one of Arch's kernels, as its PKGBUILD fetches it."""

    suffix: str
    """How its versions end: arch1, zen2."""
    url: str
    """{tag} is v6.12.1-arch1."""
    key: str


PATCHES = {
    "linux": Patch(
        "arch", "https://github.com/archlinux/linux/releases/download/{tag}/linux-{tag}.patch.zst", STEFFENS
    ),
    "linux-zen": Patch(
        "zen", "https://github.com/zen-kernel/zen-kernel/releases/download/{tag}/linux-{tag}.patch.zst", STEFFENS
    ),
    "linux-hardened": Patch(
        "hardened",
        "https://github.com/anthraxx/linux-hardened/releases/download/{tag}/linux-hardened-{tag}.patch",
        POLYAK,
    ),
}
"""By package base; the sources of all other kernels are taken for those on kernel.org."""


@dataclass(frozen=True)
class Source:
    kind: Literal["fetched", "archive", "tree"]
    version: str
    """Of the kernel, for the package: 6.12.1. The recipe asks the source itself in the end."""
    entries: tuple[str, ...] = ()
    """Of the source array of a PKGBUILD: URLs, or names of files in the directory of the build."""
    sums: tuple[str, ...] = ()
    """Of each of them, SHA-256 or SKIP."""
    keys: tuple[str, ...] = ()
    """Fingerprints of those who may have signed them."""
    archive: str = ""
    """Name of the archive's file; empty with a tree."""
    patches: tuple[str, ...] = ()
    """Names of the files to apply, in order."""
    tree: str = ""
    """Path of a tree that is there already."""
    links: tuple[tuple[str, str], ...] = ()
    """Files of this machine that have to lie in the directory of the build: name there, and path."""


@dataclass(frozen=True)
class Parts:
    fragments: tuple[str, ...]
    modules: tuple[str, ...] = ()
    """Drivers that no fragment has, for `configure` to look up."""


# --- the source ---------------------------------------------------------------------------------------------------

VERSION = re.compile(r"(?:\d+:)?(\d{1,3}\.\d{1,4})(\.\d{1,4})?((?:[._+-][A-Za-z0-9]+)*)")
UNRELEASED = re.compile(r"(?i)rc\d*|r\d+|g[0-9a-f]{7,}|git\d*|next\d*|dirty")
ARCHIVE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*\.(tar(\.(xz|gz|zst|bz2|lz4|lzma))?|tgz|txz|tzst|tbz2?)")
NOTHING = Local()
OWN = "set source = in [variant] to an archive or a tree that is here"


def resolve(wish: VariantWish, base: str, version: str, release: str, local: Local = NOTHING) -> Source:
    """Where the source of a kernel is: of Arch's own packages what their PKGBUILDs name, or what the user names.

    BASE and VERSION are those of its package, RELEASE what it is called where the version says nothing; LOCAL is
    what `facts.building.read_local` found. Raises KdumpError where there is none.
    """
    own = escaped(wish.source)
    if wish.keys != "auto" and not local.keys:
        why = local.keys_problem or "no public key is in it"
        raise KdumpError(f"keys = {escaped(wish.keys)}: {why}", hint="see keys =")
    if wish.source == "auto":
        return _fetched(wish, base, version, release, local)
    if local.kind == "none":
        raise KdumpError(f"source = {own}: there is no archive and no tree of that name", hint=OWN)
    number = local.version or _numbers(version, release) or "0"
    if local.kind == "archive":
        return _archive(wish, number, local)
    if wish.sha256:
        raise KdumpError(f"sha256 = is of an archive, and source = {own} is a directory", hint=OWN)
    return Source("tree", number, tree=wish.source)


def _fetched(wish: VariantWish, base: str, version: str, release: str, local: Local) -> Source:
    if wish.sha256:
        raise KdumpError("sha256 = is of an archive of your own, and source = is auto", hint="take sha256 = out")
    found = _numbers(version, release)
    if not found:
        name = escaped(f"{base} {version or release}")
        raise KdumpError(f"{name} is no release of Linux, so that its source can't be fetched", hint=OWN)
    archive = f"linux-{found}.tar.xz"
    home = f"{KERNEL_ORG}/v{found.split('.')[0]}.x"
    entries = [f"{home}/{archive}", f"{home}/linux-{found}.tar.sign"]
    keys: tuple[str, ...] = RELEASERS
    patches: tuple[str, ...] = ()
    patch = PATCHES.get(base)
    suffix = patch and re.search(rf"{re.escape(found)}(?:\.0)?[.-]({patch.suffix}\d{{1,4}})(?![A-Za-z0-9.])", version)
    if patch and suffix:
        url = patch.url.format(tag=f"v{found}-{suffix[1]}")
        entries += [url, f"{url}.sig"]
        patches = (url.rsplit("/", 1)[1],)
        keys = (*keys, patch.key)
    sums = ("SKIP",) * len(entries)  # each has its signature
    return Source("fetched", found, tuple(entries), sums, local.keys or keys, archive, patches)


def _numbers(version: str, release: str) -> str:
    """6.12.1 of 6.12.1.arch1-1, as kernel.org calls it: 6.13, not 6.13.0. Empty for what was never released."""
    for text in (version, release):
        found = VERSION.fullmatch(text)
        words = re.split(r"[._+-]", found[3]) if found else []
        if found and not any(UNRELEASED.fullmatch(word) for word in words):
            last = found[2] or ""
            return found[1] if last == ".0" else found[1] + last
        if found:
            return ""
    return ""


def _archive(wish: VariantWish, version: str, local: Local) -> Source:
    home, _, name = wish.source.rpartition("/")
    if not ARCHIVE.fullmatch(name):
        raise KdumpError(
            f"source = {escaped(wish.source)}: not the name of an archive of tar",
            hint="give it one such as linux-6.12.tar.xz, without blanks",
        )
    if wish.keys != "auto" and not local.signature:
        raise KdumpError(
            f"{escaped(wish.source)} has no signature beside it, and keys = asks for one", hint="take keys = out"
        )
    names = (name, local.signature) if local.signature else (name,)
    keys = (local.keys or SIGNERS) if local.signature else ()
    sums = (wish.sha256 or "SKIP", "SKIP")[: len(names)]
    links = tuple((one, f"{home}/{one}") for one in names)
    return Source("archive", version, names, sums, keys, name, links=links)


# --- the parts of the configuration -------------------------------------------------------------------------------

ALWAYS = ("base", "{arch}", "console", "watchdog", "efivarfs")
ARCHES = ("x86_64", "aarch64")
FAMILIES = {
    "sata_": "sata", "pata_": "sata", "xhci_": "usb", "ehci_": "usb", "ohci_": "usb", "uhci_": "usb", "dwc": "usb",
    "ums_": "usb", "sdhci": "mmc", "mmc": "mmc", "dw_mmc": "mmc", "rtsx_": "mmc", "virtio_": "virtio", "nvme_": "nvme",
}  # fmt: skip
"""What the drivers of a kind need below them, by how their names begin."""
REHEARSED = ("virtio", "nvme", "sata")
"""Disks that the virtual machine of a rehearsal can have."""


def parts(config: Config, facts: Facts, fragments: Mapping[str, tuple[str, ...]], arch: str, flavour: str) -> Parts:
    """Which fragments of the configuration the machine needs, and which drivers besides.

    FRAGMENTS has the modules of each one's `# modules:` line (`facts.building.read_recipe`). The rules:
    - base, the architecture, console, watchdog and efivarfs always; `udev` for images with udev or systemd; `network`
      as the user wishes. A fragment without such a line that is none of these is taken by nobody.
    - A module of the capture takes the fragment that begins with it; else the only one that lists it; else the one of
      its family. Whether it may be missing (`?`) changes nothing here: nothing can be loaded later.
    - What may not be missing and is listed by none that was taken is looked up by `configure`, by its name.
    - Where none of these is of a disk that a rehearsal can have, virtio comes along: what is never tried is never used.
    """
    taken = [name.format(arch=arch) for name in ALWAYS]
    taken += ["udev"] if flavour != "direct" else []
    taken += ["network"] if config.variant.network else []
    if arch not in ARCHES:
        raise KdumpError(f"linux-kdump has no configuration for {escaped(arch)}, but for {' and '.join(ARCHES)}")
    _check(taken, fragments)
    needed = variant.needs(config, facts, variant.build_targets(facts))
    if config.variant.drivers == "all":
        taken += [name for name, listed in fragments.items() if listed and name != "network"]
    taken += [part for name in needed for part in _parts_of(name.rstrip("?"), fragments)]
    if not set(taken) & set(REHEARSED):
        taken.append("virtio")
    chosen = tuple(dict.fromkeys(name for name in taken if name in fragments))
    have = {module for name in chosen for module in fragments[name]}
    return Parts(chosen, tuple(name for name in needed if not name.endswith("?") and name not in have))


def _check(names: Iterable[str], fragments: Mapping[str, tuple[str, ...]]) -> None:
    missing = [name for name in names if name not in fragments]
    if missing:
        raise KdumpError(
            f"the recipe of linux-kdump has no {', '.join(f'{name}.config' for name in missing)}",
            hint="reinstall kdump-pkg",
        )


def _parts_of(module: str, fragments: Mapping[str, tuple[str, ...]]) -> list[str]:
    first = [name for name, listed in fragments.items() if listed[:1] == (module,)]
    listing = first or [name for name, listed in fragments.items() if module in listed]
    if listing:
        return listing if first or len(listing) == 1 else []
    return [part for start, part in FAMILIES.items() if module.startswith(start)][:1]


# --- settings -----------------------------------------------------------------------------------------------------

JOB = 400 << 20
"""Bytes that a compiler may take, the linker's share included."""
PLAIN = re.compile(r"[^\x00-\x1f\x7f-\x9f'\u2028\u2029\ud800-\udfff]*")


def settings(source: Source, parts: Parts, jobs: int) -> str:
    """The file that the PKGBUILD reads, in bash. Raises KdumpError for what can't be said in one of its lines."""
    arrays = {"_source": source.entries, "_sums": source.sums, "_keys": source.keys}
    more = {"_patches": source.patches, "_fragments": parts.fragments, "_modules": parts.modules}
    archive = (source.archive,) if source.archive else ()
    lines = [
        "# shellcheck shell=bash disable=SC2034",
        "# Made by kdump-pkg variant build, which writes it anew each time.",
        f"_version={_quoted(source.version)}",
        *(f"{name}=({' '.join(map(_quoted, values))})" for name, values in arrays.items()),
        f"_archive=({' '.join(map(_quoted, archive))})",
        f"_tree={_quoted(source.tree)}",
        *(f"{name}=({' '.join(map(_quoted, values))})" for name, values in more.items()),
        f"_jobs={_quoted(str(jobs))}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    if not PLAIN.fullmatch(value):
        raise KdumpError(
            f"{escaped(value)!r} has a quote or a character that can't be printed: it can't be handed to makepkg",
            hint="give it another name",
        )
    return f"'{value}'"


def jobs(cpus: int, memory_total: int) -> int:
    """Compilers at once: as many as there are processors, with a quarter of the memory at most."""
    return max(1, min(cpus, (memory_total // 4) // JOB))


# --- when ---------------------------------------------------------------------------------------------------------


def obstacle(wish: VariantWish, power: Power, load: float, cpus: int) -> str | None:
    """Why a build that nobody waits for has to wait now, in a few words; None when it may begin."""
    if wish.power == "mains" and not power.mains:
        return "the machine runs on battery"
    busy = round(100 * load / max(1, cpus))
    if wish.max_load and busy > wish.max_load:
        return f"the processors are {busy} % busy, {wish.max_load} % are allowed (max_load)"
    return None


def progress(done: int, of: int) -> str:
    """`412 of about 1800 files, 22 %`; without the share where nobody knows how many there are."""
    if of <= 0:
        return f"{done} files"
    return f"{done} of about {max(done, of)} files, {min(99, 100 * done // of)} %"
