"""The shape of a report: what the text and the page both show, in the same order, each in its own manner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdump_pkg.model.crash import Advice

Look = Literal["", "code", "faint", "dim", "good", "bad"]
"""`faint` is code that matters less."""


@dataclass(frozen=True)
class Cell:
    text: str
    look: Look = ""


@dataclass(frozen=True)
class Prose:
    text: str


@dataclass(frozen=True)
class Pairs:
    """Names and what they stand for."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True)
class Grid:
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Code:
    """Lines as the kernel wrote them."""

    lines: tuple[str, ...]
    name: str
    """What they are, for who can't see them."""
    wrap: bool = False
    """Whether a line that is too long goes on in the next one, instead of out of sight."""


@dataclass(frozen=True)
class Steps:
    items: tuple[Advice, ...]


@dataclass(frozen=True)
class Fold:
    """What is long: the page shows it when it is asked to."""

    summary: str
    blocks: tuple[Prose | Pairs | Grid | Code, ...]


Block = Prose | Pairs | Grid | Code | Steps | Fold


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    sentence: str
    """With its full stop."""
    stressed: str
    """The part of the sentence that is the kernel's own name for the place; empty: none."""
    notes: tuple[Cell, ...]
    """What a reader should know at once besides the sentence."""
    lead: Pairs
    sections: tuple[Section, ...]
