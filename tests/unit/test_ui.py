"""How we speak."""

from __future__ import annotations

import io
import json
import sys
import threading
from collections.abc import Callable

import pytest

from kdump_pkg import ui
from kdump_pkg.model import Config, Finding
from kdump_pkg.run import SystemRunner
from tests.fakes import facts


class Immediately:
    """A thread that does its work when it is started."""

    def __init__(self, target: Callable[[], None], daemon: bool) -> None:
        self.start, self.join = target, lambda: None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    ui.say("done")
    ui.detail("part")
    ui.out("data")
    ui.warn("careful")
    ui.error("bad", "do this")
    out, err = capsys.readouterr()
    assert out == "==> done\n  -> part\ndata\n"
    assert err == "==> WARNING: careful\n==> ERROR: bad (do this)\n"


def test_nothing_that_is_said_commands_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of files and words of programs may be anybody's."""
    hostile = "\x1b[31mred\x07\r\u202e\udcff"
    for speak in (ui.say, ui.detail, ui.warn, lambda text: ui.error(text, text)):
        speak(hostile)
    said = "".join(capsys.readouterr())
    assert said.count("\\x1b[31mred\\x07") == 5 and "\\u202e\\udcff" in said
    assert all(line.isprintable() for line in said.split("\n"))


def test_every_problem_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    ui.error("one\ntwo", "do this")
    ui.error("")
    assert capsys.readouterr().err == "==> ERROR: one\n==> ERROR: two (do this)\n==> ERROR: \n"


def test_colours_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ui.say("x")
    assert "\033" not in capsys.readouterr().out
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    ui.say("x")
    assert terminal.getvalue().startswith("\033[1;32m==>\033[0m")


def test_progress_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with ui.progress("working"):
        pass
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ticked = threading.Event()

    class Done:
        """Over as soon as one tick was seen."""

        def wait(self, timeout: float) -> bool:
            if terminal.getvalue():
                ticked.set()
            return ticked.is_set()

        def set(self) -> None:
            pass

    monkeypatch.setattr("kdump_pkg.ui.threading.Event", Done)
    monkeypatch.setattr("kdump_pkg.ui.threading.Thread", Immediately)
    with ui.progress("working"):
        assert ticked.is_set()
    text = terminal.getvalue()
    assert "working … 0 s" in text
    assert text.endswith("\r\033[K")


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    ui.out_json({"config": Config(), "facts": facts(), "data": b"\xff", "set": frozenset({"a"}), "none": None})
    value = json.loads(capsys.readouterr().out)
    assert value["config"]["drivers"] == ["auto"]
    assert value["facts"]["boot"]["crash_size"] == 256 << 20
    assert (value["data"], value["set"], value["none"]) == ("\ufffd", ["a"], None)


@pytest.mark.spawns
def test_only_data_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    for wanted in (True, False):
        with ui.only_data(wanted):
            SystemRunner()(["echo", "noise"], capture=False)
    assert capfd.readouterr() == ("noise\n", "noise\n")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], ""),
        ([("a",)], "a"),
        ([("a", "b"), ("ccc", "d")], "a    b\nccc  d"),
        ([("a", "")], "a"),
    ],
)
def test_table(rows: list[tuple[str, ...]], text: str) -> None:
    assert ui.table(rows) == text


def test_findings_as_json() -> None:
    plain = {"part": "a", "state": "ok", "text": "b", "remedy": None, "evidence": "c"}
    assert ui.plain(Finding("a", "ok", "b", evidence="c")) == plain


def test_diff_in_colours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ui.diff("--- a\n+++ a\n@@ -1 +1 @@\n x\n-y\n+z")
    assert capsys.readouterr().out == "--- a\n+++ a\n@@ -1 +1 @@\n x\n-y\n+z\n"
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    ui.diff(" x\n-y\n+z")
    assert terminal.getvalue() == " x\n\033[1;31m-y\033[0m\n\033[1;32m+z\033[0m\n"


@pytest.mark.parametrize(
    ("typed", "picked"),
    [("1\n", 0), (" 2 \n", 1), ("3\n", None), ("0\n", None), ("\n", None), ("", None), ("²\n", None)],
)
def test_pick(monkeypatch: pytest.MonkeyPatch, typed: str, picked: int | None) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert ui.pick("Which?", ["a", "b"]) == picked
