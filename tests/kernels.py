"""Kernel images of a few kilobytes with all that a debug file is made of: sections, BTF, kallsyms in every layout."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.btf import every_kind
from tests.fakes import BUILD_ID, note

TEXT, RODATA, DATA, PER_CPU = 0xFFFFFFFF81000000, 0xFFFFFFFF81001000, 0xFFFFFFFF81010000, 0xFFFFFFFF81020000
LAYOUTS = ("pc-relative", "base", "per CPU", "old", "old with sequences")
MASK = 0xFFFFFFFF
PROLOGUE = bytes.fromhex("f30f1efa e8fbffffff 4157 4156 55 4889fd 53 4881ec88000000".replace(" ", ""))
"""endbr64; call; push r15; push r14; push rbp; mov rbp, rdi; push rbx; sub rsp, 0x88"""
EPILOGUE = bytes.fromhex("4881c488000000 5b 5d 415e 415f c3".replace(" ", ""))

Symbol = tuple[int, str, str]
"""Address, nm(1)'s letter, name."""
SYMBOLS: tuple[Symbol, ...] = (
    (TEXT, "T", "_text"),
    (TEXT + 0x100, "T", "do_work"),
    (TEXT + 0x140, "t", "twice"),
    (TEXT + 0x180, "t", "twice"),
    (TEXT + 0x200, "T", "__crash_kexec"),
    (TEXT + 0x300, "T", "after"),
    (DATA, "D", "init_task"),
    (DATA + 0x40, "D", "jiffies"),
    (DATA + 0x48, "d", "modules"),
    (DATA + 0x58, "D", "node_data"),
    (DATA + 0x80, "b", "prb"),
)


def many(count: int = 300) -> tuple[Symbol, ...]:
    """Enough for two blocks of names."""
    return tuple((TEXT + 0x400 + 4 * n, "t", f"filler_{n:03}") for n in range(count))


# --- kallsyms -----------------------------------------------------------------------------------------------------


def tokens(names: Sequence[str]) -> list[bytes]:
    """256 of them: those of the characters that occur at the characters' own numbers, pairs at the others."""
    used = {c for name in names for c in name.encode()} | set(b"0123456789")
    pairs = iter([f"{a}{b}".encode() for a in "abcdefghijklmnop" for b in "qrstuvwxyz_eoi"])
    table = [bytes((n,)) if n in used else next(pairs) for n in range(256)]
    table[1] = b"filler_"
    return table


def encode(names: Sequence[str], table: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Names as numbers of tokens, and where each 256th of them begins."""
    out = bytearray()
    markers = []
    for number, name in enumerate(names):
        if number % 256 == 0:
            markers.append(len(out))
        left = name.encode()
        numbers = bytearray()
        while left:
            best = max((t for t in table if left.startswith(t)), key=len)
            numbers.append(table.index(best))
            left = left[len(best) :]
        out += bytes((len(numbers),)) if len(numbers) < 128 else bytes((len(numbers) & 127 | 128, len(numbers) >> 7))
        out += numbers
    return bytes(out), markers


def kallsyms(symbols: Sequence[Symbol], layout: str, at: int = RODATA) -> bytes:
    """The tables, to be loaded at AT, with the symbol of the names themselves put in where it belongs."""
    before = b"\0some text before it\0".ljust(64, b"\0")
    place = at
    for _ in range(2):  # the first time to find out where the names will be
        whole = sorted((*symbols, (place, "r", "kallsyms_names")), key=lambda s: (bool(s[0] >> 32), s[0]))
        data, offset = tables(before, whole, layout, at)
        place = at + offset
    return data


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def tables(before: bytes, symbols: Sequence[Symbol], layout: str, at: int) -> tuple[bytes, int]:
    """All of them in the kernel's order, after what lies BEFORE, and where the names begin."""
    names = [letter + name for _, letter, name in symbols]
    table = tokens(names)
    packed, markers = encode(names, table)
    packed = _aligned(packed)
    starts = [sum(len(t) + 1 for t in table[:n]) for n in range(256)]
    old = layout.startswith("old")
    addresses = _relative(symbols, layout) if old else b""
    head = before + addresses + _aligned(struct.pack("<I", len(symbols)))
    tail = _aligned(struct.pack(f"<{len(markers)}I", *markers))
    if layout == "old with sequences":
        tail = struct.pack(f"<{len(markers)}I", *markers) + _aligned(b"\x5a\x5a\x5a" * len(symbols))
    tail += _aligned(b"".join(t + b"\0" for t in table)) + struct.pack("<256H", *starts)
    data = head + packed + tail
    if not old:
        here = at + len(data)
        data += _relative(symbols, layout) if layout != "pc-relative" else _pc_relative(symbols, here)
    return data + b"something after it\0", len(head)


def _pc_relative(symbols: Sequence[Symbol], at: int) -> bytes:
    distances = [(s[0] - (at + 4 * n)) & MASK for n, s in enumerate(symbols)]
    return _aligned(struct.pack(f"<{len(symbols)}I", *distances))


def _relative(symbols: Sequence[Symbol], layout: str) -> bytes:
    def distance(address: int) -> int:
        if layout == "base":
            return address - TEXT
        return address if address < 1 << 31 else (TEXT - 1 - address) & MASK

    return _aligned(struct.pack(f"<{len(symbols)}I", *(distance(s[0]) & MASK for s in symbols))) + struct.pack(
        "<Q", TEXT
    )


# --- the image ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A section: what it holds, and where it is loaded; 0 of those that aren't."""

    name: str
    data: bytes
    address: int = 0
    type: int = 1
    flags: int = 2
    link: int = 0
    info: int = 0
    entry: int = 0


def image(parts: Sequence[Part], *, machine: int = 62, kind: int = 2) -> bytes:
    """An ELF file, with a segment for each part that is loaded, and one for the notes."""
    loaded = [p for p in parts if p.address or p.name == ".data..percpu"]
    noted = [p for p in parts if p.type == 7]
    segments = bytearray()
    body = bytearray(bytes(64 + 56 * (len(loaded) + len(noted))))
    names = bytearray(b"\0")
    heads = [bytes(64)]
    for part in (*parts, Part(".shstrtab", b"", type=3, flags=0)):
        body += bytes(-len(body) % 16)
        start = len(names)
        names += part.name.encode() + b"\0"
        if part.name == ".shstrtab":
            part = replace(part, data=bytes(names))
        heads.append(_head(part, start, len(body)))
        for one, code in ((loaded, 1), (noted, 4)):
            if part in one:
                size = len(part.data)
                where = (len(body), part.address, part.address & 0xFFFFFFF, size, size, 16)
                segments += struct.pack("<IIQQQQQQ", code, 7, *where)
        body += part.data
    body[64 : 64 + len(segments)] = segments
    body += bytes(-len(body) % 8)
    count = len(segments) // 56
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, TEXT, 64 if count else 0, len(body), 0, 64, 56, count, 64, len(heads),
        len(heads) - 1,
    )  # fmt: skip
    body[:64] = head
    return bytes(body) + b"".join(heads)


def _head(part: Part, name: int, place: int) -> bytes:
    return struct.pack(
        "<IIQQQQIIQQ", name, part.type, part.flags, part.address, place, len(part.data), part.link, part.info, 8,
        part.entry,
    )  # fmt: skip


def code() -> bytes:
    """.text: nothing but nops, and the one function whose beginning counts."""
    text = bytearray(b"\x90" * 0x1000)
    text[0x100:0x140] = b"\xcc" * 0x31 + b"\x66\x66\x2e\x0f\x1f\x84\0\0\0\0\0\x0f\x1f\x40\0"  # a function of 0x31 bytes
    text[0x200:0x300] = (PROLOGUE + b"\xcc" * 0x80 + EPILOGUE).ljust(0x100, b"\xcc")
    return bytes(text)


def parts(layout: str = "pc-relative", btf: bytes | None = None) -> list[Part]:
    low = layout not in ("pc-relative", "base")  # per-CPU variables count from 0
    per_cpu = ((0 if low else PER_CPU), "A" if low else "D", "current_count")
    start = ((0 if low else PER_CPU), "A" if low else "D", "__per_cpu_start")
    table = kallsyms([*SYMBOLS, *many(), start, per_cpu], layout)
    return [
        Part(".text", code(), TEXT, flags=6),
        Part(".rodata", table, RODATA),
        Part(".notes", note(BUILD_ID), RODATA + 0x8000, type=7),
        Part(".BTF", every_kind().build() if btf is None else btf, RODATA + 0x9000),
        Part(".data", b"\1" * 0x60 + bytes(0x40), DATA, flags=3),
        Part(".data..percpu", bytes(0x40), 0 if low else PER_CPU, flags=3),
    ]


def kernel(layout: str = "pc-relative", btf: bytes | None = None) -> bytes:
    """An image as it comes out of a vmlinuz."""
    return image(parts(layout, btf))


def with_table(symbols: Sequence[tuple[int, int, int, int, str]], others: Sequence[Part]) -> list[Part]:
    """OTHERS and a symbol table: address, size, info, section and name of each."""
    names = bytearray(b"\0")
    entries = bytearray(24)
    for address, size, info, section, name in symbols:
        entries += struct.pack("<IBBHQQ", len(names), info, 0, section, address, size)
        names += name.encode() + b"\0"
    table = Part(".symtab", bytes(entries), type=2, flags=0, link=len(others) + 2, info=1, entry=24)
    return [*others, table, Part(".strtab", bytes(names), type=3, flags=0)]
