"""Fuzz the reader of crash logs with atheris, and what must hold of whatever it reads.

    python3 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    mkdir -p /tmp/fuzz/corpus && cp tests/reports/*.log /tmp/fuzz/corpus
    /tmp/fuzz/bin/python -m tests.fuzz.crashlog -max_len=60000 -timeout=5 -max_total_time=900 /tmp/fuzz/corpus

An input that breaks something is written to the current directory; `python -m tests.fuzz.crashlog FILE` runs it again.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from kdump_pkg.model.crash import Crash

LONGEST, MOST = 4096 * 3, 1024
"""Characters of one text: of a command line that was printed in three lines. Things in a list: modules."""


def sane(crash: Crash) -> None:
    """Raise AssertionError where CRASH holds what none may, whatever the log was."""
    texts = list(_texts(crash))
    assert all(text.isprintable() for text in texts)
    assert all(len(text) <= LONGEST for text in texts)
    assert len(crash.before) <= 40
    assert len(crash.lines) <= 200
    assert len(crash.trace) <= 130
    assert len(crash.modules) <= MOST
    assert len(crash.signature) in (0, 16)
    assert crash.kind != "unknown" or not crash.cause
    assert crash.kind == "unknown" or (crash.cause and crash.words)
    assert crash.where is None or crash.where in crash.trace
    assert crash.uptime is None or 0 <= crash.uptime < 1e11
    assert all(number is None or 0 <= number < 1 << 64 for number in (crash.cpu, crash.pid, crash.address))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for one in value:
            yield from _texts(one)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _texts(getattr(value, field.name))


def main() -> None:
    try:
        atheris = importlib.import_module("atheris")
    except ImportError:
        sys.exit("atheris is not installed: see the beginning of this file")
    with atheris.instrument_imports(include=["kdump_pkg.crashlog"]):
        crashlog = importlib.import_module("kdump_pkg.crashlog")
    atheris.Setup(sys.argv, lambda data: sane(crashlog.read(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
