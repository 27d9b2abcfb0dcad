"""Which of the user's mkinitcpio hooks and modules a capture image keeps."""

from __future__ import annotations

from kdump_pkg.model import Flavour, SystemImages

DROPPED: dict[str, str] = {
    "kms": "graphics drivers cost memory and may hang on a device in an unknown state",
    "plymouth": "no splash screen",
    "sd-plymouth": "no splash screen",
    "microcode": "loaded by the system kernel already",
    "resume": "must not resume the hibernated image of a crashed system",
    "consolefont": "costs memory, the firmware's font will do",
    "filesystems": "our own hook adds the target's, and every other one costs memory",
    "fsck": "mounting replays the journal; a check costs time and memory",
    "shutdown": "the capture ends by a reboot",
    "sd-shutdown": "the capture ends by a reboot",
    "usr": "the capture needs no /usr",
    "sleep": "the capture waits by itself",
    "memdisk": "not where dumps go",
    "strip": "changes nothing that counts",
    "colors": "no colours",
    "sd-colors": "no colours",
    "grub-btrfs-overlayfs": "the capture must write to the disk itself",
    "kdump": "put in anew at its place",
    "sd-kdump": "put in anew at its place",
}

GRAPHICS = frozenset({
    "amdgpu", "ast", "bochs", "cirrus", "drm", "drm_kms_helper", "evdi", "gma500_gfx", "i915", "mgag200", "nouveau",
    "nvidia", "nvidia_drm", "nvidia_modeset", "nvidia_uvm", "qxl", "radeon", "simpledrm", "virtio_gpu", "vmwgfx", "xe",
})  # fmt: skip

TO_SYSTEMD = {"udev": "systemd", "encrypt": "sd-encrypt", "keymap": "sd-vconsole"}
TO_UDEV = {new: old for old, new in TO_SYSTEMD.items()}


KEPT_FOR_SYSTEM = frozenset({"filesystems", "usr", "sleep", "strip", "shutdown", "sd-shutdown"})
"""Of the dropped ones, those that an image needs which starts the whole system."""


def capture_hooks(images: SystemImages, flavour: Flavour, *, system: bool = False) -> tuple[str, ...]:
    """HOOKS of the derived configuration: the user's own order and storage hooks, in the flavour asked for.

    With SYSTEM, those of an image that starts the whole system, for `capture = system`.
    """
    if flavour == "direct":
        return ("kdump",)
    renamed = TO_SYSTEMD if flavour == "systemd" else TO_UDEV
    first = "systemd" if flavour == "systemd" else "udev"
    kept = [renamed.get(h, h) for h in images.hooks if h not in DROPPED or (system and h in KEPT_FOR_SYSTEM)]
    rest = [hook for hook in dict.fromkeys(kept) if hook not in ("base", first)]
    return ("base", first, *rest, "kdump" if flavour == "udev" else "sd-kdump")


def capture_modules(images: SystemImages, flavour: Flavour) -> tuple[str, ...]:
    """MODULES of the derived configuration: the user's, but for graphics; our own hook adds what the target needs."""
    if flavour == "direct":
        return ()
    return tuple(m for m in images.modules if m.rstrip("?").replace("-", "_") not in GRAPHICS)
