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
KNOWN: dict[tuple[int, ...], tuple[int, ...]] = {
    (1, 7, 9): (7, 0), (1, 7, 8): (6, 17), (1, 7, 7): (6, 14), (1, 7, 6): (6, 11), (1, 7, 5): (6, 8), (1, 7, 4): (6, 6),
    (1, 7, 3): (6, 3),
}  # fmt: skip
"""The newest series of Linux that a makedumpfile was tried with by its makers: LATEST_VERSION in its makedumpfile.h."""


def choose(wanted: str, kernels: tuple[str, ...], makedumpfile: str | None) -> Level:
    """The level for dumps of any of KERNELS (releases) by MAKEDUMPFILE (version)."""
    newest = max((numbers(k) for k in kernels), default=())
    tool = version(makedumpfile)
    damaging = _damaging(newest, tool)
    known = f"makedumpfile {plain(makedumpfile)} damages dumps of Linux 7.1 and later at levels with user pages (8)"
    level = FULL if wanted == "auto" else int(wanted)
    if damaging and level & USER_PAGES:
        if wanted == "auto":
            return Level(level & ~USER_PAGES, f"{known}; a version after 1.7.9 doesn't")
        return Level(level, f"dump_level = {level} although {known}; use auto")
    return Level(level, None if level == FULL else f"dump_level = {level} in the configuration")


def damages(release: str, makedumpfile: str | None, level: int) -> bool:
    """Whether dumps of RELEASE at this level are damaged by this MAKEDUMPFILE (version)."""
    return bool(level & USER_PAGES) and _damaging(numbers(release), version(makedumpfile))


def _damaging(release: tuple[int, ...], tool: tuple[int, ...]) -> bool:
    return release[:2] >= RENAMED_IN and bool(tool) and tool <= MENDED_AFTER


def beyond(release: str, makedumpfile: str | None) -> str | None:
    """What to say where the kernel is newer than any that this makedumpfile was tried with; None where it isn't."""
    tool, series = version(makedumpfile), numbers(release)[:2]
    last = KNOWN.get(tool[:3])
    if last is None or series <= last:
        return None
    newest = ".".join(map(str, last))
    known = f"makedumpfile {plain(makedumpfile)} was made for Linux up to {newest}"
    return f"{known}; it reads newer ones unless their memory changed"


def version(package: str | None) -> tuple[int, ...]:
    """Of `1:1.7.9-1`, the middle."""
    return numbers((package or "").split(":")[-1].split("-")[0])


def plain(package: str | None) -> str:
    """`1.7.9` of `1:1.7.9-1`; empty where it is none."""
    return ".".join(map(str, version(package)))


def numbers(text: str) -> tuple[int, ...]:
    """What a release or a version begins with: (6, 17, 8) of `6.17.8-arch1-1`."""
    found = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
