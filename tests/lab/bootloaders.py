"""What tests of boot loaders compare: the files that `setup` may change, and the command line inside an image."""

from __future__ import annotations

import re

from .common import LabError
from .root import ArchRoot

TOUCHED = ("boot", "etc", "var/lib/kdump-pkg")
Contents = dict[str, bytes | str]


def contents(root: ArchRoot) -> Contents:
    """All files and links that `setup` may change, make or remove, by their paths."""
    found: Contents = {}
    for path in (path for home in TOUCHED for path in (root.path / home).rglob("*")):
        name = f"/{path.relative_to(root.path)}"
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def changed(before: Contents, after: Contents) -> set[str]:
    """What is not there as it was, or only since."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def embedded(root: ArchRoot, image: str) -> str:
    """The command line in a unified kernel image: what ukify and objdump find there has to be the same."""
    inspected = root.run(["ukify", "inspect", image]).stdout
    said = re.search(r"^\.cmdline:\n(?:  .*\n)*?  text:\n(.*)$", inspected, re.MULTILINE)
    dumped = root.run(["objdump", "--full-contents", "--section=.cmdline", image]).stdout
    rows = re.findall(r"^ [0-9a-f]+ ((?:[0-9a-f]{2,8} ){1,4})", dumped, re.MULTILINE)
    section = bytes.fromhex("".join(rows)).rstrip(b"\0").decode().strip()
    if said is None or said[1].strip() != section:
        raise LabError(f"{image}: ukify and objdump don't agree on .cmdline:\n{inspected}\n{dumped}")
    return section
