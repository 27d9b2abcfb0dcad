"""One call frame that the kernel leaves out: that of __crash_kexec, where every trace of a crash begins.

objtool makes no ORC entry for it (STACK_FRAME_NON_STANDARD, kernel/kexec_core.c), so a debugger's trace would end there
at once. What it needs, where the caller's registers are after the prologue, is read from the prologue itself, which
must be of the few instructions that compilers begin a function with. Of x86-64 only.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from kdump_pkg.debuginfo.dwarf import uleb

FUNCTION = "__crash_kexec"
LONGEST = 128  # bytes of a prologue
_FURTHEST = 0x3F  # what DW_CFA_advance_loc can hold
_REGISTERS = (0, 2, 1, 3, 7, 6, 4, 5, *range(8, 16))
"""DWARF's numbers of what the processor counts as rax, rcx, rdx, rbx, rsp …"""


class _Step(NamedTuple):
    after: int
    """Bytes of code up to the end of the instruction."""
    frame: int
    """Bytes from the stack pointer to the caller's, then."""
    pushed: int | None
    """DWARF's number of the register that was saved."""


def section(code: bytes, address: int, size: int) -> bytes:
    """The section .debug_frame for a function at ADDRESS; empty when its prologue isn't understood."""
    steps = _prologue(code[:LONGEST])
    if not steps or steps[-1].pushed is not None or not _ends_so(code[:size], steps):
        return b""
    # x86-64: the caller's frame is rsp + 8, and what lies below it is the return address.
    common = b"\xff\xff\xff\xff\x01\0\x01\x78\x10\x0c\x07\x08\x90\x01"
    entry = struct.pack("<IQQ", 0, address, size)
    before = 0
    for step in steps:
        if step.after - before > _FURTHEST:
            return b""
        entry += bytes((0x40 | step.after - before, 0x0E)) + uleb(step.frame)
        if step.pushed is not None:
            entry += bytes((0x80 | step.pushed,)) + uleb(step.frame // 8)
        before = step.after
    return _padded(common) + _padded(entry)


def _padded(data: bytes) -> bytes:
    data += bytes(-(len(data) + 4) % 8)
    return struct.pack("<I", len(data)) + data


def _prologue(code: bytes) -> list[_Step]:
    """What the first instructions do to the stack, up to the one that makes room on it."""
    at, frame = 0, 8
    steps: list[_Step] = []
    while at + 8 <= len(code):
        length, pushed, room = _instruction(code[at : at + 8])
        if not length:
            break
        at += length
        if pushed is None and not room:
            continue
        frame += 8 if pushed is not None else room
        steps.append(_Step(at, frame, pushed))
        if room:
            break
    return steps


def _instruction(code: bytes) -> tuple[int, int | None, int]:
    """Length, register that it pushes, room that it makes on the stack. Length 0: none of those that are known."""
    if 0x50 <= code[0] <= 0x57:
        return 1, _REGISTERS[code[0] - 0x50], 0
    if code[0] == 0x41 and 0x50 <= code[1] <= 0x57:
        return 2, _REGISTERS[8 + code[1] - 0x50], 0
    if code.startswith(b"\x48\x83\xec") and code[3] < 0x80:
        return 4, None, code[3]
    if code.startswith(b"\x48\x81\xec"):
        return 7, None, struct.unpack_from("<I", code, 3)[0] & 0x7FFFFFF8
    return _harmless(code), None, 0


def _harmless(code: bytes) -> int:
    """Length of an instruction that doesn't touch the stack pointer."""
    if code.startswith(b"\xf3\x0f\x1e\xfa"):  # endbr64
        return 4
    if code[0] == 0xE8 or code.startswith(b"\x0f\x1f\x44\0\0"):  # call __fentry__, and the nop in its place
        return 5
    if code[0] in (0x31, 0x89) and code[1] >= 0xC0:  # xor, mov between registers of 32 bits
        return 2
    if code[0] == 0x48 and code[1] == 0x89 and code[2] >= 0xC0 and code[2] & 7 != 4:  # mov, but not to rsp
        return 3
    if 0xB8 <= code[0] <= 0xBF:  # mov of a constant
        return 5
    return 0


def _ends_so(code: bytes, steps: list[_Step]) -> bool:
    """Whether somewhere in the function the room is given back that the prologue makes."""
    room = steps[-1].frame - (steps[-2].frame if len(steps) > 1 else 8)
    short = room < 0x80 and b"\x48\x83\xc4" + bytes((room,)) in code
    return short or b"\x48\x81\xc4" + struct.pack("<I", room) in code
