"""What a rehearsal does on this machine: the first stage's archive, the scratch disk, QEMU, and what it left behind.

Everything lies in one temporary directory inside the root that is worked on, so that its makedumpfile can read there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kdump_pkg import cpio, fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import elf
from kdump_pkg.packages import package_of
from kdump_pkg.run import clean_environment

PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
# Where loaders look without being told, on Arch and, for the tests' sake, on Debian.
LIBRARY_DIRECTORIES = (
    "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib", "/lib/x86_64-linux-gnu", "/lib64",
)  # fmt: skip
KVM = "/dev/kvm"
PROBE_TIMEOUT = 20  # seconds; where KVM works, it takes two
TYPING = 1  # seconds between a question and our answer
GRACE = 5  # seconds for the last words, once nothing more is expected
FLOOD = 64 << 20  # bytes; a capture says some 30 kB
LONGEST = 4096  # bytes without a line's end that still are one line
WANTED_SPACE = 512 << 20  # bytes: two copies of a usual dump, and the first stage


@dataclass(frozen=True)
class Run:
    """How a machine ran: its console, line by line, with the seconds since its start."""

    lines: tuple[tuple[float, bytes], ...]
    seconds: float
    timed_out: bool
    """It was ended by us, not by itself."""
    killed: bool = False
    """As it was asked for: the power was cut."""


@contextmanager
def workplace(ctx: Context) -> Iterator[Path]:
    """A directory of our own below this root, gone afterwards; not in memory, where that can be had."""
    home = next((path for path in map(ctx.path, ("/var/tmp", "/tmp")) if path.is_dir()), None)
    if home is None:
        raise KdumpError(f"{ctx.root} has no /var/tmp to work in")
    fs.check_space(home, WANTED_SPACE)
    with tempfile.TemporaryDirectory(prefix="kdump-pkg-rehearsal-", dir=home) as name:
        yield Path(name)


def need(program: str) -> None:
    """Raises KdumpError when PROGRAM isn't on this machine."""
    if shutil.which(program, path=clean_environment()["PATH"]) is None:
        hint = f"install it: pacman -S {package_of(program)}"
        raise KdumpError(f"{program} is not installed, a rehearsal needs it", hint=hint)


def first_stage(
    ctx: Context, init: str, programs: Sequence[str], files: Iterable[cpio.File] = (), maybe: Sequence[str] = ()
) -> bytes:
    """The archive that the virtual machine starts from: /init, PROGRAMS in /bin with their libraries, FILES."""
    todo = [(f"/bin/{name}", _find(ctx, name, PROGRAM_DIRECTORIES)) for name in programs]
    for name in maybe:
        with contextlib.suppress(KdumpError):
            todo.append((f"/bin/{name}", _find(ctx, name, PROGRAM_DIRECTORIES)))
    contents: dict[str, bytes] = {}
    while todo:
        name, path = todo.pop()
        data = contents[name] = read(ctx, path)
        linkage = elf.linkage(data, path)
        needs = [_find(ctx, library, LIBRARY_DIRECTORIES, linkage.machine) for library in linkage.libraries]
        if "libpthread.so.0" in linkage.libraries or "libcryptsetup.so.12" in linkage.libraries:
            needs += _threads(ctx, linkage.machine)
        if linkage.interpreter:
            needs.append(linkage.interpreter)
        todo.extend((need, need) for need in needs if need not in contents)
    entries = [cpio.File("/init", init.encode(), 0o755)]
    entries += [cpio.File(name, data, 0o755) for name, data in sorted(contents.items())]
    entries += [cpio.File(directory, b"", cpio.DIRECTORY) for directory in ("/dev", "/proc", "/sys")]
    return cpio.archive([*entries, *files])


def _threads(ctx: Context, machine: str) -> list[str]:
    """The C library opens it when a thread ends early, which Argon2's do; nothing names it."""
    try:
        return [_find(ctx, "libgcc_s.so.1", LIBRARY_DIRECTORIES, machine)]
    except KdumpError:
        return []


def read(ctx: Context, name: str) -> bytes:
    """A file of this root. Raises KdumpError when it can't be read."""
    try:
        return ctx.path(name).read_bytes()
    except PermissionError:
        raise KdumpError(f"{name}: only root can read it", hint="run it with sudo") from None
    except OSError as error:
        raise KdumpError(f"{name}: {error.strerror}") from None


def _find(ctx: Context, name: str, directories: Sequence[str], machine: str | None = None) -> str:
    """Path of a program, or of a library of this MACHINE: others of its name may lie about."""
    for directory in directories:
        path = f"{directory}/{name}"
        if ctx.is_file(path) and (machine is None or elf.linkage(read(ctx, path), path).machine == machine):
            return path
    hint = None if machine else f"install it: pacman -S {package_of(name)}"
    raise KdumpError(f"{name} is not in {', '.join(directories)}, a rehearsal needs it", hint=hint)


def watch(
    argv: Sequence[str],
    *,
    timeout: float,
    ends: Callable[[bytes], bool],
    answers: Sequence[tuple[str, str]] = (),
    cut: tuple[str, float] | None = None,
) -> Run:
    """Run a machine and read its console until it ends, until ENDS says that nothing more will come, or TIMEOUT.

    ANSWERS are typed when what is on the console fits their pattern. CUT kills it some seconds after such a line.
    """
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
        )
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error.strerror}") from None
    try:
        assert process.stdout is not None
        return _follow(process, _Reader(start), _Typist(process.stdin, answers), _End(start, timeout, ends, cut))
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


def _follow(process: subprocess.Popen[bytes], reader: _Reader, typist: _Typist, end: _End) -> Run:
    assert process.stdout is not None
    console = process.stdout.fileno()
    while reader.size < FLOOD and (left := end.at - time.monotonic()) > 0:
        ready = select.select([console], [], [], min(left, typist.type_what_is_due()))[0]
        if not ready:
            continue
        data = os.read(console, 1 << 16)
        if not data:
            return Run(reader.finish(), end.since(), False)
        for line in reader.feed(data):
            end.consider(line)
        typist.read(data)
    return Run(reader.finish(), end.since(), not end.cut, end.cut)


class _End:
    """When a machine is over for us."""

    def __init__(
        self, start: float, timeout: float, ends: Callable[[bytes], bool], cut: tuple[str, float] | None
    ) -> None:
        self.at = start + timeout
        self.cut = False
        self._start = start
        self._ends = ends
        self._cut = (re.compile(cut[0].encode()), cut[1]) if cut else None
        self._over = False

    def since(self) -> float:
        return time.monotonic() - self._start

    def consider(self, line: bytes) -> None:
        now = time.monotonic()
        if self._cut and not self.cut and self._cut[0].search(line):
            self.at, self.cut = min(self.at, now + self._cut[1]), True
        elif self._ends(line) and not (self._over or self.cut):
            self.at, self._over = now + GRACE, True


class _Typist:
    """Types an answer a moment after its question: whoever asks throws away what was typed before."""

    def __init__(self, keyboard: IO[bytes] | None, answers: Sequence[tuple[str, str]]) -> None:
        self._keyboard = keyboard
        self._answers = [(re.compile(question.encode()), answer.encode() + b"\n") for question, answer in answers]
        self._seen = b""
        self._due: list[tuple[float, bytes]] = []

    def read(self, data: bytes) -> None:
        self._seen = (self._seen + data)[-LONGEST:]
        for question, answer in self._answers:
            while found := question.search(self._seen):
                self._seen = self._seen[found.end() :]
                self._due.append((time.monotonic() + TYPING, answer))

    def type_what_is_due(self) -> float:
        """Seconds until the next one."""
        now = time.monotonic()
        while self._keyboard and self._due and self._due[0][0] <= now:
            with contextlib.suppress(OSError):  # it has ended
                self._keyboard.write(self._due.pop(0)[1])
                self._keyboard.flush()
        return max(self._due[0][0] - now, 0.01) if self._due else float(PROBE_TIMEOUT)


class _Reader:
    """Cuts what comes into lines, and notes when each was whole."""

    def __init__(self, start: float) -> None:
        self.size = 0
        self._start = start
        self._rest = b""
        self._lines: list[tuple[float, bytes]] = []

    def feed(self, data: bytes) -> list[bytes]:
        self.size += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            whole.append(self._rest)
            self._rest = b""
        now = time.monotonic() - self._start
        self._lines += [(now, line[:LONGEST]) for line in whole]
        return whole

    def finish(self) -> tuple[tuple[float, bytes], ...]:
        if self._rest:
            self.feed(b"\n")
        return tuple(self._lines)


def kvm_works(ctx: Context, command: Sequence[str], mark: str) -> bool:
    """Whether a machine under KVM really comes to say MARK: tried once in a boot, never believed by an exit code."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return False
    boot = Context().read_text("/proc/sys/kernel/random/boot_id")  # this machine's, whatever root is worked on
    record = ctx.path(f"{paths.RUN}/kvm.json")
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["boot_id"] == boot:
            return bool(known["works"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    run = watch(command, timeout=PROBE_TIMEOUT, ends=lambda line: False)
    works = any(mark.encode() in line for _, line in run.lines)
    with contextlib.suppress(KdumpError, OSError):  # then it is tried again the next time
        fs.write_record(record, {"boot_id": boot, "works": works})
    return works


def read_log(ctx: Context, dump: Path) -> bytes | None:
    """The kernel's log out of the vmcore, by this root's makedumpfile; empty when it can't, None without one."""
    log = dump.parent / "log-from-vmcore"
    inside = [f"/{path.relative_to(ctx.root)}" for path in (dump / "vmcore", log)]
    if not (ctx.live or os.geteuid() == 0) or not any(ctx.is_file(f"{d}/makedumpfile") for d in PROGRAM_DIRECTORIES):
        return None
    try:
        ctx.runner(["makedumpfile", "--dump-dmesg", *inside], root=ctx.root)
        return log.read_bytes()
    except (CommandError, OSError):
        return b""
    finally:
        log.unlink(missing_ok=True)


def check_keep(directory: Path) -> None:
    """Raises KdumpError unless DIRECTORY can be made, or is there and empty: nothing is mixed or written over."""
    fs.ensure_directory(directory)
    if any(directory.iterdir()):
        raise KdumpError(f"{directory}: not empty", hint="--keep takes an empty or a new directory")
