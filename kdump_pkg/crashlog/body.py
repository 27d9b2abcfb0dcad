"""What the kernel prints after the first line of a report: processor, process, registers, trace, modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdump_pkg.crashlog import frames
from kdump_pkg.crashlog.lines import Line
from kdump_pkg.model.crash import Frame, LoadedModule

FRAMES = 128
MODULES = 1024
REACH = 600
"""Lines after its first that a report may have; with other CPUs' lines between."""
PATIENCE = 12
"""Lines of others in a trace whose end is not marked."""

CPU = re.compile(
    r"CPU: (\d{1,5}) (?:UID: \d{1,10} )?PID: (\d{1,10}) Comm: (.{0,34})"
    r" (?:Not tainted|Tainted: ([A-Z ]{1,40}))(?: |(?<= ))(\S{1,128})(?: (#.*))?"
)
CUT_CPU = re.compile(r"CPU: (\d{1,5}) (?:UID: \d{1,10} )?PID: (\d{1,10}) Comm: (.{1,15})")
TASK = re.compile(r"task:(.{1,16}?) {0,16}state:(\S{1,3}) .{0,60}?\bpid: ?(\d{1,10})")
LETTER = re.compile(r"\[([A-Z])\]=")
BUILD = re.compile(r" +[0-9a-f]{16,64}$")
ALONE = re.compile(r"CR2: ([0-9a-f]{8,16})$")
LOADED = re.compile(r"([A-Za-z0-9_-]{1,64})(?:\(([A-Z+-]{0,16})\))?")
ROOTS = frozenset((
    "ret_from_fork", "ret_from_fork_asm", "el0t_64_sync", "el0t_64_irq", "entry_SYSCALL_64_after_hwframe", "el0_svc",
    "entry_SYSCALL_64", "start_kernel", "secondary_startup_64", "secondary_startup_64_no_verify", "common_startup_64",
    "x86_64_start_kernel", "__secondary_switched", "__primary_switched", "el0_sync",
))  # fmt: skip
"""Where a stack begins: behind these, nothing is missing."""
LAST = (
    "---[ end", "Kernel panic", "Sending NMI from", "NMI backtrace for cpu", "Mem-Info:", "Showing ", "Rebooting in",
    "Kernel Offset:", "SMP: stopping", "Starting crashdump", "Task dump for CPU", "Memory state around",
)  # fmt: skip
ELSEWHERE = (
    "Allocated by", "Freed by", "allocated by", "freed by", "The buggy", "Last potentially", "kfence-#", "Code: ",
)  # fmt: skip
"""After these come stacks of another time, or none."""
OUTSIDE = ("NMI", "#MC", "#DF", "#DB")
"""The registers that are shown on these stacks are of what was interrupted."""
REGISTERS = ("RSP:", "RAX:", "RDX:", "RBP:", "R10:", "R13:", "FS:", "CS:", "CR2:", "DR0:", "DR3:", "PKRU:", "ORIG_RAX:")


@dataclass
class Body:
    cpu: int | None = None
    pid: int | None = None
    process: str = ""
    taint: str = ""
    release: str = ""
    version: str = ""
    hardware: str = ""
    workqueue: str = ""
    at: Frame | None = None
    """Of RIP or pc."""
    jumped: bool = False
    """RIP or pc stands where no function is."""
    trace: list[Frame] = field(default_factory=list)
    interrupted: int | None = None
    """Index in the trace of the function that the interrupt found running."""
    modules: tuple[LoadedModule, ...] = ()
    address: int | None = None
    ended: bool = False
    """The trace did."""
    end: int = 0
    """Index after the last line that belongs to it."""
    of_task: bool = False


def read(lines: Sequence[Line], start: int, stop: int, caller: str) -> Body:
    """The report whose first line is before START, of the lines of CALLER where that is known."""
    reader = _Reader(Body(end=start))
    stop = min(stop, start + REACH)
    for index in range(start, stop):
        line = lines[index]
        if caller and line.caller and line.caller != caller:
            continue
        if not reader.feed(line.text):
            break
        if reader.used:
            reader.body.end = index + 1
    reader.settle()
    return reader.body


class _Reader:
    def __init__(self, body: Body) -> None:
        self.body = body
        self.used = False
        self._tracing = False
        self._open = ""
        self._strange = 0
        self._skipping = False
        self._listing = False
        self._loaded: list[LoadedModule] = []

    def feed(self, text: str) -> bool:
        """One more line. False when it belongs to the report no more."""
        if text.startswith(LAST):
            return self._at_last(text)
        self.used = True
        if self._listing and self._more_modules(text):
            return True
        self._listing = False
        if text[0] in "?0[_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.$" and self._frame(text):
            return True
        if text[0] == "<" and self._mark(text):
            return True
        for start, act in KNOWN:
            if text.startswith(start):
                return act(self, text)
        self._other(text)
        return True

    def settle(self) -> None:
        last = next((frame for frame in reversed(self.body.trace) if frame.reliable), None)
        if last is not None and last.function in ROOTS:
            self.body.ended = True
        self.body.modules = tuple(self._loaded[:MODULES])

    def _at_last(self, text: str) -> bool:
        if self._tracing or self.body.trace or text.startswith(("---[ end", "Kernel panic")):
            self._end_trace()
            self.used = text.startswith("---[ end")
            return False
        self.used = False
        return True

    def _frame(self, text: str) -> bool:
        if "0x" not in text or (frame := frames.frame(text, self._context)) is None:
            return False
        if self.body.ended or self._skipping:
            return True
        self._tracing, self._strange = True, 0
        if len(self.body.trace) < FRAMES:
            self.body.trace.append(frame)
        return True

    @property
    def _context(self) -> str:
        return "" if self._open == "TASK" else self._open

    def _mark(self, text: str) -> bool:
        if (found := frames.mark(text)) is None:
            return False
        name, closes = found
        if self.body.ended or self._skipping:
            return True
        self._open = "" if closes else name
        self._tracing, self._strange = True, 0
        if closes and name == "TASK":
            self._end_trace()
        return True

    def _end_trace(self) -> None:
        if self.body.trace:
            self.body.ended = True
        self._tracing, self._open = False, ""

    def _other(self, text: str) -> None:
        if text.startswith(ELSEWHERE) and not (self._open and text.startswith("Code")):
            if self.body.trace:
                self._end_trace()
        elif self._tracing and not text.startswith(REGISTERS):
            self._strange += 1
            if self._strange > PATIENCE and not self._open:
                self._end_trace()
        self.used = self._tracing or not self.body.ended

    def _cpu(self, text: str) -> bool:
        body = self.body
        if body.cpu is not None:
            return not (body.trace or self._tracing)
        self._skipping = False
        if (match := CPU.match(text)) is not None:
            body.taint = "".join(char for char in match[4] or "" if char not in " G")
            body.release, body.version = match[5], BUILD.sub("", match[6] or "").rstrip()
        elif (match := CUT_CPU.match(text)) is None:
            return True
        body.cpu, body.pid = int(match[1]), int(match[2])
        body.process = match[3].removesuffix(" Kdump: loaded").strip()
        return True

    def _tainted(self, text: str) -> bool:
        """Since 6.11 in words too, in a line of its own."""
        self.body.taint = self.body.taint or "".join(LETTER.findall(text))
        return True

    def _task(self, text: str) -> bool:
        fresh = not (self.body.process or self.body.trace or self._skipping)
        if fresh and (match := TASK.match(text)) is not None:
            self.body.process, self.body.pid, self.body.of_task = match[1].strip(), int(match[3]), True
        return True

    def _hardware(self, text: str) -> bool:
        self.body.hardware = self.body.hardware or text.partition(":")[2].strip()
        return True

    def _workqueue(self, text: str) -> bool:
        self.body.workqueue = self.body.workqueue or text.partition(":")[2].strip()
        return True

    def _instruction(self, text: str) -> bool:
        at, in_kernel = frames.instruction(text)
        body = self.body
        if not in_kernel or body.ended or self._skipping:
            return True
        if body.trace or self._tracing:
            if at is not None and at.function and len(body.trace) < FRAMES:
                body.interrupted = len(body.trace) if body.interrupted is None else body.interrupted
                context = "" if self._context in OUTSIDE else self._context
                body.trace.append(Frame(at.function, at.offset, at.size, at.module, True, context))
        elif body.at is None and at is not None:
            body.at, body.jumped = (at if at.function else None), not at.function
        return True

    def _trace(self, text: str) -> bool:
        if self.body.trace:
            self._end_trace()
        elif not self._skipping:
            self._tracing, self._strange = True, 0
        return True

    def _modules(self, text: str) -> bool:
        if self._tracing and self.body.trace:
            self._end_trace()
        if not self._loaded:
            self._listing = True
            self._more_modules(text.partition(":")[2])
        return True

    def _more_modules(self, text: str) -> bool:
        """A long list goes on in the next line: names, and nothing else."""
        names = text.partition("[last unloaded")[0].split()
        found = [LOADED.fullmatch(name) for name in names]
        if not all(found) or (self._loaded and not names) or len(self._loaded) > MODULES:
            return False
        self._loaded += [LoadedModule(match[1], match[2] or "") for match in found if match]
        return True

    def _fault(self, text: str) -> bool:
        if self.body.address is None and (match := ALONE.match(text)) is not None:
            self.body.address = int(match[1], 16)
        return True

    def _skip(self, text: str) -> bool:
        """The stack of the RCU thread, which only waits."""
        self._skipping = not self.body.trace
        return True


KNOWN: tuple[tuple[str, Callable[[_Reader, str], bool]], ...] = (
    ("CPU: ", _Reader._cpu),
    ("Tainted: [", _Reader._tainted),
    ("task:", _Reader._task),
    ("Hardware name:", _Reader._hardware),
    ("Workqueue:", _Reader._workqueue),
    ("RIP: ", _Reader._instruction),
    ("pc : ", _Reader._instruction),
    ("epc : ", _Reader._instruction),
    ("PC is at ", _Reader._instruction),
    ("NIP [", _Reader._instruction),
    ("Call Trace:", _Reader._trace),
    ("Call trace:", _Reader._trace),
    ("Modules linked in:", _Reader._modules),
    ("CR2: ", _Reader._fault),
    ("rcu: RCU grace-period kthread stack dump", _Reader._skip),
)
