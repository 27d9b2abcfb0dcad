"""Reading the task list out of a vmcore with drgn: the proof that a dump holds what debugging needs.

makedumpfile's exit code and its header prove nothing (it damages dumps of Linux 7.1 and later and reports success);
a page that is missing shows only when somebody wants to read it. drgn needs no DWARF for this: addresses come from
the kallsyms in the dump itself, the four offsets from the BTF of the kernel that died.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

STRUCT = 4
SIZES = {"task": 4096, "stack": 16384, "signal": 1024, "sighand": 2048}
"""How much is read of each, in bytes; less than any kernel has."""
# Size of what follows each kind of type, besides its 12 bytes: (fixed, per member); Documentation/bpf/btf.rst.
TRAILER = {
    1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
    19: (0, 12),
}  # fmt: skip


def member_offsets(vmlinux: Path, name: str, members: tuple[str, ...]) -> dict[str, int]:
    """Byte offsets of some members of a struct, from the .BTF section of a vmlinux."""
    from elftools.elf.elffile import ELFFile

    with vmlinux.open("rb") as file:
        section: Any = ELFFile(file).get_section_by_name(".BTF")
        data: bytes = section.data()
    _, _, _, header, type_off, type_len, str_off, _ = struct.unpack_from("<HBBIIIII", data)
    strings = header + str_off

    def text(offset: int) -> str:
        return data[strings + offset : data.index(b"\0", strings + offset)].decode()

    at, end = header + type_off, header + type_off + type_len
    while at < end:
        name_off, info, _ = struct.unpack_from("<III", data, at)
        kind, count, bitfields = info >> 24 & 0x1F, info & 0xFFFF, info >> 31
        at += 12
        if kind == STRUCT and text(name_off) == name:
            found = {}
            for number in range(count):
                label, _, bits = struct.unpack_from("<III", data, at + 12 * number)
                found[text(label)] = (bits & 0xFFFFFF if bitfields else bits) // 8
            return {member: found[member] for member in members}
        fixed, each = TRAILER.get(kind, (0, 0))
        at += fixed + each * count
    raise LookupError(f"{vmlinux}: no struct {name} in its BTF")


def tasks(vmcore: Path, vmlinux: Path) -> dict[int, str]:
    """Every process's PID and name. Raises drgn.FaultError where a page that is needed was left out."""
    import drgn
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    program: Any = drgn.Program()
    program.set_core_dump(str(vmcore))
    program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
    pointers = ("stack", "mm", "files", "fs", "signal", "sighand", "nsproxy", "cred")
    offsets = member_offsets(vmlinux, "task_struct", ("tasks", "pid", "comm", *pointers))
    found: dict[int, str] = {}
    task = start = program.symbol("init_task").address
    while True:
        pid = program.read_u32(task + offsets["pid"])
        found[pid] = program.read(task + offsets["comm"], 16).split(b"\0")[0].decode()
        program.read(task, SIZES["task"])
        for pointer in pointers:  # the slab objects behind it, in pages of their own
            address = program.read_u64(task + offsets[pointer])
            if address:
                program.read(address, SIZES.get(pointer, 256))
        task = program.read_u64(task + offsets["tasks"]) - offsets["tasks"]
        if task == start:
            return found
