"""Which debuggers are installed, and in which version."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError

DEBUGGERS = ("crash", "drgn")
WORDS = re.compile(r"^(?:crash|drgn) (\d+(?:\.\d+)+)", re.MULTILINE)


def read_debuggers(ctx: Context, packages: Mapping[str, str | None]) -> dict[str, str]:
    """Versions by name: those of PACKAGES, and its own where no package has it; empty where it doesn't say one."""
    found: dict[str, str] = {}
    for name in DEBUGGERS:
        package = packages.get(name)
        if package:
            found[name] = package
        elif any(ctx.is_file(f"{directory}/{name}") for directory in ("/usr/local/bin", "/usr/bin")):
            found[name] = _own_words(ctx, name)
    return found


def _own_words(ctx: Context, name: str) -> str:
    try:
        text = ctx.runner([name, "--version"], root=ctx.root, check=False, timeout=10).text
    except CommandError:
        return ""
    said = WORDS.search(text)
    return said[1] if said else ""
