"""The dump level that is safe for a pair of kernel and makedumpfile.

Linux 7.1 renamed `page.compound_head` to `compound_info` in VMCOREINFO. makedumpfile up to 1.7.9 doesn't know, takes
tail pages of kernel allocations for user pages, drops them, and exits 0 (upstream f50c015 mends it). Its message is no
sign: a mended build prints it too. Only bit 8, user pages, does harm: of a 1 GiB dump of 7.2 refiltered by 1.7.8,
page by page, bit 16 took exactly the pages of the buddy lists, bits 2 and 4 exactly the page cache, and bit 8 took
228 tail pages, task structures among them. tests/vm/test_level.py reads what the chosen level leaves.
"""

from __future__ import annotations

import re

from kdump_pkg.model import Level

FULL = 31
USER_PAGES = 8
RENAMED_IN = (7, 1)
MENDED_AFTER = (1, 7, 9)


def choose(wanted: str, kernels: tuple[str, ...], makedumpfile: str | None) -> Level:
    """The level for dumps of any of KERNELS (releases) by MAKEDUMPFILE (version)."""
    newest = max((_numbers(k) for k in kernels), default=())
    tool = _numbers((makedumpfile or "").split(":")[-1].split("-")[0])
    damaging = newest[:2] >= RENAMED_IN and bool(tool) and tool <= MENDED_AFTER
    known = (
        f"makedumpfile {'.'.join(map(str, tool))} damages dumps of Linux 7.1 and later at levels with user pages (8)"
    )
    level = FULL if wanted == "auto" else int(wanted)
    if damaging and level & USER_PAGES:
        if wanted == "auto":
            return Level(level & ~USER_PAGES, f"{known}; a version after 1.7.9 doesn't")
        return Level(level, f"dump_level = {level} although {known}; use auto")
    return Level(level, None if level == FULL else f"dump_level = {level} in the configuration")


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
