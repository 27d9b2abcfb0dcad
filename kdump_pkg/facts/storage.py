"""Where the dumps really go: file system, name that survives a reboot, directory inside it, drivers under it.

On the running system mountinfo and sysfs tell; elsewhere (another root, a chroot on an overlay) /etc/fstab does, and
the hardware stays unknown.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.model import Target

DISK_TYPES = frozenset({"ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs", "vfat", "exfat"})
LAYERS = {"CRYPT": "crypt", "LVM": "lvm", "mpath": "multipath"}


@dataclass(frozen=True)
class Mount:
    point: str
    root: str
    """Directory of the file system that is mounted: not `/` for bind mounts and subvolumes."""
    fstype: str
    source: str
    options: str
    number: str
    """MAJOR:MINOR, with major 0 where the file system has several devices or none."""


def read_target(ctx: Context, path: str) -> Target:
    """The file system that holds PATH; never raises, says what is wrong in `problem`."""
    real = _resolve(ctx, path)
    if ctx.live:
        mount = _holding(real, _mounts(ctx.read_text("/proc/self/mountinfo") or ""))
        if mount is not None and mount.fstype in DISK_TYPES:
            return _mounted(ctx, mount, real)
        if mount is not None and mount.fstype not in ("overlay", "rootfs"):
            return Target("", mount.fstype, real, source=mount.point, problem=_unsupported(mount.fstype, mount.point))
    return _from_fstab(ctx, real)


def _resolve(ctx: Context, path: str) -> str:
    """PATH with the links of its existing part resolved: a linked /var/crash lies where the link leads."""
    return str(PurePosixPath("/") / os.path.relpath(os.path.realpath(ctx.path(path)), ctx.root))


def _mounts(text: str) -> list[Mount]:
    """proc_pid_mountinfo(5): fields, optional fields up to a dash, type, source, options of the super block."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(), right.split(" ")
        if dash and len(fields) >= 6 and len(rest) >= 3:
            point, root, source = (_unescape(w) for w in (fields[4], fields[3], rest[1]))
            mounts.append(Mount(point, root, rest[0], source, rest[2], fields[2]))
    return mounts


def _unescape(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), word)


def _holding(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that PATH lies on: the deepest mount point, the last mounted where there are several."""
    best = None
    for mount in mounts:
        inside = PurePosixPath(path).is_relative_to(mount.point)
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def _mounted(ctx: Context, mount: Mount, path: str) -> Target:
    number = _device_number(ctx, mount)
    uuid = _uuid(ctx, number, mount.source)
    if uuid is None:
        text = f"the file system on {mount.point} ({mount.source}) has no UUID that can be found"
        return Target("", mount.fstype, path, source=mount.point, problem=text)
    inner, options = _inside(mount, path)
    layers, drivers = _stack(ctx, number)
    return Target(f"UUID={uuid}", mount.fstype, inner, options, drivers, layers, source=f"mounted on {mount.point}")


def _inside(mount: Mount, path: str) -> tuple[str, str]:
    """Directory below the top of the file system, and the options that make that top appear (btrfs subvolume)."""
    below = str(PurePosixPath("/") / PurePosixPath(path).relative_to(mount.point))
    subvolume = re.search(r"(?:^|,)subvol=([^,]+)", mount.options)
    if mount.fstype == "btrfs" and subvolume:
        top = subvolume[1]
        rest = mount.root[len(top) :] if mount.root.startswith(top) else ""
        return f"{rest.rstrip('/')}{below}", f"subvol={top}"
    return f"{mount.root.rstrip('/')}{below}", ""


def _device_number(ctx: Context, mount: Mount) -> str:
    if not mount.number.startswith("0:"):
        return mount.number
    try:
        device = ctx.path(mount.source).stat().st_rdev
    except OSError:
        return mount.number
    return f"{os.major(device)}:{os.minor(device)}"


def _uuid(ctx: Context, number: str, source: str) -> str | None:
    """From udev's own record, which any user may read and which costs no program; else from blkid(8)."""
    found = re.search(r"^E:ID_FS_UUID=(\S+)$", ctx.read_text(f"/run/udev/data/b{number}") or "", re.MULTILINE)
    if found:
        return found[1]
    try:
        text = ctx.runner(["blkid", "-o", "value", "-s", "UUID", source], check=False, timeout=20).text.strip()
    except CommandError:
        return None
    return text or None


def _stack(ctx: Context, number: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Layers between file system and disks, and the drivers of all disks, outermost bus first."""
    layers: list[str] = []
    drivers: list[str] = []
    todo = [ctx.path(f"/sys/dev/block/{number}")]
    while todo:
        device = todo.pop().resolve()
        name = _first_line(device / "dm" / "uuid")
        if name:
            layers.append(LAYERS.get(name.split("-")[0], "dm"))
        if (device / "md").is_dir():
            layers.append("md")
        todo.extend(sorted((device / "slaves").glob("*")))
        chain = []
        for parent in (device, *device.parents):
            link = parent / "driver"
            if link.is_symlink():
                module = link.resolve() / "module"
                chain.append((module.resolve() if module.is_symlink() else link.resolve()).name)
        drivers.extend(reversed(chain))
    unique = tuple(dict.fromkeys(d.replace("-", "_") for d in drivers if d not in ("pcieport", "sd")))
    if any(parent in drivers for parent in ("sd", "sd_mod")):
        unique = (*(d for d in unique if d != "sd_mod"), "sd_mod")
    return tuple(dict.fromkeys(layers)), unique


def _first_line(path: os.PathLike[str]) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.readline().strip()
    except OSError:
        return ""


def _from_fstab(ctx: Context, path: str) -> Target:
    mounts = []
    for number, line in enumerate((ctx.read_text("/etc/fstab") or "").splitlines(), 1):
        fields = line.split()
        if len(fields) >= 4 and not fields[0].startswith("#") and fields[1].startswith("/"):
            source, point = _unescape(fields[0]), _unescape(fields[1])
            mounts.append(Mount(point, "/", fields[2], source.replace('"', ""), fields[3], str(number)))
    mount = _holding(path, mounts)
    if mount is None:
        return Target("", "", path, problem=f"nothing says which file system holds {path}: no entry in /etc/fstab fits")
    where = f"/etc/fstab:{mount.number}"
    if mount.fstype not in DISK_TYPES:
        return Target("", mount.fstype, path, source=where, problem=_unsupported(mount.fstype, mount.point))
    if not re.fullmatch(r"(UUID|PARTUUID|LABEL|PARTLABEL)=[A-Za-z0-9._:+-]+", mount.source):
        text = f"{where}: {mount.source} may be another disk after a crash; name it by UUID="
        return Target("", mount.fstype, path, source=where, problem=text)
    subvolume = re.search(r"(?:^|,)(subvol=[^,]+)", mount.options)
    inner = str(PurePosixPath("/") / PurePosixPath(path).relative_to(mount.point))
    return Target(mount.source, mount.fstype, inner, subvolume[1] if subvolume else "", None, (), source=where)


def _unsupported(fstype: str, point: str) -> str:
    return f"dumps can't be saved to {fstype} on {point}; set path = to a directory on a disk's own file system"
