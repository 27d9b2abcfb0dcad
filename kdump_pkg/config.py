"""The user's configuration: files and drop-ins, read through ConfigObj, checked against the option table, frozen."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.model import Config, Layer, Retention, TargetWish, UploadWish, VariantWish
from kdump_pkg.options import (
    BY_NAME,
    OPTIONS,
    TARGET,
    TARGET_BY_NAME,
    TARGET_WORDS,
    UPLOAD,
    UPLOAD_BY_NAME,
    VARIANT,
    VARIANT_BY_NAME,
    Option,
)

UNITS = {"K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}  # in KiB
SECTIONS = {UPLOAD: UPLOAD_BY_NAME, VARIANT: VARIANT_BY_NAME}
Values = dict[str, Any]


@dataclass(frozen=True)
class _Source:
    name: str
    lines: tuple[str, ...]

    def line_of(self, key: str, section: str = "") -> int:
        """Line of the last assignment to KEY in a section (empty: before all of them): that is the one that counts."""
        pattern = re.compile(rf"""\s*(['"]?){re.escape(key)}\1\s*=""")
        found, current = 1, ""
        for number, line in enumerate(self.lines, 1):
            header = re.match(r"\s*\[\s*(['\"]?)(.*?)\1\s*\]", line)
            current = header[2] if header else current
            if current == section and (pattern.match(line) or (found == 1 and section and header)):
                found = number
        return found


def load(ctx: Context) -> Config:
    """Read `/etc/kdump-pkg.conf` and `/etc/kdump-pkg.conf.d/*.conf`, later ones overriding.

    Raises ConfigError with a line for every problem, each naming file and line.
    """
    names = [n for n in ctx.names(paths.CONFIG_DROPINS) if n.endswith(".conf")]
    files = [paths.CONFIG, *(f"{paths.CONFIG_DROPINS}/{n}" for n in names)]
    problems: list[str] = []
    values: Values = {}
    sections: dict[str, Values] = {}
    for name in files:
        source = _read(ctx, name, problems)
        if source is not None:
            mine, more = _parse(source, problems)
            values.update(mine)
            for section, keys in more.items():
                sections.setdefault(section, {}).update(keys)
    if problems:
        raise ConfigError(tuple(problems))
    whole = Config(**{key: _frozen(key, value) for key, value in values.items()})
    upload = UploadWish(**sections.pop(UPLOAD, {}))
    variant = _variant(sections.pop(VARIANT, {}))
    wishes = tuple(_wish(whole, name.removeprefix("target "), keys) for name, keys in sections.items())
    return replace(whole, targets=wishes or (_wish(whole, "root", {}),), upload=upload, variant=variant)


def _variant(keys: Values) -> VariantWish:
    load = keys.pop("max_load", None)
    return VariantWish(**keys) if load is None else VariantWish(max_load=int(load.rstrip("%")), **keys)


def _frozen(key: str, value: Any) -> Any:
    if key in ("max_use", "keep_free"):
        return _size(value)
    return tuple(filter(None, value)) if isinstance(value, list) else value


def _size(text: str) -> str:
    """`10G` as KiB; a share stays what it is."""
    return text if text.endswith("%") or text == "0" else str(int(text[:-1]) * UNITS[text[-1]])


def _wish(config: Config, name: str, keys: Values) -> TargetWish:
    """One section, with what it leaves out taken from the whole."""

    def get(key: str) -> Any:
        value = keys.get(key)
        return getattr(config, key) if value is None else _frozen(key, value)

    return TargetWish(
        name=name,
        path=get("path"),
        fstype=keys.get("fstype") or "auto",
        layers=_layers(keys.get("layers") or ["auto"]),
        device_timeout=get("device_timeout"),
        timeout=get("timeout"),
        retention=Retention(get("keep"), get("max_age"), get("max_use"), get("keep_free")),
    )


def _layers(words: list[str]) -> tuple[Layer, ...] | None:
    if words == ["auto"]:
        return None
    pairs = (word.partition(":") for word in words)
    return tuple(Layer(kind, name) for kind, _, name in pairs)  # type: ignore[arg-type]  # checked by the pattern


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


def _parse(source: _Source, problems: list[str]) -> tuple[Values, dict[str, Values]]:
    """The values that one file sets, and those of its sections; what is wrong with it goes to PROBLEMS."""
    if not any(line.strip() and not line.lstrip().startswith("#") for line in source.lines):
        return {}, {}
    # Costs 30 ms: only where there is something to read.
    from configobj import ConfigObj, ConfigObjError, DuplicateError

    try:
        raw = ConfigObj(list(source.lines), configspec=configspec(), interpolation=False, list_values=True)
    except ConfigObjError as error:
        for one in getattr(error, "errors", None) or [error]:
            number = getattr(one, "line_number", None) or 1
            what = "set twice in this file" if isinstance(one, DuplicateError) else "not a line of the form key = value"
            problems.append(f"{source.name}:{number}: {what}")
        return {}, {}
    before = len(problems)
    _check_names(raw, source, problems)
    return _validated(raw, source, problems) if len(problems) == before else ({}, {})


def configspec() -> list[str]:
    """The configspec of ConfigObj, a line per option; the keys of a section have no defaults."""
    sections = {**SECTIONS, "__many__": TARGET_BY_NAME}
    lines = [f"{option.name} = {_check(option, _default(option))}" for option in OPTIONS]
    for section, known in sections.items():
        lines += [f"[{section}]", *(f"{option.name} = {_check(option, 'None')}" for option in known.values())]
    return lines


def _default(option: Option) -> str:
    return "list()" if option.check == "force_list" and not option.default else f'"{option.default}"'


def _check(option: Option, default: str) -> str:
    if option.check.endswith(")"):
        return f"{option.check[:-1]}, default={default})"
    return f"{option.check}(default={default})"


def _check_names(raw: Any, source: _Source, problems: list[str]) -> None:
    for section in raw.sections:
        where = f"{source.name}:{_section_line(source, section)}"
        if section not in SECTIONS and not TARGET.fullmatch(section):
            others = " or ".join(f"[{name}]" for name in SECTIONS)
            problems.append(f"{where}: unknown section [{_shown(section)}]; use {TARGET_WORDS}, or {others}")
        elif raw[section].sections:
            problems.append(f"{where}: [{section}] holds another section; there are none below it")
        else:
            problems += _unknown(source, raw[section].scalars, _known(section), section)
    problems += _unknown(source, raw.scalars, BY_NAME)


def _known(section: str) -> dict[str, Option]:
    """The options of a section; of what stands before all of them where it has no name."""
    return SECTIONS.get(section) or (TARGET_BY_NAME if section else BY_NAME)


def _unknown(source: _Source, keys: list[str], known: dict[str, Option], section: str = "") -> list[str]:
    where = f" in [{section}]" if section else ""
    return [
        f"{source.name}:{source.line_of(key, section)}: unknown option {_shown(key)}{where}; {_nearest(key, known)}"
        for key in keys
        if key not in known
    ]


def _validated(raw: Any, source: _Source, problems: list[str]) -> tuple[Values, dict[str, Values]]:
    try:
        from configobj.validate import Validator
    except ImportError:  # ConfigObj before 5.0.9 ships it as a module of its own
        from validate import Validator

    parts = {"": list(raw.scalars), **{name: list(raw[name].scalars) for name in raw.sections}}
    written = {name: dict(raw[name] if name else raw) for name in parts}
    outcome = raw.validate(Validator(), preserve_errors=True)
    verdicts = outcome if isinstance(outcome, dict) else {}
    for section, given in parts.items():
        known = _known(section)
        values, mine = (raw[section], verdicts.get(section)) if section else (raw, verdicts)
        mine = mine if isinstance(mine, dict) else {}
        for key in given:
            if mine.get(key, True) is not True or not _matches(known[key], values[key]):
                old = written[section][key]
                shown = ", ".join(old) if isinstance(old, list) else str(old)
                where = f"{source.name}:{source.line_of(key, section)}"
                problems.append(f"{where}: {key} = {shown!r} is not allowed; use {known[key].allowed}")
    sections = {name: {key: raw[name][key] for key in given} for name, given in parts.items() if name}
    return {key: raw[key] for key in parts[""]}, sections


def _matches(option: Option, value: object) -> bool:
    if option.pattern is None:
        return True
    many = isinstance(value, list)  # `key =` is the empty list
    values = value if isinstance(value, list) else [value]
    if "auto" in values and len(values) > 1:
        return False
    return all(isinstance(v, str) and re.fullmatch(option.pattern, v) for v in values if not (many and v == ""))


def _shown(name: str) -> str:
    """A name as it may go to a terminal."""
    return name if name.isprintable() else repr(name)


def _section_line(source: _Source, section: str) -> int:
    named = (n for n, line in enumerate(source.lines, 1) if re.match(r"\s*\[", line) and section in line)
    return next(named, 1)


def _nearest(key: str, known: dict[str, Option]) -> str:
    import difflib

    close = difflib.get_close_matches(key, list(known), n=1)
    return f"did you mean {close[0]}?" if close else f"allowed are {', '.join(known)}"
