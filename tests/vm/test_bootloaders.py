"""Boot loaders for real: UEFI firmware starts what `setup` has edited, and the memory is reserved; undone, it isn't.

What a kernel prints and sysfs say is reported by an initramfs of a few files. GRUB is in test_crash_on_purpose, for its
programs need a real disk under them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.facts.efi import read_firmware
from kdump_pkg.loaders import Reader, systemd_boot, uki
from kdump_pkg.model.bootloader import Firmware, Place, Preset, Surroundings
from tests.lab import crash, packages, vm
from tests.lab.bootloaders import changed, contents, embedded
from tests.lab.fixtures import WITHOUT_MKINITCPIO
from tests.lab.recipe import MACHINE_ID
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, mkinitcpio_prefix

pytestmark = [pytest.mark.vm, pytest.mark.skipif(not vm.has_firmware(), reason=vm.WITHOUT_FIRMWARE)]

REPO = Path(__file__).resolve().parents[2]
SERIES: packages.Series = "6.12"
MIB = 1 << 20
ROOT = f"root=UUID={ROOT_UUID} rw"
IMAGE = "/boot/EFI/Linux/arch-linux.efi"
BOOTX64 = "EFI/BOOT/BOOTX64.EFI"
MODULE = "efivarfs.ko"
REPORT = rf"""#!/bin/busybox sh
export PATH=/bin
[ -e /bin/mount ] || /bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
echo "report: cmdline $(cat /proc/cmdline)"
echo "report: reserved $(cat /sys/kernel/kexec/crash_size /sys/kernel/kexec_crash_size 2>/dev/null | head -n 1)"
insmod /{MODULE}
mount -t efivarfs efivarfs /sys/firmware/efi/efivars
cd /sys/firmware/efi/efivars
for name in Loader[DEI]* Stub* Se* Boot*; do
    [ ! -e "$name" ] || echo "report: variable $name $(hexdump -v -e '1/1 "%02x"' "$name")"
done
echo "report: end"
poweroff -f
"""
ENTRY = f"""# the system's own
title   Arch Linux
linux   /vmlinuz-linux
initrd  /initramfs-report.img
options {ROOT} quiet
options console=ttyS0 mitigations=off
"""
OTHER = f"""title   Another system
linux   /vmlinuz-linux
initrd  /initramfs-report.img
options {ROOT.replace(ROOT_UUID, "00000000-1111-2222-3333-444444444444")} quiet"""
PRESET = f"""ALL_kver="/boot/vmlinuz-linux"
ALL_config="/etc/mkinitcpio-report.conf"
PRESETS=('default')
default_uki="{IMAGE}"
"""


@dataclass(frozen=True)
class Started:
    """What a boot reported."""

    cmdline: str
    reserved: int
    firmware: Firmware


@pytest.fixture
def root(lab: None) -> Iterator[ArchRoot]:
    """One in which the kernel and kdump-pkg are installed."""
    with crash.machine(default_generator(), SERIES) as machine:
        yield machine.root


@pytest.fixture
def start(root: ArchRoot, tmp_path: Path) -> Callable[[], Started]:
    """Boots the root's /boot as the EFI system partition; the firmware keeps its variables from one to the next."""

    def boot() -> Started:
        esp, kernel = root.path / "boot", packages.vmlinuz(SERIES)
        done = vm.boot_esp(esp, tmp_path / "variables.fd", kernel, until=re.compile("report: end"))
        said = dict(re.findall(r"^report: (cmdline|reserved) (.*)$", done.console, re.MULTILINE))
        assert said.keys() == {"cmdline", "reserved"}, done.console[-3000:]
        variables = re.findall(r"^report: variable (\S+) ([0-9a-f]+)$", done.console, re.MULTILINE)
        return Started(said["cmdline"], int(said["reserved"]), firmware(tmp_path / "efi", dict(variables)))

    return boot


def firmware(home: Path, variables: dict[str, str]) -> Firmware:
    """What our own reading makes of the variables of that boot."""
    shutil.rmtree(home, ignore_errors=True)
    place = home / "sys/firmware/efi/efivars"
    place.mkdir(parents=True)
    for name, data in variables.items():
        (place / name).write_bytes(bytes.fromhex(data))
    return read_firmware(Context(root=home))


def module() -> bytes:
    (packed,) = packages.vmlinuz(SERIES).parent.rglob(f"{MODULE}.zst")
    return vm.unpack_module(packed)


def recognised(reader: Reader, root: ArchRoot, boot: Started, *presets: Preset) -> bool:
    """Whether this boot loader is taken for the one that this boot came through."""
    around = Surroundings(
        live=True,
        cmdline=boot.cmdline,
        roots=frozenset({f"UUID={ROOT_UUID}"}),
        machine_id=MACHINE_ID,
        places=(Place("/boot", "esp", "/dev/vda1"),),
        firmware=boot.firmware,
        presets=presets,
        programs=frozenset({"mkinitcpio"}),
    )
    loader = reader(Context(root=root.path), around)
    return loader is not None and loader.booted


def from_outside(root: ArchRoot, *words: str) -> str:
    """The command of the work tree, on a root that doesn't run."""
    argv = [sys.executable, "-m", "kdump_pkg", "setup", "--yes", "--root", str(root.path), *words]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_boot(root: ArchRoot, start: Callable[[], Started]) -> None:
    """The entry that starts this system gets the parameter, another's stays; firmware, boot loader and kernel agree."""
    esp = root.path / "boot"
    (esp / "loader/entries").mkdir(parents=True)
    (esp / BOOTX64).parent.mkdir(parents=True)
    shutil.copy(root.path / "usr/lib/systemd/boot/efi/systemd-bootx64.efi", esp / BOOTX64)
    (esp / "loader/loader.conf").write_text("timeout 0\ndefault arch.conf\n")
    (esp / "loader/entries/arch.conf").write_bytes(ENTRY.replace("\n", "\r\n").encode())
    (esp / "loader/entries/other.conf").write_text(OTHER)
    vm.tiny_initramfs(REPORT, esp / "initramfs-report.img", {MODULE: module()})
    before = contents(root)

    from_outside(root, "--loader", "systemd-boot", "--crashkernel", "128M")
    after = contents(root)
    entry = "/boot/loader/entries/arch.conf"
    assert {name for name in changed(before, after) if name.startswith("/boot/")} == {entry}
    assert after[entry] == ENTRY.replace("off\n", "off crashkernel=128M\n").replace("\n", "\r\n").encode()
    boot = start()
    assert boot.cmdline.endswith(f"{ROOT} quiet console=ttyS0 mitigations=off crashkernel=128M")
    assert boot.reserved == 128 * MIB
    assert boot.firmware.loader_info.startswith("systemd-boot ")
    assert (boot.firmware.selected, boot.firmware.stub_info, boot.firmware.secure_boot) == ("arch.conf", "", False)
    assert recognised(systemd_boot.read, root, boot)

    from_outside(root, "--undo")
    assert changed(before, contents(root)) == set()
    boot = start()
    assert "crashkernel" not in boot.cmdline
    assert boot.reserved == 0


def test_unified_kernel_image(root: ArchRoot, start: Callable[[], Started], tmp_path: Path) -> None:
    """Made by mkinitcpio's preset from /etc/kernel/cmdline, started by the firmware itself."""
    if mkinitcpio_prefix() is None:
        pytest.skip(WITHOUT_MKINITCPIO)
    image = root.path / IMAGE.lstrip("/")
    image.parent.mkdir(parents=True)
    (root.path / "etc/mkinitcpio.d/linux.preset").write_text(PRESET)
    conf = f"MODULES=()\nBINARIES=()\nFILES=(/report /{MODULE})\nHOOKS=(base)\nCOMPRESSION=zstd\n"
    (root.path / "etc/mkinitcpio-report.conf").write_text(conf)
    (root.path / "report").write_text(REPORT)
    (root.path / "report").chmod(0o755)
    (root.path / MODULE).write_bytes(module())
    cmdline = f"{ROOT} quiet console=ttyS0 mitigations=off rdinit=/report"
    (root.path / "etc/kernel").mkdir(parents=True, exist_ok=True)
    (root.path / "etc/kernel/cmdline").write_text(cmdline)  # without a line's end
    root.run(["mkinitcpio", "-p", "linux"])
    before = contents(root)
    assert embedded(root, IMAGE) == cmdline

    root.run(["kdump-pkg", "setup", "--yes", "--crashkernel", "144M"])
    assert (root.path / "etc/kernel/cmdline").read_text() == f"{cmdline} crashkernel=144M"
    assert embedded(root, IMAGE) == f"{cmdline} crashkernel=144M"
    boot = with_image(image, start)
    assert boot.cmdline == f"{cmdline} crashkernel=144M"
    assert boot.reserved == 144 * MIB
    assert boot.firmware.stub_info.startswith("systemd-stub ")
    preset = Preset("/etc/mkinitcpio.d/linux.preset", "default", IMAGE)
    assert recognised(uki.read, root, boot, preset)
    assert not recognised(systemd_boot.read, root, boot)

    root.run(["kdump-pkg", "setup", "--undo", "--yes"])
    assert changed(before, contents(root)) <= {IMAGE}, "an image is made anew"
    assert embedded(root, IMAGE) == cmdline
    boot = with_image(image, start)
    assert boot.cmdline == cmdline
    assert boot.reserved == 0


def with_image(image: Path, start: Callable[[], Started]) -> Started:
    """The firmware finds it under the one name that it looks for by itself."""
    home = image.parents[2] / BOOTX64
    home.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(image, home)
    try:
        return start()
    finally:
        shutil.rmtree(home.parent)
