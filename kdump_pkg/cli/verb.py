"""What a verb is, and the arguments that several of them share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError


@dataclass(frozen=True)
class Verb:
    name: str
    help: str
    run: Callable[[Context, argparse.Namespace], int]
    arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


def with_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", metavar="DIR", help="work on the system below DIR; nothing is loaded then")


def with_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def check_file(name: str) -> None:
    """Raises KdumpError when no file can be made of this name, before anything is worked out."""
    path = Path(name).absolute()
    if path.is_dir():
        raise KdumpError(f"{name}: a directory", hint="name the file to write")
    if not path.parent.is_dir():
        raise KdumpError(f"{name}: there is no directory {path.parent}", hint="make it, or name another file")


def need_root() -> None:
    if os.geteuid() != 0:
        raise KdumpError("only root can do this", hint="run it with sudo")
