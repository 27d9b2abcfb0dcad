"""What an ELF file is: build ID, what debuggers can get out of it, what it needs to run. Only here is pyelftools."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from kdump_pkg.errors import BadImageError

T = TypeVar("T")


ABILITIES = ("none", "symbols", "BTF", "BTF+symbols", "DWARF")


@dataclass(frozen=True)
class ElfFacts:
    build_id: str | None
    abilities: str
    """One of ABILITIES, which go from the least to the most."""


@dataclass(frozen=True)
class Linkage:
    """What a program needs besides itself."""

    interpreter: str | None
    """Path of the loader; None for a static program and for a library."""
    libraries: tuple[str, ...]
    """DT_NEEDED: names without directories."""
    machine: str
    """Architecture and word size: a library of another kind is none."""


def inspect_file(path: Path) -> ElfFacts:
    """Raises BadImageError when PATH can't be read or is no ELF file of the kernel's kind."""
    try:
        if not path.is_file():
            raise BadImageError(f"{path}: not a regular file")
        with path.open("rb") as stream:
            return inspect(stream, str(path))
    except OSError as error:
        raise BadImageError(f"{path}: {error.strerror}") from None


def linkage(data: bytes, name: str) -> Linkage:
    """Raises BadImageError when DATA is no ELF file."""
    return _parse(io.BytesIO(data), name, lambda elf: Linkage(_interpreter(elf), _needed(elf), _machine(elf)))


def better(one: str, other: str) -> bool:
    """Whether abilities ONE are more than OTHER."""
    return ABILITIES.index(one) > ABILITIES.index(other)


def inspect_bytes(data: bytes, name: str) -> ElfFacts:
    return inspect(io.BytesIO(data), name)


def inspect(stream: IO[bytes], name: str) -> ElfFacts:
    return _parse(stream, name, lambda elf: ElfFacts(_build_id(elf), _abilities(elf)))


def _parse(stream: IO[bytes], name: str, read: Callable[[Any], T]) -> T:
    if stream.read(4) != b"\x7fELF":
        raise BadImageError(f"{name}: not an ELF file")
    from elftools.elf.elffile import ELFFile

    stream.seek(0)
    try:
        return read(ELFFile(stream))
    except BadImageError:
        raise
    except Exception as error:  # hostile files make pyelftools raise nearly anything
        raise BadImageError(f"{name}: damaged ELF file: {type(error).__name__}") from None


def _build_id(elf: Any) -> str | None:
    from elftools.elf.segments import NoteSegment

    for segment in elf.iter_segments():
        if isinstance(segment, NoteSegment):
            for note in segment.iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                    value = note["n_desc"]
                    return value if isinstance(value, str) else bytes(value).hex()
    return None


def _abilities(elf: Any) -> str:
    names = {section.name for section in elf.iter_sections()}
    if ".debug_info" in names or ".zdebug_info" in names:
        return "DWARF"
    parts = [word for word, section in (("BTF", ".BTF"), ("symbols", ".symtab")) if section in names]
    return "+".join(parts) or "none"


def _interpreter(elf: Any) -> str | None:
    found = (s for s in elf.iter_segments() if s["p_type"] == "PT_INTERP")
    segment = next(found, None)
    return str(segment.get_interp_name()) if segment is not None else None


def _needed(elf: Any) -> tuple[str, ...]:
    found = (s for s in elf.iter_segments() if s["p_type"] == "PT_DYNAMIC")
    return tuple(str(tag.needed) for segment in found for tag in segment.iter_tags("DT_NEEDED"))


def _machine(elf: Any) -> str:
    return f"{elf['e_machine']}/{elf.elfclass}"
