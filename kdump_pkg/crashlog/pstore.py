"""Parts of a log as pstore keeps them: each begins with `Panic#1 Part2`, and part 1 is the end of the log."""

from __future__ import annotations

import re

from kdump_pkg.crashlog.lines import Line

PART = re.compile(r"(?:Panic|Oops|Emergency|Shutdown|Restart|Halt|Poweroff|Unknown)#(\d{1,6}) Part(\d{1,6})$")

DUMPS, PARTS = 32, 4096
"""That are looked at, the last ones; no firmware keeps as many."""
OVERLAP = 10_000
"""Lines of the earlier dump in which the later one may begin."""


def ordered(lines: list[Line]) -> list[Line]:
    """LINES in the order in which they were printed, without the headers; as they are where there are no headers."""
    heads = [number for number, line in enumerate(lines) if line.text[-1:].isdigit() and PART.match(line.text)]
    if not heads:
        return lines
    found = lines[: heads[0]]
    heads = heads[-PARTS:]
    for dump in _dumps(lines, heads)[-DUMPS:]:
        found = _joined(found, dump)
    return found


def _dumps(lines: list[Line], heads: list[int]) -> list[list[Line]]:
    """One list for each time that the log was saved. A part that comes again is of another crash."""
    parts: dict[tuple[int, int, int], list[Line]] = {}
    crash = 0
    for start, end in zip(heads, [*heads[1:], len(lines)], strict=True):
        match = PART.match(lines[start].text)
        count, part = (int(match[1]), int(match[2])) if match else (0, 0)
        crash += (crash, count, -part) in parts
        parts[crash, count, -part] = lines[start + 1 : end]
    dumps: dict[tuple[int, int], list[Line]] = {}
    for crash, count, part in sorted(parts):
        dumps.setdefault((crash, count), []).extend(parts[crash, count, part])
    return list(dumps.values())


def _joined(before: list[Line], after: list[Line]) -> list[Line]:
    """The two in a row; what the second repeats of the first, as a panic does of the oops before it, stands once."""
    first = next((line for line in after if line.stamp), None)
    start = max(len(before) - OVERLAP, 0)
    if first is not None and first in before[start:]:
        before = before[: before.index(first, start)]
    return before + after
