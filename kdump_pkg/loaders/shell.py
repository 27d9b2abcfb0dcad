"""Assignments in a file that a shell sources, by their places: /etc/default/grub, /etc/sdboot-manage.conf …

Nothing is evaluated. What a shell would make of it is left to the shell; here is only where a value's pieces stand and
in which quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from kdump_pkg.loaders import words
from kdump_pkg.model.bootloader import Insert, Stretch

BOM = b"\xef\xbb\xbf"
GAP = re.compile(rb"(?:[ \t]|\\\r?\n)+")
CONTINUED = re.compile(rb"\\\r?\n")
END = re.compile(rb"(?:\r?\n|[;&|(){}<>])+")
COMMENT = re.compile(rb"#[^\n]*")
NAME = re.compile(rb"([A-Za-z_]\w*(?:\[[^\]\s]*\])?)(\+?=)")
PLAIN = re.compile(rb"(?:[^\s\"'`$\\;&|(){}<>\r\n]|\\(?!\r?\n).|[{}](?![\s;]))+", re.DOTALL)
SINGLE = re.compile(rb"'([^']*)'")
ANSI = re.compile(rb"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
TEXT = re.compile(rb'(?:[^"\\$`]|\\.)+', re.DOTALL)
BACKTICKS = re.compile(rb"`(?:[^`\\]|\\.)*`", re.DOTALL)
VARIABLE = re.compile(rb"\$(?:\{(\w+)\}|(\w+))")
BEFORE_COMMANDS = frozenset(
    {b"then", b"do", b"else", b"elif", b"if", b"while", b"!", b"export", b"declare", b"readonly"}
)


class Unreadable(Exception):
    """A quote or bracket that nothing closes; `args[0]` is its offset."""


@dataclass(frozen=True)
class Piece:
    """A part of a word in one manner of quoting; the places are those of its content, without quotes."""

    kind: Literal["plain", "double", "single", "ansi"]
    start: int
    end: int

    def whole_end(self) -> int:
        return self.end if self.kind == "plain" else self.end + 1


@dataclass(frozen=True)
class Assignment:
    path: str
    name: str
    adds: bool
    """`NAME+=…`"""
    at: int
    """Where the value starts."""
    pieces: tuple[Piece, ...]

    def stretches(self, data: bytes) -> tuple[Stretch, ...]:
        return tuple(Stretch(self.path, p.start, p.end, words.line_of(data, p.start)) for p in self.pieces)

    def value(self, data: bytes) -> bytes:
        """Without quotes and continuations, nothing expanded."""
        return re.sub(rb"\\\r?\n", b"", b"".join(data[p.start : p.end] for p in self.pieces))

    def variables(self, data: bytes) -> Iterator[str]:
        """Those whose values come into this one."""
        for piece in self.pieces:
            if piece.kind in ("plain", "double"):
                for match in VARIABLE.finditer(data, piece.start, piece.end):
                    yield (match[1] or match[2]).decode()


def assignments(path: str, data: bytes) -> Iterator[Assignment]:
    """All of a file, in their order; whether a shell would come by is not looked at. Raises Unreadable."""
    at = len(BOM) if data.startswith(BOM) else 0
    fresh = True
    while at < len(data):
        if gap := GAP.match(data, at) or COMMENT.match(data, at):
            at = gap.end()
        elif end := END.match(data, at):
            at, fresh = end.end(), True
        elif fresh and (name := NAME.match(data, at)):
            pieces, at = _word(data, name.end())
            yield Assignment(path, name[1].decode(), name[2] == b"+=", name.end(), tuple(pieces))
        else:
            start = at
            _, at = _word(data, at)
            at = max(at, start + 1)
            fresh = fresh and (data[start:at] in BEFORE_COMMANDS or data[start : start + 1] == b"-")


def _word(data: bytes, at: int) -> tuple[list[Piece], int]:
    pieces: list[Piece] = []
    while at < len(data):
        if match := PLAIN.match(data, at):
            pieces.append(Piece("plain", at, match.end()))
        elif match := SINGLE.match(data, at):
            pieces.append(Piece("single", at + 1, match.end() - 1))
        elif match := ANSI.match(data, at):
            pieces.append(Piece("ansi", at + 2, match.end() - 1))
        elif data[at : at + 1] == b'"':
            pieces.append(Piece("double", at + 1, _double(data, at) - 1))
        elif data[at : at + 1] in (b"$", b"`"):
            pieces.append(Piece("plain", at, _expansion(data, at)))
        elif data[at : at + 1] == b"'":
            raise Unreadable(at)
        elif continued := CONTINUED.match(data, at):
            at = continued.end()
            continue
        else:
            break
        at = pieces[-1].whole_end()
    return list(_joined(pieces)), at


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Plain pieces side by side as one."""
    last: Piece | None = None
    for piece in pieces:
        if last and last.kind == piece.kind == "plain" and last.end == piece.start:
            last = Piece("plain", last.start, piece.end)
            continue
        if last:
            yield last
        last = piece
    if last:
        yield last


def _double(data: bytes, at: int) -> int:
    """The end of what is in double quotes, behind the quote."""
    here = at + 1
    while here < len(data):
        if data[here : here + 1] == b'"':
            return here + 1
        text = TEXT.match(data, here)
        here = text.end() if text else _expansion(data, here)
    raise Unreadable(at)


def _expansion(data: bytes, at: int) -> int:
    """The end of `$NAME`, `${…}`, `$(…)`, or of what is in backticks."""
    if data[at : at + 1] == b"`":
        ticks = BACKTICKS.match(data, at)
        if not ticks:
            raise Unreadable(at)
        return ticks.end()
    closing = {b"${": b"}", b"$(": b")"}.get(data[at : at + 2])
    return _bracket(data, at, closing) if closing else at + 1


def _bracket(data: bytes, at: int, closing: bytes) -> int:
    here = at + 2
    opening = b"(" if closing == b")" else b""
    depth = 1
    while here < len(data):
        one = data[here : here + 1]
        if one == b'"':
            here = _double(data, here)
        elif one in (b"$", b"`"):
            here = _expansion(data, here)
        elif one == b"'" and (single := SINGLE.match(data, here)):
            here = single.end()
        else:
            depth += (one == opening) - (one == closing)
            here += 2 if one == b"\\" else 1
            if depth == 0:
                return here
    raise Unreadable(at)


def grow(data: bytes, one: Assignment) -> tuple[Insert, ...]:
    """How a new word comes to the end of a value, in the quotes that it has; one without any gets some."""
    stretches = one.stretches(data)
    if not stretches:
        return words.grow(data, Stretch(one.path, one.at, one.at, 0), quote=b'"')
    last = one.pieces[-1]
    content = data[last.start : last.end]
    if len(stretches) == 1 and (last.kind != "plain" or b"\\" not in content):
        return words.grow(data, stretches[0], quote=b'"' if last.kind == "plain" else b"")
    if last.kind != "plain" and not words.blank(content):
        return words.grow(data, stretches[-1])
    return (Insert(one.path, last.whole_end(), before=b'" ', after=b'"'),)
