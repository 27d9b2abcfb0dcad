"""LUKS by key hand-over, the whole way: a system arms itself, panics, and the capture kernel opens the volume unasked.

The kernel is our own build, see tests/lab/kernel_build.py: `make matrix` makes it, and where it is in the cache this
runs with the others.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab import packages, vm
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(1800),
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
[ -e /dev/mapper/plain ] || cryptsetup open --key-file /etc/key /dev/vdb plain
mount /dev/mapper/plain /mnt
for dump in /mnt/dumps/*; do
    echo "keys: saved $(ls $dump | tr '\\n' ' ')"
    cat $dump/meta
    grep -c 'sysrq triggered crash' $dump/dmesg.txt
    makedumpfile --dump-dmesg -f $dump/vmcore /tmp/out && echo "keys: readable"
done
"""
CRASH = "sync\necho c >/proc/sysrq-trigger\n"
KEY_FILE = f"echo 'plain UUID={LUKS} /etc/key luks' >/etc/crypttab\nkdump-pkg rebuild\n"
TYPED = "kdump-pkg unload\nrm /etc/crypttab\nkdump-pkg rebuild\ntr -d '\\n' </etc/key | kdump-pkg load --unlock\n"
# Each boot takes what follows the one before: a volume is made, one dump is there, there are two.
SCRIPT = f"""#!/bin/sh
exec >/dev/ttyS0 2>&1
set -x
if [ ! -e /root/second ]; then
    touch /root/second
    {MAKE}{KEY_FILE}{SHOW}{CRASH}
elif [ ! -e /root/third ]; then
    touch /root/third
    {READ}{TYPED}{SHOW}{CRASH}
fi
{READ}
umount /mnt
poweroff -f
"""


def install(root: ArchRoot) -> Path:
    """A system that makes the volume, arms itself and crashes; in its next boots it shows what was saved."""
    (root.path / "etc/kdump-pkg.conf").write_text(CONFIG)
    (root.path / "etc/key").write_text("a throwaway passphrase")
    root.pacman("-U", packages.kernel("crypt"), packages.kdump_pkg(REPO))
    root.run_at_boot(SCRIPT, arm=False)
    return packages.vmlinuz("crypt")


def test_the_capture_kernel_opens_the_volume_unasked(tmp_path: Path) -> None:
    """By a key file at the first crash, by a typed passphrase at the second."""
    with open_root(generator=default_generator()) as root:
        kernel = install(root)
        disk = vm.disk_from_root(root.path, tmp_path / "disk.img", uuid=ROOT_UUID, size="4G")
    volume = tmp_path / "volume.img"
    with volume.open("wb") as file:
        file.truncate(1 << 30)
    extra = ["-drive", f"file={volume},format=raw,if=virtio,{vm.DISK_CACHE}"]
    append = "root=/dev/vda rw crashkernel=192M console=ttyS0 systemd.show_status=no"

    def boot(dumps: int, *, crash: bool) -> None:
        """A boot in which so many dumps are there to be read, and one is saved if it crashes."""
        done = vm.boot(kernel=kernel, initrd=None, append=append, disk=disk, timeout=700, extra=extra)
        assert not done.timed_out, done.console[-6000:]
        assert len(re.findall(r"^keys: readable", done.console, re.MULTILINE)) == dumps, done.console[-6000:]
        assert len(re.findall(r"^result=complete", done.console, re.MULTILINE)) == dumps
        saved = re.search(r"kdump-save: saved .* result=complete", done.console)
        assert bool(saved) == crash, done.console[-6000:]
        assert (f'"keys": "{LUKS}"' in done.console) == crash

    boot(0, crash=True)
    boot(1, crash=True)
    boot(2, crash=False)
