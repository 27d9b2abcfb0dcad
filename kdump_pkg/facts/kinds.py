"""Which file systems a capture can save to, and what to say of the others."""

from __future__ import annotations

DISK_TYPES = frozenset({"ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs", "vfat", "exfat"})
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "gfs2",
     "ocfs2", "lustre", "orangefs", "virtiofs", "davfs", "fuse.davfs2", "fuse.rclone", "fuse.s3fs", "ncpfs"}
)  # fmt: skip
NO_TOOL = {"zfs", "bcachefs", "zfs_member"}
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})
IMAGES = frozenset({"squashfs", "erofs", "iso9660", "udf", "cramfs"})


def unsupported(fstype: str, where: str, remedy: str) -> str:
    """Why dumps can't be saved to WHERE, and what to do about it."""
    start = f"dumps can't be saved to {fstype} on {where}"
    if fstype == "swap":
        return f"{start}: that is swap space; {remedy}"
    if fstype in NO_TOOL:
        name = fstype.removesuffix("_member")
        supported = "ext4, xfs, btrfs, f2fs and vfat are supported"
        return f"{start}: there is no tool for {name} in the capture image ({supported}); {remedy} or add a [target]"
    reason = ""
    if fstype in NETWORK:
        reason = ": it is remote only, and a capture sets up no network"
    elif fstype == "fuse" or fstype.startswith(("fuse.", "fuseblk")):
        reason = ": a program would have to run for it"
    elif fstype in MEMORY:
        reason = ": it is gone after a crash"
    elif fstype in IMAGES:
        reason = ": nothing can be written there"
    return f"{start}{reason}; {remedy}"
