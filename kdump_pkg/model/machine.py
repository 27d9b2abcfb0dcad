"""What a machine is: the facts that a plan is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kdump_pkg.model.variant import VariantState
from kdump_pkg.model.wishes import Flavour, GeneratorName, Layer, Retention


@dataclass(frozen=True)
class Kernel:
    """One kernel whose modules directory is there, installed or left behind."""

    release: str
    vmlinuz: str | None
    """Path of the bzImage; None when a removed package left only other files."""
    pkgbase: str | None
    package: str | None = None
    """Name of the installed package that owns it, as far as the local database tells."""
    version: str | None = None
    build_id: str | None = None
    stamp: str = ""
    """Size and modification time of vmlinuz: when equal, so is the file."""
    vmlinux: tuple[str, ...] = ()
    """Unpacked kernels that belong to this release, best first (paths)."""
    sources: str = ""
    """Digest of what a debug kernel could be made from: when equal, nothing better has come."""
    system_map: str | None = None
    problem: str | None = None
    """Why vmlinuz can't be used, in one line; None when it can."""
    init_size: int | None = None
    """Bytes that it takes to start, as its header says."""
    builtin: frozenset[str] | None = None
    """What the variant has built in, by the names of modules; None for all others, whose index is large."""
    held: str | None = None
    """Why it must not capture, though it could; said of a variant alone (`plan.variant.hold`)."""

    @property
    def usable(self) -> bool:
        return self.vmlinuz is not None and self.problem is None

    @property
    def variant(self) -> bool:
        """Our own slim capture kernel: it ships no pkgbase, so that nobody takes it for one to boot."""
        return self.pkgbase is None and self.release.endswith("-kdump")


def module_name(file: str) -> str:
    """Name of a module as the kernel knows it, from its file, packed or not."""
    return file.rsplit("/", 1)[-1].split(".ko")[0].replace("-", "_")


@dataclass(frozen=True)
class ModuleIndex:
    """What depmod wrote for one release: enough to say which files to insmod, and in which order."""

    release: str
    files: dict[str, str] = field(default_factory=dict)
    """Name (underscores) to file below /usr/lib/modules/RELEASE."""
    depends: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """File to the files it needs, as modules.dep orders them."""
    softdeps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: dict[str, tuple[str, ...]] = field(default_factory=dict)
    builtin: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Boot:
    """What is true of this boot only; None where it can't be known (another root, no sysfs)."""

    running: str | None = None
    cmdline: str | None = None
    crash_loaded: bool | None = None
    crash_size: int | None = None
    """Bytes reserved; 0 when crashkernel= reserved nothing."""
    load_disabled: bool | None = None
    lockdown: str | None = None
    crash_dm_crypt: bool | None = None
    """Whether this kernel hands volume keys to the capture kernel (CONFIG_CRASH_DM_CRYPT)."""
    efi: bool | None = None
    """Whether EFI variables can be written here."""
    watchdog: Watchdog | None = None
    confined: str | None = None
    """Why a kernel must never be loaded from here ("in a chroot", "in a container"); None when it may."""
    memory_total: int | None = None
    """Bytes."""
    framebuffer: int = 0
    """Bytes of one screenful of the first console screen; 0 where there is none."""


@dataclass(frozen=True)
class CryptVolume:
    """A LUKS volume under a target, and how a capture can open it."""

    uuid: str
    version: int | None = None
    """Of its LUKS header; None where that can't be read."""
    argon2_kib: int = 0
    """What its most demanding key slot needs to check a passphrase; 0 for PBKDF2, which needs nothing."""
    key: Literal["linked", "keyfile", "token", "cached", "none"] = "none"
    """Whence the volume key can be had when the capture kernel is loaded: it is in root's user keyring already; a
    file of /etc/crypttab opens it; a token (TPM2, FIDO2 …) in the header does; systemd still has the passphrase in
    the kernel's keyring; from nowhere."""
    keyfile: str = ""
    device: str = ""
    """What holds it on this machine now: /dev/nvme0n1p2."""
    problem: str | None = None
    """Why no key can be linked, in one line with its remedy."""

    @property
    def key_name(self) -> str:
        """Description of its key in the kernel's keyrings, before the crash and after it."""
        return f"cryptsetup:{self.uuid}"


CACHED = "cryptsetup"
"""Description of what systemd keeps for two and a half minutes: the passphrases that were typed at boot."""


@dataclass(frozen=True)
class Target:
    """Where dumps go: a file system by a name that survives a reboot, and the directory inside it."""

    device: str
    """UUID=…, PARTUUID=…, LABEL=… as findfs(8) takes it; empty when nothing was found."""
    fstype: str
    path: str
    """Directory below the top of that file system (or of its subvolume)."""
    options: str = ""
    drivers: tuple[str, ...] | None = None
    """Modules between the CPU and the file system; None when the hardware can't be seen from here."""
    layers: tuple[Layer, ...] = ()
    """What lies between disk and file system, in the order in which it has to be opened."""
    crypt: tuple[CryptVolume, ...] = ()
    """The encrypted ones of them."""
    devices: int = 1
    """Of how many devices the file system is made; more than one only with btrfs."""
    source: str = ""
    """Where this was read, for status."""
    problem: str | None = None
    name: str = "root"
    """That of its section."""
    mounted: str = ""
    """Absolute path of the dump directory on the running system where it is mounted there, else empty."""
    save: Literal["all", "dmesg"] = "all"
    """dmesg: only the log may go there."""
    device_timeout: int = 30
    timeout: int = 600
    retention: Retention = field(default_factory=Retention)


@dataclass(frozen=True)
class Watchdog:
    """A hardware watchdog that is running: it will reset the machine unless the capture feeds it."""

    device: str
    """/dev/watchdog0"""
    driver: str
    """Name of its module; empty for one that is built in."""
    timeout: int = 0
    """Seconds."""


@dataclass(frozen=True)
class TraceRecord:
    """A block of a file of ours whose place on the device is known: where a failed capture can leave a line."""

    device: str
    """UUID=… of the file system."""
    offset: int
    """Bytes from the start of that device."""
    mark: str
    """32 hexadecimal digits; the block is written to only while it begins with them."""


@dataclass(frozen=True)
class Trace:
    """What a capture that could save nothing left behind."""

    time: int
    """Seconds since 1970, of the crash."""
    release: str
    text: str
    """What failed, at which step."""
    source: str
    """Where it was found: EFI variable, pstore, record."""


@dataclass(frozen=True)
class Dump:
    """One dump of ours, as far as retention needs to know it."""

    name: str
    """Of its directory: time of the crash and release."""
    complete: bool = False
    pinned: bool = False
    kib: int = 0
    """What removing it frees."""
    encrypted: bool = False
    """Whether there is a file in it that a key opens."""
    unsent: bool = False
    """It is to be sent away, and has not arrived there."""


@dataclass(frozen=True)
class Space:
    """Of a file system, in KiB, as df(1) counts."""

    total: int
    free: int


@dataclass(frozen=True)
class SystemImages:
    """Which generator makes the system's own images, and of what kind they are."""

    generator: GeneratorName | None
    version: str | None = None
    flavour: Flavour | None = None
    hooks: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class OwnFile:
    """A text file that is ours until the user edits it."""

    path: str
    data: bytes | None
    """None when it is not there."""
    pristine: bool = True
    """False when its checksum line no longer fits: the file is the user's."""
    problem: str | None = None
    """Why what has its name can't be read, in a few words."""


@dataclass(frozen=True)
class ImageState:
    path: str
    exists: bool
    fingerprint: str | None = None
    size: int = 0
    readable: bool = True
    """False for anybody but root: the image may hold secrets."""
    unpacked: int | None = None
    """Bytes, as measured when it was built; None for one that somebody else built, with other content."""
    least_mib: int | None = None
    """The smallest reservation with which a rehearsal of it captured, where `estimate --measure` has looked for it."""


@dataclass(frozen=True)
class DebugKernel:
    """A vmlinux kept under /usr/lib/debug."""

    release: str
    path: str
    build_id: str | None
    abilities: str
    """DWARF, BTF+symbols, BTF or none: what crash and drgn can do with it."""
    origin: str = ""
    sources: str = ""
    size: int = 0
    recorded: bool = True
    """False for a file that we did not put there: never touched."""


@dataclass(frozen=True)
class Loaded:
    """What we loaded in this boot, as recorded at the time."""

    release: str
    fingerprint: str
    cmdline: str
    image: str
    method: str
    keys: str = ""
    """UUIDs of the volumes whose keys were handed over, separated by blanks."""
    wanted: str = ""
    """Of those whose keys should have been; one that can't be had is no reason to load again and again."""


@dataclass(frozen=True)
class Facts:
    """All that a plan is made from."""

    kernels: tuple[Kernel, ...] = ()
    boot: Boot = Boot()
    targets: tuple[Target, ...] = ()
    """In the order of the configuration; one that has a problem too."""
    esp: Target | None = None
    """The ESP, for a last resort; None where none is seen."""
    hooks: tuple[tuple[str, str], ...] = ()
    """Scripts in /etc/kdump-pkg/{pre,post}.d, with the digest of each."""
    record: TraceRecord | None = None
    record_missing: bool = False
    """Whether one could be made here and isn't there yet."""
    traces: tuple[Trace, ...] = ()
    images: SystemImages = SystemImages(None)
    modules: ModuleIndex = ModuleIndex("")
    """Of the capture kernel alone, so read once that is chosen: the files are large."""
    tools: dict[str, str | None] = field(default_factory=dict)
    """Package name to version, for makedumpfile, kexec-tools, the generators, busybox, the debuggers."""
    programs: dict[str, str] = field(default_factory=dict)
    """Of the programs that an image may need, those that are here, each with size and modification time."""
    parts_hash: str = ""
    """Digest of our own scripts that go into the image."""
    derived: OwnFile = OwnFile("", None)
    preset: OwnFile = OwnFile("", None)
    capture_env: bytes | None = None
    kernel_cache: bytes | None = None
    image: ImageState = ImageState("", False)
    debug: tuple[DebugKernel, ...] = ()
    dump_releases: frozenset[str] = frozenset()
    loaded: Loaded | None = None
    leftovers: tuple[str, ...] = ()
    """Temporary files that an interrupted run left."""
    units: dict[str, bool | None] = field(default_factory=dict)
    variant: VariantState = field(default_factory=VariantState)
