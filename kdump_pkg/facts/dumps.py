"""The dumps of a target. What is not beyond doubt one of ours is not seen here, so nothing ever happens to it.

Ours is a real directory with a name that kdump-save gives, holding a regular file `meta` that begins with `format=1`.
Nothing is reached through a symbolic link: every name is opened below the descriptor of its directory.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.fs import TEMPORARY
from kdump_pkg.model import Config, Dump, Retention, Space, Target, TargetWish
from kdump_pkg.paths import REPORT_JSON
from kdump_pkg.untrusted import number

if TYPE_CHECKING:
    from kdump_pkg.model.health import LastDump

NAME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}Z-[A-Za-z0-9._+-]+")
FILES = frozenset({
    "meta", "meta.new", "save.log", "dmesg.txt", "capture-dmesg.txt",
    "vmcore", "vmcore.incomplete", "vmcore.partial", "vmcore.flat",
})  # fmt: skip
CORES = ("vmcore", "vmcore.flat", "vmcore.partial", "vmcore.incomplete")
"""Names of the memory in a dump of ours, the best first."""
RESULTS = ("complete", "partial", "dmesg", "incomplete", "started", "failed")
LARGEST_META = 1 << 16  # bytes; a real one has some 2,000
LARGEST_REPORT = 1 << 20
LARGEST_LOG = 1 << 25  # bytes; log_buf_len= may make it large, the kernel takes no more than 2 GiB
HERE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Place:
    """The directory of a target's dumps on this system, and what may stay there."""

    directory: str
    rules: Retention


def directory_of(wish: TargetWish, target: Target) -> str:
    """Where a target's dumps are on this system; empty where it isn't mounted."""
    return target.mounted or (wish.path if wish.name == "root" else "")


def places(ctx: Context, config: Config, targets: Sequence[Target]) -> tuple[Place, ...]:
    """Of every target that is mounted; two that lead to the same directory are one, with the rules of the first."""
    found: dict[tuple[int, int], Place] = {}
    for wish, target in zip(config.targets, targets, strict=False):
        directory = directory_of(wish, target)
        try:
            facts = ctx.path(directory).stat()
        except (OSError, KdumpError):
            continue
        found.setdefault((facts.st_dev, facts.st_ino), Place(directory, target.retention))
    return tuple(found.values())


def read_dumps(ctx: Context, directory: str) -> tuple[Dump, ...]:
    """Our dumps in DIRECTORY by name, that is by time; none where it isn't there."""
    try:
        base = os.open(ctx.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, KdumpError):
        return ()
    try:
        names = sorted(name for name in os.listdir(base) if NAME.fullmatch(name))  # noqa: PTH208 - no path
        return tuple(dump for name in names if (dump := _read_dump(base, name)) is not None)
    except OSError:
        return ()
    finally:
        os.close(base)


def read_newest(ctx: Context, directory: str) -> LastDump | None:
    """The newest of our dumps in DIRECTORY; None where it can't be looked into, or has none."""
    found = read_since(ctx, directory, 0, most=1)
    return found[0][0] if found else None


def read_since(
    ctx: Context, directory: str, time: int, word: bytes = b"", *, most: int = 20
) -> tuple[tuple[LastDump, bool | None], ...]:
    """Our dumps of crashes at TIME or later, newest first, each with whether its log has WORD in it.

    That is None where the log can't be read, as without the key of an encrypted one.
    """
    try:
        base = os.open(ctx.path(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, KdumpError):
        return ()
    found: list[tuple[LastDump, bool | None]] = []
    try:
        for name in sorted((n for n in os.listdir(base) if NAME.fullmatch(n)), reverse=True):  # noqa: PTH208
            one = _described(base, directory, name, word)
            if one is None:
                continue
            if one[0].time < time or len(found) >= most:
                break
            found.append(one)
    except OSError:
        pass
    finally:
        os.close(base)
    return tuple(found)


def read_space(ctx: Context, directory: str) -> Space | None:
    """Of the file system of DIRECTORY; None where it isn't there."""
    try:
        facts = os.statvfs(ctx.path(directory))
    except (OSError, KdumpError):
        return None
    return Space(facts.f_blocks * facts.f_frsize // 1024, facts.f_bavail * facts.f_frsize // 1024)


def open_dump(base: int, name: str) -> int | None:
    """Descriptor of the dump NAME below the descriptor BASE; None when it isn't one of ours."""
    if not NAME.fullmatch(name):
        return None
    try:
        fd = os.open(name, HERE | os.O_DIRECTORY, dir_fd=base)
    except OSError:
        return None
    if read_meta(fd) is not None:
        return fd
    os.close(fd)
    return None


def read_meta(fd: int) -> dict[str, str] | None:
    """What `meta` says in the dump that FD is open on, the last line of a key counting; None when it isn't ours."""
    data = meta_bytes(fd)
    if data is None or not data.startswith(b"format=1\n"):
        return None
    lines = data.decode("utf-8", "replace").split("\n")
    return {key: value for key, equals, value in (line.partition("=") for line in lines) if equals}


def meta_bytes(fd: int) -> bytes | None:
    """The beginning of `meta`; None when it is no regular file."""
    return head_of(fd, "meta", LARGEST_META)


def head_of(fd: int, name: str, most: int) -> bytes | None:
    """The first bytes of a file in the directory that FD is open on; None when it is no regular file."""
    try:
        file = os.open(name, HERE | os.O_NONBLOCK, dir_fd=fd)
    except OSError:
        return None
    try:
        return os.read(file, most) if stat.S_ISREG(os.fstat(file).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(file)


def read_json(fd: int, name: str) -> Any:
    """What stands in a file of the dump that FD is open on; None where that is no JSON."""
    import json  # hooks have to be fast, and don't ask

    try:
        return json.loads(head_of(fd, name, LARGEST_REPORT) or b"")
    except (ValueError, RecursionError):
        return None


def is_damaged(report: Any) -> bool:
    """Whether a report, as its JSON has it, says that something is wrong with the dump itself."""
    found = report.get("verification") if isinstance(report, dict) else None
    checks = found.get("checks") if isinstance(found, dict) else None
    every = checks if isinstance(checks, list) else []
    return any(isinstance(check, dict) and check.get("state") == "bad" for check in every)


def core_of(files: Container[str]) -> str:
    """Which of the FILES of a dump is the memory; empty where none is."""
    return next((name + tail for tail in ("", ".age") for name in CORES if name + tail in files), "")


def is_short(meta: dict[str, str], files: dict[str, os.stat_result]) -> bool:
    """Whether the memory is gone or smaller than what the capture wrote, unless somebody has decrypted it since."""
    core = core_of(files)
    steps = [value for key, value in meta.items() if key.startswith("step_vmcore") and value.startswith("exit=0 ")]
    found = re.search(r" bytes=([0-9]{1,15})$", steps[-1]) if steps else None
    is_that = meta.get("encrypted") == ("yes" if core.endswith(".age") else "no")
    return not core or files[core].st_size < (int(found[1]) if found and is_that else 1)


def log_has(fd: int, word: bytes) -> bool | None:
    """Whether the crashed kernel's log in the dump that FD is open on has WORD; None where it can't be read."""
    log = head_of(fd, "dmesg.txt", LARGEST_LOG)
    return None if log is None else word in log


def files_of(fd: int) -> dict[str, int]:
    """The files that kdump-pkg itself puts into a dump, with the KiB that each takes; whatever else is there is not."""
    return {name: facts.st_blocks // 2 for name, facts in stats_of(fd, is_known).items()}


def stats_of(fd: int, wanted: Callable[[str], object]) -> dict[str, os.stat_result]:
    """The regular files in the directory that FD is open on whose names are WANTED."""
    found = {}
    with os.scandir(fd) as entries:
        for entry in entries:
            if wanted(entry.name) and entry.is_file(follow_symlinks=False):
                found[entry.name] = entry.stat(follow_symlinks=False)
    return found


def is_known(name: str) -> bool:
    plain = name.removesuffix(".age")
    return plain in FILES or name.startswith((TEMPORARY, "report."))


def is_pinned(fd: int) -> bool:
    """Whatever has that name: nobody makes it by accident."""
    try:
        os.stat("pinned", dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _described(base: int, directory: str, name: str, word: bytes) -> tuple[LastDump, bool | None] | None:
    from kdump_pkg.model.health import LastDump  # hooks have to be fast, and don't ask

    fd = open_dump(base, name)
    if fd is None:
        return None
    try:
        meta = read_meta(fd) or {}
        crashed, saved = number(meta.get("crash_time")), number(meta.get("saved_time"))
        took = saved - crashed if crashed is not None and saved is not None else -1
        dump = LastDump(
            path=f"{directory.rstrip('/')}/{name}",
            time=time_of(name) if crashed is None else crashed,
            release=name[len("2026-11-23T07-46-54Z-") :],
            result=meta.get("result", "") if meta.get("result") in RESULTS else "",
            seconds=took if 0 <= took < DAY else None,
            damaged=is_damaged(read_json(fd, REPORT_JSON))
            or (meta.get("result") == "complete" and is_short(meta, stats_of(fd, is_known))),
        )
        return dump, log_has(fd, word) if word else None
    finally:
        os.close(fd)


DAY = 86400


def time_of(name: str) -> int:
    """Of a dump's name; 0 for what has the form of a time and is none."""
    from datetime import UTC, datetime

    try:
        return int(datetime.strptime(name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0


def _read_dump(base: int, name: str) -> Dump | None:
    fd = open_dump(base, name)
    if fd is None:
        return None
    try:
        meta = read_meta(fd) or {}
        files = files_of(fd)
        return Dump(
            name,
            complete=meta.get("result") == "complete",
            pinned=is_pinned(fd),
            kib=sum(files.values()) + os.fstat(fd).st_blocks // 2,
            encrypted=any(file.endswith(".age") for file in files),
        )
    except OSError:  # removed meanwhile
        return None
    finally:
        os.close(fd)
