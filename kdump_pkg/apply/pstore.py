"""Makes a dump, without a memory, of a log that the kernel left in pstore; and remembers of which it did."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from kdump_pkg import fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError

MOST = 500
"""That are remembered; EFI has room for some twenty logs."""


def read_seen(ctx: Context) -> tuple[str, ...]:
    """Digests of those that were dealt with."""
    entries = ctx.read_record(paths.PSTORE_SEEN).get("seen")
    return tuple(one for one in (entries if isinstance(entries, list) else []) if isinstance(one, str))


def remember(ctx: Context, seen: Sequence[str]) -> None:
    fs.write_record(ctx.path(paths.PSTORE_SEEN, follow=False), {"seen": list(dict.fromkeys(seen))[-MOST:]})


def make(ctx: Context, directory: str, name: str, meta: Mapping[str, str], log: bytes, secret: Sequence[str]) -> bool:
    """The dump NAME; encrypted for all of SECRET, if any. False where there is one of that name already.

    `meta` comes last: without it the directory is nobody's dump. Raises KdumpError, and leaves nothing behind.
    """
    home = ctx.path(directory) / name
    try:
        home.mkdir(mode=0o700)
    except FileExistsError:
        if (home / "meta").exists():
            return False
    except OSError as error:
        raise KdumpError(f"{home}: {error.strerror}") from None
    made: list[Path] = []
    try:
        for file, data in _files(ctx, meta, log, secret):
            made.append(home / file)
            fs.write_atomic(home / file, data, 0o600)
    except KdumpError:
        _take_back(home, made)
        raise
    return True


def _files(
    ctx: Context, meta: Mapping[str, str], log: bytes, secret: Sequence[str]
) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    text = "".join(f"{key}={value}\n" for key, value in meta.items()).encode()
    if not secret:
        return ("dmesg.txt", log), ("meta", text)
    recipients = [word for key in secret for word in ("-r", key)]
    sealed = ctx.runner(["age", *recipients], stdin=log, timeout=60).stdout
    return ("dmesg.txt.age", sealed), ("meta", text)


def _take_back(home: Path, made: Sequence[Path]) -> None:
    try:
        for path in made:
            path.unlink(missing_ok=True)
        os.rmdir(home)  # noqa: PTH106 - what is not empty is not ours
    except OSError:
        pass
