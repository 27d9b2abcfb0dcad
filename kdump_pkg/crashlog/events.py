"""First lines: by which words the kernel begins to tell that something is wrong, and which of them belong together."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from kdump_pkg.crashlog.lines import Line

KEPT = 4096
"""First lines that are looked at, the last ones: a kernel that warns for days would have more."""
NEAR = 60
"""Lines between the first words about an exception and the line with its number, `[#1]`."""
BEFORE = 12
"""Lines before, in which the check that failed says what it found."""

PANIC = "Kernel panic - not syncing"
NUMBERED = re.compile(r"(?:Oops: )?(?P<name>[^\[\]]{1,200}?)(?:: (?P<code>[0-9a-f]{4,16}))? \[#(?P<number>\d{1,9})\]")
CODE = re.compile(r"[0-9a-f]{4}")
FILE = r"(?:\[.{0,200}?\] )?(?P<file>[\w./@+-]{1,200}):(?P<line>\d{1,7})"
COMM, PID = r"(?P<comm>.{1,34})", r"(?P<pid>\d{1,10})"


@dataclass(frozen=True)
class Rule:
    start: str
    family: str
    pattern: re.Pattern[str] | None = None
    """That the line has to match as well, at its beginning."""


def _rule(start: str, family: str, pattern: str = "") -> Rule:
    return Rule(start, family, re.compile(pattern) if pattern else None)


RULES = (
    _rule(PANIC, "panic", r"Kernel panic - not syncing: ?(?P<text>.*)"),
    _rule("BUG: kernel NULL pointer dereference", "fault", r".{0,60}address: (?P<address>[0-9a-f]{1,16})"),
    _rule("BUG: unable to handle ", "fault", r".{0,80}(?:address:?|at) (?P<address>[0-9a-f]{1,16})"),
    _rule("Unable to handle kernel ", "fault", r".{0,90}address (?P<address>[0-9a-f]{1,16})"),
    _rule("kernel tried to execute ", "fault"),
    _rule("unable to execute userspace code", "fault"),
    _rule("BUG: TASK stack guard page was hit", "stack", r".{0,60}hit at (?P<address>[0-9a-f]{1,16})"),
    _rule("BUG: IRQ stack guard page was hit", "stack", r".{0,60}hit at (?P<address>[0-9a-f]{1,16})"),
    _rule("BUG: stack guard page was hit", "stack", r".{0,60}hit at (?P<address>[0-9a-f]{1,16})"),
    _rule("Insufficient stack space to handle exception", "stack"),
    _rule("traps: PANIC: double fault", "fault"),
    _rule("PANIC: double fault", "fault"),
    _rule("traps: Missing ENDBR", "fault", r".{0,20}: (?P<place>\S{1,300})"),
    _rule("CFI failure at ", "fault"),
    _rule("kernel BUG at ", "bug", rf"kernel BUG at {FILE}"),
    _rule("Internal error: ", "number", r"Internal error: (?P<name>[^\[\]]{1,200}?)(?:: [0-9a-f]{1,16})? \[#\d"),
    _rule("SError Interrupt on CPU", "serror", r".{0,20}CPU(?P<cpu>\d{1,5})"),
    _rule("BUG: KASAN: ", "report", r"BUG: (?P<tool>KASAN): (?P<name>[\w-]{1,60}|.{1,60}?) in (?P<place>.*)"),
    _rule("BUG: KFENCE: ", "report", r"BUG: (?P<tool>KFENCE): (?P<name>[\w -]{1,60}?)(?: in (?P<place>.*)|$)"),
    _rule("BUG: KMSAN: ", "report", r"BUG: (?P<tool>KMSAN): (?P<name>[\w -]{1,60}?) in (?P<place>.*)"),
    _rule("BUG: KCSAN: ", "report", r"BUG: (?P<tool>KCSAN): (?P<name>[\w -]{1,60}?) in (?P<place>.*)"),
    _rule("UBSAN: ", "report", rf"(?P<tool>UBSAN): (?P<name>[\w -]{{1,60}}?) in {FILE}"),
    _rule("BUG: scheduling while atomic", "report", r"BUG: (?P<name>scheduling while atomic)"),
    _rule("BUG: sleeping function called", "report", r"BUG: (?P<name>sleeping function called from invalid context)"),
    _rule("WARNING: CPU: ", "warning", rf"WARNING: CPU: (?P<cpu>\d{{1,5}}) PID: (?P<pid>\d{{1,10}}) at (?:{FILE} )?"),
    _rule("WARNING: ", "warning", rf"WARNING: (?:{FILE} )?at .{{1,400}}?, CPU#(?P<cpu>\d{{1,5}}): {COMM}/{PID}$"),
    _rule("watchdog: BUG: soft lockup", "soft lockup"),
    _rule("NMI watchdog: BUG: soft lockup", "soft lockup"),
    _rule("BUG: soft lockup", "soft lockup"),
    _rule("watchdog: Watchdog detected hard LOCKUP", "hard lockup"),
    _rule("NMI watchdog: Watchdog detected hard LOCKUP", "hard lockup"),
    _rule("watchdog: CPU", "hard lockup", r".{0,24}: Watchdog detected hard LOCKUP on cpu (?P<cpu>\d{1,5})"),
    _rule("Watchdog detected hard LOCKUP", "hard lockup"),
    _rule("INFO: task ", "hung task", rf"INFO: task {COMM}:{PID} blocked .{{0,20}}for more than (?P<seconds>\d+) s"),
    _rule("rcu: INFO: ", "rcu stall", r".{0,60}stall"),
    _rule("INFO: rcu", "rcu stall", r".{0,60}stall"),
    _rule("mce: [Hardware Error]: ", "mce", r".{0,24}CPU (?P<cpu>\d{1,5}): Machine Check"),
    _rule("sysrq: Trigger a crash", "sysrq"),
    _rule("sysrq: SysRq : Trigger a crash", "sysrq"),
    _rule("Uhhuh. NMI received", "nmi", r".{0,60}on CPU (?P<cpu>\d{1,5})"),
    _rule("NMI: PCI system error", "nmi", r".{0,60}on CPU (?P<cpu>\d{1,5})"),
    _rule("NMI: IOCK error", "nmi", r".{0,60}on CPU (?P<cpu>\d{1,5})"),
)  # fmt: skip
STARTS = tuple(dict.fromkeys(rule.start for rule in RULES))
MORE = {
    "soft lockup": re.compile(
        r".{0,40}CPU#(?P<cpu>\d{1,5}) stuck for (?P<seconds>\d{1,9})s!(?: \[(?P<comm>.{1,34}):(?P<pid>\d{1,10})\])?"
    ),
    "hard lockup": re.compile(r".{0,80}on cpu (?P<cpu>\d{1,5})"),
}
FAULTS = frozenset({"fault", "stack", "bug", "number"})
"""What belongs to an exception: they follow each other and are one."""
FOUND = (
    "list_del corruption", "list_add corruption", "usercopy: ", "detected buffer overflow", "skbuff: skb_",
    "page dumped because", "kernel tried to execute", "unable to execute", "refcount_t: ", "slab_", "KASAN: ",
    "memcpy: detected", "memset: detected", "strnlen: detected", "strlen: detected", "strscpy: detected",
)  # fmt: skip
"""How a check begins that says what it found before it calls BUG()."""
CUT = "------------[ cut here ]"


@dataclass(frozen=True)
class Head:
    index: int
    family: str
    fields: Mapping[str, str]


@dataclass
class Event:
    """One report of the kernel: its first lines, and where they are."""

    family: str
    start: int
    """The line where it begins; its own words begin there, too."""
    heads: list[Head] = field(default_factory=list)
    caller: str = ""
    learnt: dict[str, str] = field(default_factory=dict)
    """What later lines say that belongs to its fields."""

    @property
    def last(self) -> int:
        return self.heads[-1].index

    @property
    def families(self) -> frozenset[str]:
        return frozenset(head.family for head in self.heads)

    def get(self, name: str) -> str:
        """What the first lines say of it, as `cpu`; empty where they don't."""
        said = (head.fields.get(name) for head in self.heads)
        return next((value for value in said if value), self.learnt.get(name, ""))


def heads(lines: Sequence[Line]) -> list[Head]:
    found: deque[Head] = deque(maxlen=KEPT)
    for index, line in enumerate(lines):
        text = line.text
        if (text.startswith(STARTS) or " [#" in text) and (head := _head(index, text)) is not None:
            found.append(head)
    return list(found)


def _head(index: int, text: str) -> Head | None:
    for rule in RULES:
        if not text.startswith(rule.start):
            continue
        pattern = rule.pattern or MORE.get(rule.family)
        match = pattern.match(text) if pattern else None
        if match is None and rule.family not in ("fault", "stack", "panic"):
            continue
        fields = {name: value for name, value in match.groupdict().items() if value} if match else {}
        return Head(index, rule.family, fields)
    if (match := NUMBERED.match(text)) is not None:
        fields = {name: value for name, value in match.groupdict().items() if value}
        if CODE.fullmatch(fields["name"]):  # `Oops: 0002 [#1]`, which newer kernels print as `Oops: Oops: 0002 [#1]`
            fields |= {"name": "Oops", "code": fields["name"]}
        return Head(index, "number", fields)
    return None


def events(lines: Sequence[Line]) -> Iterator[Event]:
    """All reports of LINES, in their order; an exception's several first lines are one report."""
    open_: dict[str, Event] = {}
    found: list[Event] = []
    for head in heads(lines):
        caller = lines[head.index].caller
        before = open_.get(caller)
        if before is not None and head.family in FAULTS and _continues(before, head):
            before.heads.append(head)
            continue
        event = Event(head.family, head.index, [head], caller)
        found.append(event)
        if head.family in FAULTS:
            open_[caller] = event
    for event in found:
        event.start = _start(lines, event)
    yield from found


def _continues(event: Event, head: Head) -> bool:
    numbered = "number" in event.families
    return not numbered and head.index - event.last <= NEAR and (head.family == "number" or head.family != event.family)


def _start(lines: Sequence[Line], event: Event) -> int:
    """Where it begins: at what the check said that failed, else behind `cut here`."""
    start = event.start
    if event.family not in ("bug", "warning", "fault", "number", "report"):
        return start
    for index in range(start - 1, max(start - 1 - BEFORE, -1), -1):
        line = lines[index]
        if line.caller != event.caller or line.text.startswith(PANIC):
            continue
        if line.text.startswith(CUT):
            start = index + 1 if event.family == "warning" else start
        elif line.text.startswith(FOUND):
            return index
        elif line.text.startswith("---[ end") or line.text.startswith("</TASK>"):
            break
    return next((i for i in range(start, event.start) if lines[i].caller == event.caller), event.start)
