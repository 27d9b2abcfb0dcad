"""The errors that reach a user: one line that says what failed and where, and a hint what to do."""

from __future__ import annotations


class KdumpError(Exception):
    """Anything that a user is told in one line; caught at the two boundaries only, cli.main and hook.main."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(KdumpError):
    """The configuration is not usable; `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems), hint="correct the lines named above; nothing was changed")
        self.problems = problems


class CommandError(KdumpError):
    """A program that we ran failed, was not there or took too long."""


class BadImageError(KdumpError):
    """A kernel image, an ELF file or an initramfs is not what it has to be."""


class BadDumpError(KdumpError):
    """A vmcore is not what it has to be."""


def missing_module(error: ImportError) -> KdumpError:
    """What to say of a Python module that is gone: an upgrade of Python hides those that were not rebuilt for it."""
    name = (error.name or str(error)).split(".")[0]
    packages = {"elftools": "python-pyelftools", "configobj": "python-configobj", "validate": "python-configobj"}
    remedy = f"pacman -S {packages.get(name, 'kdump-pkg')}, then kdump-pkg rebuild"
    return KdumpError(f"Python can't import {name}; what is armed stays armed", hint=remedy)


class BusyError(KdumpError):
    """Another kdump-pkg holds the lock."""
