"""What is mounted where (mountinfo) and what is to be mounted where (fstab): text in, frozen lines out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from kdump_pkg.context import Context


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo, proc_pid_mountinfo(5)."""

    number: str
    """MAJOR:MINOR, with major 0 where the file system has several devices or none."""
    root: str
    """Directory of the file system that is mounted: not `/` for bind mounts and subvolumes."""
    point: str
    fstype: str
    source: str
    options: str
    """Those of the mount and of the super block, with commas."""
    ident: str = ""
    parent: str = ""

    @property
    def read_only(self) -> bool:
        return "ro" in self.options.split(",")


@dataclass(frozen=True)
class Entry:
    """One usable line of /etc/fstab, fstab(5)."""

    device: str
    point: str
    fstype: str
    options: str
    line: int

    @property
    def where(self) -> str:
        return f"/etc/fstab:{self.line}"

    def option(self, name: str) -> str | None:
        """Value of NAME=VALUE, empty for a bare NAME, None where it isn't there."""
        for word in self.options.split(","):
            key, _, value = word.partition("=")
            if key == name:
                return value
        return None


def read_mounts(ctx: Context) -> tuple[Mount, ...]:
    return parse_mountinfo(ctx.read_text("/proc/self/mountinfo") or "")


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Fields, optional fields up to a dash, type, source, options of the super block."""
    mounts = []
    for line in text.split("\n"):
        left, dash, right = line.partition(" - ")
        fields, rest = left.split(), right.split(" ")
        if dash and len(fields) >= 6 and len(rest) >= 3 and fields[4].startswith("/"):
            point, root, source = (unescape(w) for w in (fields[4], fields[3], rest[1]))
            options = f"{fields[5]},{unescape(rest[2])}"
            mounts.append(Mount(fields[2], root, point, rest[0], source, options, fields[0], fields[1]))
    return tuple(mounts)


def read_fstab(ctx: Context) -> tuple[Entry, ...]:
    data = ctx.read_bytes("/etc/fstab")  # not read_text, which strips empty lines and so the count of lines
    return parse_fstab((data or b"").decode("utf-8", "surrogateescape"))


def parse_fstab(text: str) -> tuple[Entry, ...]:
    """Lines that name a mount point; what is no line of an fstab is skipped, as mount(8) does."""
    entries = []
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith("#") and fields[1].startswith("/"):
            device, point = unescape(fields[0]).replace('"', ""), unescape(fields[1])
            options = unescape(fields[3]) if len(fields) > 3 else ""
            entries.append(Entry(device, point.rstrip("/") or "/", fields[2], options, number))
    return tuple(entries)


def unescape(word: str) -> str:
    r"""Blanks and backslashes are written as \040 and \134 in both files."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda m: chr(int(m[1], 8)), word)


def inside(path: str, point: str) -> bool:
    """Whether PATH is POINT or lies below it."""
    return PurePosixPath(path).is_relative_to(point)


def below(path: str, point: str) -> str:
    """PATH as it is called from POINT, with a slash first."""
    return str(PurePosixPath("/") / PurePosixPath(path).relative_to(point))


def join(top: str, rest: str) -> str:
    """REST, which starts with a slash, below TOP."""
    return str(PurePosixPath(top) / rest.lstrip("/"))


def holding(path: str, mounts: Iterable[Mount]) -> Mount | None:
    """The mount that PATH lies on, found as the kernel walks: what is mounted over hides what it covers."""
    known = {mount.ident for mount in mounts}
    left = [mount for mount in mounts if inside(path, mount.point)]
    tops = [mount for mount in left if mount.parent not in known or mount.parent == mount.ident]
    if not tops:
        return None
    current = max(reversed(tops), key=lambda mount: len(mount.point))
    while True:
        left = [mount for mount in left if mount is not current]
        above = [mount for mount in left if mount.parent == current.ident]
        if not above:
            return current
        current = min(reversed(above), key=lambda mount: len(mount.point))


def entry_for(path: str, entries: Iterable[Entry]) -> Entry | None:
    """The line of fstab that PATH will lie on; the last one of several for one mount point."""
    fitting = [entry for entry in entries if inside(path, entry.point)]
    return max(reversed(fitting), key=lambda entry: len(entry.point)) if fitting else None


def inner_path(mount: Mount, path: str) -> tuple[str, str]:
    """Directory below the top of the file system, and the options that make that top appear.

    btrfs says in `subvol=` which subvolume a mount shows: what its root has beyond that is a directory in it.
    """
    rest = below(path, mount.point)
    subvolume = re.search(r"(?:^|,)subvol=(/[^,]*)", mount.options)
    if mount.fstype != "btrfs" or not subvolume:
        return join(mount.root, rest), ""
    top = subvolume[1]
    more = below(mount.root, top) if inside(mount.root, top) else "/"
    return join(more, rest), f"subvol={top}"


def place_of(inner: str, mounts: Iterable[Mount]) -> str:
    """Where INNER, a directory below the very top of a file system, can be seen through its MOUNTS; else empty."""
    seen = [mount for mount in mounts if inside(inner, mount.root)]
    if not seen:
        return ""
    best = min(seen, key=lambda mount: (mount.read_only, -len(mount.root)))
    return join(best.point, below(inner, best.root))
