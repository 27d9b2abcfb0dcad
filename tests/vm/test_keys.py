"""LUKS by key hand-over, the whole way: a system arms itself, panics, and the capture kernel opens the volume unasked.

The kernel is our own build, see tests/lab/kernel_build.py: `make matrix` makes it, and where it is in the cache these
run with the others.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab import packages, vm
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        not packages.is_made("crypt"), reason="the kernel `crypt` is not in the lab's cache: make matrix builds it"
    ),
]

REPO = Path(__file__).resolve().parents[2]
LUKS, INNER = "7d26b7b4-e342-4d2d-b660-7426b0996720", "0c6f1a4e-3b12-4a55-9d5b-6a3c1b0f9e11"
CONFIG = (
    f"drivers = virtio_pci, virtio_blk\n[target uuid={INNER}]\npath = /dumps\nfstype = ext4\nlayers = crypt:{LUKS}\n"
)
MAKE = f"""
cryptsetup luksFormat --batch-mode --type luks2 --uuid {LUKS} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \\
    --key-file /etc/key /dev/vdb
cryptsetup open --key-file /etc/key /dev/vdb plain
mkfs.ext4 -q -U {INNER} /dev/mapper/plain
mount /dev/mapper/plain /mnt
mkdir /mnt/dumps
"""
SHOW = """
kdump-pkg status
echo "keys: armed with $(grep '"keys"' /run/kdump-pkg/loaded.json)"
grep -c cryptsetup: /proc/keys
ls /sys/kernel/config/crash_dm_crypt_keys
"""
READ = """
cryptsetup open --key-file /etc/key /dev/vdb plain
mount /dev/mapper/plain /mnt
for dump in /mnt/dumps/*; do echo "keys: saved $(ls $dump | tr '\\n' ' ')"; cat $dump/meta; done
grep -c 'sysrq triggered crash' /mnt/dumps/*/dmesg.txt
makedumpfile --dump-dmesg /mnt/dumps/*/vmcore /tmp/out && echo "keys: readable"
umount /mnt
poweroff -f
"""
WAYS = {
    "key file": f"echo 'plain UUID={LUKS} /etc/key luks' >/etc/crypttab\nkdump-pkg rebuild",
    "typed": "kdump-pkg rebuild\ntr -d '\\n' </etc/key | kdump-pkg load --unlock",
}
UNIT = """[Unit]
After=kdump.service
[Service]
Type=oneshot
ExecStart=/usr/local/bin/crash-once
[Install]
WantedBy=multi-user.target
"""


def install(root: ArchRoot, way: str) -> Path:
    """A system that makes the volume, arms itself and crashes; in its next boot it shows what was saved."""
    (root.path / "etc/kdump-pkg.conf").write_text(CONFIG)
    (root.path / "etc/key").write_text("a throwaway passphrase")
    root.pacman("-U", packages.kernel("crypt"), packages.kdump_pkg(REPO))
    script = root.path / "usr/local/bin/crash-once"
    script.parent.mkdir(parents=True, exist_ok=True)
    crash = f"{MAKE}\n{WAYS[way]}\n{SHOW}\nsync\necho c >/proc/sysrq-trigger\n"
    head = "#!/bin/sh\nexec >/dev/ttyS0 2>&1\nset -x\n"
    script.write_text(f"{head}if cryptsetup isLuks /dev/vdb; then\n{READ}fi\n{crash}")
    script.chmod(0o755)
    (root.path / "etc/systemd/system/crash-once.service").write_text(UNIT)
    root.run(["systemctl", "enable", "crash-once.service"])
    root.run(["systemctl", "mask", "serial-getty@ttyS0.service"])  # it would hang up our terminal
    return packages.vmlinuz("crypt")


@pytest.mark.parametrize("way", WAYS)
def test_the_capture_kernel_opens_the_volume_unasked(way: str, tmp_path: Path) -> None:
    with open_root(generator=default_generator()) as root:
        kernel = install(root, way)
        disk = vm.disk_from_root(root.path, tmp_path / "disk.img", uuid=ROOT_UUID, size="4G")
    volume = tmp_path / "volume.img"
    with volume.open("wb") as file:
        file.truncate(1 << 30)
    extra = ["-drive", f"file={volume},format=raw,if=virtio,{vm.DISK_CACHE}"]
    append = "root=/dev/vda rw crashkernel=192M console=ttyS0 systemd.show_status=no"
    first = vm.boot(kernel=kernel, initrd=None, append=append, disk=disk, timeout=900, extra=extra)
    assert f'"keys": "{LUKS}"' in first.console, first.console[-6000:]
    assert re.search(r"kdump-save: saved .* result=complete", first.console), first.console[-6000:]
    assert not first.timed_out
    second = vm.boot(kernel=kernel, initrd=None, append=append, disk=disk, timeout=600, extra=extra)
    assert "keys: readable" in second.console, second.console[-6000:]
    assert "result=complete" in second.console
