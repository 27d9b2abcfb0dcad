"""The dumps of this machine, as `kdump-pkg list` knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kdump_pkg.untrusted import number

State = Literal["complete", "partial", "incomplete", "dmesg only", "damaged", "being written", "failed"]
Maker = Literal["kdump-pkg", "ArchWiki", "kdumpst", "Debian", "Fedora", "SUSE", "unknown"]
"""`unknown`: a vmcore that was named by its path, and lies where nobody's dumps do."""


@dataclass(frozen=True)
class Entry:
    """One dump, ours or one that another program has made."""

    id: str
    """Name of its directory, or of its file where it is but one; unique among what is listed."""
    path: str
    """Absolute, in the root that we work on."""
    maker: Maker
    time: int
    """Of the crash, in seconds since 1970."""
    release: str = ""
    """Empty: not known."""
    state: State = "incomplete"
    encrypted: bool = False
    """Something of it can't be read without a key; what was decrypted beside it can."""
    pinned: bool = False
    size: int = 0
    """Bytes that it takes on the disk."""
    vmcore: str = ""
    """Path of the memory, also where only its beginning is there, or it is encrypted (`.age`); empty: none."""
    log: str = ""
    """Path of the crashed kernel's log; empty: none that could be read without a key."""
    build_id: str = ""
    what: str = ""
    """Cause in a few words, from its report; empty: no report yet."""
    where: str = ""
    """`nouveau_fence_update [nouveau]`"""
    signature: str = ""

    @property
    def foreign(self) -> bool:
        return self.maker != "kdump-pkg"


@dataclass(frozen=True)
class Details:
    """What else is told of one dump."""

    meta: tuple[tuple[str, str], ...] = ()
    """As kdump-save wrote it; none of a foreign dump."""
    files: tuple[tuple[str, int], ...] = ()
    """Names, sorted, and sizes in bytes."""

    def get(self, key: str) -> str:
        """Of `meta`; empty where it doesn't say."""
        return dict(self.meta).get(key, "")


@dataclass(frozen=True)
class CoreInfo:
    """VMCOREINFO: what the crashed kernel says of itself. All text is printable ASCII."""

    values: tuple[tuple[str, str], ...] = ()
    """As in the note: `("OSRELEASE", "6.12.1")`, `("SYMBOL(init_uts_ns)", "ffffffff…")`, `("CRASHTIME", "1795…")`."""

    def get(self, key: str) -> str:
        """Empty where the note doesn't have it."""
        return dict(self.values).get(key, "")

    @property
    def release(self) -> str:
        return self.get("OSRELEASE")

    @property
    def build_id(self) -> str:
        return self.get("BUILD-ID").lower()

    @property
    def crash_time(self) -> int | None:
        return number(self.get("CRASHTIME"))


@dataclass(frozen=True)
class Vmcore:
    """What the headers of a dump of memory say."""

    form: Literal["kdump", "flattened", "elf"]
    architecture: str
    """As `uname -m` gives it."""
    info: CoreInfo
    level: int | None = None
    """Dump level; None: not in its headers."""
    compression: str = ""
    incomplete: bool = False
    """makedumpfile says itself that it could not write all of it."""
    pages: int = 0
    """That it holds; 0: not counted."""
    size: int = 0
