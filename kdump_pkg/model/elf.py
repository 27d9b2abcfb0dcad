"""An ELF file's headers as plain data: what the reader takes out of a file and the writer puts into another one."""

from __future__ import annotations

from dataclasses import dataclass

X86_64, AARCH64 = 62, 183
EXECUTABLE, RELOCATABLE = 2, 1
PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
WRITE, ALLOC, EXEC, MERGE, STRINGS = 1, 2, 4, 0x10, 0x20
LOAD = 1
ABSOLUTE = 0xFFF1
RESERVED = 0xFF00
"""Section numbers of symbols from here on are no sections (elf(5))."""


@dataclass(frozen=True)
class Section:
    name: str
    type: int
    flags: int = 0
    address: int = 0
    offset: int = 0
    size: int = 0
    link: int = 0
    info: int = 0
    alignment: int = 1
    entry_size: int = 0

    @property
    def held(self) -> bool:
        """Whether it has content in the file."""
        return self.type not in (0, NOBITS)


@dataclass(frozen=True)
class Segment:
    type: int
    flags: int
    offset: int
    address: int
    physical: int
    file_size: int
    memory_size: int
    alignment: int


@dataclass(frozen=True)
class Layout:
    """Of a 64-bit little-endian file; every section's content lies within it."""

    type: int
    machine: int
    entry: int
    flags: int
    sections: tuple[Section, ...]
    """With the null section that is always the first."""
    segments: tuple[Segment, ...]

    def find(self, name: str) -> Section | None:
        return next((s for s in self.sections if s.name == name), None)

    def offset_of(self, address: int) -> int | None:
        """Where in the file the byte lies that is loaded at ADDRESS; None where the file holds none."""
        for one in self.segments:
            if one.type == LOAD and one.address <= address < one.address + one.file_size:
                return one.offset + address - one.address
        return None
