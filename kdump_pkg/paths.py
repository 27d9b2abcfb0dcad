"""Every path the program knows, as seen from the root it works on. Always used through `ctx.path()`."""

from __future__ import annotations

CONFIG = "/etc/kdump-pkg.conf"
CONFIG_DROPINS = "/etc/kdump-pkg.conf.d"
MKINITCPIO_CONFIG = "/etc/mkinitcpio.conf"
DERIVED_CONFIG = "/etc/mkinitcpio-kdump.conf"
PRESET_DIR = "/etc/mkinitcpio.d"
PRESET = "/etc/mkinitcpio.d/kdump.preset"
IMAGE_NAME = "initramfs-linux-kdump.img"
VARIANT = "linux-kdump"

MODULES = "/usr/lib/modules"
DEBUG_MODULES = "/usr/lib/debug/lib/modules"
DEBUG_BUILD_ID = "/usr/lib/debug/.build-id"
LIBRARY = "/usr/lib/kdump-pkg"
SAVE_PARTS = f"{LIBRARY}/save"
CAPTURE_HOOKS = ("/etc/kdump-pkg/pre.d", "/etc/kdump-pkg/post.d")
INITCPIO = "/usr/lib/initcpio"
DRACUT_MODULE = "/usr/lib/dracut/modules.d/99kdump-pkg"
PACMAN_DB = "/var/lib/pacman"

STATE = "/var/lib/kdump-pkg"
CAPTURE_ENV = f"{STATE}/capture.env"
KERNEL_CACHE = f"{STATE}/kernels.json"
DEBUG_RECORD = f"{STATE}/debug.json"
TRACES = f"{STATE}/traces.json"
RECORD = f"{STATE}/record"
LAST_GOOD = f"{STATE}/last-good"
SETUP = f"{STATE}/setup.json"
REHEARSED = f"{STATE}/rehearsed.json"
IMAGE_FACTS = f"{STATE}/image.json"
CRASH_TEST = f"{STATE}/test.json"
SYSCTL = "/etc/sysctl.d/99-kdump-pkg.conf"
RUN = "/run/kdump-pkg"
LOADED = f"{RUN}/loaded.json"
LOCK = "/run/kdump-pkg.lock"

# Kernels from 6.19 on moved these; the older names stay until after 2028 (kdump-facts, section 6).
CRASH_LOADED = ("/sys/kernel/kexec/crash_loaded", "/sys/kernel/kexec_crash_loaded")
CRASH_SIZE = ("/sys/kernel/kexec/crash_size", "/sys/kernel/kexec_crash_size")
CONFIGFS = "/sys/kernel/config"
CRASH_KEYS = f"{CONFIGFS}/crash_dm_crypt_keys"
EFI_VARIABLES = "/sys/firmware/efi/efivars"
EFI_TRACE = f"{EFI_VARIABLES}/KdumpPkgTrace-6b64756d-7070-4b47-8000-747261636531"
PSTORE = "/sys/fs/pstore"
PSTORE_ARCHIVE = "/var/lib/systemd/pstore"
