"""Every log of the corpus makes a report that reads well, by text and by page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kdump_pkg.model.evidence import Evidence
from kdump_pkg.plan import report as planning
from kdump_pkg.plan import stored
from kdump_pkg.plan.sentence import ENDS, NO_PLACE, WATCHER
from kdump_pkg.report import page, text
from kdump_pkg.reports import as_json
from tests.reports_made import ENTRY
from tests.unit.test_crashlog_corpus import NAMES, read

SENTENCE = re.compile(
    r"(a kernel of unknown release|kernel \S+) (died of [a-zA-Z].*|was crashed on purpose by sysrq.*|crashed.*)"
)


@pytest.mark.parametrize("name", NAMES)
def test_report(name: str) -> None:
    crash = read(name)
    report = planning.make(replace(ENTRY, id=name), crash, Evidence())
    assert SENTENCE.fullmatch(report.sentence)
    assert not re.search(r"  |,,|\bNone\b|\[\]| in $|[.,]$|\b(\w{4,}) \1\b", report.sentence)
    function = crash.where.function if crash.where else ""
    if function and crash.kind not in NO_PLACE and function not in ENDS and crash.process != WATCHER:
        assert function in report.sentence
    told = text.render(report)
    assert all(c.isprintable() or c == "\n" for c in told)
    assert all(c.isprintable() or c in "\n\N{NO-BREAK SPACE}" for c in page.render(report))
    assert stored.read(as_json(report).encode()) == report
    assert len(told) < 100_000
    assert len(report.advice) <= 9
