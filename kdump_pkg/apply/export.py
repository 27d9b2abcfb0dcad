"""Writes one archive of a dump, to hand to somebody: a tar with its holes, compressed by zstd(1).

The same dump gives the same archive: order, owners and modes are fixed, and times are those of its files. What is being
read is opened below the descriptor of its directory, and no link is followed. Nothing is left of what fails.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdump_pkg import fs, run
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.paths import REPORT_SUMS

ZSTD = ("zstd", "--quiet", "--threads=0", "--stdout", "-")
CHUNK = 1 << 20
MOST_PIECES = 10_000
"""Of a file with holes; one with more is written whole."""


@dataclass(frozen=True)
class Archive:
    """What goes into it, all below one directory."""

    home: str
    """Name of that directory."""
    time: int
    """Of what has none of its own."""
    directory: Path
    files: tuple[str, ...]
    """Names in DIRECTORY."""
    texts: tuple[tuple[str, bytes], ...] = ()
    """What is made for it, by name; goes first."""
    more: tuple[tuple[str, Path], ...] = ()
    """Files from elsewhere, by name; go last."""


def write(archive: Archive, path: Path) -> int:
    """Write it to the new file PATH; returns its size. Raises KdumpError, and leaves nothing, where that fails."""
    if os.path.lexists(path):
        raise KdumpError(f"{path}: there already, left alone", hint="name another file")
    tmp = fs.temporary(path)
    try:
        fs.drop_leftovers(path)
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            pack(archive, fd)
            size = os.fstat(fd).st_size
        finally:
            os.close(fd)
        fs.commit_new(tmp, path)
    except CommandError as error:
        full = "No space left" in error.message
        raise KdumpError(f"{path}: {error.message}", hint="free some space" if full else error.hint) from None
    except OSError as error:
        raise KdumpError(f"{path}: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            tmp.unlink(missing_ok=True)
    return size


def pack(archive: Archive, output: int) -> None:
    """Write it to a descriptor. Raises KdumpError and OSError."""
    with _open_directory(archive.directory) as base, run.feeding(ZSTD, stdout=output) as zstd:
        with _tar(zstd) as tar:
            _fill(tar, archive, base)
        zstd.end()


def _tar(output: Any) -> tarfile.TarFile:
    """As a stream: OUTPUT needs nothing but `write`."""
    return tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=CHUNK, copybufsize=CHUNK)  # type: ignore[call-overload, no-any-return]


def _fill(tar: tarfile.TarFile, archive: Archive, base: int) -> None:
    top = _header(archive.home, archive.time, 0)
    top.type, top.mode = tarfile.DIRTYPE, 0o700
    tar.addfile(top)
    sums = []
    for name, data in archive.texts:
        tar.addfile(_header(f"{archive.home}/{name}", archive.time, len(data)), io.BytesIO(data))
        sums.append((hashlib.sha256(data).hexdigest(), name))
    for name in archive.files:
        with _open_file(name, base) as fd:
            sums.append((_add(tar, archive.home, name, fd), name))
    for name, path in archive.more:
        with _open_file(os.path.realpath(path), None) as fd:
            sums.append((_add(tar, archive.home, name, fd), name))
    if REPORT_SUMS not in archive.files:
        data = "".join(f"{digest}  {name}\n" for digest, name in sums).encode()
        tar.addfile(_header(f"{archive.home}/{REPORT_SUMS}", archive.time, len(data)), io.BytesIO(data))


def _add(tar: tarfile.TarFile, home: str, name: str, fd: int) -> str:
    """Add an open file; returns the hash of its content."""
    facts = os.fstat(fd)
    reader = _Reader(fd, facts.st_size, name)
    info = _header(f"{home}/{name}", int(facts.st_mtime), reader.size)
    if reader.sparse:  # GNU's format 1.0 of sparse files, tar(5): the real name and size stand in the extended header
        info.name = f"{home}/GNUSparseFile.0/{name}"
        info.pax_headers = {
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
            "GNU.sparse.name": f"{home}/{name}", "GNU.sparse.realsize": str(facts.st_size),
        }  # fmt: skip
    tar.addfile(info, reader)  # type: ignore[arg-type]
    return reader.digest()


def _header(name: str, time: int, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, max(0, time), 0o600
    info.uname = info.gname = "root"
    return info


class _Reader:
    """A file as the archive has it: without its holes, and a map of what is left before it, if it has any."""

    def __init__(self, fd: int, size: int, name: str) -> None:
        self._fd, self._name, self._real = fd, name, size
        pieces = _pieces(fd, size)
        self.sparse = pieces != [(0, size)]
        self._rest = pieces[::-1]
        self._head = _map(pieces, size) if self.sparse else b""
        self.size = len(self._head) + sum(length for _, length in pieces)
        self._hash, self._hashed = hashlib.sha256(), 0

    def read(self, count: int) -> bytes:
        data, self._head = self._head[:count], self._head[count:]
        while len(data) < count and self._rest:
            offset, length = self._rest.pop()
            chunk = os.pread(self._fd, min(length, count - len(data)), offset)
            if not chunk:
                raise KdumpError(f"{self._name}: became shorter while it was read", hint="wait until it is written")
            self._note(offset, chunk)
            data += chunk
            if len(chunk) < length:
                self._rest.append((offset + len(chunk), length - len(chunk)))
        return data

    def digest(self) -> str:
        self._note(self._real, b"")
        return self._hash.hexdigest()

    def _note(self, offset: int, chunk: bytes) -> None:
        """A hole is zeros."""
        while self._hashed < offset:
            count = min(CHUNK, offset - self._hashed)
            self._hash.update(bytes(count))
            self._hashed += count
        self._hash.update(chunk)
        self._hashed = offset + len(chunk)


def _pieces(fd: int, size: int) -> list[tuple[int, int]]:
    """Offset and length of what is no hole."""
    whole, offset = [(0, size)], 0
    found: list[tuple[int, int]] = []
    while offset < size and len(found) <= MOST_PIECES:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            offset = os.lseek(fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                return whole
            break
        if start >= size:
            break
        found.append((start, min(offset, size) - start))
    return found if len(found) <= MOST_PIECES else whole


def _map(pieces: list[tuple[int, int]], size: int) -> bytes:
    every = [*pieces, (size, 0)]
    text = f"{len(every)}\n" + "".join(f"{offset}\n{length}\n" for offset, length in every)
    return text.encode().ljust(-(-len(text) // 512) * 512, b"\0")


@contextmanager
def _open_directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _open_file(name: str, base: int | None) -> Iterator[int]:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=base)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise KdumpError(f"{name}: no regular file any more")
        yield fd
    finally:
        os.close(fd)
