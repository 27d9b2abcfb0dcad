"""Writes that are whole or not at all: temporary file beside the target, synced, renamed; and the one lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg.errors import BusyError, KdumpError

TEMPORARY = ".kdump-pkg-"
"""Prefix of our temporary files: no boot loader, preset or drop-in directory takes such a name for one of its own."""
HINTS = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EROFS: "mount it read-write and run it again",
}
MARGIN = 1 << 20  # bytes left free whatever we write
Data = bytes | memoryview


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace PATH by DATA: afterwards, and at every instant before, it holds the old or the new content, whole.

    Raises KdumpError when there is no room or the directory can't be written; PATH is untouched then.
    """
    ensure_directory(path.parent)
    _replace(path, path, [(0, data)], lambda fd: os.fchmod(fd, mode))


def write_sparse(path: Path, pieces: Sequence[tuple[int, Data]], size: int, mode: int = 0o644) -> None:
    """The same for a file of SIZE bytes of which only PIECES, each with its place, hold anything: the rest is holes."""
    ensure_directory(path.parent)

    def dress(fd: int) -> None:
        os.ftruncate(fd, size)
        os.fchmod(fd, mode)

    _replace(path, path, pieces, dress)


def write_record(path: Path, value: Mapping[str, object], mode: int = 0o644) -> None:
    """Write what `Context.read_record` reads: a JSON object. Raises KdumpError as `write_atomic` does."""
    write_atomic(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), mode)


def rewrite(path: Path, data: bytes) -> None:
    """Replace the content of somebody's file by DATA, whole or not at all; its mode, owner and attributes stay.

    A symlink stays one: what it leads to is replaced. A file that isn't there is made.
    """
    real = Path(os.path.realpath(path))
    try:
        facts = real.stat()
    except FileNotFoundError:
        write_atomic(real, data)
        return
    except OSError as error:
        raise _explained(path, error) from None
    if not stat.S_ISREG(facts.st_mode):  # a link to /dev/null must not replace that
        raise KdumpError(f"{path}: no regular file", hint="put one in its place")
    _replace(path, real, [(0, data)], lambda fd: _take_after(fd, real, facts))


def _replace(name: Path, path: Path, pieces: Sequence[tuple[int, Data]], dress: Callable[[int], None]) -> None:
    """Put PIECES in the place of PATH, which errors call NAME; DRESS sees to mode and owner by the descriptor."""
    tmp = temporary(path)
    try:
        check_space(path.parent, sum(len(data) for _, data in pieces))
        tmp.unlink(missing_ok=True)  # of a killed run that had our process id
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            for place, data in pieces:
                file.seek(place)
                file.write(data)
            file.flush()
            dress(file.fileno())
            os.fsync(file.fileno())
        commit(tmp, path, synced=True)
    except OSError as error:
        raise _explained(name, error) from None
    finally:
        with contextlib.suppress(OSError):  # a file system that has become read-only meanwhile
            tmp.unlink(missing_ok=True)


def _take_after(fd: int, model: Path, facts: os.stat_result) -> None:
    """Owner, mode and extended attributes of another file; vfat has none of its own and refuses what differs."""
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (facts.st_uid, facts.st_gid):
        os.fchown(fd, facts.st_uid, facts.st_gid)
    if stat.S_IMODE(mine.st_mode) != stat.S_IMODE(facts.st_mode):
        os.fchmod(fd, stat.S_IMODE(facts.st_mode))
    with contextlib.suppress(OSError):
        for name in os.listxattr(model):
            os.setxattr(fd, name, os.getxattr(model, name))


def commit(tmp: Path, path: Path, *, synced: bool = False) -> None:
    """Give the finished file TMP its real name, so that a power cut leaves the old file or the new one."""
    try:
        if not synced:
            _fsync(tmp)
        tmp.replace(path)
        _fsync(path.parent)
    except OSError as error:
        raise _explained(path, error) from None


def commit_new(tmp: Path, path: Path) -> None:
    """Give the finished file TMP its real name. Raises KdumpError, and TMP stays, when something has that already."""
    try:
        _fsync(tmp)
        try:
            os.link(tmp, path, follow_symlinks=False)
        except OSError:
            if os.path.lexists(path):  # else it is FAT, which knows no second name
                raise KdumpError(f"{path}: appeared meanwhile, left alone") from None
            tmp.replace(path)
        else:
            tmp.unlink()
        _fsync(path.parent)
    except OSError as error:
        raise _explained(path, error) from None


def drop_leftovers(path: Path) -> None:
    """Remove temporary files for PATH that killed runs left, for they may have gigabytes; one at work keeps its own."""
    form = re.compile(rf"{re.escape(TEMPORARY)}(\d+)-{re.escape(path.name)}")
    for name in os.listdir(path.parent):  # noqa: PTH208 - names are wanted
        found = form.fullmatch(name)
        if found and (int(found[1]) == os.getpid() or not os.path.exists(f"/proc/{found[1]}")):  # noqa: PTH110
            path.with_name(name).unlink(missing_ok=True)


def copy_atomic(source: Path, path: Path, mode: int = 0o644) -> None:
    """Copy a file the same way; shares the blocks where the file system can (reflink), and keeps holes."""
    ensure_directory(path.parent)
    tmp = temporary(path)
    try:
        tmp.unlink(missing_ok=True)
        if not _reflink(source, tmp, mode):
            check_space(path.parent, source.stat().st_blocks * 512)
            _copy_sparse(source, tmp, mode)
        commit(tmp, path)
    except OSError as error:
        raise _explained(path, error) from None
    finally:
        tmp.unlink(missing_ok=True)


def symlink_atomic(target: str, path: Path) -> None:
    """Make PATH a symlink to TARGET, replacing a link or file that is there."""
    ensure_directory(path.parent)
    tmp = temporary(path)
    try:
        tmp.unlink(missing_ok=True)
        tmp.symlink_to(target)
        commit(tmp, path, synced=True)
    except OSError as error:
        raise _explained(path, error) from None
    finally:
        tmp.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file and let the removal reach the disk; one that isn't there is fine."""
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            _fsync(path.parent)
    except OSError as error:
        raise _explained(path, error) from None


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write DATA into a file that is there, in its place: for blocks that somebody else knows by their place."""
    with _opened(path) as fd:
        os.pwrite(fd, data, offset)
        os.fsync(fd)


def feed(path: Path, data: bytes) -> None:
    """Hand DATA, in one write, to what is no file on a disk: a device, a switch in /proc or /sys."""
    with _opened(path) as fd:
        os.write(fd, data)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor to write what is there by. Raises KdumpError for what goes wrong in the block, too."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise _explained(path, error) from None


@dataclass(frozen=True)
class Extent:
    """A run of blocks of a file: where in the file, where on the device, how long (bytes), and FIEMAP's flags."""

    logical: int
    physical: int
    length: int
    flags: int


def extents(path: Path, most: int = 8) -> tuple[Extent, ...] | None:
    """Where a regular file lies on its device, its first runs; None where the file system doesn't tell."""
    fs_ioc_fiemap, sync = 0xC020660B, 1  # Documentation/filesystems/fiemap.rst
    head, extent = struct.Struct("=QQLLLL"), struct.Struct("=QQQ16xL12x")
    request = bytearray(head.pack(0, (1 << 64) - 1, sync, 0, most, 0) + bytes(most * extent.size))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        fcntl.ioctl(fd, fs_ioc_fiemap, request)
    except OSError:
        return None
    finally:
        os.close(fd)
    count = head.unpack_from(request)[3]
    return tuple(Extent(*extent.unpack_from(request, head.size + n * extent.size)) for n in range(count))


def clear_immutable(path: Path) -> None:
    """Let PATH be removed: efivarfs protects every variable that it doesn't know (efivarfs.rst)."""
    get, put, immutable = 0x80086601, 0x40086602, 0x10  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_IMMUTABLE_FL
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            flags = struct.unpack("i", fcntl.ioctl(fd, get, bytes(4)))[0]
            if flags & immutable:
                fcntl.ioctl(fd, put, struct.pack("i", flags & ~immutable))
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP):  # a file system without such flags protects nothing
            raise _explained(path, error) from None


def remove_empty_parents(path: Path, stop: Path) -> None:
    """Remove the directories above PATH that are empty now, up to but without STOP."""
    for parent in path.parents:
        if parent == stop or not parent.is_relative_to(stop):
            return
        try:
            parent.rmdir()
        except OSError:
            return


def temporary(path: Path) -> Path:
    """A name beside PATH for a file in the making, unique to this process."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")


def ensure_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _explained(path, error) from None


def check_space(directory: Path, size: int) -> None:
    """Raise KdumpError unless SIZE bytes and a margin fit into the file system of DIRECTORY; it names the sum."""
    facts = os.statvfs(directory)
    free = facts.f_bavail * facts.f_frsize
    if size + MARGIN > free:
        raise KdumpError(
            f"{directory}: no room for {_mib(size + MARGIN)}, only {_mib(free)} free",
            hint="free some space and run it again",
        )


@contextlib.contextmanager
def lock(path: Path, *, wait: float = 0) -> Iterator[None]:
    """Hold the one lock around plan and execute. Raises BusyError when somebody else has it for WAIT seconds more."""
    ensure_directory(path.parent)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _explained(path, error) from None
    deadline = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise _explained(path, error) from None
            if time.monotonic() >= deadline:
                raise BusyError("another kdump-pkg is at work", hint="wait until it is done and try again")
            time.sleep(0.1)
        yield
    finally:
        os.close(fd)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # directories on vfat and some FUSE file systems
            raise
    finally:
        os.close(fd)


def _reflink(source: Path, target: Path, mode: int) -> bool:
    ficlone = 0x40049409  # FICLONE, ioctl_ficlone(2)
    with source.open("rb") as reader:
        fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as writer:
            os.fchmod(writer.fileno(), mode)
            try:
                fcntl.ioctl(writer.fileno(), ficlone, reader.fileno())
                return True
            except OSError:
                pass
    target.unlink()
    return False


def _copy_sparse(source: Path, target: Path, mode: int) -> None:
    """Copy only what holds data: a made vmlinux is mostly holes."""
    with source.open("rb") as reader, target.open("xb") as writer:
        os.fchmod(writer.fileno(), mode)
        size = source.stat().st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(reader.fileno(), offset, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                break
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            reader.seek(start)
            writer.seek(start)
            _copy_range(reader.fileno(), writer.fileno(), start, end - start)
            offset = end
        writer.truncate(size)


def _copy_range(source: int, target: int, offset: int, count: int) -> None:
    while count > 0:
        data = os.pread(source, min(count, 1 << 20), offset)
        if not data:
            return
        os.pwrite(target, data, offset)
        offset += len(data)
        count -= len(data)


def remove_tree(path: Path, keep: str = "") -> None:
    """Remove a directory of ours with all that is in it, but for the file that is called KEEP."""
    if not path.is_dir() or path.is_symlink():
        return
    if not keep or not os.path.lexists(path / keep):
        shutil.rmtree(path)
        return
    for entry in path.iterdir():
        if entry.name == keep:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _explained(path: Path, error: OSError) -> KdumpError:
    return KdumpError(f"{path}: {error.strerror or error}", hint=HINTS.get(error.errno or 0))


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
