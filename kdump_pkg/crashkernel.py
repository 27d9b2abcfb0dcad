"""The kernel parameter `crashkernel=`, in all its forms (admin-guide/kernel-parameters.txt, kdump.rst)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kdump_pkg.errors import KdumpError

NAME = "crashkernel"
UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", "K", "M", "G", "T", "P", "E"))}
SIZE = r"(0[xX][0-9a-fA-F]+|[0-9]+)([KMGTPEkmgtpe]?)"
RANGE = re.compile(rf"{SIZE}-(?:{SIZE})?:{SIZE}")
PLAIN = re.compile(rf"{SIZE}(?:@{SIZE})?")
SUFFIXED = re.compile(rf"{SIZE},(high|low|cma)")
DEFAULT_LOW = 256 << 20
"""What `,high` reserves below 4 GiB on x86_64 where no `,low` says otherwise (arch/x86/include/asm/crash_reserve.h)."""
ROUNDING = 128 << 20
"""The kernel rounds memory up to this before it looks for a range: firmware keeps some for itself."""
HINT = "for example crashkernel=256M, crashkernel=2G-8G:256M,8G-:512M or crashkernel=256M,high"


@dataclass(frozen=True)
class Request:
    """What the parameters together ask for on a machine of known memory; bytes."""

    size: int = 0
    offset: int | None = None
    """Where it has to lie."""
    high: bool = False
    """May lie above 4 GiB; `low` comes on top then."""
    low: int = 0
    cma: int = 0
    """More for the capture kernel, out of memory that the system goes on using (Linux 6.17 and later)."""

    @property
    def cost(self) -> int:
        """What the system can't use."""
        return self.size + self.low


def word(value: str) -> str:
    return f"{NAME}={value}"


def parse(values: Sequence[str], memory: int) -> Request:
    """What the kernel makes of several `crashkernel=VALUE` on a machine of MEMORY bytes (kernel/crash_reserve.c).

    The last plain one counts; `,high` and `,low` only where there is no plain one, `,cma` only on top of either.
    Raises KdumpError for a value that the kernel doesn't take.
    """
    plain: tuple[int, int | None] | None = None
    sizes: dict[str, int] = {}
    for value in values:
        suffixed = SUFFIXED.fullmatch(value)
        if suffixed:
            sizes[suffixed[3]] = _bytes(suffixed[1], suffixed[2])
        else:
            plain = _plain(value, memory)
    cma = sizes.get("cma", 0)
    if plain is not None:
        return Request(*plain, cma=cma) if plain[0] else Request()
    if sizes.get("high"):
        return Request(sizes["high"], high=True, low=sizes.get("low", DEFAULT_LOW), cma=cma)
    return Request()


def _plain(value: str, memory: int) -> tuple[int, int | None]:
    """Size and offset; a size of 0 where memory is in none of the ranges."""
    simple = PLAIN.fullmatch(value)
    if simple:
        return _bytes(simple[1], simple[2]), _offset(simple[3], simple[4])
    text, at, where = value.partition("@")
    place = re.fullmatch(SIZE, where)
    found = [RANGE.fullmatch(one) for one in text.split(",")]
    ranges = [match for match in found if match]
    if (at and not place) or len(ranges) < len(found):
        raise KdumpError(f"{word(value)}: not a size that the kernel takes", hint=HINT)
    offset = _offset(place[1], place[2]) if place else None
    total = -(-memory // ROUNDING) * ROUNDING
    for match in ranges:
        start = _bytes(match[1], match[2])
        end = _bytes(match[3], match[4]) if match[3] else None
        if end is not None and end <= start:
            raise KdumpError(f"{word(value)}: {match[0]} ends before it starts", hint=HINT)
        if start <= total and (end is None or total < end):
            return _bytes(match[5], match[6]), offset
    return 0, None


def _offset(number: str | None, unit: str | None) -> int | None:
    """0 is none: the kernel looks for a place then."""
    return (_bytes(number, unit or "") or None) if number else None


def _bytes(number: str, unit: str) -> int:
    """As the kernel's memparse takes it: 0x… is hexadecimal, 0… octal."""
    octal = re.fullmatch(r"0[0-7]+", number)
    base = 16 if number[1:2] in ("x", "X") else 8 if octal else 10
    return int(number, base) * UNITS[unit.upper()]


def ordered(given: Sequence[str]) -> tuple[str, ...]:
    """The plain ones last: before Linux 6.17 the last one counts, and `,cma` is nothing that it knows."""
    return tuple(sorted(given, key=lambda value: not SUFFIXED.fullmatch(value)))


def values(cmdline: str) -> tuple[str, ...]:
    """The values of all `crashkernel=` in a command line, in their order."""
    return tuple(re.findall(rf"(?:^|[\s\"']){NAME}=([^\s\"']*)", cmdline))


def text(value: Sequence[str]) -> str:
    """As they stand on a command line."""
    return " ".join(map(word, value))
