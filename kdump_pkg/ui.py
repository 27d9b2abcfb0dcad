"""How we speak: mkinitcpio's `==>` voice for what is done, tables and JSON for what is read, a line of progress."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from kdump_pkg.errors import KdumpError
from kdump_pkg.untrusted import escaped

COLOURS = {"green": "\033[1;32m", "blue": "\033[1;34m", "yellow": "\033[1;33m", "red": "\033[1;31m"}


def _paint(stream: TextIO, colour: str, text: str) -> str:
    return f"{COLOURS[colour]}{text}\033[0m" if stream.isatty() else text


def _harmless(text: str) -> str:
    """Names of files and words of programs may be anybody's; our own have lines and columns."""
    return escaped(text, keep="\n\t")


def say(text: str) -> None:
    print(f"{_paint(sys.stdout, 'green', '==>')} {_harmless(text)}", flush=True)  # noqa: T201


def detail(text: str) -> None:
    print(f"  {_paint(sys.stdout, 'blue', '->')} {_harmless(text)}", flush=True)  # noqa: T201


def warn(text: str) -> None:
    sys.stdout.flush()
    print(f"{_paint(sys.stderr, 'yellow', '==> WARNING:')} {_harmless(text)}", file=sys.stderr, flush=True)  # noqa: T201


def remark(text: str) -> None:
    """For people, where stdout is for data alone."""
    sys.stdout.flush()
    print(f"  {_paint(sys.stderr, 'blue', '->')} {_harmless(text)}", file=sys.stderr, flush=True)  # noqa: T201


def error(text: str, hint: str | None = None) -> None:
    """One line per problem on stderr; the remedy follows in the same line."""
    sys.stdout.flush()
    lines = text.splitlines() or [""]
    for number, line in enumerate(lines):
        tail = f" ({hint})" if hint and number == len(lines) - 1 else ""
        print(f"{_paint(sys.stderr, 'red', '==> ERROR:')} {_harmless(line + tail)}", file=sys.stderr, flush=True)  # noqa: T201


def ask(prompt: str) -> str:
    """A secret: typed on the terminal and not shown there, or one line of what is piped in."""
    import getpass

    try:
        line = getpass.getpass(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    except EOFError:
        line = ""
    if not line:
        raise KdumpError("no passphrase was given", hint="type it on a terminal")
    return line


def interactive() -> bool:
    """Whether somebody sits there to be asked."""
    return sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask as pacman does: Enter means yes, the end of the input doesn't."""
    print(f"{_paint(sys.stdout, 'blue', '::')} {_harmless(question)} [Y/n] ", end="", flush=True)  # noqa: T201
    answer = sys.stdin.readline()
    return answer != "" and answer.strip().lower() in ("", "y", "yes")


def typed(question: str, word: str) -> bool:
    """Ask for a whole word, where Enter alone would be too easy."""
    print(f"{_paint(sys.stdout, 'blue', '::')} {question} ", end="", flush=True)  # noqa: T201
    return sys.stdin.readline().strip() == word


def pick(question: str, choices: Sequence[str]) -> int | None:
    """Ask for one of several by its number, with none that Enter would take; None where none was picked."""
    print(f"{_paint(sys.stdout, 'blue', '::')} {question}")  # noqa: T201
    for number, choice in enumerate(choices, 1):
        print(f"   {number}) {choice}")  # noqa: T201
    print("\nEnter a number: ", end="", flush=True)  # noqa: T201
    answer = sys.stdin.readline().strip()
    return int(answer) - 1 if answer.isdecimal() and 0 < int(answer) <= len(choices) else None


def diff(text: str) -> None:
    """A unified diff, with what goes in red and what comes in green on a terminal."""
    colours = {"+": "green", "-": "red", "@": "blue"}
    for line in text.splitlines():
        colour = colours.get(line[:1])
        out(_paint(sys.stdout, colour, line) if colour else line)


def out(text: str) -> None:
    """Data, on stdout and nothing else."""
    print(text, flush=True)  # noqa: T201


def out_json(value: object) -> None:
    out(json.dumps(plain(value), indent=2, sort_keys=True))


@contextmanager
def only_data(wanted: bool) -> Iterator[None]:
    """Send to stderr what the programs that we start print meanwhile: stdout is for JSON alone."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def plain(value: object) -> Any:
    """Dataclasses as dictionaries, bytes as text: what JSON can carry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they have to be; the last one is free."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows
    )


@contextmanager
def progress(what: str) -> Iterator[None]:
    """A line on the terminal, with the seconds gone, for what takes longer than one; nothing where there is no tty."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()

    def tick() -> None:
        start = time.monotonic()
        while not done.wait(1):
            print(f"\r  {what} … {time.monotonic() - start:.0f} s ", end="", file=sys.stderr, flush=True)  # noqa: T201

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        print("\r\033[K", end="", file=sys.stderr, flush=True)  # noqa: T201
