"""Keeps a test inside its temporary directory: Python's audit events tell of every write and every program started.

The hook can't be taken out again (PEP 578), so there is one for the whole run, which the guard of the moment answers.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SPAWNS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"})

# Event to the places of its path arguments and of their directory descriptors (None: it takes none).
PATHS: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.link": ((1, 3),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "os.removexattr": ((0, None),),
}


class Forbidden(BaseException):
    """A test reached for the machine. No Exception: the code under test must not take it for an error to handle."""


class Guard:
    """What one test may do; `caught` also holds what the code under test swallowed."""

    def __init__(self, *allowed: str, spawns: bool = False) -> None:
        self._allowed = [os.path.realpath(path) for path in allowed]
        self.spawns = spawns
        self.caught: list[str] = []

    def check(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("tempfile.mkdtemp", "tempfile.mkstemp"):
            self._allowed.append(os.path.realpath(args[0]))
        elif event in SPAWNS and not self.spawns:
            self._refuse(f"{event} {args[:2]}: use FakeRunner, or the marker `spawns`")
        elif event == "open":
            path, mode, flags = args[:3]
            if not isinstance(path, int) and os.path.isdir(path):
                return  # fails by itself, or with O_TMPFILE makes a file that never gets a name
            if flags & WRITES if isinstance(flags, int) else set(str(mode)) & set("wax+"):
                self._check_path(event, path, None)
        else:
            for place, directory in PATHS.get(event, ()):
                self._check_path(event, args[place], args[directory] if directory is not None else None)

    def _check_path(self, event: str, path: Any, directory: Any) -> None:
        if isinstance(path, int):
            return  # a descriptor: its opening was checked
        name = os.fsdecode(path)
        if not os.path.isabs(name) and isinstance(directory, int) and directory >= 0:
            name = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), name)
        # The last component itself is written, not what it leads to; /dev/null takes all and compiled Python is
        # nobody's data.
        where = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(name))), os.path.basename(name))
        if where in ("/dev/null", "/dev/tty") or "__pycache__" in where.split("/"):
            return
        if event == "open":
            where = os.path.realpath(where)
        if not any(where == top or where.startswith(f"{top}/") for top in self._allowed):
            self._refuse(f"{event} {where}: outside of tmp_path")

    def _refuse(self, what: str) -> None:
        self.caught.append(what)
        raise Forbidden(what)


_active: list[Guard] = []
_checking = threading.local()


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active or not (event == "open" or event in PATHS or event in SPAWNS or event.startswith("tempfile.")):
        return
    if getattr(_checking, "now", False):  # what the check itself does is not to be checked
        return
    _checking.now = True
    try:
        _active[-1].check(event, args)
    finally:
        _checking.now = False


def install() -> None:
    sys.addaudithook(_hook)


def release() -> None:
    """Whatever became of the fixture: between two tests nothing is forbidden."""
    _active.clear()


@contextmanager
def guarded(guard: Guard) -> Iterator[Guard]:
    _active.append(guard)
    try:
        yield guard
    finally:
        if guard in _active:
            _active.remove(guard)
