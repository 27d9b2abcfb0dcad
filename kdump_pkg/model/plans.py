"""What is to be done: the capture as it has to be, the actions that lead there, and what `status` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdump_pkg import paths
from kdump_pkg.model.machine import CryptVolume, Kernel, Target
from kdump_pkg.model.variant import Wanted
from kdump_pkg.model.wishes import Flavour, GeneratorName


@dataclass(frozen=True)
class Level:
    """The dump level, makedumpfile's option -d."""

    value: int
    reason: str | None
    """Why it isn't 31, or why what the user wants does harm; None when all is well."""


@dataclass(frozen=True)
class Capture:
    """The one capture kernel and everything its image and its load are made of."""

    kernel: Kernel
    generator: GeneratorName
    flavour: Flavour
    image: str
    modules: tuple[str, ...]
    insmod: tuple[str, ...]
    targets: tuple[Target, ...]
    """Those that can be used, in the order in which they are tried."""
    unusable: tuple[str, ...]
    """Why the others can't be, a line each."""
    keys: tuple[CryptVolume, ...]
    """Volumes whose keys are handed to the capture kernel when it is loaded."""
    level: int
    level_reason: str | None
    cmdline: str
    fingerprint: str
    env: bytes
    derived: bytes | None
    preset: bytes | None
    system: bool = False
    """Whether the image starts the whole system, which then saves the dump."""


@dataclass(frozen=True)
class WriteFile:
    path: str
    data: bytes
    mode: int
    reason: str

    @property
    def what(self) -> str:
        return f"writing {self.path}"


@dataclass(frozen=True)
class Remove:
    path: str
    reason: str

    @property
    def what(self) -> str:
        return f"removing {self.path}"


@dataclass(frozen=True)
class BuildImage:
    path: str
    generator: GeneratorName
    release: str
    fingerprint: str
    flavour: Flavour
    reason: str
    system: bool = False
    """Whether it starts the whole system, which then saves the dump (`capture = system`)."""
    stage: str = ""
    """Directory with settings and kernel of one that is only to be tried; empty: those that are installed."""

    @property
    def what(self) -> str:
        return f"building {self.path} for {self.release} ({self.flavour}, {self.generator})"


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

    @property
    def what(self) -> str:
        return f"saving the debug kernel of {self.release}"


@dataclass(frozen=True)
class DropDebug:
    release: str
    reason: str

    @property
    def what(self) -> str:
        return f"removing the debug kernel of {self.release}"


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
    keys: tuple[CryptVolume, ...] = ()
    """Volumes whose keys are handed to the capture kernel."""

    @property
    def what(self) -> str:
        return f"loading {self.release} as the capture kernel"


@dataclass(frozen=True)
class Unload:
    reason: str

    @property
    def what(self) -> str:
        return "unloading the capture kernel"


@dataclass(frozen=True)
class RemoveDump:
    directory: str
    """That of all dumps of the target, on the running system."""
    name: str
    kib: int
    reason: str

    @property
    def what(self) -> str:
        return f"removing the dump {self.directory}/{self.name} ({self.kib / 1024:.1f} MiB)"


@dataclass(frozen=True)
class MakeRecord:
    """The block on the disk where a capture that can save nothing leaves a line."""

    reason: str

    @property
    def what(self) -> str:
        return f"writing {paths.RECORD}"


@dataclass(frozen=True)
class QueueVariant:
    """Ask for a build of linux-kdump, and wait for nothing."""

    wanted: Wanted
    reason: str

    @property
    def what(self) -> str:
        return f"asking for a build of {paths.VARIANT}"


Action = (
    WriteFile | Remove | BuildImage | SaveDebug | DropDebug | Load | Unload | RemoveDump | MakeRecord | QueueVariant
)


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    warnings: tuple[str, ...] = ()
    """What can't be done now, each in one line with its remedy."""
    capture: Capture | None = None
    prepare: tuple[Action, ...] = ()
    """What has to be done before the rest can be planned: the rest is then planned anew."""
    fatal: bool = False
    """Whether the first warning says why nothing can be designed at all."""


@dataclass(frozen=True)
class Finding:
    """One line of `status`: a part, whether it is as it should be, why, and what to do."""

    part: str
    state: Literal["ok", "todo", "bad", "note", "unknown"]
    text: str
    remedy: str | None = None
    evidence: str = ""
    """Where it was read: a path, a parameter."""
