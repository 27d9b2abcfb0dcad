"""Changes of files as people read them: unified, and safe to print whatever bytes a file has."""

from __future__ import annotations

import difflib
import re

from kdump_pkg.model.setup import Change

NONE = "/dev/null"
NO_NEWLINE = "\u0100"
"""Marks a last line without its end: no byte is this character."""
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What moves a terminal's cursor, or makes text look like another one."""


def unified(change: Change, *, after: str = "", context: int = 3) -> str:
    """A change as `diff -u` prints it; bytes that are no text, and what a terminal would act on, are escaped.

    AFTER is what to call the file afterwards, where that isn't its name.
    """
    old, new = _lines(change.before), _lines(change.after)
    names = (NONE if change.before is None else change.path, NONE if change.after is None else after or change.path)
    body = list(difflib.unified_diff(old, new, lineterm="", n=context))[2:]
    return "\n".join([f"--- {shown(names[0])}", f"+++ {shown(names[1])}", *map(_printed, body)])


def shown(text: str) -> str:
    """Text in one line that no terminal takes for commands."""
    return UNSAFE.sub(lambda found: _escaped(found[0]), text.replace("\n", "\\n"))


def _lines(data: bytes | None) -> list[str]:
    """As characters of Latin-1, one for each byte: lines that differ in any byte stay different."""
    lines = (data or b"").decode("latin-1").split("\n")
    return [*lines[:-1], *([lines[-1] + NO_NEWLINE] if lines[-1] else [])]


def _printed(line: str) -> str:
    if line.startswith("@@"):
        return line
    text = line[1:].removesuffix(NO_NEWLINE).removesuffix("\r").encode("latin-1").decode("utf-8", "backslashreplace")
    return line[:1] + shown(text) + ("\n\\ No newline at end of file" if line.endswith(NO_NEWLINE) else "")


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
