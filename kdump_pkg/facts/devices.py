"""File systems as devices: found by name or by mount, called by what survives a reboot, with all their members."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import udev
from kdump_pkg.facts.mounts import Mount, holding
from kdump_pkg.facts.stack import first_line, is_block

MEMBERS = {
    "crypto_LUKS": "a LUKS volume",
    "LVM2_member": "a physical volume of LVM",
    "LVM1_member": "a physical volume of LVM",
    "linux_raid_member": "a member of an md array",
    "ddf_raid_member": "a member of an array",
    "isw_raid_member": "a member of an array",
    "mpath_member": "one path to a multipath device",
    "bcache": "a backing device of bcache",
    "drbd": "a DRBD device",
    "BitLocker": "a BitLocker volume",
    "swap": "swap space",
    "swsuspend": "swap space with a hibernated system",
    "VMFS_volume_member": "a member of a VMFS volume",
}
"""What blkid calls them, and what they are; none is a file system."""
LINKS = {"UUID": "by-uuid", "PARTUUID": "by-partuuid", "LABEL": "by-label", "PARTLABEL": "by-partlabel"}


@dataclass(frozen=True)
class Device:
    """A file system on this machine."""

    number: str
    name: str | None
    """UUID=…, or PARTUUID=… where it has none; None where neither can be found."""
    fstype: str
    members: tuple[str, ...] = ()
    """MAJOR:MINOR of all devices that it is made of."""
    count: int = 1
    record: Mapping[str, str] = field(default_factory=dict)


def stable_name(device: str) -> str:
    """What fstab says, as TAG=VALUE where it is one of udev's links by name."""
    found = re.fullmatch(r"/dev/disk/by-(uuid|partuuid|label|partlabel)/(.+)", device)
    return f"{found[1].upper()}={udev.decode(found[2])}" if found else device


def of_mount(ctx: Context, mount: Mount) -> Device:
    """The device of a mounted file system."""
    number = mount.number
    if number.startswith("0:"):
        number = _node(ctx, mount.source) or number  # btrfs' own is made up, and udev knows nothing of it
    record = udev.read_record(ctx, number)
    uuid = record.get("ID_FS_UUID") or _btrfs_of(ctx, number, mount) or _ask(ctx, "UUID", mount.source)
    return _device(ctx, number, record, uuid, mount.fstype)


def from_record(ctx: Context, number: str, record: Mapping[str, str]) -> Device:
    return _device(ctx, number, record, record.get("ID_FS_UUID"), record.get("ID_FS_TYPE", ""))


def find(ctx: Context, kind: str, value: str) -> Device | None:
    """The file system whose KIND (UUID, PARTUUID, LABEL, PARTLABEL) is VALUE; None where this machine has none."""
    number = number_of(ctx, kind, value)
    if number is None:
        return None
    record = udev.read_record(ctx, number)
    fstype = record.get("ID_FS_TYPE", "") or _ask(ctx, "TYPE", f"/dev/{_name(ctx, number)}") or ""
    return _device(ctx, number, record, record.get("ID_FS_UUID"), fstype)


def number_of(ctx: Context, kind: str, value: str) -> str | None:
    """MAJOR:MINOR of what has this name, be it a file system or not."""
    return _linked(ctx, kind, value) or udev.find(ctx, kind, value)


def path_of(ctx: Context, kind: str, value: str) -> str:
    """/dev/NAME of it now; empty where this machine has none."""
    number = number_of(ctx, kind, value)
    return f"/dev/{_name(ctx, number)}" if number else ""


def shown(ctx: Context, mounts: tuple[Mount, ...], device: Device) -> tuple[Mount, ...]:
    """Those of the MOUNTS that show this file system, and that nothing covers."""

    def shows(mount: Mount) -> bool:
        if mount.fstype == "btrfs" and device.fstype == "btrfs":
            return _node(ctx, mount.source) in device.members
        return mount.number in device.members

    return tuple(mount for mount in mounts if shows(mount) and holding(mount.point, mounts) == mount)


def _device(ctx: Context, number: str, record: Mapping[str, str], uuid: str | None, fstype: str) -> Device:
    part = record.get("ID_PART_ENTRY_UUID") if record.get("ID_PART_ENTRY_NUMBER") else None
    name = f"UUID={uuid}" if uuid else f"PARTUUID={part}" if part else None
    members = _members(ctx, uuid) if fstype == "btrfs" and uuid else []
    numbers = tuple(n for n in members if n) or (number,)
    return Device(number, name, fstype, numbers, max(1, len(members)), record)


def _members(ctx: Context, uuid: str) -> list[str | None]:
    """The devices of a btrfs file system, None for one that is not there; the kernel lists those of mounted ones."""
    names = ctx.names(f"/sys/fs/btrfs/{uuid.lower()}/devices")
    if names:
        return [_by_name(ctx, name) for name in names]
    same = {"ID_FS_UUID": uuid, "ID_FS_TYPE": "btrfs"}.items()
    return [number for number, record in udev.records(ctx) if same <= record.items()]


def _node(ctx: Context, path: str) -> str | None:
    """MAJOR:MINOR of a device by its path, which may be a link."""
    if not path.startswith("/dev/"):
        return None
    try:
        node = ctx.path(path).resolve()
        return _by_name(ctx, node.name) or is_block(node)
    except (OSError, RuntimeError, KdumpError):
        return None


def _by_name(ctx: Context, name: str) -> str | None:
    return first_line(ctx.path(f"/sys/class/block/{name}/dev")) or None if name else None


def _name(ctx: Context, number: str) -> str:
    return ctx.path(f"/sys/dev/block/{number}").resolve().name


def _linked(ctx: Context, kind: str, value: str) -> str | None:
    """udev's link of that name."""
    home = f"/dev/disk/{LINKS[kind]}"
    plain = "".join(c if re.match(r"[A-Za-z0-9#+.:=@_-]|[^\x00-\x7f]", c) else f"\\x{ord(c):02x}" for c in value)
    try:
        link = ctx.path(f"{home}/{plain}", follow=False)
        name = link.resolve().name if link.is_symlink() else ""
    except (OSError, RuntimeError, KdumpError):
        return None
    return _by_name(ctx, name)


def _btrfs_of(ctx: Context, number: str, mount: Mount) -> str | None:
    """The kernel's own list of mounted btrfs file systems, where udev does not run."""
    if mount.fstype != "btrfs":
        return None
    for uuid in ctx.names("/sys/fs/btrfs"):
        for disk in ctx.names(f"/sys/fs/btrfs/{uuid}/devices"):
            if _by_name(ctx, disk) == number:
                return uuid
    return None


def _ask(ctx: Context, what: str, device: str) -> str | None:
    """blkid(8), the slow way."""
    try:
        text = ctx.runner(["blkid", "-o", "value", "-s", what, device], check=False, timeout=20).text.strip()
    except CommandError:
        return None
    return text or None
