"""The nouns: frozen data that crosses module borders. Facts go in, plans come out, nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Flavour = Literal["direct", "udev", "systemd"]
GeneratorName = Literal["mkinitcpio", "dracut"]


@dataclass(frozen=True)
class Config:
    """What the user asks for; the fields are the options of `options.OPTIONS`, checked and typed."""

    kernel: str = "auto"
    generator: str = "auto"
    flavour: str = "auto"
    image_dir: str = "/boot"
    path: str = "/var/crash"
    drivers: tuple[str, ...] = ("auto",)
    modules: tuple[str, ...] = ()
    dump_level: str = "auto"
    compression: str = "zstd"
    timeout: int = 600
    device_timeout: int = 30
    final_action: str = "reboot"
    cmdline_add: tuple[str, ...] = ()
    cmdline_remove: tuple[str, ...] = ()
    save_debug: bool = True
    keep_debug: int = 2


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
    confined: str | None = None
    """Why a kernel must never be loaded from here ("in a chroot", "in a container"); None when it may."""
    memory_total: int | None = None
    """Bytes."""


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
    layers: tuple[str, ...] = ()
    """What lies between file system and disk: crypt, lvm, md …"""
    source: str = ""
    """Where this was read, for status."""
    problem: str | None = None


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


@dataclass(frozen=True)
class Facts:
    """All that a plan is made from."""

    kernels: tuple[Kernel, ...] = ()
    boot: Boot = Boot()
    target: Target = Target("", "", "")
    images: SystemImages = SystemImages(None)
    modules: ModuleIndex = ModuleIndex("")
    """Of the capture kernel alone, so read once that is chosen: the files are large."""
    tools: dict[str, str | None] = field(default_factory=dict)
    """Package name to version, for makedumpfile, kexec-tools, the generators, busybox."""
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


@dataclass(frozen=True)
class Capture:
    """The one capture kernel and everything its image and its load are made of."""

    kernel: Kernel
    generator: GeneratorName
    flavour: Flavour
    image: str
    modules: tuple[str, ...]
    insmod: tuple[str, ...]
    target: Target
    level: int
    level_reason: str | None
    cmdline: str
    fingerprint: str
    env: bytes
    derived: bytes | None
    preset: bytes | None


@dataclass(frozen=True)
class WriteFile:
    path: str
    data: bytes
    mode: int
    reason: str


@dataclass(frozen=True)
class Remove:
    path: str
    reason: str


@dataclass(frozen=True)
class BuildImage:
    path: str
    generator: GeneratorName
    release: str
    fingerprint: str
    flavour: Flavour
    reason: str


@dataclass(frozen=True)
class SaveDebug:
    release: str
    build_id: str
    sources: tuple[str, ...]
    """Candidates, best first; the vmlinuz itself is the last."""
    system_map: str | None
    digest: str
    """`Kernel.sources` of the time, for the record."""
    reason: str


@dataclass(frozen=True)
class DropDebug:
    release: str
    reason: str


@dataclass(frozen=True)
class Load:
    kernel: str
    image: str
    cmdline: str
    release: str
    fingerprint: str
    methods: tuple[str, ...]
    """kexec(8) options to try in this order: -s is kexec_file_load, -c the older call."""
    reason: str


@dataclass(frozen=True)
class Unload:
    reason: str


Action = WriteFile | Remove | BuildImage | SaveDebug | DropDebug | Load | Unload


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    warnings: tuple[str, ...] = ()
    """What can't be done now, each in one line with its remedy."""
    capture: Capture | None = None
    fatal: bool = False
    """Whether the first warning says why nothing can be designed at all."""


@dataclass(frozen=True)
class Finding:
    """One line of `status`: a part, whether it is as it should be, why, and what to do."""

    part: str
    state: Literal["ok", "todo", "bad", "note", "unknown"]
    text: str
    remedy: str | None = None
