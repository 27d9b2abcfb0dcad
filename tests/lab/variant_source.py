"""A STAND-IN for the source of Linux: archives from which linux-kdump's real recipe builds a package in seconds.

`stand_in/` has a Makefile, Kconfig and scripts, just enough for `configure` and the PKGBUILD. What comes out is a
capture kernel that was really built once, if there is one in the cache, else one of Debian's; release and build ID are
changed where they can be read, so that no two versions are the same.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

from kdump_pkg.facts import elf, vmlinuz
from kdump_pkg.run import SystemRunner

from . import archpkg, base, debian, packages
from .chroot import Clone
from .common import LabError, cache, digest, once, run, say
from .root import ArchRoot, Generator

HERE = Path(__file__).parent / "stand_in"
RECIPE = Path(__file__).resolve().parents[2] / "linux-kdump"
FILES = tuple(
    f"{directory}/{name}.c"
    for directory, names in {
        "init": "main version", "kernel": "fork panic kexec crash_core", "mm": "slub vmalloc", "fs": "namei super",
        "block": "bio", "lib": "string vsprintf", "drivers": "pci blk",
    }.items()
    for name in names.split()
)  # fmt: skip
STAMP = 1_700_000_000
KEY = "Stand-in <stand-in@example.org>"

# A compiler's errors come from the file itself; everything else compiles to nothing.
GCC = """#!/bin/sh
# gcc: a STAND-IN (tests/lab/variant_source.py)
for word; do
    case $word in
        --version) echo 'gcc (stand-in) 99.1.0'; exit ;;
        *.c) source=$word ;;
    esac
    [ "$last" != -o ] || out=$word
    last=$word
done
if line=$(grep -n '^#error' "$source"); then
    echo "$source:${line%%:*}:2: error: ${line#*#error }" >&2
    exit 1
fi
: >"$out"
"""
NAMES = ("bc", "bison", "cpio", "flex", "patch", "perl")
"""Packages that makepkg wants installed and of which the stand-in needs nothing."""


@dataclass(frozen=True)
class Twist:
    """What is odd about a source."""

    error: str = ""
    """What the compiler says of one of its files."""
    waits: str = ""
    """The build goes on only when this file is there."""
    fills: bool = False
    """The build writes as long as there is room."""
    loses: tuple[str, ...] = ()
    """Options that can't be set."""
    lacks: tuple[str, ...] = ()
    """Options that it doesn't know."""


def archive(dest: Path, version: str, twist: Twist | None = None) -> Path:
    """linux-VERSION.tar.xz, in DEST; the same twice in the same bytes."""
    image, unpacked = relabelled(*_kernel(), f"{version}-kdump")
    files = {**dict(_files(version, twist or Twist())), "bzImage": image, "vmlinux": unpacked}
    dest.mkdir(parents=True, exist_ok=True)
    final = dest / f"linux-{version}.tar.xz"
    with tarfile.open(final, "w:xz", preset=0) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"linux-{version}/{name}")
            info.size, info.mtime = len(data), STAMP
            info.mode = 0o755 if data.startswith(b"#!") else 0o644
            tar.addfile(info, io.BytesIO(data))
    return final


def _files(version: str, twist: Twist) -> Iterator[tuple[str, bytes]]:
    for path in sorted(HERE.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(HERE)), path.read_bytes()
    numbers = dict(zip(("VERSION", "PATCHLEVEL", "SUBLEVEL"), version.split("."), strict=True))
    words = {**numbers, "LOSES": " ".join(twist.loses), "WAITS": twist.waits, "FILLS": "yes" if twist.fills else ""}
    yield "twist.mk", "".join(f"{name} := {value}\n" for name, value in words.items()).encode()
    for name in FILES:
        error = f"#error {twist.error}\n" if twist.error and name == "kernel/kexec.c" else ""
        yield name, f"/* {name} */\n{error}".encode()
    options, modules = known()
    left = sorted(options - set(twist.lacks))
    yield "Kconfig", "".join(f"config {name.removeprefix('CONFIG_')}\n\tbool\n\n" for name in left).encode()
    lines = [f"obj-$({option}) += {module}.o\n" for module, option in sorted(modules.items()) if option in left]
    yield "drivers/Makefile", "".join(lines).encode()
    for directory in ("arch/x86", "crypto", "net"):
        yield f"{directory}/Makefile", b""


@remembered
def known() -> tuple[frozenset[str], Mapping[str, str]]:
    """Every option that a fragment names; and an option for each module that one stands for."""
    options = {path: _options(path.read_text()) for path in sorted(RECIPE.glob("*.config"))}
    modules: dict[str, str] = {}
    for path, names in options.items():
        others = {name for other, found in options.items() if other != path for name in found}
        own = [name for name in names if name not in others] or names
        for line in re.findall(r"^# modules: (.*)$", path.read_text(), re.MULTILINE):
            modules |= dict.fromkeys(line.split(), own[0])
    return frozenset({"CONFIG_TINY"}.union(*options.values())), modules


def _options(text: str) -> list[str]:
    """In the order of the text, those first that are set."""
    found = re.findall(r"^(CONFIG_\w+)=y|^(?:# )?(CONFIG_\w+)", text, re.MULTILINE)
    return [name for name, _ in found if name] + [name for _, name in found if name]


def relabelled(image: bytes, unpacked: bytes, release: str) -> tuple[bytes, bytes]:
    """A bzImage and the kernel in it as ones of this release, with a build ID of their own.

    The header says where it is (Documentation/arch/x86/boot.rst): the payload that it names now is behind the one that
    starts.
    """
    (offset,) = struct.unpack_from("<H", image, 0x20E)
    start = offset + 0x200
    end = image.index(b"\0", start)
    text = f"{release} (stand-in)".encode()
    if len(text) > end - start:
        raise LabError(f"{release}: no room for it in the kernel's header")
    old, new = bytes.fromhex(elf.inspect_bytes(unpacked, "vmlinux").build_id or ""), hashlib.sha1(text).digest()
    unpacked = unpacked.replace(old, new)
    payload = gzip.compress(unpacked, 1, mtime=0)
    out = bytearray(image[:start] + text.ljust(end - start, b"\0") + image[end:])
    struct.pack_into("<II", out, 0x248, len(image) - 512 * ((image[0x1F1] or 4) + 1), len(payload))
    return bytes(out) + payload, unpacked


@remembered
def _kernel() -> tuple[bytes, bytes]:
    """A bzImage, and what is packed in it."""
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        path = Path(work) / "vmlinuz"
        path.write_bytes(_built() or packages.vmlinuz("6.12").read_bytes())
        return path.read_bytes(), vmlinuz.unpack(path, SystemRunner())


def _built() -> bytes | None:
    """Of the newest linux-kdump that tests.lab.variant has built, for whatever fragments."""
    found = sorted((cache() / "variant").glob("6.12-*/*.pkg.tar.zst"), key=lambda path: path.stat().st_mtime)
    if not found:
        return None
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        run(["bsdtar", "-xf", found[-1], "-C", work, "usr/lib/modules"])
        return next(Path(work).glob("usr/lib/modules/*/vmlinuz")).read_bytes()


def can_capture() -> bool:
    """Whether what comes out is a capture kernel."""
    return _built() is not None


def key() -> str:
    """Of all that an archive is made of."""
    texts = [*(path.read_bytes() for path in sorted(HERE.rglob("*")) if path.is_file()), *_kernel()]
    return digest(*texts, repr(sorted(known()[0])), repr(sorted(known()[1].items())), repr(FILES))


# --- what builds it -------------------------------------------------------------------------------------------------


def tools(generator: Generator) -> Path:
    """A layer for above this generator's root: make, and stand-ins for what else makepkg wants installed."""

    def make(dest: Path) -> None:
        say("make for the root (once)")
        clone = Clone([base.layer(generator), base.base() / "root"])
        try:
            with tempfile.TemporaryDirectory(prefix=".tools.", dir=cache()) as work:
                for package in _packages(Path(work)):
                    shutil.copy(package, clone.path / "root")
            names = [f"/root/{path.name}" for path in sorted((clone.path / "root").glob("*.pkg.tar.zst"))]
            clone.run(["pacman", "--noconfirm", "-U", *names])
            for name in names:
                (clone.path / name.lstrip("/")).unlink()
            run(["cp", "-a", clone.detach(), dest])
        finally:
            clone.close()

    return once(f"layer/tools-{digest(GCC, repr(NAMES), base.layer(generator).name)}", make)


def _packages(work: Path) -> Iterator[Path]:
    debs, tree = work / "debs", work / "tree"
    debs.mkdir()
    for deb in debian.download("sid", ["make"], debs):
        run(["dpkg-deb", "--extract", deb, tree])
    shutil.rmtree(tree / "usr/share")
    yield archpkg.write(tree, archpkg.Info("make", "4-1"), work)
    gcc = work / "gcc/usr/bin/gcc"
    gcc.parent.mkdir(parents=True)
    gcc.write_text(GCC)
    gcc.chmod(0o755)
    yield archpkg.write(work / "gcc", archpkg.Info("gcc", "99-1"), work)
    yield from archpkg.empty([archpkg.Info(name, "1-1") for name in NAMES], work)


# --- signatures -----------------------------------------------------------------------------------------------------


class Signer:
    """A key made for the test, in the root's own gpg."""

    def __init__(self, root: ArchRoot, name: str = "signer") -> None:
        self._root = root
        self._home = f"/root/{name}"
        home = root.path / self._home.lstrip("/")
        home.mkdir(mode=0o700)
        self._gpg("--quick-generate-key", KEY, "ed25519", "sign", "never")

    def export(self, to: str) -> str:
        """The public key, in a file of the root; the answer is its name."""
        self._gpg("--output", to, "--export")
        return to

    def fingerprint(self) -> str:
        found = re.search(r"^fpr:+([0-9A-F]{40}):", self._gpg("--with-colons", "--fingerprint"), re.MULTILINE)
        if found is None:
            raise LabError("gpg has made no key")
        return found[1]

    def sign(self, file: str, to: str) -> None:
        """A signature of its own file."""
        self._gpg("--output", to, "--detach-sign", file)

    def _gpg(self, *args: str) -> str:
        argv = ["gpg", "--homedir", self._home, "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"]
        return self._root.run([*argv, *args]).stdout
