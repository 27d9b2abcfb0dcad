"""What is known of the variant: what was asked for, built and tried, and whether a build runs just now."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model.variant import Built, Failure, Progress, Record, VariantState, Wanted

T = TypeVar("T", Built, Failure)
R = TypeVar("R", Wanted, Built, Failure, Progress)
TYPES = {"int": int, "str": str}


def read_state(ctx: Context) -> VariantState:
    """All of it; what is damaged is not there."""
    running = is_running(ctx)
    progress = _made(Progress, ctx.read_record(paths.VARIANT_PROGRESS), {}) if running else None
    return VariantState(read_record(ctx), running, progress, int(ctx.clock()))


def read_record(ctx: Context) -> Record:
    """What is remembered from run to run."""
    found = ctx.read_record(paths.VARIANT_RECORD)
    trusted = found.get("trusted")
    trusted = trusted if isinstance(trusted, dict) else {}
    return Record(
        followed=found.get("followed") is True,
        wanted=_wanted(found.get("wanted")),
        built=_with_wanted(Built, found.get("built")),
        failure=_with_wanted(Failure, found.get("failure")),
        trusted={key: value for key, value in trusted.items() if isinstance(value, str)},
    )


def _wanted(value: Any) -> Wanted | None:
    if not isinstance(value, dict) or not _strings(value.get("drivers")):
        return None
    plain = {key: one for key, one in value.items() if key != "drivers"}
    return _made(Wanted, plain, {"drivers": tuple(value["drivers"])})


def _with_wanted(kind: type[T], value: Any) -> T | None:
    wanted = _wanted(value.get("wanted")) if isinstance(value, dict) else None
    if wanted is None:
        return None
    tail = value.get("tail")
    plain = {key: one for key, one in value.items() if key not in ("wanted", "tail")}
    more: dict[str, Any] = {"wanted": wanted}
    if tail is not None:
        more["tail"] = tuple(tail) if _strings(tail) else ()
    return _made(kind, plain, more)


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _made(kind: type[R], plain: dict[str, Any], more: dict[str, Any]) -> R | None:
    """One of these, of numbers and texts that are those, and of what was checked already."""
    types = kind.__annotations__
    if not all(type(value) is TYPES.get(types.get(key, "")) for key, value in plain.items()):
        return None
    try:
        return kind(**plain, **more)
    except TypeError:  # too few of them
        return None


def is_running(ctx: Context) -> bool:
    """Whether somebody holds the lock of the build, as /proc/locks has it.

    To try it would need the right to open it, and could be in the way of the one who takes it just then.
    """
    try:
        found = ctx.path(paths.VARIANT_LOCK).stat()
    except (OSError, KdumpError):
        return False  # nobody has ever held it
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    lines = (line.split() for line in (ctx.read_text("/proc/locks") or "").splitlines())
    return any(words[1] == "FLOCK" and device in words for words in lines if len(words) > 5)
