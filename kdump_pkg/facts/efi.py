"""UEFI variables: which boot loader this boot came through, which entry of the firmware it was, Secure Boot.

Firmware writes them, and so does anyone with root: every length is checked, and what can't be read is not there.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.model.bootloader import Firmware, NvramEntry

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOADER = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
"""Vendor of the variables of the Boot Loader Interface (systemd.io/BOOT_LOADER_INTERFACE)."""
ATTRIBUTES = 4  # bytes that efivarfs puts before a variable's data

MEDIA, DISK, FILE, END = 4, 1, 4, 0x7F  # types and subtypes of device path nodes, UEFI specification, section 10.3
DISK_NODE = struct.Struct("<4xI16x16sBB")
BY_MBR, BY_GUID = 1, 2  # what a disk's signature is


def read_firmware(ctx: Context) -> Firmware:
    """For the running system only: the variables of a root that doesn't run are nobody's."""
    if not ctx.path(paths.EFI_VARIABLES).is_dir():
        return Firmware()
    secure, setup = (_read(ctx, name, GLOBAL) for name in ("SecureBoot", "SetupMode"))
    return Firmware(
        efi=True,
        loader_info=_text(ctx, "LoaderInfo"),
        stub_info=_text(ctx, "StubInfo"),
        selected=_text(ctx, "LoaderEntrySelected"),
        device=_text(ctx, "LoaderDevicePartUUID").lower(),
        entry=_entry(ctx),
        secure_boot=secure[0] == 1 and setup != b"\1" if secure else None,
    )


def _read(ctx: Context, name: str, vendor: str) -> bytes | None:
    """A variable's data, without its attributes."""
    data = ctx.read_bytes(f"{paths.EFI_VARIABLES}/{name}-{vendor}")
    return data[ATTRIBUTES:] if data is not None and len(data) >= ATTRIBUTES else None


def _text(ctx: Context, name: str) -> str:
    return _utf16(_read(ctx, name, LOADER) or b"") or ""


def _entry(ctx: Context) -> NvramEntry | None:
    """What BootCurrent names: the entry that the firmware started."""
    current = _read(ctx, "BootCurrent", GLOBAL)
    if current is None or len(current) != 2:
        return None
    number = f"{int.from_bytes(current, 'little'):04X}"
    data = _read(ctx, f"Boot{number}", GLOBAL)
    return None if data is None else parse_entry(number, data)


def parse_entry(number: str, data: bytes) -> NvramEntry | None:
    """EFI_LOAD_OPTION: attributes, length of the paths, description, paths, data for what is started."""
    end = next((i for i in range(6, len(data) - 1, 2) if data[i : i + 2] == b"\0\0"), None)
    if end is None:
        return None
    start = end + 2
    rest = start + int.from_bytes(data[4:6], "little")
    nodes = list(_nodes(data[start:rest]))
    if len(data) < rest or b"" in nodes:
        return None
    partition, partuuid = next((_partition(node) for node in nodes if _is(node, DISK)), (0, ""))
    parts = [_utf16(node[4:]) for node in nodes if _is(node, FILE)]
    if None in parts:
        return None
    names = [name for part in parts for name in (part or "").replace("\\", "/").split("/") if name]
    file = "/" + "/".join(names) if names else ""
    return NvramEntry(number, _utf16(data[6:end]) or "", file, partuuid, partition, _arguments(data[rest:]))


def _nodes(chain: bytes) -> Iterator[bytes]:
    """The nodes of the first device path, the one that is started; an empty one stands for what can't be read."""
    while chain and chain[0] != END:
        size = int.from_bytes(chain[2:4], "little")
        if not 4 <= size <= len(chain):
            yield b""
            return
        yield chain[:size]
        chain = chain[size:]


def _is(node: bytes, kind: int) -> bool:
    return node[:2] == bytes((MEDIA, kind)) and (kind != DISK or len(node) == DISK_NODE.size)


def _partition(node: bytes) -> tuple[int, str]:
    """Number and what Linux calls its PARTUUID: of a partition without GPT, the disk's signature and the number."""
    number, signature, _, kind = DISK_NODE.unpack(node)
    if kind == BY_GUID:
        return number, str(uuid.UUID(bytes_le=signature))
    if kind == BY_MBR:
        return number, f"{int.from_bytes(signature[:4], 'little'):08x}-{number:02x}"
    return number, ""


def _arguments(data: bytes) -> str:
    """A command line, as UTF-16 or (efibootmgr without --unicode) ASCII; anything else is none of the kernel's.

    The kernel takes what stands before the first NUL or line feed.
    """
    plain = data.rstrip(b"\0")
    if plain and all(0x20 <= byte < 0x7F or byte in b"\t\n" for byte in plain):
        return plain.decode("ascii").split("\n")[0].strip()
    text = _utf16(data[: len(data) // 2 * 2], "\n") or ""
    known = sum(" " <= letter < "\x7f" for letter in text)  # a GUID or a pointer has hardly any
    return text.strip() if known * 2 >= len(text) else ""


def _utf16(data: bytes, end: str = "\0") -> str | None:
    """Text up to its NUL, or to END; None for what is no text."""
    try:
        text = data.decode("utf-16-le").split("\0")[0].split(end)[0]
    except UnicodeDecodeError:
        return None
    return text if text.replace("\t", " ").isprintable() else None
