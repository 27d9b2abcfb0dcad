"""Bytes changed by their place, and a change taken back from a file that has become another one since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kdump_pkg.loaders import words


class Change(NamedTuple):
    """A run of bytes of one file, and what comes in its place."""

    path: str
    start: int
    end: int
    new: bytes


def applied(data: bytes, changes: Iterable[Change]) -> bytes:
    """All changes at once; their places are those of the original, and those at one place keep their order.

    But for new lines at the end of a file, which come behind what comes to the end of its last one.

    What two of them take away is taken away once.
    """
    parts: list[bytes] = []
    done = 0
    for change in sorted(changes, key=lambda c: (c.start, c.new[:1] in (b"\r", b"\n"))):
        parts += [data[done : change.start], change.new]
        done = max(done, change.end)
    return b"".join([*parts, data[done:]])


def restored(before: bytes, after: bytes, now: bytes) -> tuple[list[Change], bool, list[tuple[int, int]]]:
    """What of BEFORE → AFTER can be taken back in NOW line by line, as three-way merges do it.

    Also whether something of it can't, and the runs of NOW that are as they are in AFTER. Line ends don't count: an
    editor may have put another kind.
    """
    old, new, here = _contents(before), _contents(after), words.lines(now)
    same = {a + i: b + i for a, b, size in _blocks(new, _contents(now)) for i in range(size)}
    changes: list[Change] = []
    lost = False
    for i1, i2, j1, j2 in _hunks(old, new):
        there = [same.get(j) for j in range(j1, j2)]
        first, last = there[0], there[-1]
        if first is None or last is None or None in there or last - first != j2 - j1 - 1:
            lost = True
            continue
        start, end = here[first][0], here[last][1]
        if i1 == i2 == len(old) and first and not before.endswith(b"\n"):
            start = here[first - 1][1]  # it was put in with the line end before it
        elif i1 == i2:
            end = here[last + 1][0] if last + 1 < len(here) else len(now)
        changes.append(Change("", start, end, words.newline(now).join(old[i1:i2])))
    return changes, lost, [here[at] for at in same.values()]


def _contents(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in words.lines(data)]


def _hunks(old: Sequence[bytes], new: Sequence[bytes]) -> Iterator[tuple[int, int, int, int]]:
    """Lines of the one and lines of the other; line by line where as many became others. None only went away."""
    for i1, i2, j1, j2 in _differing(old, new):
        if i2 - i1 == j2 - j1:
            yield from ((i1 + n, i1 + n + 1, j1 + n, j1 + n + 1) for n in range(i2 - i1))
        elif j1 < j2:
            yield i1, i2, j1, j2


def _differing(old: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[int, int, int, int]]:
    import difflib  # only an undo needs it

    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(i1, i2, j1, j2) for tag, i1, i2, j1, j2 in codes if tag != "equal"]


def _blocks(one: Sequence[bytes], other: Sequence[bytes]) -> list[tuple[int, int, int]]:
    import difflib

    return list(difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())
