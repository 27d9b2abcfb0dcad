"""Arch packages, written as makepkg writes them: a tree, .PKGINFO and .MTREE in one zstd archive."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .common import need, run

MTREE_KEYS = "!all,use-set,type,uid,gid,mode,time,size,sha256,link"


@dataclass(frozen=True)
class Info:
    """What .PKGINFO says of a package; `version` is complete, with its release: 6.12.107-1."""

    name: str
    version: str
    depends: Sequence[str] = ()
    provides: Sequence[str] = ()
    backup: Sequence[str] = ()
    description: str = "a package of the kdump-pkg test lab"
    base: str = ""

    def render(self, size: int) -> str:
        """The text of .PKGINFO."""
        pairs = [
            ("pkgname", self.name),
            ("pkgbase", self.base or self.name),
            ("pkgver", self.version),
            ("pkgdesc", self.description),
            ("url", "https://www.kernel.org/"),
            ("builddate", "1700000000"),
            ("packager", "kdump-pkg test lab"),
            ("size", str(size)),
            ("arch", "x86_64"),
            ("license", "GPL-2.0-only"),
            *(("backup", path) for path in self.backup),
            *(("depend", name) for name in self.depends),
            *(("provides", name) for name in self.provides),
        ]
        return "".join(f"{key} = {value}\n" for key, value in pairs)


def version_from_debian(version: str) -> str:
    """``1:1.7.8-1+b2`` as Arch would write it, ``1.7.8-1``: no epoch, a numeric release."""
    upstream, _, revision = version.split(":", 1)[-1].rpartition("-")
    if not upstream:
        upstream, revision = revision, ""
    plain = re.sub(r"[^A-Za-z0-9._+]", ".", upstream.split("+", 1)[0])
    release = re.match(r"\d+", revision)
    return f"{plain}-{release.group() if release else '1'}"


def write(tree: Path, info: Info, dest: Path) -> Path:
    """The package of everything in `tree`, as the directory `dest` names it in the Arch way; `tree` is given up."""
    need("bsdtar", "zstd")
    size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    (tree / ".PKGINFO").write_text(info.render(size))
    names = sorted(path.name for path in tree.iterdir() if path.name != ".PKGINFO")
    owner = ["--uid", "0", "--gid", "0", "--uname", "root", "--gname", "root"]
    mtree = ["--format=mtree", f"--options={MTREE_KEYS}"]
    run(["bsdtar", "-czf", ".MTREE", *mtree, *owner, ".PKGINFO", *names], cwd=tree)
    dest.mkdir(parents=True, exist_ok=True)
    final = dest / f"{info.name}-{info.version}-x86_64.pkg.tar.zst"
    unfinished = dest / f".{final.name}"
    run(["bsdtar", "--zstd", "-cf", unfinished, *owner, ".MTREE", ".PKGINFO", *names], cwd=tree)
    unfinished.rename(final)
    return final


def empty(infos: Sequence[Info], dest: Path) -> list[Path]:
    """Packages that own nothing: names and versions for pacman to satisfy dependencies with."""
    made = []
    for info in infos:
        with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
            made.append(write(Path(work), info, dest))
    return made


def take(root: Path, files: Sequence[str], tree: Path) -> None:
    """Move these files of `root` into `tree`, so that a package can own them; a directory is made, not moved."""
    for name in files:
        source, target = root / name.lstrip("/"), tree / name.lstrip("/")
        if source.is_dir() and not source.is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copystat(source, target)
        elif source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, target)
