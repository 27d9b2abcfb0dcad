"""The dump level that is chosen for Linux 7.1 and later with makedumpfile up to 1.7.9, shown to be safe by reading.

At the level that is not, the dump is damaged; `verify` finds that and says who did it.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from kdump_pkg import verification
from kdump_pkg.apply import vmlinux
from kdump_pkg.context import Context
from kdump_pkg.facts import diskdump, vmlinuz
from kdump_pkg.model.crash import Check
from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan.level import FULL, USER_PAGES, choose, damages
from kdump_pkg.run import SystemRunner
from tests.lab import packages
from tests.lab.root import open_root
from tests.vm.tasklist import tasks

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(importlib.util.find_spec("drgn") is None, reason="drgn is not installed: pip install drgn"),
]
LEAST = 40  # tasks of even the smallest system


def check(root: Path, vmcore: Path, makedumpfile: str) -> dict[str, Check]:
    """What `verify` says of it, as it lies among the dumps of a machine.

    Which of the tail pages look like user pages is chance. With types also what shares its pages with a task is looked
    at, and a seventh of all those is hit.
    """
    release = packages.release("7.2")
    home, modules = root / "var/crash/2026-11-23T07-46-54Z-lab", root / f"usr/lib/modules/{release}"
    for directory in (home, modules):
        directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(packages.vmlinuz("7.2"), modules / "vmlinuz")
    shutil.copy(vmcore, home / "vmcore")
    (home / "meta").write_text(f"format=1\nmakedumpfile={makedumpfile}\nresult=complete\n")
    info = diskdump.read(home / "vmcore").info
    where = f"/var/crash/{home.name}"
    entry = Entry(home.name, where, "kdump-pkg", 0, release, "complete", vmcore=f"{where}/vmcore")
    ctx = Context(root)
    vmlinux.ensure(ctx, release, info.build_id)
    return {one.name: one for one in verification.verify(ctx, entry).checks}


def test_the_chosen_level_keeps_what_is_needed(unfiltered: Path, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(vmlinuz.unpack(packages.vmlinuz("7.2"), SystemRunner()))
    everything = tasks(unfiltered, kernel)
    assert len(everything) >= LEAST
    assert everything[0].startswith("swapper")
    with open_root(generator="dracut") as root:
        version = root.versions()["makedumpfile"]
        level = choose("auto", (packages.release("7.2"),), version)
        shutil.copy(unfiltered, root.path / "root/all")
        for number in dict.fromkeys((level.value, FULL)):
            root.run(["makedumpfile", "-z", "-d", str(number), "/root/all", f"/root/{number}"])
        assert tasks(root.path / f"root/{level.value}", kernel) == everything
        assert level.value in (FULL, FULL & ~USER_PAGES)  # 31 once the lab has a mended makedumpfile
        assert check(tmp_path, root.path / f"root/{level.value}", version)["tasks"].state == "ok"
        full = check(tmp_path, root.path / f"root/{FULL}", version)
        assert full["structure"].state == "ok", "it looks whole"
        if damages(packages.release("7.2"), version, FULL):
            text = full["tasks"].text
            assert full["tasks"].state == "bad", "one in a thousand comes off unharmed"
            assert text.startswith(f"damaged by makedumpfile {version.split('-')[0]}: of Linux 7.1 and later"), text
            assert "Excluded page" in text, text
