"""What a build of a kernel rests on: recipe, source, power and load; and what came of it."""

from __future__ import annotations

import re

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, CommandError
from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.facts.kernels import read_builtin
from kdump_pkg.model import Kernel, VariantWish
from kdump_pkg.model.building import Local, Power

SUPPLIES = "/sys/class/power_supply"
SIGNATURES = (".sig", ".sign", ".asc")
"""Endings that makepkg knows."""
PACKED = re.compile(r"\.(xz|gz|zst|bz2|lz4|lzma)$")
NUMBERS = ("VERSION", "PATCHLEVEL", "SUBLEVEL")
FINGERPRINT = re.compile(r"^fpr:(?:[^:\n]*:){8}([0-9A-F]{40}|[0-9A-F]{64}):", re.MULTILINE)
SHOW_KEYS = ("gpg", "--batch", "--no-options", "--no-default-keyring", "--no-keyring", "--trust-model", "always")
"""Without a home, which gpg otherwise wants to be there, and root may have none."""


# --- the recipe and the source ------------------------------------------------------------------------------------


def read_recipe(ctx: Context) -> dict[str, tuple[str, ...]]:
    """The fragments of the configuration, by name, each with the modules that its lines `# modules:` list, in order."""
    found = {}
    for file in ctx.names(paths.VARIANT_RECIPE):
        if file.endswith(".config"):
            text = ctx.read_text(f"{paths.VARIANT_RECIPE}/{file}") or ""
            listed = " ".join(re.findall(r"^# modules:(.*)$", text, re.MULTILINE))
            found[file.removesuffix(".config")] = tuple(listed.replace("-", "_").split())
    return found


def read_local(ctx: Context, wish: VariantWish) -> Local:
    """What the paths in the configuration lead to."""
    keys: tuple[str, ...] = ()
    problem = ""
    if wish.keys != "auto":
        keys, problem = _read_keys(ctx, wish.keys)
    if wish.source == "auto":
        return Local(keys=keys, keys_problem=problem)
    if ctx.is_file(wish.source):
        return Local("archive", _signature(ctx, wish.source), "", keys, problem)
    if ctx.is_file(f"{wish.source}/Makefile"):
        return Local("tree", "", _version(ctx, wish.source), keys, problem)
    return Local(keys=keys, keys_problem=problem)


def _read_keys(ctx: Context, name: str) -> tuple[tuple[str, ...], str]:
    """Fingerprints of the primary keys in a file; those of subkeys would be no use to makepkg."""
    data = ctx.read_bytes(name)
    if data is None:
        return (), "there is no such file" if not ctx.path(name).exists() else "it can't be read"
    try:
        text = ctx.runner([*SHOW_KEYS, "--show-keys", "--with-colons"], stdin=data, timeout=30).text
    except CommandError as error:
        return (), error.message
    found, primary = [], False
    for line in text.splitlines():
        kind = line.partition(":")[0]
        if kind in ("pub", "sub"):
            primary = kind == "pub"
        elif primary and (match := FINGERPRINT.match(line)):
            found.append(match[1])
    return tuple(dict.fromkeys(found)), ""


def _signature(ctx: Context, archive: str) -> str:
    """The name of the signature beside an archive: of the archive itself, or of what is packed in it."""
    home, _, name = archive.rpartition("/")
    for stem in dict.fromkeys((name, PACKED.sub("", name))):
        for ending in SIGNATURES:
            if ctx.is_file(f"{home}/{stem}{ending}"):
                return f"{stem}{ending}"
    return ""


def _version(ctx: Context, tree: str) -> str:
    """As the head of its Makefile says it."""
    head = (ctx.read_text(f"{tree}/Makefile") or "")[:4096]
    found = dict(re.findall(r"^([A-Z]+) = (\d{1,4})$", head, re.MULTILINE))
    numbers = [found[name] for name in NUMBERS if name in found]
    return ".".join(numbers).removesuffix(".0") if len(numbers) == len(NUMBERS) else ""


# --- when ---------------------------------------------------------------------------------------------------------


def read_power(ctx: Context) -> Power:
    """Where the current comes from; of a mouse's battery nobody speaks (scope Device, sysfs-class-power)."""
    online = discharging = False
    for name in ctx.names(SUPPLIES):
        home = f"{SUPPLIES}/{name}"
        if ctx.read_text(f"{home}/scope") == "Device":
            continue
        kind = ctx.read_text(f"{home}/type")
        if kind in ("Mains", "USB"):
            online = online or ctx.read_text(f"{home}/online") not in (None, "", "0")
        elif kind == "Battery" and ctx.read_text(f"{home}/present") != "0":
            discharging = discharging or ctx.read_text(f"{home}/status") == "Discharging"
    return Power(online, discharging)


def read_load(ctx: Context) -> float:
    """The load average of one minute; 0 where nothing tells."""
    text = ctx.read_text("/proc/loadavg") or ""
    found = re.match(r"\d{1,6}\.\d{1,6}", text)
    return float(found[0]) if found else 0.0


def read_cpus(ctx: Context) -> int:
    """Processors that work."""
    text = ctx.read_text("/proc/cpuinfo") or ""
    return max(1, len(re.findall(r"^processor\s*:", text, re.MULTILINE)))


def read_memory(ctx: Context) -> int:
    """Bytes that the machine has, also where the rest of it is not ours; 0 where nothing tells."""
    found = re.search(r"^MemTotal:\s+(\d{1,15}) kB", ctx.read_text("/proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) << 10 if found else 0


# --- kernels ------------------------------------------------------------------------------------------------------


def read_kernel_config(ctx: Context, release: str) -> bytes | None:
    """The configuration that a kernel was built with, by whoever still has it; None where nobody does."""
    if release and ctx.live and ctx.read_text("/proc/sys/kernel/osrelease") == release:
        packed = ctx.read_bytes("/proc/config.gz")
        if packed:
            unpacked = _gunzipped(packed)
            if unpacked:
                return unpacked
    home = f"{paths.MODULES}/{release}"
    for name in (f"{home}/build/.config", f"{home}/config", f"/boot/config-{release}"):
        data = ctx.read_bytes(name)
        if data and b"CONFIG_" in data:
            return data
    return None


def _gunzipped(data: bytes) -> bytes | None:
    import zlib  # of use to a build alone

    try:
        whole = zlib.decompressobj(31)
        text = whole.decompress(data, 1 << 24)
    except zlib.error:
        return None
    return text if whole.eof and b"CONFIG_" in text else None


def read_unpacked(ctx: Context, home: str, release: str) -> Kernel:
    """The kernel of a package that was unpacked below HOME. Raises BadImageError with what is wrong with it."""
    modules = f"{home}{paths.MODULES}/{release}"
    image = f"{modules}/vmlinuz"
    if not ctx.is_file(image):
        raise BadImageError(f"{image}: not there")
    path = ctx.path(image)
    header = vmlinuz.read_header(path)
    if header.version != release:
        raise BadImageError(f"{image}: says that it is of {header.version}, not of {release}")
    build_id = elf.inspect_bytes(vmlinuz.unpack(path, ctx.runner), image).build_id
    if build_id is None:
        raise BadImageError(f"{image}: has no build ID")
    return Kernel(
        release=release,
        vmlinuz=image,
        pkgbase=None,
        package=paths.VARIANT,
        build_id=build_id,
        init_size=header.init_size,
        builtin=read_builtin(ctx, modules),
    )
