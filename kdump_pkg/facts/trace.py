"""What a capture that could save nothing left behind, and the block on the disk where it may leave it.

One line, `kdump-pkg 1 TIME RELEASE TEXT`, in an EFI variable, in pstore's user messages or in the record. Any user can
write to pstore and a disk can hold anything, so what doesn't look exactly like that line is not there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import storage
from kdump_pkg.model import Config, Target, TargetWish, Trace, TraceRecord

KEEP = 20
LINE = re.compile(rb"kdump-pkg 1 ([0-9]{1,11}) ([A-Za-z0-9._+-]{1,64}) ([\x20-\x7e]{1,400})")
PMSG = re.compile(rb"kdump-pkg-trace: (?=kdump-pkg 1 )")
EFI, PSTORE, RECORD = "EFI variable", "pstore", "record"

HEADER = re.compile(rb"kdump-pkg record ([0-9a-f]{32})\n\0*")
BLOCK = 512
RECORD_SIZE = 4096
RECORD_TYPES = frozenset({"ext4", "ext3", "ext2", "xfs", "vfat"})
"""File systems that write a block in its place: on the others it is somewhere else after the next write."""
GOOD_FLAGS = 0x1 | 0x1000  # FIEMAP_EXTENT_LAST, _MERGED; any other says that the bytes are not simply there
LARGEST = 1 << 24  # bytes of one file of pstore


def read_traces(ctx: Context) -> tuple[Trace, ...]:
    """All that is known of captures that failed, oldest first, collected or not."""
    return merged(read_collected(ctx), read_lying(ctx))


def read_collected(ctx: Context) -> tuple[Trace, ...]:
    """Those of earlier boots, from our own list; what is damaged in it is left out."""
    entries = ctx.read_record(paths.TRACES).get("traces")
    found = (_from_json(entry) for entry in (entries if isinstance(entries, list) else []))
    return merged((), (trace for trace in found if trace is not None))


def read_lying(ctx: Context) -> tuple[Trace, ...]:
    """Those that lie where the capture left them."""
    found = [*_first(read_efi(ctx), EFI), *_first(read_record_line(ctx), RECORD)]
    for path in _pmsg_files(ctx):
        data = _read(path)
        starts = [m.end() for m in PMSG.finditer(data)][-KEEP:]
        found += [trace for start in starts for trace in _first(data[start : start + BLOCK], PSTORE)]
    return merged((), found)


def merged(old: Iterable[Trace], new: Iterable[Trace]) -> tuple[Trace, ...]:
    """The last ones, by time; one that was found in two places counts once."""
    unique: dict[tuple[int, str, str], Trace] = {}
    for trace in (*old, *new):
        unique.setdefault((trace.time, trace.release, trace.text), trace)
    return tuple(sorted(unique.values(), key=lambda t: (t.time, t.release, t.text))[-KEEP:])


def read_efi(ctx: Context) -> bytes:
    """Content of our EFI variable without its attributes; empty where there is none."""
    return _read(_path(ctx, paths.EFI_TRACE))[4:]


def read_record_line(ctx: Context) -> bytes:
    """What was written into the record since it was blank; empty where nothing was."""
    data = _read(_path(ctx, paths.RECORD))
    return data[BLOCK : 2 * BLOCK].rstrip(b"\0") if HEADER.match(data) else b""


def read_record(ctx: Context) -> TraceRecord | None:
    """The record and its place on the device; None where it is missing or has no place that can be relied on."""
    mark = HEADER.match(_read(_path(ctx, paths.RECORD)))
    home = _home(ctx) if mark else None
    if mark is None or home is None:
        return None
    found = fs.extents(_path(ctx, paths.RECORD)) or ()
    if len(found) != 1:
        return None
    one = found[0]
    if one.logical or one.length < RECORD_SIZE or not one.physical or one.flags & ~GOOD_FLAGS:
        return None
    return TraceRecord(home.device, one.physical, mark[1].decode())


def record_is_missing(ctx: Context) -> bool:
    """Whether a record could be made and isn't there. One whose place can't be had is there: a second is no better."""
    if HEADER.match(_read(_path(ctx, paths.RECORD))):
        return False
    return _home(ctx) is not None


def _home(ctx: Context) -> Target | None:
    """The file system that holds our state, where a block of it has a place; None in another root.

    It has to be seen mounted: in a chroot the one that fstab names may be another one than what is written to.
    """
    if not ctx.live:
        return None
    home = storage.read_targets(ctx, Config(targets=(TargetWish("root", paths.STATE),)))[0]
    named = home.device.startswith("UUID=") and home.mounted != ""
    good = home.problem is None and home.fstype in RECORD_TYPES and named
    return home if good else None


def _first(data: bytes, source: str) -> Iterator[Trace]:
    found = LINE.match(data)
    if found:
        yield Trace(int(found[1]), found[2].decode(), found[3].decode().rstrip(), source)


def _from_json(entry: object) -> Trace | None:
    if not isinstance(entry, dict):
        return None
    time, release, text, source = (entry.get(key) for key in ("time", "release", "text", "source"))
    if not (isinstance(time, int) and isinstance(release, str) and isinstance(text, str)):
        return None
    trace = Trace(time, release, text, source if source in (EFI, PSTORE, RECORD) else "unknown")
    line = f"kdump-pkg 1 {time} {release} {text}".encode("utf-8", "replace")
    return trace if [trace] == list(_first(line, trace.source)) else None


def _pmsg_files(ctx: Context) -> Iterator[Path]:
    """pstore itself, and where systemd-pstore.service moves it to, a directory or two deep."""
    for top in (_path(ctx, paths.PSTORE), _path(ctx, paths.PSTORE_ARCHIVE)):
        for directory, names, files in os.walk(top):
            yield from (Path(directory, name) for name in sorted(files) if name.startswith("pmsg"))
            names.sort()
            if len(Path(directory).relative_to(top).parts) >= 3:
                names.clear()


def _path(ctx: Context, name: str) -> Path:
    """Not through a link in the last place: none of these has a reason to be one."""
    try:
        return ctx.path(name, follow=False)
    except KdumpError:  # a loop of links above it
        return Path(os.devnull)


def _read(path: Path) -> bytes:
    """A small regular file; empty when it is anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, LARGEST) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)
