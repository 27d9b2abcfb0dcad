"""The kernel's last words in pstore: as the kernel shows them, and where systemd-pstore.service has moved them.

One file holds one part of a log, and its first line says of which: `Panic#1 Part3`. Part 1 is the end of the log. EFI
and ERST have room for a kilobyte or two in each, ramoops for all of it in one. What the kernel could not unpack itself
ends in `.enc.z`. systemd puts the parts of EFI and ERST into directories by time and count, and what it makes of them
beside them as dmesg.txt, which we read only where the parts are gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError

NAME = re.compile(r"dmesg-(?P<backend>[a-z][a-z0-9_]*)-(?P<id>[0-9]{1,20})(?P<packed>\.enc\.z)?")
TOGETHER = "dmesg.txt"
HEAD = re.compile(rb"(?P<reason>Panic|Oops|Emergency|Unknown)#(?P<count>[0-9]{1,9}) Part(?P<part>[0-9]{1,9})\n")
CRASHES = frozenset({b"Panic", b"Oops"})
PACKED_ID = re.compile(r"(?P<time>[0-9]{9,11})(?P<part>[0-9]{2})(?P<count>[0-9]{3})")
"""Of EFI's records: efi_pstore_write() in the kernel."""
DEPTH = 3
MOST_FILES = 2000
LARGEST = 1 << 21
"""Bytes of one record, unpacked; ramoops' records have kilobytes."""
MOST_RECORDS = 50
"""The newest; no backend has room for more."""
MOST = 1 << 23
"""Bytes of one log."""
APART = 60
"""Seconds between parts of one log, at most."""


@dataclass(frozen=True)
class Record:
    """One log, put together."""

    time: int
    """Of the crash in seconds since 1970; of its file where the record doesn't tell."""
    text: bytes
    panic: bool
    backend: str

    @property
    def digest(self) -> str:
        """By which it is known again, wherever it has been moved to."""
        return hashlib.sha256(self.text).hexdigest()[:32]


@dataclass(frozen=True)
class _Part:
    backend: str
    time: int
    reason: bytes
    count: int
    number: int
    text: bytes


def read_records(ctx: Context) -> tuple[Record, ...]:
    """Panics and oopses, oldest first; one that another one has whole in it counts as that one."""
    found: dict[str, Record] = {}
    for record in _joined(_parts(ctx)):
        found.setdefault(record.digest, record)
    every = sorted(found.values(), key=lambda one: (one.time, one.panic))[-MOST_RECORDS:]
    return tuple(one for one in every if not any(_holds(other, one) for other in every if other is not one))


def last_line(text: bytes) -> bytes:
    """What a dump of the same crash must have in its log, too; empty where there is nothing to go by."""
    lines = [re.sub(rb"^<[0-9]+>", b"", line).rstrip() for line in text.splitlines()[-400:]]
    stamped = [line for line in lines if re.match(rb"\[ *[0-9]+\.[0-9]{6}\]", line)]
    telling = [line for line in stamped if b"Kernel panic - not syncing" in line or b"end trace" in line]
    return (telling or stamped or [b""])[-1]


def _holds(other: Record, one: Record) -> bool:
    """A panic on an oops is saved after it, with all that was said before."""
    if one.panic or not other.panic or not 0 <= other.time - one.time <= APART:
        return False
    line = last_line(one.text)
    return bool(line) and line in other.text


def _joined(parts: list[_Part]) -> Iterator[Record]:
    """Parts of one log: of one backend, reason and count, and of one time as far as a clock allows."""
    group: list[_Part] = []
    for part in sorted(parts, key=lambda p: (p.backend, p.reason, p.count, p.time, -p.number)):
        first = group[0] if group else part
        same = (part.backend, part.reason, part.count) == (first.backend, first.reason, first.count)
        if not same or part.time - first.time > APART or part.number in {p.number for p in group}:
            yield _record(group)
            group = []
        group.append(part)
    if group:
        yield _record(group)


def _record(group: list[_Part]) -> Record:
    ordered = sorted(group, key=lambda part: -part.number)
    text = b"".join(part.text if part.text.endswith(b"\n") else part.text + b"\n" for part in ordered)
    time = min(part.time for part in group)
    return Record(time, text[-MOST:], group[0].reason == b"Panic", group[0].backend)


def _parts(ctx: Context) -> list[_Part]:
    found: list[_Part] = []
    seen: set[bytes] = set()
    for path, names in _files(ctx):
        name = NAME.fullmatch(path.name)
        if name is None and (path.name != TOGETHER or any(NAME.fullmatch(other) for other in names)):
            continue
        data, time = _read(path)
        if name and name["packed"]:
            data = _unpacked(data)
        for part in _split(data, name, time):
            mark = hashlib.sha256(part.text).digest()
            if mark not in seen:  # the kernel's and systemd's copy of it, where the first was not removed
                seen.add(mark)
                found.append(part)
    return found


def _split(data: bytes, name: re.Match[str] | None, time: int) -> Iterator[_Part]:
    """The parts in a file: one, or those that systemd has put together."""
    heads = list(HEAD.finditer(data))
    if name is not None:
        heads = heads[:1] if heads and heads[0].start() == 0 else []
    packed = PACKED_ID.fullmatch(name["id"]) if name and name["backend"].startswith("efi") else None
    for number, head in enumerate(heads):
        end = heads[number + 1].start() if number + 1 < len(heads) else len(data)
        text = re.sub(rb"dmesg-[a-z0-9_]+-[0-9]+:\n$", b"", data[head.end() : end])
        if head["reason"] in CRASHES and text.strip():
            when = int(packed["time"]) if packed else time
            backend = name["backend"] if name else "together"
            yield _Part(backend, when, head["reason"], int(head["count"]), int(head["part"]), text)


def _unpacked(data: bytes) -> bytes:
    """deflate with a header and without, as kernels have used it; empty for what is neither."""
    for bits in (-15, 15):
        try:
            return zlib.decompressobj(wbits=bits).decompress(data, LARGEST)
        except zlib.error:
            continue
    return b""


def _files(ctx: Context) -> Iterator[tuple[Path, list[str]]]:
    """Each file with the names beside it."""
    count = 0
    for place in (paths.PSTORE, paths.PSTORE_ARCHIVE):
        try:
            top = ctx.path(place)
        except KdumpError:  # a loop of links
            continue
        for directory, names, files in os.walk(top):
            for name in sorted(files):
                if NAME.fullmatch(name) or name == TOGETHER:
                    count += 1
                    if count > MOST_FILES:
                        return
                    yield Path(directory, name), files
            names.sort(reverse=True)  # the newest first: there may be more than we look at
            if len(Path(directory).relative_to(top).parts) >= DEPTH:
                names.clear()


def _read(path: Path) -> tuple[bytes, int]:
    """Content and time of a small regular file; empty when it is anything else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b"", 0
    try:
        facts = os.fstat(fd)
        return (os.read(fd, LARGEST), int(facts.st_mtime)) if stat.S_ISREG(facts.st_mode) else (b"", 0)
    except OSError:
        return b"", 0
    finally:
        os.close(fd)
