"""`kdump-pkg setup` killed at random instants: each file is old or new, whole, and `--undo` gives the first bytes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdump_pkg import fs, paths
from kdump_pkg.model.setup import load
from tests.fakes import UUID, make_tree, system_tree
from tests.unit.test_apply_setup import Tree, contents

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root sets up"),
    pytest.mark.timeout(300),
]

REPO = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KDUMP_TEST_SETUP_KILLS", "100"))
ENTRIES = 40
HOME = "/boot/loader/entries"
SYSTEMCTL = """\
#!/bin/sh
root=${1#--root=} wants=etc/systemd/system/multi-user.target.wants
shift
verb=$1
shift
for unit in "$@"; do
    case $verb in
    enable) ln -sfn "/usr/lib/systemd/system/$unit" "$root/$wants/$unit" ;;
    disable) rm -f "$root/$wants/$unit" ;;
    esac
done
"""


def entry(number: int) -> str:
    title = f"title Arch Linux {number}\n# {'comment ' * number}\n"
    return f"{title}linux /vmlinuz-linux\noptions root=UUID={UUID} rw quiet\n"


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "bin", {"systemctl": SYSTEMCTL})
    (tmp_path / "bin/systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.fixture
def system(root: Path, stubs: None) -> Path:
    make_tree(root, {**system_tree(), "/etc/systemd/system/multi-user.target.wants": None, paths.STATE: None})
    make_tree(root, {f"{HOME}/arch-{number}.conf": entry(number) for number in range(ENTRIES)})
    return root


DRIVER = """
import os, sys
from kdump_pkg import cli, setup
import difflib, kdump_pkg.plan.capture, kdump_pkg.plan.estimate
os.fsync = lambda fd: None
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os._exit(cli.main(line.split()))
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
"""Starting Python and importing takes three quarters of a run, in which nothing is written: it is done once here.

No killed process outlives a power cut, so nothing is synced either."""


@dataclass
class Run:
    """One run, in a session of its own with the programs that it starts: none of them goes on after it."""

    root: Path
    pid: int
    wait: Callable[[], int]

    def work_begins(self) -> None:
        while not (self.root / paths.LOCK[1:]).exists() and Path("/proc", str(self.pid)).exists():
            time.sleep(0.001)

    def has_replaced(self, path: Path) -> None:
        """However long the machine takes for it: an instant in the middle of the work."""
        old = path.stat().st_ino
        while path.stat().st_ino == old and Path("/proc", str(self.pid)).exists():
            time.sleep(0.0002)

    def kill(self) -> None:
        for kill in (os.killpg, os.kill):  # until it has a group of its own, it is in ours
            with contextlib.suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        self.wait()


@dataclass
class Runs:
    driver: subprocess.Popen[str]

    def start(self, root: Path, *flags: str) -> Run:
        assert self.driver.stdin and self.driver.stdout
        self.driver.stdin.write(f"{' '.join(arguments(root, *flags))}\n")
        self.driver.stdin.flush()
        read = self.driver.stdout.readline
        return Run(root, int(read()), lambda: int(read()))

    def finish(self, root: Path, *flags: str) -> None:
        assert self.start(root, *flags).wait() == 0

    def measure(self, root: Path, *flags: str) -> float:
        """Seconds that the work takes."""
        (root / paths.LOCK[1:]).unlink(missing_ok=True)
        run = self.start(root, *flags)
        run.work_begins()
        start = time.monotonic()
        assert run.wait() == 0
        return time.monotonic() - start


def arguments(root: Path, *flags: str) -> list[str]:
    return ["setup", "--yes", "--root", str(root), *flags]


@pytest.fixture
def runs(stubs: None) -> Iterator[Runs]:
    with subprocess.Popen(
        [sys.executable, "-B", "-c", DRIVER], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        yield Runs(driver)
        assert driver.stdin
        driver.stdin.close()


def really(root: Path, *flags: str) -> Run:
    """A whole `python -m kdump_pkg`."""
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "kdump_pkg", *arguments(root, *flags)],
        cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    return Run(root, process.pid, process.wait)


def ours(tree: Tree) -> Tree:
    """Without what is no state: temporary files, the lock."""
    return {name: data for name, data in tree.items() if fs.TEMPORARY not in name and name != paths.LOCK[1:]}


def put_back(root: Path, first: Tree) -> None:
    """Without a process: only what has changed."""
    now = contents(root)
    for name in {*now, *first}:
        if now.get(name) != first.get(name):
            (root / name).unlink(missing_ok=True)
            data = first.get(name)
            if isinstance(data, bytes):
                (root / name).write_bytes(data)
            elif data is not None:
                (root / name).symlink_to(data)


def old_or_new(system: Path, first: Tree, done: Tree, entries: Collection[str]) -> Tree:
    """What is there now; each entry is whole, as it was or as it was to become."""
    now = ours(contents(system))
    for name in entries:
        assert now[name] in (first[name], done[name]), name
    return now


def test_killed_at_any_instant(system: Path, runs: Runs) -> None:
    first = ours(contents(system))
    run, start = really(system), time.monotonic()
    assert run.wait() == 0
    whole = time.monotonic() - start
    done = ours(contents(system))
    entries = {name for name in first if name.startswith(HOME[1:])}
    assert all(done[name] != first[name] for name in entries)
    runs.finish(system, "--undo")
    assert ours(contents(system)) == first
    work = runs.measure(system)
    put_back(system, first)

    dice = random.Random(20261125)
    stages = set()
    for number in range(KILLS):
        (system / paths.LOCK[1:]).unlink(missing_ok=True)
        if number % 10 == 0:  # anywhere; the others where there is something to be halved
            run = really(system)
            time.sleep(dice.uniform(0, whole))
        elif number % 3 == 0:
            run = runs.start(system)
            run.work_begins()
            time.sleep(dice.uniform(0, work))
        else:
            run = runs.start(system)
            run.has_replaced(system / dice.choice(sorted(entries)))
            time.sleep(dice.uniform(0, 0.003))
        run.kill()
        now = old_or_new(system, first, done, entries)
        assert set(now) - set(first) <= set(done) - set(first)
        changed = [name for name in entries if now[name] != first[name]]
        if changed:  # what was changed stands in the record
            record = now[paths.SETUP[1:]]
            assert isinstance(record, bytes)
            assert {file.path[1:] for file in load(record).files} >= set(changed)
        stages.add(len(changed))
        if number % 20 == 5:
            runs.finish(system)  # what was begun is brought to its end
            now = contents(system)
            assert all(now[name] == done[name] for name in entries)
        if number % 5 == 0:
            runs.finish(system, "--undo")
            now = contents(system)
            assert ours(now) == first
            assert not changed or not [name for name in now if fs.TEMPORARY in name and name.startswith(HOME[1:])]
        put_back(system, first)
    assert len(stages) > 5, f"the instants were chosen badly: {stages}"


def test_an_undo_killed_at_any_instant(system: Path, runs: Runs) -> None:
    first = ours(contents(system))
    runs.finish(system)
    done = ours(contents(system))
    dice = random.Random(20261126)
    entries = {name for name in first if name.startswith(HOME[1:])}
    stages = set()
    for _ in range(KILLS // 5):
        (system / paths.LOCK[1:]).unlink(missing_ok=True)
        run = runs.start(system, "--undo")
        run.has_replaced(system / dice.choice(sorted(entries)))
        time.sleep(dice.uniform(0, 0.003))
        run.kill()
        now = old_or_new(system, first, done, entries)
        stages.add(sum(now[name] == first[name] for name in entries))
        runs.finish(system, "--undo")
        assert ours(contents(system)) == first
        put_back(system, done)
    assert len(stages) > 2, stages
