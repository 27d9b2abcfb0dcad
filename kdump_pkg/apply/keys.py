"""Volume keys for the capture kernel: each into root's keyring, and its name to where kexec_file_load looks it up.

A key is never in an argument, a file or a message: cryptsetup puts it from the LUKS header straight into the kernel's
keyring, and the kernel copies it from there into reserved memory (kernel/crash_dump_dm_crypt.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.model import CACHED, CryptVolume

TIMEOUT = 120  # seconds: Argon2 takes a few, a TPM some more
TRIES = 3
Report = Callable[[str], None]


@contextmanager
def offered(ctx: Context, volumes: Sequence[CryptVolume], report: Report) -> Iterator[tuple[str, ...]]:
    """Within this block kexec_file_load takes along the keys of the volumes whose UUIDs it gives.

    What keeps a key back is reported. Nothing of it is left behind: the kernel refuses whatever is loaded while it is
    told of a key that the one who loads can't find.
    """
    _withdraw(ctx)
    if not volumes:
        yield ()
        return
    try:
        yield tuple(_offer(ctx, volumes, report))
    finally:
        _withdraw(ctx)


def unlock(ctx: Context, volumes: Sequence[CryptVolume], ask: Callable[[str], str]) -> None:
    """Link the keys of these volumes by passphrases that the user types, for as long as this boot lasts.

    A passphrase that fitted is tried on the next volume unasked. Raises KdumpError where none fits.
    """
    ctx.keyring.join()
    known: list[bytes] = []
    for volume in volumes:
        if ctx.keyring.has("logon", volume.key_name):
            continue
        if volume.version == 1:
            raise KdumpError(f"{_name(volume)}: {LUKS1[0]}", hint=LUKS1[1])
        if any(_link(ctx, volume, "--key-file", "-", stdin=one) is None for one in known):
            continue
        known.append(_typed(ctx, volume, ask))


LUKS1 = ("its header is LUKS1, from which no key can be linked", "cryptsetup convert --type luks2, offline")


def _typed(ctx: Context, volume: CryptVolume, ask: Callable[[str], str]) -> bytes:
    problem: str | None = None
    for _ in range(TRIES):
        passphrase = ask(f"Passphrase for {_name(volume)}: ").encode()
        problem = _link(ctx, volume, "--key-file", "-", stdin=passphrase)
        if problem is None:
            return passphrase
    raise KdumpError(f"{_name(volume)}: {problem}")


def _offer(ctx: Context, volumes: Sequence[CryptVolume], report: Report) -> Iterator[str]:
    try:
        _mount_configfs(ctx)
        ctx.keyring.join()
    except KdumpError as error:
        report(f"no key is handed over: {error.message}")
        return
    for volume in volumes:
        problem = _make_sure(ctx, volume) or _announce(ctx, volume)
        if problem is None:
            yield volume.uuid
        else:
            report(f"the key of {_name(volume)} is not handed over: {problem}")


def _make_sure(ctx: Context, volume: CryptVolume) -> str | None:
    """Have the key in root's keyring; why it can't be there, in one line."""
    if ctx.keyring.has("logon", volume.key_name):
        return None
    match volume.key:
        case "keyfile":
            return _link(ctx, volume, "--key-file", volume.keyfile)
        case "token":
            return _link(ctx, volume, "--token-only")
        case "cached":
            held = ctx.keyring.read("user", CACHED) or b""
            fits = any(_link(ctx, volume, "--key-file", "-", stdin=one) is None for one in held.split(b"\0") if one)
            return None if fits else "none of the passphrases typed at boot opens it (kdump-pkg load --unlock)"
        case "linked":
            return "it has left root's keyring (kdump-pkg load --unlock)"
        case "none":
            return volume.problem or "nothing here opens it (kdump-pkg load --unlock)"


def _link(ctx: Context, volume: CryptVolume, *how: str, stdin: bytes | None = None) -> str | None:
    """Let cryptsetup check what opens the volume and link the key: no mapping comes of it."""
    keyring = f"@u::%logon:{volume.key_name}"
    argv = ["cryptsetup", "open", "--test-passphrase", *how, "--link-vk-to-keyring", keyring, _device(volume)]
    try:
        done = ctx.runner(argv, stdin=stdin, timeout=TIMEOUT, check=False)
    except CommandError as error:
        return error.message
    if done.returncode == 0 and ctx.keyring.has("logon", volume.key_name):
        return None
    words = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return words[-1] if words else f"cryptsetup linked nothing, exit code {done.returncode}"


def _mount_configfs(ctx: Context) -> None:
    if not ctx.path(paths.CRASH_KEYS).is_dir():
        ctx.runner(["mount", "-t", "configfs", "configfs", paths.CONFIGFS], check=False)
    if not ctx.path(paths.CRASH_KEYS).is_dir():
        raise KdumpError("this kernel has no CONFIG_CRASH_DM_CRYPT")


def _announce(ctx: Context, volume: CryptVolume) -> str | None:
    """Not by `fs`: these are no files but the kernel's own objects, made by mkdir and set by one write."""
    item = ctx.path(f"{paths.CRASH_KEYS}/{volume.uuid}")
    try:
        item.mkdir(exist_ok=True)
        (item / "description").write_text(f"{volume.key_name}\n")
    except OSError as error:
        return f"{item}: {error.strerror}"
    return None


def _withdraw(ctx: Context) -> None:
    for name in ctx.names(paths.CRASH_KEYS):
        item = ctx.path(f"{paths.CRASH_KEYS}/{name}", follow=False)
        if item.is_dir():
            with suppress(OSError):  # the kernel says it better, when it refuses what is loaded because of it
                item.rmdir()


def _device(volume: CryptVolume) -> str:
    return volume.device or f"UUID={volume.uuid}"


def _name(volume: CryptVolume) -> str:
    return f"the LUKS volume {volume.uuid}" + (f" ({volume.device})" if volume.device else "")
