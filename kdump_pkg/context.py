"""The one handle on the machine: its root directory, runner, clock, keyring. Nothing else reaches the system."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from kdump_pkg.errors import KdumpError
from kdump_pkg.keyring import Keyring, SystemKeyring
from kdump_pkg.run import Runner, SystemRunner

MAX_LINKS = 40  # what Linux itself follows before ELOOP, path_resolution(7)
PIECE = 1 << 20
LARGEST = 1 << 26  # bytes read at once; the longest file list of a package has some 10 MB


@dataclass(frozen=True)
class Context:
    root: Path = Path("/")
    runner: Runner = field(default_factory=SystemRunner)
    clock: Callable[[], float] = time.time
    keyring: Keyring = field(default_factory=SystemKeyring)

    @property
    def live(self) -> bool:
        """Whether this is the running system, not a directory that holds another one."""
        return self.root == Path("/")

    def path(self, name: str, *, follow: bool = True) -> Path:
        """Where the absolute path NAME lies on this machine, symlinks resolved inside the root.

        With `follow=False` the last component is not followed (for removing and replacing).
        Raises KdumpError for a relative name and for a loop of links. `..` and absolute links never leave the root.
        """
        if not name.startswith("/"):
            raise KdumpError(f"{name}: not an absolute path")
        if self.live:
            return Path(name)
        done: list[str] = []
        todo = [part for part in reversed(name.split("/")) if part not in ("", ".")]
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = self.root.joinpath(*done, part)
            if (todo or follow) and _is_link(here):
                links += 1
                if links > MAX_LINKS:
                    raise KdumpError(f"{name}: too many levels of symbolic links")
                target = os.readlink(here)  # noqa: PTH115 - Path.readlink would normalise it
                if target.startswith("/"):
                    done.clear()
                todo.extend(p for p in reversed(target.split("/")) if p not in ("", "."))
            else:
                done.append(part)
        return self.root.joinpath(*done)

    def read_text(self, name: str) -> str | None:
        """Text of a file, stripped; None when it can't be read. Meant for /proc, /sys and small records."""
        data = self.read_bytes(name)
        return None if data is None else data.decode("utf-8", "surrogateescape").strip()

    def read_bytes(self, name: str) -> bytes | None:
        """Content of a file; None when it can't be read or is larger than anything that is meant to be read whole."""
        try:
            with open(self.path(name), "rb", opener=_open) as file:
                if os.fstat(file.fileno()).st_size > LARGEST:
                    return None
                return _read(file)
        except (OSError, KdumpError):
            return None

    def read_record(self, name: str) -> dict[str, Any]:
        """A JSON object that we wrote ourselves; empty when it is missing or damaged."""
        try:
            value = json.loads(self.read_bytes(name) or b"{}")
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}

    def names(self, directory: str) -> list[str]:
        """Sorted names in a directory; none when it isn't there."""
        try:
            return sorted(os.listdir(self.path(directory)))  # noqa: PTH208 - names are wanted, not paths
        except (OSError, KdumpError):
            return []

    def is_file(self, name: str) -> bool:
        try:
            return stat.S_ISREG(self.path(name).stat().st_mode)
        except (OSError, KdumpError):
            return False


def _read(file: IO[bytes]) -> bytes | None:
    """All of it, piece by piece: files in /proc have no size, and those in /proc/sys refuse a read of megabytes."""
    data = b""
    while len(data) <= LARGEST:
        piece = file.read(PIECE)
        if piece is None:
            return None  # a pipe with nothing in it
        if not piece:
            return data
        data += piece
    return None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO in the place of a file must not hang us


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False


def stamp(path: Path) -> str:
    """Size and modification time of a file in one string; empty when it isn't there."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return ""


def stamp_of(facts: os.stat_result) -> str:
    """The same of what was found out about a file."""
    return f"{facts.st_size}:{facts.st_mtime_ns}"
