"""The configuration that the running kernel was built with, as far as anybody asks for it."""

from __future__ import annotations

import gzip
import re
import zlib

from kdump_pkg.context import Context

OPTIONS = (
    "CRASH_DUMP", "PROC_VMCORE", "KEXEC", "KEXEC_FILE", "RELOCATABLE", "CRASH_DM_CRYPT", "KEXEC_SIG_FORCE",
    "MAGIC_SYSRQ", "DEBUG_INFO", "DEBUG_INFO_BTF",
)  # fmt: skip
PACKED = "/proc/config.gz"
LINE = re.compile(rb"^CONFIG_(" + "|".join(OPTIONS).encode() + rb")=([ymn])$", re.MULTILINE)


def read_kconfig(ctx: Context, release: str) -> tuple[dict[str, str] | None, str]:
    """Each of OPTIONS as y, m or n, and the file that says so; None and nothing where no file does.

    The kernel itself has it where it was built with CONFIG_IKCONFIG_PROC; else some distributions put it into /boot.
    """
    data = ctx.read_bytes(PACKED)
    if data:
        try:
            return _parsed(gzip.decompress(data)), PACKED
        except (OSError, EOFError, zlib.error):
            return None, ""
    beside = f"/boot/config-{release}"
    text = ctx.read_bytes(beside) if release else None
    return (None, "") if text is None else (_parsed(text), beside)


def _parsed(text: bytes) -> dict[str, str]:
    """One that isn't mentioned is off: this kernel may not even know it."""
    found = {name.decode(): value.decode() for name, value in LINE.findall(text)}
    return dict.fromkeys(OPTIONS, "n") | found
