"""Loading the capture kernel into reserved memory, and taking it out again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from kdump_pkg import fs, paths
from kdump_pkg.apply import keys
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts.state import read_loaded
from kdump_pkg.model import CryptVolume, Load, Loaded

TIMEOUT = 120  # seconds; 8 were measured under emulation


class LoadError(KdumpError):
    """The kernel refused the capture kernel; the last good one was put back where there was one."""


def load(ctx: Context, action: Load, report: Callable[[str], None] = lambda text: None) -> None:
    """Load by the first call that is taken. Raises LoadError when none is; what keeps a key back is only reported.

    The kernel frees what was loaded before it looks at the new one (kexec_load(2) with KEXEC_ON_CRASH), so a refusal
    would leave the machine unarmed: then the copy of the last good load goes back in.
    """
    try:
        method, handed_over = _load(ctx, action, report)
    except CommandError as error:
        restored = _restore(ctx, report)
        end = "; the last good one is loaded again" if restored else "; nothing is loaded now"
        raise LoadError(f"the capture kernel was refused: {error.message}{end}", hint=error.hint) from None
    wanted = " ".join(volume.uuid for volume in action.keys)
    record = Loaded(action.release, action.fingerprint, action.cmdline, action.image, method, handed_over, wanted)
    _remember(ctx, action, record)
    fs.write_record(ctx.path(paths.LOADED), dataclasses.asdict(record))


def unload(ctx: Context) -> None:
    """Take the capture kernel out: from here on a crash saves nothing."""
    ctx.runner(["kexec", "-p", "-u"], timeout=TIMEOUT)
    fs.remove(ctx.path(paths.LOADED))


def _load(ctx: Context, action: Load, report: Callable[[str], None]) -> tuple[str, str]:
    """The method that was taken, and the UUIDs of the volumes whose keys went with it.

    Only kexec_file_load takes keys along. Where it doesn't want them, a capture that has to ask for a passphrase, or
    that saves elsewhere, is better than none.
    """
    if action.keys and "-s" not in action.methods:
        report("no key is handed over: only kexec_file_load does, and it can't be used here")
        action = dataclasses.replace(action, keys=())
    with keys.offered(ctx, action.keys, report) as uuids:
        if uuids:
            try:
                return _try(ctx, dataclasses.replace(action, methods=("-s",))), " ".join(uuids)
            except CommandError as error:
                report(f"with keys it was refused, so now without: {error.message}")
    return _try(ctx, action), ""


def _try(ctx: Context, action: Load) -> str:
    failure: CommandError | None = None
    for method in action.methods:
        try:
            ctx.runner(
                ["kexec", "-p", method, f"--initrd={action.image}", f"--command-line={action.cmdline}", action.kernel],
                timeout=TIMEOUT,
            )
            return method
        except CommandError as error:
            failure = failure or error  # the first refusal says more than that of the older call
    raise failure or CommandError("no way to load it is left")


def _remember(ctx: Context, action: Load, record: Loaded) -> None:
    """Keep a copy of what was taken: after an upgrade neither kernel nor image are there to go back to."""
    name = f"{paths.LAST_GOOD}/loaded.json"
    if read_loaded(ctx, name) == record:
        return
    try:
        fs.remove(ctx.path(name))
        fs.copy_atomic(ctx.path(action.kernel), ctx.path(f"{paths.LAST_GOOD}/vmlinuz"), 0o600)
        fs.copy_atomic(ctx.path(action.image), ctx.path(f"{paths.LAST_GOOD}/image"), 0o600)
        fs.write_record(ctx.path(name), dataclasses.asdict(record), 0o600)
    except KdumpError:
        fs.remove(ctx.path(name))  # no room for a spare: armed all the same


def _restore(ctx: Context, report: Callable[[str], None]) -> bool:
    fs.remove(ctx.path(paths.LOADED))
    good = read_loaded(ctx, f"{paths.LAST_GOOD}/loaded.json")
    if good is None:
        return False
    home = paths.LAST_GOOD
    volumes = tuple(CryptVolume(uuid, key="linked") for uuid in good.keys.split())
    spare = Load(
        f"{home}/vmlinuz", f"{home}/image", good.cmdline, good.release, good.fingerprint, (good.method,), "refused",
        volumes,
    )  # fmt: skip
    try:
        _, handed_over = _load(ctx, spare, report)
    except CommandError:
        return False
    fs.write_record(ctx.path(paths.LOADED), dataclasses.asdict(dataclasses.replace(good, keys=handed_over)))
    return True
