"""Sends pieces of a dump with rclone, and takes none for arrived whose hash has not been read there.

A piece is copied to a file of our own first: what is hashed is what is sent, whatever becomes of the dump meanwhile.
rclone asks nothing, makes no bucket, and no word of its configuration reaches a message.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdump_pkg import fs, paths, ui
from kdump_pkg.context import Context, stamp_of
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import dumps
from kdump_pkg.model.upload import Arrived, Batch, Piece, Record, Store
from kdump_pkg.run import Result
from kdump_pkg.untrusted import masked

BLOCK = 1 << 20
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
PATIENCE = 6 * 3600
"""Seconds that one call of rclone may take where no rate says how long it has to; rclone itself ends what stalls."""
LIMITS = (
    "--ask-password=false", "--retries=1", "--low-level-retries=3", "--contimeout=15s", "--timeout=60s", "--stats=0",
    "--transfers=2", "--checkers=2", "--log-level=NOTICE",
    # No bucket is ours to make; and of what is sent in one go the store itself tells the hash.
    "--s3-no-check-bucket", "--s3-upload-cutoff=200M",
)  # fmt: skip
SAID = 1 << 16  # bytes of what rclone said that are looked at
PREFIX = (
    r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:[A-Z]+ *:)? *|Failed to [\w -]+ with \d+ errors?: last error was: *|"
    r'Failed to create file system for "[^"]*": *'
)
NOT_FOUND = 3  # rclone's exit code for a directory that isn't there
LEFT_OVER = re.compile(r"(.+)\.[0-9a-z]{8}\.partial")
LATER = "kdump-pkg-upload.timer tries it again"
CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"knownhosts: key is unknown", "the server's key isn't known",
     "compare its fingerprint, then add it to known_hosts_file"),
    (r"knownhosts: key mismatch", "the server has another key than it had", "find out why before anything is sent"),
    (r"AccessDenied|SignatureDoesNotMatch|InvalidAccessKey|unable to authenticate|permission denied|Forbidden|"
     r"Unauthorized|StatusCode: 40[13]\b", "refused", "correct the keys in {config}"),
    (r"NoSuchBucket|bucket does not exist", "no such bucket", "make it: rclone --config {config} mkdir {remote}"),
    (r"Quota|EntityTooLarge|no space left|Insufficient ?Storage|StatusCode: (413|507)\b|SSH_FX_FAILURE|storage is full",
     "no room there", "make some, or set what = reports"),
    (r"connection refused|no such host|i/o timeout|unreachable|dial tcp|connection reset|StatusCode: 50[234]\b|EOF|"
     r"connection lost|broken pipe", "can't be reached", LATER),
)  # fmt: skip


class LocalError(KdumpError):
    """Of a dump, not of the store: the other dumps can still be sent."""


@dataclass(frozen=True)
class Staged:
    """A piece as it will be sent."""

    size: int
    stamp: str
    hashes: Mapping[str, str]


def lend_config(ctx: Context, store: Store, record: Record) -> Record:
    """Give rclone a copy of its configuration, for it writes into it: tokens that it renews, and what it found out.

    That stays until the user changes the original, which isn't touched.
    """
    path = ctx.path(paths.UPLOAD_CONFIG, follow=False)
    if record.config == store.stamp and path.is_file():
        return record
    fs.remove_tree(path.parent)
    path.parent.mkdir(0o700, parents=True)
    fs.write_atomic(path, store.data, 0o600)
    record = replace(record, config=store.stamp)
    write_record(ctx, record)
    return record


def look(ctx: Context, store: Store, to: str) -> dict[str, int]:
    """Names and sizes of what lies in the directory TO there; what a killed rclone has left in it is removed."""
    done = _rclone(ctx, store, "lsjson", "--files-only", _where(store, to), ok=(0, NOT_FOUND))
    found = {str(one["Name"]): int(one["Size"]) for one in _listing(store, done)}
    for name in [name for name in found if LEFT_OVER.fullmatch(name)]:
        del found[name]
        with contextlib.suppress(KdumpError):  # it may be forbidden to remove anything there
            _rclone(ctx, store, "deletefile", _where(store, to) + name)
    return found


def send(ctx: Context, store: Store, batch: Batch, there: Mapping[str, int]) -> dict[str, Arrived]:
    """Let the pieces of BATCH be there: those of THERE whose hash is right are not sent again."""
    with _stage(ctx) as stage:
        staged = _copy_pieces(ctx, batch, stage)
        return _deliver(ctx, store, batch.to, stage, staged, there)


def send_list(ctx: Context, store: Store, to: str, name: str, data: bytes, there: Mapping[str, int]) -> Arrived:
    """The list of all that has arrived; its hash is its stamp."""
    digest = hashlib.sha256(data).hexdigest()
    hashes = {"sha256": digest, "sha1": hashlib.sha1(data).hexdigest(), "md5": hashlib.md5(data).hexdigest()}
    with _stage(ctx) as stage:
        fs.write_atomic(stage / name, data, 0o600)
        return _deliver(ctx, store, to, stage, {name: Staged(len(data), digest, hashes)}, there)[name]


def write_record(ctx: Context, record: Record) -> None:
    fs.write_record(ctx.path(paths.UPLOADS), {"version": 1, **ui.plain(record)}, 0o600)


# --- here -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stage(ctx: Context) -> Iterator[Path]:
    """A directory of our own for what is sent at once; what a killed run has left there goes."""
    home = ctx.path(paths.UPLOAD_STAGE, follow=False)
    fs.remove_tree(home)
    stage = home / "objects"
    try:
        home.mkdir(0o700, parents=True)
        stage.mkdir(0o700)
        yield stage
    except OSError as error:
        raise KdumpError(
            f"{error.filename or home}: {error.strerror or error}", hint=fs.HINTS.get(error.errno or 0)
        ) from None
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _copy_pieces(ctx: Context, batch: Batch, stage: Path) -> dict[str, Staged]:
    """Raises LocalError for what can't be read, or is another than it was when it was planned."""
    fs.check_space(stage, batch.size)
    try:
        fd = os.open(ctx.path(batch.directory, follow=False), dumps.HERE | os.O_DIRECTORY)
        try:
            return {piece.name: _copy(fd, piece, stage / piece.name) for piece in batch.pieces}
        finally:
            os.close(fd)
    except OSError as error:
        raise LocalError(f"{batch.directory}: not sent: {error.strerror or error}") from None


def _copy(directory: int, piece: Piece, target: Path) -> Staged:
    hashes = [hashlib.sha256(), hashlib.sha1(), hashlib.md5()]
    fd = os.open(piece.file, dumps.HERE | os.O_NONBLOCK, dir_fd=directory)
    with os.fdopen(fd, "rb") as source, target.open("xb") as copy:
        facts = os.fstat(fd)
        source.seek(piece.offset)
        left = piece.size
        while left and (block := source.read(min(left, BLOCK))):
            for one in hashes:
                one.update(block)
            copy.write(block)
            left -= len(block)
        if left or not stat.S_ISREG(facts.st_mode) or stamp_of(os.fstat(fd)) != piece.stamp:
            raise OSError(errno.ESTALE, f"{piece.file} has changed meanwhile")
    os.utime(target, ns=(facts.st_mtime_ns, facts.st_mtime_ns))
    return Staged(piece.size, piece.stamp, {one.name: one.hexdigest() for one in hashes})


# --- there ------------------------------------------------------------------------------------------------------------


def _deliver(
    ctx: Context, store: Store, to: str, stage: Path, staged: Mapping[str, Staged], there: Mapping[str, int]
) -> dict[str, Arrived]:
    """Send what isn't there with the right hash, and look whether it is then."""
    alike = {name: one for name, one in staged.items() if there.get(name) == one.size}
    good = _verified(ctx, store, to, stage, alike) if alike else set()
    missing = {name: one for name, one in staged.items() if name not in good}
    if missing:
        for name in good:
            (stage / name).unlink()
        words = ["copy", "--no-traverse", "--ignore-times", os.fspath(stage), _where(store, to)]
        _rclone(ctx, store, *words, size=sum(one.size for one in missing.values()))
        bad = sorted(set(missing) - _verified(ctx, store, to, stage, missing))
        if bad:
            raise KdumpError(f"{_where(store, to)}{bad[0]}: not there as it was sent", hint=LATER)
    return {name: Arrived(one.size, one.stamp, one.hashes["sha256"]) for name, one in staged.items()}


def _verified(ctx: Context, store: Store, to: str, stage: Path, staged: Mapping[str, Staged]) -> set[str]:
    """Which of these are there with the hash that they have here: the store says it, or they are read back."""
    names = _write_names(stage, staged)
    words = ["lsjson", "--hash", "--files-only", f"--files-from-raw={names}", _where(store, to)]
    good, silent = set(), []
    for one in _listing(store, _rclone(ctx, store, *words, ok=(0, NOT_FOUND))):
        name, told = str(one["Name"]), one.get("Hashes")
        if name not in staged or one["Size"] != staged[name].size:
            continue
        mine = staged[name].hashes
        both = {kind: value for kind, value in told.items() if kind in mine and value} if isinstance(told, dict) else {}
        if not both:
            silent.append(name)
        elif all(mine[kind] == str(value).lower() for kind, value in both.items()):
            good.add(name)
    return good | (_read_back(ctx, store, to, stage, {name: staged[name] for name in silent}) if silent else set())


def _read_back(ctx: Context, store: Store, to: str, stage: Path, staged: Mapping[str, Staged]) -> set[str]:
    names = _write_names(stage, staged)
    words = ["hashsum", "SHA256", "--download", f"--files-from-raw={names}", _where(store, to)]
    done = _rclone(ctx, store, *words, size=sum(one.size for one in staged.values()))
    pairs = (line.partition("  ") for line in done.text.splitlines())
    return {name for digest, _, name in pairs if name in staged and staged[name].hashes["sha256"] == digest}


def _write_names(stage: Path, names: Iterable[str]) -> str:
    path = stage.parent / "names"
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return os.fspath(path)


def _where(store: Store, to: str) -> str:
    """Ends with a slash: rclone would ask first whether it is an object, and takes any error for a yes."""
    return f"{store.remote}{'' if store.remote.endswith((':', '/')) else '/'}{to}/"


def _listing(store: Store, done: Result) -> list[dict[str, Any]]:
    if done.returncode == NOT_FOUND:
        return []
    try:
        found = json.loads(done.stdout)
        return [one for one in found if isinstance(one["Name"], str) and isinstance(one["Size"], int)]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise KdumpError(f"{store.remote}: rclone gave no list of what is there", hint="pacman -Syu rclone") from None


def _rclone(ctx: Context, store: Store, *words: str, size: int = 0, ok: Sequence[int] = (0,)) -> Result:
    """Run rclone. Raises KdumpError with what it said, without anything secret, and what to do."""
    limits = [*LIMITS, *([f"--bwlimit={store.rate}"] if store.rate != "0" else [])]
    most = PATIENCE
    if store.rate != "0":
        most += 3 * size // (int(store.rate[:-1]) * UNITS[store.rate[-1]])
    argv = ["rclone", words[0], f"--config={os.fspath(ctx.path(paths.UPLOAD_CONFIG))}", *limits, *words[1:]]
    try:
        done = ctx.runner(argv, check=False, timeout=most, env={"HOME": "/root"})
    except CommandError as error:
        if error.hint:  # it isn't installed
            raise
        raise KdumpError(f"{store.remote}: rclone was not done after {most} s", hint=LATER) from None
    if done.returncode not in ok:
        raise explain(store, done)
    return done


def explain(store: Store, done: Result) -> KdumpError:
    """One line for what rclone says in many."""
    said = done.stderr[-SAID:].decode("utf-8", "replace")
    for secret in store.secrets:
        said = said.replace(secret, "…")
    said = re.sub(r"(?i)((?:signature|credential|token|password|secret)[\w-]*=)[^&\s\"]+", r"\1…", said)
    lines = [re.sub(PREFIX, "", line).strip() for line in said.splitlines()]
    last = next((line for line in reversed(lines) if line), f"exit code {done.returncode}")
    words = masked(last)
    for pattern, what, hint in CAUSES:
        if re.search(pattern, said, re.IGNORECASE):
            return KdumpError(
                f"{store.remote}: {what}: {_cut(words)}", hint=hint.format(config=store.config, remote=store.remote)
            )
    return KdumpError(f"{store.remote}: {_cut(words)}", hint=LATER)


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:120]} … {text[-75:]}"
