"""The scratch disks of a rehearsal, pure: doubles of the targets' storage, and the shell that makes and opens them.

Everything happens inside the virtual machine, with the system's own programs: the host needs no privileges and no loop
devices, and never sees a second volume of the same UUID. The shell here uses the functions of `first_stage`.
"""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Target
from kdump_pkg.plan import gpt
from kdump_pkg.plan.faults import Faults
from kdump_pkg.plan.modules import FILE_SYSTEMS as FILE_SYSTEM_MODULES
from kdump_pkg.plan.modules import LAYERS
from kdump_pkg.plan.tools import BY_LAYER

PASSPHRASE = "kdump-rehearsal"
OUT = "kdump-out"
"""Partition that the dumps are copied to for the host."""
SPARE_MIB = 512
"""What a disk has more than is to be written: room for file systems' own tables and journals."""
LEAST_MIB = {"vfat": 64, "exfat": 64, "ext2": 64, "ext3": 64}
"""Instead of it, on disks with little room: these can only be filled by writing."""


@dataclass(frozen=True)
class FileSystem:
    """How one is made and checked; the device comes last."""

    make: str
    names: tuple[tuple[str, str], ...]
    """By which of its names a target may be known, and what gives that name: options, `{}` being the name."""
    check: str
    """Exits with 0 when the file system is sound; changes nothing."""


# No lazy_*_init: else a thread in the capture kernel writes the tables.
_EXT = "mkfs.{} -q -F -m 0 -i 65536 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0"
_EXT_NAMES = (("UUID", "-U {}"), ("LABEL", "-L {}"))
FILE_SYSTEMS: dict[str, FileSystem] = {
    "ext4": FileSystem(_EXT.format("ext4") + " -J size=8", _EXT_NAMES, "e2fsck -fn"),
    "ext3": FileSystem(_EXT.format("ext3") + " -J size=8", _EXT_NAMES, "e2fsck -fn"),
    "ext2": FileSystem(_EXT.format("ext2"), _EXT_NAMES, "e2fsck -fn"),
    "xfs": FileSystem("mkfs.xfs -q -f -K", (("UUID", "-m uuid={}"), ("LABEL", "-L {}")), "xfs_repair -n"),
    "btrfs": FileSystem("mkfs.btrfs -q -f -K", (("UUID", "-U {}"), ("LABEL", "-L {}")), "btrfs check --readonly"),
    "f2fs": FileSystem("mkfs.f2fs -q -f -t 0", (("UUID", "-U {}"), ("LABEL", "-l {}")), "fsck.f2fs --dry-run"),
    "vfat": FileSystem("mkfs.vfat -F 32", (("UUID", "-i {}"), ("LABEL", "-n {}")), "fsck.vfat -n"),
    "exfat": FileSystem("mkfs.exfat -q", (("LABEL", "-L {}"),), "fsck.exfat -n"),
}


@dataclass(frozen=True)
class Volume:
    """One file system with all that lies below it; several targets may be on it, in different subvolumes."""

    number: int
    targets: tuple[tuple[int, Target], ...]
    """With their numbers in the order in which the capture tries them."""
    mib: int
    """Size of each of its disks."""
    readonly: bool = False

    @property
    def first(self) -> Target:
        return self.targets[0][1]

    @property
    def count(self) -> int:
        """Number of disks."""
        return 2 if any(layer.kind == "md" for layer in self.first.layers) else self.first.devices

    @property
    def partitions(self) -> tuple[gpt.Partition, ...]:
        """One for each disk."""
        kind, _, value = self.first.device.partition("=")
        names = [f"kdump-{self.number}-{disk}" for disk in range(1, self.count + 1)]
        if kind == "PARTLABEL":
            names[0] = value
        unique = [uuid.uuid5(gpt.LINUX, name) for name in names]
        if kind == "PARTUUID":
            unique[0] = uuid.UUID(value)
        type_ = gpt.ESP if self.first.name == "esp" else gpt.LINUX
        return tuple(gpt.Partition(name, own, type_) for name, own in zip(names, unique, strict=True))


def volumes(targets: Sequence[Target], faults: Faults, memory_mib: int) -> tuple[Volume, ...]:
    """The volumes of these targets, those left out that are to be missing. Raises KdumpError for what has no double."""
    groups: dict[object, list[tuple[int, Target]]] = {}
    for number, target in enumerate(targets, 1):
        _check(target)
        groups.setdefault((target.device, target.fstype, target.layers), []).append((number, target))
    found = []
    for number, group in enumerate(groups.values(), 1):
        numbers = {n for n, _ in group}
        if numbers & faults.missing:
            continue
        rooms = [faults.room[n] for n in numbers if n in faults.room]
        spare = LEAST_MIB.get(group[0][1].fstype, SPARE_MIB) if rooms else SPARE_MIB
        mib = spare + (min(rooms) >> 20 if rooms else memory_mib)
        found.append(Volume(number, tuple(group), mib, bool(numbers & faults.readonly)))
    return tuple(found)


def _check(target: Target) -> None:
    system = FILE_SYSTEMS.get(target.fstype)
    if system is None:
        raise KdumpError(f"can't rehearse on {target.fstype}, only on {', '.join(FILE_SYSTEMS)}")
    kind, _, value = target.device.partition("=")
    if kind not in ("PARTUUID", "PARTLABEL", *dict(system.names)):
        raise KdumpError(f"can't rehearse with a {target.fstype} target named {target.device}")
    if kind == "PARTUUID" and not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise KdumpError(f"can't rehearse with a target named {target.device}: it is no partition of a GPT")
    if kind.startswith("PART") and target.layers:
        raise KdumpError(f"{target.device} names a partition, the file system is above {_stack(target)}")
    kinds = [layer.kind for layer in target.layers]
    strange = [k for k in kinds if k not in BY_LAYER]
    if strange:
        raise KdumpError(f"can't rehearse with {strange[0]} below the file system")
    parallel = target.devices > 1 and kinds and kinds != ["crypt"] * target.devices
    if "md" in kinds[1:] or parallel or (target.devices > 1 and target.fstype != "btrfs"):
        raise KdumpError(f"can't rehearse with {target.fstype} on {target.devices} device(s) above {_stack(target)}")
    if "subvolid=" in target.options and not subvolume(target):
        raise KdumpError(f"can't rehearse with {target.options}: numbers of subvolumes can't be chosen, use subvol=")


def _stack(target: Target) -> str:
    return " on ".join(f"{layer.kind}:{layer.name}" for layer in reversed(target.layers)) or "a disk"


def subvolume(target: Target) -> str:
    """Path of the btrfs subvolume that is mounted, without slashes around it; empty for none."""
    words = (word.partition("=") for word in target.options.split(","))
    return next((value.strip("/") for key, _, value in words if key == "subvol"), "")


def programs(found: Sequence[Volume]) -> tuple[str, ...]:
    """What making and opening them needs."""
    names: dict[str, None] = {}
    for volume in found:
        names[FILE_SYSTEMS[volume.first.fstype].make.split()[0]] = None
        if any(subvolume(target) for _, target in volume.targets):
            names["btrfs"] = None
        for layer in volume.first.layers:
            names[BY_LAYER[layer.kind]] = None
    return tuple(names)


def checkers(found: Sequence[Volume]) -> tuple[str, ...]:
    """What would check their file systems afterwards; the rehearsal does without if need be."""
    names = [FILE_SYSTEMS[volume.first.fstype].check.split()[0] for volume in found]
    return tuple(dict.fromkeys([*names, *(["dd"] if "fsck.vfat" in names else [])]))


def modules(found: Sequence[Volume]) -> tuple[str, ...]:
    """What the kernel of the system needs for them besides the disk's driver; `?` after what may be missing."""
    names: list[str] = []
    for volume in found:
        for layer in volume.first.layers:
            names += ["md_mod", "raid1"] if layer.kind == "md" else LAYERS[layer.kind]
        names += FILE_SYSTEM_MODULES[volume.first.fstype]
    return tuple(dict.fromkeys(names))


# --- shell --------------------------------------------------------------------------------------------------------


def find(volume: Volume) -> list[str]:
    """Its partitions into $d1, $d2 …"""
    numbered = enumerate(volume.partitions, 1)
    return [f"part {shlex.quote(p.name)}; d{n}=$node" for n, p in numbered]


def make(volume: Volume, argon2: Mapping[str, int]) -> list[str]:
    """Everything from the partitions up, left open; ARGON2: KiB that checking a volume's passphrase takes."""
    lines, nodes = _layers("make", volume, argon2)
    return [*lines, *_make_file_system(volume, nodes)]


def open_(volume: Volume) -> list[str]:
    """What was made before, opened again and mounted."""
    lines, nodes = _layers("open", volume, {})
    return [*lines, *_mounts(volume, nodes)]


def _layers(verb: Literal["make", "open"], volume: Volume, argon2: Mapping[str, int]) -> tuple[list[str], list[str]]:
    """What makes or opens them from the partitions up, and the nodes that the file system lies on."""
    lines = find(volume)
    nodes = [f'"$d{n}"' for n in range(1, volume.count + 1)]
    for number, layer in enumerate(volume.first.layers):
        if layer.kind == "md":
            lines.append(f"{verb}_md /dev/md{volume.number} {shlex.quote(layer.name)} {' '.join(nodes)}")
            nodes = [f"/dev/md{volume.number}"]
        elif layer.kind == "crypt":
            at = number if len(nodes) > 1 else 0
            lines.append(f"{verb}_crypt {nodes[at]} {shlex.quote(layer.name)} {argon2.get(layer.name, 0)}")
            nodes[at] = _mapper(layer.name)
        else:
            group, _, name = layer.name.partition("/")
            lines.append(f"{verb}_lvm {nodes[0]} {shlex.quote(group)} {shlex.quote(name)}")
            nodes = [_logical(group, name)]
    return lines, nodes


def _make_file_system(volume: Volume, nodes: list[str]) -> list[str]:
    target = volume.first
    system = FILE_SYSTEMS[target.fstype]
    kind, _, value = target.device.partition("=")
    if target.fstype == "vfat" and kind == "UUID":
        value = value.replace("-", "")
    option = dict(system.names).get(kind, "").replace("{}", shlex.quote(value))
    lines = [" ".join(["run", system.make, *([option] if option else []), *nodes])]
    paths = sorted({subvolume(t) for _, t in volume.targets} - {""})
    if paths:
        lines.append(f"attach rw /top {_mount_words(target, nodes, '')}")
        lines += [f"subvolume {shlex.quote(path)}" for path in paths]
        lines.append("run umount /top")
    return [*lines, *_mounts(volume, nodes)]


def _mounts(volume: Volume, nodes: list[str]) -> list[str]:
    lines = [f"device_{volume.number}={nodes[0]}"]
    return lines + [f"use {number} {_mount_words(target, nodes, target.options)}" for number, target in volume.targets]


def _mount_words(target: Target, nodes: list[str], options: str) -> str:
    """File system type, options and device; a btrfs of several devices is told of all of them."""
    words = [shlex.quote(word) for word in options.split(",") if word and word not in ("ro", "rw", "defaults")]
    words += [f"device={node}" for node in nodes[1:]]
    return f"{target.fstype} {','.join(words) or 'defaults'} {nodes[0]}"


def close(volume: Volume) -> list[str]:
    """Unmounted, and its file system checked where the program for that is there."""
    lines = [f"umount /target/{number} 2>/dev/null" for number, _ in volume.targets]
    if volume.first.fstype == "vfat":
        # Nobody takes the mark of the crash away, though nothing need be wrong: byte 65 of a FAT32's first sector.
        lines.append(f"printf '\\0' | dd of=\"$device_{volume.number}\" bs=1 seek=65 conv=notrunc 2>/dev/null")
    return [*lines, f'check {volume.number} {FILE_SYSTEMS[volume.first.fstype].check} "$device_{volume.number}"']


def _mapper(name: str) -> str:
    return f"/dev/mapper/scratch-{name}"


def _logical(group: str, name: str) -> str:
    """As lvm(8) names the node: hyphens inside of names are doubled."""
    return f"/dev/mapper/{group.replace('-', '--')}-{name.replace('-', '--')}"
