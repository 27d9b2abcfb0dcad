"""The report as plain text, for terminals and report.txt."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from kdump_pkg.model.crash import Report
from kdump_pkg.report.document import Block, Code, Fold, Grid, Pairs, Prose, Steps
from kdump_pkg.report.sections import compose
from kdump_pkg.report.words import clean, glue, unglue

WIDTH = 120
INDENT = "    "
WIDEST = 60
"""Columns of one cell that others are aligned to."""


def render(report: Report) -> str:
    """The whole report, at most 120 columns where nothing is longer by itself, with a newline at its end."""
    document = compose(report)
    lines = [*_wrap(document.sentence, "")]
    if document.notes:
        lines.append("")
    for note in document.notes:
        lines += _wrap(note.text, "")
    lines += ["", *_block(document.lead)]
    for section in document.sections:
        lines += ["", section.title.upper()]
        for number, block in enumerate(section.blocks):
            lines += [""] if number else []
            lines += _block(block)
    return "\n".join(clean(line).rstrip() for line in lines) + "\n"


def _wrap(text: str, indent: str, first: str | None = None) -> list[str]:
    """Words that are longer than a line stay whole: they may be paths, to be copied."""
    lines = textwrap.wrap(
        glue(clean(text)),
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [unglue(line) for line in lines]


def _block(block: Block) -> list[str]:
    match block:
        case Prose():
            return _wrap(block.text, INDENT)
        case Pairs():
            return list(_pairs(block))
        case Grid():
            return _grid(block)
        case Code():
            return [f"{INDENT}{line}" for line in block.lines]
        case Steps():
            return list(_steps(block))
        case Fold():
            return list(_fold(block))


def _pairs(block: Pairs) -> Iterator[str]:
    widest = max((len(name) for name, _ in block.rows), default=0)
    for name, cell in block.rows:
        first = f"{INDENT}{name.rjust(widest)}: "
        yield from _wrap(cell.text, " " * len(first), first)


def _grid(block: Grid) -> list[str]:
    """Columns as wide as they have to be, the last one wrapped; its first row says what they are."""
    rows = [block.head, *(tuple(clean(cell.text) for cell in row) for row in block.rows)]
    used = [i for i in range(len(block.head)) if any(row[i] for row in rows[1:])]
    rows = [tuple(row[i] for i in used) for row in rows]
    widths = [min(max(len(row[i]) for row in rows), WIDEST) for i in range(len(used) - 1)]
    lines = []
    for row in rows:
        first = INDENT + "".join(f"{cell.ljust(width)}  " for cell, width in zip(row, widths, strict=False))
        rest = " " * (len(INDENT) + sum(widths) + 2 * len(widths))
        lines += _wrap(row[-1], rest, first) or [first]
    return lines


def _steps(block: Steps) -> Iterator[str]:
    for number, advice in enumerate(block.items, 1):
        yield from _wrap(advice.text, f"{INDENT}    ", f"{INDENT}{number:2}. ")
        if advice.command:
            yield f"{INDENT}        {advice.command}"


def _fold(block: Fold) -> Iterator[str]:
    yield from _wrap(f"{block.summary}:", INDENT)
    for inner in block.blocks:
        yield from _block(inner)
