"""Which programs a capture image needs: one list for all generators, flavours and scripts.

What busybox has as an applet is taken from there; tests/shell holds the scripts to these lists.
"""

from __future__ import annotations

from collections.abc import Iterable

from kdump_pkg.model import Config, Flavour, Target

APPLETS = (
    "sh", "cat", "date", "dd", "dmesg", "findfs", "halt", "mkdir", "mkfifo", "mount", "mv", "poweroff", "readlink",
    "reboot", "rm", "rmdir", "sed", "sleep", "stat", "stty", "sync", "umount",
)  # fmt: skip
DIRECT_APPLETS = ("insmod",)
BY_LAYER = {"md": "mdadm", "crypt": "cryptsetup", "lvm": "lvm"}
"""What opens each kind of layer that kdump-save opens by itself, whatever the flavour; the others need udev."""


def applets(flavour: Flavour) -> tuple[str, ...]:
    """Tools of which busybox's will do."""
    return (*APPLETS, *(DIRECT_APPLETS if flavour == "direct" else ()))


def programs(target: Target) -> tuple[str, ...]:
    """What it takes to reach one target."""
    found = [BY_LAYER[layer.kind] for layer in target.layers if layer.kind in BY_LAYER]
    if target.devices > 1:
        found.append("btrfs")
    if target.device.startswith("PART"):
        found.append("findfs")  # busybox's knows no partitions' names
    return tuple(dict.fromkeys(found))


def binaries(config: Config, targets: Iterable[Target]) -> tuple[str, ...]:
    """Real programs of the image, the system's own with their libraries."""
    needed = ["makedumpfile", *(name for target in targets for name in programs(target))]
    return tuple(dict.fromkeys([*needed, *(["age"] if config.encrypt_to else [])]))
