"""The parts of the documentation that are made from the option table: `python -m tests.docs` writes them anew.

tests/unit/test_docs.py fails when a shipped text is not what this makes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from kdump_pkg import cli
from kdump_pkg.options import OPTIONS, Option
from kdump_pkg.render import sample_config

REPO = Path(__file__).resolve().parents[1]
SAMPLE = "kdump-pkg.conf"
MANUAL = "man/kdump-pkg.conf.5"
BEGIN = '.\\" BEGIN of what `python -m tests.docs` makes from kdump_pkg/options.py\n'
END = '.\\" END\n'


def roff(text: str) -> str:
    """Plain text for man(7): a hyphen that can be copied as one, and nothing that troff would take for a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def option_entry(option: Option) -> str:
    """One option of the manual page: name, meaning, what is allowed, default."""
    default = f"Default: {roff(option.default)}." if option.default else "Default: none."
    return f".TP\n.B {roff(option.name)}\n{roff(option.help)}\nAllowed: {roff(option.allowed)}.\n{default}\n"


def options_section() -> str:
    return "".join(option_entry(option) for option in OPTIONS)


def with_options(manual: str) -> str:
    """MANUAL with what stands between the two markers made anew. Raises ValueError when a marker is missing."""
    head, begin, rest = manual.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{MANUAL} has lost a marker: {BEGIN.strip()} … {END.strip()}")
    return f"{head}{BEGIN}{options_section()}{END}{tail}"


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Each verb's own parser: what manual page and completions have to agree with."""
    action = next(a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Its long options."""
    return {s for a in parser._actions for s in a.option_strings if s.startswith("--")}


def main() -> None:
    (REPO / SAMPLE).write_text(sample_config(), encoding="utf-8")
    manual = REPO / MANUAL
    manual.write_text(with_options(manual.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
