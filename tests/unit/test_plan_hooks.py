"""HOOKS and MODULES of the derived configuration."""

from __future__ import annotations

import pytest

from kdump_pkg.model import Flavour, SystemImages
from kdump_pkg.plan.hooks import DROPPED, GRAPHICS, capture_hooks, capture_modules

SYSTEMD = "base systemd autodetect microcode modconf kms keyboard sd-vconsole block sd-encrypt lvm2 filesystems fsck"
UDEV = "base udev autodetect modconf kms keyboard keymap consolefont block encrypt lvm2 resume filesystems fsck"


@pytest.mark.parametrize(
    ("hooks", "flavour", "expected"),
    [
        (SYSTEMD, "direct", "kdump"),
        (
            SYSTEMD,
            "systemd",
            "base systemd autodetect modconf keyboard sd-vconsole block sd-encrypt lvm2 sd-kdump",
        ),
        (SYSTEMD, "udev", "base udev autodetect modconf keyboard keymap block encrypt lvm2 kdump"),
        (UDEV, "udev", "base udev autodetect modconf keyboard keymap block encrypt lvm2 kdump"),
        (
            UDEV,
            "systemd",
            "base systemd autodetect modconf keyboard sd-vconsole block sd-encrypt lvm2 sd-kdump",
        ),
        ("base udev my-storage-hook block", "udev", "base udev my-storage-hook block kdump"),
        ("", "udev", "base udev kdump"),
        ("kdump base udev udev block block sd-kdump", "udev", "base udev block kdump"),
        ("udev base systemd encrypt sd-encrypt", "systemd", "base systemd sd-encrypt sd-kdump"),
    ],
)
def test_hooks(hooks: str, flavour: Flavour, expected: str) -> None:
    assert capture_hooks(SystemImages("mkinitcpio", hooks=tuple(hooks.split())), flavour) == tuple(expected.split())


@pytest.mark.parametrize("name", DROPPED)
def test_dropped_in_every_flavour(name: str) -> None:
    for flavour in ("udev", "systemd"):
        left = capture_hooks(SystemImages("mkinitcpio", hooks=("base", name, "block")), flavour)[:-1]
        assert name not in left


def test_modules() -> None:
    images = SystemImages("mkinitcpio", modules=("nvme", "amdgpu", "nvidia-drm?", "dm_crypt?", "i915"))
    assert capture_modules(images, "udev") == capture_modules(images, "systemd") == ("nvme", "dm_crypt?")
    assert capture_modules(images, "direct") == ()
    assert not any("-" in name for name in GRAPHICS)  # compared with underscores
