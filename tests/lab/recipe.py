"""What the roots are made of: Debian's packages, and what stands in for Arch's repositories and an installation.

The files of makedumpfile, kexec-tools, busybox and dracut are repacked as real Arch packages that own them, so that
upgrading them fires the triggers it fires on Arch; packages that others depend on by name only (`python`, `systemd`, …)
are empty ones of Debian's versions. mkinitcpio is never in the repository: the root takes it from where it was set up
by hand (`base.mkinitcpio_prefix`).
"""

from __future__ import annotations

ROOT_UUID = "6b64756d-702d-4c61-8b00-0123456789ab"
MACHINE_ID = "6b64756d70706b676c6162000123abcd"
PYALPM = "pyalpm==0.10.12"

PACKAGES = (
    "pacman-package-manager", "makepkg", "fakeroot", "libarchive-tools", "zstd", "xz-utils", "lz4", "gawk", "file",
    "binutils", "cpio", "diffutils", "systemd", "systemd-sysv", "udev", "kmod", "util-linux-extra", "mount",
    "e2fsprogs", "procps", "kbd", "passwd", "busybox-static", "dracut-core", "makedumpfile", "kexec-tools",
    # what dump targets are made of, and what opens them
    "btrfs-progs", "xfsprogs", "f2fs-tools", "dosfstools", "lvm2", "mdadm", "cryptsetup-bin", "dmsetup", "age",
    # boot loaders, what writes their configuration, what makes and reads unified kernel images
    "grub2-common", "systemd-boot-efi", "systemd-boot-tools", "systemd-ukify", "python3-pefile",
    # opened by systemd and udev at run time, so that nothing depends on them
    "libkmod2", "libacl1", "libaudit1", "libpam0g", "libseccomp2", "libcryptsetup12", "libcrypt1", "libssl3t64",
    "python3", "python3-configobj", "python3-pyelftools",
    "python3-pytest", "python3-pytest-mock", "python3-pytest-timeout", "python3-hypothesis", "python3-jsonschema",
)  # fmt: skip
COMPILERS = (
    "gcc", "libc6-dev", "libalpm-dev", "libarchive-dev", "pkgconf", "python3-dev", "python3-pip", "python3-wheel",
    "python3-setuptools", "python3-pkgconfig",
)  # fmt: skip
MKINITCPIO_DIRECTORIES = ("usr/lib/initcpio", "usr/share/mkinitcpio")
MKINITCPIO_FILES = (
    "usr/bin/mkinitcpio", "usr/bin/lsinitcpio", "etc/mkinitcpio.conf", "usr/share/libalpm/scripts/mkinitcpio",
    "usr/share/libalpm/hooks/60-mkinitcpio-remove.hook", "usr/share/libalpm/hooks/90-mkinitcpio-install.hook",
    "usr/lib/kernel/install.d/50-mkinitcpio.install", "usr/lib/tmpfiles.d/20-mkinitcpio.conf",
    "usr/lib/systemd/system/mkinitcpio-generate-shutdown-ramfs.service",
)  # fmt: skip

# Real Arch packages: they own the files that these Debian packages brought.
REPACKED = {
    "makedumpfile": ("makedumpfile",),
    "kexec-tools": ("kexec-tools",),
    "busybox": ("busybox-static",),
    "dracut": ("dracut-core", "dracut-install"),
}
# Empty Arch packages, each with the version of a Debian package.
NAMES_ONLY = {
    "bash": "bash", "binutils": "binutils", "coreutils": "coreutils", "diffutils": "diffutils",
    "e2fsprogs": "e2fsprogs", "fakeroot": "fakeroot", "file": "file", "findutils": "findutils", "gawk": "gawk",
    "glibc": "libc6", "grep": "grep", "gzip": "gzip", "kbd": "kbd", "kmod": "kmod", "libarchive": "libarchive13t64",
    "libelf": "libelf1t64", "lz4": "lz4", "pacman": "pacman-package-manager", "procps-ng": "procps",
    "python": "python3", "python-configobj": "python3-configobj", "python-hypothesis": "python3-hypothesis",
    "python-jsonschema": "python3-jsonschema", "python-pefile": "python3-pefile",
    "python-pyelftools": "python3-pyelftools", "python-pytest": "python3-pytest",
    "python-pytest-mock": "python3-pytest-mock", "python-pytest-timeout": "python3-pytest-timeout",
    "sed": "sed", "systemd": "systemd", "tar": "tar", "util-linux": "util-linux", "xz": "xz-utils", "zstd": "zstd",
}  # fmt: skip
ALSO_PROVIDES = {"bash": ("sh",), "systemd": ("udev", "systemd-libs"), "util-linux": ("util-linux-libs",)}

PACMAN_CONF = """[options]
HoldPkg = pacman glibc
Architecture = x86_64
SigLevel = Never
LocalFileSigLevel = Never
HookDir = /etc/pacman.d/hooks/
"""
# A cloud kernel has neither USB keyboards nor screens, and Debian no keymaps: those hooks would fail.
MKINITCPIO_DROP_IN = "HOOKS=(base systemd autodetect microcode modconf block filesystems fsck)\n"
FSTAB = f"UUID={ROOT_UUID} / ext4 rw,relatime 0 1\n"

DRACUT_HOOK = """[Trigger]
Type = Path
Operation = Install
Operation = Upgrade
Target = usr/lib/modules/*/vmlinuz
Target = usr/lib/dracut/*

[Action]
Description = Updating the initramfs with dracut...
When = PostTransaction
Exec = /usr/share/libalpm/scripts/dracut-install
"""
DRACUT_SCRIPT = """#!/bin/sh
# Stands in for the hook that Arch's users of dracut install beside it: every kernel gets its image in /boot.
for base in /usr/lib/modules/*/pkgbase; do
    [ -e "$base" ] || continue
    read -r name <"$base"
    release=${base%/pkgbase}; release=${release##*/}
    install -Dm644 "/usr/lib/modules/$release/vmlinuz" "/boot/vmlinuz-$name"
    dracut --force --quiet --no-hostonly --add-drivers 'virtio_pci virtio_blk ext4' \\
        "/boot/initramfs-$name.img" "$release"
done
"""

INSTALLATION = {
    "etc/pacman.conf": PACMAN_CONF,
    "etc/fstab": FSTAB,
    "etc/machine-id": f"{MACHINE_ID}\n",
    "etc/hostname": "lab\n",
    "etc/os-release": 'NAME="Arch Linux"\nID=arch\nPRETTY_NAME="Arch Linux (kdump-pkg test lab)"\n',
}
