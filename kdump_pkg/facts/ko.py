"""Kernel modules as files: packed or not, and of which kernel."""

from __future__ import annotations

import lzma
import os
import zlib
from pathlib import Path

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, CommandError
from kdump_pkg.model import module_name
from kdump_pkg.run import Runner

LARGEST = 1 << 28  # bytes; the largest of Linux has some 30 MB, with DWARF 300
_ZSTD, _XZ, _GZIP = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x1f\x8b\x08"


def read_files(ctx: Context, release: str) -> dict[str, str]:
    """Paths of the modules of RELEASE by name, as depmod(8) lists them; relative ones are below its directory."""
    home = f"{paths.MODULES}/{release}"
    listed = [line.partition(":")[0] for line in (ctx.read_text(f"{home}/modules.dep") or "").splitlines()]
    return {module_name(file): file if file.startswith("/") else f"{home}/{file}" for file in listed}


def read(path: Path, run: Runner) -> bytes:
    """The module itself, unpacked. Raises BadImageError; zstd needs that program."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise BadImageError(f"{path}: no file, or larger than any module")
        data = path.read_bytes()
    except OSError as error:
        raise BadImageError(f"{path}: {error.strerror}") from None
    try:
        if data.startswith(_ZSTD):
            return run(["zstd", "-dcq", os.fspath(path)], timeout=120).stdout
        if data.startswith(_XZ):
            return lzma.LZMADecompressor().decompress(data, LARGEST)
        return zlib.decompressobj(31).decompress(data, LARGEST) if data.startswith(_GZIP) else data
    except (zlib.error, lzma.LZMAError, CommandError) as error:
        raise BadImageError(f"{path}: can't be unpacked: {error}") from None
