"""A kernel of our own, built from Debian's source: what Arch's kernels have and Debian's cloud kernels lack.

It hands LUKS keys to the capture (CRASH_DM_CRYPT) and knows F2FS. Everything a root, a dump target and a capture need
is built in, with hardly a module beside it, so that it also stands for the kernels people build for one machine.
Building takes about ten minutes of two cores: only what asks for it by name gets it.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from . import debian
from .common import LabError, run, say

SUITE = "sid"
BUILD_DEPENDS = ("build-essential", "bc", "bison", "flex", "libelf-dev", "libssl-dev", "kmod", "cpio", "xz-utils")
TOOLS = ("gcc", "make", "bc", "bison", "flex", "depmod", "cpio", "xz", "tar")
HEADERS = ("libelf.h", "openssl/ssl.h")
SECONDS = 3600
LAYOUT = "1"
"""To be counted up when what `build` leaves in its directory changes."""

BUILT_IN = {
    "the kernel itself": """
        64BIT SMP MODULES MODULE_COMPRESS MODULE_COMPRESS_ZSTD KERNEL_ZSTD PRINTK PRINTK_TIME BUG KALLSYMS IKCONFIG
        IKCONFIG_PROC MULTIUSER SYSVIPC POSIX_TIMERS FUTEX EPOLL SIGNALFD TIMERFD EVENTFD SHMEM AIO ADVISE_SYSCALLS
        MEMBARRIER FHANDLE FILE_LOCKING INOTIFY_USER BINFMT_ELF BINFMT_SCRIPT HIGH_RES_TIMERS NO_HZ_IDLE
        BLK_DEV_INITRD RD_GZIP RD_XZ RD_ZSTD RD_LZ4 RELOCATABLE RANDOMIZE_BASE MAGIC_SYSRQ UNIX98_PTYS TTY""",
    "kexec and what it leads to": """
        KEXEC KEXEC_FILE CRASH_DUMP PROC_FS PROC_SYSCTL PROC_KCORE PROC_VMCORE PROC_PAGE_MONITOR KEYS CONFIGFS_FS
        CRASH_DM_CRYPT""",
    "systemd": """
        CGROUPS NAMESPACES UTS_NS IPC_NS PID_NS NET_NS USER_NS SYSFS DEVTMPFS DEVTMPFS_MOUNT TMPFS TMPFS_POSIX_ACL
        TMPFS_XATTR AUTOFS_FS NET UNIX SECCOMP DMIID""",
    "a PC as QEMU has it": """
        ACPI DMI PCI PCI_MSI PCI_MMCONFIG EFI EFI_STUB EFIVAR_FS VT VT_CONSOLE VGA_CONSOLE SERIAL_8250
        SERIAL_8250_CONSOLE PNP RTC_CLASS RTC_DRV_CMOS WATCHDOG WATCHDOG_HANDLE_BOOT_ENABLED I6300ESB_WDT
        MISC_FILESYSTEMS PSTORE
        PSTORE_PMSG PSTORE_RAM""",
    "disks": """
        BLOCK BLK_DEV BLK_DEV_LOOP PARTITION_ADVANCED MSDOS_PARTITION EFI_PARTITION BLK_DEV_NVME SCSI BLK_DEV_SD
        SCSI_LOWLEVEL SCSI_VIRTIO ATA SATA_AHCI VIRTIO_MENU VIRTIO_PCI VIRTIO_BLK USB_SUPPORT USB USB_PCI
        USB_XHCI_HCD USB_STORAGE""",
    "layers above them": """
        MD BLK_DEV_MD MD_RAID0 MD_RAID1 BLK_DEV_DM DM_CRYPT DM_SNAPSHOT DM_MIRROR CRYPTO CRYPTO_AES CRYPTO_XTS
        CRYPTO_CBC CRYPTO_ECB CRYPTO_ESSIV CRYPTO_SHA256 CRYPTO_SHA512 CRYPTO_USER_API_HASH CRYPTO_USER_API_SKCIPHER
        CRYPTO_AES_NI_INTEL CRYPTO_LZO CRYPTO_LZ4""",
    "file systems": """
        EXT4_FS EXT4_FS_POSIX_ACL XFS_FS XFS_POSIX_ACL BTRFS_FS BTRFS_FS_POSIX_ACL F2FS_FS F2FS_FS_XATTR VFAT_FS NLS
        NLS_CODEPAGE_437 NLS_ISO8859_1 NLS_UTF8 OVERLAY_FS""",
}
MODULES = ("ISO9660_FS",)
VALUES = {"LOCALVERSION": '"-crypt"', "LOG_BUF_SHIFT": "17", "HZ_250": "y", "FAT_DEFAULT_IOCHARSET": '"iso8859-1"'}
LEFT_OUT = ("LOCALVERSION_AUTO", "CPU_MITIGATIONS", "SLUB_TINY", "RAID6_PQ_BENCHMARK", "WERROR", "DEBUG_INFO_BTF")


def build(work: Path, dest: Path) -> None:
    """The kernel in Arch's layout below `dest`/root, with the versions and the price of it in files beside that."""
    _install_build_depends()
    source, version = _source(work)
    say("building the kernel that hands keys over (once, about ten minutes)")
    before = _cpu_seconds()
    configure(source)
    _make(source, "bzImage", "modules")
    _install(source, dest)
    (dest / "debian-version").write_text(version)
    (dest / "cpu-seconds").write_text(f"{_cpu_seconds() - before:.0f}\n")


def _install(source: Path, dest: Path) -> None:
    """As a kernel package of Arch has it; modules.builtin comes with modules_install."""
    release = _make(source, "-s", "kernelrelease").strip().splitlines()[-1]
    _make(source, "modules_install", f"INSTALL_MOD_PATH={dest / 'root/usr'}", "DEPMOD=true")
    modules = dest / "root/usr/lib/modules" / release
    shutil.copy(source / "arch/x86/boot/bzImage", modules / "vmlinuz")
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    run(["depmod", "--basedir", dest / "root/usr", release])
    shutil.copy(source / ".config", dest / "config")


def configure(source: Path) -> None:
    """.config: the smallest there is and our fragment; an option that did not stick is an error here, not in a test."""
    _make(source, "tinyconfig")
    with (source / ".config").open("a") as config:
        config.writelines(f"{line}\n" for line in fragment())
    _make(source, "olddefconfig")
    lost = sorted(set(fragment()) - set((source / ".config").read_text().splitlines()) - _unset(source))
    if lost:
        raise LabError(f"kernel options that did not stick: {', '.join(lost)} (tests/lab/kernel_build.py)")


def fragment() -> Iterator[str]:
    """The wanted options as lines of a .config."""
    for words in BUILT_IN.values():
        yield from (f"CONFIG_{word}=y" for word in words.split())
    yield from (f"CONFIG_{word}=m" for word in MODULES)
    yield from (f"CONFIG_{word}={value}" for word, value in VALUES.items())
    yield from (f"# CONFIG_{word} is not set" for word in LEFT_OUT)


def _unset(source: Path) -> set[str]:
    """What we want off and what this configuration does not even offer."""
    mentioned = set(re.findall(r"\bCONFIG_\w+", (source / ".config").read_text()))
    return {f"# CONFIG_{word} is not set" for word in LEFT_OUT if f"CONFIG_{word}" not in mentioned}


def _source(work: Path) -> tuple[Path, str]:
    """The unpacked source of the newest kernel in Debian sid, and Debian's version of it."""
    found = debian.download(SUITE, ["linux-source"], work, also=r"linux-source-\d[\d.]*")
    deb = next((path for path in found if path.name.startswith("linux-source-")), None)
    if deb is None:
        raise LabError(f"Debian {SUITE} has no linux-source-* now: {[path.name for path in found]}")
    version = run(["dpkg-deb", "--field", deb, "Version"]).stdout.strip()
    run(["dpkg-deb", "--extract", deb, work])
    for path in found:
        path.unlink()
    run(["tar", "-xf", next(work.glob("usr/src/linux-source-*.tar.xz")), "-C", work])
    return next(path for path in work.glob("linux-source-*") if path.is_dir()), version


def _install_build_depends() -> None:
    """apt-get, when something is missing: nobody else on this machine needs these."""
    if all(map(shutil.which, TOOLS)) and all(any(Path("/usr/include").rglob(name)) for name in HEADERS):
        return
    if os.geteuid() != 0:
        raise LabError(f"to build a kernel, install: {' '.join(BUILD_DEPENDS)}")
    say(f"installing what a kernel build needs: {' '.join(BUILD_DEPENDS)}")
    run(["apt-get", "install", "--yes", "--no-install-recommends", *BUILD_DEPENDS])


def _make(source: Path, *args: str) -> str:
    """make at low priority on every core; reproducible as far as the kernel lets it be."""
    identity = ["KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab"]
    argv = ["nice", "-n", "5", "make", "-C", str(source), f"-j{os.cpu_count() or 1}", *identity, *args]
    return run(argv, timeout=SECONDS).stdout


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
