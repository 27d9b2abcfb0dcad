"""What becomes of `crashkernel=` in the files of a boot loader: put in, changed when asked, taken out again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kdump_pkg.loaders import words
from kdump_pkg.loaders.merge import Change, applied, restored
from kdump_pkg.model.bootloader import CommandLine, Edit, Loader, TextFile

BLANK_BEFORE, BLANK_BEHIND = re.compile(rb"\\?[ \t]\Z"), re.compile(rb"\\?[ \t]")
"""With the backslash that keeps words together outside of quotes."""


@dataclass
class _Notes:
    """What undoing needs to know, per file."""

    words: bool = False
    lines: list[bytes] = field(default_factory=list)
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)


def present(loader: Loader, line: CommandLine) -> tuple[str, ...]:
    """The values of `crashkernel=` that a command line has, in the order in which the kernel sees them."""
    return tuple(found.value for found in _found(loader, line))


def own_lines(loader: Loader) -> tuple[CommandLine, ...]:
    """Those that start this system."""
    return tuple(line for line in loader.lines if line.foreign is None)


def reserve(loader: Loader, values: Sequence[str], *, replace: bool = False) -> tuple[Edit, ...]:
    """The edits that give each command line of this system these values, those that have others only with `replace`.

    None for what has them already, and none at all where we do not change it (`problem`, `manual`).
    """
    changes: list[Change] = []
    grown = set()  # several entries may share one place: it is changed once
    notes: dict[str, _Notes] = {}
    for line in () if loader.problem or loader.manual else own_lines(loader):
        found = _found(loader, line)
        old = tuple(one.value for one in found)
        if not found and line.grow not in grown:
            grown.add(line.grow)
            changes += _grown(line, values, notes)
        elif found and replace and old != tuple(values):
            changes += [change for change in _exchanged(loader, found, values) if change not in changes]
            note = notes.setdefault(found[0].path, _Notes())
            note.words = True
            note.replaced[line.entry] = old
    return tuple(_edit(file, changes, notes.get(file.path, _Notes()), values) for file in _touched(loader, changes))


def release(loader: Loader, done: Edit) -> bytes | None:
    """The file of DONE as it is now, without what DONE put into it; None where nothing of that is left.

    LOADER is as it is read now. Lines that are still what DONE made of them become what they were, to the byte; in
    those that were changed since, our words alone go. What the user wrote stays, whatever it is. Of a file that DONE
    made, nothing may be left: it is empty then.
    """
    now = loader.data(done.path)
    if now == done.after:
        return done.before or b""
    changes, lost, kept = restored(done.before or b"", done.after, now)
    if lost:
        changes += _words_gone(loader, done, now, kept)
    return applied(now, changes) if changes else None


def without(loader: Loader, path: str, values: Sequence[str]) -> bytes | None:
    """A file of LOADER without these words, where an entry of this system has them; None where none has."""
    now = loader.data(path)
    changes = list(_words_gone(loader, Edit(path, None, b"", tuple(values)), now, ()))
    return applied(now, changes) if changes else None


def _words_gone(loader: Loader, done: Edit, now: bytes, kept: Sequence[tuple[int, int]]) -> Iterator[Change]:
    """For what is in none of the KEPT parts of a file: those are as we left them, or were never ours."""

    def open_to_us(start: int) -> bool:
        return not any(first <= start < last for first, last in kept)

    gone = []
    for text in done.lines:
        at = now.find(text)
        if at >= 0 and now[at - 1 : at] in (b"", b"\n") and open_to_us(at):
            gone.append((at, at + len(text)))
            yield Change(done.path, at, at + len(text), b"")
    for line in own_lines(loader):
        found = [one for one in _found(loader, line) if one.path == done.path and open_to_us(one.start)]
        ours = _run(found, done.words)
        if ours and not any(first <= ours[0].start < last for first, last in gone):
            yield from _exchanged(loader, ours, done.replaced.get(line.entry, ()))


def _run(found: Sequence[words.Found], values: Sequence[str]) -> Sequence[words.Found]:
    """Those words, in this order, among the ones that are there: beside them, the user may have put others."""
    for first in range(len(found) - len(values) + 1) if values else ():
        part = found[first : first + len(values)]
        if [one.value for one in part] == list(values):
            return part
    return ()


def _found(loader: Loader, line: CommandLine) -> list[words.Found]:
    return [one for stretch in line.stretches for one in words.find(loader.data(stretch.path), stretch)]


def _grown(line: CommandLine, values: Sequence[str], notes: dict[str, _Notes]) -> Iterator[Change]:
    for insert in line.grow:
        new = insert.before + (words.joined(values) if insert.words else b"") + insert.after
        note = notes.setdefault(insert.path, _Notes())
        note.words = note.words or insert.words
        if insert.words and new.endswith(b"\n"):
            note.lines.append(new)
        yield Change(insert.path, insert.at, insert.at, new)


def _exchanged(loader: Loader, found: Sequence[words.Found], values: Sequence[str]) -> Iterator[Change]:
    """The first one becomes all of the values, the others go; without values, all go."""
    first, *others = found
    last = first
    for one in others:
        yield _removed(loader.data(one.path), one, one)
        if one.inside == first.inside and not loader.data(first.path)[last.end : one.start].strip():
            last = one
    if values:
        yield Change(first.path, first.start, first.end, words.joined(values))
    else:
        yield _removed(loader.data(first.path), first, last)


def _removed(data: bytes, first: words.Found, last: words.Found) -> Change:
    """From a word to another one, and one blank beside them: the one before, or where none is, the one behind."""
    start, end, inside = first.start, last.end, first.inside
    if before := BLANK_BEFORE.search(data[inside.start : start]):
        start -= len(before[0])
    elif behind := BLANK_BEHIND.match(data[end : inside.end]):
        end += len(behind[0])
    return Change(first.path, start, end, b"")


def _touched(loader: Loader, changes: Iterable[Change]) -> Iterator[TextFile]:
    paths = {change.path for change in changes}
    return (file for file in loader.files if file.path in paths)


def _edit(file: TextFile, changes: Iterable[Change], note: _Notes, values: Sequence[str]) -> Edit:
    after = applied(file.data or b"", [change for change in changes if change.path == file.path])
    return Edit(file.path, file.data, after, tuple(values) if note.words else (), tuple(note.lines), note.replaced)
