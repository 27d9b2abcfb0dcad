"""The words of a kernel command line (lib/cmdline.c, next_arg): at blanks, where those aren't in double quotes."""

from __future__ import annotations

import re

WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


def split(cmdline: str) -> list[str]:
    """As they stand there, quotes included."""
    return WORD.findall(cmdline)


def by_name(cmdline: str) -> dict[str, str]:
    """Names and values, without quotes; of a name that comes twice, the last value."""
    pairs = (word.replace('"', "").partition("=") for word in split(cmdline))
    return {name: value for name, _, value in pairs}
