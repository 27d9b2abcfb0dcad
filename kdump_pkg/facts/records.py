"""What the program wrote down of a rehearsal and of a crash on purpose; what is damaged is not there."""

from __future__ import annotations

from typing import Any, TypeVar

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.model.health import CrashTest, Rehearsed

T = TypeVar("T")
RESULTS = ("pending", "saved", "lost")


def read_rehearsed(ctx: Context) -> Rehearsed | None:
    """The last rehearsal."""
    return made(Rehearsed, ctx.read_record(paths.REHEARSED))


def read_test(ctx: Context) -> CrashTest | None:
    """The last crash on purpose."""
    found = made(CrashTest, ctx.read_record(paths.CRASH_TEST))
    return found if found and found.result in RESULTS else None


def made(kind: type[T], value: Any) -> T | None:
    """VALUE, out of JSON, as KIND, a dataclass of plain fields; None when it has other names or types."""
    try:
        found = kind(**value)
    except TypeError:  # no table, names that it doesn't have, or too few
        return None
    types = kind.__annotations__
    return found if all(_fits(value, types[key]) for key, value in vars(found).items()) else None


def _fits(value: Any, wanted: str) -> bool:
    """Whether a value from JSON is what the annotation says: `int | None`, `str`."""
    if value is None:
        return "None" in wanted
    allowed = {"int": (int,), "float": (int, float), "bool": (bool,)}.get(wanted.split(" ")[0], (str,))
    return isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
