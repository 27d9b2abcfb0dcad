"""What an ELF file is: build ID and what debuggers can get out of it. The only module that knows pyelftools."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kdump_pkg.errors import BadImageError


@dataclass(frozen=True)
class ElfFacts:
    build_id: str | None
    abilities: str
    """`DWARF`, `BTF+symbols`, `BTF`, `symbols` or `none`."""


def inspect_file(path: Path) -> ElfFacts:
    """Raises BadImageError when PATH can't be read or is no ELF file of the kernel's kind."""
    try:
        if not path.is_file():
            raise BadImageError(f"{path}: not a regular file")
        with path.open("rb") as stream:
            return inspect(stream, str(path))
    except OSError as error:
        raise BadImageError(f"{path}: {error.strerror}") from None


def inspect_bytes(data: bytes, name: str) -> ElfFacts:
    return inspect(io.BytesIO(data), name)


def inspect(stream: IO[bytes], name: str) -> ElfFacts:
    if stream.read(4) != b"\x7fELF":
        raise BadImageError(f"{name}: not an ELF file")
    from elftools.elf.elffile import ELFFile

    stream.seek(0)
    try:
        elf = ELFFile(stream)
        return ElfFacts(_build_id(elf), _abilities(elf))
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
