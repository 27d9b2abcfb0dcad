"""The dump level that is chosen for Linux 7.1 and later with makedumpfile up to 1.7.9, shown to be safe by reading."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from kdump_pkg.facts import vmlinuz
from kdump_pkg.plan.level import FULL, USER_PAGES, choose
from kdump_pkg.run import SystemRunner
from tests.lab import packages
from tests.lab.root import open_root
from tests.vm.tasklist import tasks

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(importlib.util.find_spec("drgn") is None, reason="drgn is not installed: pip install drgn"),
]
LEAST = 40  # tasks of even the smallest system


def harm(vmcore: Path, kernel: Path) -> str:
    """What was lost; which of the tail pages look like user pages is chance, so some dumps come off unharmed."""
    import drgn

    try:
        return f"{len(tasks(vmcore, kernel))} tasks can be read"
    except drgn.FaultError as error:
        return str(error)


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
        print(f"level {FULL} on this dump: {harm(root.path / f'root/{FULL}', kernel)}")  # noqa: T201 - for -s
