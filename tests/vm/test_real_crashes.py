"""The logs in tests/reports are of real kernels; some die afresh here, so that the corpus can't drift from reality."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kdump_pkg import crashlog
from tests.lab import LabError, crash_tools, crashes, packages
from tests.lab.crash_kinds import CRASHES

pytestmark = pytest.mark.vm

SERIES: packages.Series = "7.2"
MODULE = "labcrash"


@dataclass(frozen=True)
class Expected:
    kind: str
    cause: str
    function: str
    process: str


KNOWN = {
    "null": Expected("oops", "a null pointer access", "lab_read", "sh"),
    "work": Expected("oops", "a null pointer access", "lab_read", "kworker/"),
    "softlockup": Expected("soft lockup", "a soft lockup of CPU 0 for ", "lab_spin", "sh"),
}


@pytest.fixture(scope="module")
def tools(lab: None) -> crash_tools.Tools:
    try:
        return crash_tools.tools(SERIES)
    except LabError as error:
        pytest.skip(f"no module can be built for {packages.release(SERIES)}: {error}")


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_read_of_a_crash_is_what_was_caused(name: str, tools: crash_tools.Tools) -> None:
    expected = KNOWN[name]
    log = crashes.cause(next(one for one in CRASHES if one.name == name), SERIES)
    crash = crashlog.read(log)
    said = log.decode(errors="replace")[-6000:]
    assert crash.where is not None, said
    assert (crash.kind, crash.where.function, crash.where.module) == (expected.kind, expected.function, MODULE), said
    assert crash.cause.startswith(expected.cause), said
    assert crash.process.startswith(expected.process), said
    assert (crash.release, crash.architecture, crash.cpu) == (packages.release(SERIES), "x86_64", 0), said
    assert crash.taint.startswith("OE"), said
    assert [(module.name, module.flags) for module in crash.modules] == [(MODULE, "OE")], said
    assert not crash.truncated, said
    assert crash.signature, said
