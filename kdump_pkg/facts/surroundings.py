"""What boot-loader modules have to know besides their files, and the boot loaders that they find with it."""

from __future__ import annotations

import re
import typing

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import boot, efi, places, presets, root_names
from kdump_pkg.facts.lookup import read_machine
from kdump_pkg.loaders import PROGRAMS, Reader
from kdump_pkg.model.bootloader import Firmware, Loader, Surroundings
from kdump_pkg.model.wishes import LoaderName

DIRECTORIES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")


def read_surroundings(ctx: Context) -> Surroundings:
    """Reads only. Of a chroot or another root, the command line and the firmware that are seen here are the host's."""
    live = ctx.live and boot.confined(ctx) is None
    machine = read_machine(ctx)
    cmdline = ctx.read_text("/proc/cmdline") if live else None
    firmware = efi.read_firmware(ctx) if live else Firmware()
    machine_id = ctx.read_text("/etc/machine-id") or ""
    return Surroundings(
        live=live,
        cmdline=cmdline,
        roots=root_names.read_names(machine, cmdline),
        machine_id=machine_id if re.fullmatch("[0-9a-f]{32}", machine_id) else "",
        places=places.read_places(machine, firmware),
        firmware=firmware,
        presets=presets.read_presets(ctx),
        programs=frozenset(name for name in PROGRAMS if any(ctx.is_file(f"{d}/{name}") for d in DIRECTORIES)),
    )


def read_loaders(ctx: Context, around: Surroundings) -> tuple[Loader, ...]:
    """All that are here. One whose files can't be read stays in the list, with that as its problem."""
    from kdump_pkg.loaders.all import ALL

    found = (_read(ctx, reader, around) for reader in ALL)
    return tuple(loader for loader in found if loader is not None)


def _read(ctx: Context, reader: Reader, around: Surroundings) -> Loader | None:
    try:
        return reader(ctx, around)
    except KdumpError as error:
        remedy = error.hint or "correct what it names"
        name = _name(reader)
        return Loader(name, name, "its files are here", problem=f"{error.message}; {remedy}")


def _name(reader: Reader) -> LoaderName:
    """Its module's, where a dash is an underscore."""
    module = str(getattr(reader, "__module__", "")).rsplit(".", 1)[-1]
    names: tuple[LoaderName, ...] = typing.get_args(LoaderName)
    return next(name for name in names if name.replace("-", "_") == module)
