"""Unified kernel images: who makes them anew, and what is done where no file has their command line."""

from __future__ import annotations

from typing import Any

import pytest

from kdump_pkg.loaders import edit, uki
from kdump_pkg.model.bootloader import Loader, Result
from tests.corpus import Files, surroundings

ESP = {"path": "/efi", "kind": "esp"}
LINUX = "/etc/mkinitcpio.d/linux.preset"
PRESETS = [
    {"file": LINUX, "name": "default", "uki": "/efi/EFI/Linux/arch-linux.efi"},
    {"file": LINUX, "name": "fallback", "uki": "/efi/EFI/Linux/arch-linux-fallback.efi"},
    {"file": "/etc/mkinitcpio.d/linux-lts.preset", "name": "default", "uki": "/efi/EFI/Linux/arch-linux-lts.efi"},
    {"file": "/etc/mkinitcpio.d/linux-zen.preset", "name": "default", "image": "/boot/initramfs-linux-zen.img"},
]
BOOTED = {"live": True, "stub_info": "systemd-stub 257.9", "presets": PRESETS}


def read(files: dict[str, bytes] | None = None, **around: Any) -> Loader | None:
    return uki.read(Files(files or {}), surroundings({"places": [ESP]} | around))


def test_only_presets_that_make_images_are_run() -> None:
    loader = read({"/etc/kernel/cmdline": b"root=/dev/vda2\n"}, presets=PRESETS)
    assert loader and not loader.booted and loader.problem is None
    assert loader.regenerate == (("mkinitcpio", "-p", "linux"), ("mkinitcpio", "-p", "linux-lts"))
    images = ("arch-linux", "arch-linux-fallback", "arch-linux-lts")
    assert loader.results == tuple(Result(f"/efi/EFI/Linux/{name}.efi", "uki") for name in images)


def test_started_by_systemd_stub() -> None:
    loader = read({"/etc/kernel/cmdline": b"root=/dev/vda2\n"}, stub_info="systemd-stub 257.9", presets=PRESETS)
    assert loader and loader.booted and loader.evidence == "StubInfo says systemd-stub 257.9"


@pytest.mark.parametrize(
    ("running", "made"),
    [
        (
            'BOOT_IMAGE=/vmlinuz initrd=\\i.img root=/dev/vda2  rw dyndbg="file a.c +p"',
            b'root=/dev/vda2 rw dyndbg="file a.c +p" crashkernel=256M\n',
        ),
        ("root=/dev/vda2 rw -- single", b"root=/dev/vda2 rw crashkernel=256M -- single\n"),
    ],
)
def test_the_running_command_line_is_written_down_with_the_new_word(running: str, made: bytes) -> None:
    """Else the new word would be all of it, and root= lost."""
    loader = read({"/etc/cmdline.d/README": b"nothing"}, cmdline=running, **BOOTED)
    assert loader and loader.problem is None
    (done,) = edit.reserve(loader, ("256M",))
    assert (done.path, done.before, done.after) == ("/etc/kernel/cmdline", None, made)
    again = read({done.path: done.after}, cmdline=running, **BOOTED)
    assert again and edit.reserve(again, ("256M",)) == ()
    assert edit.release(again, done) == b""


@pytest.mark.parametrize(
    ("around", "problem"),
    [
        ({"cmdline": "root=/dev/vda2", "presets": PRESETS, "live": True}, "what would be booted with is not known"),
        ({"cmdline": "root=/dev/vda2", "presets": PRESETS, "stub_info": "s"}, "what would be booted with is not known"),
        ({**BOOTED, "cmdline": "root=/dev/vda2 crashkernel=1G"}, "the running one, which has crashkernel= already"),
    ],
)
def test_a_command_line_that_is_not_the_images_is_not_taken(around: dict[str, Any], problem: str) -> None:
    loader = read(**around)
    assert loader and problem in (loader.problem or "")
    assert edit.reserve(loader, ("256M",)) == ()


def test_a_preset_names_a_file_that_is_not_there() -> None:
    presets = [PRESETS[0] | {"cmdline": "/etc/kernel/other"}]
    loader = read({"/etc/kernel/cmdline": b"root=/dev/vda2\n"}, presets=presets)
    assert loader and "/etc/kernel/other, which a preset of mkinitcpio takes" in (loader.problem or "")


INSTALL_CONF = {"/etc/kernel/install.conf": b"layout=uki\n", "/etc/kernel/cmdline": b"root=/dev/vda2\n"}


def test_kernel_install_makes_those_that_have_its_token() -> None:
    images = {"/efi/EFI/Linux/arch-6.12.efi": b"MZ", "/efi/EFI/Linux/other.efi": b"MZ"}
    files = INSTALL_CONF | images | {"/etc/kernel/entry-token": b"arch\n"}
    loader = read(files, programs=["kernel-install"])
    assert loader and loader.regenerate == (("kernel-install", "add-all"),)
    assert loader.results == (Result("/efi/EFI/Linux/arch-6.12.efi", "uki"),)


@pytest.mark.parametrize(
    ("files", "programs"),
    [
        ({"/etc/kernel/install.conf": b"layout=bls\n", "/usr/lib/kernel/install.conf": b"layout=uki\n"}, True),
        ({"/etc/kernel/install.conf": b"layout=uki\n"}, False),
        ({"/etc/kernel/install.conf": b"layout=uki\n", "/etc/kernel/install.conf.d/z.conf": b"layout=bls\n"}, True),
    ],
)
def test_kernel_install_is_not_the_maker(files: dict[str, bytes], programs: bool) -> None:
    image = {"/efi/EFI/Linux/arch.efi": b"MZ"}
    loader = read(files | image, programs=["kernel-install"] if programs else [])
    assert loader and "was made by nothing that is known here" in (loader.problem or "")


def test_dracut_makes_those_of_its_own_names_anew() -> None:
    files = {
        "/etc/dracut.conf.d/a.conf": b'uefi="yes"\nkernel_cmdline="root=/dev/vda2"\n',
        "/usr/lib/dracut/dracut.conf.d/a.conf": b'uefi="no"\n',
        "/efi/EFI/Linux/linux-6.12-m1.efi": b"MZ",
        "/efi/EFI/Linux/linux-6.12-other.efi": b"MZ",
    }
    loader = read(files, programs=["dracut"], machine_id="m1")
    assert loader and loader.regenerate == (("dracut", "--regenerate-all", "--force"),)
    assert loader.results == (Result("/efi/EFI/Linux/linux-6.12-m1.efi", "uki"),)
    assert read({**files, "/etc/dracut.conf.d/b.conf": b"uefi=no\n"}, programs=["dracut"]) != loader


def test_started_and_there_is_no_image() -> None:
    loader = read(stub_info="systemd-stub 257.9")
    assert loader and loader.problem == "there is no image in EFI/Linux of /efi"
    unmounted = read(stub_info="systemd-stub 257.9", places=[ESP | {"mounted": False}])
    assert unmounted and unmounted.problem == "/efi is not mounted; mount /efi"


def test_images_of_limine_entry_tool_are_its_own() -> None:
    files = {"/efi/limine.conf": b"", "/efi/EFI/Linux/omarchy_linux.efi": b"MZ"}
    assert read(files, programs=["limine-update"], stub_info="systemd-stub 257.9") is None
    assert read(files, stub_info="systemd-stub 257.9") is not None


def test_not_here() -> None:
    assert read({"/etc/kernel/cmdline": b"root=/dev/vda2\n"}, presets=PRESETS[-1:]) is None
