"""What `status` costs on a machine with many packages: it is run often, and by people who wait for it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests import docs
from tests.fakes import RELEASE, make_tree, pacman_db, system_tree

PACKAGES, FILES, MODULES, ALIASES = 1500, 200, 6000, 25_000
LIMIT = 0.3  # seconds of CPU

STATUS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from kdump_pkg import cli
from kdump_pkg.run import SystemRunner
from tests.fakes import system_runner

runner = system_runner(Path(sys.argv[2]))
SystemRunner.__call__ = lambda self, *args, **kwargs: runner(*args, **kwargs)
import os
os.geteuid = lambda: 0
sys.exit(cli.main([sys.argv[3], "--root", sys.argv[2]]))
"""


def large(root: Path) -> None:
    """A system of the size of a real one."""
    make_tree(root, system_tree())
    make_tree(root, pacman_db({
        f"package{n}": (f"1.{n}-1", [f"usr/share/package{n}/file-{i}" for i in range(FILES)]) for n in range(PACKAGES)
    }))  # fmt: skip
    home = root / "usr/lib/modules" / RELEASE
    with (home / "modules.dep").open("a") as file:
        file.writelines(f"kernel/a/m{n}.ko.zst: kernel/a/m{n * 7 % MODULES}.ko.zst\n" for n in range(MODULES))
    with (home / "modules.alias").open("a") as file:
        file.writelines(f"alias pci:v0000{n:04x}d*sv*sd*bc*sc*i* m{n % MODULES}\n" for n in range(ALIASES))


def run(root: Path, verb: str) -> tuple[float, str]:
    """Seconds of CPU, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-I", "-c", STATUS, os.fspath(docs.REPO), os.fspath(root), verb],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode in (0, 3), done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.spawns
def test_status_is_quick(root: Path) -> None:
    """The best of a few: on a machine that is busy, the same takes longer."""
    large(root)
    run(root, "rebuild")
    cost, said = min(run(root, "status") for _ in range(5))
    assert "image                      ok" in said, said
    assert cost <= LIMIT
