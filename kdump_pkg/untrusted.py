"""Words and numbers that somebody else wrote, out of dumps, files and programs: as they may be shown and believed.

Nothing that goes through here can command a terminal, or make two lines of one.
"""

from __future__ import annotations

import re

RELEASE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,127}")


def escaped(text: str, keep: str = "") -> str:
    """For names, by which something is to be found again: what can't be printed is written as Python does, `\\x1b`."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def masked(text: str) -> str:
    """For what programs say: a `?` for each character that can't be printed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def one_line(text: str, longest: int) -> str:
    """For sentences: with one blank between words, and of LONGEST characters at most."""
    plain = "".join(c if c.isprintable() else " " for c in text[: 4 * longest])
    return " ".join(plain.split())[:longest].rstrip()


def release(text: str) -> str:
    """Of a kernel, when it may be a part of a path; empty otherwise."""
    return text if RELEASE.fullmatch(text) else ""


def number(text: str | None, digits: int = 11) -> int | None:
    """Of so many digits at most, as a time in seconds has them; None for what is none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= digits else None
