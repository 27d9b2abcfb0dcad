"""Limine, and limine-entry-tool: what the corpus can't say."""

from __future__ import annotations

from typing import Any

import pytest

from kdump_pkg.loaders import edit, limine, limine_entry_tool
from kdump_pkg.loaders.limine import SIGNATURE
from kdump_pkg.model.bootloader import Loader, Result
from tests.corpus import Files, surroundings

ESP = {"path": "/boot", "kind": "esp"}
CONF = b"/Arch\nprotocol: linux\npath: boot():/vmlinuz-linux\ncmdline: root=/dev/vda2\n"
UKI = b"/Arch\nprotocol: efi\npath: boot():/EFI/Linux/arch.efi\n"
ZEROS = b"MZ..." + SIGNATURE + b"0" * 128 + b"..."
ENROLLED = b"MZ..." + SIGNATURE + b"0" * 64 + b"7e" * 32 + b"..."


def read(files: dict[str, bytes] | None = None, **around: Any) -> Loader | None:
    files = {"/boot/limine.conf": CONF} if files is None else files
    return limine.read(Files(files), surroundings({"places": [ESP], "roots": ["/dev/vda2"]} | around))


@pytest.mark.parametrize(
    ("around", "evidence"),
    [
        ({"loader_info": "Limine 10.3.0"}, "LoaderInfo says Limine 10.3.0"),
        ({"entry": {"file": "/EFI/limine/BOOTX64.EFI"}}, "Boot0001 starts /EFI/limine/BOOTX64.EFI"),
        ({"entry": {"file": "/EFI/BOOT/LIMINE_X64.EFI"}}, "Boot0001 starts /EFI/BOOT/LIMINE_X64.EFI"),
    ],
)
def test_started_this_system(around: dict[str, Any], evidence: str) -> None:
    loader = read(**around)
    assert loader and loader.booted and loader.evidence == evidence


@pytest.mark.parametrize("around", [{}, {"loader_info": "systemd-boot 257", "entry": {"file": "/EFI/limine/l.efi"}}])
def test_is_merely_here(around: dict[str, Any]) -> None:
    loader = read(**around)
    assert loader and not loader.booted and loader.evidence == "there is /boot/limine.conf"


def test_not_here() -> None:
    assert read({}) is None
    assert read({"/boot/limine.conf": UKI}) is None


def test_an_image_that_it_started_has_its_own_command_line() -> None:
    given = {"loader_info": "Limine 10.3.0", "stub_info": "systemd-stub 257.9"}
    assert read({"/boot/limine.conf": UKI}, **given) is None
    assert read({"/boot/limine.conf": UKI + b"cmdline: root=/dev/vda2\n"}, **given) is not None


@pytest.mark.parametrize(
    ("files", "places", "problem"),
    [
        ({"/boot/limine.conf": UKI}, [ESP], "no entry in /boot/limine.conf starts this system; write one"),
        ({}, [ESP], "Limine has no limine.conf below /boot; mount the partition that has it"),
        ({}, [ESP | {"mounted": False}], "/boot is not mounted; mount /boot"),
    ],
)
def test_started_it_and_there_is_no_entry(files: dict[str, bytes], places: list[Any], problem: str) -> None:
    loader = read(files, places=places, loader_info="Limine 10.3.0")
    assert loader and (loader.problem or "").startswith(problem)


@pytest.mark.parametrize("name", ["EFI/limine/limine_x64.efi", "EFI/BOOT/BOOTX64.EFI", "limine-bios.sys"])
def test_a_file_whose_checksum_it_knows_is_left_alone(name: str) -> None:
    """It doesn't start with another one."""
    loader = read({"/boot/limine.conf": CONF, f"/boot/{name}": ENROLLED})
    assert loader and loader.problem
    assert loader.problem.startswith(f"/boot/{name} takes limine.conf by its checksum; change it by hand")
    assert edit.reserve(loader, ("256M",)) == ()
    free = read({"/boot/limine.conf": CONF, f"/boot/{name}": ZEROS, "/boot/EFI/limine/other.bin": ENROLLED})
    assert free and free.problem is None


TOOL = {"/boot/limine.conf": b"/+Arch\n", "/etc/default/limine": b'KERNEL_CMDLINE[default]="root=/dev/vda2"\n'}


def tool(files: dict[str, bytes], **around: Any) -> Loader | None:
    known = {"places": [ESP], "programs": ["limine-mkinitcpio", "limine-update"]} | around
    return limine_entry_tool.read(Files(files), surroundings(known))


def test_limine_entry_tool_writes_limine_conf_anew() -> None:
    loader = tool(TOOL, loader_info="Limine 10.3.0")
    assert loader and loader.booted and loader.problem is None
    assert loader.regenerate == (("limine-update",),)
    assert loader.results == (Result("/boot/limine.conf", "limine"),)
    assert read(TOOL, programs=["limine-update"], loader_info="Limine 10.3.0") is None
    other = tool(TOOL, programs=["limine-mkinitcpio"])
    assert other and not other.booted and other.regenerate == (("limine-mkinitcpio",),)


def test_limine_entry_tool_is_not_at_home() -> None:
    assert tool(TOOL, programs=["limine-entry-tool"]) is None
    assert tool({**TOOL, "/etc/limine-entry-tool.d/esp.conf": b'ESP_PATH="/efi"\n'}) is None
    there = {"/efi/limine.conf": b"", "/etc/limine-entry-tool.conf": b" ESP_PATH = /efi/ \n"}
    loader = tool(there | {"/etc/default/limine": TOOL["/etc/default/limine"]})
    assert loader and loader.results == (Result("/efi/limine.conf", "limine"),)


def test_what_is_appended_comes_first() -> None:
    """So limine-entry-tool does it; of two reservations the one that the kernel sees last counts."""
    text = b'KERNEL_CMDLINE[default]="crashkernel=1M"\nKERNEL_CMDLINE[default]+="crashkernel=2M"\n'
    loader = tool({**TOOL, "/etc/default/limine": text})
    assert loader and edit.present(loader, loader.lines[0]) == ("2M", "1M")


@pytest.mark.parametrize("there", [b"ESP_PATH=/boot\n", None])
def test_a_first_value_has_all_of_the_running_command_line(there: bytes | None) -> None:
    files = {"/boot/limine.conf": b"/+Arch\n"} | ({} if there is None else {"/etc/default/limine": there})
    given: dict[str, Any] = {"live": True, "loader_info": "Limine 10.3.0", "cmdline": "BOOT_IMAGE=/v root=/dev/vda2 rw"}
    loader = tool(files, **given)
    assert loader and loader.problem is None
    (done,) = edit.reserve(loader, ("256M",))
    assert done.path == "/etc/default/limine" and done.before == there
    assert done.after == (there or b"") + b'KERNEL_CMDLINE[default]="root=/dev/vda2 rw crashkernel=256M"\n'
    again = tool(files | {done.path: done.after}, **given)
    assert again and edit.reserve(again, ("256M",)) == ()
    assert edit.release(again, done) == (there or b"")


def test_below_snapshots_all_entries_are_foreign() -> None:
    """limine-snapper-sync may name a snapshot in the image alone, which is a copy then."""
    snapshot = b"/Snapshots\n//7\n///Arch\nprotocol: linux\npath: boot():/history/vmlinuz\ncmdline: root=/dev/vda2\n"
    loader = read({"/boot/limine.conf": CONF + snapshot})
    assert loader and [line.foreign for line in loader.lines] == [None, "it starts a snapshot"]
    assert loader.lines[1].entry == "Snapshots/7/Arch"
