"""What a dump holds of the crashed system in files: its log, its `meta`, its report; and what this machine is today."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import catalogue, dumps
from kdump_pkg.model.dumps import Entry
from kdump_pkg.paths import REPORT_JSON
from kdump_pkg.run import Result

LOG_TAIL = 1 << 23
"""Bytes from the end of a log: the crash stands there, and no kernel writes more about one."""
LARGEST_LOG = 1 << 27
"""Bytes of one that is taken out of the memory: whoever made that up must not fill /tmp."""
LIMITS = ("--as=4294967296", f"--fsize={LARGEST_LOG}", "--cpu=100", "--core=0")
"""For makedumpfile, whatever the memory makes of it; the file that it writes is the log."""
DUMPING = 120
"""Seconds for that, also where the disk is slow."""
LARGEST_REPORT = 1 << 22
CACHE = "/var/cache/pacman/pkg"
DMI = "/sys/class/dmi/id"
CPU = re.compile(r"^(model name|microcode)\s*:\s*(.{1,200})$", re.MULTILINE)


def read_log(ctx: Context, entry: Entry) -> bytes | None:
    """The end of the crashed kernel's log; None where there is none that can be read, or it is no regular file."""
    return _tail(ctx, entry.log, LOG_TAIL) if entry.log else None


def read_report(ctx: Context, entry: Entry) -> bytes | None:
    """report.json of a dump, whatever stands in it; None where there is none, or it can be no report by its size."""
    data = None if entry.foreign else _tail(ctx, f"{entry.path}/{REPORT_JSON}", LARGEST_REPORT + 1)
    return data if data is not None and len(data) <= LARGEST_REPORT else None


def _tail(ctx: Context, name: str, most: int) -> bytes | None:
    """The last bytes of a regular file that is no symbolic link."""
    try:
        fd = os.open(ctx.path(name, follow=False), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, KdumpError):
        return None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            return None
        return os.pread(fd, most, max(facts.st_size - most, 0))
    except OSError:
        return None
    finally:
        os.close(fd)


def read_meta(ctx: Context, entry: Entry) -> dict[str, str]:
    """What the capture wrote down of a dump of ours; empty for a foreign one."""
    if entry.foreign:
        return {}
    try:
        with catalogue.opened(ctx, entry) as fd:
            return dumps.read_meta(fd) or {}
    except KdumpError:  # gone meanwhile
        return {}


def read_cached(ctx: Context, names: set[str]) -> tuple[str, ...]:
    """Paths of what pacman's cache holds of these packages, all versions of it."""
    files = [file for file in ctx.names(CACHE) if not file.endswith(".sig") and file.count("-") >= 3]
    return tuple(f"{CACHE}/{file}" for file in files if file.rsplit("-", 3)[0] in names)


def read_machine(ctx: Context) -> tuple[tuple[str, str], ...]:
    """What the firmware and the processor say of themselves now; what isn't told is left out."""

    def dmi(*names: str) -> str:
        found = [ctx.read_text(f"{DMI}/{name}") for name in names]
        return " ".join(text for text in found if text)

    cpu = dict(CPU.findall((ctx.read_text("/proc/cpuinfo") or "")[:4096]))
    pairs = (
        ("machine", dmi("sys_vendor", "product_name")),
        ("board", dmi("board_vendor", "board_name")),
        ("firmware", dmi("bios_vendor", "bios_version", "bios_date")),
        ("processor", cpu.get("model name", "")),
        ("microcode", cpu.get("microcode", "")),
    )
    return tuple((name, value) for name, value in pairs if value)


def dump_dmesg(ctx: Context, entry: Entry, out: Path) -> Result:
    """Let makedumpfile write the log in the memory to OUT. Raises CommandError where it isn't done in time."""
    argv = ["prlimit", *LIMITS, "makedumpfile", "--dump-dmesg", os.fspath(ctx.path(entry.vmcore)), os.fspath(out)]
    return ctx.runner(argv, check=False, timeout=DUMPING)


def make_dmesg(ctx: Context, entry: Entry, work: Path) -> bytes | None:
    """The log out of the memory, by makedumpfile, in the directory WORK; None where that can't be done."""
    if not ctx.is_file(entry.vmcore):
        return None
    out = work / "dmesg.txt"
    try:
        dump_dmesg(ctx, entry, out)
    except KdumpError:
        return None
    try:
        with out.open("rb") as file:
            file.seek(max(out.stat().st_size - LOG_TAIL, 0))
            return file.read(LOG_TAIL) or None
    except OSError:
        return None
