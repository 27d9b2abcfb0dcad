"""The one table of configuration options; configspec, sample file, manual page, --help and tests are made from it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

MODULE_NAME = r"[A-Za-z0-9_-]+\??"
SIZE = r"0|[1-9][0-9]{0,8}[KMGT]|[1-9][0-9]?%"
SIZE_WORDS = "0, a size such as 20G (K, M, G, T), or a share of the file system such as 10%"
PATH = r"/[^\x00-\x1f'\"\\]*"
NAME = "[A-Za-z0-9._+-]+"
REMOTE = r"|[A-Za-z0-9_][A-Za-z0-9_.+@-]*:([^\x00-\x20\x7f:'\"\\]([^\x00-\x1f\x7f:'\"\\]*[^\x00-\x20\x7f:'\"\\])?)?"
HOST = "[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
TARGET = re.compile(rf"target (root|esp|uuid=[A-Fa-f0-9-]+(:{PATH[1:]})?|(partuuid|label|partlabel)={NAME})")
TARGET_WORDS = "[target root], [target esp], [target uuid=UUID], with btrfs [target uuid=UUID:SUBVOLUME], or partuuid=,"
TARGET_WORDS += " label=, partlabel="


@dataclass(frozen=True)
class Option:
    name: str
    check: str
    """The configspec check of ConfigObj, without its default."""
    default: str
    allowed: str
    """What the user may write, in words; part of the error message."""
    help: str
    pattern: str | None = None
    """What each value must look like, where the check alone would let too much through."""


OPTIONS: tuple[Option, ...] = (
    Option(
        "kernel",
        "string",
        "auto",
        "auto, or the package base of an installed kernel such as linux-lts",
        "Which kernel captures. auto takes the variant linux-kdump when it is installed, else the package of the"
        " running kernel, else the newest installed kernel.",
        r"[A-Za-z0-9@._+-]+",
    ),
    Option(
        "generator",
        'option("auto", "mkinitcpio", "dracut")',
        "auto",
        "auto, mkinitcpio or dracut",
        "What builds the capture image. auto takes the one that built the system's own images.",
    ),
    Option(
        "flavour",
        'option("auto", "direct", "udev", "systemd")',
        "auto",
        "auto, direct, udev or systemd",
        "Kind of the capture image. auto takes the lightest that reaches the dump target: direct (busybox and exactly"
        " the modules needed), udev (mkinitcpio's busybox flavour) or systemd.",
    ),
    Option(
        "image_dir",
        "string",
        "/boot",
        "an absolute directory",
        "Directory of the capture image, initramfs-linux-kdump.img.",
        r"/[^\x00-\x1f'\"\\$`]*",
    ),
    Option(
        "path",
        "string",
        "/var/crash",
        "an absolute directory",
        "Directory of the dumps. The file system that holds it is the dump target.",
        PATH,
    ),
    Option(
        "drivers",
        "force_list",
        "auto",
        "auto, common, or a comma-separated list of kernel modules",
        "Drivers of the disk that holds the target. auto reads them from this machine and falls back to common (the"
        " usual storage controllers) where the hardware can't be seen, as in a chroot.",
        MODULE_NAME,
    ),
    Option(
        "modules",
        "force_list",
        "",
        "a comma-separated list of kernel modules",
        "More kernel modules for the capture image; a ? after a name says that it may be missing.",
        MODULE_NAME,
    ),
    Option(
        "dump_level",
        "string",
        "auto",
        "auto, or a number from 0 to 31",
        "What makedumpfile leaves out, its option -d. auto is 31 (all that debugging rarely needs), or the highest"
        " level known to be safe for this kernel and this makedumpfile.",
        r"auto|[0-9]|[12][0-9]|3[01]",
    ),
    Option(
        "compression",
        'option("zstd", "zlib", "lzo", "snappy", "none")',
        "zstd",
        "zstd, zlib, lzo, snappy or none",
        "Compression of the vmcore. Arch's makedumpfile has zstd and zlib.",
    ),
    Option(
        "encrypt_to",
        "force_list",
        "",
        "a comma-separated list of public keys of age(1), each beginning with age1",
        "Dumps are encrypted to these keys before they are written, so that they may lie on a disk that isn't. Only"
        " who has one of the private keys can read them: kdump-pkg decrypt.",
        r"age1[02-9ac-hj-np-z]{58}",
    ),
    Option(
        "capture",
        'option("image", "system")',
        "image",
        "image or system",
        "Where the dump is saved from: the capture image alone, or the whole system, started by the capture kernel with"
        " kdump-save.service. system needs far more memory; it is for disks that only the whole system can reach.",
    ),
    Option(
        "timeout",
        "integer(30, 86400)",
        "600",
        "seconds, from 30 to 86400",
        "Deadline of the whole capture; then the machine reboots, whatever hangs. In a section: of all that is done on"
        " that target; then the next one is tried.",
    ),
    Option(
        "step_timeout",
        "integer(5, 86400)",
        "300",
        "seconds, from 5 to 86400",
        "Deadline of each step of a capture; what isn't done by then is given up, and the next step begins. To save the"
        " memory may take longer, but not so long without getting on.",
    ),
    Option(
        "device_timeout",
        "integer(1, 3600)",
        "30",
        "seconds, from 1 to 3600",
        "How long the capture waits until a target's device is there, opened and mounted.",
    ),
    Option(
        "passphrase_timeout",
        "integer(0, 3600)",
        "60",
        "seconds, from 0 to 3600",
        "How long the capture waits for somebody to type the passphrase of an encrypted target whose key it doesn't"
        " have, after all other targets have been tried. 0: it never asks.",
    ),
    Option(
        "crash_loop",
        "integer(0, 1440)",
        "10",
        "minutes, from 0 to 1440",
        "A crash that comes within so many minutes of the last one, for the third time in a row, leaves only its log,"
        " and the machine halts. 0: it never halts for that.",
    ),
    Option(
        "keep",
        "integer(0, 10000)",
        "5",
        "a number from 0 to 10000",
        "How many dumps are kept. The oldest go first, incomplete ones before complete ones; never the newest, the"
        " newest complete one, or one that holds a file named pinned. 0: any number.",
    ),
    Option(
        "max_age",
        "integer(0, 36500)",
        "0",
        "days, from 0 to 36500",
        "Dumps that are older are removed. 0: at any age they stay.",
    ),
    Option("max_use", "string", "0", SIZE_WORDS, "What all dumps together may take. 0: no limit.", SIZE),
    Option(
        "keep_free",
        "string",
        "5%",
        SIZE_WORDS,
        "What stays free on the file system: old dumps are removed for it, before a dump and after the boot.",
        SIZE,
    ),
    Option(
        "final_action",
        'option("reboot", "poweroff", "halt", "shell")',
        "reboot",
        "reboot, poweroff, halt or shell",
        "What happens when the dump is saved.",
    ),
    Option(
        "failure_action",
        'option("reboot", "poweroff", "halt", "shell")',
        "reboot",
        "reboot, poweroff, halt or shell",
        "What happens when nothing could be saved.",
    ),
    Option(
        "cmdline_add",
        "force_list",
        "",
        "a comma-separated list of kernel parameters",
        "Parameters added to the command line of the capture kernel.",
        r"[^\x00-\x20'\\]+",
    ),
    Option(
        "cmdline_remove",
        "force_list",
        "",
        "a comma-separated list of parameter names",
        "Parameters taken away from it, by name (console) or as a whole (console=tty0).",
        r"[^\x00-\x20'\\]+",
    ),
    Option(
        "save_debug",
        "boolean",
        "yes",
        "yes or no",
        "Whether the unpacked kernel of each installed release is kept under /usr/lib/debug.",
    ),
    Option(
        "keep_debug",
        "integer(0, 100)",
        "2",
        "a number from 0 to 100",
        "For how many removed releases without a dump the debug kernel is kept as well.",
    ),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}

_SHARED = ("device_timeout", "timeout", "keep", "max_age", "max_use", "keep_free")
TARGET_OPTIONS: tuple[Option, ...] = (
    Option(
        "path",
        "string",
        "",
        "an absolute directory",
        "Directory of the dumps: for root one of the running system, else one below the top of that file system.",
        PATH,
    ),
    Option(
        "fstype",
        'option("auto", "ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs", "vfat", "exfat")',
        "auto",
        "auto, ext4, ext3, ext2, xfs, btrfs, f2fs, vfat or exfat",
        "Type of the file system. auto reads it from this machine.",
    ),
    Option(
        "layers",
        "force_list",
        "auto",
        "auto, or a comma-separated list, from the disk up, of md:UUID, crypt:UUID and lvm:GROUP/VOLUME",
        "What lies between disk and file system and has to be opened. auto reads it from this machine; where the"
        " machine can't be seen, as in a chroot, it has to be named.",
        rf"auto|md:[0-9a-f:-]+|crypt:[0-9a-f-]+|lvm:{NAME}/{NAME}",
    ),
    *(replace(BY_NAME[name], default="") for name in _SHARED),
)
"""The keys of a `[target …]` section; one without a default has that of the option of the same name."""

UPLOAD = "upload"
UPLOAD_OPTIONS: tuple[Option, ...] = (
    Option(
        "remote",
        "string",
        "",
        "name:path, the name being that of a section in rclone's configuration",
        "Where to, as rclone(1) has it: a store or server, and a bucket or directory there. Without it nothing is"
        " sent.",
        REMOTE,
    ),
    Option(
        "what",
        'option("reports", "dumps")',
        "reports",
        "reports or dumps",
        "reports are the report, the log and what is known of the saving, some kilobytes for each crash; dumps are all"
        " that and the memory. Dumps that are encrypted are sent encrypted.",
    ),
    Option(
        "rate",
        "string",
        "0",
        "0, or bytes a second such as 512K or 10M (K, M, G)",
        "How fast at most; 0: as fast as it goes.",
        r"0|[1-9][0-9]{0,5}[KMG]",
    ),
    Option(
        "config",
        "string",
        "/etc/kdump-pkg/rclone.conf",
        "an absolute file name",
        "rclone's configuration, with the keys of the store. It has to belong to root, and nobody else may read it.",
        PATH,
    ),
    Option(
        "host",
        "string",
        "auto",
        "auto, or a name of letters, digits, dot, hyphen and underscore",
        "The directory of this machine there. auto is its host name, with some digits behind it where many machines"
        " have that name, as localhost.",
        HOST,
    ),
)
"""The keys of the `[upload]` section."""

VARIANT = "variant"
VARIANT_OPTIONS: tuple[Option, ...] = (
    Option(
        "follow",
        'option("release", "series", "never")',
        "release",
        "release, series or never",
        "When linux-kdump is built anew by itself: for every upgrade of the system's kernel, for those to a new series"
        " (6.12 to 6.13), or never, also not for a disk that it has no driver for. It captures kernels of other"
        " releases, too; what a newer one has made, as an md array, may be too new for it.",
    ),
    Option(
        "source",
        "string",
        "auto",
        "auto, or the absolute path of an archive or a directory",
        "Source of the kernel. auto fetches what the system's kernel was built from; an archive or an unpacked tree of"
        " your own is used as it is.",
        rf"auto|{PATH}",
    ),
    Option(
        "sha256",
        "string",
        "",
        "the 64 hexadecimal digits that sha256sum(1) prints",
        "What the archive named by source has to be; without it, any is taken that has a good signature or none.",
        "[0-9a-f]{64}|",
    ),
    Option(
        "keys",
        "string",
        "auto",
        "auto, or an absolute file name",
        "Public keys, as gpg --export writes them, one of which must have signed the source. auto: those of the"
        " maintainers of Linux and of Arch's kernels; of an archive of your own only what has a signature beside it is"
        " checked.",
        rf"auto|{PATH}",
    ),
    Option(
        "drivers",
        'option("auto", "all")',
        "auto",
        "auto or all",
        "What is built in: what leads to the dump targets of this machine, or all that kdump-pkg knows of, for disks"
        " that may move to another machine.",
    ),
    Option(
        "network",
        "boolean",
        "no",
        "yes or no",
        "Whether wired network drivers are built in, for scripts of your own in /etc/kdump-pkg/pre.d and post.d.",
    ),
    Option(
        "trust",
        "boolean",
        "no",
        "yes or no",
        "Whether a new one captures without having been rehearsed, for machines without QEMU. Where QEMU is installed"
        " it is always rehearsed before it is installed.",
    ),
    Option(
        "power",
        'option("mains", "any")',
        "mains",
        "mains or any",
        "What the machine must run on for a build to begin by itself.",
    ),
    Option(
        "max_load",
        "string",
        "50%",
        "a percentage from 1% to 100%, or 0",
        "How busy the processors may be (the load average of one minute, of all of them) for a build to begin by"
        " itself. 0: however busy.",
        r"0|([1-9][0-9]?|100)%",
    ),
)
"""The keys of the `[variant]` section."""

VARIANT_BY_NAME: dict[str, Option] = {option.name: option for option in VARIANT_OPTIONS}
UPLOAD_BY_NAME: dict[str, Option] = {option.name: option for option in UPLOAD_OPTIONS}
TARGET_BY_NAME: dict[str, Option] = {option.name: option for option in TARGET_OPTIONS}
