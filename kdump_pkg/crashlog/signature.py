"""One name for the same crash, wherever and whenever it happens.

The first sixteen digits of a SHA-256 of what a crash has whatever machine it is on and however the kernel was built:
its kind, and the functions, with their modules, of the innermost five frames that are sure. Names are without what
compilers put behind them; addresses, offsets, sizes, times, processors and processes aren't in it. The function at
fault is the first of the five, also where the trace doesn't show it; one that calls itself counts once, however deep
it was. Where there is no function at all, the kernel's words without numbers, names in quotes and file names stand
for them. Version 1 of this, and it says so in what is hashed: another recipe makes other signatures, and old reports
then find no new ones.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import groupby

from kdump_pkg.model.crash import Frame

DEPTH = 5
NUMBERS = re.compile(r"0x[0-9a-f]{1,64}|\b[0-9a-f]{8,64}\b|\d{1,64}")
QUOTED = re.compile(r"\"[^\"]{0,200}\"|'[^']{0,200}'|\[[^\]]{0,200}\]|\([^)]{0,200}\)")


def make(kind: str, words: str, where: Frame | None, trace: Sequence[Frame]) -> str:
    """Empty where there is nothing to make one of."""
    frames = list(trace)
    if where is not None and where.function:
        frames = frames[frames.index(where) :] if where in frames else [where, *frames]
    frames = [frame for frame in frames if frame.function and (frame.reliable or frame == where)]
    names = [name for name, _ in groupby(f"{frame.function}[{frame.module}]" for frame in frames)][:DEPTH]
    if not names:
        plain = " ".join(NUMBERS.sub("N", QUOTED.sub("", words)).split())
        if not plain:
            return ""
        names = [plain]
    return hashlib.sha256("\n".join(["1", kind, *names]).encode()).hexdigest()[:16]
