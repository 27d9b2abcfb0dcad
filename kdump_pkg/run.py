"""The one place where programs are started: argv lists, a clean environment, and failures that explain themselves."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from kdump_pkg.errors import CommandError
from kdump_pkg.packages import package_of
from kdump_pkg.untrusted import masked

TAIL = 5  # lines of a failed program's stderr that are worth showing
GRACE = 5  # seconds that a group of programs has to end by itself


@dataclass(frozen=True)
class Result:
    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")


class Runner(Protocol):
    def __call__(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        capture: bool = True,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run ARGV to its end; see SystemRunner."""
        ...


class SystemRunner:
    """Runs programs for real.

    `root` runs it chroot(2)ed there; `capture=False` lets its output go to ours (build logs); seconds of `timeout`.
    Raises CommandError when the program isn't there, takes too long, or (with `check`) fails.
    """

    def __call__(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        capture: bool = True,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        command = list(argv)
        if root is not None and root != Path("/"):
            command = ["chroot", os.fspath(root), *command]
        try:
            done = subprocess.run(
                command,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=subprocess.PIPE if capture else None,
                stderr=subprocess.PIPE if capture else None,
                timeout=timeout,
                env=clean_environment(env),
                check=False,
            )
        except FileNotFoundError:
            raise CommandError(f"{command[0]}: not found", hint=_install(command[0])) from None
        except OSError as error:
            raise CommandError(f"{command[0]}: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise CommandError(f"{_line(argv)}: not done after {timeout:.0f} s, ended") from None
        result = Result(tuple(argv), done.returncode, done.stdout or b"", done.stderr or b"")
        if check and done.returncode != 0:
            raise explain(result)
        return result


class Stream:
    """A program at work whose output comes to us piece by piece."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self.argv = tuple(argv)
        self._process = process
        self._words = words

    def read(self, size: int) -> bytes:
        """SIZE bytes of its output, fewer only at the end."""
        assert self._process.stdout is not None
        return self._process.stdout.read(size)

    def end(self) -> Result:
        """Throw the rest of its output away and wait for it."""
        while self.read(1 << 20):
            pass
        code = self._process.wait()
        self._words.seek(0)
        return Result(self.argv, code, b"", self._words.read(1 << 16))


@contextlib.contextmanager
def streaming(argv: Sequence[str], *, stdin: int) -> Iterator[Stream]:
    """Run ARGV on a file and read its output meanwhile; it is killed when the block is left.

    What it says on stderr goes to a file without a name: a pipe that nobody empties would stop it.
    """
    with (
        tempfile.TemporaryFile() as words,
        _started(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=words) as process,
    ):
        yield Stream(argv, process, words)


class Sink:
    """A program at work that gets its input from us piece by piece."""

    def __init__(self, argv: Sequence[str], process: subprocess.Popen[bytes], words: IO[bytes]) -> None:
        self.argv = tuple(argv)
        self._process = process
        self._words = words

    def write(self, data: bytes) -> int:
        """Raises CommandError when it has ended before all was said."""
        assert self._process.stdin is not None
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._process.stdin.write(rest) :]
        except BrokenPipeError:
            raise explain(self._result()) from None
        return len(data)

    def end(self) -> None:
        """Say that this was all, and wait for it. Raises CommandError when it fails."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        result = self._result()
        if result.returncode != 0:
            raise explain(result)

    def _result(self) -> Result:
        code = self._process.wait()
        self._words.seek(0)
        return Result(self.argv, code, b"", self._words.read(1 << 16))


@contextlib.contextmanager
def feeding(argv: Sequence[str], *, stdout: int) -> Iterator[Sink]:
    """Run ARGV with its output going to a descriptor, and feed it meanwhile; it is killed when the block is left."""
    with (
        tempfile.TemporaryFile() as words,
        _started(argv, stdin=subprocess.PIPE, stdout=stdout, stderr=words, buffered=False) as process,
    ):
        yield Sink(argv, process, words)


@contextlib.contextmanager
def _started(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: IO[bytes] | None = None,
    buffered: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program at work, killed and its pipes closed when the block is left. Raises CommandError when there is none."""
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=clean_environment(),
            bufsize=-1 if buffered else 0,
        )
    except FileNotFoundError:
        raise CommandError(f"{argv[0]}: not found", hint=_install(argv[0])) from None
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error.strerror}") from None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # of what was never read
                    pipe.close()


def interact(argv: Sequence[str]) -> int:
    """Run ARGV on our own terminal until it ends, and return its exit code; what is typed, Ctrl-C too, is for it."""
    before = signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN it does not reach the program
    try:
        with _started(argv) as process:
            return process.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def watched(
    argv: Sequence[str],
    *,
    log: int,
    watch: Callable[[], None],
    env: Mapping[str, str],
    every: float = 1,
) -> int:
    """Run ARGV with ENV and nothing else in its environment, and what it says going to the descriptor LOG.

    It gets a session of its own. WATCH is called EVERY so many seconds; when it raises, or we are interrupted, all that
    ARGV has started is ended. Returns its exit code. Raises CommandError when there is no such program.
    """
    try:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(env), cwd="/", start_new_session=True
        )
    except FileNotFoundError:
        raise CommandError(f"{argv[0]}: not found", hint=_install(argv[0])) from None
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error.strerror}") from None
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(every)
            watch()
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """First kindly, so that make takes away what is half written; then all that is left."""
    if process.poll() is not None:
        return
    _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    # Its number stays that of the group, and nobody else's, for as long as it isn't waited for.
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) and time.monotonic() < deadline:
        time.sleep(0.05)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM, as systemctl stop sends it, ends the block as Ctrl-C does: by KeyboardInterrupt."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGTERM and Ctrl-C wait for the end of the block; programs that are started in it get them as ever."""
    caught: list[int] = []
    kinds = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(kind, lambda number, _: caught.append(number)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
    if caught:
        raise KeyboardInterrupt


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a program we start may see: nothing of the user's locale or language settings gets through."""
    kept = {key: os.environ[key] for key in ("HOME", "TERM", "TMPDIR", "SOURCE_DATE_EPOCH") if key in os.environ}
    path = os.environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/bin"
    return {"PATH": path, **kept, "LC_ALL": "C.UTF-8", **(extra or {})}


def explain(result: Result) -> CommandError:
    """The error for a program that failed: what was run, how it ended, its last words."""
    code = result.returncode
    if code < 0:
        names = {s.value: s.name for s in signal.Signals}  # real-time signals have none
        how = f"killed by {names.get(-code, f'signal {-code}')}"
    elif code == 127:
        how = "not found (127)"
    else:
        how = f"exit code {code}"
    lines = [line for line in result.stderr.decode("utf-8", "replace").splitlines() if line.strip()][-TAIL:]
    words = f": {masked('; '.join(' '.join(line.split()) for line in lines))}" if lines else ""
    return CommandError(f"{_line(result.argv)} failed, {how}{words}")


def _line(argv: Sequence[str]) -> str:
    """A command in one line; a whole script in it says nothing to the reader of an error."""
    return " ".join("…" if "\n" in word else shlex.quote(word) for word in argv)


def _install(program: str) -> str:
    name = Path(program).name
    return f"install it: pacman -S {package_of(name)}"
