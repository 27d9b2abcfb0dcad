"""What the firmware's variables say of who started this system."""

from __future__ import annotations

import re

from kdump_pkg.model.bootloader import Surroundings


def started(around: Surroundings, info: str, program: re.Pattern[str]) -> str | None:
    """How we know that a boot loader did: LoaderInfo starts with INFO, or without one, the firmware started PROGRAM."""
    firmware = around.firmware
    if firmware.loader_info:
        return f"LoaderInfo says {firmware.loader_info}" if firmware.loader_info.startswith(info) else None
    if firmware.entry and program.search(firmware.entry.file):
        return f"Boot{firmware.entry.number} starts {firmware.entry.file}"
    return None
