"""What boots the machine: where kernel command lines stand, as bytes in files, and what must be run afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kdump_pkg.model.wishes import LoaderName


@dataclass(frozen=True)
class TextFile:
    """A file that a boot loader, or what generates its configuration, reads."""

    path: str
    data: bytes | None
    """None: it isn't there and may be made."""


@dataclass(frozen=True)
class Stretch:
    """A run of bytes of a file that holds a kernel command line, or a part of one, without its quotes."""

    path: str
    start: int
    end: int
    line: int
    """For messages; the first one is 1."""


@dataclass(frozen=True)
class Insert:
    """What has to be put into a file so that a command line has a new word."""

    path: str
    at: int
    before: bytes = b""
    after: bytes = b""
    words: bool = True
    """Whether the words stand between `before` and `after`; False for the other quote of a pair."""


@dataclass(frozen=True)
class CommandLine:
    """The command line of one entry, of one variable, of one image."""

    entry: str
    """What it is for, as its file says it: an entry's title, a variable's name."""
    stretches: tuple[Stretch, ...] = ()
    """In the order in which the kernel gets them."""
    grow: tuple[Insert, ...] = ()
    """How a new word comes in, where none is to be replaced."""
    foreign: str | None = None
    """Why it is left alone: it starts a snapshot, another system …"""


@dataclass(frozen=True)
class Result:
    """What is generated from the files that are edited, and must have the parameter in it then."""

    path: str
    kind: Literal["grub.cfg", "uki", "entries", "limine"]
    """How command lines are read from it; `entries` is a directory of loader entries."""


@dataclass(frozen=True)
class ResultLine:
    """One command line that a result holds."""

    entry: str
    text: str
    foreign: str | None = None


@dataclass(frozen=True)
class Loader:
    """One boot loader that is here, as far as the kernel command line goes."""

    name: LoaderName
    title: str
    evidence: str
    """Why it is taken for one that boots this machine: `LoaderInfo says systemd-boot 257`."""
    booted: bool = False
    """Whether this boot came through it, by what firmware and kernel say; else it is merely here."""
    files: tuple[TextFile, ...] = ()
    lines: tuple[CommandLine, ...] = ()
    regenerate: tuple[tuple[str, ...], ...] = ()
    """Programs to run after a change, as argv, in their order."""
    results: tuple[Result, ...] = ()
    manual: tuple[str, ...] = ()
    """Commands for the user to run where we don't change it ourselves; `{}` stands for the parameters."""
    problem: str | None = None
    """Why its configuration can't be changed, in one line with the remedy."""

    def data(self, path: str) -> bytes:
        return next((file.data or b"" for file in self.files if file.path == path), b"")


@dataclass(frozen=True)
class NvramEntry:
    """A Boot#### variable of the firmware (UEFI specification, EFI_LOAD_OPTION)."""

    number: str
    """Four hexadecimal digits."""
    label: str
    file: str
    """Path on its partition, with slashes: /EFI/systemd/systemd-bootx64.efi."""
    partuuid: str = ""
    partition: int = 0
    arguments: str = ""
    """What the firmware hands to it: an EFI stub's kernel command line."""


@dataclass(frozen=True)
class Firmware:
    """What UEFI variables say of this boot; empty where there are none."""

    efi: bool = False
    loader_info: str = ""
    """LoaderInfo of the Boot Loader Interface: `systemd-boot 257.9`, `GRUB 2.12`, `Limine 9.3.0`."""
    stub_info: str = ""
    """StubInfo: set when a unified kernel image was started."""
    selected: str = ""
    """LoaderEntrySelected: file name of the entry that was started."""
    device: str = ""
    """LoaderDevicePartUUID: GPT partition that the boot loader was started from, in lower case."""
    entry: NvramEntry | None = None
    """What BootCurrent names."""
    secure_boot: bool | None = None


@dataclass(frozen=True)
class Place:
    """A directory where a boot loader may have its files: /boot, /efi."""

    path: str
    kind: Literal["esp", "xbootldr", "directory"] = "directory"
    """directory: a part of the root file system, or a file system that is neither."""
    device: str = ""
    """/dev/vda1"""
    mounted: bool = True
    """False: /etc/fstab has it and it isn't mounted, and no automount would do it."""
    readonly: bool = False
    readable: bool = True
    """False: only root may look into it, as is usual for an ESP, and we aren't root."""


@dataclass(frozen=True)
class Preset:
    """One image of a preset of mkinitcpio, as bash evaluates it."""

    file: str
    name: str
    uki: str = ""
    image: str = ""
    cmdline: str = ""
    """File that its command line is taken from instead of /etc/kernel/cmdline."""


@dataclass(frozen=True)
class Surroundings:
    """What a boot-loader module has to know besides the files that it reads."""

    live: bool = False
    """Whether this is the running system: only then cmdline and firmware are its own."""
    cmdline: str | None = None
    roots: frozenset[str] = frozenset()
    """All values of root= that mean this system's root: UUID=…, PARTUUID=…, LABEL=…, /dev/vda2, /dev/mapper/root …"""
    machine_id: str = ""
    places: tuple[Place, ...] = ()
    firmware: Firmware = Firmware()
    presets: tuple[Preset, ...] = ()
    """Those of mkinitcpio, but for our own."""
    programs: frozenset[str] = frozenset()
    """Of those that boot-loader modules ask for (`loaders.PROGRAMS`), those that are installed."""


@dataclass(frozen=True)
class Edit:
    """A file before and after; finished bytes, so that it can be shown as a diff."""

    path: str
    before: bytes | None
    after: bytes
    words: tuple[str, ...] = ()
    """Parameters that were put in."""
    lines: tuple[bytes, ...] = ()
    """Whole lines that were put in, with their ends."""
    replaced: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Entry to the parameters that had to go for them."""
