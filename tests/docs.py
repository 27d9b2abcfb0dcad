"""The parts of the documentation that are made from the option table: `python -m tests.docs` writes them anew.

tests/unit/test_docs.py fails when a shipped text is not what this makes.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from kdump_pkg import cli
from kdump_pkg.options import BY_NAME, OPTIONS, TARGET_OPTIONS, UPLOAD_OPTIONS, VARIANT_OPTIONS, Option
from kdump_pkg.render import sample_config

REPO = Path(__file__).resolve().parents[1]
SAMPLE = "kdump-pkg.conf"
MANUAL = "man/kdump-pkg.conf.5"
BEGIN = '.\\" BEGIN of what `python -m tests.docs` makes from kdump_pkg/options.py: {}\n'
END = '.\\" END of {}\n'


def roff(text: str) -> str:
    """Plain text for man(7): a hyphen that can be copied as one, and nothing that troff would take for a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def option_entry(option: Option) -> str:
    """One option of the manual page: name, meaning, what is allowed, default."""
    default = f"Default: {roff(option.default)}." if option.default else "Default: none."
    if option in TARGET_OPTIONS and not option.default:
        default = "Default: that of the option of the same name."
    if option in TARGET_OPTIONS and BY_NAME.get(option.name, option).help == option.help:
        return f".TP\n.B {roff(option.name)}\nAs above, for this target alone.\n"
    return f".TP\n.B {roff(option.name)}\n{roff(option.help)}\nAllowed: {roff(option.allowed)}.\n{default}\n"


def sections() -> dict[str, str]:
    """The generated parts of the manual page."""
    parts = {"options": OPTIONS, "targets": TARGET_OPTIONS, "upload": UPLOAD_OPTIONS, "variant": VARIANT_OPTIONS}
    return {name: "".join(option_entry(option) for option in options) for name, options in parts.items()}


def with_options(manual: str) -> str:
    """MANUAL with what stands between the markers made anew. Raises ValueError when a marker is missing."""
    for name, text in sections().items():
        begin, end = BEGIN.format(name), END.format(name)
        head, found, rest = manual.partition(begin)
        _, also_found, tail = rest.partition(end)
        if not found or not also_found:
            raise ValueError(f"{MANUAL} has lost a marker: {begin.strip()} … {end.strip()}")
        manual = f"{head}{begin}{text}{end}{tail}"
    return manual


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
