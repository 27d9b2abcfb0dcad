"""The one table of configuration options; configspec, sample file, manual page, --help and tests are made from it."""

from __future__ import annotations

from dataclasses import dataclass

MODULE_NAME = r"[A-Za-z0-9_-]+\??"


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
        r"/[^\x00-\x1f'\"\\]*",
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
        "timeout",
        "integer(30, 86400)",
        "600",
        "seconds, from 30 to 86400",
        "Deadline of the whole capture; then the machine reboots, whatever hangs.",
    ),
    Option(
        "device_timeout",
        "integer(1, 3600)",
        "30",
        "seconds, from 1 to 3600",
        "How long the capture waits for the target's device.",
    ),
    Option(
        "final_action",
        'option("reboot", "poweroff", "halt", "shell")',
        "reboot",
        "reboot, poweroff, halt or shell",
        "What happens when the dump is saved.",
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


def configspec() -> list[str]:
    """The configspec of ConfigObj, a line per option."""
    return [f"{o.name} = {_with_default(o)}" for o in OPTIONS]


def _with_default(option: Option) -> str:
    default = "list()" if option.check == "force_list" and not option.default else f'"{option.default}"'
    if option.check.endswith(")"):
        return f"{option.check[:-1]}, default={default})"
    return f"{option.check}(default={default})"
