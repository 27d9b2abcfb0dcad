"""Which Arch package has a program, for the remedies that messages give."""

from __future__ import annotations

PACKAGE_OF = {
    "kexec": "kexec-tools",
    "qemu-system-x86_64": "qemu-system-x86",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.ext3": "e2fsprogs",
    "mkfs.ext2": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "btrfs": "btrfs-progs",
    "mkfs.f2fs": "f2fs-tools",
    "mkfs.vfat": "dosfstools",
    "mkfs.exfat": "exfatprogs",
    "lvm": "lvm2",
    "findfs": "util-linux",
    "logger": "util-linux",
    "prlimit": "util-linux",
}


def package_of(program: str) -> str:
    """The package to install for PROGRAM: the one of its name where the table says nothing else."""
    return PACKAGE_OF.get(program, program)
