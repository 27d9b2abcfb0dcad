"""What every part of the lab needs: a command runner, one error, and a cache whose entries are whole or absent."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

UNUSED_SECONDS = 7 * 24 * 3600
Text = subprocess.CompletedProcess[str]


class LabError(Exception):
    """The lab can't do what was asked of it; the message says why and what would help."""


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    check: bool = True,
    timeout: float = 900,
) -> Text:
    """A command of the host, its output captured; a failure is a LabError that shows the end of that output."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words,
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        raise LabError(explain(words, done))
    return done


def explain(argv: Sequence[str], done: Text) -> str:
    """One failed command in words: what it was, how it ended, the last lines it said."""
    said = "\n".join(((done.stdout or "") + (done.stderr or "")).splitlines()[-30:])
    return f"{' '.join(argv)[:600]}: exit {done.returncode}\n{said}"


def say(line: str) -> None:
    """Progress of something slow, on stderr."""
    sys.stderr.write(f"==> lab: {line}\n")
    sys.stderr.flush()


def need(*tools: str) -> None:
    """Refuse early, naming every missing tool at once."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        raise LabError(f"not installed on this machine: {', '.join(missing)} (run tests/lab/provision)")


def cache() -> Path:
    """The directory that outlives a run: KDUMP_LAB_CACHE, else the user's cache directory."""
    set_by_user = os.environ.get("KDUMP_LAB_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = Path(set_by_user) if set_by_user else home / "kdump-pkg-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def digest(*parts: str | bytes) -> str:
    """A short key for what these parts make together."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()[:16]


def source_digest(*modules: str) -> str:
    """A key for the recipe itself: the text of these modules of the lab."""
    here = Path(__file__).parent
    return digest(*(here.joinpath(f"{name}.py").read_bytes() for name in modules))


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time: test runs side by side share the cache."""
    with (cache() / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(name: str, make: Callable[[Path], None]) -> Path:
    """The cache entry `name`, made by ``make(path)`` when it is absent: under a name of its own, then renamed."""
    final = cache() / name
    if final.exists():
        os.utime(final)
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(name.replace("/", "_")):
        if not final.exists():
            unfinished = final.with_name(f".unfinished.{final.name}")
            remove(unfinished)
            try:
                make(unfinished)
            except BaseException:
                remove(unfinished)
                raise
            unfinished.rename(final)
            _forget(final.parent)
    return final


def _forget(directory: Path) -> None:
    """Entries that no run has asked for in a week: older recipes, mostly."""
    for entry in directory.iterdir():
        if entry.stat().st_mtime < time.time() - UNUSED_SECONDS:
            remove(entry)


def remove(path: Path) -> None:
    """Whatever is there, gone."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
