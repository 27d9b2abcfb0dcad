"""LUKS headers, read in Python so that no program has to run.

On-disk formats: cryptsetup's docs/on-disk-format.pdf (LUKS1) and docs/on-disk-format-luks2.pdf.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass
from typing import Any

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError

MAGIC, SECOND_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
BINARY = 4096  # bytes of a LUKS2 header before its JSON
SIZES = tuple(0x4000 << n for n in range(9))  # 16 KiB to 4 MiB, all that LUKS2 allows
CHECKSUM = slice(448, 512)
LARGEST_MEMORY = 1 << 32  # KiB; no more than 4 GiB is what cryptsetup takes, so this is no header of its own
UNATTENDED: dict[str, tuple[str, ...]] = {
    "systemd-tpm2": ("tpm2-pin",),
    "systemd-fido2": ("fido2-clientPin-required", "fido2-up-required", "fido2-uv-required"),
}
"""Tokens that cryptsetup opens by itself, and what in them asks for somebody who types or touches."""


@dataclass(frozen=True)
class Header:
    uuid: str
    version: int
    argon2_kib: int = 0
    """Of the key slot that needs most."""
    tokens: tuple[str, ...] = ()
    """Types of all tokens."""
    unattended: bool = False
    """Whether one of them opens the volume without anybody."""


class HeaderError(Exception):
    """Why this is no LUKS header, in a few words."""


def read_header(ctx: Context, device: str) -> Header:
    """The header at the start of DEVICE. Raises PermissionError where only root may read it, HeaderError else."""
    try:
        handle = os.open(ctx.path(device), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        raise
    except (OSError, KdumpError) as error:
        raise HeaderError(f"{device} can't be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return _parse(handle)
    except PermissionError:
        raise
    except OSError as error:
        raise HeaderError(f"{device} can't be read: {error.strerror}") from None
    except HeaderError as error:
        raise HeaderError(f"{device}: {error}") from None
    finally:
        os.close(handle)


def _parse(handle: int) -> Header:
    start = os.pread(handle, BINARY, 0)
    if start[:6] == MAGIC and start[6:8] == b"\0\1" and len(start) >= 592:
        return Header(_text(start[168:208]), 1)
    copies = [copy for copy in (_copy(handle, 0, MAGIC), *_seconds(handle, start)) if copy is not None]
    if not copies:
        raise HeaderError("no sound LUKS header on it" if start[:6] == MAGIC else "no LUKS header on it")
    _, head, area = max(copies, key=lambda copy: copy[0])
    return _version2(head, area)


def _seconds(handle: int, start: bytes) -> list[tuple[int, bytes, bytes] | None]:
    """The second copy, where the first says that it is; all places that are allowed only if the first is damaged."""
    size = int.from_bytes(start[8:16], "big") if start[:6] == MAGIC else 0
    return [_copy(handle, offset, SECOND_MAGIC) for offset in ((size,) if size in SIZES else SIZES)]


def _copy(handle: int, offset: int, magic: bytes) -> tuple[int, bytes, bytes] | None:
    """Sequence number, binary part and JSON of one copy whose checksum fits."""
    head = os.pread(handle, BINARY, offset)
    if len(head) < BINARY or head[:8] != magic + b"\0\2":
        return None
    size, number = struct.unpack_from(">QQ", head, 8)
    algorithm = _text(head[72:104])
    if size not in SIZES or algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
        return None
    area = os.pread(handle, size - BINARY, offset + BINARY)
    digest = hashlib.new(algorithm, head[: CHECKSUM.start] + bytes(64) + head[CHECKSUM.stop :] + area).digest()
    return (number, head, area) if head[CHECKSUM][: len(digest)] == digest else None


def _version2(head: bytes, area: bytes) -> Header:
    try:
        value = json.loads(area.split(b"\0", 1)[0])
    except (ValueError, RecursionError):
        raise HeaderError("the LUKS2 header holds no JSON") from None
    memory = [
        kdf.get("memory")
        for kdf in (_dict(slot.get("kdf")) for slot in _members(value, "keyslots"))
        if kdf.get("type") in ("argon2i", "argon2id")
    ]
    sane = [m for m in memory if isinstance(m, int) and 0 < m <= LARGEST_MEMORY]
    tokens = _members(value, "tokens")
    types = tuple(t["type"] for t in tokens if isinstance(t.get("type"), str))
    return Header(_text(head[168:208]), 2, max(sane, default=0), types, any(map(_unattended, tokens)))


def _unattended(token: dict[str, Any]) -> bool:
    kind = token.get("type")
    return isinstance(kind, str) and kind in UNATTENDED and not any(token.get(key) for key in UNATTENDED[kind])


def _members(value: object, name: str) -> list[dict[str, Any]]:
    return [_dict(member) for member in _dict(_dict(value).get(name)).values()]


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("ascii", "replace")
