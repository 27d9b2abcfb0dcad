"""A boot loader for tests of `setup`: `options` lines in files, with or without a program that makes its own file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdump_pkg.context import Context
from kdump_pkg.loaders import words
from kdump_pkg.model.bootloader import (
    CommandLine,
    Loader,
    Result,
    ResultLine,
    Stretch,
    Surroundings,
    TextFile,
)
from kdump_pkg.model.estimate import Estimate

ENTRIES = "/boot/loader/entries"
DEFAULTS = "/etc/default/toy"
CONFIG = "/boot/toy/grub.cfg"
MAKE = ("toy-mkconfig", "-o", CONFIG)
LIVE = Surroundings(live=True, cmdline="root=UUID=1 rw")
KEY = b"options "


SUM = Estimate((), need_mib=100, values=("104M",), certain=True, text="100 MiB are needed")


def toy(files: Mapping[str, bytes | None], **changes: Any) -> Loader:
    """Each line that begins with `options` is a command line; one with `other` in it starts another system."""
    found: list[CommandLine] = []
    for path, data in files.items():
        for number, (start, end) in enumerate(words.lines(data or b""), 1):
            if (data or b"")[start:end].startswith(KEY):
                stretch = Stretch(path, start + len(KEY), end, number)
                foreign = "it starts another system" if b"other" in (data or b"")[start:end] else None
                entry = f"{path}:{number}"
                found.append(CommandLine(entry, (stretch,), words.grow(data or b"", stretch), foreign))
    given: dict[str, Any] = {
        "name": "systemd-boot",
        "title": "systemd-boot",
        "evidence": "LoaderInfo says systemd-boot 257",
        "files": tuple(TextFile(path, data) for path, data in files.items()),
        "lines": tuple(found),
    }
    return Loader(**(given | changes))


def read_entries(ctx: Context, **changes: Any) -> Loader | None:
    paths = [f"{ENTRIES}/{name}" for name in ctx.names(ENTRIES) if name.endswith(".conf")]
    return toy({path: ctx.read_bytes(path) for path in paths}, **changes) if paths else None


def read_generating(ctx: Context, kind: Any = "grub.cfg", **changes: Any) -> Loader | None:
    if not ctx.is_file(DEFAULTS):
        return None
    given: dict[str, Any] = {
        "name": "grub",
        "title": "GRUB",
        "evidence": "LoaderInfo says GRUB 2.12",
        "regenerate": (MAKE,),
        "results": (Result(CONFIG, kind),),
    }
    return toy({DEFAULTS: ctx.read_bytes(DEFAULTS)}, **(given | changes))


def read_result(ctx: Context, result: Result) -> tuple[ResultLine, ...]:
    text = (ctx.read_bytes(result.path) or b"").decode()
    lines = [line.removeprefix("linux ") for line in text.splitlines() if line.startswith("linux ")]
    return tuple(ResultLine("Arch Linux", line) for line in lines)


def generate(ctx: Context) -> int:
    """What `toy-mkconfig` does."""
    data = ctx.read_bytes(DEFAULTS) or b""
    lines = [line.removeprefix(KEY) for line in data.splitlines() if line.startswith(KEY)]
    ctx.path(CONFIG).write_bytes(b"# generated\n" + b"".join(b"linux %s\n" % line for line in lines))
    return 0
