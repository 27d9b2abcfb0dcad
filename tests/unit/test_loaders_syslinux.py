"""Syslinux: who booted, which configuration counts. What is edited is in tests/bootloaders."""

from __future__ import annotations

import pytest

from kdump_pkg.loaders import edit, syslinux
from kdump_pkg.model.bootloader import Firmware, Loader, NvramEntry, Place, Surroundings
from tests.corpus import Files

CFG = b"LABEL arch\n  LINUX ../vmlinuz-linux\n  APPEND root=/dev/vda2 rw\n"
MAIN = "/boot/syslinux/syslinux.cfg"

NOWHERE = Surroundings()


def read(files: dict[str, bytes], around: Surroundings = NOWHERE) -> Loader:
    found = syslinux.read(Files(files), around)
    assert found is not None
    return found


def test_not_here_at_all() -> None:
    assert syslinux.read(Files({"/boot/syslinux/ldlinux.sys": b""}), Surroundings()) is None


@pytest.mark.parametrize(
    ("cmdline", "firmware", "evidence"),
    [
        ("BOOT_IMAGE=../vmlinuz-linux root=/dev/vda2", Firmware(), "BOOT_IMAGE=../vmlinuz-linux, which is in " + MAIN),
        ("BOOT_IMAGE=/vmlinuz-linux root=/dev/vda2", Firmware(), None),
        ("root=/dev/vda2", Firmware(), None),
        (None, Firmware(), None),
        (None, Firmware(entry=NvramEntry("0002", "x", "/EFI/syslinux/syslinux.efi")), "Boot0002 starts"),
        ("BOOT_IMAGE=../vmlinuz-linux", Firmware(loader_info="GRUB 2.12"), None),
        ("BOOT_IMAGE=../vmlinuz-linux", Firmware(stub_info="systemd-stub 257"), None),
    ],
)
def test_booted_says_why(cmdline: str | None, firmware: Firmware, evidence: str | None) -> None:
    loader = read({MAIN: CFG}, Surroundings(live=True, cmdline=cmdline, firmware=firmware))
    assert loader.booted == (evidence is not None)
    assert (evidence or f"{MAIN} is there") in loader.evidence
    assert not read({MAIN: CFG}, Surroundings(cmdline=cmdline, firmware=firmware)).booted


def test_nothing_is_generated() -> None:
    loader = read({MAIN: CFG})
    assert (loader.regenerate, loader.results, loader.problem) == ((), (), None)


@pytest.mark.parametrize(
    "path", ["/boot/extlinux/extlinux.conf", "/boot/EFI/syslinux/syslinux.cfg", "/esp/syslinux/syslinux.cfg"]
)
def test_places(path: str) -> None:
    assert read({path: CFG}, Surroundings(places=(Place("/esp", "esp"),))).files[0].path == path


def test_includes_that_go_in_circles_end() -> None:
    files = {
        MAIN: b"INCLUDE a.cfg\nINCLUDE gone.cfg\n" + CFG,
        "/boot/syslinux/a.cfg": b"INCLUDE ./../syslinux/syslinux.cfg\n",
    }
    loader = read(files)
    assert [line.entry for line in loader.lines] == ["arch"]
    assert {file.path for file in loader.files} == set(files)


def test_a_read_only_place_is_a_problem() -> None:
    loader = read({MAIN: CFG}, Surroundings(places=(Place("/boot", "esp", readonly=True),)))
    assert "mount -o remount,rw /boot" in (loader.problem or "")


@pytest.mark.parametrize(
    ("kernel", "linux"),
    [
        ("LINUX ../vmlinuz-linux", True), ("KERNEL vmlinuz", True), ("kernel memdisk", True), ("LINUX x.bin", True),
        ("KERNEL chain.c32", False), ("KERNEL x.bin", False), ("COM32 menu.c32", False), ("LOCALBOOT 0", False),
        ("LINUX /memtest86+/memtest", False), ("CONFIG other.cfg", False), ("MENU EXIT", False),
    ],
)  # fmt: skip
def test_kinds_of_kernels(kernel: str, linux: bool) -> None:
    loader = read({MAIN: f"LABEL x\n  {kernel}\n  APPEND rw\n".encode()})
    assert len(edit.own_lines(loader)) == linux
