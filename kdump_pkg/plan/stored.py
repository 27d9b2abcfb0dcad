"""A report out of JSON: what lies on a disk is believed nothing. Types are checked, sizes bounded, text is cleaned."""

from __future__ import annotations

import dataclasses
import json
import math
import types
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kdump_pkg.model.crash import Report
from kdump_pkg.report.words import clean

VERSION = 1
MOST = 1000
"""Items of one list; the longest of ours have 200."""


def read(data: bytes) -> Report | None:
    """None for what is no report of this version, in any way."""
    try:
        value = json.loads(data)
        if not isinstance(value, dict) or value.get("version") != VERSION or value["version"] is True:
            return None
        found = _made(Report, value)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return found if isinstance(found, Report) else None


def _made(kind: Any, value: Any) -> Any:
    """VALUE as KIND, an annotation of the model. Raises ValueError where it isn't one."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _object(kind, value)
    origin = get_origin(kind)
    if origin is tuple:
        return _tuple(get_args(kind), value)
    if origin is Literal:
        return _must(value in get_args(kind), value)
    if origin in (types.UnionType, Union):
        wanted = [option for option in get_args(kind) if option is not type(None)]
        return None if value is None and len(wanted) < len(get_args(kind)) else _made(wanted[0], value)
    return _plain(kind, value)


def _object(kind: type, value: Any) -> Any:
    _must(isinstance(value, dict), None)
    hints = get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: _made(hints[name], value[name]) for name in known if name in value})


def _tuple(kinds: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
    _must(isinstance(value, list) and len(value) <= MOST, None)
    if kinds[-1] is Ellipsis:
        return tuple(_made(kinds[0], one) for one in value)
    return tuple(_made(kind, one) for kind, one in zip(kinds, value, strict=True))


def _plain(kind: type, value: Any) -> Any:
    if kind is str:
        return clean(_must(isinstance(value, str), value))
    if kind is bool:
        return _must(isinstance(value, bool), value)
    _must(isinstance(value, int if kind is int else int | float) and not isinstance(value, bool), None)
    _must(abs(value) < 1 << 64 and math.isfinite(value), None)
    return kind(value)


def _must(true: bool, value: Any) -> Any:
    if not true:
        raise ValueError
    return value
