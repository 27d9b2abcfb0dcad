"""systemd-boot and sdboot-manage: what the corpus can't say."""

from __future__ import annotations

from typing import Any

import pytest

from kdump_pkg.loaders import sdboot_manage, systemd_boot
from kdump_pkg.model.bootloader import Loader, Result
from tests.corpus import Files, surroundings

ENTRY = b"linux /vmlinuz-linux\noptions root=/dev/vda2\n"
WINDOWS = b"title Windows\nefi /EFI/Microsoft/Boot/bootmgfw.efi\n"
ESP = {"path": "/boot", "kind": "esp"}
SYSTEMD_BOOT = {"number": "0002", "file": "/EFI/systemd/systemd-bootx64.efi"}


def read(files: dict[str, bytes] | None = None, **around: Any) -> Loader | None:
    files = {"/boot/loader/entries/arch+2-1.conf": ENTRY} if files is None else files
    return systemd_boot.read(Files(files), surroundings({"places": [ESP], "roots": ["/dev/vda2"]} | around))


@pytest.mark.parametrize(
    ("around", "evidence"),
    [
        ({"loader_info": "systemd-boot 257.9"}, "LoaderInfo says systemd-boot 257.9"),
        ({"entry": SYSTEMD_BOOT}, "Boot0002 starts /EFI/systemd/systemd-bootx64.efi"),
        ({"entry": {"file": "/EFI/SYSTEMD/SYSTEMD-BOOTX64.EFI"}}, "Boot0001 starts /EFI/SYSTEMD/SYSTEMD-BOOTX64.EFI"),
        ({"selected": "arch.conf"}, "LoaderEntrySelected says arch.conf"),
        ({"selected": "arch+1-2.conf"}, "LoaderEntrySelected says arch+1-2.conf"),
    ],
)
def test_started_this_system(around: dict[str, Any], evidence: str) -> None:
    loader = read(**around)
    assert loader and loader.booted
    assert loader.evidence == evidence


@pytest.mark.parametrize(
    "around",
    [
        {},
        {"loader_info": "systemd-boot 257.9", "stub_info": "systemd-stub 257.9"},
        {"loader_info": "GRUB 2.12", "entry": SYSTEMD_BOOT},
        {"selected": "other.conf"},
        {"entry": {"file": "/EFI/GRUB/grubx64.efi"}},
    ],
)
def test_is_merely_here(around: dict[str, Any]) -> None:
    loader = read(**around)
    assert loader and not loader.booted
    assert loader.evidence == "loader entries in /boot/loader/entries"


@pytest.mark.parametrize("files", [{}, {"/boot/loader/entries/windows.conf": WINDOWS}])
def test_not_here(files: dict[str, bytes]) -> None:
    assert read(files) is None


def test_started_it_and_there_is_no_entry() -> None:
    loader = read({"/boot/loader/entries/windows.conf": WINDOWS}, loader_info="systemd-boot 257.9")
    assert loader and loader.problem
    assert loader.problem.startswith("no loader entry in /boot/loader/entries starts this system; write one")


def test_a_directory_that_is_no_boot_partition_says_nothing_of_another_one() -> None:
    efi = {"path": "/efi", "kind": "esp", "mounted": False}
    loader = read(places=[efi, ESP])
    assert loader and loader.problem is None


def test_nothing_is_made_for_kernel_install_where_it_takes_the_running_command_line() -> None:
    files = {"/boot/loader/entries/m-6.12.conf": ENTRY}
    loader = read(files, machine_id="m", programs=["kernel-install"])
    assert loader and [file.path for file in loader.files] == ["/boot/loader/entries/m-6.12.conf"]


SDBOOT = {"/boot/loader/loader.conf": b"", "/boot/loader/entries/linux-cachyos.conf": ENTRY}


def test_sdboot_manage_writes_the_entries_anew() -> None:
    around = surroundings({"places": [ESP], "programs": ["sdboot-manage"], "loader_info": "systemd-boot 257.9"})
    loader = sdboot_manage.read(Files(SDBOOT), around)
    assert loader and loader.booted
    assert loader.regenerate == (("sdboot-manage", "gen"),)
    assert loader.results == (Result("/boot/loader/entries", "entries"),)
    assert systemd_boot.read(Files(SDBOOT), around) is None


@pytest.mark.parametrize(
    ("files", "programs"),
    [
        (SDBOOT, []),
        ({"/boot/loader/entries/linux-cachyos.conf": ENTRY}, ["sdboot-manage"]),
        (SDBOOT | {"/etc/sdboot-manage.conf": b"NO_AUTOGEN=yes\n"}, ["sdboot-manage"]),
    ],
)
def test_sdboot_manage_is_not_at_home(files: dict[str, bytes], programs: list[str]) -> None:
    around = surroundings({"places": [ESP], "programs": programs})
    assert sdboot_manage.read(Files(files), around) is None
    assert systemd_boot.read(Files(files), around) is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'REMOVE_EXISTING="yes"\n', None),
        (b"REMOVE_EXISTING=no\nOVERWRITE_EXISTING=yes\n", None),
        (b"OVERWRITE_EXISTING=no\n", None),
        (b"REMOVE_EXISTING=\n", "sdboot-manage keeps the entries that are there; set OVERWRITE_EXISTING"),
    ],
)
def test_sdboot_manage_must_not_keep_entries(text: bytes, problem: str | None) -> None:
    around = surroundings({"places": [ESP], "programs": ["sdboot-manage"]})
    loader = sdboot_manage.read(Files(SDBOOT | {"/etc/sdboot-manage.conf": text}), around)
    assert loader and (loader.problem or "").startswith(problem or "")
    assert bool(loader.problem) == bool(problem)
