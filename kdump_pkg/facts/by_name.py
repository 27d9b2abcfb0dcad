"""Targets `uuid=`, `partuuid=`, `label=`, `partlabel=`, and the EFI system partition: file systems by their names."""

from __future__ import annotations

from dataclasses import replace

from kdump_pkg.context import Context
from kdump_pkg.facts import devices, mounts, udev
from kdump_pkg.facts.by_path import seen
from kdump_pkg.facts.devices import Device
from kdump_pkg.facts.kinds import DISK_TYPES, unsupported
from kdump_pkg.facts.lookup import NAME, Machine, Problem, check_member, find, fstype_of, missing, with_stack
from kdump_pkg.facts.mounts import Mount
from kdump_pkg.model import Target, TargetWish

ESP_PLACES = ("/efi", "/boot", "/boot/efi")
NO_ESP = "no EFI system partition is seen on this machine; remove [target esp], or mount it on /efi or /boot"
ANOTHER = "name another one"


def read_named(machine: Machine, wish: TargetWish) -> Target:
    """Raises Problem."""
    kind, _, rest = wish.name.partition("=")
    value, _, subvolume = rest.partition(":") if kind == "uuid" else (rest, "", "")
    name = f"{kind.upper()}={value}"
    if not NAME.fullmatch(name):
        raise Problem(f"[target {wish.name}]: not root, esp, uuid=, partuuid=, label= or partlabel= and a plain name")
    target = Target(name, "", mounts.join("/", wish.path), source=f"[target {wish.name}]")
    device = find(machine, name)
    if device is None:
        if machine.trust or not machine.has_devices:
            return _trusted(machine, wish, target, subvolume)
        raise Problem(missing(name, target.source), target)
    check_member(device, target)
    fstype = fstype_of(wish, device.fstype)
    if not fstype:
        raise Problem(f"nothing says which file system is on {name}; add fstype = to {target.source}", target)
    target = replace(target, device=f"{kind.upper()}={_spelling(device, kind.upper(), value)}", fstype=fstype)
    return _found(machine, target, device, subvolume)


def _spelling(device: Device, kind: str, value: str) -> str:
    """A UUID as the device has it: who looks for it after a crash may tell large letters from small ones."""
    own = device.record.get(udev.KEYS[kind], "")
    return own if own.lower() == value.lower() else value


def _trusted(machine: Machine, wish: TargetWish, target: Target, subvolume: str) -> Target:
    """Nothing can be looked up: the configuration counts, or a line of fstab for the same device."""
    same = [entry for entry in machine.entries if devices.stable_name(entry.device) == target.device]
    fstype = fstype_of(wish, same[0].fstype if same else "")
    if fstype in ("", "auto"):
        raise Problem(f"{target.device} can't be looked at from here; add fstype = to {target.source}", target)
    if fstype not in DISK_TYPES:
        raise Problem(unsupported(fstype, target.device, ANOTHER), replace(target, fstype=fstype))
    return replace(target, fstype=fstype, options=_top(fstype, subvolume))


def _top(fstype: str, subvolume: str) -> str:
    """btrfs shows whatever subvolume is set as its default, unless it is told."""
    return f"subvol=/{subvolume.strip('/')}" if fstype == "btrfs" else ""


def _found(machine: Machine, target: Target, device: Device, subvolume: str) -> Target:
    """TARGET on this machine, with the place where it is mounted now."""
    if target.fstype not in DISK_TYPES:
        raise Problem(unsupported(target.fstype, target.device, ANOTHER), target)
    if subvolume and target.fstype != "btrfs":
        raise Problem(f"{target.device} is {target.fstype}, which has no subvolumes; leave out :{subvolume}", target)
    shown = devices.shown(machine.ctx, machine.mounts, device)
    top = "/" + subvolume.strip("/")
    _check_subvolume(machine.ctx, target, top, shown)
    place = mounts.place_of(mounts.join(top, target.path), shown)
    if place and machine.ctx.path(place).exists() and not machine.ctx.path(place).is_dir():
        raise Problem(f"{place} is a file; set another path = for {target.source}", target)
    only = bool(shown) and all(mount.read_only for mount in shown)
    source = f"{target.source}{', mounted read-only now' if only else ''}"
    target = replace(target, options=_top(target.fstype, subvolume), mounted=place, source=source)
    return with_stack(machine.ctx, target, device)


def _check_subvolume(ctx: Context, target: Target, top: str, shown: tuple[Mount, ...]) -> None:
    """Whether a subvolume is there can be seen only where something above it is mounted; else the capture will see."""
    place = mounts.place_of(top, shown) if top != "/" else ""
    if place and not ctx.path(place).exists():
        raise Problem(
            f"there is no subvolume {top[1:]} on {target.device}; make it, or correct {target.source}", target
        )


# --- the ESP ----------------------------------------------------------------------------------------------------------


def read_esp(machine: Machine, wish: TargetWish) -> Target:
    """Raises Problem, with the text NO_ESP where none is seen."""
    device, where = _esp_device(machine)
    if device is None:
        return _esp_in_fstab(machine, wish)
    blank = Target("", device.fstype, wish.path, source=where)
    if device.name is None:
        raise Problem(f"the EFI system partition ({where}) has no UUID that can be found", blank)
    target = Target(device.name, fstype_of(wish, device.fstype), mounts.join("/", wish.path), source=where)
    return _found(machine, target, device, "")


def _esp_device(machine: Machine) -> tuple[Device | None, str]:
    """By where it is mounted, and by its type in the partition table, which is surer."""
    mounted: list[tuple[Device, str]] = []
    for place in ESP_PLACES if machine.ctx.live else ():
        mount = mounts.holding(place, machine.mounts)
        if mount is not None and mount.point == place and mount.fstype == "vfat":
            mounted.append((devices.of_mount(machine.ctx, mount), f"mounted on {place}"))
    sure = [pair for pair in mounted if pair[0].record.get("ID_PART_ENTRY_TYPE") == udev.ESP_TYPE]
    if mounted:
        return (sure or mounted)[0]
    for number, record in udev.records(machine.ctx) if machine.ctx.live else ():
        if record.get("ID_PART_ENTRY_TYPE") == udev.ESP_TYPE and record.get("ID_FS_TYPE") == "vfat":
            return devices.from_record(machine.ctx, number, record), "EFI system partition"
    return None, ""


def _esp_in_fstab(machine: Machine, wish: TargetWish) -> Target:
    for entry in machine.entries:
        if entry.point in ESP_PLACES and entry.fstype == "vfat":
            name = devices.stable_name(entry.device)
            if not NAME.fullmatch(name):
                raise Problem(f"{entry.where}: {entry.device} may be another disk after a crash; name it by UUID=")
            return seen(machine, Target(name, "vfat", mounts.join("/", wish.path), source=entry.where), wish)
    raise Problem(NO_ESP)
