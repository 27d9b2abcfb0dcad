"""The one writer of initramfs archives: cpio in the newc format, pure, same input same bytes.

The format: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DIRECTORY = 0o040755
TYPE = 0o170000


@dataclass(frozen=True)
class File:
    name: str
    """Path inside the archive; a slash before it changes nothing."""
    data: bytes
    mode: int = 0o644
    """Permissions; with `DIRECTORY`'s type in it, it is a directory."""


def archive(files: Iterable[File]) -> bytes:
    """An archive of these files, each directory above them put in before it is needed."""
    entries: dict[str, tuple[int, bytes]] = {}
    for file in files:
        name = file.name.lstrip("/")
        parts = name.split("/")
        for depth in range(1, len(parts)):
            entries.setdefault("/".join(parts[:depth]), (DIRECTORY, b""))
        entries[name] = (file.mode if file.mode & TYPE else 0o100000 | file.mode, file.data)
    entries["TRAILER!!!"] = (0, b"")
    whole = b"".join(_entry(number, name, *rest) for number, (name, rest) in enumerate(entries.items(), 1))
    return whole + b"\0" * (-len(whole) % 512)


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)
