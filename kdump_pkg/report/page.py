"""The report as one page of HTML that asks nobody for anything."""

from __future__ import annotations

from html import escape

from kdump_pkg import __version__
from kdump_pkg.model.crash import Advice, Report
from kdump_pkg.report.document import Block, Cell, Code, Document, Fold, Grid, Pairs, Prose, Section, Steps
from kdump_pkg.report.sections import compose
from kdump_pkg.report.style import STYLE
from kdump_pkg.report.words import clean, glue, moment

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def render(report: Report) -> str:
    """The whole page. Everything that comes from the dump is escaped."""
    document = compose(report)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(_title(report))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{_header(document)}{''.join(map(_section, document.sections))}"
        f"<footer>Made by kdump-pkg {_text(__version__)} from what the crash left behind.</footer>\n"
        "</main>\n</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return escape(clean(text), quote=True)


def _prose(text: str) -> str:
    return escape(glue(clean(text)), quote=True)


def _title(report: Report) -> str:
    what = report.crash.release or report.id
    return f"Crash of kernel {what}, {moment(report.time)}".rstrip(", ")


def _header(document: Document) -> str:
    notes = "".join(f"<li{_class(note)}>{_prose(note.text)}</li>" for note in document.notes)
    return (
        f'<header>\n<p class="kicker">Report of a kernel crash</p>\n'
        f"<h1>{_sentence(document)}</h1>\n"
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + f"{_pairs(document.lead)}</header>\n"
    )


def _sentence(document: Document) -> str:
    """With the name of the function as code."""
    if not document.stressed:
        return _prose(document.sentence)
    before, _, after = document.sentence.partition(document.stressed)
    return f"{_prose(before)}<code>{_text(document.stressed)}</code>{_prose(after)}"


def _section(section: Section) -> str:
    return (
        f'<section>\n<h2>{_text(section.title)}</h2>\n<div class="body">\n{_blocks(section.blocks)}</div>\n</section>\n'
    )


def _blocks(blocks: tuple[Block, ...]) -> str:
    return "".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Prose():
            return f"<p>{_prose(block.text)}</p>\n"
        case Pairs():
            return _pairs(block)
        case Grid():
            return _grid(block)
        case Code():
            return _code("\n".join(map(_text, block.lines)), block.name, wrap=block.wrap)
        case Steps():
            return f'<ol class="steps">\n{"".join(map(_step, block.items))}</ol>\n'
        case Fold():
            inner = _blocks(block.blocks)
            return (
                f'<details>\n<summary>{_text(block.summary)}</summary>\n<div class="body">\n{inner}</div>\n</details>\n'
            )


def _code(escaped: str, name: str, *, wrap: bool = False) -> str:
    """Long lines scroll in there, by the keyboard too, or are wrapped."""
    if wrap:
        return f'<pre class="wrap"><code>{escaped}</code></pre>\n'
    return f'<pre tabindex="0" role="region" aria-label="{_text(name)}"><code>{escaped}</code></pre>\n'


def _step(advice: Advice) -> str:
    command = _code(_text(advice.command), "command", wrap=True) if advice.command else ""
    return f"<li><p>{_prose(advice.text)}</p>{command}</li>\n"


def _class(cell: Cell) -> str:
    return f' class="{cell.look}"' if cell.look in ("faint", "dim", "good", "bad") else ""


def _cell(cell: Cell) -> str:
    return f"<code>{_text(cell.text)}</code>" if cell.look in ("code", "faint") and cell.text else _text(cell.text)


def _pairs(block: Pairs) -> str:
    rows = "".join(f"<dt>{_text(name)}</dt><dd{_class(cell)}>{_cell(cell)}</dd>\n" for name, cell in block.rows)
    return f"<dl>\n{rows}</dl>\n"


def _grid(block: Grid) -> str:
    """The roles are there because a narrow screen shows rows as blocks, which would take them away."""
    head = "".join(f'<th scope="col" role="columnheader">{_text(name)}</th>' for name in block.head)
    rows = "".join(
        f'<tr role="row">{"".join(_td(number, block.head, cell) for number, cell in enumerate(row))}</tr>\n'
        for row in block.rows
    )
    return (
        f'<div class="scroll"><table role="table">\n<caption>{_text(block.caption)}</caption>\n'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>\n'
        f'<tbody role="rowgroup">\n{rows}</tbody>\n</table></div>\n'
    )


def _td(number: int, head: tuple[str, ...], cell: Cell) -> str:
    """What it is stands before it where the heads are out of sight, but for what explains itself."""
    named = f' data-head="{_text(head[number])}"' if number > 0 and len(head) > 3 else ""
    return f'<td role="cell"{named}{_class(cell)}>{_cell(cell)}</td>'
