"""Whatever a log holds, it is read: without an error, into bounded and harmless text, with work that grows as it."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdump_pkg import crashlog
from kdump_pkg.crashlog import lines
from tests.fuzz.crashlog import sane
from tests.unit.test_crashlog_corpus import NAMES, log

CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
SLOWLY = settings(max_examples=40, deadline=None, suppress_health_check=CHECKS)

WORDS = [
    b"BUG: kernel NULL pointer dereference, address: 0000000000000008", b"Oops: 0002 [#1] SMP",
    b"Oops: Oops: 0002 [#9]",
    b"general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#2] SMP", b"[#",
    b" [#1]", b"Kernel panic - not syncing: ", b"Kernel panic - not syncing: Fatal exception",
    b"softlockup: hung tasks", b"kernel BUG at a/b.c:1!", b"------------[ cut here ]------------",
    b"---[ end trace 0000000000000000 ]---", b"WARNING: CPU: 1 PID: 2 at a.c:3 f+0x1/0x2",
    b"WARNING: a.c:3 at f+0x1/0x2, CPU#1: a/b/3", b"RIP: 0010:", b"RIP: 0033:0x7f", b"RIP: 0010:f+0x1/0x2 [m]",
    b"pc : f+0x1/0x2 [m]", b"pc : 0x0", b"lr : ", b"Call Trace:", b"Call trace:", b" <TASK>", b" </TASK>", b" <IRQ>",
    b" </IRQ>", b" ? f+0x1/0x2", b" g.constprop.0+0x1/0x2 [mod 0123456789abcdef]", b" 0xffffffff81000000",
    b"CPU: 1 UID: 0 PID: 2 Comm: a b Kdump: loaded Tainted: G           OE       6.17.8-arch1-1 #1",
    b"CPU: 99999 PID: 9999999999", b"CPU: 0 PID: 1 Comm: x Not tainted 6.1.0 #1", b"Hardware name: x, BIOS y",
    b"Workqueue: a b", b"Modules linked in: a(OE) b", b"INFO: task a:b:1 blocked for more than 120 seconds.",
    b"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", b"rcu: \t3-....: (1 GPs behind)",
    b"NMI backtrace for cpu 3", b"watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [a:1]",
    b"watchdog: CPU2: Watchdog detected hard LOCKUP on cpu 3", b"BUG: KASAN: slab-use-after-free in f+0x1/0x2",
    b"UBSAN: x in a.c:1:2", b"Panic#1 Part1", b"Oops#1 Part2", b"Linux version 6.1.0 (a) #1 SMP",
    b"Kernel command line: a \\", b"CR2: 0000000000000000",
    b"Unable to handle kernel paging request at virtual address ffff000000000000",
    b"Internal error: Oops: 96000004 [#1] SMP", b"sysrq: Trigger a crash", b"sysrq triggered crash",
    b"task:a   state:D stack:0 pid:1", b"a invoked oom-killer: ", b"Attempted to kill init! exitcode=0xffffffff",
    b"mce: [Hardware Error]: CPU 2: Machine Check Exception: 5 Bank 4: b", b"\x1b[31m", b"\x1b]0;x\x07", b"\xff\xfe",
    b"\0", b"\r", b"\x85", "\u202e\u200b\ufeff\u2028".encode(), b"<script>", b"\t", b"0x", b"+0x", b"[", b"]",
    b"[    1.000000] ", b"<4>[    1.000000][   C1] ", b"[   T12] ", b"6,1,2,-,caller=T1;",
    b"Nov 23 07:46:11 host kernel: ", b"\n", b"\n\n",
]  # fmt: skip

TEXT = st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
WORD = st.one_of(st.sampled_from(WORDS), st.binary(max_size=40), TEXT)
MADE_UP = st.lists(st.tuples(WORD, st.sampled_from([b"", b" ", b"\n", b"\n[    2.500000] "])), max_size=120)


@SLOWLY
@given(st.binary(max_size=3000))
@example(b"\n")
@example(b"Kernel panic - not syncing: ")
@example(b" [#1]")
def test_random_bytes(data: bytes) -> None:
    sane(crashlog.read(data))


@SLOWLY
@given(MADE_UP)
def test_what_kernels_say_in_any_order(parts: list[tuple[bytes, bytes]]) -> None:
    sane(crashlog.read(b"".join(word + end for word, end in parts)))


@SLOWLY
@given(st.sampled_from(NAMES), st.data())
def test_changed_logs(name: str, data: st.DataObject) -> None:
    """Cut at both ends, lines gone, repeated and exchanged, bytes put in."""
    text = log(name)
    rows = text.splitlines(keepends=True)
    start, end = sorted(data.draw(st.tuples(st.integers(0, len(rows)), st.integers(0, len(rows)))))
    rows = rows[start:end]
    for _ in range(data.draw(st.integers(0, 8)) if rows else 0):
        at, other = data.draw(st.tuples(st.integers(0, len(rows) - 1), st.integers(0, len(rows) - 1)))
        match data.draw(st.sampled_from(["drop", "twice", "exchange", "cut", "put in"])):
            case "drop":
                rows[at] = b""
            case "twice":
                rows[at] *= 2
            case "exchange":
                rows[at], rows[other] = rows[other], rows[at]
            case "cut":
                rows[at] = rows[at][: len(rows[at]) // 2]
            case _:
                rows[at] = rows[at][:30] + data.draw(WORD) + rows[at][30:]
    sane(crashlog.read(b"".join(rows)))


@SLOWLY
@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(1, 9))
def test_logs_mixed_line_by_line(one: str, other: str, step: int) -> None:
    first, second = log(one).splitlines(keepends=True), log(other).splitlines(keepends=True)
    rows = [row for n in range(0, len(first), step) for row in (*first[n : n + step], *second[n : n + step])]
    sane(crashlog.read(b"".join(rows)))


def every(name: str) -> Iterator[bytes]:
    text = log(name)
    ends = [index + 1 for index, byte in enumerate(text) if byte == 10]
    yield from (text[:end] for end in ends[:: max(len(ends) // 6, 1)])
    yield from (text[end:] for end in ends[:: max(len(ends) // 6, 1)])


@pytest.mark.parametrize("name", NAMES)
def test_cut_anywhere(name: str) -> None:
    for part in every(name):
        sane(crashlog.read(part))


def test_the_end_of_a_long_log_counts() -> None:
    crash = log("null-nouveau-6.17")
    filler = b"[    9.000000] usb 1-1: reset high-speed USB device number 2 using xhci_hcd\n"
    long = log("sysrq-6.17") + filler * (lines.BYTES // len(filler)) + crash
    assert crashlog.read(long).signature == crashlog.read(crash).signature
    assert len(lines.split(long)) < lines.BYTES // len(filler) + 1 + crash.count(b"\n")


def test_a_line_without_an_end() -> None:
    for line in (b"A" * (20 << 20), b"Kernel panic - not syncing: " + b"A" * (20 << 20)):
        crash = crashlog.read(line)
        sane(crash)
        assert all(len(text) <= lines.WIDTH for text in (*crash.before, *crash.lines))


def test_many_lines() -> None:
    assert len(lines.split(b"a\n" * (lines.COUNT + 10))) == lines.COUNT
    assert len(lines.split(b"x[    1.000000] y" * (lines.BYTES // 16))) <= lines.COUNT


def test_escapes_are_gone() -> None:
    log = b"[    1.000000] \x1b[1;31mKernel panic - not syncing: \x1b]0;owned\x07dead\x9b31m \xe2\x80\xaebeef\x1b[0m\n"
    crash = crashlog.read(log)
    assert crash.kind == "panic"
    assert "\x1b" not in "".join(crash.lines)
    assert crash.panic.startswith("dead")
    assert crash.panic.isprintable()


def work(data: bytes) -> int:
    """How many functions are called while DATA is read, those written in C too."""
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        crashlog.read(data)
    finally:
        sys.setprofile(before)
    return count


def parts(count: int) -> bytes:
    return b"".join(b"Panic#%d Part1\n<4>[    1.%06d] x\n" % (n, n) for n in range(count))


GROWING: dict[str, Callable[[int], bytes]] = {
    "heads": lambda n: b"BUG: kernel NULL pointer dereference, address: 0\n" * n,
    "oopses": lambda n: (
        b"Oops: 0002 [#1] SMP\nRIP: 0010:f+0x1/0x2\nCall Trace:\n g+0x1/0x2\n---[ end trace 0 ]---\n" * n
    ),
    "warnings": lambda n: b"WARNING: CPU: 1 PID: 2 at a.c:3 f+0x1/0x2\n" * n,
    "hung tasks": lambda n: (
        b"[    1.000000] INFO: task a:1 blocked for more than 120 seconds.\n" * n
        + b"[    1.000000] Kernel panic - not syncing: hung_task: blocked tasks\n"
    ),
    "frames": lambda n: b"Oops: 0002 [#1] SMP\nCall Trace:\n" + b" ? f+0x1/0x2\n" * n,
    "modules": lambda n: b"Oops: 0002 [#1]\nModules linked in:" + b" a b c\n" * n,
    "boots": lambda n: b"Linux version 6.1 x\nBUG: kernel NULL pointer dereference, address: 0\n" * n,
    "parts": parts,
    "joined": lambda n: b"x[    1.000000] y" * n,
    "cut here": lambda n: b"------------[ cut here ]------------\n" * n + b"kernel BUG at a.c:1!\n" * n,
}


@pytest.mark.parametrize("name", GROWING)
def test_work_grows_as_the_log(name: str) -> None:
    """Four times the log is at most about four times the work, in functions called."""
    small, large = work(GROWING[name](1000)), work(GROWING[name](4000))
    assert large < 5 * small + 5000


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for name in ("body", "causes", "choice", "events", "frames", "lines", "machine", "pstore", "signature", "story"):
        module = importlib.import_module(f"kdump_pkg.crashlog.{name}")
        yield from ((f"{name}.{key}", one) for key, value in vars(module).items() for one in _patterns(value))


def _patterns(value: Any) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _patterns(one)
    elif isinstance(value, dict):
        yield from _patterns(tuple(value.values()))
    elif hasattr(value, "pattern") and not isinstance(value, type):
        yield from _patterns(value.pattern)


PATTERNS = dict(patterns())
parser: Any = importlib.import_module("re._parser")


def repeats(tree: Any) -> Iterator[tuple[int, Any]]:
    """Each part that may be repeated differently often: how often at most, and what."""
    for operation, argument in tree:
        if str(operation) in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = argument
            if most != least:
                yield int(most), inner
            yield from repeats(inner)
        elif str(operation) in ("POSSESSIVE_REPEAT", "ATOMIC_GROUP"):
            continue  # takes what it takes, and never another way
        else:
            yield from _inside(argument)


def _inside(argument: Any) -> Iterator[tuple[int, Any]]:
    for one in argument if isinstance(argument, tuple | list) else ():
        if isinstance(one, parser.SubPattern):
            yield from repeats(one)
        elif isinstance(one, list | tuple):
            yield from _inside(one)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_explodes(name: str) -> None:
    """Nothing that may be repeated more than twice contains something that may be: that would be exponential."""
    tree = parser.parse(PATTERNS[name].pattern, PATTERNS[name].flags)
    for most, inner in repeats(tree):
        assert most <= 2 or not list(repeats(inner)), PATTERNS[name].pattern


def test_the_check_of_patterns_finds_one() -> None:
    assert any(most > 2 and list(repeats(inner)) for most, inner in repeats(parser.parse(r"a(?:b+c?)+$")))
    assert len(PATTERNS) > 30
