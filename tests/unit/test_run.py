"""The one place where programs are started, with real programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kdump_pkg.errors import CommandError
from kdump_pkg.run import Result, SystemRunner, clean_environment, explain
from tests.fakes import standard_input

run = SystemRunner()


@pytest.mark.spawns
def test_output_and_input() -> None:
    done = run(["cat"], stdin=b"\xff text")
    assert (done.stdout, done.text, done.returncode) == (b"\xff text", "\ufffd text", 0)
    assert run(["sh", "-c", "echo out; echo err >&2"]).stderr == b"err\n"


@pytest.mark.spawns
def test_our_own_input_is_not_for_programs() -> None:
    """pacman's list of targets, or what a user types."""
    with standard_input(b"not for you"):
        assert run(["cat"]).text == ""


@pytest.mark.spawns
def test_no_shell() -> None:
    assert run(["echo", "$HOME; ls *"]).text == "$HOME; ls *\n"


@pytest.mark.spawns
@pytest.mark.parametrize(
    ("argv", "words", "hint"),
    [
        (["false"], "false failed, exit code 1", None),
        (["sh", "-c", "kill -9 $$"], "killed by SIGKILL", None),
        (["sh", "-c", "echo one; echo 'two ' >&2; echo >&2; echo three >&2; exit 7"], "exit code 7: two; three", None),
        (["sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do echo l$i >&2; done; exit 1"], ": l5; l6; l7; l8; l9", None),
        (["sh", "-c", "printf '\\377\\n' >&2; exit 1"], "exit code 1: \ufffd", None),
        (["sh", "-c", "\nexit 1"], "sh -c … failed, exit code 1", None),
        (["kdump-pkg-no-such-program"], "kdump-pkg-no-such-program: not found", "pacman -S kdump-pkg-no-such-program"),
        (["/nowhere/kexec"], "/nowhere/kexec: not found", "install it: pacman -S kexec-tools"),
        (["/etc/passwd"], "/etc/passwd: Permission denied", None),
        (["/"], "/: Permission denied", None),
    ],
)  # fmt: skip
def test_failures_explain_themselves(
    argv: list[str], words: str, hint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # what can't be searched is a permission denied
    with pytest.raises(CommandError) as caught:
        run(argv)
    assert words in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.spawns
def test_without_check_it_is_the_callers_business() -> None:
    assert run(["false"], check=False).returncode == 1


@pytest.mark.spawns
def test_time_limit() -> None:
    with pytest.raises(CommandError, match="sleep 60: not done after 0 s, ended"):
        run(["sleep", "60"], timeout=0.05)


@pytest.mark.spawns
def test_environment_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LANG", "LC_ALL", "LANGUAGE", "PYTHONPATH", "BASH_ENV", "IFS", "LD_PRELOAD"):
        monkeypatch.setenv(name, "tr_TR.UTF-8")
    seen = dict(line.split("=", 1) for line in run(["env"], env={"EXTRA": "1"}).text.splitlines())
    assert seen["LC_ALL"] == "C.UTF-8"
    assert seen["EXTRA"] == "1"
    assert set(seen) <= {"PATH", "HOME", "TERM", "TMPDIR", "SOURCE_DATE_EPOCH", "LC_ALL", "EXTRA"}


def test_path_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert "/usr/bin" in clean_environment()["PATH"].split(":")


def test_another_root_is_changed_to(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    seen: list[list[str]] = []

    class Done:
        returncode, stdout, stderr = 0, b"", b""

    monkeypatch.setattr(SystemRunner, "__call__", REAL)

    def record(command: list[str], **rest: object) -> Done:
        seen.append(command)
        return Done()

    monkeypatch.setattr("subprocess.run", record)
    SystemRunner()(["tool", "x"], root=root)
    SystemRunner()(["tool", "x"], root=Path("/"))
    assert seen == [["chroot", os.fspath(root), "tool", "x"], ["tool", "x"]]


REAL = SystemRunner.__call__


def test_signals_are_named() -> None:
    assert "SIGTERM" in explain(Result(("x",), -15, b"", b"")).message
    assert "not found (127)" in explain(Result(("x",), 127, b"", b"")).message
    assert explain(Result(("x",), -99, b"", b"")).message == "x failed, killed by signal 99"
    assert sys.platform == "linux"
