"""The corpus in tests/reports: what is read of each log, and what its signature depends on."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import crashlog
from kdump_pkg.model.crash import Crash

CORPUS = Path(__file__).parents[1] / "reports"
NAMES = sorted(path.stem for path in CORPUS.glob("*.toml"))
KINDS = {
    "oops", "bug", "panic", "hard lockup", "soft lockup", "hung task", "rcu stall", "mce", "oom", "stack overflow",
    "sysrq", "nmi", "warning", "unknown",
}  # fmt: skip


def log(name: str) -> bytes:
    return (CORPUS / f"{name}.log").read_bytes()


@cache
def read(name: str) -> Crash:
    return crashlog.read(log(name))


def expected(name: str) -> dict[str, Any]:
    expect: dict[str, Any] = tomllib.loads((CORPUS / f"{name}.toml").read_text(encoding="utf-8"))["expect"]
    assert expect.pop("origin") in ("real", "shaped")
    return expect


def seen(crash: Crash) -> dict[str, Any]:
    where = crash.where
    return {
        "kind": crash.kind, "cause": crash.cause, "function": where.function if where else "",
        "module": where.module if where else "", "process": crash.process, "pid": crash.pid, "cpu": crash.cpu,
        "taint": crash.taint, "release": crash.release, "architecture": crash.architecture,
        "truncated": crash.truncated,
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read(name: str) -> None:
    expect = expected(name)
    assert {"kind", "cause", "function", "module", "process", "taint"} <= set(expect)
    crash = seen(read(name))
    assert {key: crash[key] for key in expect} == expect


def test_the_corpus_is_what_it_should_be() -> None:
    assert len(NAMES) >= 85
    assert {path.stem for path in CORPUS.glob("*.log")} == set(NAMES)
    cases = [expected(name) for name in NAMES]
    assert {case["kind"] for case in cases} == KINDS
    assert {case.get("architecture") for case in cases} >= {"x86_64", "aarch64"}
    releases = {case.get("release", "").partition(".")[0] for case in cases}
    assert releases >= {"5", "6", "7"}
    assert sum(case.get("truncated", False) for case in cases) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_what_holds_of_every_crash(name: str) -> None:
    """What happened is in the trace, its words are in its lines, and all text is of one line and printable."""
    crash = read(name)
    assert crash.where is None or crash.where in crash.trace
    assert bool(crash.signature) == (crash.kind != "unknown")
    if crash.kind != "unknown":
        assert any(crash.words in line for line in (crash.lines if crash.truncated else crash.lines[:1]))
        assert not any(crash.words in line for line in crash.before[-1:])
    texts = [crash.cause, crash.words, crash.panic, crash.process, crash.hardware, crash.cmdline, *crash.lines]
    assert all(text.isprintable() for text in [*texts, *crash.before])
    assert len(crash.before) <= 40
    assert len(crash.lines) <= 200


LEVEL = re.compile(rb"(?m)^<\d>")
TIME = re.compile(rb"\[ {0,7}\d{1,5}\.\d{6}\]")
KERNEL_ADDRESS = re.compile(rb"\bffff[0-9a-f]{12}\b")
PLACE = re.compile(rb"\+0x[0-9a-f]{1,4}/0x[0-9a-f]{1,4}")
CPU = re.compile(rb"\bCPU: (\d{1,3}) ((?:UID: \d+ )?PID: )(\d{1,6}) ")
SUFFIX = re.compile(rb"\b([a-z_0-9]{3,})\+0x")


def elsewhere(data: bytes) -> bytes:
    """The same crash in another boot of another build: other times, addresses, offsets, processors, processes."""
    data = LEVEL.sub(b"", data)
    data = TIME.sub(lambda match: b"[%12.6f]" % (float(match[0].strip(b"[] ")) * 3 + 7.25), data)
    data = KERNEL_ADDRESS.sub(lambda match: b"ffff" + match[0][4:][::-1], data)
    data = PLACE.sub(b"+0x1d/0x9a0", data)
    return CPU.sub(lambda m: b"CPU: %d %s%d " % (int(m[1]) + 1, m[2], int(m[3]) + 4000), data)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_the_same_elsewhere(name: str) -> None:
    """`__pfx_` frames and the like excepted, nothing that differs from boot to boot counts."""
    data = log(name)
    changed = elsewhere(data)
    assert changed != data
    before, after = read(name), crashlog.read(changed)
    assert after.signature == before.signature
    if before.pid is not None and before.kind in ("oops", "bug"):
        assert after.pid != before.pid
    other_build = SUFFIX.sub(rb"\1.constprop.0.isra.0+0x", data)  # compilers split functions, and say so in their names
    assert crashlog.read(other_build).signature == before.signature


def test_signatures_differ() -> None:
    """Two of the corpus have the same one only where it is the same crash: of a kind, in a function, of a module."""
    found: defaultdict[str, set[tuple[str, str, str]]] = defaultdict(set)
    for name in NAMES:
        crash = read(name)
        if crash.signature:
            where = crash.where
            found[crash.signature].add((crash.kind, where.function if where else "", where.module if where else ""))
    assert [crashes for crashes in found.values() if len(crashes) > 1] == []
    assert len(found) > 80
