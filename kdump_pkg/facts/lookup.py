"""What every kind of target is looked up in, and what is added to each: layers, drivers, keys."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kdump_pkg.context import Context
from kdump_pkg.facts import devices, mounts, stack, volume
from kdump_pkg.facts.devices import Device
from kdump_pkg.facts.mounts import Entry, Mount
from kdump_pkg.model import Target, TargetWish

REMEDY = "set path = to a directory on a disk's own file system"
NAME = re.compile(r"(UUID|PARTUUID|LABEL|PARTLABEL)=[A-Za-z0-9._:+@-]+")
"""What survives a reboot, and can be written anywhere without quotes."""


class Problem(Exception):
    """Why a target can't be used, in one line; with what is known of it."""

    def __init__(self, text: str, target: Target | None = None) -> None:
        super().__init__(text)
        self.target = target


@dataclass(frozen=True)
class Machine:
    """Read once for all targets."""

    ctx: Context
    mounts: tuple[Mount, ...]
    entries: tuple[Entry, ...]
    trust: bool = False
    """Whether this machine says nothing of the one that will crash: in a chroot or a container."""

    @property
    def has_devices(self) -> bool:
        """Whether devices can be asked for: not in another root, nor in a chroot without udev."""
        return self.ctx.live and bool(self.ctx.names("/run/udev/data") or self.ctx.names("/dev/disk"))


def read_machine(ctx: Context, *, trust: bool = False) -> Machine:
    return Machine(ctx, mounts.read_mounts(ctx) if ctx.live else (), mounts.read_fstab(ctx), trust)


def fstype_of(wish: TargetWish, found: str) -> str:
    return found if wish.fstype == "auto" else wish.fstype


def with_stack(ctx: Context, target: Target, device: Device) -> Target:
    """TARGET with what lies under it."""
    found = stack.read_stack(ctx, device.members)
    if found.problem:
        raise Problem(found.problem, target)
    crypt = tuple(volume.read_volume(ctx, one) for one in found.crypts)
    return replace(target, drivers=found.drivers, layers=found.layers, crypt=crypt, devices=device.count)


def check_member(device: Device, target: Target) -> None:
    """A LUKS volume has a UUID too, and so has a physical volume of LVM: none of these can be mounted."""
    what = devices.MEMBERS.get(device.fstype)
    if what:
        text = f"{target.device} is {what}, not a file system; name the file system that is in it"
        raise Problem(text, replace(target, fstype=device.fstype))


def find(machine: Machine, name: str) -> Device | None:
    """The device with this NAME=VALUE on this machine."""
    kind, _, value = name.partition("=")
    return devices.find(machine.ctx, kind, value) if machine.has_devices and NAME.fullmatch(name) else None


def missing(name: str, where: str) -> str:
    return f"no file system {name} on this machine; plug it in, or correct {where}"
