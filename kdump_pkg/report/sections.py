"""From a Report to the document that is shown: sentence, what to do, evidence. What isn't known is left out."""

from __future__ import annotations

from collections.abc import Sequence

from kdump_pkg.model.crash import Crash, Frame, Owner, Report, TaskFacts
from kdump_pkg.report.document import Block, Cell, Code, Document, Fold, Grid, Look, Pairs, Prose, Section, Steps
from kdump_pkg.report.words import moment, place, size, span

NAMES = {
    "oops": "oops", "bug": "BUG", "panic": "panic", "hard lockup": "hard lockup", "soft lockup": "soft lockup",
    "hung task": "hung task", "rcu stall": "RCU stall", "mce": "machine check", "oom": "out of memory",
    "stack overflow": "stack overflow", "sysrq": "sysrq, on purpose", "nmi": "NMI", "warning": "warning",
    "unknown": "not known",
}  # fmt: skip
STATES: dict[str, tuple[str, Look]] = {
    "ok": ("good", "good"),
    "bad": ("bad", "bad"),
    "skipped": ("not looked at", "dim"),
}


def compose(report: Report) -> Document:
    sections = (
        Section("What to do", (Steps(report.advice),) if report.advice else ()),
        Section("What the kernel said", _said(report.crash)),
        Section("Call trace", _trace(report)),
        Section("Packages", _packages(report)),
        Section("The same crash", _seen(report)),
        Section("Taint", _taint(report)),
        Section("Before the crash", _before(report.crash)),
        Section("Machine", _machine(report)),
        Section("Memory of the crashed kernel", _vmcore(report)),
        Section("The dump itself", _verification(report)),
        Section("Lines of the crash", _lines(report.crash)),
    )
    sentence = f"{report.sentence[:1].upper()}{report.sentence[1:]}"
    where = place(report.crash.where)
    return Document(
        sentence=f"{sentence}." if sentence else "",
        stressed=where if where and where in sentence else "",
        notes=_notes(report),
        lead=_lead(report),
        sections=tuple(section for section in sections if section.blocks),
    )


def _pairs(*rows: tuple[str, Cell]) -> Pairs:
    return Pairs(tuple((name, cell) for name, cell in rows if cell.text))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _some(block: Pairs | Code | Grid) -> tuple[Block, ...]:
    """The block, unless it is empty."""
    return (block,) if (block.lines if isinstance(block, Code) else block.rows) else ()


def _notes(report: Report) -> tuple[Cell, ...]:
    notes = []
    if report.first_since:
        notes.append(Cell(f"This is {report.first_since}."))
    if report.seen:
        notes.append(Cell(_again(len(report.seen))))
    if report.verification is not None and not report.verification.good:
        notes.append(Cell("The dump is damaged.", "bad"))
    if report.crash.truncated:
        notes.append(Cell("The log begins or ends in the middle of the crash: something may be missing below."))
    return tuple(notes)


def _again(count: int) -> str:
    """How many dumps, at the beginning of a sentence."""
    return f"{count} other dump{' shows' if count == 1 else 's show'} the same crash."


def _lead(report: Report) -> Pairs:
    crash = report.crash
    return _pairs(
        ("Time", Cell(moment(report.time) or "not known")),
        ("Kind", Cell("" if report.encrypted or not report.has_log else NAMES.get(crash.kind, crash.kind))),
        ("Kernel", Cell(crash.release)),
        ("Up for", Cell(span(crash.uptime) if crash.uptime is not None else "")),
        ("Signature", Cell(crash.signature, "code")),
        ("Dump", Cell(report.id, "code")),
    )


def _said(crash: Crash) -> tuple[Block, ...]:
    words = tuple(dict.fromkeys(line for line in (crash.words, _panic(crash)) if line))
    process = crash.process if crash.pid is None or not crash.process else f"{crash.process} (pid {crash.pid})"
    pairs = _pairs(
        ("Process", Cell(process, "code")),
        ("Workqueue", Cell(crash.workqueue, "code")),
        ("CPU", Cell("" if crash.cpu is None else str(crash.cpu))),
        ("Function", Cell(_full(crash.where) if crash.where else "", "code")),
        ("Address", Cell("" if crash.address is None else f"{crash.address:#018x}", "code")),
    )
    return (*_some(Code(words, "the kernel's own words", wrap=True)), *_some(pairs))


def _panic(crash: Crash) -> str:
    return f"Kernel panic - not syncing: {crash.panic}" if crash.panic and crash.panic not in crash.words else ""


# --- trace and packages ---


def _full(frame: Frame) -> str:
    """`nouveau_fence_update+0x1d/0x70 [nouveau]`"""
    name = frame.function or "an address without a name"
    if frame.function and frame.offset is not None:
        name += f"+{frame.offset:#x}" + (f"/{frame.size:#x}" if frame.size is not None else "")
    return f"{name} [{frame.module}]" if frame.module else name


def _trace(report: Report) -> tuple[Block, ...]:
    by_module = {owner.module: owner for owner in report.owners}
    frames = report.crash.trace
    context = any(frame.context for frame in frames)

    def row(frame: Frame) -> tuple[Cell, ...]:
        owner = by_module.get(frame.module)
        function = Cell(_full(frame) if frame.reliable else f"? {_full(frame)}", "code" if frame.reliable else "faint")
        whose = Cell(f"{owner.package} {owner.version}" if owner else "", "" if frame.reliable else "dim")
        return (function, whose, Cell(frame.context or "task")) if context else (function, whose)

    head = ("Function", "Package", "In") if context else ("Function", "Package")
    blocks = _some(Grid("Innermost first: who called whom when it happened", head, tuple(map(row, frames))))
    if any(not frame.reliable for frame in frames):
        text = "A ? marks what the kernel found on the stack by chance: it may be left over from calls before."
        blocks += (Prose(text),)
    return blocks


def _packages(report: Report) -> tuple[Block, ...]:
    flags = {module.name: module.flags for module in report.crash.modules}
    rows = tuple(_package(owner, flags.get(owner.module, ""), report.time) for owner in _merged(report.owners))
    return _some(Grid("Where the kernel and its modules come from", ("Part", "Package", "Version", "Changed"), rows))


def _merged(owners: Sequence[Owner]) -> tuple[Owner, ...]:
    """Modules that came with the kernel are in its row."""
    kernel = next((owner for owner in owners if not owner.module), None)
    return tuple(o for o in owners if not o.module or kernel is None or o.package != kernel.package or o.out_of_tree)


def _package(owner: Owner, flags: str, time: int) -> tuple[Cell, ...]:
    words = [word for flag, word in (("P", "proprietary"), ("E", "unsigned"), ("F", "forced")) if flag in flags]
    words = ["out of tree", *words] if owner.out_of_tree or "O" in flags else words
    part = f"{owner.module} ({', '.join(words)})" if words else owner.module
    changed = ""
    if owner.upgraded is not None:
        changed = f"{span(time - owner.upgraded)} before" if owner.upgraded <= time else moment(owner.upgraded)
    return Cell(part or "the kernel"), Cell(owner.package), Cell(owner.version), Cell(changed)


def _seen(report: Report) -> tuple[Block, ...]:
    if not report.seen:
        return ()
    asked = report.crash.kind == "sysrq"
    told = "These dumps have the same cause and the same trace"
    prose = Prose(f"{told}." if asked else f"{told}: it is no accident.")
    return prose, Code(report.seen, "dumps of the same crash, newest first")


def _taint(report: Report) -> tuple[Block, ...]:
    rows = tuple((Cell(taint.letter, "code"), Cell(taint.meaning)) for taint in report.taints)
    return _some(Grid("What had happened to the kernel before", ("Letter", "Meaning"), rows))


# --- the log, the machine ---


def _before(crash: Crash) -> tuple[Block, ...]:
    return _some(Code(crash.before, "the last lines of the log before the crash"))


def _lines(crash: Crash) -> tuple[Block, ...]:
    if not crash.lines:
        return ()
    title = f"The kernel's log of the crash, {_count(len(crash.lines), 'line')}"
    return (Fold(title, (Code(crash.lines, "log of the crash"),)),)


def _machine(report: Report) -> tuple[Block, ...]:
    crash, now = report.crash, dict(report.machine)
    rows = [
        ("Machine", Cell(crash.hardware or now.get("machine", ""))),
        ("Board", Cell("" if now.get("board", "") in crash.hardware else now.get("board", ""))),
        ("Firmware", Cell(crash.firmware or _today(now.get("firmware", "")))),
        ("Processor", Cell(now.get("processor", ""))),
        ("Microcode", Cell(crash.microcode or _today(now.get("microcode", "")), "code")),
        ("Architecture", Cell(crash.architecture)),
        ("Build", Cell(crash.version)),
        ("Command line", Cell(crash.cmdline, "code")),
    ]
    modules = tuple(f"{m.name}({m.flags})" if m.flags else m.name for m in crash.modules)
    blocks = _some(_pairs(*rows))
    if modules:
        blocks += (
            Fold(
                f"{_count(len(modules), 'module')} {'was' if len(modules) == 1 else 'were'} loaded",
                (Prose(" ".join(modules)),),
            ),
        )
    return blocks


def _today(value: str) -> str:
    """What may have been another at the time."""
    return f"{value} (as it is now)" if value else ""


# --- the dump ---


def _vmcore(report: Report) -> tuple[Block, ...]:
    facts = report.vmcore
    if facts is None:
        return ()
    if facts.missing:
        return (Prose(f"Nothing was read out of it: {facts.missing}."),)
    waited = f"{len(facts.blocked)} of them waited and could not be interrupted"
    blocks: list[Block] = [Prose(f"{_count(facts.tasks, 'task')}; {waited}.")]
    if facts.fault:
        blocks.append(Prose(f"It can't be read whole: {facts.fault}."))
    memory = tuple((Cell(name), Cell(size(kib))) for name, kib in facts.memory)
    blocks += _some(Grid("Memory at the time of the crash", ("What", "Size"), memory))
    blocks += _tasks("What each CPU ran", facts.running)
    blocks += _tasks("What waited", facts.blocked)
    return tuple(blocks)


def _tasks(title: str, tasks: Sequence[TaskFacts]) -> tuple[Block, ...]:
    if not tasks:
        return ()
    blocks = []
    for task in tasks:
        head = f"CPU {task.cpu}: {task.name} (pid {task.pid}, state {task.state})"
        blocks.append(Code((head, *(f"  {function}" for function in task.trace)), head))
    return (Fold(f"{title}, with traces ({len(tasks)})", tuple(blocks)),)


def _verification(report: Report) -> tuple[Block, ...]:
    verification = report.verification
    if verification is None:
        return ()
    rows = [(Cell(check.name), Cell(*STATES[check.state]), Cell(check.text)) for check in verification.checks]
    when = moment(verification.time)
    caption = f"Whether it is whole and can be read{f', looked at on {when}' if when else ''}"
    return _some(Grid(caption, ("Check", "Result", "What was found"), tuple(rows)))
