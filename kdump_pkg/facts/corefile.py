"""A vmcore as bytes at offsets, also where makedumpfile has written it as a stream (`-F`), in pieces of any order.

Nothing is held but the places of those pieces, so a dump of 100 GB costs no more than a small one.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path

from kdump_pkg.errors import BadDumpError
from kdump_pkg.untrusted import escaped

FLAT = b"makedumpfile\0\0\0\0"
FLAT_HEADER = 4096
"""Bytes before the first piece: MAX_SIZE_MDF_HEADER in makedumpfile.h."""
PIECE, FLAT_END = struct.Struct(">qq"), (-1, -1)
"""Where it belongs, and how long it is; what stands there after the last one."""
MOST_PIECES = 1_000_000
MOST_OVERLAPS = 1000
"""Pieces that may lie over the bytes that are asked for; makedumpfile writes its header twice, and nothing else."""
PACKED = {
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first", b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\xfd7zXZ\0": "compressed by xz: unpack it first", b"\x04\x22\x4d\x18": "compressed by lz4: unpack it first",
    b"age-encryption.org/": "encrypted by age: kdump-pkg decrypt", b"-----BEGIN AGE": "encrypted by age",
}  # fmt: skip


class Core:
    """The file as it is."""

    form = "kdump"
    cut = ""
    """Where it ends too early, in words, as far as its own layout tells."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """COUNT bytes at OFFSET. Raises BadDumpError where they are not there."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise BadDumpError(f"truncated: it has {self.size} bytes, and byte {offset + count} is spoken of")
        data = self._fetch(offset, count)
        if len(data) != count:
            raise BadDumpError(f"can't be read from byte {offset} on")
        return data

    def hole(self, start: int) -> int | None:
        """The first byte from START on that was never written; None where there is none, or nobody can say."""
        try:
            found = os.lseek(self._fd, start, os.SEEK_HOLE)
        except OSError:
            return None
        return found if found < self.size else None

    def _fetch(self, offset: int, count: int) -> bytes:
        try:
            return os.pread(self._fd, count, offset)
        except (OSError, OverflowError):
            return b""


class FlatCore(Core):
    """The file that the pieces would make."""

    form = "flattened"

    def __init__(self, fd: int, size: int) -> None:
        super().__init__(fd, size)
        found = array("Q"), array("Q"), array("Q")
        for target, length, place in self._pieces(size):
            if len(found[0]) == MOST_PIECES:
                raise BadDumpError(f"flattened into more than {MOST_PIECES} pieces: no makedumpfile does that")
            for column, value in zip(found, (target, length, place), strict=True):
                column.append(value)
        targets = found[0]
        order = array("L", sorted(range(len(targets)), key=targets.__getitem__))
        self._targets, self._lengths, self._places = (array("Q", map(column.__getitem__, order)) for column in found)
        ends = map(int.__add__, self._targets, self._lengths)
        self._reach = array("Q", accumulate(ends, max))
        self._order = order
        self.size = self._reach[-1] if self._reach else 0

    def hole(self, start: int) -> int | None:
        return None

    def _pieces(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Target, length and place of each, as far as they are whole."""
        at = FLAT_HEADER
        while True:
            head = self._fetch(at, PIECE.size)
            if len(head) < PIECE.size:
                self.cut = f"truncated: it ends after {size} bytes, before the mark of its end"
                return
            target, length = PIECE.unpack(head)
            if (target, length) == FLAT_END:
                return
            at += PIECE.size
            if target < 0 or length <= 0:
                raise BadDumpError(f"its piece at byte {at - PIECE.size} is nonsense")
            if at + length > size or target + length >= 1 << 62:
                self.cut = f"truncated: it ends after {size} bytes, in the midst of a piece"
                return
            yield target, length, at
            at += length

    def read(self, offset: int, count: int) -> bytes:
        """What no piece has is zeros, as in the file that would be made of it."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise BadDumpError(self.cut or f"truncated: byte {offset + count} is spoken of, and not there")
        data = bytearray(count)
        for number in sorted(self._over(offset, count), key=self._order.__getitem__):
            target, place = self._targets[number], self._places[number]
            begin, end = max(offset, target), min(offset + count, target + self._lengths[number])
            data[begin - offset : end - offset] = self._fetch(place + begin - target, end - begin)
        return bytes(data[:count])

    def _over(self, offset: int, count: int) -> list[int]:
        """The pieces with something of these bytes, by number."""
        found = []
        last = bisect_right(self._targets, offset + count - 1) - 1
        for number in range(last, -1, -1):
            if self._reach[number] <= offset:
                break
            if self._targets[number] + self._lengths[number] > offset:
                found.append(number)
            if last - number > MOST_OVERLAPS + (count >> 9):
                raise BadDumpError("its pieces lie over each other: no makedumpfile does that")
        return found


@contextmanager
def open_core(path: Path) -> Iterator[Core]:
    """Errors inside the block get the file's name. Raises BadDumpError for what is no dump at first sight."""
    name = escaped(os.fspath(path))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise BadDumpError(f"{name}: {getattr(error, 'strerror', None) or 'no such file'}") from None
    try:
        yield _core(fd)
    except BadDumpError as error:
        raise BadDumpError(f"{name}: {error.message}", hint=error.hint) from None
    finally:
        os.close(fd)


def _core(fd: int) -> Core:
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode):
        raise BadDumpError("not a regular file")
    if not facts.st_size:
        raise BadDumpError("empty: nothing was written")
    core = Core(fd, facts.st_size)
    head = core.read(0, min(FLAT_HEADER, facts.st_size))
    if not head.strip(b"\0"):
        raise BadDumpError("begins with nothing but zeros: it was never written")
    for magic, what in PACKED.items():
        if head.startswith(magic):
            raise BadDumpError(what)
    return FlatCore(fd, facts.st_size) if head.startswith(FLAT) else core
