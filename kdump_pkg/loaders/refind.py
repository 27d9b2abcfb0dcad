"""rEFInd: refind_linux.conf beside the kernels, and the stanzas of refind.conf that start this system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kdump_pkg import parameters
from kdump_pkg.loaders import Look, evidence, ours, places, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Loader, Stretch, Surroundings, TextFile

LINUX_CONF, CONF = "refind_linux.conf", "refind.conf"
TOKEN = re.compile(rb'"((?:[^"]|"")*)(?:"|\Z)|([^\s=,#"]+)')
"""In quotes, or up to what separates; a quote in quotes is doubled. An unfinished quote goes to the end of its line."""
GAP = re.compile(rb"[\s=,]*")
PROGRAM = re.compile(r"refind", re.I)
KERNEL = re.compile(r"(?:vmlinuz|bzimage)[^/\\]*\Z", re.I)
ONE_WORD = "its options aren't in quotes, so rEFInd takes no more than their first word"
REMEDY = 'write them as "title" "options", then kdump-pkg setup'


@dataclass(frozen=True)
class _Token:
    place: Stretch
    quoted: bool

    def text(self, data: bytes) -> str:
        return words.text(data, [self.place]).replace('""', '"')


@dataclass
class _Stanza:
    """A menuentry, or a submenuentry with what it takes over from the entry around it."""

    title: str
    loader: str = ""
    options: _Token | None = None
    disabled: bool = False
    inherits: bool = field(default=False)


def read(look: Look, around: Surroundings) -> Loader | None:
    files = text_files(look, _candidates(look, around))
    why = _evidence(around)
    if not files and not why:
        return None
    lines = tuple(line for file in files for line in _lines(file, around))
    return Loader(
        "refind",
        "rEFInd",
        why or f"{files[0].path} is there",
        booted=bool(why),
        files=tuple(files),
        lines=lines,
        problem=_problem(files, lines, around),
    )


def _candidates(look: Look, around: Surroundings) -> Iterator[str]:
    """A kernel's directory has its refind_linux.conf; rEFInd's own has refind.conf and what that includes."""
    for place in dict.fromkeys(("/boot", *places.mounted(around))):
        vendors = [f"{place}/EFI/{name}" for name in look.names(f"{place}/EFI")]
        yield from (f"{directory}/{LINUX_CONF}" for directory in (place, *vendors))
        for directory in vendors:
            data = look.read_bytes(f"{directory}/{CONF}")
            if data is not None:
                yield f"{directory}/{CONF}"
                yield from (f"{directory}/{name}" for name in dict.fromkeys(_included(data)))


def _included(data: bytes) -> Iterator[str]:
    for tokens in _tokens("", data):
        if len(tokens) > 1 and tokens[0].text(data) == "include":
            yield tokens[1].text(data)


def _problem(files: list[TextFile], lines: tuple[CommandLine, ...], around: Surroundings) -> str | None:
    for file in files:
        if (file.data or b"").startswith((b"\xff\xfe", b"\xfe\xff")):
            return f"{file.path} is in UTF-16: save it as UTF-8, then kdump-pkg setup"
    own = [line for line in lines if line.foreign is None]
    for line in lines:
        if not own and line.foreign == ONE_WORD:
            return f"{line.stretches[0].path}:{line.stretches[0].line}: {ONE_WORD}: {REMEDY}"
    if own:
        return places.problem(around, [file.path for file in files])
    return places.unmounted(around) or (
        f"no {LINUX_CONF} beside the kernels has a line for this system, so rEFInd makes up their command lines: "
        f"mkrlconf, look through what it wrote, then kdump-pkg setup"
    )


# --- tokens -------------------------------------------------------------------------------------------------------


def _tokens(path: str, data: bytes) -> Iterator[list[_Token]]:
    """Of each line that has any."""
    for number, (start, end) in enumerate(words.lines(data), 1):
        found = []
        at = start + 3 if data.startswith(b"\xef\xbb\xbf", start) else start
        while match := TOKEN.match(data, at := GAP.match(data, at, end).end(), end):  # type: ignore[union-attr]
            group = 1 if match[1] is not None else 2
            found.append(_Token(Stretch(path, *match.span(group), number), group == 1))
            at = match.end()
        if found:
            yield found


def _lines(file: TextFile, around: Surroundings) -> Iterator[CommandLine]:
    if file.path.endswith(f"/{LINUX_CONF}"):
        yield from _pairs(file, around)
    else:
        for stanza in _stanzas(file):
            if stanza.options and not stanza.inherits:
                yield _line(file, stanza.title, stanza.options, _why_not(file, stanza, around))


def _pairs(file: TextFile, around: Surroundings) -> Iterator[CommandLine]:
    data = file.data or b""
    for tokens in _tokens(file.path, data):
        if len(tokens) > 1:
            title, options, *rest = tokens
            why = ONE_WORD if rest and not options.quoted else ours.foreign(around, options.text(data))
            yield _line(file, title.text(data), options, why)


def _line(file: TextFile, title: str, options: _Token, foreign: str | None) -> CommandLine:
    grow = words.grow(file.data or b"", options.place, quote=b"" if options.quoted else b'"')
    return CommandLine(title, (options.place,), grow, foreign)


# --- stanzas ------------------------------------------------------------------------------------------------------


def _stanzas(file: TextFile) -> list[_Stanza]:
    """All entries and entries below them, in their order."""
    data = file.data or b""
    found: list[_Stanza] = []
    open_ones: list[_Stanza] = []
    for tokens in _tokens(file.path, data):
        keyword = tokens[0].text(data).lower()
        value = tokens[1] if len(tokens) > 1 else None
        if keyword in ("menuentry", "submenuentry") and value:
            above = open_ones[-1] if open_ones and keyword == "submenuentry" else None
            open_ones = [above] if above else []
            open_ones.append(_below(above, value.text(data)))
            found.append(open_ones[-1])
        elif keyword == "}":
            del open_ones[-1:]
        elif open_ones:
            _describe(open_ones[-1], keyword, value, data)
    return found


def _below(above: _Stanza | None, title: str) -> _Stanza:
    if above is None:
        return _Stanza(title)
    return _Stanza(f"{above.title} > {title}", above.loader, above.options, above.disabled, inherits=True)


def _describe(stanza: _Stanza, keyword: str, value: _Token | None, data: bytes) -> None:
    if keyword == "disabled":
        stanza.disabled = True
    elif keyword == "loader" and value:
        stanza.loader = value.text(data)
    elif keyword == "options" and value:
        stanza.options, stanza.inherits = value, False


def _why_not(file: TextFile, stanza: _Stanza, around: Surroundings) -> str | None:
    assert stanza.options is not None
    text = stanza.options.text(file.data or b"")
    if stanza.disabled:
        return "it is disabled"
    if not KERNEL.search(stanza.loader) and "root" not in parameters.by_name(text):
        return "it starts no Linux"
    return ours.foreign(around, text, kernel=stanza.loader)


def _evidence(around: Surroundings) -> str:
    """Why this boot came through rEFInd; empty where nothing says so, or where it started another loader."""
    if not around.live or around.firmware.stub_info or "BOOT_IMAGE" in parameters.by_name(around.cmdline or ""):
        return ""
    return evidence.started(around, "rEFInd", PROGRAM) or ""
