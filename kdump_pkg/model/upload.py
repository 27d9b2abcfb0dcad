"""What is sent away, in which pieces, and what has arrived."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LocalFile:
    """One file of a dump, as it lies here."""

    name: str
    size: int
    stamp: str
    """Size and time of change; another one means that the content may be another."""


@dataclass(frozen=True)
class Candidate:
    """A dump that may have to be sent."""

    id: str
    directory: str
    """Absolute, in the root that we work on."""
    files: tuple[LocalFile, ...]
    signature: str = ""
    """Of its report; empty: none, or of an encrypted dump, about which nothing is told."""
    encrypted: bool = False
    open_report: bool = False
    """Of an encrypted dump: its report holds what has been decrypted."""
    waits: str = ""
    """Why it isn't sent yet; empty: it can be."""


@dataclass(frozen=True)
class Piece:
    """One object there: a file, or a part of a large one."""

    name: str
    file: str
    offset: int
    size: int
    stamp: str


@dataclass(frozen=True)
class Batch:
    """Pieces of one dump that are sent at once."""

    id: str
    directory: str
    to: str
    """Below the remote: `host/signature/id`."""
    pieces: tuple[Piece, ...] = ()
    names: tuple[Piece, ...] = ()
    """Of the last one, which is the list of all that has arrived: what it has to name."""

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


@dataclass(frozen=True)
class Arrived:
    """An object that was read back, or whose hash the store itself told."""

    size: int
    stamp: str
    sha256: str


@dataclass(frozen=True)
class Sent:
    """What is known of one dump there."""

    remote: str
    to: str
    path: str = ""
    """Of the dump here."""
    objects: dict[str, Arrived] = field(default_factory=dict)
    whole: str = ""
    """What had arrived when its list did last, reports or dumps; empty: it never has."""


@dataclass(frozen=True)
class Failure:
    """Why the last try ended."""

    time: int
    text: str
    hint: str = ""


@dataclass(frozen=True)
class Record:
    """/var/lib/kdump-pkg/uploads.json."""

    dumps: dict[str, Sent] = field(default_factory=dict)
    failure: Failure | None = None
    config: str = ""
    """Stamp of the user's configuration of rclone, as it was when rclone got its copy."""


@dataclass(frozen=True)
class UploadPlan:
    batches: tuple[Batch, ...] = ()
    """In the order in which they go."""
    waiting: tuple[tuple[str, str], ...] = ()
    """Dumps that can't be sent yet, and why."""

    @property
    def pending(self) -> tuple[str, ...]:
        """Dumps of which something has yet to be sent, each once."""
        return tuple(dict.fromkeys([*(b.id for b in self.batches), *(name for name, _ in self.waiting)]))


@dataclass(frozen=True)
class Store:
    """Where to, checked: rclone's configuration is there, nobody else can read it, and it has this remote."""

    remote: str
    config: str
    """Path of rclone's configuration as the user has made it, in the root that we work on."""
    rate: str = "0"
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Values out of rclone's configuration that no message may hold."""
    stamp: str = ""
    data: bytes = field(default=b"", repr=False)
    """Of that file."""
