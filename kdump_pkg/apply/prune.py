"""Removes one dump, and nothing that isn't of it, so that a kill at any instant leaves one that says it is incomplete.

Everything happens below the descriptor of its directory, and no link is followed: what a name led to when the dump was
chosen doesn't matter any more. `meta` stays to the end, for without it nobody would know whose the rest is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps

RESULT = b"\nresult="


def remove_dump(ctx: Context, directory: str, name: str, report: Callable[[str], None]) -> None:
    """Remove the dump NAME of DIRECTORY; what others put into it stays, and the directory then too: REPORT says so.

    Raises KdumpError when it is not one of ours (any more), is pinned, or can't be removed.
    """
    try:
        base = os.open(ctx.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            rest = _remove(base, directory, name)
        finally:
            os.close(base)
    except OSError as error:
        raise KdumpError(f"{directory}/{name}: not removed: {error.strerror or error}") from None
    if rest:
        shown = ", ".join(file if file.isprintable() else ascii(file) for file in rest[:3])
        report(f"{directory}/{name} stays, with what is not of the dump: {shown}{' …' if rest[3:] else ''}")


def _remove(base: int, directory: str, name: str) -> list[str]:
    """Returns the names of others' files."""
    fd = dumps.open_dump(base, name)
    if fd is None:
        raise KdumpError(f"{directory}/{name}: no dump of kdump-pkg, left alone")
    try:
        if dumps.is_pinned(fd):
            raise KdumpError(f"{directory}/{name}: pinned, left alone")
        _take_result_back(fd)
        files = [file for file in dumps.files_of(fd) if file != "meta"]
        for file in sorted(files, key=lambda f: (not f.startswith("vmcore"), f)):
            os.unlink(file, dir_fd=fd)
        os.fsync(fd)
        rest = sorted(set(os.listdir(fd)) - {"meta"})  # noqa: PTH208
        os.unlink("meta", dir_fd=fd)
    finally:
        os.close(fd)
    if not rest:
        os.rmdir(name, dir_fd=base)
    os.fsync(base)
    return rest


def _take_result_back(fd: int) -> None:
    """Let `meta` end before its result: the rest of a removed dump must not be taken for a whole one."""
    data = dumps.meta_bytes(fd) or b""
    cut = data.find(RESULT)
    if cut < 0:
        return
    try:
        _replace_meta(fd, data[: cut + 1])
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _cut_meta(fd, cut + 1)  # a full disk is what dumps are removed for
    os.fsync(fd)


def _replace_meta(fd: int, data: bytes) -> None:
    """By a new file: the old one may have a second name in somebody's backup."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    if "meta.new" in dumps.files_of(fd):
        os.unlink("meta.new", dir_fd=fd)
    new = os.open("meta.new", flags, 0o600, dir_fd=fd)
    try:
        if os.write(new, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(new)
    finally:
        os.close(new)
    os.rename("meta.new", "meta", src_dir_fd=fd, dst_dir_fd=fd)


def _cut_meta(fd: int, length: int) -> None:
    meta = os.open("meta", os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.ftruncate(meta, length)
        os.fsync(meta)
    finally:
        os.close(meta)
