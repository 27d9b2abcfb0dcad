"""hooks/kdump-init: /init of the `direct` image, and the two hooks that hand over to kdump-save."""

from __future__ import annotations

import pytest

from tests.shell.machine import Machine

SAVE = '#!/bin/sh\necho "save $*" >>"$KDUMP_ROOT/calls"\n'


@pytest.fixture
def booted(machine: Machine) -> Machine:
    """A machine in the `direct` image."""
    machine.write("kdump/insmod", "/usr/lib/modules/r/virtio_blk.ko\n/usr/lib/modules/r/ext4.ko\n")
    machine.write("kdump/save", SAVE).chmod(0o755)
    return machine


def test_mounts_loads_and_saves_in_order(booted: Machine) -> None:
    booted.run("hooks/kdump-init")
    root = booted.root
    assert booted.calls()[:7] == [
        f"mount -t proc proc {root}/proc",
        f"mount -t sysfs sysfs {root}/sys",
        f"mount -t devtmpfs devtmpfs {root}/dev",
        f"mount -t tmpfs tmpfs {root}/run",
        f"insmod {root}/usr/lib/modules/r/virtio_blk.ko",
        f"insmod {root}/usr/lib/modules/r/ext4.ko",
        f"save {root}/kdump/env",
    ]


def test_modules_get_their_parameters(booted: Machine) -> None:
    """Those of the command line, as modprobe would give them; a word that looks like a pattern stays a word."""
    booted.write(
        "proc/cmdline", "quiet ext4.first=1 virtio_blk.a=* dm_ext4.x=1 ext4.=2 ext4 ext4.second=b,c=d nvme_core_x.z=0\n"
    )
    booted.write("kdump/insmod", "/m/virtio_blk.ko\n/m/nvme-core-x.ko.zst\n/m/ext4.ko\n")
    booted.run("hooks/kdump-init")
    root = booted.root
    assert booted.calls("insmod") == [
        f"insmod {root}/m/virtio_blk.ko a=*",
        f"insmod {root}/m/nvme-core-x.ko.zst z=0",
        f"insmod {root}/m/ext4.ko first=1 second=b,c=d",
    ]


def test_goes_on_when_everything_fails(booted: Machine) -> None:
    booted.shims["mount"] = booted.shims["insmod"] = "exit 1"
    booted.run("hooks/kdump-init")
    assert booted.output.splitlines() == [
        "kdump-init: /proc can't be mounted",
        "kdump-init: /sys can't be mounted",
        "kdump-init: /dev can't be mounted",
        "kdump-init: /run can't be mounted",
        "kdump-init: /usr/lib/modules/r/virtio_blk.ko can't be loaded",
        "kdump-init: /usr/lib/modules/r/ext4.ko can't be loaded",
        "kdump-init: kdump-save ended without a reboot",
    ]
    assert f"save {booted.root}/kdump/env" in booted.calls()


@pytest.mark.parametrize("broken", ["kdump/save", "kdump/insmod"])
def test_reboots_when_a_part_is_missing(booted: Machine, broken: str) -> None:
    booted.path(broken).unlink()
    booted.run("hooks/kdump-init")
    assert booted.calls("reboot") == ["reboot -f"]
    assert booted.path("proc/sysrq-trigger").read_text() == "b\n"


def test_booted_without_a_crash(booted: Machine) -> None:
    booted.path("proc/vmcore").unlink()
    booted.run("hooks/kdump-init")
    assert booted.output.splitlines() == [
        "kdump-init: there is no crash to save: this image is only for kdump, the machine restarts in 10 s"
    ]
    assert booted.calls("insmod") == [] and booted.calls("save") == []
    assert booted.calls()[4] == "sleep 10"
    assert booted.calls("reboot") == ["reboot -f"]
