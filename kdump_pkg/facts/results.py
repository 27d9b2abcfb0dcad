"""What boot loaders really get: command lines read back from what was generated out of the files that were edited.

The only module that knows pefile: a unified kernel image is a PE file with the command line in a section of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.loaders import bls, grub_cfg, limine, ours, words
from kdump_pkg.model.bootloader import CommandLine, Result, ResultLine, Surroundings, TextFile

LONGEST = 1 << 16
"""Bytes of a section that are read; the kernel takes 2,048 of a command line."""
AGAIN = "make it anew, and see what its program says"


def read_result(ctx: Context, result: Result, around: Surroundings) -> tuple[ResultLine, ...]:
    """The command lines in it. Raises KdumpError where it isn't there or is none of its kind."""
    if result.kind == "uki":
        return tuple(_image(ctx, result.path, around))
    if result.kind == "entries":
        return tuple(_entries(ctx, result.path, around))
    data = _data(ctx, result.path)
    if result.kind == "grub.cfg":
        return grub_cfg.read(data)
    file = TextFile(result.path, data)
    return tuple(_line(file, line) for line in limine.generated_lines(file, around))


def read_files(ctx: Context, results: Iterable[Result]) -> dict[str, bytes | None]:
    """The files that they consist of, but for images: those are large, and can be made anew."""
    paths = (bls.paths(ctx, one.path) if one.kind == "entries" else [one.path] for one in results if one.kind != "uki")
    return {path: ctx.read_bytes(path) for group in paths for path in group}


def _data(ctx: Context, path: str) -> bytes:
    data = ctx.read_bytes(path)
    if data is None:
        raise KdumpError(f"{path}: not there, or it can't be read", hint=AGAIN)
    return data


def _line(file: TextFile, line: CommandLine) -> ResultLine:
    return ResultLine(line.entry, words.text(file.data or b"", line.stretches), line.foreign)


def _entries(ctx: Context, directory: str, around: Surroundings) -> Iterator[ResultLine]:
    """One for each loader entry; a directory without any is as good as none."""
    entries = bls.paths(ctx, directory)
    if not entries:
        raise KdumpError(f"{directory}: there is no loader entry in it", hint=AGAIN)
    for path in entries:
        file = TextFile(path, _data(ctx, path))
        yield _line(file, bls.command_line(file, around))


# --- unified kernel images ----------------------------------------------------------------------------------------


def _image(ctx: Context, path: str, around: Surroundings) -> Iterator[ResultLine]:
    """Its base's command line, and that of each profile that has one of its own (UAPI.5, section .profile)."""
    entry = path.rpartition("/")[2]
    for name, content in _sections(ctx, path):
        if name == ".profile":
            entry = f"{path.rpartition('/')[2]}, profile {_title(content)}"
        elif name == ".cmdline":
            yield ResultLine(entry, content, ours.foreign(around, content))


def _title(profile: str) -> str:
    """What os-release-like text calls it."""
    pairs = dict(line.partition("=")[::2] for line in profile.splitlines())
    return (pairs.get("TITLE") or pairs.get("ID") or "without a name").strip("\"'")


def _sections(ctx: Context, path: str) -> list[tuple[str, str]]:
    """Name and text of those that say something of command lines, in their order."""
    pefile = _pefile(path)
    where = ctx.path(path)
    try:
        if not stat.S_ISREG(where.stat().st_mode):
            raise KdumpError(f"{path}: no file", hint=AGAIN)
        with contextlib.closing(pefile.PE(os.fspath(where), fast_load=True)) as image:
            named = [(_name(one), one) for one in sorted(image.sections, key=lambda one: one.get_file_offset())]
            if not any(name == ".linux" for name, _ in named):
                raise KdumpError(f"{path}: there is no kernel in it, so it is no unified kernel image", hint=AGAIN)
            return [(name, _text(path, one)) for name, one in named if name in (".cmdline", ".profile")]
    except OSError as error:
        raise KdumpError(f"{path}: {error.strerror or error}", hint=AGAIN) from None
    except (pefile.PEFormatError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).strip("'.")  # pefile trusts its files more than we do
        raise KdumpError(f"{path}: no unified kernel image: {reason}", hint=AGAIN) from None


def _pefile(path: str) -> ModuleType:
    try:
        import pefile
    except ImportError:
        hint = "pacman -S python-pefile"
        raise KdumpError(f"{path}: Python needs pefile to read its command line", hint=hint) from None
    return pefile  # type: ignore[no-any-return]


def _name(section: Any) -> str:
    return str(section.Name.rstrip(b"\0").decode("ascii", "replace"))


def _text(path: str, section: Any) -> str:
    """Of the bytes in the file, as many as are meant: the rest of them is padding."""
    size = min(section.Misc_VirtualSize, section.SizeOfRawData, LONGEST)
    data = bytes(section.get_data(length=size))
    if len(data) < size:
        raise KdumpError(f"{path}: cut short in its section {_name(section)}", hint=AGAIN)
    return data.split(b"\0")[0].decode("utf-8", "replace").strip()
