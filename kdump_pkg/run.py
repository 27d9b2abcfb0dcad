"""The one place where programs are started: argv lists, a clean environment, and failures that explain themselves."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kdump_pkg.errors import CommandError

PACKAGE_OF = {
    "kexec": "kexec-tools",
    "makedumpfile": "makedumpfile",
    "mkinitcpio": "mkinitcpio",
    "dracut": "dracut",
    "qemu-system-x86_64": "qemu-system-x86",
    "zstd": "zstd",
    "lz4": "lz4",
    "lzop": "lzop",
    "mkfs.ext4": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "busybox": "busybox",
}
TAIL = 5  # lines of a failed program's stderr that are worth showing


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
    words = f": {'; '.join(line.strip() for line in lines)}" if lines else ""
    return CommandError(f"{_line(result.argv)} failed, {how}{words}")


def _line(argv: Sequence[str]) -> str:
    """A command in one line; a whole script in it says nothing to the reader of an error."""
    return " ".join("…" if "\n" in word else shlex.quote(word) for word in argv)


def _install(program: str) -> str:
    name = Path(program).name
    return f"install it: pacman -S {PACKAGE_OF.get(name, name)}"
