"""Syslinux and extlinux: the APPEND lines of the labels that start this system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kdump_pkg import parameters
from kdump_pkg.loaders import Look, evidence, new_line, ours, places, words
from kdump_pkg.model.bootloader import CommandLine, Loader, Stretch, Surroundings, TextFile

DIRECTORIES = ("syslinux", "extlinux", "boot/syslinux", "boot/extlinux", "EFI/syslinux")
NAMES = ("extlinux.conf", "syslinux.cfg")
"""The first one of a directory counts."""
LINE = re.compile(rb"[ \t]*(\S+)(?:[ \t]+(.*?))?[ \t\r]*\Z", re.DOTALL)
TITLE = re.compile(rb"LABEL[ \t]+(.+)", re.I)
INCLUDED = re.compile(rb"(?:MENU[ \t]+)?INCLUDE[ \t]+(\S+)", re.I)
PROGRAM = re.compile(r"(?:sys|ext)linux", re.I)
NO_LINUX = re.compile(r"\.(?:c32|com|cbt|bin|bs|bss|0|img|efi)\Z", re.I)
"""What KERNEL takes for something else by its name."""


@dataclass(frozen=True)
class _Line:
    path: str
    keyword: str
    value: Stretch
    text: bytes


@dataclass
class _Label:
    title: str
    kernel: str = ""
    linux: bool = False
    append: Stretch | None = None
    last: Stretch | None = None
    """Behind this one, an APPEND can be put."""


@dataclass
class _Menu:
    """What was read of a configuration and all that it includes."""

    files: dict[str, bytes] = field(default_factory=dict)
    labels: list[_Label] = field(default_factory=list)
    everywhere: Stretch | None = None
    """APPEND before any label: for those that have none of their own."""


def read(look: Look, around: Surroundings) -> Loader | None:
    menus = [menu for path in _configs(look, around) if (menu := _read(look, around, path)).files]
    if not menus:
        return None
    files = {path: data for menu in menus for path, data in menu.files.items()}
    lines = tuple(line for menu in menus for line in _lines(menu, around))
    why = _evidence(around, menus)
    return Loader(
        "syslinux",
        "Syslinux",
        why or f"{next(iter(files))} is there",
        booted=bool(why),
        files=tuple(TextFile(path, data) for path, data in files.items()),
        lines=lines,
        problem=places.problem(around, files) or _nothing(lines, next(iter(files))),
    )


def _configs(look: Look, around: Surroundings) -> Iterator[str]:
    for place in dict.fromkeys(("/boot", *places.mounted(around))):
        for directory in DIRECTORIES:
            found = (f"{place}/{directory}/{name}" for name in NAMES)
            yield from [path for path in found if look.is_file(path)][:1]


def _nothing(lines: tuple[CommandLine, ...], path: str) -> str | None:
    if any(line.foreign is None for line in lines):
        return None
    return f"{path}: no label starts this system; put root=… on the APPEND line of the one that does"


# --- reading ------------------------------------------------------------------------------------------------------


def _read(look: Look, around: Surroundings, path: str) -> _Menu:
    menu = _Menu()
    prose = False
    for line in _flat(look, around, menu, path, path.rpartition("/")[0]):
        if prose or line.keyword == "TEXT":
            prose = line.keyword != "ENDTEXT"
        else:
            _take(menu, line)
    return menu


def _flat(look: Look, around: Surroundings, menu: _Menu, path: str, home: str) -> Iterator[_Line]:
    """The lines of a file, those of what it includes in their place; each file once."""
    data = look.read_bytes(path)
    if data is None or path in menu.files:
        return
    menu.files[path] = data
    for number, (start, end) in enumerate(words.lines(data), 1):
        match = LINE.match(data[start:end])
        if not match or match[1].startswith(b"#"):
            continue
        if included := INCLUDED.match(match[0].strip()):
            name = included[1].decode("utf-8", "surrogateescape")
            there = [one for one in _resolved(around, home, name) if look.is_file(one)]
            for one in there[:1]:
                yield from _flat(look, around, menu, one, home)
            continue
        first, last = match.span(2) if match[2] is not None else (match.end(1), match.end(1))
        keyword = match[1].decode("ascii", "replace").upper()
        yield _Line(path, keyword, Stretch(path, start + first, start + last, number), match[2] or b"")


def _resolved(around: Surroundings, home: str, name: str) -> Iterator[str]:
    """Where an included file may be: its path is one on the loader's own file system."""
    if not name.startswith("/"):
        yield _normal(f"{home}/{name}")
    else:
        yield from (_normal(f"{place}{name}") for place in dict.fromkeys((*places.mounted(around), "/boot", "")))


def _normal(path: str) -> str:
    done: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del done[-1:]
        elif part not in ("", "."):
            done.append(part)
    return "/" + "/".join(done)


def _take(menu: _Menu, line: _Line) -> None:
    text = line.text.decode("utf-8", "replace")
    label = menu.labels[-1] if menu.labels else None
    if line.keyword == "LABEL":
        menu.labels.append(_Label(text, last=line.value))
    elif line.keyword == "APPEND":
        if label:
            label.append = line.value
        else:
            menu.everywhere = line.value
    elif label:
        _describe(label, line, text)


def _describe(label: _Label, line: _Line, text: str) -> None:
    if line.keyword == "MENU" and (title := TITLE.match(line.text)):
        label.title = title[1].decode("utf-8", "replace").replace("^", "")
    elif line.keyword in ("LINUX", "KERNEL"):
        label.kernel, label.last = text, line.value
        label.linux = line.keyword == "LINUX" or not NO_LINUX.search(text)
    elif line.keyword in ("COM32", "CONFIG", "BOOT", "BSS", "PXE", "FDIMAGE", "COMBOOT", "LOCALBOOT"):
        label.kernel, label.linux = text, False


# --- command lines ------------------------------------------------------------------------------------------------


def _lines(menu: _Menu, around: Surroundings) -> Iterator[CommandLine]:
    for label in menu.labels:
        place = label.append or menu.everywhere
        text = words.text(menu.files[place.path], [place]) if place else ""
        foreign = _foreign(label, text, around)
        if place and (label.append or not foreign):
            yield CommandLine(label.title, (place,), words.grow(menu.files[place.path], place), foreign)
        elif label.linux and label.last and not place:
            data = menu.files[label.last.path]
            start = words.lines(data)[label.last.line - 1][0]
            indent = data[start : label.last.start][: -len(data[start : label.last.start].lstrip())]
            new = new_line.insert(label.last.path, data, indent + b"APPEND ", behind=label.last.end)
            yield CommandLine(label.title, (), (new,), foreign)


def _foreign(label: _Label, text: str, around: Surroundings) -> str | None:
    if not label.linux:
        return "it starts no Linux"
    if text == "-":
        return "APPEND - gives it no command line"
    return ours.foreign(around, text, kernel=label.kernel)


def _evidence(around: Surroundings, menus: list[_Menu]) -> str:
    """Why this boot came through Syslinux; empty where nothing says so."""
    if not around.live or around.firmware.stub_info:
        return ""
    if found := evidence.started(around, "SYSLINUX", PROGRAM):
        return found
    if around.firmware.loader_info:
        return ""
    kernel = parameters.by_name(around.cmdline or "").get("BOOT_IMAGE", "")
    for menu in menus:
        if kernel and any(label.kernel == kernel for label in menu.labels):
            return f"the kernel was started as BOOT_IMAGE={kernel}, which is in {next(iter(menu.files))}"
    return ""
