"""`capture = system`: the capture kernel boots the real root with kdump-save.service, which saves and reboots."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab import packages, vm
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = pytest.mark.vm

REPO = Path(__file__).resolve().parents[2]
SERIES: packages.Series = "7.2"
SCRIPT = """#!/bin/sh
exec >/dev/ttyS0 2>&1
kdump-pkg status
echo "system: loaded $(cat /sys/kernel/kexec/crash_loaded /sys/kernel/kexec_crash_loaded 2>/dev/null | head -n 1)"
echo 'MISSING' >>/etc/fstab
sync
echo c >/proc/sysrq-trigger
"""
# A file system that isn't there: local-fs.target fails, and emergency.target wants the machine for itself.
MISSING = "UUID=00000000-1111-2222-3333-444444444444 /missing ext4 defaults,x-systemd.device-timeout=5 0 2"


@contextmanager
def crashing() -> Iterator[ArchRoot]:
    """A root that has armed itself in the transaction, and crashes as soon as it has booted."""
    with open_root(generator=default_generator()) as root:
        (root.path / "etc/kdump-pkg.conf").write_text("capture = system\n")
        root.pacman("-U", packages.kernel(SERIES), packages.kdump_pkg(REPO))
        root.run_at_boot(SCRIPT.replace("MISSING", MISSING))
        yield root


def crash(root: ArchRoot, disk: Path) -> vm.BootResult:
    """One boot of the system as it is, through its crash, to the reboot that ends the capture."""
    append = f"root=UUID={ROOT_UUID} ro crashkernel=256M console=ttyS0 mitigations=off systemd.show_status=no"
    kernel = root.path / f"usr/lib/modules/{packages.release(SERIES)}/vmlinuz"
    vm.disk_from_root(root.path, disk, uuid=ROOT_UUID, size="4G")
    return vm.boot(kernel=kernel, initrd=root.path / "boot/initramfs-linux.img", append=append, disk=disk, timeout=900)


def check(done: vm.BootResult, disk: Path) -> None:
    """The dump is whole, where the running system has its directory, and the machine went down by itself."""
    assert re.search(r"kdump-save: saved .* result=complete", done.console), done.console[-6000:]
    assert not done.timed_out, done.console[-3000:]
    (name,) = vm.list_dir(disk, "/var/crash")
    assert {"dmesg.txt", "meta", "save.log", "vmcore"} <= set(vm.list_dir(disk, f"/var/crash/{name}"))
    meta = vm.read_file(disk, f"/var/crash/{name}/meta").decode()
    assert f"release={packages.release(SERIES)}\n" in meta
    assert "result=complete\n" in meta
    dmesg = vm.read_file(disk, f"/var/crash/{name}/dmesg.txt").decode(errors="replace")
    assert "Kernel panic - not syncing: sysrq triggered crash" in dmesg


def test_the_whole_system_saves_though_a_file_system_is_missing(tmp_path: Path) -> None:
    """One that was there until the crash: emergency.target stops what it can, and the dump is saved all the same."""
    disk = tmp_path / "disk.img"
    with crashing() as root:
        done = crash(root, disk)
    assert "system: loaded 1" in done.console, done.console[-4000:]
    assert re.search(r"Dependency failed for .*missing\.mount", done.console), done.console[-6000:]
    check(done, disk)
