"""What has to be sent, in which pieces and in which order: what is small and worth most first, of all dumps.

A file of more than PART bytes goes in parts, for rclone can't take an object up again where it was interrupted: what
has arrived of a large vmcore isn't sent twice. The last object of a dump is the list of all the others with their
hashes; where that is, all is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kdump_pkg.model import UploadWish
from kdump_pkg.model.upload import Batch, Candidate, LocalFile, Piece, Record, Sent, UploadPlan
from kdump_pkg.paths import REPORT_JSON, REPORT_SUMS, REPORT_TEXT

PART = 64 << 20
SUMS = "sent.sums"
FIRST = (REPORT_JSON, REPORT_TEXT, "dmesg.txt", "meta", REPORT_SUMS, "save.log", "capture-dmesg.txt")
"""Small ones, by their worth."""
CORES = ("vmcore", "vmcore.partial", "vmcore.flat")
"""`vmcore.incomplete` isn't among them: it can't be read, and will never be more."""
SECRET = ("dmesg.txt", "capture-dmesg.txt", *CORES)
"""Of an encrypted dump these leave the machine as NAME.age or not at all."""
UNKNOWN = "unknown"


def plan_upload(wish: UploadWish, host: str, candidates: Sequence[Candidate], record: Record) -> UploadPlan:
    """CANDIDATES are newest first, and so are sent; RECORD says what has arrived already."""
    waiting = tuple((c.id, c.waits) for c in candidates if c.waits)
    ready = [c for c in candidates if not c.waits]
    small: list[Batch] = []
    large: list[Batch] = []
    for one in ready:
        sent = sent_of(wish, host, one, record)
        pieces = [piece for file in wanted(wish, one) for piece in pieces_of(file)]
        missing = [piece for piece in pieces if not has(sent, piece)]
        first = tuple(piece for piece in missing if piece.file == piece.name and _plain(piece.name) in FIRST)
        rest = [piece for piece in missing if piece not in first]
        small += [Batch(one.id, one.directory, sent.to, some) for some in _together(first)]
        large += [Batch(one.id, one.directory, sent.to, (piece,)) for piece in rest]
        if pieces and (missing or not listed(sent, pieces) or not is_whole(wish, sent)):
            large.append(Batch(one.id, one.directory, sent.to, names=tuple(pieces)))
    return UploadPlan((*small, *large), waiting)


def unsent(wish: UploadWish, paths: Iterable[str], record: Record) -> frozenset[str]:
    """Which of the dumps at these PATHS have not arrived as a whole; none where nothing is to be sent."""
    whole = {sent.path for sent in record.dumps.values() if sent.remote == wish.remote and is_whole(wish, sent)}
    return frozenset(paths) - whole if wish.remote else frozenset()


def is_whole(wish: UploadWish, sent: Sent) -> bool:
    """Whether all that is wanted had arrived when the list did last."""
    return sent.whole in (wish.what, "dumps")


def sent_of(wish: UploadWish, host: str, one: Candidate, record: Record) -> Sent:
    """What has arrived of a dump at this remote, in the directory that it has got there once and keeps."""
    known = record.dumps.get(one.id)
    if known and known.remote == wish.remote and known.to.startswith(f"{host}/"):
        return known
    tells = re.fullmatch("[0-9a-f]{16}", one.signature) and not one.encrypted
    signature = one.signature if tells else UNKNOWN
    return Sent(wish.remote, f"{host}/{signature}/{one.id}", one.directory)


def wanted(wish: UploadWish, one: Candidate) -> list[LocalFile]:
    """Which of its files are to be there, by their worth."""
    order = (*FIRST, *(CORES if wish.what == "dumps" else ()))
    files = [file for file in one.files if _plain(file.name) in order and not _held_back(one, file.name)]
    return sorted(files, key=lambda file: (order.index(_plain(file.name)), file.name))


def _held_back(one: Candidate, name: str) -> bool:
    """What somebody has decrypted beside the encrypted files is theirs, and so is a report made of it."""
    return one.encrypted and (name in SECRET or (one.open_report and name in (REPORT_JSON, REPORT_TEXT)))


def pieces_of(file: LocalFile) -> Iterator[Piece]:
    if file.size <= PART:
        yield Piece(file.name, file.name, 0, file.size, file.stamp)
        return
    for number, offset in enumerate(range(0, file.size, PART), 1):
        size = min(PART, file.size - offset)
        yield Piece(f"{file.name}.part{number:05}", file.name, offset, size, file.stamp)


def has(sent: Sent, piece: Piece) -> bool:
    known = sent.objects.get(piece.name)
    return known is not None and (known.size, known.stamp) == (piece.size, piece.stamp)


def listed(sent: Sent, pieces: Iterable[Piece]) -> bool:
    """Whether the list of all that has arrived has arrived, and is that of these pieces."""
    known = sent.objects.get(SUMS)
    return known is not None and known.stamp == stamp_of_sums(sums(sent, pieces))


def sums(sent: Sent, pieces: Iterable[Piece]) -> bytes:
    """All that has arrived, as sha256sum(1) writes it; empty as long as one of PIECES has not."""
    if not all(has(sent, piece) for piece in pieces):
        return b""
    return "".join(f"{one.sha256}  {name}\n" for name, one in sorted(sent.objects.items()) if name != SUMS).encode()


def stamp_of_sums(data: bytes) -> str:
    """The list has no file here that could have been changed: its content is its stamp."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def _plain(name: str) -> str:
    return name.removesuffix(".age")


def _together(pieces: Sequence[Piece]) -> Iterator[tuple[Piece, ...]]:
    """As many as make up one PART."""
    some: list[Piece] = []
    for piece in pieces:
        if some and sum(p.size for p in some) + piece.size > PART:
            yield tuple(some)
            some = []
        some.append(piece)
    if some:
        yield tuple(some)
