"""Fake machines' disks: what mountinfo, sysfs and udev would show of a stack, as a tree for `make_tree`.

Names, links and formats are those that a kernel 7.2 with systemd's udev, mdadm, cryptsetup and lvm2 showed in a virtual
machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes import Entry, FakeRunner, Link, LiveContext, make_tree

VIRTUAL = "/sys/devices/virtual/block"


@dataclass
class Disks:
    """Built from the disk up; `context` writes it all down."""

    tree: dict[str, Entry] = field(default_factory=dict)
    mounts: list[tuple[str, str]] = field(default_factory=list)
    """Point and line."""
    homes: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, str] = field(default_factory=dict)

    def disk(self, name: str = "vda", **record: str) -> str:
        """A virtio disk; the keywords are properties that udev has of it (UUID for ID_FS_UUID and so on)."""
        place = f"/sys/devices/pci0000:00/0000:00:{len(self.homes) + 4:02x}.0"
        number = len(self.homes)
        self.driver(place, "pci", "virtio-pci", "virtio_pci")
        self.driver(f"{place}/virtio{number}", "virtio", "virtio_blk", "virtio_blk")
        return self.block(name, f"{place}/virtio{number}/block/{name}", **record)

    def part(self, disk: str, number: int = 1, **record: str) -> str:
        """A partition of it."""
        name = f"{disk}p{number}" if disk[-1].isdigit() else f"{disk}{number}"
        self.tree[f"{self.homes[disk]}/{name}/partition"] = f"{number}\n"
        return self.block(name, f"{self.homes[disk]}/{name}", ID_PART_ENTRY_NUMBER=str(number), **record)

    def array(self, name: str, slaves: Sequence[str], uuid: str, level: str = "raid1", **record: str) -> str:
        """An md array; UUID as the kernel writes it."""
        home = f"{VIRTUAL}/{name}"
        self.tree |= {f"{home}/md/uuid": f"{uuid}\n", f"{home}/md/level": f"{level}\n"}
        self.tree[f"{home}/md/metadata_version"] = "1.2\n"
        return self._over(name, home, slaves, record)

    def mapped(self, name: str, slaves: Sequence[str], mapping: str, uuid: str, **record: str) -> str:
        """A device mapper device dm-N with the name and UUID that its maker gave it."""
        home = f"{VIRTUAL}/{name}"
        self.tree |= {f"{home}/dm/uuid": f"{uuid}\n", f"{home}/dm/name": f"{mapping}\n"}
        self.tree[f"/dev/mapper/{mapping}"] = Link(f"../{name}")
        return self._over(name, home, slaves, record)

    def luks(
        self, name: str, slave: str, uuid: str, mapping: str = "secret", kind: str = "LUKS2", **record: str
    ) -> str:
        return self.mapped(name, [slave], mapping, f"CRYPT-{kind}-{uuid.replace('-', '')}-{mapping}", **record)

    def btrfs(self, uuid: str, devices: Sequence[str]) -> None:
        """The kernel's list of the members of a mounted file system."""
        for name in devices:
            place = f"/sys/fs/btrfs/{uuid}/devices"
            self.tree[f"{place}/{name}"] = Link(os.path.relpath(self.homes[name], place))

    def block(self, name: str, home: str, **record: str) -> str:
        number = f"254:{len(self.homes)}"
        self.homes[name], self.numbers[name] = home, number
        self.tree[f"{home}/dev"] = f"{number}\n"
        self.tree[f"/sys/dev/block/{number}"] = Link(os.path.relpath(home, "/sys/dev/block"))
        self.tree[f"/sys/class/block/{name}"] = Link(os.path.relpath(home, "/sys/class/block"))
        self.tree.setdefault(f"/dev/{name}", b"")
        short = {
            "UUID": "ID_FS_UUID",
            "TYPE": "ID_FS_TYPE",
            "LABEL": "ID_FS_LABEL_ENC",
            "PARTUUID": "ID_PART_ENTRY_UUID",
        }
        short |= {"PARTLABEL": "ID_PART_ENTRY_NAME", "PARTTYPE": "ID_PART_ENTRY_TYPE"}
        lines = [f"E:{short.get(key, key)}={value}\n" for key, value in record.items()]
        self.tree[f"/run/udev/data/b{number}"] = f"I:1234\n{''.join(lines)}G:systemd\nV:1\n"
        return name

    def driver(self, device: str, bus: str, name: str, module: str | None) -> None:
        """A driver, and its module (None: built in without saying of what)."""
        home = f"/sys/bus/{bus}/drivers/{name}"
        self.tree[f"{device}/driver"] = Link(os.path.relpath(home, device))
        if module is None:
            self.tree[home] = None
        else:
            self.tree |= {f"{home}/module": Link(f"../../../../module/{module}"), f"/sys/module/{module}": None}

    def mount(
        self, name: str, point: str, fstype: str = "ext4", *, root: str = "/", options: str = "rw", major: str = ""
    ) -> Disks:
        """NAME mounted on POINT; where it is no block device, MAJOR is its made-up number."""
        above = [i for i, (other, _) in enumerate(self.mounts, 21) if Path(point).is_relative_to(other)]
        parent = max(above, key=lambda i: (len(self.mounts[i - 21][0]), i), default=1)
        source = f"/dev/{name}" if name in self.homes else name
        number = major or self.numbers[name]
        mode = "ro" if "ro" in options.split(",") else "rw"
        words = [str(len(self.mounts) + 21), str(parent), number, _escape(root), _escape(point), f"{mode},relatime"]
        self.mounts.append((point, f"{' '.join(words)} shared:1 - {fstype} {_escape(source)} {options}"))
        self.tree.setdefault(point, None)
        return self

    def context(self, root: Path, more: dict[str, Entry] | None = None) -> LiveContext:
        lines = "".join(f"{line}\n" for _, line in self.mounts)
        make_tree(root, {"/var/crash": None} | self.tree | {"/proc/self/mountinfo": lines} | (more or {}))
        return LiveContext(root=root, runner=FakeRunner())

    def _over(self, name: str, home: str, slaves: Sequence[str], record: dict[str, str]) -> str:
        for slave in slaves:
            self.tree[f"{home}/slaves/{slave}"] = Link(os.path.relpath(self.homes[slave], f"{home}/slaves"))
        return self.block(name, home, **record)


def _escape(text: str) -> str:
    return text.replace("\\", "\\134").replace(" ", "\\040")
