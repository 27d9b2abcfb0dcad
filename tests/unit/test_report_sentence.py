"""What happened, in one sentence: it must read well for every kind, and say only what is known."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from kdump_pkg.model.crash import Crash, Frame, Kind
from kdump_pkg.plan.sentence import CAUSES, tell
from kdump_pkg.report.words import clean, moment, size, span
from tests.reports_made import CRASH

WHERE = Frame("do_something", 1, 2)

CASES: dict[str, tuple[Crash, str]] = {
    "everything is known": (
        CRASH,
        "kernel 6.17.8-arch1-1 died of a null pointer access in nouveau_fence_update [nouveau], "
        "in process kworker/3:1, 2 days 4 h after boot",
    ),
    "no module": (
        Crash(kind="bug", cause="a BUG at mm/slub.c:546", release="6.12.1", where=WHERE, process="dd", uptime=61),
        "kernel 6.12.1 died of a BUG at mm/slub.c:546 in do_something, in process dd, 1 min 1 s after boot",
    ),
    "no function": (Crash(kind="oops", cause="a page fault", release="6.12.1"), "kernel 6.12.1 died of a page fault"),
    "no release": (Crash(kind="oops", cause="a page fault"), "a kernel of unknown release died of a page fault"),
    "only an address": (
        Crash(kind="oops", cause="a page fault", release="6.1", where=Frame(""), uptime=0.2),
        "kernel 6.1 died of a page fault, less than 1 s after boot",
    ),
    "sysrq": (
        Crash(kind="sysrq", release="6.1", where=Frame("sysrq_handle_crash"), process="bash", uptime=200),
        "kernel 6.1 was crashed on purpose by sysrq, in process bash, 3 min 20 s after boot",
    ),
    "memory": (
        Crash(kind="oom", release="6.1", where=Frame("out_of_memory"), process="firefox", uptime=7200),
        "kernel 6.1 died of a lack of memory, 2 h after boot",
    ),
    "machine check": (
        Crash(kind="mce", cause="a machine check on CPU 2", release="6.1", where=Frame("idle"), process="swapper/2"),
        "kernel 6.1 died of a machine check on CPU 2",
    ),
    "hung task": (
        Crash(kind="hung task", cause="a hung task", release="6.1", where=WHERE, process="khungtaskd", uptime=90000),
        "kernel 6.1 died of a hung task, 1 day 1 h after boot",
    ),
    "hung task, known": (
        Crash(kind="hung task", cause="a task that was blocked for 122 s", release="6.1", where=WHERE, process="dd"),
        "kernel 6.1 died of a task that was blocked for 122 s in do_something, in process dd",
    ),
    "lockup": (
        Crash(kind="soft lockup", cause="a soft lockup of CPU 3 for 26 s", release="6.1", where=WHERE, process="cat"),
        "kernel 6.1 died of a soft lockup of CPU 3 for 26 s in do_something, in process cat",
    ),
    "idle": (
        Crash(kind="rcu stall", cause="an RCU stall", release="6.1", where=WHERE, process="swapper/0"),
        "kernel 6.1 died of an RCU stall in do_something, while idle",
    ),
    "a panic without a better cause": (
        Crash(kind="panic", panic="VFS: Unable to mount root fs", release="6.1", process="swapper/0", pid=1),
        "kernel 6.1 died of a panic: VFS: Unable to mount root fs, while booting",
    ),
    "the cause names the function": (
        Crash(kind="bug", cause="a warning in do_something", release="6.1", where=WHERE),
        "kernel 6.1 died of a warning in do_something",
    ),
    "the process is no word of the cause": (
        Crash(kind="bug", cause="a BUG at labcrash.c:66", release="6.1", where=Frame("crash"), process="sh"),
        "kernel 6.1 died of a BUG at labcrash.c:66 in crash, in process sh",
    ),
    "the end of a process is no place": (
        Crash(kind="panic", cause="the end of init by signal 11", release="6.1", where=Frame("do_exit")),
        "kernel 6.1 died of the end of init by signal 11",
    ),
    "nothing": (Crash(), "a kernel of unknown release crashed; its log doesn't say what of"),
    "when alone": (Crash(release="6.1", uptime=60), "kernel 6.1 crashed 1 min after boot; its log doesn't say what of"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_sentence(name: str) -> None:
    crash, expected = CASES[name]
    assert tell(crash) == expected


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_has_words_of_its_own(kind: Kind) -> None:
    told = tell(Crash(kind=kind, release="6.1", where=WHERE, process="x", pid=7, uptime=10))
    assert told.startswith("kernel 6.1 ") and "  " not in told and not told.endswith((",", "."))
    assert kind in CAUSES or kind in ("sysrq", "unknown", "panic")
    assert ("died of" in told) == (kind in CAUSES)


def test_what_cannot_be_read_is_not_guessed() -> None:
    assert tell(replace(CRASH), encrypted=True) == "kernel 6.17.8-arch1-1 crashed; what of, is encrypted"
    assert tell(CRASH, has_log=False) == "kernel 6.17.8-arch1-1 crashed; there is no log that says what of"


SPANS = {
    0: "less than 1 s", 1: "1 s", 59.9: "59 s", 60: "1 min", 119: "1 min 59 s", 600: "10 min", 661: "11 min",
    3600: "1 h", 7260: "2 h 1 min", 86400: "1 day", 187_520: "2 days 4 h", 9_700_000: "112 days", -5: "less than 1 s",
}  # fmt: skip


@pytest.mark.parametrize("seconds", SPANS)
def test_span(seconds: float) -> None:
    assert span(seconds) == SPANS[seconds]


def test_moment() -> None:
    assert moment(1_795_420_014) == "2026-11-23 07:46:54 UTC"
    assert moment(0) == moment(-1) == moment(10**15) == moment(1 << 63) == ""


def test_size() -> None:
    assert [size(n) for n in (5, 1024, 15_700_000, 1 << 40)] == ["5 KiB", "1.0 MiB", "15.0 GiB", "1024 TiB"]


HOSTILE = {
    "\x1b[31mred\x1b[0m": "�[31mred�[0m",
    "a\tb": "a b",
    "a\nb\r\x00\x07\x7f\x9b": "a�b�����",
    "\u202eevil\u2066": "�evil�",
    "\u200bzero\ufeff": "�zero�",
    "\udcff": "�",
    "\u2028\u2029\u0085": "���",
    "Grüße 你好": "Grüße 你好",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_clean(text: str) -> None:
    assert clean(text) == HOSTILE[text]


def test_clean_is_bounded() -> None:
    assert clean("x" * 200_000_000) == "x" * 2000 + " …"
