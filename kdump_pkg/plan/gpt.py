"""The partition table of a scratch disk, pure: a GPT with one partition, found inside the machine by its name.

UEFI specification, chapter 5: a protective MBR, header and entries at the start, entries and header again at the end.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

SECTOR = 512
START = 2048
"""First sector of the partition: 1 MiB, as everybody aligns it."""
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_ENTRIES, _ENTRY = 128, 128
_TABLE = _ENTRIES * _ENTRY // SECTOR
LONGEST_NAME = 36  # UTF-16 units


@dataclass(frozen=True)
class Partition:
    """What is written of it: its place is always the same."""

    name: str
    """PARTLABEL."""
    unique: uuid.UUID
    """PARTUUID."""
    kind: uuid.UUID = LINUX


@dataclass(frozen=True)
class Table:
    head: bytes
    """The first sectors of the disk."""
    tail: bytes
    """Its last ones."""


def table(mib: int, partition: Partition) -> Table:
    """The table of a disk of so many MiB, all of it but the first and the last one being the partition."""
    sectors = mib << 11
    last = sectors - START - 1
    name = partition.name.encode("utf-16-le")[: 2 * LONGEST_NAME]
    entry = struct.pack("<16s16sQQQ72s", partition.kind.bytes_le, partition.unique.bytes_le, START, last, 0, name)
    entries = entry.ljust(_ENTRIES * _ENTRY, b"\0")
    first = _header(1, sectors - 1, 2, sectors, entries, partition)
    second = _header(sectors - 1, 1, sectors - 1 - _TABLE, sectors, entries, partition)
    return Table(_protective(sectors) + first + entries, entries + second)


def _header(here: int, other: int, entries_at: int, sectors: int, entries: bytes, partition: Partition) -> bytes:
    disk = uuid.uuid5(partition.unique, "disk")
    usable = (2 + _TABLE, sectors - _TABLE - 2)

    def fields(crc: int) -> bytes:
        return struct.pack(
            "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, here, other, *usable, disk.bytes_le, entries_at,
            _ENTRIES, _ENTRY, zlib.crc32(entries),
        )  # fmt: skip

    return fields(zlib.crc32(fields(0))).ljust(SECTOR, b"\0")


def _protective(sectors: int) -> bytes:
    """One partition of type EE over all of it, so that nothing that knows no GPT takes the disk for empty."""
    record = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    return b"\0" * 446 + record + b"\0" * 48 + b"\x55\xaa"
