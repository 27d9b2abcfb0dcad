"""The program that reads a dump of memory through drgn, in a process of its own: `kdump-pkg vmcore FILE [VMLINUX]`.

Whatever the dump does to drgn, it does it here, with limits on memory and time and without a core dump. The answer is
the JSON of a VmcoreFacts. drgn needs no DWARF for the list of tasks: addresses come from the kallsyms in the dump
itself, offsets from its BTF. With a vmlinux that has DWARF, real or made, there are traces and memory's figures, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kdump_pkg.errors import BadImageError
from kdump_pkg.model.crash import TaskFacts, VmcoreFacts
from kdump_pkg.untrusted import one_line

UNREADABLE = "could not be read: "
"""Before what is wrong with a dump, where it isn't for want of a program or of types."""
WITHOUT_DWARF = "its tasks can't be found without a vmlinux with DWARF"
MEMORY = 2 << 30
"""Bytes that the process may write to."""
SPACE = 16 << 30
"""Bytes that it may map: a real vmlinux with DWARF takes one of them."""
SECONDS = 240
TRACES = 60
"""Seconds after which no further trace is begun."""
MOST_TASKS = 1 << 20
MOST_OBJECTS = 1 << 16
MOST_BLOCKED, MOST_CPUS, MOST_FRAMES = 50, 64, 64
MOST_PAGES = 1 << 10
"""Of a slab: the kernel makes none of more."""
LONGEST = 160
POINTERS = ("stack", "mm", "files", "fs", "signal", "sighand", "nsproxy", "cred")
"""What a task has in pages of their own: who debugs a crash wants to read them, so every dump must hold them."""
SIZES = {"stack": 16384, "signal": 1024, "sighand": 2048, "fs": 48, "nsproxy": 48, "cred": 128}
"""How much is read of each, in bytes: less than any kernel has, for what comes next in memory may well be left out.

Of a task it is all before `thread`, its last member: how much of that there is depends on the processor.
"""
SIZE = 256
"""Of the others."""
KIB = 1024
MEMINFO = {
    "MemTotal": "totalram", "MemFree": "NR_FREE_PAGES", "Cached": "NR_FILE_PAGES", "AnonPages": "NR_ANON_MAPPED",
    "Shmem": "NR_SHMEM", "SReclaimable": "NR_SLAB_RECLAIMABLE_B", "SUnreclaim": "NR_SLAB_UNRECLAIMABLE_B",
    "PageTables": "NR_PAGETABLE", "KernelStack": "NR_KERNEL_STACK_KB",
}  # fmt: skip


@dataclass
class Found:
    """What the walk over the tasks came by."""

    tasks: int = 0
    running: list[tuple[int, TaskFacts]] = field(default_factory=list)
    """Address and facts."""
    blocked: list[tuple[int, TaskFacts]] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    """Addresses of what the tasks point to."""
    fault: str = ""


def main(argv: Sequence[str]) -> int:
    """Print what FILE says. The exit code is 0 whenever there is an answer, be it that nothing can be read."""
    if not 1 <= len(argv) <= 2:
        return 2
    try:
        fd = os.open(argv[0], os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        return _answer(VmcoreFacts(missing=f"{UNREADABLE}{getattr(error, 'strerror', None) or error}"))
    confine()
    try:
        import drgn
    except ImportError as error:
        named = (error.name or "").split(".")[0] == "drgn"
        why = "drgn is not installed: pacman -S drgn" if named else f"drgn can't be loaded: {_clean(str(error))}"
        return _answer(VmcoreFacts(missing=why))
    try:
        facts = read(fd, argv[1] if len(argv) == 2 else None)
    except drgn.FaultError as error:  # of what every kernel has, and every dump holds
        facts = VmcoreFacts(fault=_clean(f"the kernel itself: {error}"))
    except (LookupError, BadImageError) as error:
        facts = VmcoreFacts(missing=f"{WITHOUT_DWARF}: {_words(error)}")
    except Exception as error:  # a damaged dump makes drgn raise nearly anything
        facts = VmcoreFacts(missing=f"{UNREADABLE}{_words(error)}")
    return _answer(facts)


def confine() -> None:
    """Limits, set before a byte of the dump is looked at."""
    import resource

    for limit, value in (
        (resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_AS, SPACE), (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 1 << 20),
    ):  # fmt: skip
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))
    os.nice(19)


def read(fd: int, vmlinux: str | None) -> VmcoreFacts:
    """Raises whatever drgn does."""
    import drgn
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    program: Any = drgn.Program()
    program.set_core_dump(fd)
    typed = vmlinux is not None and _has_types(program, vmlinux)
    if not typed:
        program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
    offsets = _dwarf_offsets(program) if typed else _btf_offsets(program)
    found = walk(program, offsets)
    facts = VmcoreFacts(
        tasks=found.tasks,
        running=tuple(task for _, task in sorted(found.running, key=lambda one: one[1].cpu)),
        blocked=tuple(task for _, task in found.blocked),
        fault=found.fault,
    )
    return _with_types(program, found, facts) if typed else replace(facts, memory=_total(program))


def _has_types(program: Any, vmlinux: str) -> bool:
    """Whether it could be loaded and is of this very kernel: one of another drgn leaves alone."""
    try:
        program.load_debug_info([vmlinux])
        program.type("struct task_struct")
    except Exception:  # then what can be had without it
        return False
    return True


# --- the list of tasks ------------------------------------------------------------------------------------------------


def walk(program: Any, offsets: dict[str, int]) -> Found:
    """Read every task and what it points to; the first thing that isn't there ends up in `fault`."""
    import drgn

    found = Found()
    where = "the list of tasks"
    try:
        for task in _tasks(program, offsets):
            pid = program.read_u32(task + offsets["pid"])
            where = f"task {pid}"
            facts = _facts_of(program, offsets, task, pid)
            found.tasks += 1
            if facts.state == "D" and len(found.blocked) < MOST_BLOCKED:
                found.blocked.append((task, facts))
            if program.read_u8(task + offsets["on_cpu"]) and len(found.running) < MOST_CPUS:
                found.running.append((task, facts))
            where = f"task {pid} ({facts.name})"
            for name in ("task", *POINTERS):
                place = task if name == "task" else program.read_u64(task + offsets[name])
                if place:
                    where = f"{name} of task {pid} ({facts.name})" if name != "task" else where
                    program.read(place, offsets["thread"] if name == "task" else SIZES.get(name, SIZE))
                    found.objects += [place] if len(found.objects) < MOST_OBJECTS else []
            where = f"what follows task {pid} ({facts.name}) in the list"
    except (drgn.FaultError, ValueError) as error:
        found.fault = _clean(f"{where}: {error}")
    return found


def _tasks(program: Any, offsets: dict[str, int]) -> Iterator[int]:
    """Addresses of all threads of all processes, init_task first."""
    first = task = program.symbol("init_task").address
    count = 0
    while True:
        yield task
        head = program.read_u64(task + offsets["signal"]) + offsets["thread_head"]
        node = program.read_u64(head)
        while node != head:
            thread = node - offsets["thread_node"]
            if thread != task:
                yield thread
            node = program.read_u64(node)
            count += 1
            if count > MOST_TASKS:
                raise ValueError("it never ends")
        task = program.read_u64(task + offsets["tasks"]) - offsets["tasks"]
        count += 1
        if task == first:
            return
        if count > MOST_TASKS:
            raise ValueError("it never ends")


def _facts_of(program: Any, offsets: dict[str, int], task: int, pid: int) -> TaskFacts:
    name = program.read(task + offsets["comm"], 16).split(b"\0")[0].decode("utf-8", "replace")
    state = program.read_u32(task + offsets["state"]) & 0xFFFF
    cpu = program.read_u32(task + offsets["cpu"])
    return TaskFacts(pid & 0x7FFFFFFF, _clean(name), _letter(state), cpu if cpu < 1 << 16 else 0)


def _letter(state: int) -> str:
    """As in /proc/PID/stat: TASK_NOLOAD (0x400) makes an idle kernel thread of one that waits."""
    if state & 0x402 == 0x402:
        return "I"
    letters = "SDTtXZP"
    return next((letters[bit] for bit in range(len(letters)) if state & 1 << bit), "R" if not state else "?")


TASK = ("tasks", "pid", "comm", "on_cpu", "thread_node", "thread", *POINTERS)


def _dwarf_offsets(program: Any) -> dict[str, int]:
    import drgn

    task, signal = program.type("struct task_struct"), program.type("struct signal_struct")
    found = {name: drgn.offsetof(task, name) for name in TASK}
    found["state"] = drgn.offsetof(task, "__state" if task.has_member("__state") else "state")
    inside = next((n for n in ("thread_info.cpu", "cpu") if task.has_member(n.split(".")[0])), None)
    found["cpu"] = drgn.offsetof(task, inside) if inside else found["on_cpu"]
    return found | {"thread_head": drgn.offsetof(signal, "thread_head")}


# --- without DWARF ----------------------------------------------------------------------------------------------------

MOST_BTF = 64 << 20


def _btf_offsets(program: Any) -> dict[str, int]:
    """From the BTF in the dump. Raises LookupError or BadImageError where it has none, or none that can be read."""
    from kdump_pkg.debuginfo import btf

    start, stop = (program.symbol(name).address for name in ("__start_BTF", "__stop_BTF"))
    if not 0 < stop - start <= MOST_BTF:
        raise LookupError("the kernel has no BTF")
    types = btf.read(program.read(start, stop - start))
    task, thread = types.members("task_struct"), types.members("thread_info")
    found = {name: task[name] for name in TASK}
    found["state"] = task["__state"] if "__state" in task else task["state"]
    found["cpu"] = task.get("thread_info", 0) + thread["cpu"] if "cpu" in thread else task.get("cpu", found["on_cpu"])
    return found | {"thread_head": types.members("signal_struct")["thread_head"]}


def _total(program: Any) -> tuple[tuple[str, int], ...]:
    try:
        pages = program.read_u64(program.symbol("_totalram_pages").address)
    except Exception:  # neither the symbol nor the page has to be there
        return ()
    return (("MemTotal", pages * 4),) if pages < 1 << 40 else ()


# --- with DWARF -------------------------------------------------------------------------------------------------------


def _with_types(program: Any, found: Found, facts: VmcoreFacts) -> VmcoreFacts:
    """The same with traces and memory; what can't be had of them is left out."""
    if not facts.fault:
        facts = replace(facts, fault=_slab_fault(program, found.objects))
    end = time.monotonic() + TRACES
    traced: dict[int, tuple[str, ...]] = {}
    running = sorted([*found.running, *_idle(program, found)], key=lambda one: one[1].cpu)[:MOST_CPUS]
    for address, _ in (*running, *found.blocked):
        if time.monotonic() > end:
            break
        traced[address] = _trace(program, address)
    return replace(
        facts,
        running=tuple(replace(task, trace=traced.get(address, ())) for address, task in running),
        blocked=tuple(replace(task, trace=traced.get(address, ())) for address, task in found.blocked),
        memory=_memory(program),
    )


def _idle(program: Any, found: Found) -> list[tuple[int, TaskFacts]]:
    """What the other CPUs did: their idle tasks, which no list of tasks has."""
    from drgn.helpers.linux.cpumask import for_each_online_cpu
    from drgn.helpers.linux.sched import cpu_curr

    busy = {task.cpu for _, task in found.running}
    idle: list[tuple[int, TaskFacts]] = []
    try:
        for cpu in for_each_online_cpu(program):
            if cpu not in busy and len(idle) < MOST_CPUS:
                task = cpu_curr(program, cpu)
                name = _clean(task.comm.string_().decode("utf-8", "replace"))
                idle.append((task.value_(), TaskFacts(int(task.pid), name, "R", cpu)))
    except Exception:  # of a kernel that drgn doesn't know
        return idle
    return idle


def _slab_fault(program: Any, objects: Sequence[int]) -> str:
    """What is missing of the pages that these objects share with others; empty where all are there.

    A slab has several pages, and a damaged dump has lost some of the later ones, where by chance no task lies.
    """
    import drgn
    from drgn.helpers.linux.mm import compound_head, compound_order, in_direct_map, page_to_virt, virt_to_page

    end, seen = time.monotonic() + TRACES / 2, set()
    page = int(program["PAGE_SIZE"])
    for address in objects:
        if time.monotonic() > end or not in_direct_map(program, address):
            continue
        try:
            head = compound_head(virt_to_page(program, address))
            start, count = page_to_virt(head).value_(), 1 << int(compound_order(head))
            if start not in seen and count <= MOST_PAGES:
                seen.add(start)
                for number in range(count):
                    program.read(start + number * page, 16)
        except drgn.FaultError as error:
            return _clean(f"the slab of what a task has at {address:#x}: {error}")
        except Exception:  # a memory map of a kind that drgn doesn't know
            return ""
    return ""


def _trace(program: Any, address: int) -> tuple[str, ...]:
    import drgn

    try:
        frames = program.stack_trace(drgn.Object(program, "struct task_struct *", address))
        names = [frame.name for _, frame in zip(range(MOST_FRAMES), frames, strict=False)]
    except Exception:  # a stack that can't be unwound is no reason to go without the others
        return ()
    return tuple(_clean(name.partition(".")[0]) for name in names if name and not name.startswith("0x"))


def _memory(program: Any) -> tuple[tuple[str, int], ...]:
    """As /proc/meminfo has it, as far as it is one counter there."""
    found = ((name, _counter(program, item)) for name, item in MEMINFO.items())
    return tuple((name, value) for name, value in found if value is not None and 0 <= value < 1 << 50)


def _counter(program: Any, item: str) -> int | None:
    """In KiB."""
    from drgn.helpers.linux.mm import totalram_pages
    from drgn.helpers.linux.vmstat import global_node_page_state, nr_free_pages

    try:
        page = int(program["PAGE_SIZE"]) // KIB
        if item == "totalram":
            return int(totalram_pages(program)) * page
        if item == "NR_FREE_PAGES":
            return int(nr_free_pages(program)) * page
        return int(global_node_page_state(program, program[item])) * (1 if item.endswith("_KB") else page)
    except Exception:  # kernels differ in what they count
        return None


# --- words ------------------------------------------------------------------------------------------------------------


def _words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it wants more memory than it may have"
    return _clean(str(error)) or type(error).__name__


def _clean(text: str) -> str:
    return one_line(text, LONGEST)


def _answer(facts: VmcoreFacts) -> int:
    from kdump_pkg import ui

    ui.out(json.dumps(ui.plain(facts)))
    return 0
