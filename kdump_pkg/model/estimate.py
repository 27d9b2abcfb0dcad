"""How much memory a capture needs, part by part."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    name: str
    mib: float
    """What it adds to the sum; 0 for what fits into room that another part has given back by then."""
    source: str
    """Where the figure comes from."""


@dataclass(frozen=True)
class Estimate:
    parts: tuple[Part, ...]
    """Their sum, rounded up, is `need_mib`."""
    need_mib: int
    values: tuple[str, ...]
    """What to put after `crashkernel=`."""
    certain: bool
    """Whether every part of it was read or measured here; False where one had to be guessed."""
    text: str
    """In one line, compared with what is reserved now."""
    reserved_mib: int | None = None
    """None where it can't be known: another root, a chroot."""
    enough: bool | None = None
    """Whether that is enough."""
    used_mib: float | None = None
    """What the last rehearsal of this very image used while it saved: what was reserved less what stayed available."""
    measured: bool = False
    """Whether the sum begins with what `estimate --measure` found, instead of with the parts of a capture."""
