"""Words of a kernel command line inside a file, found and changed by their place: every other byte stays what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdump_pkg import crashkernel, parameters
from kdump_pkg.model.bootloader import Insert, Stretch

# A value holds neither blanks nor quotes, so what stands around it needs no parsing here.
PARAMETER = re.compile(rb"(?<![^\s\"'])crashkernel=([^\s\"'\\]*)")
WORD = re.compile(parameters.WORD.pattern.encode("ascii"))
BLANK_END = re.compile(rb"(?:\s|\\\r?\n)*\Z")
"""Also the backslash that continues a line."""
LINE = re.compile(rb"([^\n]*?)(?:\r?\n|\Z)")


@dataclass(frozen=True)
class Found:
    """A `crashkernel=` in a file."""

    inside: Stretch
    start: int
    end: int
    value: str

    @property
    def path(self) -> str:
        return self.inside.path


def find(data: bytes, stretch: Stretch) -> list[Found]:
    """All `crashkernel=` of a stretch."""
    at = stretch.start
    return [
        Found(stretch, at + match.start(), at + match.end(), match[1].decode("ascii", "replace"))
        for match in PARAMETER.finditer(data[at : stretch.end])
    ]


def text(data: bytes, stretches: Iterable[Stretch]) -> str:
    """The command line that several stretches of one file make."""
    return " ".join(data[s.start : s.end].decode("utf-8", "surrogateescape").strip() for s in stretches)


def grow(data: bytes, stretch: Stretch, quote: bytes = b"") -> tuple[Insert, ...]:
    """How a new word comes to the end of a stretch; QUOTE goes around the whole of one that has none yet.

    Behind a `--` all words are init's, so it comes before that.
    """
    content = data[stretch.start : stretch.end]
    init = next((match.start() for match in WORD.finditer(content) if match[0] == b"--"), None)
    used = BLANK_END.sub(b"", content[:init])
    place = stretch.start + len(used)
    apart = not used and content[:1] in (b"-", b"\\")
    word = Insert(stretch.path, place, b" " if used else b"", b" " if apart else b"")
    if not quote:
        return (word,)
    first, last = (Insert(stretch.path, at, before=quote, words=False) for at in (stretch.start, stretch.end))
    return (first, word, last)


def blank(content: bytes) -> bool:
    """Whether there is no word in it."""
    return not BLANK_END.sub(b"", content)


def joined(values: Sequence[str]) -> bytes:
    return crashkernel.text(values).encode("ascii")


def line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def lines(data: bytes) -> list[tuple[int, int]]:
    """Start and end of each line's content: without its end, be it LF or CRLF."""
    return [(match.start(), match.start() + len(match[1])) for match in LINE.finditer(data) if match[0]]


def newline(data: bytes) -> bytes:
    """How the lines of this file end."""
    return b"\r\n" if b"\r\n" in data else b"\n"
