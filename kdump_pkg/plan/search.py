"""Looking for the smallest reservation that captures, pure: which sizes to try, and what to make of a failure."""

from __future__ import annotations

from collections.abc import Callable

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Facts
from kdump_pkg.plan import targets

MIB = 1 << 20
MORE = "reserve more"
"""How every reason of `plan.console` and `plan.verdict` ends that more memory would mend."""
FIRST_STEP = 0.8
"""Of what the estimate says: the next one to try; it is meant to be no more than a quarter too large."""
LOAD_SPARE = 4
"""MiB that loading takes besides kernel and image: page tables, ELF header, places that are multiples of 2 MiB."""
CMA_LEAST = 64
"""MiB of `,cma` to ask for at the least: what lies there costs the user nothing."""
CMA_GAIN = 16
"""MiB that it has to save to be worth its price."""


def step(mib: int) -> int:
    """How exact a size is looked for: a rehearsal takes its time, and 8 of 200 MiB matter less than 4 of 80."""
    return 4 if mib <= 128 else 8


def smallest(captures: Callable[[int], bool], start: int, *, by: int, floor: int, ceiling: int) -> int | None:
    """The smallest size in MiB between FLOOR and CEILING that captures, BY exact; None where none does.

    It begins at START, goes down by a fifth or up by a quarter until it has one of either kind, then halves.
    """
    low, high = floor - by, None
    size = max(floor, min(start, ceiling))
    while True:
        if captures(size):
            high = size
        else:
            low = size
        if high is not None and high - low <= by:
            return high
        if high is None and low >= ceiling:
            return None
        size = _next(low, high, by, floor, ceiling)


def _next(low: int, high: int | None, by: int, floor: int, ceiling: int) -> int:
    if high is None:
        return min(ceiling, low + max(by, low // 4 // by * by))
    if low < floor:
        return max(floor, min(high - by, int(high * FIRST_STEP) // by * by))
    return low + max(by, (high - low) // 2 // by * by)


def lacks_memory(reason: str) -> bool:
    return reason.endswith(MORE)


def memory_mib(facts: Facts, capture: Capture, start: int) -> int:
    """Of the virtual machine in which that can be looked for."""
    argon2 = targets.argon2_kib(facts, capture.targets) >> 10
    return max(1024, 4 * start, 4 * argon2)


def loadable(facts: Facts, capture: Capture) -> int | None:
    """MiB below which the capture kernel can't even be loaded: kernel and image have to lie in there side by side."""
    if not capture.kernel.init_size or not facts.image.size:
        return None
    whole = (capture.kernel.init_size + facts.image.size) / MIB + LOAD_SPARE
    return -(-int(whole + 1) // 4) * 4


def with_cma(size: int, cma: int) -> str:
    """The words. The plain one comes last: kernels before 6.17 take the last one that they see for the only one, and
    would reserve nothing at all for `64M,cma` in its place."""
    return f"{cma}M,cma {size}M"


def check(reason: str | None, *, seen: bool) -> None:
    """Raises KdumpError where a try failed for another reason than memory.

    SEEN: the same image has captured with more, so that nothing but memory can be what it lacks.
    """
    if not seen and not lacks_memory(reason or ""):
        raise KdumpError(
            f"a rehearsal fails for another reason than memory: {reason}", hint="kdump-pkg rehearse shows all of it"
        )
