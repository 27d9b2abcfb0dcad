"""Arch packages for tests: real kernels in Arch's layout, tiny stubs, and kdump-pkg as makepkg builds it."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from . import archpkg, debian, kernel_build
from .common import LabError, cache, digest, once, remove, run, say, source_digest
from .root import open_root

Series = Literal["6.12", "7.2", "crypt"]
"""Debian's two, and our own, which takes ten minutes to make; see kernel_build."""
SUITES: Mapping[str, str] = {"6.12": "trixie", "7.2": "sid"}
KERNEL_DEBS = r"linux-(image|binary|modules|base)-\d.*-cloud-amd64"
RECIPE = source_digest("packages", "archpkg")
BUILD_RECIPE = digest(kernel_build.LAYOUT, *kernel_build.fragment())
"""Not of the module's text: a comment is not worth ten minutes."""


def kernel(series: Series, pkgbase: str = "linux", pkgver: str | None = None) -> Path:
    """A kernel package: Debian's cloud kernel of this series, laid out and named as Arch does it.

    `pkgver` (with its release, 6.12.1-1) changes what the package says of itself; the kernel in it stays the same.
    """
    tree = _kernel_tree(series)
    version = pkgver or archpkg.version_from_debian((tree / "debian-version").read_text())

    def make(dest: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".kernel.", dir=cache()) as work:
            copy = Path(work) / "tree"
            run(["cp", "-al", tree / "root", copy])
            module_dir = next((copy / "usr/lib/modules").iterdir())
            (module_dir / "pkgbase").write_text(pkgbase + "\n")
            info = archpkg.Info(pkgbase, version, provides=("KSMBD-MODULE",), description=f"The {pkgbase} kernel")
            archpkg.write(copy, info, dest)

    name = f"kernels/{pkgbase}-{series}-{digest(RECIPE, version, tree.name)}"
    return next(once(name, make).glob("*.pkg.tar.zst"))


def release(series: Series) -> str:
    """What ``uname -r`` says under this kernel."""
    return next((_kernel_tree(series) / "root/usr/lib/modules").iterdir()).name


def vmlinuz(series: Series) -> Path:
    """The bare kernel, to be booted without installing anything."""
    return _kernel_tree(series) / "root/usr/lib/modules" / release(series) / "vmlinuz"


def is_made(series: Series) -> bool:
    """Whether this kernel is in the cache, so that asking for it costs nothing."""
    return (cache() / _tree_name(series)).exists()


def stub(name: str, version: str, *, files: Mapping[str, str] | None = None, depends: Sequence[str] = ()) -> Path:
    """A tiny real package with these files: path to text, a text that begins with ``#!`` executable."""
    contents = dict(files or {})

    def make(dest: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
            for path, text in contents.items():
                target = Path(work) / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
                target.chmod(0o755 if text.startswith("#!") else 0o644)
            archpkg.write(Path(work), archpkg.Info(name, version, depends=depends), dest)

    key = digest(RECIPE, name, version, repr(sorted(contents.items())), repr(tuple(depends)))
    return next(once(f"stubs/{key}", make).glob("*.pkg.tar.zst"))


def kdump_pkg(source: Path, *, check: bool = False) -> Path:
    """kdump-pkg as a user gets it: makepkg, as an ordinary user in a root, on the files of the work tree `source`.

    Built once for each content; without `check` the tests are neither run nor part of that content.
    """
    files = [name for name in _work_tree(source) if check or not name.startswith(("tests/", "."))]
    content = [part for name in files for part in (name, (source / name).read_bytes())]

    def make(dest: Path) -> None:
        dest.mkdir()
        with open_root(generator="dracut") as root:
            home = root.path / "home/build"
            _make_source(source, files, home)
            run(["chroot", root.path, "chown", "-R", "build:build", "/home/build"])
            argv = ["makepkg", "--noconfirm", "--nocolor", "--skipinteg", "--check" if check else "--nocheck"]
            built = root.run(["env", "-C", "/home/build", *argv], user="build", timeout=1800)
            (dest / "log").write_text(built.stdout + built.stderr)
            for package in home.glob("*.pkg.tar.zst"):
                shutil.copy(package, dest)

    return next(once(f"kdump-pkg/{digest(RECIPE, str(check), *content)}", make).glob("*.pkg.tar.zst"))


def _work_tree(source: Path) -> list[str]:
    """What a release of this work tree would hold: tracked and new files, nothing that git ignores."""
    listed = run(["git", "-C", source, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).stdout
    return sorted(name for name in set(listed.split("\0")) if name and (source / name).is_file())


def _make_source(source: Path, files: Sequence[str], home: Path) -> None:
    """The PKGBUILD and, beside it, the tarball that it would fetch."""
    text = (source / "PKGBUILD").read_text()
    found = [re.search(rf"^{key}=(\S+)$", text, re.MULTILINE) for key in ("pkgname", "pkgver")]
    stem = "-".join(match.group(1) for match in found if match)
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        for name in files:
            target = Path(work) / stem / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target)
        run(["bsdtar", "-czf", home / f"{stem}.tar.gz", "-C", work, stem])
    for name in files:
        if "/" not in name and (name == "PKGBUILD" or name.endswith(".install")):
            shutil.copy(source / name, home)


def _kernel_tree(series: Series) -> Path:
    """One unpacked kernel: `root` in Arch's layout, and the version that Debian gave it."""
    make = _build_kernel if series == "crypt" else lambda dest: _unpack_kernel(series, dest)
    return once(_tree_name(series), make)


def _tree_name(series: Series) -> str:
    return f"kernel-trees/{series}-{BUILD_RECIPE if series == 'crypt' else RECIPE}"


def _build_kernel(dest: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".kernel.", dir=cache()) as work:
        kernel_build.build(Path(work), dest)


def _unpack_kernel(series: Series, dest: Path) -> None:
    say(f"fetching kernel {series} (once)")
    with tempfile.TemporaryDirectory(prefix=".kernel.", dir=cache()) as work:
        unpacked = Path(work)
        debs = debian.download(SUITES[series], ["linux-image-cloud-amd64"], unpacked, also=KERNEL_DEBS)
        for deb in debs:
            run(["dpkg-deb", "--extract", deb, unpacked])
        images = [*unpacked.glob("boot/vmlinuz-*"), *unpacked.glob("usr/lib/modules/*/vmlinuz")]
        if len(images) != 1:
            raise LabError(f"no kernel, or several, in {[deb.name for deb in debs]}")
        modules = next(path.parent for path in unpacked.glob("**/modules/*/kernel"))
        version = run(["dpkg-deb", "--field", debs[0], "Version"]).stdout.strip()
        target = dest / "root/usr/lib/modules" / modules.name
        target.parent.mkdir(parents=True)
        shutil.move(images[0], modules / "vmlinuz")
        shutil.move(modules, target)
    if not target.name.startswith(f"{series}."):
        raise LabError(f"Debian {SUITES[series]} has {target.name} now, no {series}: name the new series in the lab")
    for not_in_archs in ("build", "source", "System.map", "config"):
        remove(target / not_in_archs)
    _recompress(target)
    run(["depmod", "--basedir", dest / "root/usr", target.name])
    (dest / "debian-version").write_text(version)


def _recompress(modules: Path) -> None:
    """Modules as .ko.zst, as Arch ships them; from files, not pipes: kmod needs the size in zstd's header."""
    packed = [str(path) for path in modules.rglob("*.ko.xz")]
    run(["xz", "--decompress", "--threads=0", *packed])
    run(["zstd", "-q", "-3", "--rm", *(path.removesuffix(".xz") for path in packed)])
