"""Words for figures, and the last check of all text before somebody sees it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from kdump_pkg.model.crash import Frame

LONGEST = 2000
"""Characters of one piece of text that are shown; the kernel's own lines have at most some 1,000."""


def clean(text: str, longest: int = LONGEST) -> str:
    """TEXT without anything that commands a terminal, hides itself or turns the direction of what follows."""
    shown = text[: longest + 1].replace("\t", " ")
    if not shown.isprintable():  # also of separators and marks of direction; an end of line is one of these
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
    return shown if len(text) <= longest else f"{shown[:longest]} …"


FIGURE = re.compile(r"\b(\d+) (days?|h|min|s|[KMGT]iB)\b")
GLUE = "\N{NO-BREAK SPACE}"


def glue(text: str) -> str:
    """TEXT that is clean, with each number and its unit held in one line."""
    return FIGURE.sub(rf"\1{GLUE}\2", text)


def unglue(text: str) -> str:
    return text.replace(GLUE, " ")


def moment(seconds: int) -> str:
    """2026-11-23 07:46:54 UTC; nothing for what is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """How long, in the two largest units that say something: `2 days 4 h`, `3 min`, `40 s`."""
    left = max(int(seconds), 0)
    for number, (unit, size) in enumerate(UNITS):
        if left >= size:
            many, left = divmod(left, size)
            said = f"{many} {unit}{'s' if unit == 'day' and many != 1 else ''}"
            rest = UNITS[number + 1] if number + 1 < len(UNITS) else None
            more = left // rest[1] if rest and many < 10 else 0
            return f"{said} {more} {rest[0]}" if rest and more else said
    return "less than 1 s"


def size(kib: int) -> str:
    """KiB in a unit that can be read."""
    value, unit = float(kib), "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 or unit == "KiB" else f"{value:.1f} {unit}"


def place(frame: Frame | None) -> str:
    """`nouveau_fence_update [nouveau]`; nothing where only an address is known."""
    if frame is None or not frame.function:
        return ""
    return f"{frame.function} [{frame.module}]" if frame.module else frame.function


def and_so_on(items: tuple[str, ...] | list[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
