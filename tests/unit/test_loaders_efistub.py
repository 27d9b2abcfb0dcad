"""EFI stub: the firmware's own entry, which is never changed by us, and scripts of the UEFI shell."""

from __future__ import annotations

from typing import Any

import pytest

from kdump_pkg.loaders import edit, efistub
from kdump_pkg.model.bootloader import Loader
from tests.corpus import Files, surroundings

KERNEL = {"number": "0003", "label": "Arch", "file": "/EFI/arch/vmlinuz-linux", "partuuid": "aa-bb", "partition": 1}


def read(files: dict[str, bytes] | None = None, **around: Any) -> Loader | None:
    return efistub.read(Files(files or {}), surroundings({"roots": ["/dev/vda2"]} | around))


def nvram(arguments: str, device: str = "", path: str = "/boot") -> Loader:
    place = {"path": path, "kind": "esp", "device": device}
    loader = read({f"{path}/EFI/arch/vmlinuz-linux": b"MZ"}, places=[place], entry=KERNEL | {"arguments": arguments})
    assert loader and loader.booted and loader.problem is None
    return loader


@pytest.mark.parametrize(
    ("device", "disk"),
    [
        ("/dev/vda1", "/dev/vda"),
        ("/dev/nvme0n1p2", "/dev/nvme0n1"),
        ("/dev/mmcblk0p1", "/dev/mmcblk0"),
        ("/dev/mapper/esp", '/dev/"$(lsblk -no PKNAME /dev/disk/by-partuuid/aa-bb)"'),
    ],
)
def test_commands(device: str, disk: str) -> None:
    create, delete = nvram("root=/dev/vda2 rw initrd=\\i.img", device).manual
    assert create == (
        f"efibootmgr --create --disk {disk} --part 1 --label Arch --loader '\\EFI\\arch\\vmlinuz-linux' "
        "--unicode 'root=/dev/vda2 rw initrd=\\i.img {}'"
    )
    assert delete.startswith("efibootmgr --bootnum 0003 --delete-bootnum  # when the new entry has booted")


def test_a_reservation_that_is_there_is_seen_and_goes_from_the_commands() -> None:
    loader = nvram("root=/dev/vda2 crashkernel=192M rw")
    assert edit.present(loader, loader.lines[0]) == ("192M",)
    assert "--unicode 'root=/dev/vda2 rw {}'" in loader.manual[0]


@pytest.mark.parametrize("arguments", ["", "root=/dev/vda2", "root=/dev/vda2 crashkernel=192M"])
def test_nothing_is_ever_written(arguments: str) -> None:
    loader = nvram(arguments)
    assert edit.reserve(loader, ("256M",), replace=True) == ()


SCRIPT = {"/boot/startup.nsh": b"vmlinuz-linux root=/dev/vda2\r\n"}
ESP = [{"path": "/boot", "kind": "esp"}]
SHELL = {"label": "UEFI Shell", "file": "/shellx64.efi"}


def test_a_script_that_the_shell_started() -> None:
    loader = read(SCRIPT, places=ESP, entry=SHELL)
    assert loader and loader.booted and not loader.manual
    assert loader.evidence == "Boot0001 starts the UEFI shell"
    other = read(SCRIPT, places=ESP, loader_info="GRUB 2.12")
    assert other and not other.booted and other.evidence == "/boot/startup.nsh starts a kernel"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("\ufeffvmlinuz-linux root=/dev/vda2\r\n".encode("utf-16-le"), "/boot/startup.nsh is in UTF-16; add"),
        (b"echo hello\r\n", "/boot/startup.nsh starts no kernel; put the kernel and its command line there"),
    ],
)
def test_a_script_that_cannot_be_changed(data: bytes, problem: str) -> None:
    loader = read({"/boot/startup.nsh": data}, places=ESP, entry=SHELL)
    assert loader and (loader.problem or "").startswith(problem)
    assert read({"/boot/startup.nsh": data}, places=ESP) is None


@pytest.mark.parametrize(
    "around",
    [{}, {"entry": KERNEL, "stub_info": "systemd-stub 257"}, {"entry": {"file": "/EFI/GRUB/grubx64.efi"}}],
)
def test_not_here(around: dict[str, Any]) -> None:
    assert read(**around) is None
