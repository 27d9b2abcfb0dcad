"""The command lines in a grub.cfg that grub-mkconfig made, and which of them its variables reach."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kdump_pkg.model.bootloader import ResultLine

SECTION = re.compile(r"### (BEGIN|END) (?:\S*/)?grub\.d/(\S+) ###")
ENTRY = re.compile(r"""(?:menuentry|submenu)\s+(?:'((?:[^']|'\\'')*)'|"((?:[^"\\]|\\.)*)"|(\S+))""")
LINUX = re.compile(r"linux(?:efi|16)?\s+(\S+)\s*(.*)")
OTHERS = {
    "30_os-prober": "it starts another system",
    "41_snapshots-btrfs": "it starts a snapshot",
}
"""Sections in which no variable of /etc/default/grub is for us."""


def generated(data: bytes) -> bool:
    """Whether grub-mkconfig made it; else somebody wrote it, or it is a stub that loads another one."""
    return b"### BEGIN /" in data and b"grub.d/" in data


def read(data: bytes) -> tuple[ResultLine, ...]:
    """All kernels with their command lines.

    Those that GRUB_CMDLINE_LINUX_DEFAULT doesn't reach are foreign: recovery entries too, which get GRUB_CMDLINE_LINUX
    alone and boot without it.
    """
    return tuple(_lines(data.decode("utf-8", "replace")))


def _lines(text: str) -> Iterator[ResultLine]:
    section, recovery = "", False
    blocks: list[str] = []  # titles of the menus and entries that are open; empty for what is neither
    for line in map(str.strip, text.splitlines()):
        if marked := SECTION.fullmatch(line):
            section = marked[2] if marked[1] == "BEGIN" else ""
            blocks.clear()
        elif line.endswith("{") and not line.startswith("#"):
            blocks.append(_title(line))
            recovery = "-recovery-" in line if line.startswith("menuentry") else recovery
        elif line == "}":
            del blocks[-1:]
        elif found := LINUX.fullmatch(line):
            title = " > ".join(filter(None, blocks)) or found[1]
            foreign = _foreign(section, found[1])
            if "single" in found[2].split() or recovery:
                foreign = foreign or "it is for recovery"
            yield ResultLine(title, found[2], foreign)


def _title(line: str) -> str:
    found = ENTRY.match(line)
    if not found:
        return ""
    return (found[1] or "").replace("'\\''", "'") or found[2] or found[3] or ""


def _foreign(section: str, kernel: str) -> str | None:
    if section in OTHERS:
        return OTHERS[section]
    if "memtest" in kernel:
        return "it starts no Linux"
    if "linux" not in section:
        return f"it is from /etc/grub.d/{section}" if section else "it was written by hand"
    return None
