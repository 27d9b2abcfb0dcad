"""What a kernel build needs, in an Arch-like root: Debian's compiler and tools as one package by Arch's names."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from . import archpkg, base, debian
from .chroot import Clone
from .common import cache, digest, once, run, say
from .root import Generator

SUITE = "sid"
PACKAGES = (
    "gcc", "libc6-dev", "libelf-dev", "libssl-dev", "make", "bc", "bison", "flex", "pahole", "patch", "perl", "openssl",
    "libbpf1", "ccache",
)  # fmt: skip
ALSO = (
    r"(gcc|cpp|binutils)(-\d+)?(-x86-64-linux-gnu)?|lib(gcc-\d+-dev|cc1-0|isl\d+|mpc3|mpfr6|gmp10|gcc-s1|gomp1|asan\d+|"
    r"hwasan0|lsan0|tsan\d+|ubsan1|itm1|atomic1|quadmath0|crypt-dev|zstd-dev|dwarves1|dw1t64|elf1t64|hiredis\S*|"
    r"ssl3t64|stdc\+\+6|fmt\d+|xxhash0|blake3-0|bpf1)|linux-libc-dev|zlib1g-dev|m4|perl-modules-\S*|libperl5\S*|openssl"
)
PROVIDES = ("bc", "bison", "cpio", "flex", "gcc", "libelf", "make", "openssl", "pahole", "patch", "perl", "ccache")


def layer(generator: Generator) -> Path:
    """A layer for above this generator's root, in which pacman has installed them."""

    def make(dest: Path) -> None:
        say("a compiler for the root (once)")
        clone = Clone([base.layer(generator), base.base() / "root"])
        try:
            with tempfile.TemporaryDirectory(prefix=".compilers.", dir=cache()) as work:
                package = _package(clone.path, Path(work))
                shutil.copy(package, clone.path / "root")
                clone.run(["pacman", "--noconfirm", "-U", f"/root/{package.name}"])
                (clone.path / "root" / package.name).unlink()
            run(["cp", "-a", clone.detach(), dest])
        finally:
            clone.close()

    return once(f"layer/compilers-{digest(repr(PACKAGES), ALSO, repr(PROVIDES), base.layer(generator).name)}", make)


def _package(root: Path, work: Path) -> Path:
    debs, tree = work / "debs", work / "tree"
    debs.mkdir()
    tree.mkdir()
    for deb in debian.download(SUITE, PACKAGES, debs, also=ALSO):
        run(["dpkg-deb", "--extract", deb, tree])
    for part in ("doc", "man", "lintian", "info", "locale"):
        shutil.rmtree(tree / "usr/share" / part, ignore_errors=True)
    _flatten(tree, "usr/lib/x86_64-linux-gnu", "usr/lib")
    _flatten(tree, "usr/sbin", "usr/bin")
    for path in sorted(tree.rglob("*"), reverse=True):  # what the root has is the root's
        there = root / path.relative_to(tree)
        if path.is_symlink() or path.is_file():
            if there.is_symlink() or there.exists():
                path.unlink()
        elif not any(path.iterdir()):
            path.rmdir()
    info = archpkg.Info("lab-compilers", "1-1", provides=PROVIDES, description="what builds a kernel")
    return archpkg.write(tree, info, work)


def _flatten(tree: Path, source: str, dest: str) -> None:
    """As the root has it: one directory for programs, one for libraries."""
    if (tree / source).is_dir():
        run(["cp", "-a", f"{tree / source}/.", tree / dest])
        shutil.rmtree(tree / source)
