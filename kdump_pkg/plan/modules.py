"""Which kernel modules a capture needs, and in which order insmod must get their files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kdump_pkg.model import Config, ModuleIndex, Target, module_name

# `crypto-crc32c` is an alias: ext4 and xfs asked the crypto API for it by name up to 6.13, through a modprobe that the
# image doesn't have. Later kernels have it in a library, so it may be missing.
FILE_SYSTEMS: dict[str, tuple[str, ...]] = {
    "ext2": ("crypto-crc32c?", "ext4"),
    "ext3": ("crypto-crc32c?", "ext4"),
    "ext4": ("crypto-crc32c?", "ext4"),
    "xfs": ("crypto-crc32c?", "xfs"),
    "btrfs": ("crypto-crc32c?", "btrfs"),
    "f2fs": ("crypto-crc32?", "f2fs"),
    "vfat": ("vfat", "nls_cp437?", "nls_ascii?", "nls_iso8859_1?"),
    "exfat": ("exfat",),
}

# What dm-crypt and cryptsetup ask the crypto API for by name: all of it may be built in. AES-XTS is LUKS2's default,
# AES-CBC-ESSIV LUKS1's; the af_alg ones open a key slot with a passphrase.
LAYERS: dict[str, tuple[str, ...]] = {
    "md": ("md_mod", "raid1?", "raid0?", "raid10?", "raid456?"),
    "crypt": (
        "dm_mod", "dm_crypt", "configfs?", "aesni_intel?", "aes_generic?", "xts?", "cbc?", "essiv?", "sha256_generic?",
        "sha512_generic?", "af_alg?", "algif_skcipher?", "algif_hash?",
    ),
    "lvm": ("dm_mod",),
    "multipath": ("dm_mod", "dm_multipath", "dm_service_time?", "dm_round_robin?", "dm_queue_length?"),
    "dm": ("dm_mod",),
}  # fmt: skip
"""What opens each kind of layer. Where facts name the levels of an array among the drivers, those alone are taken."""

COMMON_DRIVERS = tuple(
    f"{name}?"
    for name in (
        "virtio_pci", "virtio_blk", "virtio_scsi", "nvme", "ahci", "ata_piix", "sd_mod", "vmd", "xhci_pci",
        "usb_storage", "uas", "sdhci_pci", "sdhci_acpi", "mmc_block", "mpt3sas", "megaraid_sas", "vmw_pvscsi",
        "hv_storvsc", "xen_blkfront",
    )
)  # fmt: skip
"""Storage controllers of nearly every machine, for when the hardware can't be seen."""


@dataclass(frozen=True)
class InsmodOrder:
    files: tuple[str, ...]
    missing: tuple[str, ...]
    """Names that were not optional and that the kernel has neither as a module nor built in."""


def wanted(config: Config, targets: Iterable[Target], extra: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Module names from the bus to the file system, of all targets; `?` after a name says that it may be missing."""
    names: list[str] = []
    for target in targets:
        names += [*_drivers(config, target), *_layers(target), *_file_system(target)]
    return tuple(dict.fromkeys((*names, *extra, *config.modules)))


def _drivers(config: Config, target: Target) -> tuple[str, ...]:
    if config.drivers == ("auto",):
        return target.drivers if target.drivers is not None else COMMON_DRIVERS
    return COMMON_DRIVERS if config.drivers == ("common",) else config.drivers


def _layers(target: Target) -> tuple[str, ...]:
    names = [name for layer in target.layers for name in LAYERS[layer.kind]]
    known = {d for d in target.drivers or () if d.startswith("raid")}
    return tuple(name for name in names if not known or not name.startswith("raid"))


def _file_system(target: Target) -> tuple[str, ...]:
    return FILE_SYSTEMS.get(target.fstype, (target.fstype,) if target.fstype else ())


def insmod_order(index: ModuleIndex, names: tuple[str, ...]) -> InsmodOrder:
    """Files below the modules directory, each after all that it needs (modules.dep(5), modules.softdep)."""
    files: dict[str, None] = {}
    missing: list[str] = []
    for name in names:
        if not _add(index, name.rstrip("?").replace("-", "_"), files, frozenset()) and not name.endswith("?"):
            missing.append(name)
    return InsmodOrder(tuple(files), tuple(missing))


def _add(index: ModuleIndex, name: str, files: dict[str, None], seen: frozenset[str]) -> bool:
    if name in index.builtin:
        return True
    if name in seen:
        return True
    file = index.files.get(name)
    if file is None:
        found = [_add(index, other, files, seen | {name}) for other in index.aliases.get(name, ())]
        return any(found)
    # modules.dep lists what must be loaded first at the end.
    for need in (*reversed(index.depends.get(file, ())), file):
        for soft in index.softdeps.get(module_name(need), ()):
            _add(index, soft.replace("-", "_"), files, seen | {name})
        files.setdefault(need)
    return True
