"""EFI stub: the firmware starts the kernel itself, with arguments from NVRAM; or the UEFI shell does, by startup.nsh.

NVRAM is changed by its user only: some firmware loses entries or takes no new ones, and then nothing boots any more.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from kdump_pkg.loaders import Look, ours, places, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Loader, NvramEntry, Stretch, Surroundings, TextFile

KERNEL = re.compile(r"(?:vmlinuz|vmlinux|bzimage|linux)[^/]*\Z", re.I)
SCRIPT = re.compile(rb"[ \t@]*\"?(?:\w+:)?([^\s\"#]*?(?:vmlinuz|vmlinux|bzImage)[^\s\"]*)\"?[ \t]+(.*?)[ \t]*\Z", re.S)
UTF16 = (b"\xff\xfe", b"\xfe\xff")
DISK = re.compile(r"(/dev/(?:nvme\d+n\d+|mmcblk\d+|[a-z]+))p?\d+")


def read(look: Look, around: Surroundings) -> Loader | None:
    firmware = around.firmware
    if firmware.stub_info or firmware.loader_info:
        return _script(look, around, started=None)
    entry = firmware.entry
    if entry and KERNEL.search(entry.file):
        return _nvram(look, around, entry)
    shell = entry and "shell" in f"{entry.label}{entry.file}".lower()
    return _script(look, around, started=f"Boot{entry.number} starts the UEFI shell" if entry and shell else None)


def _nvram(look: Look, around: Surroundings, entry: NvramEntry) -> Loader:
    """Its arguments stand as a file that is no file, so that what is in them can be seen; it is never written."""
    path = f"NVRAM:Boot{entry.number}"
    data = entry.arguments.encode("utf-8", "surrogateescape")
    stretch = Stretch(path, 0, len(data), 1)
    return Loader(
        "efistub",
        "EFI stub",
        f"Boot{entry.number} starts {entry.file}",
        booted=True,
        files=(TextFile(path, data),),
        lines=(CommandLine(entry.label, (stretch,)),),
        manual=tuple(_commands(look, around, entry)),
    )


def _commands(look: Look, around: Surroundings, entry: NvramEntry) -> Iterator[str]:
    """A new entry, which comes first in the boot order; the old one goes when the new one is known to boot."""
    kept = [word for word in entry.arguments.split() if not word.startswith("crashkernel=")]
    arguments = shlex.quote(" ".join([*kept, "{}"]))
    loader = entry.file.replace("/", "\\")
    yield (
        f"efibootmgr --create --disk {_disk(look, around, entry)} --part {entry.partition} "
        f"--label {shlex.quote(entry.label)} --loader {shlex.quote(loader)} --unicode {arguments}"
    )
    yield f"efibootmgr --bootnum {entry.number} --delete-bootnum  # when the new entry has booted"


def _disk(look: Look, around: Surroundings, entry: NvramEntry) -> str:
    for place in around.places:
        found = DISK.fullmatch(place.device)
        if place.mounted and found and look.is_file(f"{place.path.rstrip('/')}{entry.file}"):
            return found[1]
    return f'/dev/"$(lsblk -no PKNAME /dev/disk/by-partuuid/{entry.partuuid})"'


def _script(look: Look, around: Surroundings, *, started: str | None) -> Loader | None:
    files = text_files(look, (f"{place}/startup.nsh" for place in places.mounted(around)))
    lines = tuple(line for file in files for line in _lines(file, around))
    if not any(line.foreign is None for line in lines) and not (files and started):
        return None
    wide = next((file.path for file in files if (file.data or b"").startswith(UTF16)), None)
    problem = f"{wide} is in UTF-16; add crashkernel=… to the kernel's line in it by hand" if wide else None
    if not wide and not lines:
        problem = f"{files[0].path} starts no kernel; put the kernel and its command line there"
    return Loader(
        "efistub",
        "EFI stub, by startup.nsh",
        started or f"{files[0].path} starts a kernel",
        booted=bool(started),
        files=tuple(files),
        lines=lines,
        problem=problem or places.problem(around, (file.path for file in files)),
    )


def _lines(file: TextFile, around: Surroundings) -> Iterator[CommandLine]:
    data = file.data or b""
    for number, (start, end) in enumerate(words.lines(data), 1):
        match = SCRIPT.match(data[start:end])
        if match:
            stretch = Stretch(file.path, start + match.start(2), start + match.end(2), number)
            kernel = match[1].decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
            foreign = ours.foreign(around, words.text(data, [stretch]), kernel=kernel)
            yield CommandLine(kernel, (stretch,), words.grow(data, stretch), foreign)
