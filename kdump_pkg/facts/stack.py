"""What lies under a file system: layers that have to be opened, and the drivers of all disks, from sysfs.

Names and links as in the kernel's Documentation/ABI: /sys/dev/block, slaves, dm/{name,uuid}, md/{uuid,level}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kdump_pkg.context import Context
from kdump_pkg.facts import udev
from kdump_pkg.model import Layer

PSEUDO = frozenset({"pcieport", "sd"})
"""Drivers that are no modules; `sd` lives in sd_mod."""
LEVELS = {"raid0": "raid0", "raid1": "raid1", "raid10": "raid10", "linear": "linear"} | dict.fromkeys(
    ("raid4", "raid5", "raid6"), "raid456"
)
# What device mapper needs beyond dm_mod, by what lvm2 calls the hidden parts of a volume (lib/activate/dev_manager.c).
LVM_PARTS = (
    (r"_r(image|meta)_\d+$", "dm_raid"),
    (r"[-_](tpool|tdata|tmeta)$", "dm_thin_pool"),
    (r"[-_](cpool|cdata|cmeta|corig)$", "dm_cache"),
    (r"-(cow|real)$", "dm_snapshot"),
    (r"_mimage_\d+$", "dm_mirror"),
    (r"[-_]wcorig$", "dm_writecache"),
    (r"[-_](vpool|vdata)$", "dm_vdo"),
    (r"_imeta$", "dm_integrity"),
)
EXTRA = {
    "dm_raid": ("raid1?", "raid10?", "raid456?", "raid0?"),
    "dm_cache": ("dm_cache_smq",),
    "dm_mirror": ("dm_region_hash", "dm_log"),
}
"""What these ask for by name and can't get where no modprobe is."""
HELPER = re.compile(r"CRYPT-(SUBDEV|INTEGRITY)-")
NETWORK = re.compile(r"/session\d+/target|/nvme-fabrics/|/block/(nbd|drbd|rbd)\d")


@dataclass(frozen=True)
class Crypt:
    """One LUKS mapping: its header's UUID, the name of its mapping, the device that holds it."""

    uuid: str
    name: str
    device: str


@dataclass(frozen=True)
class Stack:
    layers: tuple[Layer, ...] = ()
    """Disk first."""
    drivers: tuple[str, ...] | None = None
    """None where sysfs shows none."""
    crypts: tuple[Crypt, ...] = ()
    problem: str | None = None


@dataclass
class _Walk:
    ctx: Context
    layers: dict[Layer, None] = field(default_factory=dict)
    drivers: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)
    crypts: list[Crypt] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seen: set[Path] = field(default_factory=set)


def read_stack(ctx: Context, numbers: Iterable[str]) -> Stack:
    """All that lies under the devices with these NUMBERS (MAJOR:MINOR)."""
    walk = _Walk(ctx)
    for number in numbers:
        _visit(walk, ctx.path(f"/sys/dev/block/{number}").resolve(), "")
    drivers = _order(walk.drivers)
    if walk.modules and drivers:
        drivers = (*drivers, *(m for m in dict.fromkeys(walk.modules) if m not in drivers))
    problem = walk.problems[0] if walk.problems else None
    return Stack(tuple(walk.layers), drivers or None, tuple(walk.crypts), problem)


def _visit(walk: _Walk, device: Path, group: str) -> None:
    """What is under DEVICE first, then what it is itself; GROUP is the LVM volume group of what lies above."""
    if device in walk.seen or not device.is_dir():
        return
    walk.seen.add(device)
    if (device / "partition").is_file() and not (device / "slaves").is_dir():
        walk.drivers.extend(_drivers(device))
        _visit(walk, device.parent, "")
        return
    dm, md = first_line(device / "dm" / "uuid"), (device / "md").is_dir()
    own_group = dm[4:36] if dm.startswith("LVM-") else ""
    slaves = sorted((device / "slaves").glob("*"))
    for slave in slaves:
        _visit(walk, slave.resolve(), own_group)
    if (device / "dm").is_dir():
        _mapped(walk, device, dm, hidden=bool(own_group) and own_group == group)
    elif md:
        _array(walk, device)
    elif (device / "bcache").is_dir() and slaves:
        walk.layers.setdefault(Layer("dm", device.name))
        walk.modules.append("bcache")
    else:
        _disk(walk, device)


def _mapped(walk: _Walk, device: Path, uuid: str, *, hidden: bool) -> None:
    name = first_line(device / "dm" / "name") or device.name
    kind = uuid.split("-")[0]
    if kind == "LVM":
        _volume(walk, name, uuid, hidden=hidden)
    elif kind == "CRYPT":
        _encrypted(walk, device, name, uuid)
    elif kind == "mpath":
        walk.layers.setdefault(Layer("multipath", name))
    else:
        walk.layers.setdefault(Layer("dm", name))


def _volume(walk: _Walk, name: str, uuid: str, *, hidden: bool) -> None:
    """lvm opens a volume with all its hidden parts; those only say which modules that takes."""
    for text in (name, uuid):
        for pattern, module in LVM_PARTS:
            if re.search(pattern, text):
                walk.modules.extend((module, *EXTRA.get(module, ())))
    if not hidden:
        walk.layers.setdefault(Layer("lvm", volume_name(name)))


def volume_name(name: str) -> str:
    """VG/LV of a device mapper name: one dash between the two, every dash in them doubled, lvm(8)."""
    group, dash, volume = re.sub("--", "\0", name).partition("-")
    return f"{group}/{volume}".replace("\0", "-") if dash else name


def _encrypted(walk: _Walk, device: Path, name: str, uuid: str) -> None:
    """cryptsetup writes CRYPT-TYPE-UUID-NAME; its helpers under a volume (SUBDEV, INTEGRITY) are opened with that."""
    found = re.match(r"CRYPT-LUKS[0-9A-Z-]*-([0-9a-f]{32})-", uuid)
    if found:
        digits = found[1]
        dashed = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        walk.layers.setdefault(Layer("crypt", dashed))
        walk.crypts.append(Crypt(dashed, name, _holder(device)))
    elif HELPER.match(uuid):
        walk.modules.append("dm_integrity")
    else:
        kind = uuid.removeprefix("CRYPT-").split("-")[0]
        walk.problems.append(
            f"/dev/mapper/{name} is encrypted as {kind}, without a LUKS header: it can't be opened after a crash; "
            "set path = to a directory elsewhere or add a [target]"
        )


def _holder(device: Path) -> str:
    """What holds the header of a volume: the device under it, and under the helper that keeps its tags."""
    for slave in sorted((device / "slaves").glob("*")):
        return _holder(slave) if HELPER.match(first_line(slave / "dm" / "uuid")) else f"/dev/{slave.name}"
    return ""


def _array(walk: _Walk, device: Path) -> None:
    level = LEVELS.get(first_line(device / "md" / "level"))
    if level:
        walk.modules.extend(("md_mod", level))
    if first_line(device / "md" / "metadata_version").startswith("external:"):
        walk.layers.setdefault(Layer("dm", device.name))  # of the firmware: its container comes first, by udev's rules
        return
    uuid = _array_uuid(walk.ctx, device)
    walk.layers.setdefault(Layer("md", uuid))
    if not uuid:
        walk.problems.append(
            f"the array /dev/{device.name} has no UUID that can be seen: neither the kernel nor udev has a record of it"
        )


def _array_uuid(ctx: Context, device: Path) -> str:
    """As mdadm writes it, four groups of eight; the kernel has it as bytes, mdadm's 0.90 has them as numbers."""
    record = udev.read_record(ctx, first_line(device / "dev"))
    if re.fullmatch(r"[0-9a-f]{8}(:[0-9a-f]{8}){3}", record.get("MD_UUID", "")):
        return record["MD_UUID"]
    digits = first_line(device / "md" / "uuid").replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{32}", digits) or digits == "0" * 32:
        return ""
    groups = [digits[i : i + 8] for i in range(0, 32, 8)]
    if first_line(device / "md" / "metadata_version").startswith("0."):
        groups = ["".join(re.findall("..", g)[::-1]) for g in groups]
    return ":".join(groups)


def _disk(walk: _Walk, device: Path) -> None:
    if (device / "loop").is_dir():
        file = first_line(device / "loop" / "backing_file") or "a file"
        walk.problems.append(
            f"/dev/{device.name} is a loop device on {file}, which isn't there after a crash; set path = to a "
            "directory on a disk's own file system"
        )
    elif NETWORK.search(f"{device}/"):
        walk.problems.append(
            f"/dev/{device.name} is reached over the network, which a capture does not set up; set path = to a "
            "directory on a disk of this machine"
        )
    walk.drivers.extend(_drivers(device))


def _drivers(device: Path) -> list[str]:
    """Drivers of a disk and all that it hangs on, outermost bus first."""
    chain = []
    for parent in (device, *device.parents):
        link = parent / "driver"
        if link.is_symlink():
            chain.append(_module(link))
        if re.fullmatch(r"nvme-subsys\d+", parent.name):
            # A namespace with several paths belongs to no controller; the subsystem has links to all of them.
            for path in sorted(parent.glob("nvme*")):
                if re.fullmatch(r"nvme\d+", path.name) and path.is_symlink():
                    chain.extend(reversed(_drivers(path.resolve())))
    return chain[::-1]


def _module(link: Path) -> str:
    """Name of a driver's module; one that is built in has none, or one that says so little that `?` is due."""
    module = link.resolve() / "module"
    return module.resolve().name if module.is_symlink() else f"{link.resolve().name}?"


def _order(drivers: list[str]) -> tuple[str, ...]:
    """Each once; the disk driver of SCSI last, since no chain shows it where it is built in."""
    names = [d.replace("-", "_") for d in drivers]
    unique = tuple(dict.fromkeys(n for n in names if n.rstrip("?") not in PSEUDO))
    if any(n.rstrip("?") in ("sd", "sd_mod") for n in names):
        unique = (*(n for n in unique if n.rstrip("?") != "sd_mod"), "sd_mod")
    return unique


def first_line(path: Path) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - os.PathLike, read at once
            return file.readline(4096).strip()
    except OSError:
        return ""


def is_block(path: Path) -> str | None:
    """MAJOR:MINOR of a device node."""
    try:
        device = path.stat().st_rdev
    except OSError:
        return None
    return f"{os.major(device)}:{os.minor(device)}" if device else None
