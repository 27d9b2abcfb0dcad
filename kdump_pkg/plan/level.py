"""The dump level that is safe for a pair of kernel and makedumpfile.

Linux 7.1 renamed `page.compound_head` to `compound_info` in VMCOREINFO. makedumpfile up to 1.7.9 doesn't know, drops
pages that are needed, and exits 0 (upstream f50c015 mends it). Its message is no sign: a mended build prints it too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FULL = 31
SAFE_WITHOUT_COMPOUND_INFO = 1
"""Only pages of zeros are left out: the one exclusion that looks at content and not at struct page."""


@dataclass(frozen=True)
class Level:
    value: int
    reason: str | None
    """Why it isn't 31; None when it is."""


def choose(wanted: str, kernels: tuple[str, ...], makedumpfile: str | None) -> Level:
    """The level for dumps of any of KERNELS (releases) by MAKEDUMPFILE (version)."""
    newest = max((_numbers(k) for k in kernels), default=())
    tool = _numbers((makedumpfile or "").split(":")[-1].split("-")[0])
    damaging = newest[:2] >= (7, 1) and bool(tool) and tool <= (1, 7, 9)
    known = f"makedumpfile {'.'.join(map(str, tool))} damages dumps of Linux 7.1 and later at levels above"
    if wanted != "auto":
        level = int(wanted)
        risky = damaging and level & ~SAFE_WITHOUT_COMPOUND_INFO
        reason = f"dump_level = {level} in the configuration" if level != FULL else None
        return Level(level, f"dump_level = {level} although {known} {SAFE_WITHOUT_COMPOUND_INFO}" if risky else reason)
    if damaging:
        return Level(SAFE_WITHOUT_COMPOUND_INFO, f"{known} {SAFE_WITHOUT_COMPOUND_INFO}")
    return Level(FULL, None)


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
