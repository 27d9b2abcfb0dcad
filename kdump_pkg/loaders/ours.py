"""Whether an entry starts this system: by its root, its machine ID, and what snapshots and live images look like."""

from __future__ import annotations

import re

from kdump_pkg import parameters
from kdump_pkg.model.bootloader import Surroundings

SNAPSHOT = re.compile(r"(?:^|[=/,@])\.?(?:snapshots?|timeshift-btrfs)/|[/@.](?:snapshots|snapper)\b")
IMAGE = ("archisobasedir", "archisodevice", "archisolabel", "img_dev", "img_loop", "findiso", "iso-scan/filename")


def foreign(around: Surroundings, cmdline: str, *, machine_id: str = "", kernel: str = "") -> str | None:
    """Why an entry is none of this system, in a few words; None for one that is.

    MACHINE_ID is the one that the entry names, KERNEL the file that it starts; both may be unknown.
    """
    if machine_id and around.machine_id and machine_id != around.machine_id:
        return "it starts another system"
    if "memtest" in kernel.lower():
        return "it starts no Linux"
    given = parameters.by_name(cmdline)
    if any(name in given for name in IMAGE):
        return "it starts an installation image"
    root, flags = given.get("root"), given.get("rootflags", "")
    own = parameters.by_name(around.cmdline or "") if around.live else {}
    if SNAPSHOT.search(flags) and flags != own.get("rootflags"):  # after a rollback, a snapshot is this system
        return "it starts a snapshot"
    if root is None:
        return "it names no root" if "root" in own else None
    known = {_plain(one) for one in around.roots}
    comparable = around.live or _kind(root) in map(_kind, known)  # elsewhere /etc/fstab names it in one way only
    if known and comparable and _plain(root) not in known:
        return f"its root is another one, root={root}"
    return None


def _plain(root: str) -> str:
    """One spelling for what means the same: UUIDs in either case, by-uuid links."""
    for directory, tag in (("uuid", "UUID"), ("partuuid", "PARTUUID"), ("label", "LABEL"), ("partlabel", "PARTLABEL")):
        root = root.replace(f"/dev/disk/by-{directory}/", f"{tag}=")
    return root.lower() if root.upper().startswith(("UUID=", "PARTUUID=")) else root


def _kind(root: str) -> str:
    tag, equals, _ = _plain(root).partition("=")
    return tag.upper() if equals else ""
