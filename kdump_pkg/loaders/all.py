"""All boot loaders that are known, in the order in which they are looked for."""

from __future__ import annotations

from kdump_pkg.loaders import (
    Reader,
    efistub,
    grub,
    limine,
    limine_entry_tool,
    refind,
    sdboot_manage,
    syslinux,
    systemd_boot,
    uki,
)

ALL: tuple[Reader, ...] = (
    grub.read, systemd_boot.read, sdboot_manage.read, uki.read, limine.read, limine_entry_tool.read,
    refind.read, syslinux.read, efistub.read,
)  # fmt: skip
