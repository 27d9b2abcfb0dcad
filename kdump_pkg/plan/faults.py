"""Faults that a rehearsal can build into its targets, pure: what tests ask for, and what lies on a disk beforehand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kdump_pkg.cpio import File
from kdump_pkg.errors import KdumpError

DIRECTORY = 0o040700
UNITS = {"K": 10, "M": 20, "G": 30}
LEFT_WHEN_FULL = 2 << 20


@dataclass(frozen=True)
class Faults:
    """By the number of the target that is hit, 1 being the first."""

    missing: frozenset[int] = frozenset()
    """Its disks are not there."""
    readonly: frozenset[int] = frozenset()
    """Its disks refuse to be written to."""
    room: Mapping[int, int] = field(default_factory=dict)
    """Bytes that are left on it."""
    dumps: Mapping[int, int] = field(default_factory=dict)
    """Number of older dumps on it."""


def parse(words: tuple[str, ...]) -> Faults:
    """`missing:1`, `ro:1`, `full:1`, `room:1:40M`, `dumps:1:3`."""
    missing, readonly, room, dumps = set(), set(), {}, {}
    for word in words:
        found = re.fullmatch(r"(missing|ro|full|room|dumps):(\d+)(?::(\d+)([KMG]?))?", word)
        if found is None or (found[1] in ("room", "dumps")) != (found[3] is not None):
            raise KdumpError(f"{word}: not a fault", hint="missing:1, ro:1, full:1, room:1:40M or dumps:1:3")
        number, amount = int(found[2]), int(found[3] or 0) << UNITS.get(found[4] or "", 0)
        match found[1]:
            case "missing":
                missing.add(number)
            case "ro":
                readonly.add(number)
            case "full":
                room[number] = LEFT_WHEN_FULL
            case "room":
                room[number] = amount
            case _:
                dumps[number] = amount
    return Faults(frozenset(missing), frozenset(readonly), room, dumps)


def old_dumps(directory: str, count: int, release: str) -> list[File]:
    """Complete dumps of years ago below DIRECTORY, oldest first."""
    files = []
    for number in range(count):
        name = f"2020-01-01T{number // 60:02}-{number % 60:02}-00Z-{release}"
        home = f"{directory}/{name}"
        meta = f"format=1\nrelease={release}\ncrash_time=1577836800\nresult=complete\n"
        files.append(File(home, b"", DIRECTORY))
        contents = {"meta": meta.encode(), "save.log": b"old\n", "dmesg.txt": b"old\n", "vmcore": b"KDUMP   " * 8192}
        files += [File(f"{home}/{part}", data, 0o600) for part, data in contents.items()]
    return files
