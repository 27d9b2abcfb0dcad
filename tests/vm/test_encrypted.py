"""A dump that leaves the capture encrypted: who has the key opens it, nobody else reads a word of it."""

from __future__ import annotations

import importlib.util
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.facts import vmlinuz
from kdump_pkg.run import SystemRunner
from tests.lab import crash, packages
from tests.lab.crash import SMALL
from tests.lab.root import ArchRoot, default_generator
from tests.vm.tasklist import tasks

pytestmark = pytest.mark.vm

CRASH = b"Kernel panic - not syncing: sysrq triggered crash"
CLEAR = {"meta", "save.log"}
SEALED = {"dmesg.txt.age", "vmcore.age", "capture-dmesg.txt.age"}
OPENED = {name.removesuffix(".age") for name in SEALED}
LEAST = 40  # tasks of even the smallest system


def make_key(root: ArchRoot, name: str) -> str:
    """A private key in /root; its public one is the answer."""
    text = root.run(["age-keygen"]).stdout
    (root.path / "root" / name).write_text(text)
    found = re.search(r"age1\w{58}", text)
    assert found, text
    return found[0]


def test_only_the_private_key_opens_it(lab: None, tmp_path: Path) -> None:
    with crash.machine(default_generator(), "6.12") as machine:
        root = machine.root
        public, _ = make_key(root, "right"), make_key(root, "wrong")
        machine.arm(f"encrypt_to = {public}\n")
        kept = tmp_path / "kept"
        verdict = machine.crash(replace(SMALL, keep=kept))
        assert verdict.captured, verdict.reason
        assert {file.name for file in verdict.dump} == CLEAR | SEALED
        assert verdict.directory is not None
        there = root.path / "var/crash" / verdict.directory
        shutil.copytree(kept / "targets/1/var/crash" / verdict.directory, there)
        for file in there.iterdir():
            assert CRASH not in file.read_bytes(), f"{file.name} has the log in clear"
        blind = root.run(
            ["makedumpfile", "--dump-dmesg", f"/var/crash/{there.name}/vmcore.age", "/root/log"], check=False
        )
        assert blind.returncode != 0

        refused = root.run(["kdump-pkg", "decrypt", "--identity", "/root/wrong"], check=False)
        assert refused.returncode == 1
        assert len(refused.stderr.strip().splitlines()) == 1, refused.stderr
        assert "not encrypted for this key" in refused.stderr
        assert {file.name for file in there.iterdir()} == CLEAR | SEALED

        root.run(["kdump-pkg", "decrypt", "--identity", "/root/right"])
        assert {file.name for file in there.iterdir()} == CLEAR | SEALED | OPENED
        assert CRASH in (there / "dmesg.txt").read_bytes()
        root.run(["makedumpfile", "--dump-dmesg", f"/var/crash/{there.name}/vmcore", "/root/log"])
        assert CRASH in (root.path / "root/log").read_bytes()
        read_tasks(there / "vmcore", tmp_path / "vmlinux")


def read_tasks(vmcore: Path, kernel: Path) -> None:
    """What debugging needs is in it, where drgn is here to look."""
    if importlib.util.find_spec("drgn") is None:
        pytest.skip("drgn is not installed (pip install drgn): all but the reading of the tasks was checked")
    kernel.write_bytes(vmlinuz.unpack(packages.vmlinuz("6.12"), SystemRunner()))
    found = tasks(vmcore, kernel)
    assert len(found) >= LEAST
    assert found[0].startswith("swapper")
