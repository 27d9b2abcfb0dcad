"""The whole loop on a real root: pacman installs, the machine boots and arms itself, panics, saves, boots again.

Nothing of the rehearsal is in here: the load is done by kdump.service in the booted system.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab import packages, vm
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = pytest.mark.vm

REPO = Path(__file__).resolve().parents[2]
PARTS = {"capture-dmesg.txt", "dmesg.txt", "meta", "save.log", "vmcore"}

# Crashes once kdump.service has armed the machine, and only in the first boot; in the second it reports instead.
SCRIPT = """#!/bin/sh
exec >/dev/ttyS0 2>&1
set -- /var/crash/*/meta
if [ -e "$1" ]; then
    echo "loop: second boot"
    kdump-pkg status
    echo "loop: status $?"
    poweroff -f
fi
echo "loop: loaded $(cat /sys/kernel/kexec/crash_loaded /sys/kernel/kexec_crash_loaded 2>/dev/null | head -n 1)"
kdump-pkg status
echo "loop: status $?"
kdump-pkg unload && kdump-pkg load && echo "loop: unloaded and loaded again"
sync
echo c >/proc/sysrq-trigger
"""


def install(root: ArchRoot, series: packages.Series) -> str:
    root.pacman("-U", packages.kernel(series), packages.kdump_pkg(REPO))
    root.run_at_boot(SCRIPT)
    return packages.release(series)


def test_install_boot_panic_dump_boot(tmp_path: Path) -> None:
    with open_root(generator=default_generator()) as root:
        release = install(root, "7.2")
        disk = vm.disk_from_root(root.path, tmp_path / "disk.img", uuid=ROOT_UUID, size="4G")
        kernel, initrd = root.path / "boot/vmlinuz-linux", root.path / "boot/initramfs-linux.img"
        if not kernel.exists():
            kernel = root.path / f"usr/lib/modules/{release}/vmlinuz"
        append = f"root=UUID={ROOT_UUID} rw crashkernel=256M console=ttyS0 mitigations=off systemd.show_status=no"
        first = vm.boot(kernel=kernel, initrd=initrd, append=append, disk=disk, timeout=900)
        assert "loop: loaded 1" in first.console, first.console[-4000:]
        assert "armed: a crash now would be saved to /var/crash" in first.console
        assert "loop: status 0" in first.console
        assert "loop: unloaded and loaded again" in first.console
        assert re.search(r"kdump-save: saved .* result=complete", first.console), first.console[-4000:]
        assert not first.timed_out, "the capture kernel reboots by itself"
        (name,) = vm.list_dir(disk, "/var/crash")
        assert name.endswith(f"-{release}")
        assert set(vm.list_dir(disk, f"/var/crash/{name}")) == PARTS
        dmesg = vm.read_file(disk, f"/var/crash/{name}/dmesg.txt").decode(errors="replace")
        assert "Kernel panic - not syncing: sysrq triggered crash" in dmesg
        meta = vm.read_file(disk, f"/var/crash/{name}/meta").decode()
        assert f"release={release}\n" in meta
        assert "result=complete\n" in meta
        second = vm.boot(kernel=kernel, initrd=initrd, append=append, disk=disk, timeout=900)
        assert "loop: second boot" in second.console, second.console[-4000:]
        assert second.console.count("loop: status 0") == 1, "armed again, with nothing to do by hand"
