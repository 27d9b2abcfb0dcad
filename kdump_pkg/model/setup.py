"""What `setup` is going to do, and its record: what lets it be undone to the byte, whenever it was killed."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdump_pkg import paths
from kdump_pkg.errors import KdumpError
from kdump_pkg.model.bootloader import Loader, Result

VERSION = 1
Contents = Mapping[str, bytes | None]
"""Files as they are: path to content, None where there is no such file."""


@dataclass(frozen=True)
class Change:
    """A file before and after; None where it isn't there."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Version:
    """A file as we wrote it, and the values that we put into it."""

    data: bytes
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recorded:
    """A file that we edited, and all that undoing needs to know."""

    path: str
    loader: str
    original: bytes | None
    ours: tuple[Version, ...]
    """More than one while we change it again, the last one new: we may be killed before it is there."""
    lines: tuple[bytes, ...] = ()
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Generated:
    """A file that a program made out of what we edited."""

    path: str
    loader: str
    original: bytes | None
    ours: str = ""
    """SHA-256 of what came out; empty while that isn't known, and where the original is out of date."""


@dataclass(frozen=True)
class Record:
    """/var/lib/kdump-pkg/setup.json."""

    loader: str
    """The last one that was set up; earlier ones are in `files`."""
    values: tuple[str, ...]
    files: tuple[Recorded, ...] = ()
    generated: tuple[Generated, ...] = ()
    units: tuple[str, ...] = ()
    """Those that we enabled."""
    sysctl: bool = False
    """Whether paths.SYSCTL was made by us."""


@dataclass(frozen=True)
class SetupPlan:
    """What is to be done, in this order; finished bytes and argv, so that it can be shown."""

    changes: tuple[Change, ...] = ()
    """Files of the boot loader that are edited."""
    restored: tuple[Change, ...] = ()
    """Generated files that get their first content back."""
    commands: tuple[tuple[str, ...], ...] = ()
    """What makes the boot loader's own files out of them."""
    sysctl: Change | None = None
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    record: Record | None = None
    """As it has to be afterwards; None: none."""
    recorded: bytes | None = None
    """The record's file as it is now."""
    loader: Loader | None = None
    values: tuple[str, ...] = ()
    manual: tuple[str, ...] = ()
    """Commands for the user to run."""
    notes: tuple[str, ...] = ()
    reboot: bool = False
    """Whether what the next boot reserves differs from what this one did."""

    @property
    def results(self) -> tuple[Result, ...]:
        return self.loader.results if self.loader else ()

    @property
    def empty(self) -> bool:
        """Whether the machine is as it has to be; a record alone is no change that anybody sees."""
        return not (self.changes or self.restored or self.commands or self.sysctl or self.enable or self.disable)


def digest(data: bytes | None) -> str:
    return "" if data is None else hashlib.sha256(data).hexdigest()


def settled(record: Record) -> Record:
    """The record of what is done: what we wrote before the last time is nowhere any more."""
    return replace(record, files=tuple(replace(file, ours=file.ours[-1:]) for file in record.files))


def with_generated(record: Record, loader: str, before: Contents, after: Contents | None = None) -> Record:
    """The record with what a program is about to change (no AFTER), or has changed.

    What it was before the very first time is kept for as long as nobody else generated it anew in between.
    """
    known = {g.path: g for g in record.generated if g.loader == loader}
    found = [g for g in record.generated if g.loader != loader]
    for path in sorted({*before, *known, *(after or {})}):
        old = known.get(path) or Generated(path, loader, before.get(path))
        now = before.get(path)
        current = now == old.original or (bool(old.ours) and digest(now) == old.ours)
        if after is None:
            found.append(old)
        elif current and after.get(path) != old.original:
            found.append(replace(old, ours=digest(after.get(path))))
        elif not current:
            found.append(replace(old, ours=""))
    return replace(record, generated=tuple(found))


def dump(record: Record) -> bytes:
    """The record as it is kept."""
    value = {
        "version": VERSION,
        "loader": record.loader,
        "values": record.values,
        "files": [_plain(one) for one in record.files],
        "generated": [_plain(one) for one in record.generated],
        "units": record.units,
        "sysctl": record.sysctl,
    }
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def load(data: bytes) -> Record:
    """Raises KdumpError for what we can't have written."""
    try:
        value = json.loads(data)
        if value["version"] != VERSION:
            raise ValueError
        return Record(
            loader=_text(value["loader"]),
            values=_texts(value["values"]),
            files=tuple(_recorded(one) for one in value["files"]),
            generated=tuple(_generated(one) for one in value["generated"]),
            units=_texts(value["units"]),
            sysctl=value["sysctl"] is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KdumpError(
            f"{paths.SETUP}: damaged, so what setup changed can't be told",
            hint="take crashkernel= out of the boot loader's configuration by hand, remove this file, run it again",
        ) from None


def _plain(one: Recorded | Generated) -> dict[str, Any]:
    value: dict[str, Any] = {"path": one.path, "loader": one.loader, "original": _coded(one.original)}
    if isinstance(one, Generated):
        return {**value, "ours": one.ours}
    value["ours"] = [{"data": _coded(version.data), "words": version.words} for version in one.ours]
    return {**value, "lines": [_coded(line) for line in one.lines], "replaced": one.replaced}


def _recorded(value: Any) -> Recorded:
    return Recorded(
        path=_text(value["path"]),
        loader=_text(value["loader"]),
        original=_decoded(value["original"]),
        ours=tuple(Version(_decoded(one["data"]) or b"", _texts(one["words"])) for one in value["ours"]),
        lines=tuple(_decoded(line) or b"" for line in value["lines"]),
        replaced={_text(entry): _texts(words) for entry, words in value["replaced"].items()},
    )


def _generated(value: Any) -> Generated:
    path, loader, ours = (_text(value[key]) for key in ("path", "loader", "ours"))
    return Generated(path, loader, _decoded(value["original"]), ours)


def _coded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


def _decoded(value: Any) -> bytes | None:
    return None if value is None else base64.b64decode(_text(value), validate=True)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError
    return tuple(map(_text, value))
