"""What others wrote, as it may be shown and believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import untrusted


@given(st.text())
def test_any_text_is_harmless(text: str) -> None:
    for shown in (untrusted.escaped(text), untrusted.masked(text)):
        assert shown.isprintable()
        assert shown == text or not text.isprintable()
    line = untrusted.one_line(text, 40)
    assert line.isprintable() and len(line) <= 40 and line == " ".join(line.split())


def test_what_becomes_of_what_can_not_be_printed() -> None:
    assert untrusted.escaped("é\n\x1b[31m\udc80\u202e") == r"é\n\x1b[31m\udc80\u202e"
    assert untrusted.escaped("a\tb\nc\x07", keep="\n\t") == "a\tb\nc\\x07"
    assert untrusted.masked("é\n\x1b[31m") == "é??[31m"
    assert untrusted.one_line(" two\n\x1bwords\x00 ", 80) == "two words"
    assert untrusted.one_line("x" * 10**6, 80) == "x" * 80


@pytest.mark.parametrize("text", ["6.17.8-arch1-1", "6.12.48+deb13-amd64", "7.1.0_rc1~x", "5.15.0"])
def test_release(text: str) -> None:
    assert untrusted.release(text) == text


@pytest.mark.parametrize("text", ["", ".", "..", "../etc", "6.1/x", "6.1\n", "-rf", ".hidden", "6.1 x", "é", "6" * 129])
def test_what_is_no_release(text: str) -> None:
    assert untrusted.release(text) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("1795420014", 1795420014), ("99999999999", 99999999999), ("100000000000", None), ("", None),
     (None, None), ("-1", None), ("1_0", None), (" 1", None), ("²", None), ("٤", None)],
)  # fmt: skip
def test_number(text: str | None, expected: int | None) -> None:
    assert untrusted.number(text) == expected
