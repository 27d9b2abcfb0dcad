"""What the user asks for: the configuration, checked and typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Flavour = Literal["direct", "udev", "systemd"]
GeneratorName = Literal["mkinitcpio", "dracut"]
LoaderName = Literal[
    "grub", "systemd-boot", "sdboot-manage", "uki", "limine", "limine-entry-tool", "refind", "syslinux", "efistub"
]


@dataclass(frozen=True)
class Retention:
    """Which dumps of a target may stay; `plan.retention` and hooks/save/room.sh keep to the same rules."""

    keep: int = 5
    """Number of dumps; 0: any."""
    max_age: int = 0
    """Days; 0: any."""
    max_use: str = "0"
    """What all dumps together may take: KiB as a number, a share of the file system as `10%`; 0: any."""
    keep_free: str = "5%"
    """What must stay free on the file system, written in the same way; 0: nothing."""


@dataclass(frozen=True)
class Layer:
    """One thing between file system and disk that has to be opened."""

    kind: Literal["md", "crypt", "lvm", "multipath", "dm"]
    """kdump-save opens the first three; the rest needs udev's rules."""
    name: str
    """md: UUID of the array as mdadm writes it; crypt: UUID of the LUKS header; lvm: VG/LV; else what is known."""


@dataclass(frozen=True)
class TargetWish:
    """One `[target …]` section, or the one target that is meant where there is none."""

    name: str = "root"
    """root, esp, uuid=UUID, uuid=UUID:SUBVOLUME, partuuid=UUID, label=LABEL or partlabel=LABEL."""
    path: str = "/var/crash"
    """root: a directory of the running system; else one below the top of that file system."""
    fstype: str = "auto"
    layers: tuple[Layer, ...] | None = None
    """None: to be read from this machine."""
    device_timeout: int = 30
    timeout: int = 600
    retention: Retention = Retention()


@dataclass(frozen=True)
class UploadWish:
    """The `[upload]` section: where dumps and reports go after the reboot; nothing leaves the machine without it."""

    remote: str = ""
    """As rclone has it, `name:path`; empty: nothing is sent."""
    what: str = "reports"
    """reports or dumps."""
    rate: str = "0"
    """Bytes a second as `512K`; 0: as fast as it goes."""
    config: str = "/etc/kdump-pkg/rclone.conf"
    host: str = "auto"


@dataclass(frozen=True)
class VariantWish:
    """The `[variant]` section: how linux-kdump is built, and when."""

    follow: str = "release"
    """release, series or never."""
    source: str = "auto"
    """auto, or the path of an archive or of a tree."""
    sha256: str = ""
    """Of that archive; empty: any."""
    keys: str = "auto"
    """auto, or the path of the public keys that may have signed the source."""
    drivers: str = "auto"
    """auto or all."""
    network: bool = False
    trust: bool = False
    power: str = "mains"
    """mains or any."""
    max_load: int = 50
    """Percent of all processors."""


@dataclass(frozen=True)
class Config:
    """What the user asks for; the fields are the options of `options.OPTIONS`, checked and typed."""

    kernel: str = "auto"
    generator: str = "auto"
    flavour: str = "auto"
    image_dir: str = "/boot"
    path: str = "/var/crash"
    drivers: tuple[str, ...] = ("auto",)
    modules: tuple[str, ...] = ()
    dump_level: str = "auto"
    compression: str = "zstd"
    timeout: int = 600
    device_timeout: int = 30
    step_timeout: int = 300
    passphrase_timeout: int = 60
    crash_loop: int = 10
    capture: str = "image"
    encrypt_to: tuple[str, ...] = ()
    keep: int = 5
    max_age: int = 0
    max_use: str = "0"
    keep_free: str = "5%"
    final_action: str = "reboot"
    failure_action: str = "reboot"
    cmdline_add: tuple[str, ...] = ()
    cmdline_remove: tuple[str, ...] = ()
    save_debug: bool = True
    keep_debug: int = 2
    targets: tuple[TargetWish, ...] = (TargetWish(),)
    """In the order in which they are tried; the `[target …]` sections."""
    upload: UploadWish = UploadWish()
    variant: VariantWish = VariantWish()
