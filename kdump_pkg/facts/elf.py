"""What an ELF file is: build ID, what debuggers can get out of it, what it needs to run, how it is laid out.

Only here is pyelftools.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from kdump_pkg.errors import BadImageError
from kdump_pkg.untrusted import masked

if TYPE_CHECKING:
    from kdump_pkg.model.elf import Layout, Section, Segment

T = TypeVar("T")

LARGEST = 1 << 27  # bytes of a section that is read whole; .BTF has some 5 MB
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


def section_file(path: Path, section: str) -> bytes | None:
    """Content of one section of a file that may have hundreds of megabytes. Raises BadImageError; None without it."""
    try:
        with path.open("rb") as stream:
            return _parse(stream, str(path), lambda elf: _content(elf, section))
    except OSError as error:
        raise BadImageError(f"{path}: {error.strerror}") from None


def layout(data: bytes, name: str) -> Layout:
    """Headers of a 64-bit little-endian file. Raises BadImageError also when a section isn't all there."""
    return _parse(io.BytesIO(data), name, lambda elf: _layout(elf, data, name))


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
    """From the segments of a kernel, or from the sections of a module, which has no segments."""
    from elftools.elf.sections import NoteSection
    from elftools.elf.segments import NoteSegment

    held = NoteSegment if elf.num_segments() else NoteSection
    for part in elf.iter_segments() if elf.num_segments() else elf.iter_sections():
        if isinstance(part, held):
            for note in part.iter_notes():
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


def _layout(elf: Any, data: bytes, name: str) -> Layout:
    from kdump_pkg.model.elf import Layout  # hooks have to be fast, and don't ask

    if elf.elfclass != 64 or not elf.little_endian:
        raise BadImageError(f"{name}: not a 64-bit little-endian ELF file")
    sections = tuple(_section(s, _raw(data, elf, "sh", n, 4)) for n, s in enumerate(elf.iter_sections()))
    for one in sections:
        if one.held and one.offset + one.size > len(data):
            raise BadImageError(f"{name}: truncated, its section {masked(one.name[:40])} ends beyond it")
    segments = tuple(_segment(s.header, _raw(data, elf, "ph", n, 0)) for n, s in enumerate(elf.iter_segments()))
    if any(s.offset + s.file_size > len(data) for s in segments):
        raise BadImageError(f"{name}: truncated, a segment ends beyond it")
    kind, machine = struct.unpack_from("<HH", data, 16)
    return Layout(kind, machine, elf["e_entry"], elf["e_flags"], sections, segments)


def _content(elf: Any, name: str) -> bytes | None:
    section = elf.get_section_by_name(name)
    if section is None or max(section.header["sh_size"], section.data_size) > LARGEST:
        return None
    return bytes(section.data())


def _raw(data: bytes, elf: Any, table: str, index: int, at: int) -> int:
    """The type in a header as the number that it is: pyelftools turns those that it knows into names."""
    (number,) = struct.unpack_from("<I", data, elf[f"e_{table}off"] + index * elf[f"e_{table}entsize"] + at)
    return int(number)


def _section(section: Any, number: int) -> Section:
    from kdump_pkg.model.elf import Section

    head = section.header
    return Section(
        name=section.name,
        type=number,
        flags=head["sh_flags"],
        address=head["sh_addr"],
        offset=head["sh_offset"],
        size=head["sh_size"],
        link=head["sh_link"],
        info=head["sh_info"],
        alignment=head["sh_addralign"],
        entry_size=head["sh_entsize"],
    )


def _segment(head: Any, number: int) -> Segment:
    from kdump_pkg.model.elf import Segment

    return Segment(
        type=number,
        flags=head["p_flags"],
        offset=head["p_offset"],
        address=head["p_vaddr"],
        physical=head["p_paddr"],
        file_size=head["p_filesz"],
        memory_size=head["p_memsz"],
        alignment=head["p_align"],
    )
