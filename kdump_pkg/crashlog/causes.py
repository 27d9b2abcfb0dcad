"""What a kernel died of, as a noun phrase, and of which kind that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kdump_pkg.crashlog.events import Event
from kdump_pkg.crashlog.lines import Line
from kdump_pkg.model.crash import Kind

PAGE = 4096
USER = 1 << 47
"""Addresses below are a process's own."""
JUMP = "a jump to a null pointer"
EXECUTION = "an execution of memory that is not code"
LONGEST = 160
"""Characters of the kernel's own words in a phrase."""


@dataclass(frozen=True)
class Cause:
    kind: Kind
    phrase: str


def of_event(event: Event, lines: Sequence[Line], end: int, address: int | None) -> Cause:
    """Of a report, by its first lines and what else stands before END."""
    said = [line.text for line in lines[event.start : end] if not event.caller or line.caller == event.caller]
    return FAMILIES.get(event.family, _exception)(event, said, address)


def _exception(event: Event, said: Sequence[str], address: int | None) -> Cause:
    families = event.families
    if "stack" in families or any(word in event.get("name") for word in ("stack overflow", "stack guard page")):
        return Cause("stack overflow", "a kernel stack overflow")
    if "bug" in families or said[0].startswith(CORRUPTION_STARTS) or "CFI" in event.get("name"):
        return Cause("bug", _bug(event, said))
    if said[0].startswith(("traps: Missing ENDBR", "CFI failure")):
        return Cause("bug", "a control flow violation")
    if "UBSAN" in event.get("name"):
        return Cause("bug", f"undefined behaviour ({_cut(event.get('name'))})")
    return Cause("oops", _oops(event, said, address))


CORRUPTIONS = (
    ("list_add corruption", "a corrupted list"),
    ("list_del corruption", "a corrupted list"),
    ("usercopy: Kernel memory exposure", "a leak of kernel memory to user space"),
    ("usercopy: Kernel memory overwrite", "an overwrite of kernel memory from user space"),
    ("usercopy: ", "a bad copy to or from user space"),
    ("detected buffer overflow", "a buffer overflow"),
    ("memcpy: detected", "a buffer overflow"),
    ("memset: detected", "a buffer overflow"),
    ("strnlen: detected", "a buffer overflow"),
    ("strlen: detected", "a buffer overflow"),
    ("strscpy: detected", "a buffer overflow"),
    ("skbuff: skb_", "a network packet that outgrew its buffer"),
    ("traps: Missing ENDBR", "a control flow violation"),
    ("CFI failure", "a control flow violation"),
    ("Internal error: Oops - CFI", "a control flow violation"),
)
BY_FILE = {
    "lib/list_debug.c": "a corrupted list",
    "lib/string_helpers.c": "a buffer overflow",
    "mm/usercopy.c": "a bad copy to or from user space",
}
"""What a check found that said so some time before, or not in this part of the log."""
CORRUPTION_STARTS = tuple(start for start, _ in CORRUPTIONS)


def _bug(event: Event, said: Sequence[str]) -> str:
    for text in said[:40]:
        if (phrase := next((phrase for start, phrase in CORRUPTIONS if text.startswith(start)), "")) != "":
            return phrase
    if event.get("file") in BY_FILE:
        return BY_FILE[event.get("file")]
    place = f"{_file(event.get('file'))}:{event.get('line')}" if event.get("file") else ""
    return f"a BUG at {place}" if place else "a BUG"


def _file(name: str) -> str:
    """As in the source: builds outside of it print where they were built."""
    return _cut(name.removeprefix("./"))


NAMES = (
    ("divide error", "a divide error"),
    ("invalid opcode", "an invalid instruction"),
    ("double fault", "a double fault"),
    ("stack segment", "a stack segment fault"),
    ("segment not present", "a missing segment"),
    ("alignment check", "an unaligned access"),
    ("control protection", "a control flow violation"),
    ("int3", "a breakpoint that nobody set"),
    ("Oops - Undefined instruction", "an invalid instruction"),
    ("Oops - undefined instruction", "an invalid instruction"),
    ("synchronous external abort", "a synchronous external abort (a bus or hardware error)"),
    ("SP/PC alignment", "an unaligned stack or program counter"),
    ("Oops - SP/PC alignment", "an unaligned stack or program counter"),
    ("Oops - BTI", "a control flow violation"),
    ("Oops - FPAC", "a failed pointer authentication"),
    ("Oops - GCS", "a control flow violation"),
    ("Oops - bad mode", "an exception in a wrong mode"),
    ("SPLIT LOCK", "a split lock"),
)


def _oops(event: Event, said: Sequence[str], address: int | None) -> str:
    name = event.get("name")
    if (found := next((phrase for start, phrase in NAMES if name.startswith(start)), "")) != "":
        return found
    if said[0].startswith(("traps: PANIC: double fault", "PANIC: double fault")):
        return "a double fault"
    if name.startswith("general protection fault"):
        return _protection(name, said)
    texts = "\n".join(said[:40])
    if _is_null(texts, address):
        return JUMP if _fetches(texts, event) else "a null pointer access"
    if event.families & {"fault"} or name == "Oops":
        return _memory(texts, event, address)
    return f"an exception ({_cut(name)})" if name else "an exception"


def _is_null(texts: str, address: int | None) -> bool:
    return "NULL pointer dereference" in texts or (address is not None and address < PAGE)


def _fetches(texts: str, event: Event) -> bool:
    code = int(event.get("code") or "0", 16)
    return "instruction fetch" in texts or "EC = 0x21" in texts or bool(code & 0x10)


def _protection(name: str, said: Sequence[str]) -> str:
    kasan = next((text for text in said[:40] if text.startswith("KASAN: ")), "")
    if "null-ptr-deref" in kasan:
        return "a null pointer access"
    if kasan:
        return "an access to a wild address"
    return "an access to a non-canonical address" if "non-canonical" in name else "a general protection fault"


EXECUTED = ("execute NX-protected", "execute userspace code", "execute from non-executable", "instruction fetch")
WRITTEN = ("supervisor write access", "WnR = 1", "user write access")


def _memory(texts: str, event: Event, address: int | None) -> str:
    code = int(event.get("code") or "0", 16)
    if any(word in texts for word in EXECUTED) or code & 0x10:
        return EXECUTION
    refused = "permissions violation" in texts or "read-only memory" in texts or bool(code & 0x1)
    if "access to user memory outside uaccess" in texts or (refused and address is not None and address < USER):
        return "a direct access to user memory"
    if "reserved bit violation" in texts or code & 0x8:
        return "a corrupted page table"
    writes = any(word in texts for word in WRITTEN) or bool(code & 0x2)
    if refused:
        return "a write to read-only memory" if writes else "a read of protected memory"
    if "unreadable memory" in texts:
        return "a read of protected memory"
    return "a write to unmapped memory" if writes else "a read of unmapped memory"


REPORTED = {
    "use-after-free": "a use after free",
    "slab-use-after-free": "a use after free",
    "use-after-free read": "a use after free",
    "use-after-free write": "a use after free",
    "double-free": "a double free",
    "double-free or invalid-free": "an invalid free",
    "invalid-free": "an invalid free",
    "invalid free": "an invalid free",
    "slab-out-of-bounds": "an out-of-bounds access",
    "stack-out-of-bounds": "an out-of-bounds access",
    "global-out-of-bounds": "an out-of-bounds access",
    "vmalloc-out-of-bounds": "an out-of-bounds access",
    "out-of-bounds": "an out-of-bounds access",
    "out-of-bounds read": "an out-of-bounds access",
    "out-of-bounds write": "an out-of-bounds access",
    "memory corruption": "a write past the end of an object",
    "null-ptr-deref": "a null pointer access",
    "wild-memory-access": "an access to a wild address",
    "user-memory-access": "an access to a wild address",
    "invalid read": "an invalid access",
    "invalid write": "an invalid access",
    "uninit-value": "a use of memory that was never written",
    "data-race": "a data race",
    "array-index-out-of-bounds": "an array index out of bounds",
    "shift-out-of-bounds": "a shift out of bounds",
    "signed-integer-overflow": "an integer overflow",
    "null-ptr": "a null pointer access",
    "scheduling while atomic": "scheduling while atomic",
    "sleeping function called from invalid context": "sleeping in an atomic context",
}


def _report(event: Event, said: Sequence[str], address: int | None) -> Cause:
    name, tool = event.get("name"), event.get("tool")
    phrase = REPORTED.get(name)
    if phrase is None:
        return Cause("bug", f"a report of {tool} ({_cut(name)})")
    return Cause("bug", f"{phrase} ({tool})" if tool else phrase)


def _warning(event: Event, said: Sequence[str], address: int | None) -> Cause:
    place = f" at {_file(event.get('file'))}:{event.get('line')}" if event.get("file") else ""
    return Cause("warning", f"a warning{place}")


def _soft(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("soft lockup", f"a soft lockup of CPU {event.get('cpu')} for {event.get('seconds')} s")


def _hard(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("hard lockup", f"a hard lockup of CPU {event.get('cpu')}")


def _hung(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("hung task", f"a task that was blocked for {event.get('seconds')} s")


def _stall(event: Event, said: Sequence[str], address: int | None) -> Cause:
    cpu = event.get("cpu")
    task = "an RCU stall of a task" if any("Tasks blocked on" in text for text in said[:20]) else "an RCU stall"
    return Cause("rcu stall", f"an RCU stall of CPU {cpu}" if cpu else task)


def _mce(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("mce", "a machine check (a hardware error)")


def _sysrq(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("sysrq", "a crash that was asked for (sysrq)")


def _nmi(event: Event, said: Sequence[str], address: int | None) -> Cause:
    if said[0].startswith("NMI: PCI"):
        return Cause("nmi", "an NMI for a PCI system error")
    if said[0].startswith("NMI: IOCK"):
        return Cause("nmi", "an NMI for an I/O check")
    return Cause("nmi", "an NMI of unknown origin")


def _serror(event: Event, said: Sequence[str], address: int | None) -> Cause:
    return Cause("panic", "an asynchronous SError (a bus or hardware error)")


FAMILIES: dict[str, Callable[[Event, Sequence[str], int | None], Cause]] = {
    "report": _report,
    "warning": _warning,
    "soft lockup": _soft,
    "hard lockup": _hard,
    "hung task": _hung,
    "rcu stall": _stall,
    "mce": _mce,
    "sysrq": _sysrq,
    "nmi": _nmi,
    "serror": _serror,
}

PANICS: tuple[tuple[str, Kind, str], ...] = (
    (r"softlockup: hung tasks", "soft lockup", "a soft lockup"),
    (r"Hard LOCKUP|Watchdog detected hard LOCKUP", "hard lockup", "a hard lockup"),
    (r"hung_task: blocked tasks", "hung task", "a task that was blocked"),
    (r"RCU Stall", "rcu stall", "an RCU stall"),
    (r"sysrq triggered crash", "sysrq", "a crash that was asked for (sysrq)"),
    (r"Timeout: Not all CPUs entered", "mce", "a machine check that not all CPUs answered"),
    (r"Fatal [Hh]ardware [Ee]rror", "mce", "a hardware error that the firmware reported"),
    (r".{0,60}[Mm]achine check", "mce", "a machine check (a hardware error)"),
    (r"NMI IOCK error", "nmi", "an NMI for an I/O check"),
    (r"NMI: Not continuing|An NMI occurred|NMI", "nmi", "an NMI"),
    (r"System is deadlocked on memory", "oom", "a lack of memory with no process left to kill"),
    (r"Out of memory", "oom", "a lack of memory (panic_on_oom)"),
    (r"kernel stack overflow", "stack overflow", "a kernel stack overflow"),
    (r"corrupted stack end detected", "stack overflow", "a kernel stack overflow"),
    (r"Oops: Fatal exception in interrupt|Fatal exception in interrupt", "oops", "a fatal exception in an interrupt"),
    (r".{0,40}Fatal exception|Oopsed too often", "oops", "a fatal exception"),
    (r"KASAN|kasan\.fault=panic", "bug", "a report of KASAN"),
    (r"UBSAN", "bug", "a report of UBSAN"),
    (r"KFENCE", "bug", "a report of KFENCE"),
    (r".{0,40}panic_on_warn set|.{0,40}system warned too often", "warning", "a warning"),
    (r"stack-protector: ", "panic", "a corrupted kernel stack (found by the stack protector)"),
    (r"VFS: Unable to mount root fs", "panic", "a root file system that could not be mounted"),
    (r"No working init found|Requested init ", "panic", "an init that could not be started"),
    (r"Attempted to kill the idle task", "panic", "the end of an idle task"),
    (r"Aiee, killing interrupt handler", "panic", "the end of a task in an interrupt"),
    (r"Asynchronous SError", "panic", "an asynchronous SError (a bus or hardware error)"),
)
PANIC_TABLE = tuple((re.compile(pattern), kind, phrase) for pattern, kind, phrase in PANICS)
EXIT = re.compile(r"Attempted to kill init! ?exitcode=0x([0-9a-f]{1,8})")


def of_panic(text: str) -> Cause:
    """Of what follows `Kernel panic - not syncing: `, where no report before it says more."""
    if (match := EXIT.match(text)) is not None:
        return Cause("panic", _end_of_init(int(match[1], 16)))
    if text.startswith("Attempted to kill init"):
        return Cause("panic", "the end of init")
    for pattern, kind, phrase in PANIC_TABLE:
        if pattern.match(text):
            return Cause(kind, phrase)
    return Cause("panic", f"a panic ({_cut(text)})" if text else "a panic")


def _end_of_init(code: int) -> str:
    signal = code & 0x7F
    return f"the end of init by signal {signal}" if signal else f"the end of init with status {code >> 8 & 0xFF}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
