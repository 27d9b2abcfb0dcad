"""Makes a readable file of an encrypted one: age(1) opens it, and what makedumpfile wrote flattened is put in order.

A vmcore has gigabytes, so it goes through as a stream, and the program is not started by the runner. The file gets its
name when all of it is there and age has found the end genuine. `makedumpfile -R` would put it in order, too, but waits
for ever (1.7.8) for the rest of a stream that was cut off.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kdump_pkg import fs, run
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.corefile import FLAT, FLAT_END, FLAT_HEADER, PIECE
from kdump_pkg.untrusted import masked

MAGIC = (b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----")
CHUNK = 1 << 20
LONGEST = 200  # of age's own words: it quotes what it can't read


def decrypt(source: Path, target: Path, identity: Path) -> None:
    """Decrypt SOURCE to TARGET by the private key in IDENTITY, a file that only age reads.

    Raises KdumpError, and leaves nothing behind, when the key is another, SOURCE is damaged or cut off, there is no
    room, age is missing, or TARGET is there already.
    """
    if os.path.lexists(target):
        raise KdumpError(f"{target}: there already, left alone", hint="--output FILE writes it elsewhere")
    tmp = fs.temporary(target)
    reader = _open(source)
    try:
        fs.drop_leftovers(target)
        fs.check_space(target.parent, os.fstat(reader).st_size)
        with run.streaming(["age", "--decrypt", "--identity", os.fspath(identity)], stdin=reader) as age:
            _save(age, tmp, source)
        fs.commit_new(tmp, target)
    except OSError as error:
        raise KdumpError(f"{target}: {error.strerror or error}") from None
    finally:
        os.close(reader)
        tmp.unlink(missing_ok=True)


def _open(source: Path) -> int:
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KdumpError(f"{source}: can't be read: {error.strerror}") from None
    if stat.S_ISREG(os.fstat(fd).st_mode) and os.pread(fd, 64, 0).startswith(MAGIC):
        return fd
    os.close(fd)
    raise KdumpError(f"{source}: not a file that age made, or damaged at its beginning")


def _save(age: run.Stream, tmp: Path, source: Path) -> None:
    """What age gives, into TMP; its exit code counts more than what is wrong with that."""
    writer = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        head = age.read(len(FLAT))
        whole = _rearrange(age, writer) if head == FLAT else _copy(age, writer, head)
    finally:
        os.close(writer)
    _check(age, source)
    if not whole:
        raise KdumpError(f"{source}: what is encrypted in it was cut off when it was made")


def _copy(age: run.Stream, writer: int, head: bytes) -> bool:
    chunk, offset = head, 0
    while chunk:
        _write(writer, chunk, offset)
        offset += len(chunk)
        chunk = age.read(CHUNK)
    return True


def _rearrange(age: run.Stream, writer: int) -> bool:
    """Put the pieces of a flattened file in their places. False when it ends before its end."""
    age.read(FLAT_HEADER - len(FLAT))
    while len(place := age.read(PIECE.size)) == PIECE.size:
        offset, size = PIECE.unpack(place)
        if offset < 0 or size < 0:
            return (offset, size) == FLAT_END and not age.read(1)
        while size:
            chunk = age.read(min(size, CHUNK))
            if not chunk:
                return False
            _write(writer, chunk, offset)
            offset, size = offset + len(chunk), size - len(chunk)
    return False


def _write(writer: int, chunk: bytes, offset: int) -> None:
    rest = memoryview(chunk)
    while rest:
        done = os.pwrite(writer, rest, offset)
        rest, offset = rest[done:], offset + done


def _check(process: run.Stream, source: Path) -> None:
    """Raise what a program that failed has to say, in one line."""
    result = process.end()
    if result.returncode == 0:
        return
    text = result.stderr.decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip() and "report unexpected" not in line]
    words = "; ".join(lines).removeprefix("age: error: ")
    words = masked(words)[:LONGEST] or f"exit code {result.returncode}"
    hint = None
    if "no identity matched" in words:
        words, hint = "not encrypted for this key", "take the private key of a recipient in encrypt_to"
    elif "payload" in words or "EOF" in words:
        words = f"damaged or cut off ({words})"
    raise KdumpError(f"{source}: {process.argv[0]}: {words}", hint=hint)
