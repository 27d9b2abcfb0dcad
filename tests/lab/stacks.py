"""The storage stacks that a capture has to reach, as data: what configuration and fstab would say of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdump_pkg.model import CryptVolume, Facts, Target

from .packages import Series

FS = "11111111-2222-3333-4444-555555555555"
OTHER = "22222222-3333-4444-5555-666666666666"
MISSING = "33333333-4444-5555-6666-777777777777"
LUKS = "44444444-5555-6666-7777-888888888888"
ARRAY = "01234567:89abcdef:01234567:89abcdef"
PARTITION = "55555555-6666-7777-8888-999999999999"
ESP = "ABCD-1234"
ARGON2_KIB = 64 << 10
RECIPIENT = "age1df2t7f63rqukppmzpm4epkjjcfpkztc0erc435a5f7dhakth64sqg2ln96"
STOCK: Series = "6.12"


@dataclass(frozen=True)
class Stack:
    name: str
    fstab: str = f"UUID={FS} / ext4 rw 0 1\n"
    config: str = ""
    series: Series = STOCK
    wish: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the rehearsal's Wish."""
    adjust: Callable[[Facts], Facts] | None = None
    saved_to: str = "root"
    """Name of the target that has the dump in the end."""
    supported: bool = True
    """False for what `status` has only words for."""


def layered(text: str) -> str:
    return f"[target root]\nlayers = {text}\n"


def on_two_devices(facts: Facts) -> Facts:
    """As sysfs would show it of a mounted btrfs."""
    return with_first(facts, lambda target: replace(target, devices=2))


def with_argon2(facts: Facts) -> Facts:
    """As the LUKS header would say it."""
    return with_first(facts, lambda target: replace(target, crypt=(CryptVolume(LUKS, 2, ARGON2_KIB),)))


def with_first(facts: Facts, change: Callable[[Target], Target]) -> Facts:
    first, *rest = facts.targets
    return replace(facts, targets=(change(first), *rest))


TYPED: Mapping[str, Any] = {"type_passphrase": True}
FALLBACK = f"[target uuid={OTHER}]\nfstype = ext4\npath = /dumps\n"
LAST_RESORT = f"[target uuid={MISSING}]\nfstype = ext4\ndevice_timeout = 5\n[target esp]\npath = /kdump\n"
XFS = f"UUID={FS} / xfs rw 0 1\n"
BTRFS = f"UUID={FS} / btrfs rw,compress=zstd:3,subvol=/@ 0 0\n"
DATA = f"UUID={FS} / ext4 rw 0 1\nUUID={OTHER} /data ext4 rw 0 2\n"
ON_LUKS = layered(f"crypt:{LUKS}")

STACKS: tuple[Stack, ...] = (
    Stack("ext4"),
    Stack("xfs", XFS),
    Stack(
        "btrfs, /var/crash a subvolume, compressed",
        f"{BTRFS}UUID={FS} /var/crash btrfs rw,compress=zstd:3,subvol=/@crash 0 0\n",
    ),
    Stack("btrfs on two devices", BTRFS, adjust=on_two_devices),
    Stack("f2fs", f"UUID={FS} / f2fs rw 0 1\n", series="crypt"),
    Stack("LVM, xfs", XFS, layered("lvm:vg0/root")),
    Stack("md RAID 1, ext4", config=layered(f"md:{ARRAY}")),
    Stack("md RAID 1, LVM, ext4", config=layered(f"md:{ARRAY}, lvm:vg0/root")),
    Stack("LUKS, key handed over", config=ON_LUKS, series="crypt"),
    Stack("LUKS, passphrase typed (Argon2id, 64 MiB)", config=ON_LUKS, wish=TYPED, adjust=with_argon2),
    Stack("LUKS without a key, unencrypted fallback", config=ON_LUKS + FALLBACK, saved_to=f"uuid={OTHER}"),
    Stack(
        "md RAID 1, LUKS, LVM, xfs, key handed over",
        XFS,
        layered(f"md:{ARRAY}, crypt:{LUKS}, lvm:vg0/root"),
        series="crypt",
    ),
    Stack("/var/crash of its own, xfs", f"UUID={OTHER} / ext4 rw 0 1\nLABEL=crash /var/crash xfs rw 0 2\n"),
    Stack("/var/crash bind-mounted", f"{DATA}/data/dumps /var/crash none bind 0 0\n"),
    Stack(
        "dedicated partition by PARTUUID",
        config=f"[target partuuid={PARTITION}]\nfstype = ext4\npath = /dumps\n",
        saved_to=f"partuuid={PARTITION}",
    ),
    Stack(
        "first target missing, ESP as the last resort",
        f"UUID={FS} / ext4 rw 0 1\nUUID={ESP} /efi vfat rw 0 2\n",
        LAST_RESORT,
        wish={"break_target": ("missing:1",)},
        saved_to="esp",
    ),
    Stack("ext4, encrypted to an age key", config=f"encrypt_to = {RECIPIENT}\n"),
    Stack("ZFS", "tank/root / zfs rw 0 0\n", supported=False),
    Stack("bcachefs", f"UUID={FS} / bcachefs rw 0 0\n", supported=False),
)
