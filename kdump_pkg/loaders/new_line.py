"""A line of its own for a new word, where a file has none for it yet."""

from __future__ import annotations

from kdump_pkg.loaders import words
from kdump_pkg.model.bootloader import Insert


def insert(path: str, data: bytes, before: bytes = b"", after: bytes = b"", *, behind: int | None = None) -> Insert:
    """Behind all else, or behind the line that BEHIND lies in; a file whose last line has no end is left like that."""
    end = words.newline(data)
    place = len(data) if behind is None else data.find(b"\n", behind) + 1 or len(data)
    if place and data[place - 1 : place] != b"\n":
        return Insert(path, place, end + before, after)
    return Insert(path, place, before, after + end)
