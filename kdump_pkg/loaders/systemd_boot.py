"""systemd-boot: the loader entries, and what kernel-install makes the next ones from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kdump_pkg.loaders import Look, bls, cmdline_files, places, sdboot_manage, words
from kdump_pkg.model.bootloader import CommandLine, Loader, Surroundings, TextFile

TOKEN = "/etc/kernel/entry-token"


def read(look: Look, around: Surroundings) -> Loader | None:
    """None where no entry starts this system, unless systemd-boot did: unified kernel images have no entries."""
    if sdboot_manage.at_home(look, around):
        return None
    entries = bls.files(look, around)
    lines = tuple(bls.command_line(file, around) for file in entries)
    started = bls.started(around, entries)
    own = any(line.foreign is None for line in lines)
    if not own and not started:
        return None
    files, more = _kernel_install(look, around, entries)
    return Loader(
        "systemd-boot",
        "systemd-boot",
        started or f"loader entries in {', '.join(_directories(entries))}",
        booted=bool(started),
        files=(*entries, *files),
        lines=(*lines, *more),
        problem=places.problem(around, _directories(entries)) if own else bls.missing(around),
    )


def _directories(entries: Sequence[TextFile]) -> list[str]:
    return list(dict.fromkeys(file.path.rpartition("/")[0] for file in entries))


def _kernel_install(
    look: Look, around: Surroundings, entries: Sequence[TextFile]
) -> tuple[tuple[TextFile, ...], tuple[CommandLine, ...]]:
    """What the entry of the next kernel is made from, where kernel-install made those that are there.

    It reads /etc/kernel/cmdline, else /usr/lib/kernel/cmdline; of the latter a copy is made. Where neither is there,
    none is: it takes the running command line then, which has the parameter after the next boot.
    """
    token = (look.read_bytes(TOKEN) or b"").decode("utf-8", "replace").strip() or around.machine_id
    made = re.compile(rf"{re.escape(token)}-.+\.conf")
    names = (file.path.rpartition("/")[2] for file in entries)
    if "kernel-install" not in around.programs or not token or not any(map(made.fullmatch, names)):
        return (), ()
    found = cmdline_files.base(look)
    if not found:
        return (), ()
    (file,) = found
    own = cmdline_files.stretches(found)
    if file.path == cmdline_files.ETC:
        return (file,), (CommandLine(file.path, own, cmdline_files.grow(found, own, file.path)),)
    new, grow = cmdline_files.copy(words.text(file.data or b"", own))
    return (file, new), (CommandLine(new.path, own, grow),)
