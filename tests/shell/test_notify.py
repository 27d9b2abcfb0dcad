"""hooks/notify: the notice of a crash reaches the desktop's own program, once, and nothing of it is markup there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import REPO, SHELLS

DUMP = "2026-11-23T07-46-54Z-6.17.8-arch1-1"
SENTENCE = "kernel 6.17.8-arch1-1 died of a null pointer access in nouveau_fence_update [nouveau]"
FAKE = """#!/bin/sh
for word; do printf "%s\\n" "$word"; done >>"$HOME/said"
exit "$(cat "$HOME/code" 2>/dev/null || echo 0)"
"""


class Session:
    def __init__(self, home: Path, shell: str) -> None:
        self.home = home
        self.shell = shell
        (home / "run/kdump-pkg").mkdir(parents=True)
        (home / "bin").mkdir()

    def install(self) -> None:
        (self.home / "bin/notify-send").write_text(FAKE)
        (self.home / "bin/notify-send").chmod(0o755)

    def notice(self, data: bytes) -> None:
        (self.home / "run/kdump-pkg/notice").write_bytes(data)

    def run(self, path: str = ":/usr/bin:/bin") -> tuple[int, list[str]]:
        """Exit code, and the words that the program got."""
        (self.home / "said").unlink(missing_ok=True)
        env = {"PATH": f"{self.home}/bin{path}", "HOME": str(self.home), "KDUMP_ROOT": str(self.home)}
        argv = [shutil.which(SHELLS[self.shell][0]) or "", *SHELLS[self.shell][1:], str(REPO / "hooks/notify")]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
        self.stderr = done.stderr
        said = self.home / "said"
        return done.returncode, said.read_text().split("\n") if said.exists() else []


@pytest.fixture(params=SHELLS)
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    need(SHELLS[request.param][0])
    return Session(tmp_path, request.param)


def test_it_is_shown_once(session: Session) -> None:
    session.install()
    session.notice(f"{DUMP}\n{SENTENCE}\n".encode())
    code, said = session.run()
    assert code == 0
    assert said[:4] == ["--app-name=kdump-pkg", "--urgency=critical", "--icon=dialog-error", "--"]
    assert said[4:] == ["The kernel crashed", SENTENCE, "", f"sudo kdump-pkg report {DUMP}", ""]
    assert session.run() == (0, [])
    session.notice(f"{DUMP}2\n{SENTENCE}\n".encode())
    assert session.run()[1][-2] == f"sudo kdump-pkg report {DUMP}2"


def test_it_comes_again_where_nobody_could_show_it(session: Session) -> None:
    """A session that has no notifications yet: the unit starts it again."""
    session.install()
    session.notice(f"{DUMP}\n{SENTENCE}\n".encode())
    (session.home / "code").write_text("1")
    assert session.run()[0] == 1
    (session.home / "code").write_text("0")
    assert session.run()[1]


@pytest.mark.parametrize("data", [None, b"", b"\n", f"{DUMP}\n".encode(), b"\n\n", b"no newline"])
def test_no_notice_no_word(session: Session, data: bytes | None) -> None:
    session.install()
    if data is not None:
        session.notice(data)
    assert session.run() == (0, [])


def test_nothing_of_it_is_markup_or_a_command(session: Session) -> None:
    session.install()
    session.notice(b"$(touch /tmp/x)\n--help <b>&\x1b[31m `touch y` $(touch z) \\n %s\n")
    code, said = session.run()
    assert code == 0
    assert said[4:] == [
        "The kernel crashed", "--help &lt;b&gt;&amp;[31m `touch y` $(touch z) \\n %s", "", "sudo kdump-pkg status", "",
    ]  # fmt: skip
    assert {path.name for path in session.home.iterdir()} == {"run", "bin", "said", ".local"}


def test_without_the_program(session: Session) -> None:
    for tool in ("cat", "tr", "sed", "mkdir"):
        (session.home / "bin" / tool).symlink_to(shutil.which(tool) or "")
    session.notice(f"{DUMP}\n{SENTENCE}\n".encode())
    assert session.run(path="") == (0, [])
    assert "pacman -S libnotify" in session.stderr
