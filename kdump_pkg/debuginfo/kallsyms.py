"""The symbol table that a kernel carries for itself (kernel/kallsyms.c, scripts/kallsyms.c).

Nothing in the image says where it is, so it is found by its shape: the table of tokens holds the ten digits one after
the other, its index counts it, and what lies before and after must fit it to the byte. Three ways of writing addresses
are known, and the two orders of the tables, before and after Linux 6.4. Raises BadImageError where they are not.
"""

from __future__ import annotations

import itertools
import re
import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from kdump_pkg.errors import BadImageError
from kdump_pkg.model.elf import Layout, Section

DIGITS = b"".join(b"%d\0" % digit for digit in range(10))
BLOCK = 256  # names from one marker to the next, and tokens
LONGEST = 512  # KSYM_NAME_LEN
MASK = (1 << 64) - 1
_LONGEST_BLOCK = BLOCK * (LONGEST + 2)
_FURTHEST = 1 << 23  # bytes: three for each of more symbols than any kernel has


class Entry(NamedTuple):
    """A symbol: address, nm(1)'s letter, name."""

    address: int
    letter: str
    name: str


@dataclass(frozen=True)
class _Tokens:
    start: int
    """Of the table, in the section."""
    end: int
    """Of its index, which follows it."""
    texts: tuple[bytes, ...]


@dataclass(frozen=True)
class _Names:
    start: int
    texts: list[bytes]
    """With the letter in front."""
    index: dict[bytes, int]
    """Of those that the addresses are checked by."""


def read(image: bytes, layout: Layout) -> tuple[str, list[Entry]]:
    """How addresses are written, in words, and all symbols, in the order of the table."""
    section = layout.find(".rodata")
    text = layout.find(".text")
    if section is None or text is None or not section.held:
        raise BadImageError("kallsyms: the image has no .rodata or no .text")
    data = image[section.offset : section.offset + section.size]
    tokens = _find_tokens(data)
    names = _find_names(data, tokens)
    for way, addresses in _addresses(data, section, tokens, names):
        if _fits(addresses, names, section, text):
            return way, [
                Entry(address, chr(name[0]), name[1:].decode("ascii"))
                for address, name in zip(addresses, names.texts, strict=True)
            ]
    raise BadImageError("kallsyms: its addresses are written in a way that is not known")


# --- tokens -------------------------------------------------------------------------------------------------------


def _find_tokens(data: bytes) -> _Tokens:
    place = data.find(DIGITS)
    while place >= 0:
        found = _tokens_around(data, place)
        if found:
            return found
        place = data.find(DIGITS, place + 1)
    raise BadImageError("kallsyms: not found, the kernel has none or one of a kind that is not known")


def _tokens_around(data: bytes, place: int) -> _Tokens | None:
    """The table that has the digits at PLACE, if one is there: 256 tokens, then where each of them begins."""
    start = place
    for _ in range(ord("0")):
        start = data.rfind(b"\0", max(0, start - 1 - LONGEST), max(0, start - 1)) + 1
        if start == 0:
            return None
    texts: list[bytes] = []
    places: list[int] = []
    at = start
    for _ in range(BLOCK):
        end = data.find(b"\0", at, at + LONGEST)
        if end < 0 or at - start > 0xFFFF:
            return None
        texts.append(data[at:end])
        places.append(at - start)
        at = end + 1
    index = struct.pack(f"<{BLOCK}H", *places)
    found = data.find(index, at, at + 8 + len(index))
    return _Tokens(start, found + len(index), tuple(texts)) if found >= 0 else None


# --- names --------------------------------------------------------------------------------------------------------


def _find_names(data: bytes, tokens: _Tokens) -> _Names:
    """The names lie before the markers, which lie before the tokens; before the names is their number."""
    for end, markers in itertools.chain(_markers_before(data, tokens.start), _markers_further(data, tokens.start)):
        least, most = (len(markers) - 1) * BLOCK + 1, len(markers) * BLOCK
        last = end - 4 * len(markers)  # of the names
        first = max(8, last - markers[-1] - _LONGEST_BLOCK - 16) & ~3
        for start in range((last - markers[-1]) & ~3, first, -4):
            for gap in (4, 8):
                (count,) = struct.unpack_from("<I", data, start - gap)
                if least <= count <= most and _length(data, start, last, BLOCK) == markers[1]:
                    return _read_names(data, start, count, markers, tokens.texts)
    raise BadImageError("kallsyms: its names are not where they should be")


def _markers_before(data: bytes, end: int) -> Iterator[tuple[int, list[int]]]:
    """Markers, as numbers that rise from 0, that end at END, where some zeros may fill up; and where they end."""
    at = end & ~3
    while at > end - 12 and at >= 4 and data[at - 4 : at] == bytes(4):
        at -= 4
    last = at
    found: list[int] = []
    while at >= 4:
        at -= 4
        (value,) = struct.unpack_from("<I", data, at)
        if found and value >= found[-1]:
            return
        found.append(value)
        if value == 0:
            break
    if len(found) > 1 and found[-1] == 0:
        yield last, found[::-1]


def _markers_further(data: bytes, end: int) -> Iterator[tuple[int, list[int]]]:
    """Linux 6.2, 6.3 and later 6.1 put three bytes for each symbol between the markers and the tokens."""
    first = max(0, end - _FURTHEST) & ~3
    words = array("I", data[first : end & ~3])
    for place in range(len(words) - 2, -1, -1):
        if words[place] or not 2 * BLOCK <= words[place + 1] <= _LONGEST_BLOCK:
            continue
        run = place + 1
        while run < len(words) and 0 < words[run] - words[run - 1] <= _LONGEST_BLOCK:
            run += 1
        for stop in (run, run - 1):  # what follows may seem to go on
            count = (end - first - 4 * stop) // 3
            if stop > place + 1 and (stop - place - 1) * BLOCK < count <= (stop - place) * BLOCK + 2:
                yield first + 4 * stop, list(words[place:stop])


def _length(data: bytes, at: int, end: int, count: int) -> int | None:
    """Bytes that COUNT names take; None when they don't end before END."""
    start = at
    for _ in range(count):
        if at + 2 > end:
            return None
        size = data[at]
        at += 1
        if size & 0x80:
            size = (size & 0x7F) | data[at] << 7
            at += 1
        at += size
    return at - start if at <= end else None


def _read_names(data: bytes, start: int, count: int, markers: list[int], tokens: tuple[bytes, ...]) -> _Names:
    texts: list[bytes] = []
    at, end = start, len(data)
    for number in range(count):
        if number % BLOCK == 0 and markers[number // BLOCK] != at - start:
            raise BadImageError("kallsyms: names and markers don't fit each other")
        if at + 2 > end:
            raise BadImageError("kallsyms: truncated")
        size = data[at]
        at += 1
        if size & 0x80:
            size = (size & 0x7F) | data[at] << 7
            at += 1
        name = b"".join([tokens[token] for token in data[at : at + size]])
        at += size
        if not 1 < len(name) <= LONGEST:
            raise BadImageError("kallsyms: a name without end")
        texts.append(name)
    if re.search(rb"[^\n!-~]", b"\n".join(texts)):
        raise BadImageError("kallsyms: a name that can't be printed")
    wanted = {b"_text", b"kallsyms_names"}
    return _Names(start, texts, {name[1:]: n for n, name in enumerate(texts) if name[1:] in wanted})


# --- addresses ----------------------------------------------------------------------------------------------------


def _addresses(data: bytes, section: Section, tokens: _Tokens, names: _Names) -> Iterator[tuple[str, list[int]]]:
    """Every way in which the table of addresses can be read, wherever it can be."""
    count = len(names.texts)
    after = (tokens.end + 3) & ~3
    for at in range(after, after + 64, 4):
        numbers = _numbers(data, at, count)
        if numbers is None:
            break
        here = section.address + at
        yield "pc-relative", [(here + 4 * n + number) & MASK for n, number in enumerate(numbers)]
        for base in (at + 4 * count, at + 4 * count + 4):
            yield from _relative(data, (base + 7) & ~7, numbers)
    for base in range(names.start - 24, names.start - 7, 4):  # before 6.4 they come before the names
        for at in (base - 4 * count, base - 4 * count - 4):
            numbers = _numbers(data, at, count) if at >= 0 else None
            if numbers is not None:
                yield from ((f"{way}, before 6.4", found) for way, found in _relative(data, base, numbers))


def _numbers(data: bytes, at: int, count: int) -> array[int] | None:
    found = array("i")
    piece = data[at : at + 4 * count]
    if len(piece) < 4 * count:
        return None
    found.frombytes(piece)
    return found


def _relative(data: bytes, at: int, numbers: array[int]) -> Iterator[tuple[str, list[int]]]:
    """Distances from one base; on x86 before 6.15 what is below 0 counts from there, and the others are per CPU."""
    if at + 8 > len(data):
        return
    (base,) = struct.unpack_from("<Q", data, at)
    if base >> 47 != 0x1FFFF or base & 0xFFF:
        return  # no address of a kernel
    yield "relative to a base", [(base + (number & 0xFFFFFFFF)) & MASK for number in numbers]
    yield "relative to a base, per CPU ones absolute", [n if n >= 0 else (base - 1 - n) & MASK for n in numbers]


def _fits(addresses: list[int], names: _Names, section: Section, text: Section) -> bool:
    """Whether the first byte of the kernel, and the table's own names, are where the table says that they are."""
    start = names.index.get(b"_text")
    if start is None or addresses[start] != text.address:
        return False
    own = names.index.get(b"kallsyms_names")  # not there without CONFIG_KALLSYMS_ALL
    if own is not None and addresses[own] != section.address + names.start:
        return False
    low = [a for a in addresses if a >> 47]
    return all(a <= b for a, b in itertools.pairwise(low))
