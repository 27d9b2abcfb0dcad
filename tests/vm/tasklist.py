"""Reading the task list out of a vmcore with drgn: the proof that a dump holds what debugging needs.

makedumpfile's exit code and its header prove nothing (it damages dumps of Linux 7.1 and later and reports success);
a page that is missing shows only when somebody wants to read it. drgn needs no DWARF for this: addresses come from
the kallsyms in the dump itself, the four offsets from the BTF of the kernel that died.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdump_pkg.debuginfo import btf
from kdump_pkg.facts import elf

SIZES = {"task": 4096, "stack": 16384, "signal": 1024, "sighand": 2048, "fs": 48, "nsproxy": 48, "cred": 128}
"""How much is read of each, in bytes; less than any kernel has."""


def tasks(vmcore: Path, vmlinux: Path) -> dict[int, str]:
    """Every process's PID and name. Raises drgn.FaultError where a page that is needed was left out."""
    import drgn
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    program: Any = drgn.Program()
    program.set_core_dump(str(vmcore))
    program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
    pointers = ("stack", "mm", "files", "fs", "signal", "sighand", "nsproxy", "cred")
    offsets = btf.read(elf.section_file(vmlinux, ".BTF") or b"").members("task_struct")
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
