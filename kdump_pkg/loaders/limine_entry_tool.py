"""limine-entry-tool and its hooks: limine.conf is written anew from the KERNEL_CMDLINE of these files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdump_pkg.loaders import Look, cmdline_files, evidence, new_line, places, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Insert, Loader, Result, Stretch, Surroundings, TextFile

MAKERS = ("limine-update", "limine-mkinitcpio")
"""Programs that write the entries of all kernels; the first one does what the second one does, and more."""
SHIPPED = "/usr/share/limine-entry-tool.d"
MAIN = "/etc/limine-entry-tool.conf"
DROP_INS = "/etc/limine-entry-tool.d"
LAST = "/etc/default/limine"
NAME = rb"[ \t]*(KERNEL_CMDLINE(?:\[[^\]]*\])?)[ \t]*(\+?=)[ \t]*"
ASSIGNMENT = re.compile(NAME + rb"""(?:'(.*?)'|"?(.*?)"?)(?:(?<=["'])[ \t]+#.*)?[ \t]*\Z""", re.S)
"""A comment behind the quotes is taken for one, though the tool hands it to the kernel: nobody means that."""
ESP = re.compile(rb"^[ \t]*ESP_PATH[ \t]*=[ \t]*\"?(/[^\"\n]*?)/?\"?[ \t\r]*$", re.M)
PROGRAM = re.compile("limine", re.I)
"""Limine itself, as the firmware's entries name it."""
DEFAULT = ("KERNEL_CMDLINE", "KERNEL_CMDLINE[default]")


@dataclass(frozen=True)
class _Assignment:
    name: str
    appends: bool
    value: Stretch


def at_home(look: Look, around: Surroundings) -> bool:
    """Whether it writes limine.conf here: that is always the one in the top directory of the ESP."""
    return any(name in around.programs for name in MAKERS) and bool(_written(look, around))


def read(look: Look, around: Surroundings) -> Loader | None:
    if not at_home(look, around):
        return None
    files = _files(look)
    lines = list(_lines(files))
    started = evidence.started(around, "Limine", PROGRAM)
    problem = places.problem(around, _written(look, around))
    if not any(line.entry in DEFAULT for line in lines):
        extra, line, lack = _elsewhere(look, around, files, started=bool(started))
        files, lines, problem = [*files, *extra], [*lines, *line], problem or lack
    maker = next(name for name in MAKERS if name in around.programs)
    return Loader(
        "limine-entry-tool",
        "Limine, by limine-entry-tool",
        started or f"{maker} is installed and there is {_written(look, around)[0]}",
        booted=bool(started),
        files=tuple(files),
        lines=tuple(sorted(lines, key=lambda line: line.entry not in DEFAULT)),
        regenerate=((maker,),),
        results=tuple(Result(path, "limine") for path in _written(look, around)),
        problem=problem,
    )


def _written(look: Look, around: Surroundings) -> list[str]:
    named = [found[1].decode("utf-8", "replace") for file in _files(look) for found in ESP.finditer(file.data or b"")]
    candidates = named[-1:] or places.mounted(around)
    return [path for path in (f"{place}/limine.conf" for place in candidates) if look.is_file(path)]


def _files(look: Look) -> list[TextFile]:
    """In the order in which it reads them: of two that give a value, the later one counts."""

    def inside(directory: str) -> list[str]:
        return [f"{directory}/{name}" for name in look.names(directory) if name.endswith(".conf")]

    files = text_files(look, (*inside(SHIPPED), MAIN, *inside(DROP_INS)))
    return [*files, TextFile(LAST, look.read_bytes(LAST))]


def _assignments(file: TextFile) -> Iterator[_Assignment]:
    """It is no shell that reads them: a value ends with its line, and loses one double quote at each end."""
    data = file.data or b""
    for number, (start, end) in enumerate(words.lines(data), 1):
        match = ASSIGNMENT.match(data[start:end])
        if match:
            name = match[1].decode("utf-8", "replace").replace('"', "")
            first, last = match.span(3 if match[3] is not None else 4)
            value = Stretch(file.path, start + first, start + last, number)
            yield _Assignment(name, match[2] == b"+=", value)


def _lines(files: Sequence[TextFile]) -> Iterator[CommandLine]:
    """One for each name that has a value: that of all kernels, of the fallback, of a certain kernel."""
    everything = [one for file in files for one in _assignments(file)]
    data = {file.path: file.data or b"" for file in files}
    for name in dict.fromkeys(one.name for one in everything):
        counting: list[Stretch] = []
        for one in everything:
            if one.name == name:  # what is appended comes first: so it does it
                counting = [one.value, *(counting if one.appends else [])]
        own = tuple(one for one in counting if data[one.path][one.start : one.end].strip())
        if own:
            yield CommandLine(name, own, _grow(files, data, name, own))


def _grow(files: Sequence[TextFile], data: dict[str, bytes], name: str, own: Sequence[Stretch]) -> tuple[Insert, ...]:
    """At the end of the one that a package doesn't own; where there is none, a line in /etc/default/limine."""
    mine = [one for one in own if not one.path.startswith(f"{SHIPPED}/")]
    if mine:
        init = [one for one in mine if b"--" in data[one.path][one.start : one.end].split()]
        return words.grow(data[mine[0].path], mine[0]) if not init else words.grow(data[init[0].path], init[0])
    return (new_line.insert(LAST, data.get(LAST, b""), f'{name}+="'.encode(), b'"'),)


def _elsewhere(
    look: Look, around: Surroundings, files: Sequence[TextFile], *, started: bool
) -> tuple[list[TextFile], list[CommandLine], str | None]:
    """Without a value it takes /etc/kernel/cmdline, else the running one. A first value must hold all of it."""
    found = text_files(look, (cmdline_files.ETC,))
    if found:
        own = cmdline_files.stretches(found)
        grow = cmdline_files.grow(found, own, cmdline_files.ETC)
        return found, [CommandLine(cmdline_files.ETC, own, grow)], None
    text, lack = cmdline_files.running(around, started=started)
    if lack:
        return [], [], f"there is no KERNEL_CMDLINE[default] in {LAST}: {lack}"
    before, after = cmdline_files.around_new_word(text)
    data = next(file.data or b"" for file in files if file.path == LAST)
    insert = new_line.insert(LAST, data, f'{DEFAULT[1]}="'.encode() + before, after + b'"')
    return [], [CommandLine(DEFAULT[1], (), (insert,))], None
