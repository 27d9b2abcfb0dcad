"""Scratch disks of a rehearsal as files on this machine, the modules that open them, and what comes back on them."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from kdump_pkg import cpio, fs, paths
from kdump_pkg.apply.rehearsal import read
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.plan import gpt

DUMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ-[A-Za-z0-9._+-]+")
PARTITION = gpt.START * gpt.SECTOR


def make_disk(disk: Path, mib: int, partition: gpt.Partition) -> None:
    """A file with nothing but holes and a partition table."""
    table = gpt.table(mib, partition)
    with disk.open("xb") as file:
        file.write(table.head)
        file.truncate(mib << 20)
        file.seek(-len(table.tail), os.SEEK_END)
        file.write(table.tail)


def modules(ctx: Context, release: str, files: Sequence[str], work: Path) -> list[cpio.File]:
    """These modules unpacked below /modules, and their order."""
    home = f"{paths.MODULES}/{release}"
    packed = [file for file in files if file.endswith(".zst")]
    if packed:
        work.mkdir()
        sources = [os.fspath(ctx.path(f"{home}/{file}")) for file in packed]
        ctx.runner(["zstd", "-dqf", "--output-dir-flat", os.fspath(work), *sources], timeout=120)
    found = []
    for file in files:
        name = Path(file).name
        stem = name[: name.index(".ko")] + ".ko"
        data = _read(work / stem) if name.endswith(".zst") else _unpack(name, read(ctx, f"{home}/{file}"))
        found.append(cpio.File(f"/modules/{stem}", data))
    order = "".join(f"{Path(file.name).name}\n" for file in found)
    return [*found, cpio.File("/modules/order", order.encode())]


def _unpack(name: str, data: bytes) -> bytes:
    try:
        if name.endswith(".xz"):
            return lzma.decompress(data)
        return gzip.decompress(data) if name.endswith(".gz") else data
    except (lzma.LZMAError, OSError, EOFError) as error:
        raise KdumpError(f"{name}: damaged module: {error}") from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise KdumpError(f"{file.name}: {error.strerror}") from None


def unpack(disk: Path, into: Path) -> None:
    """What the virtual machine put on the disk for us. Nothing of it is trusted: it stays below INTO."""
    into.mkdir()
    with disk.open("rb") as file:
        file.seek(PARTITION)
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    _unpack_member(archive, member, into)
        except (tarfile.TarError, OSError):
            return  # what came before is there


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, into: Path) -> None:
    path = into / member.name
    if ".." in path.parts or not path.parent.resolve().is_relative_to(into.resolve()) or os.path.lexists(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.isdir():
        path.mkdir()
        path.chmod(member.mode & 0o777 | 0o700)
    elif member.issym():
        path.symlink_to(member.linkname)
    elif member.isfile() and (source := archive.extractfile(member)) is not None:
        with source, path.open("xb") as file:
            shutil.copyfileobj(source, file)
        path.chmod(member.mode & 0o777 | 0o600)


def find_dumps(directory: Path) -> list[Path]:
    """The dumps in the directory of a target, oldest first, as far as their names are those of one."""
    if not directory.is_dir() or directory.is_symlink():
        return []
    return sorted(p for p in directory.iterdir() if p.is_dir() and not p.is_symlink() and DUMP.fullmatch(p.name))


def read_meta(dump: Path) -> tuple[tuple[str, str], ...]:
    """The lines of `meta`, as far as they are keys and values."""
    pairs = (line.partition("=") for line in read_file(dump / "meta").decode("utf-8", "replace").splitlines())
    return tuple((key, value) for key, mark, value in pairs if mark)


def read_file(file: Path) -> bytes:
    """A file of the dump; nothing where it can't be read, or is no file."""
    try:
        return b"" if file.is_symlink() else file.read_bytes()
    except OSError:
        return b""


def keep(files: Sequence[Path], directory: Path) -> None:
    """Copy what is worth keeping; holes of the disks stay holes, links of the guest stay links."""
    for file in files:
        if file.is_dir():
            shutil.copytree(file, directory / file.name, symlinks=True)
        elif file.exists():
            fs.copy_atomic(file, directory / file.name, 0o600)


def reuse(kept: Path, disk: Path) -> None:
    """A disk of a former rehearsal, as it was left. Raises KdumpError when it isn't there."""
    if not (kept / disk.name).is_file():
        raise KdumpError(f"{kept}: there is no {disk.name}", hint="take what a rehearsal with --keep left")
    fs.copy_atomic(kept / disk.name, disk, 0o600)
