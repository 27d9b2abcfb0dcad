"""What a verb is, and the arguments that several of them share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass

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


def need_root() -> None:
    if os.geteuid() != 0:
        raise KdumpError("only root can do this", hint="run it with sudo")
