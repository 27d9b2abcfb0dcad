"""Loader entries of type 1 of the Boot Loader Specification: loader/entries/*.conf on the boot partitions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kdump_pkg import parameters
from kdump_pkg.loaders import Look, evidence, new_line, ours, places, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Stretch, Surroundings, TextFile

FIELD = re.compile(rb"[ \t]*([^\s#]\S*)(?:[ \t]+(.*?))?[ \t\r]*\Z", re.S)
COUNTER = re.compile(r"\+\d+(?:-\d+)?(?=\.\w+\Z)")
"""Boots that are left, and those that failed: arch+3-0.conf."""
BOOTX64 = re.compile(r"/systemd-boot[^/]*\.efi\Z", re.I)


@dataclass(frozen=True)
class _Field:
    key: str
    value: Stretch


def directories(around: Surroundings) -> tuple[str, ...]:
    return tuple(f"{place}/loader/entries" for place in places.mounted(around))


def paths(look: Look, directory: str) -> list[str]:
    """Of a directory's entries; systemd-boot takes no hidden ones."""
    names = (name for name in look.names(directory) if name.lower().endswith(".conf") and name[0] != ".")
    return [f"{directory}/{name}" for name in names]


def files(look: Look, around: Surroundings) -> tuple[TextFile, ...]:
    return tuple(text_files(look, (path for where in directories(around) for path in paths(look, where))))


def command_line(file: TextFile, around: Surroundings) -> CommandLine:
    """All `options` of an entry, one after the other; where it has none, a line for the new word."""
    data = file.data or b""
    fields = list(_fields(file.path, data))
    value = {one.key: words.text(data, [one.value]) for one in reversed(fields)}
    options = [one.value for one in fields if one.key == "options"]
    own = tuple(one for one in options if one.start < one.end)
    if own:
        init = [one for one in own if b"--" in data[one.start : one.end].split()]
        grow = words.grow(data, init[0] if init else own[-1])
    else:
        grow = (new_line.insert(file.path, data, b"options "),)
    name = file.path.rpartition("/")[2]
    title = f"{value['title']} ({name})" if value.get("title") else name
    return CommandLine(title, own, grow, _foreign(value, words.text(data, own), around))


def _fields(path: str, data: bytes) -> Iterable[_Field]:
    for number, (start, end) in enumerate(words.lines(data), 1):
        match = FIELD.match(data[start:end])
        if match:
            first, last = match.span(2) if match[2] is not None else (match.end(1), match.end(1))
            if last - first > 1 and match[2][:1] == match[2][-1:] == b'"':
                first, last = first + 1, last - 1
            yield _Field(match[1].decode("ascii", "replace"), Stretch(path, start + first, start + last, number))


def _foreign(value: dict[str, str], cmdline: str, around: Surroundings) -> str | None:
    program = value.get("linux") or value.get("efi") or value.get("uki") or ""
    if not value.get("linux") and "root" not in parameters.by_name(cmdline):
        return "it starts no Linux"
    return ours.foreign(around, cmdline, machine_id=value.get("machine-id", ""), kernel=program)


def uncounted(path: str) -> str:
    return COUNTER.sub("", path)


def started(around: Surroundings, entries: Iterable[TextFile]) -> str | None:
    """How we know that systemd-boot started an entry of type 1 this time; None where it didn't.

    An image that systemd-stub started has its own command line, whoever started systemd-stub.
    """
    firmware = around.firmware
    if firmware.stub_info:
        return None
    found = evidence.started(around, "systemd-boot", BOOTX64)
    if found or firmware.loader_info:
        return found
    names = {uncounted(file.path.rpartition("/")[2]) for file in entries}
    if firmware.selected and uncounted(firmware.selected) in names:
        return f"LoaderEntrySelected says {firmware.selected}"
    return None


def missing(around: Surroundings) -> str:
    """Why there is nothing to change, though systemd-boot started this system."""
    where = ", ".join(directories(around)) or "/boot/loader/entries"
    return places.unmounted(around) or f"no loader entry in {where} starts this system; write one, see loader.conf(5)"
