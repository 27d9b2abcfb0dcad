"""What `root=` may say and mean this system's root file system: all its names here, or those that /etc/fstab tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from kdump_pkg import parameters
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import devices, lookup, mounts, udev
from kdump_pkg.facts.lookup import Machine
from kdump_pkg.facts.mounts import Mount


def read_names(machine: Machine, cmdline: str | None) -> frozenset[str]:
    """Empty where nothing is known. CMDLINE is the one that this system runs with, None where it doesn't run."""
    running = parameters.by_name(cmdline or "").get("root")
    names = {running} if running else set()
    mount = mounts.holding("/", machine.mounts)
    if mount is not None and (cmdline is not None or mount.root == "/" or mount.fstype == "btrfs"):
        names |= set(_of_mount(machine.ctx, mount))
    if cmdline is None or not names:  # what runs is known better than what was written down
        names |= set(_of_fstab(machine))
    return frozenset(names)


def _of_mount(ctx: Context, mount: Mount) -> Iterable[str]:
    yield from _pool(mount.fstype, mount.source)
    for source in mount.source.split(":"):  # bcachefs names all of its devices
        if source.startswith("/dev/"):
            yield source
            device = devices.of_mount(ctx, replace(mount, source=source))
            yield from _of_device(ctx, device)


def _of_fstab(machine: Machine) -> Iterable[str]:
    entry = mounts.entry_for("/", machine.entries)
    if entry is None or entry.fstype in ("overlay", "tmpfs", "nfs", "nfs4"):
        return
    yield from _pool(entry.fstype, entry.device)
    if re.match(r"/dev/|(UUID|LABEL|PARTUUID|PARTLABEL)=", entry.device):
        name = devices.stable_name(entry.device)
        yield from (entry.device, name)
        device = lookup.find(machine, name)
        if device is not None:
            yield from _of_device(machine.ctx, device)


def _pool(fstype: str, dataset: str) -> Iterable[str]:
    """ZFS has no device; mkinitcpio's hook and dracut's module each have a way of their own to say it."""
    return (f"ZFS={dataset}", f"zfs:{dataset}", dataset) if fstype == "zfs" else ()


def _of_device(ctx: Context, device: devices.Device) -> Iterable[str]:
    """Names of each device that the file system is made of: any of them may be given."""
    if device.name:
        yield device.name
    for number in device.members:
        name = ctx.path(f"/sys/dev/block/{number}").resolve().name
        links = [*_mapped(ctx, number), *(udev.read_links(ctx, number) or _linked(ctx, name))]
        yield from _tags(udev.read_record(ctx, number))
        yield from (devices.stable_name(link) for link in links)
        yield from (f"/dev/{name}", *links) if name != number else links


def _tags(record: dict[str, str]) -> Iterable[str]:
    for kind, key in udev.KEYS.items():
        whole = kind.startswith("PART") and "ID_PART_ENTRY_NUMBER" not in record
        if record.get(key) and not whole:
            yield f"{kind}={udev.decode(record[key])}"


def _mapped(ctx: Context, number: str) -> Iterable[str]:
    """Names of a mapped device, as the kernel and LVM call it: `group-volume`, where a dash of a name is doubled."""
    name = ctx.read_text(f"/sys/dev/block/{number}/dm/name")
    if not name:
        return
    yield f"/dev/mapper/{name}"
    volume = re.fullmatch(r"((?:[^-]|--)+)-((?:[^-]|--)+)", name)
    if volume and (ctx.read_text(f"/sys/dev/block/{number}/dm/uuid") or "").startswith("LVM-"):
        yield "/dev/" + "/".join(part.replace("--", "-") for part in volume.groups())


def _linked(ctx: Context, name: str) -> Iterable[str]:
    """The links that lead to a device, for a chroot that has /dev and no /run."""
    for directory in devices.LINKS.values():
        for link in ctx.names(f"/dev/disk/{directory}"):
            path = f"/dev/disk/{directory}/{link}"
            try:
                leads = ctx.path(path, follow=False).resolve().name
            except (OSError, RuntimeError, KdumpError):
                continue
            if leads == name:
                yield path
