"""Limine: limine.conf, wherever it may be, and limine.cfg as Limine had it before version 8."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from kdump_pkg import parameters
from kdump_pkg.loaders import Look, evidence, limine_entry_tool, new_line, ours, places, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Insert, Loader, Stretch, Surroundings, TextFile

HOMES = ("", "/limine", "/boot", "/boot/limine", "/EFI/limine", "/EFI/BOOT", "/EFI/arch-limine")
"""On each partition; which one Limine takes first differs from version to version, so all of them are kept alike."""
PROGRAM = re.compile(r"\.efi\Z|\Alimine-bios\.sys\Z", re.I)
SIGNATURE = b"++CONFIG_B2SUM_SIGNATURE++"
"""In Limine itself, before the checksum of the only limine.conf that it takes; zeros where it takes any."""
MACRO = re.compile(rb"\$\{([^}\n]*)\}")
CHAINLOADED = ("efi", "uefi", "efi_chainload")
MACHINE = re.compile(r"machine-id=([0-9a-f]{32})\b")


@dataclass(frozen=True)
class _Form:
    """What differs between the two forms of the file."""

    title: bytes
    option: re.Pattern[bytes]
    new: bytes


NEW = _Form(b"/", re.compile(rb"([A-Za-z0-9_]+):[ \t]*(.*)", re.S), b"cmdline: ")
OLD = _Form(b":", re.compile(rb"([A-Z0-9_]+)=(.*)", re.S), b"CMDLINE=")


@dataclass(frozen=True)
class _Option:
    key: str
    text: str
    value: Stretch
    indent: bytes


@dataclass
class _Entry:
    title: str
    parents: tuple[_Entry, ...]
    options: list[_Option] = field(default_factory=list)

    def option(self, *keys: str) -> _Option | None:
        """The first one of the first key that is there at all, as Limine takes it."""
        return next((one for key in keys for one in self.options if one.key == key), None)

    def text(self, *keys: str) -> str:
        found = self.option(*keys)
        return found.text if found else ""


def read(look: Look, around: Surroundings) -> Loader | None:
    if limine_entry_tool.at_home(look, around):
        return None
    files = tuple(_files(look, around))
    lines = tuple(line for file in files for line in command_lines(file, around))
    started = evidence.started(around, "Limine", limine_entry_tool.PROGRAM)
    own = [line for line in lines if line.foreign is None]
    if not own and not started:
        return None
    if around.firmware.stub_info and not own:
        return None  # an image that it started has its own command line
    problem = places.problem(around, (file.path for file in files)) or _enrolled(look, around)
    return Loader(
        "limine",
        "Limine",
        started or f"there is {', '.join(file.path for file in files)}",
        booted=bool(started),
        files=files,
        lines=lines,
        problem=problem if own else _missing(around, files),
    )


def _missing(around: Surroundings, files: Sequence[TextFile]) -> str:
    if files:
        return f"no entry in {files[0].path} starts this system; write one, see CONFIG.md of Limine"
    where = ", ".join(places.mounted(around)) or "/boot"
    return places.unmounted(around) or f"Limine has no limine.conf below {where}; mount the partition that has it"


def _homes(around: Surroundings) -> list[str]:
    """Directories that may hold limine.conf; of late versions, the one of the program that the firmware starts too."""
    entry = around.firmware.entry
    beside = (entry.file.rpartition("/")[0],) if entry and limine_entry_tool.PROGRAM.search(entry.file) else ()
    return list(dict.fromkeys(f"{place}{home}" for place in places.mounted(around) for home in (*HOMES, *beside)))


def _files(look: Look, around: Surroundings) -> Iterator[TextFile]:
    """The old form counts only where there is none of the new one (Limine reads either)."""
    for name in ("limine.conf", "limine.cfg"):
        there = text_files(look, (f"{home}/{name}" for home in _homes(around)))
        yield from there
        if there:
            return


def _enrolled(look: Look, around: Surroundings) -> str | None:
    """Limine with a checksum enrolled doesn't start with a file that has another one: that must not happen."""
    for home in _homes(around):
        for name in filter(PROGRAM.search, look.names(home)):
            _, found, rest = (look.read_bytes(f"{home}/{name}") or b"").partition(SIGNATURE)
            if found and rest[:128].strip(b"0\0"):
                path = f"{home}/{name}"
                return f"{path} takes limine.conf by its checksum; change it by hand, then limine enroll-config {path}"
    return None


def command_lines(file: TextFile, around: Surroundings) -> Iterator[CommandLine]:
    return (line for _, line in _command_lines(file, around))


def generated_lines(file: TextFile, around: Surroundings) -> Iterator[CommandLine]:
    """As limine-entry-tool writes them, below an entry with the machine ID; it keeps what its user wrote besides."""
    found = list(_command_lines(file, around))
    marked = any(_machine(family) for family, _ in found)
    for family, line in found:
        by_hand = marked and not line.foreign and not _machine(family)
        yield replace(line, foreign="it was written by hand") if by_hand else line


def _command_lines(file: TextFile, around: Surroundings) -> Iterator[tuple[tuple[_Entry, ...], CommandLine]]:
    """Each with its entry and those above it."""
    data = file.data or b""
    form = OLD if file.path.endswith(".cfg") else NEW
    entries, macros = _parse(file.path, data, form)
    for entry in entries:
        family = (*entry.parents, entry)
        cmdline = entry.option("kernel_cmdline", "cmdline")
        kernel = entry.option("path", "kernel_path", "image_path")
        anchor = kernel or entry.option("protocol")
        if cmdline:
            names = MACRO.findall(cmdline.text.encode("utf-8", "surrogateescape"))
            own = (*(macros[name] for name in names if name in macros), cmdline.value)
            grow = words.grow(data, cmdline.value)
        elif anchor:
            own, grow = (), (_new_option(file, anchor, form),)
        else:
            continue  # a directory of entries
        foreign = _foreign(entry, kernel.text if kernel else "", words.text(data, own), around)
        yield family, CommandLine("/".join(one.title for one in family), own, grow, foreign)


def _new_option(file: TextFile, anchor: _Option, form: _Form) -> Insert:
    return new_line.insert(file.path, file.data or b"", anchor.indent + form.new, behind=anchor.value.end)


def _parse(path: str, data: bytes, form: _Form) -> tuple[list[_Entry], dict[bytes, Stretch]]:
    """Entries in their order, each with those that it stands below; macros by their name."""
    entries: list[_Entry] = []
    macros: dict[bytes, Stretch] = {}
    above: list[_Entry] = []
    for number, (start, end) in enumerate(words.lines(data), 1):
        text = data[start:end].lstrip(b" \t")
        at = end - len(text)
        macro = re.match(rb"\$\{([^}\n]*)\}=", text)
        option = form.option.match(text)
        if text.startswith(form.title):
            depth = len(text) - len(text.lstrip(form.title))
            title = text[depth:].lstrip(b"+ ").decode("utf-8", "replace").strip()
            entries.append(_Entry(title, tuple(above[: depth - 1])))
            above[depth - 1 :] = entries[-1:]
        elif macro:
            macros[macro[1]] = Stretch(path, at + macro.end(), end, number)
        elif option and entries:
            value = Stretch(path, at + option.start(2), end, number)
            key, content = option[1].decode().lower(), option[2].decode("utf-8", "surrogateescape").strip()
            entries[-1].options.append(_Option(key, content, value, data[start:at]))
    return entries, macros


def _foreign(entry: _Entry, kernel: str, cmdline: str, around: Surroundings) -> str | None:
    family = (*entry.parents, entry)
    if any(one.title.lower() == "snapshots" for one in family):
        return "it starts a snapshot"
    protocol = entry.text("protocol").lower()
    if protocol in CHAINLOADED and "root" not in parameters.by_name(cmdline):
        return "its command line is in the image" if "/efi/linux/" in kernel.lower() else "it starts no Linux"
    if protocol not in ("", "linux", *CHAINLOADED):
        return "it starts no Linux"
    return ours.foreign(around, cmdline, machine_id=_machine(family), kernel=kernel)


def _machine(family: Iterable[_Entry]) -> str:
    comments = (one.text for entry in family for one in entry.options if one.key == "comment")
    return next((found[1] for found in map(MACHINE.search, comments) if found), "")
