"""The corpus of boot-loader configurations in tests/bootloaders: what a case says, as files and facts."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdump_pkg.model.bootloader import Edit, Firmware, Loader, NvramEntry, Place, Preset, Surroundings

CORPUS = Path(__file__).parent / "bootloaders"
CASES = sorted(path.stem for path in CORPUS.glob("*.toml"))

Lines = Mapping[str, str]
"""Number of a line of the original to what it has become; `6+` for what was put in behind it."""


@dataclass
class Files:
    """A root made of a dictionary, to be looked at as `loaders.Look` does."""

    content: dict[str, bytes] = field(default_factory=dict)

    def read_bytes(self, name: str) -> bytes | None:
        return self.content.get(name)

    def names(self, directory: str) -> list[str]:
        start = directory.rstrip("/") + "/"
        return sorted({name[len(start) :].split("/")[0] for name in self.content if name.startswith(start)})

    def is_file(self, name: str) -> bool:
        return name in self.content

    def with_edits(self, edits: tuple[Edit, ...]) -> Files:
        return Files(self.content | {edit.path: edit.after for edit in edits})


@dataclass(frozen=True)
class Case:
    what: str
    loader: str
    around: Surroundings
    files: Files
    after: dict[str, bytes]
    """Whole files, of those that `set` changes."""
    replaced: dict[str, bytes]
    """The same for `set` with a replacement."""
    expect: Mapping[str, Any]


def surroundings(values: Mapping[str, Any]) -> Surroundings:
    """Of the keys of a case's [around]."""
    known = dict(values)
    entry = known.pop("entry", None)
    firmware = Firmware(
        efi=known.pop("efi", bool(entry or {"loader_info", "stub_info", "selected"} & known.keys())),
        entry=NvramEntry(**({"number": "0001", "label": "", "file": ""} | entry)) if entry else None,
        secure_boot=known.pop("secure_boot", None),
        **{key: known.pop(key, "") for key in ("loader_info", "stub_info", "selected")},
    )
    return Surroundings(
        firmware=firmware,
        places=tuple(Place(**place) for place in known.pop("places", ())),
        presets=tuple(Preset(**preset) for preset in known.pop("presets", ())),
        roots=frozenset(known.pop("roots", ())),
        programs=frozenset(known.pop("programs", ())),
        **known,
    )


def load(name: str) -> Case:
    case = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))
    unknown = case.keys() - {"what", "loader", "around", "files", "bytes", "after", "expect", "replace"}
    assert not unknown, f"{name}: unknown keys {unknown}"
    how = case.get("bytes", {})
    assert how.keys() <= {"crlf", "no_final_newline", "latin1", "bom"}, f"{name}: {how.keys()}"

    def encoded(path: str, text: str) -> bytes:
        text = text.removesuffix("\n") if path in how.get("no_final_newline", ()) else text
        text = text.replace("\n", "\r\n") if path in how.get("crlf", ()) else text
        mark = b"\xef\xbb\xbf" if path in how.get("bom", ()) else b""
        return mark + text.encode("latin-1" if path in how.get("latin1", ()) else "utf-8")

    def changed(key: str) -> dict[str, bytes]:
        files = case.get("files", {})
        return {path: encoded(path, merged(files.get(path, ""), new)) for path, new in case.get(key, {}).items()}

    content = {path: encoded(path, text) for path, text in case.get("files", {}).items()}
    return Case(
        case["what"], case["loader"], surroundings(case.get("around", {})), Files(content),
        changed("after"), changed("replace"), case.get("expect", {}),
    )  # fmt: skip


def merged(text: str, new: Lines) -> str:
    """A text with some of its lines changed and others put in; every line of it is ended."""
    lines = [line + "\n" for line in text.removesuffix("\n").split("\n")] if text else []
    unused = dict(new)
    out = [unused.pop("0+", None)]
    for number, line in enumerate(lines, 1):
        out += [unused.pop(str(number), line), unused.pop(f"{number}+", None)]
    assert not unused, f"no such lines: {unused}"
    return "".join(line.removesuffix("\n") + "\n" for line in out if line is not None)


def as_data(loader: Loader, edit: Edit, data: bytes) -> Loader:
    """The same loader with another content of one file: for tests of edits alone."""
    files = tuple(replace(file, data=data) if file.path == edit.path else file for file in loader.files)
    return replace(loader, files=files)
