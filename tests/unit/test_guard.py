"""The guard itself: it must bite, or no other test is safe."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from tests.fakes import FakeRunner
from tests.guard import Forbidden, Guard

OUTSIDE = Path("/tmp/kdump-pkg-guard-test/x")

ATTEMPTS: dict[str, Callable[[], object]] = {
    "write": lambda: OUTSIDE.write_text("x"),
    "append": lambda: Path.open(OUTSIDE, "a"),
    "update": lambda: os.fdopen(os.open("/etc/passwd", os.O_RDWR)),
    "os.open": lambda: os.open(OUTSIDE, os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda: OUTSIDE.mkdir(),
    "symlink": lambda: OUTSIDE.symlink_to("/"),
    "rename": lambda: OUTSIDE.rename("/tmp/kdump-pkg-guard-test-2"),
    "replace into": lambda: OUTSIDE.replace("/etc/kdump-pkg-guard-test"),
    "remove": lambda: OUTSIDE.unlink(missing_ok=True),
    "rmdir": lambda: OUTSIDE.rmdir(),
    "chmod": lambda: Path("/tmp").chmod(0o1777),
    "utime": lambda: os.utime("/tmp"),
    "truncate": lambda: os.truncate(OUTSIDE, 0),
    "link": lambda: os.link("/etc/passwd", OUTSIDE),
    "Popen": lambda: subprocess.Popen(["true"]),
    "run": lambda: subprocess.run(["true"], check=False),
    "system": lambda: os.system("true"),
    "fork": lambda: os.fork(),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "runner": lambda: Context().runner(["true"]),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_bites(name: str, guard: Guard) -> None:
    with pytest.raises(Forbidden):
        ATTEMPTS[name]()
    assert guard.caught or name == "runner"
    guard.caught.clear()


def test_no_exception_that_code_under_test_would_catch() -> None:
    assert not issubclass(Forbidden, Exception)


def test_through_a_link_out_of_the_directory(tmp_path: Path, guard: Guard) -> None:
    (tmp_path / "out").symlink_to("/etc")
    with pytest.raises(Forbidden):
        (tmp_path / "out" / "kdump-pkg-guard-test").write_text("x")
    (tmp_path / "file").symlink_to("/etc/passwd")
    with pytest.raises(Forbidden):
        (tmp_path / "file").open("r+")
    guard.caught.clear()


def test_relative_to_a_descriptor(guard: Guard) -> None:
    fd = os.open("/etc", os.O_RDONLY)
    try:
        with pytest.raises(Forbidden):
            os.unlink("kdump-pkg-guard-test", dir_fd=fd)
    finally:
        os.close(fd)
        guard.caught.clear()


def test_what_it_lets_through(tmp_path: Path, guard: Guard) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    (tmp_path / "l").symlink_to("/etc/passwd")
    (tmp_path / "l").unlink()  # the link goes, not what it leads to
    shutil.rmtree(tmp_path / "d")
    with tempfile.TemporaryDirectory() as made, Path(os.devnull).open("w") as null:
        Path(made, "f").write_text("x")
        null.write("x")
    assert Path("/etc/passwd").read_text()
    assert not guard.caught


@pytest.mark.spawns
def test_spawns_lets_programs_run_but_not_write(guard: Guard) -> None:
    assert subprocess.run(["true"], check=False).returncode == 0
    assert Context().runner(["true"]).returncode == 0
    with pytest.raises(Forbidden):
        OUTSIDE.write_text("x")
    guard.caught.clear()


def test_what_was_swallowed_is_still_known(guard: Guard) -> None:
    with contextlib.suppress(BaseException):
        OUTSIDE.write_text("x")
    assert guard.caught  # else the fixture could not fail the test at its end
    guard.caught.clear()


def test_fake_runner() -> None:
    run = FakeRunner({"tool": "short", "tool --long": "longest wins", "bad": 3})
    assert (run(["tool", "x"]).text, run(["tool", "--long", "x"]).text) == ("short", "longest wins")
    assert run(["bad"], check=False).returncode == 3
    assert run.lines("tool") == ["tool x", "tool --long x"]
    for argv in (["bad"], ["unknown"], ["toolbox"]):
        with pytest.raises(Exception, match=argv[0]):
            run(argv)
