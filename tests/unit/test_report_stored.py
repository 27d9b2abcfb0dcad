"""report.json lies on a disk: whatever stands in it, it is read back as it was or not at all."""

from __future__ import annotations

import dataclasses
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import ui
from kdump_pkg.model.crash import Crash, Report
from kdump_pkg.plan import stored
from kdump_pkg.report import page, text
from tests.reports_made import rich


def dumped(report: Report, **changes: Any) -> bytes:
    return json.dumps({"version": 1, **ui.plain(report), **changes}).encode()


def test_it_comes_back_as_it_was() -> None:
    assert stored.read(dumped(rich())) == rich()
    plain = Report("x", 1, "y", Crash())
    assert stored.read(dumped(plain)) == plain


def test_fields_that_are_not_known_are_left_alone() -> None:
    assert stored.read(dumped(rich(), more=[1, {"x": 2}])) == rich()


def test_fields_that_are_missing_have_their_default() -> None:
    value = {"version": 1, "id": "x", "time": 3, "sentence": "y", "crash": {}}
    assert stored.read(json.dumps(value).encode()) == Report("x", 3, "y", Crash())


BAD: dict[str, dict[str, Any]] = {
    "version": {"version": 2},
    "version true": {"version": True},
    "text as a number": {"sentence": 7},
    "number as text": {"time": "7"},
    "number as bool": {"time": True},
    "a large number": {"time": 1 << 64},
    "a very large number": {"time": 10**400},
    "not a number": {"time": float("nan")},
    "infinite uptime": {"crash": {"uptime": float("inf")}},
    "crash": {"crash": []},
    "kind": {"crash": {"kind": "murder"}},
    "kind as a list": {"crash": {"kind": ["oops"]}},
    "a frame": {"crash": {"trace": [{}]}},
    "a frame as text": {"crash": {"trace": ["f"]}},
    "null": {"sentence": None},
    "a list as text": {"seen": "abc"},
    "too many": {"seen": ["x"] * 1001},
    "pairs of three": {"machine": [["a", "b", "c"]]},
    "state": {"verification": {"checks": [{"name": "x", "state": "fine", "text": ""}]}},
    "vmcore": {"vmcore": {"memory": [["MemTotal", "1"]]}},
}


@pytest.mark.parametrize("name", BAD)
def test_other_shapes_are_none(name: str) -> None:
    assert stored.read(dumped(rich(), **BAD[name])) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"1", b"\xff", b'{"version": 1}', b"[" * 1_000_000, b'{"a":' * 100_000, b"9" * 9999],
)
def test_what_is_no_json_of_ours(data: bytes) -> None:
    assert stored.read(data) is None


EVIL = "\x1b]0;pwned\x07\x9b31m<script>alert(1)</script>\u202e\u2066\n\r\x00&\"'"


def poisoned(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value)(
            **{f.name: _poisoned_field(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    if isinstance(value, tuple):
        return tuple(poisoned(one) for one in value)
    return f"{EVIL}{value}" if isinstance(value, str) else value


def _poisoned_field(name: str, value: Any) -> Any:
    return value if name in ("kind", "architecture", "state") else poisoned(value)  # choices of a few words


def test_text_is_cleaned_when_it_is_read() -> None:
    found = stored.read(dumped(poisoned(rich())))
    assert found is not None
    words = json.dumps(ui.plain(found), ensure_ascii=False)
    assert "alert(1)" in words
    assert all(c.isprintable() for c in words)


def test_what_is_shown_is_clean_even_if_it_was_not_read_from_there() -> None:
    shown = text.render(poisoned(rich()))
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert all(c.isprintable() or c in "\n\N{NO-BREAK SPACE}" for c in page.render(poisoned(rich())))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable + "\u202e", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [f.name for f in dataclasses.fields(Report)]
CRASH_FIELDS = [f.name for f in dataclasses.fields(Crash)]


@given(st.sampled_from(FIELDS), st.sampled_from(CRASH_FIELDS), JSON)
def test_any_value_in_any_field(name: str, inner: str, value: Any) -> None:
    """It is read or it isn't; what is read can be shown."""
    crash = {**ui.plain(rich().crash), inner: value}
    for changes in ({name: value}, {"crash": crash}):
        found = stored.read(dumped(rich(), **changes))
        if found is not None:
            assert text.render(found).endswith("\n")
            assert page.render(found).endswith("</html>\n")
