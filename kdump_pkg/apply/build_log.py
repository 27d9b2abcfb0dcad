"""What makepkg says while it works, read as it comes; and, when it fails, the one line that says why."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

from kdump_pkg.errors import KdumpError
from kdump_pkg.untrusted import one_line

TAIL = 15  # lines that are kept of a failure
WIDTH = 400  # characters of a line that are looked at
PIECE = 1 << 16
FLOOD = 1 << 28  # bytes: a build says one or two megabytes
SILENCE = 3600  # seconds without a word after which nothing more is expected
COMPILED = re.compile(r"  (?:CC|AS)(?: \[M\])? +\S")
"""One file compiled, as kbuild announces it."""
NAME, SOURCE = r"[\w.+~:/-]+", "the source"


class BuildError(KdumpError):
    """No package came of it: at which step, why, what to do, and what was said last."""

    def __init__(self, step: str, text: str, *, hint: str | None = None, tail: tuple[str, ...] = ()) -> None:
        super().__init__(text, hint=hint)
        self.step = step
        self.tail = tail


@dataclass(frozen=True)
class Log:
    """What was said so far."""

    objects: int = 0
    """Files that were compiled."""
    tail: tuple[str, ...] = ()
    """The last lines, cleaned."""


@dataclass(frozen=True)
class _Kind:
    """A way to fail: the line that shows it; each `{}` in TEXT is what one of its groups caught."""

    step: str
    line: re.Pattern[str]
    text: str
    hint: str = ""


def _kind(step: str, line: str, text: str, hint: str = "") -> _Kind:
    return _Kind(step, re.compile(line), text, hint)


FREE = "free some space and run it again"
KEYS = "put its public key into a file and name that in [variant]: keys = FILE"
KINDS = (
    _kind("building", r"No space left on device|Disk quota exceeded", "the disk is full", FREE),
    _kind(
        "fetching", rf"==> ERROR: Failure while downloading ({NAME})", "{} can't be fetched",
        "is there a network? source = FILE in [variant] builds from an archive that is there",
    ),
    _kind(
        "fetching", rf"==> ERROR: ({NAME}) was not found in the build directory", "{} is not there",
        "see source = in [variant]",
    ),
    _kind(
        "verifying", rf"^ *({NAME}) \.\.\. FAILED \(unknown public key ([0-9A-F]+)\)",
        "{} is signed by a key that is not at hand: {}", KEYS,
    ),
    _kind(
        "verifying", rf"^ *({NAME}) \.\.\. FAILED \(invalid public key ([0-9A-F]+)\)",
        "{} is signed by a key that is not one of those that may: {}", KEYS,
    ),
    _kind("verifying", rf"^ *({NAME}) \.\.\. FAILED \((.*)\)", "the signature of {} is no good: {}", "get it again"),
    _kind("verifying", rf"^ *({NAME}) \.\.\. SIGNATURE NOT FOUND", "{} has no signature"),
    _kind(
        "verifying", rf"^ *({NAME}) \.\.\. FAILED", "the hash of {} is wrong",
        "see sha256 = in [variant], or get the source again",
    ),
    _kind("preparing", r"==> ERROR: (Could not resolve all dependencies)", "{}"),
    _kind("configuring", r"^linux[\w-]*: (.+)", "{}"),
    _kind(
        "configuring", r"C compiler '?([\w .-]+?)'? not found|(\bg?cc): command not found|(gcc): No such file",
        "the compiler {} is not installed", "pacman -S --asdeps --needed gcc",
    ),
    _kind(
        "building", r"Killed signal terminated program|Cannot allocate memory|virtual memory exhausted|\bKilled$",
        "there was not enough memory", "MemoryMax= of kdump-pkg-variant.service limits it",
    ),
    _kind("building", r"^([\w./+-]+:\d+(?::\d+)?: (?:fatal )?error: .+)", "it can't be compiled: {}"),
    _kind("preparing", r"Unrecognized archive format|(?:Truncated|Damaged) \w+ archive|truncated .* input",
          "the archive of the source is damaged, or is none", "get it again"),
    _kind("preparing", r"(\d+ out of \d+ hunks? (?:FAILED|failed).*)", "a patch doesn't fit the source: {}"),
    _kind("building", r"^make(?:\[\d+\])?: \*\*\* (.+)", "make: {}"),
    _kind("building", r"==> ERROR: (.+)", "makepkg: {}"),
)  # fmt: skip
"""The first of these that any line shows is the reason: what comes later in it follows from what comes first."""


class Reader:
    """Reads a log from where it was left, and keeps what matters of it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._rest = b""
        self._tail: list[str] = []
        self._objects = 0
        self._found: dict[int, str] = {}
        self._heard = time.monotonic()

    @property
    def log(self) -> Log:
        return Log(self._objects, tuple(self._tail))

    def read(self) -> Log:
        """Go on to its end. Raises BuildError for one that never ends, or stays where it is."""
        now = time.monotonic()
        if now - self._heard > SILENCE:
            raise self._error("building", f"makepkg has said nothing for {SILENCE // 60} minutes")
        while data := os.pread(self._fd, PIECE, self._at):
            self._at += len(data)
            self._heard = now
            if self._at > FLOOD:
                raise self._error("building", f"makepkg said more than {FLOOD >> 20} MiB")
            *whole, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-PIECE:]
            for line in whole:
                self._take(line.decode("utf-8", "replace"))
        return self.log

    def _take(self, line: str) -> None:
        line = line[:WIDTH].rstrip()
        self._objects += COMPILED.match(line) is not None
        words = one_line(line, WIDTH)
        if words:
            self._tail = [*self._tail[1 - TAIL :], words]
        for number, kind in enumerate(KINDS):
            if number not in self._found and (hit := kind.line.search(line)):
                self._found[number] = kind.text.format(*(one_line(group, WIDTH) for group in hit.groups() if group))

    def failure(self, how: str) -> BuildError:
        """Why the build failed that has said this; HOW it ended where nothing tells."""
        if self._rest:
            self._take(self._rest.decode("utf-8", "replace"))
            self._rest = b""
        if not self._found:
            return self._error("building", how)
        number = min(self._found)
        return self._error(KINDS[number].step, self._found[number], KINDS[number].hint)

    def _error(self, step: str, text: str, hint: str = "") -> BuildError:
        return BuildError(step, text, hint=hint or None, tail=tuple(self._tail))
