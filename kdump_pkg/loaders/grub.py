"""GRUB: /etc/default/grub and what grub-mkconfig makes of it.

The word goes into GRUB_CMDLINE_LINUX_DEFAULT, which reaches all entries but those for recovery. One that stands in
GRUB_CMDLINE_LINUX counts just as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kdump_pkg import parameters
from kdump_pkg.loaders import Look, evidence, grub_cfg, ours, places, shell, sourced, words
from kdump_pkg.model.bootloader import CommandLine, Insert, Loader, Result, Surroundings, TextFile

DEFAULTS = "/etc/default/grub"
DROPINS = "/etc/default/grub.d"
MKCONFIG = ("/usr/bin/grub-mkconfig", "/usr/sbin/grub-mkconfig")
VARIABLE, FOR_ALL = "GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX"
PROGRAM = re.compile(r"grub", re.I)
HOMES = ("/boot/grub", "/boot/grub2", "/efi/grub", "/boot/efi/grub")
BY_HAND = f"put crashkernel=… into {VARIABLE} by hand, then grub-mkconfig"


def read(look: Look, around: Surroundings) -> Loader | None:
    configs = {path: data for path in _candidates(look, around) if (data := look.read_bytes(path)) is not None}
    files = tuple(TextFile(path, look.read_bytes(path)) for path in (DEFAULTS, *_dropins(look)))
    if not configs and files[0].data is None:
        return None
    made = [path for path, data in configs.items() if grub_cfg.generated(data) and _is_ours(path, data, around)]
    line, problem = _command_line(files)
    why = _evidence(around, configs.values())
    return Loader(
        "grub",
        "GRUB",
        why or f"{next(iter(configs), DEFAULTS)} is there",
        booted=bool(why),
        files=files,
        lines=(line,) if line else (),
        regenerate=tuple(("grub-mkconfig", "-o", path) for path in made),
        results=tuple(Result(path, "grub.cfg") for path in made),
        problem=problem or _cannot_generate(made, configs, around),
    )


def _candidates(look: Look, around: Surroundings) -> Iterator[str]:
    """Where grub.cfg may be: usually /boot/grub; on an ESP also beside the loader, where it may be another system's."""
    found = [*HOMES, *(f"{place}/grub" for place in places.mounted(around))]
    for esp in dict.fromkeys(("/boot", "/efi", "/boot/efi", *places.mounted(around))):
        vendors = f"{esp}/EFI"
        found += [f"{vendors}/{name}" for name in look.names(vendors)]
    yield from dict.fromkeys(f"{directory}/grub.cfg" for directory in found)


def _is_ours(path: str, data: bytes, around: Surroundings) -> bool:
    """An ESP may be shared with another system: its grub.cfg must not be overwritten."""
    if path.startswith("/boot/grub"):
        return True
    lines = [line for line in grub_cfg.read(data) if line.foreign is None]
    return bool(around.roots) and any(ours.foreign(around, line.text) is None for line in lines)


def _cannot_generate(made: list[str], configs: dict[str, bytes], around: Surroundings) -> str | None:
    if made and "grub-mkconfig" not in around.programs:
        return "grub-mkconfig isn't there: pacman -S grub"
    if made:
        return places.problem(around, made)
    written = [path for path, data in configs.items() if b"menuentry" in data and not grub_cfg.generated(data)]
    if written:
        return (
            f"{written[0]} wasn't made by grub-mkconfig: put crashkernel=… on its linux lines by hand, "
            f"or let it be made: grub-mkconfig -o {written[0]}"
        )
    return places.unmounted(around) or (
        "there is no grub.cfg of this system in /boot/grub: grub-mkconfig -o /boot/grub/grub.cfg, then kdump-pkg setup"
    )


def _dropins(look: Look) -> list[str]:
    """Those that are sourced: by a grub-mkconfig that knows them (Arch's own doesn't), or by /etc/default/grub."""
    sources = (look.read_bytes(path) or b"" for path in (*MKCONFIG, DEFAULTS))
    if not any(b"default/grub.d" in data for data in sources):
        return []
    return [f"{DROPINS}/{name}" for name in look.names(DROPINS) if name.endswith(".cfg")]


def _command_line(files: tuple[TextFile, ...]) -> tuple[CommandLine | None, str | None]:
    variables, problem = sourced.read(files)
    counting = dict.fromkeys((*variables.counting(FOR_ALL), *variables.counting(VARIABLE)))
    for one in counting:
        data = variables.data[one.path]
        if not problem and (why := _unsafe(one, data)):
            problem = f"{one.path}:{words.line_of(data, one.at)}: {why}"
    if problem:
        return None, problem
    stretches = tuple(stretch for one in counting for stretch in one.stretches(variables.data[one.path]))
    own = variables.last(VARIABLE)
    grow = shell.grow(variables.data[own.path], own) if own else (_new_line(files[0]),)
    return CommandLine(VARIABLE, stretches, grow), None


def _unsafe(one: shell.Assignment, data: bytes) -> str | None:
    if any(piece.kind == "ansi" and b"\\" in data[piece.start : piece.end] for piece in one.pieces):
        return f"escapes in $'…': write {one.name} in double quotes, or {BY_HAND}"
    if b"\n" in one.value(data).rstrip():
        return f"a line break in {one.name} ends the command line in grub.cfg: put a backslash before it"
    return None


def _new_line(file: TextFile) -> Insert:
    """Behind all else. A file whose last line has no end is left like that."""
    data = file.data or b""
    end = words.newline(data)
    start = f'{VARIABLE}="'.encode()
    if data and not data.endswith(b"\n"):
        return Insert(file.path, len(data), before=end + start, after=b'"')
    return Insert(file.path, len(data), before=start, after=b'"' + end)


def _evidence(around: Surroundings, configs: Iterable[bytes]) -> str:
    """Why this boot came through GRUB; empty where nothing says so, or where it started an image with its own."""
    if not around.live or around.firmware.stub_info:
        return ""
    if around.firmware.loader_info or around.firmware.entry:
        found = evidence.started(around, "GRUB", PROGRAM)
        if found or around.firmware.loader_info:
            return found or ""
    kernel = parameters.by_name(around.cmdline or "").get("BOOT_IMAGE", "")
    path = kernel[kernel.find("/") :] if kernel.startswith(("/", "(")) else ""
    if path and any(path.encode() in data for data in configs):
        return f"the kernel was started as BOOT_IMAGE={kernel}, which is in grub.cfg"
    return ""
