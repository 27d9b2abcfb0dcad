"""The boot loaders of Arch: one small module for each, all with the same `read`.

`read(look, around)` gives the loader as it is configured here, or None where it isn't here at all. It reads through
`look` only and decides nothing but which bytes are command lines, which of them start this system, and what must be run
after a change. What is put into them, and taken out again, is `loaders.edit`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from kdump_pkg.model.bootloader import Loader, Surroundings, TextFile

PROGRAMS = (
    "grub-mkconfig", "grub-script-check", "sdboot-manage", "kernel-install", "bootctl", "mkinitcpio", "dracut",
    "limine-update", "limine-mkinitcpio", "limine-entry-tool", "efibootmgr",
)  # fmt: skip
"""What `Surroundings.programs` is asked for."""


class Look(Protocol):
    """The files of a root, to be looked at only; `context.Context` is one."""

    def read_bytes(self, name: str) -> bytes | None: ...

    def names(self, directory: str) -> list[str]: ...

    def is_file(self, name: str) -> bool: ...


class Reader(Protocol):
    """What each module of this package has as `read`."""

    def __call__(self, look: Look, around: Surroundings) -> Loader | None: ...


def text_files(look: Look, paths: Iterable[str]) -> list[TextFile]:
    """Those that are there and can be read."""
    found = ((path, look.read_bytes(path)) for path in paths)
    return [TextFile(path, data) for path, data in found if data is not None]
