"""Target `root`: the file system that holds a directory of the running system, or will hold it, by /etc/fstab."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import PurePosixPath

from kdump_pkg.context import Context
from kdump_pkg.facts import devices, mounts
from kdump_pkg.facts.kinds import DISK_TYPES, unsupported
from kdump_pkg.facts.lookup import NAME, REMEDY, Machine, Problem, check_member, find, fstype_of, missing, with_stack
from kdump_pkg.facts.mounts import Entry, Mount
from kdump_pkg.model import Target, TargetWish

MAX_BINDS = 4


def read(machine: Machine, wish: TargetWish) -> Target:
    """Raises Problem."""
    real = resolve(machine.ctx, wish.path)
    if machine.ctx.live:
        _check_directory(machine.ctx, wish.path, real)
        machine, mount = _holding(machine, real)
        entry = mounts.entry_for(real, machine.entries)
        if mount is not None and mount.fstype not in ("overlay", "rootfs"):
            if entry is None or len(entry.point) <= len(mount.point):
                return _mounted(machine, mount, real, wish)
            return _from_fstab(machine, real, wish)  # not mounted now, but it is meant to be
        if entry is None and mount is not None:
            text = (
                f"{real} is in the root image ({mount.fstype} on {mount.point}), which is gone after a crash; {REMEDY}"
            )
            raise Problem(text, Target("", mount.fstype, real))
    return _from_fstab(replace(machine, trust=True), real, wish)


def resolve(ctx: Context, path: str) -> str:
    """PATH with the links of its existing part resolved: a linked /var/crash lies where the link leads."""
    whole = ctx.path(path).resolve()
    return str(PurePosixPath("/") / whole.relative_to(ctx.root.resolve()))


def _check_directory(ctx: Context, path: str, real: str) -> None:
    """It may have to be made, but not what it is in: who writes /mnt/disk/crash means a disk that is there."""
    try:
        if not stat.S_ISDIR(ctx.path(real).stat().st_mode):
            raise Problem(f"{path} is a file; set path = to a directory")
    except FileNotFoundError:
        above = str(PurePosixPath(real).parent)
        if not ctx.path(above).is_dir():
            raise Problem(f"there is no {above} for {path} to be in; make it, or correct path =") from None
    except NotADirectoryError:
        raise Problem(f"{path} lies in a file; set path = to a directory") from None
    except PermissionError:
        pass  # only root may look


def _holding(machine: Machine, real: str) -> tuple[Machine, Mount | None]:
    """What holds REAL; an automount point is woken by looking into it."""
    mount = mounts.holding(real, machine.mounts)
    if mount is None or mount.fstype != "autofs":
        return machine, mount
    machine.ctx.names(mount.point)
    machine = replace(machine, mounts=mounts.read_mounts(machine.ctx))
    mount = mounts.holding(real, machine.mounts)
    if mount is not None and mount.fstype == "autofs":
        raise Problem(f"what is to be mounted on {mount.point} does not come; {REMEDY}", Target("", "autofs", real))
    return machine, mount


def _mounted(machine: Machine, mount: Mount, real: str, wish: TargetWish) -> Target:
    blank = Target("", mount.fstype, real, source=mount.point)
    if mount.fstype not in DISK_TYPES:
        raise Problem(unsupported(mount.fstype, mount.point, REMEDY), blank)
    if mount.root.endswith("//deleted"):
        raise Problem(f"the directory that was mounted on {mount.point} is deleted; mount it anew", blank)
    if "logdev=" in mount.options or "rtdev=" in mount.options:
        text = f"the file system on {mount.point} needs a second device (logdev=, rtdev=), which no capture gives it"
        raise Problem(f"{text}; {REMEDY}", blank)
    device = devices.of_mount(machine.ctx, mount)
    if device.name is None:
        text = f"the file system on {mount.point} ({mount.source}) has no UUID that can be found"
        raise Problem(f"{text}; {REMEDY}", blank)
    inner, options = mounts.inner_path(mount, real)
    source = f"mounted on {mount.point}{', read-only now' if mount.read_only else ''}"
    target = Target(device.name, fstype_of(wish, mount.fstype), inner, options, source=source, mounted=real)
    return with_stack(machine.ctx, target, device)


def _from_fstab(machine: Machine, path: str, wish: TargetWish, depth: int = 0) -> Target:
    entry = mounts.entry_for(path, machine.entries)
    if entry is None:
        text = f"nothing says which file system holds {path}: no entry in /etc/fstab fits; add one, or a [target]"
        raise Problem(text)
    blank = Target("", entry.fstype, path, source=entry.where)
    if entry.option("bind") is not None or entry.option("rbind") is not None:
        if depth >= MAX_BINDS or not entry.device.startswith("/"):
            raise Problem(f"{entry.where}: {entry.device} bound to {entry.point} leads nowhere; correct it", blank)
        other = mounts.join(entry.device, mounts.below(path, entry.point))
        return _from_fstab(machine, other, wish, depth + 1)
    name = devices.stable_name(entry.device)
    fstype = fstype_of(wish, _kind(machine, entry, name, wish))
    if fstype not in DISK_TYPES:
        raise Problem(unsupported(fstype, f"{entry.point} ({entry.where})", REMEDY), blank)
    if not NAME.fullmatch(name):
        raise Problem(f"{entry.where}: {entry.device} may be another disk after a crash; name it by UUID=", blank)
    inner = mounts.below(path, entry.point)
    return seen(machine, Target(name, fstype, inner, _subvolume(entry, fstype), source=entry.where), wish)


def _kind(machine: Machine, entry: Entry, name: str, wish: TargetWish) -> str:
    """The type `auto` in fstab leaves it to the device."""
    if entry.fstype != "auto" or wish.fstype != "auto":
        return entry.fstype
    device = find(machine, name)
    if device is None or not device.fstype:
        raise Problem(f"{entry.where}: the type auto says nothing of what is on {entry.device}; name it there")
    return device.fstype


def _subvolume(entry: Entry, fstype: str) -> str:
    if fstype != "btrfs":
        return ""
    options = [f"{key}={value}" for key in ("subvol", "subvolid") if (value := entry.option(key))]
    return options[0] if options else ""


def seen(machine: Machine, target: Target, wish: TargetWish) -> Target:
    """TARGET, known from fstab, as it is on this machine, where it need not be mounted. Raises Problem."""
    device = find(machine, target.device)
    if device is None:
        if machine.trust or not machine.has_devices:
            return target
        raise Problem(missing(target.device, target.source), target)
    check_member(device, target)
    found = replace(target, fstype=fstype_of(wish, device.fstype or target.fstype))
    return with_stack(machine.ctx, found, device)
