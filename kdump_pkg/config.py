"""The user's configuration: files and drop-ins, read through ConfigObj, checked against the option table, frozen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.model import Config
from kdump_pkg.options import BY_NAME, OPTIONS, configspec


@dataclass(frozen=True)
class _Source:
    name: str
    lines: tuple[str, ...]

    def line_of(self, key: str) -> int:
        """Line of the last assignment to KEY: that is the one that counts."""
        pattern = re.compile(rf"""\s*(['"]?){re.escape(key)}\1\s*=""")
        return max((n for n, line in enumerate(self.lines, 1) if pattern.match(line)), default=1)


def load(ctx: Context) -> Config:
    """Read `/etc/kdump-pkg.conf` and `/etc/kdump-pkg.conf.d/*.conf`, later ones overriding.

    Raises ConfigError with a line for every problem, each naming file and line.
    """
    names = [n for n in ctx.names(paths.CONFIG_DROPINS) if n.endswith(".conf")]
    files = [paths.CONFIG, *(f"{paths.CONFIG_DROPINS}/{n}" for n in names)]
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name in files:
        source = _read(ctx, name, problems)
        if source is not None:
            values.update(_parse(source, problems))
    if problems:
        raise ConfigError(tuple(problems))
    frozen: dict[str, Any] = {key: tuple(filter(None, v)) if isinstance(v, list) else v for key, v in values.items()}
    return Config(**frozen)


def _read(ctx: Context, name: str, problems: list[str]) -> _Source | None:
    try:
        path = ctx.path(name)
        if not path.exists():
            return None
        if not path.is_file():
            raise OSError(0, "not a regular file")
        if path.stat().st_size > 1 << 20:
            raise OSError(0, "larger than 1 MiB: not a configuration file")
        return _Source(name, tuple(path.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        problems.append(f"{name}:{line}: not UTF-8 text; write it anew as plain text")
    except OSError as error:
        problems.append(f"{name}:1: can't be read: {error.strerror}")
    except KdumpError as error:
        problems.append(error.message.replace(name, f"{name}:1", 1))
    return None


def _parse(source: _Source, problems: list[str]) -> dict[str, Any]:
    """The values that one file sets; what is wrong with it goes to PROBLEMS."""
    if not any(line.strip() and not line.lstrip().startswith("#") for line in source.lines):
        return {}
    # Costs 30 ms: only where there is something to read.
    from configobj import ConfigObj, ConfigObjError, DuplicateError

    try:
        raw = ConfigObj(list(source.lines), configspec=configspec(), interpolation=False, list_values=True)
    except ConfigObjError as error:
        for one in getattr(error, "errors", None) or [error]:
            number = getattr(one, "line_number", None) or 1
            what = "set twice in this file" if isinstance(one, DuplicateError) else "not a line of the form key = value"
            problems.append(f"{source.name}:{number}: {what}")
        return {}
    before = len(problems)
    for section in raw.sections:
        problems.append(
            f"{source.name}:{_section_line(source, section)}: unknown section [{_shown(section)}]; there are none"
        )
    for key in raw.scalars:
        if key not in BY_NAME:
            problems.append(f"{source.name}:{source.line_of(key)}: unknown option {_shown(key)}; {_nearest(key)}")
    return _validated(raw, source, problems) if len(problems) == before else {}


def _validated(raw: Any, source: _Source, problems: list[str]) -> dict[str, Any]:
    try:
        from configobj.validate import Validator
    except ImportError:  # ConfigObj before 5.0.9 ships it as a module of its own
        from validate import Validator

    given = list(raw.scalars)
    written = {key: raw[key] for key in given}
    outcome = raw.validate(Validator(), preserve_errors=True)
    verdicts = outcome if isinstance(outcome, dict) else {}
    for key in given:
        bad = verdicts.get(key, True) is not True or not _matches(key, raw[key])
        if bad:
            shown = ", ".join(written[key]) if isinstance(written[key], list) else str(written[key])
            problems.append(
                f"{source.name}:{source.line_of(key)}: {key} = {shown!r} is not allowed; use {BY_NAME[key].allowed}"
            )
    return {key: raw[key] for key in given}


def _matches(key: str, value: object) -> bool:
    pattern = BY_NAME[key].pattern
    if pattern is None:
        return True
    many = isinstance(value, list)  # `key =` is the empty list
    values = value if isinstance(value, list) else [value]
    return all(isinstance(v, str) and re.fullmatch(pattern, v) for v in values if not (many and v == ""))


def _shown(name: str) -> str:
    """A name as it may go to a terminal."""
    return name if name.isprintable() else repr(name)


def _section_line(source: _Source, section: str) -> int:
    return next((n for n, line in enumerate(source.lines, 1) if line.strip().startswith(f"[{section}")), 1)


def _nearest(key: str) -> str:
    import difflib

    close = difflib.get_close_matches(key, list(BY_NAME), n=1)
    return f"did you mean {close[0]}?" if close else f"allowed are {', '.join(o.name for o in OPTIONS)}"
