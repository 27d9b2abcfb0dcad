"""What udev knows of a block device: its record in /run/udev/data, which any user may read at no cost."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kdump_pkg.context import Context

ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
"""GPT type of an EFI system partition, UEFI specification, table of defined GPT partition entry types."""
XBOOTLDR_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"
"""That of an extended boot loader partition, Discoverable Partitions Specification."""
KEYS = {"UUID": "ID_FS_UUID", "LABEL": "ID_FS_LABEL_ENC", "PARTUUID": "ID_PART_ENTRY_UUID"}
KEYS |= {"PARTLABEL": "ID_PART_ENTRY_NAME"}


def read_record(ctx: Context, number: str) -> dict[str, str]:
    """Properties of the device MAJOR:MINOR; empty where udev does not run."""
    text = ctx.read_text(f"/run/udev/data/b{number}") if re.fullmatch(r"\d+:\d+", number) else None
    lines = (line[2:].partition("=") for line in (text or "").splitlines() if line.startswith("E:"))
    return {key: value for key, _, value in lines}


def read_links(ctx: Context, number: str) -> list[str]:
    """What udev calls it: /dev/disk/by-uuid/…, /dev/mapper/…, /dev/GROUP/VOLUME; none where udev does not run."""
    text = ctx.read_text(f"/run/udev/data/b{number}") if re.fullmatch(r"\d+:\d+", number) else None
    return [f"/dev/{line[2:]}" for line in (text or "").splitlines() if line.startswith("S:")]


def records(ctx: Context) -> Iterator[tuple[str, dict[str, str]]]:
    """Number and properties of every block device."""
    for name in ctx.names("/run/udev/data"):
        if name.startswith("b"):
            yield name[1:], read_record(ctx, name[1:])


def find(ctx: Context, kind: str, value: str) -> str | None:
    """MAJOR:MINOR of the device whose KIND (UUID, LABEL, PARTUUID, PARTLABEL) is VALUE; a UUID in any case."""
    key, wanted = KEYS[kind], value if kind.endswith("LABEL") else value.lower()
    for number, record in records(ctx):
        text = record.get(key, "")
        if (decode(text) if kind.endswith("LABEL") else text.lower()) == wanted:
            return number
    return None


def decode(text: str) -> str:
    r"""udev writes what is not plain as \x20."""
    return re.sub(
        rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode("utf-8", "surrogateescape")
    ).decode("utf-8", "surrogateescape")
