"""Programs of which busybox's shell has an applet that does less: called by their path, it takes the real ones."""

from __future__ import annotations

import pytest

from tests.shell.machine import Machine, target

PARTITION = "PARTUUID=55555555-6666-7777-8888-999999999999"


def program(machine: Machine, name: str, body: str = "") -> None:
    text = f'#!/bin/sh\necho "real {name} $*" >>"$KDUMP_ROOT/calls"\n{body}\n'
    machine.write(f"usr/bin/{name}", text).chmod(0o755)


def test_partitions_are_found_by_findfs_itself(machine: Machine) -> None:
    machine.write("dev/vda7", "")
    program(machine, "findfs", f"echo {machine.root}/dev/vda7")
    machine.capture(**target(1, DEVICE=PARTITION))
    assert machine.meta()["result"] == "complete"
    assert machine.calls("findfs") == []


@pytest.mark.parametrize("flavour", ["udev", "systemd"])
def test_modules_are_loaded_before_anybody_asks_for_them(machine: Machine, flavour: str) -> None:
    program(machine, "modprobe")
    machine.capture(KDUMP_FLAVOUR=flavour, KDUMP_MODULES="md_mod raid1? xfs")
    assert machine.calls("real") == ["real modprobe -qa md_mod raid1 xfs"]
    assert machine.meta()["result"] == "complete"


@pytest.mark.parametrize("changes", [{"KDUMP_FLAVOUR": "direct"}, {"KDUMP_FLAVOUR": "udev", "KDUMP_MODULES": ""}])
def test_no_modules_no_modprobe(machine: Machine, changes: dict[str, str]) -> None:
    program(machine, "modprobe")
    machine.capture(**changes)
    assert machine.calls("real") == []
    assert machine.meta()["result"] == "complete"
