"""Public keys of those who sign the source of Linux, put where makepkg's gpg looks for them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from kdump_pkg.apply.package_build import command
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.run import Result

ARCH = "/usr/share/pacman/keyrings/archlinux.gpg"
LOOKUP_TIMEOUT = 60  # seconds for one key, over the network


def gather(ctx: Context, home: str, wanted: Mapping[str, str], own: bytes | None) -> None:
    """Bring the keys WANTED (fingerprint to address) into the keyring in HOME, out of OWN where that is given.

    One that can't be had is no failure yet: not every source is signed by all. Raises KdumpError where OWN is no good.
    """
    if own is not None:
        try:
            _gpg(ctx, home, ["--import"], stdin=own)
        except CommandError as error:
            raise KdumpError(f"the keys can't be taken: {error.message}", hint="see keys = in [variant]") from None
        return
    missing = [key for key in wanted if not _has(ctx, home, key)]
    if missing and ctx.is_file(ARCH):
        got = _tried(ctx, home, ["--no-default-keyring", "--keyring", ARCH, "--export", *missing])
        if got is not None and got.stdout:
            _tried(ctx, home, ["--import"], stdin=got.stdout)
    for key in missing:
        if wanted[key] and not _has(ctx, home, key):
            find = ["--auto-key-locate", "clear,nodefault,wkd", "--locate-external-keys", wanted[key]]
            _tried(ctx, home, find, timeout=LOOKUP_TIMEOUT)
    if missing:
        with contextlib.suppress(CommandError):
            _run(ctx, home, ["gpgconf", "--kill", "all"])  # what it has started stays otherwise


def _has(ctx: Context, home: str, key: str) -> bool:
    return _tried(ctx, home, ["--list-keys", key]) is not None


def _tried(ctx: Context, home: str, words: list[str], stdin: bytes | None = None, timeout: float = 60) -> Result | None:
    """None where it failed."""
    try:
        return _gpg(ctx, home, words, stdin=stdin, timeout=timeout)
    except CommandError:
        return None


def _gpg(ctx: Context, home: str, words: list[str], stdin: bytes | None = None, timeout: float = 60) -> Result:
    return _run(ctx, home, ["gpg", "--batch", "--no-tty", *words], stdin=stdin, timeout=timeout)


def _run(ctx: Context, home: str, argv: list[str], stdin: bytes | None = None, timeout: float = 60) -> Result:
    return ctx.runner(command(ctx, ["env", "-C", home, *argv]), stdin=stdin, timeout=timeout, env={"HOME": home})
