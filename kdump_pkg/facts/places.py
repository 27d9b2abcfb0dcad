"""Where boot loaders may have their files: /boot, the EFI system partition, the extended boot loader partition."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import by_path, devices, lookup, mounts, udev
from kdump_pkg.facts.lookup import Machine
from kdump_pkg.facts.mounts import Entry, Mount
from kdump_pkg.model.bootloader import Firmware, Place

Kind = Literal["esp", "xbootldr", "directory"]

USUAL = ("/boot", "/efi", "/boot/efi", "/esp")
PASSING = ("/run", "/media", "/mnt", "/tmp")
"""Where sticks and other systems are mounted: their boot loaders are not ours, unless /etc/fstab says so."""
TYPES: dict[str, Kind] = {udev.ESP_TYPE: "esp", udev.XBOOTLDR_TYPE: "xbootldr", "0xef": "esp", "0xea": "xbootldr"}
"""Partition types, of GPT and of MBR."""
LOADERS = {"efi", "loader", "limine", "limine.conf", "syslinux", "extlinux", "grub"}
"""What is at the top of a partition that a boot loader has its files on."""


def read_places(machine: Machine, firmware: Firmware) -> tuple[Place, ...]:
    """Those that are there or ought to be; a file system that is mounted twice, once."""
    found: dict[object, Place] = {}
    for path in dict.fromkeys(_candidates(machine)):
        machine = _woken(machine, path)
        mount = mounts.holding(path, machine.mounts)
        if mount is not None and mount.point == path and mount.fstype != "autofs":
            key: object = (mount.number, mount.root)
            place = _mounted(machine, firmware, mount)
        else:
            key, place = path, _other(machine, path, mount)
        if place is not None:
            found.setdefault(key, replace(place, readable=not place.mounted or _readable(machine.ctx, path)))
    return tuple(found.values())


def _candidates(machine: Machine) -> Iterator[str]:
    """Real paths: a linked /boot/efi is where the link leads."""
    vfat = [entry.point for entry in machine.entries if entry.fstype == "vfat"]
    mounted = [mount.point for mount in machine.mounts if mount.fstype == "vfat" and not _passing(mount.point)]
    for path in (*USUAL, *vfat, *mounted):
        try:
            yield by_path.resolve(machine.ctx, path)
        except (OSError, RuntimeError, ValueError, KdumpError):
            continue  # a loop of links


def _readable(ctx: Context, path: str) -> bool:
    return os.access(ctx.path(path), os.R_OK | os.X_OK)


def _passing(path: str) -> bool:
    return any(mounts.inside(path, place) for place in PASSING)


def _woken(machine: Machine, path: str) -> Machine:
    """An automount point is woken by looking into it; stat(2) alone would not."""
    mount = mounts.holding(path, machine.mounts)
    if mount is None or mount.fstype != "autofs" or mount.point != path or _passing(path):
        return machine
    machine.ctx.names(path)
    return replace(machine, mounts=mounts.read_mounts(machine.ctx))


def _mounted(machine: Machine, firmware: Firmware, mount: Mount) -> Place | None:
    if mount.point not in USUAL and not _top(machine.ctx, mount.point) & LOADERS:
        return None
    kind: Kind = "directory"
    if mount.root == "/":  # else a directory of it is mounted, and no boot loader finds its files there
        record = udev.read_record(machine.ctx, mount.number)
        kind = _by_type(record) or _by_content(machine.ctx, firmware, mount, record.get("ID_PART_ENTRY_UUID", ""))
    return Place(mount.point, kind, mount.source, readonly=mount.read_only)


def _by_type(record: dict[str, str]) -> Kind | None:
    return TYPES.get(record.get("ID_PART_ENTRY_TYPE", "").lower())


def _by_content(ctx: Context, firmware: Firmware, mount: Mount, partuuid: str) -> Kind:
    """Firmware minds the file system and what is on it more than the type of its partition."""
    started = bool(partuuid) and partuuid.lower() == firmware.device
    return "esp" if mount.fstype == "vfat" and (started or "efi" in _top(ctx, mount.point)) else "directory"


def _top(ctx: Context, path: str) -> set[str]:
    """What is in a directory, in lower case as FAT has it."""
    return {name.lower() for name in ctx.names(path)}


def _other(machine: Machine, path: str, mount: Mount | None) -> Place | None:
    """A place where nothing is mounted, by mistake or because it is a plain directory."""
    entry = next((entry for entry in reversed(machine.entries) if entry.point == path), None)
    asleep = mount is not None and mount.fstype == "autofs" and mount.point == path
    if asleep or (entry is not None and machine.mounts):
        return _absent(machine, path, entry)
    if path not in USUAL and not _top(machine.ctx, path) & LOADERS:
        return None
    if not _is_directory(machine.ctx, path):
        return _absent(machine, path, entry) if entry else None
    if not machine.mounts:
        return _elsewhere(machine, path, entry)
    if mount is not None and mount.fstype == "vfat":
        return None
    return Place(path, readonly=mount is not None and mount.read_only)


def _is_directory(ctx: Context, path: str) -> bool:
    """By this very name: FAT has a /boot/efi wherever it has a /boot/EFI."""
    above, _, name = path.rpartition("/")
    return name in ctx.names(above or "/") and ctx.path(path).is_dir()


def _absent(machine: Machine, path: str, entry: Entry | None) -> Place | None:
    """What /etc/fstab (or an automount that does not come) promises."""
    device = lookup.find(machine, devices.stable_name(entry.device)) if entry else None
    kind = _by_type(dict(device.record)) if device else None
    if kind is None and path not in USUAL:
        return None
    guess: Kind = "esp" if entry is None or entry.fstype == "vfat" else "directory"
    return Place(path, kind or guess, entry.device if entry else "", mounted=False)


def _elsewhere(machine: Machine, path: str, entry: Entry | None) -> Place:
    """A directory of a root of which no mounts are known: what fstab mounts there is here, unless it is empty."""
    inside = machine.ctx.names(path)
    kind: Kind = "directory"
    if entry is not None and entry.fstype == "vfat":
        kind = "esp" if "efi" in _top(machine.ctx, path) or not inside else "directory"
    elif "EFI" in inside and all(one.point.lower() != f"{path}/efi" for one in machine.entries):
        kind = "esp"
    return Place(path, kind, entry.device if entry else "", mounted=entry is None or bool(inside))
