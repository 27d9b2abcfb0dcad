"""linux-kdump as makepkg builds it, by an ordinary user in an Arch-like root, from the source in Debian's linux-source.

Without ccache: its cache would be thrown away with the root, and cost a fifth more.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from . import compilers, debian
from .common import LabError, cache, digest, once, run, say
from .root import ArchRoot, open_root

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "linux-kdump"
SUITES = {"6.12": "trixie", "7.2": "sid"}
Series = Literal["6.12", "7.2"]
SMALL = ("base", "x86_64", "console", "watchdog", "efivarfs", "virtio", "ext4")
"""For the machine of most rehearsals: virtio and ext4."""
ALL = (
    *SMALL, "scsi", "nvme", "sata", "sas", "usb", "mmc", "guest", "md", "dm", "lvm", "multipath", "crypt", "crc", "xfs",
    "btrfs", "f2fs", "vfat", "exfat", "udev",
)  # fmt: skip
"""For every machine and every flavour of the image."""
HOME = "/home/build/linux-kdump"
SETTINGS = """_version={version}
_source=({archive})
_sums=(SKIP)
_keys=()
_archive=({archive})
_patches=()
_tree=
_fragments=({fragments})
_modules=()
_jobs=$(nproc)
"""
LAYOUT = "1"
"""To be counted up when what `_build` leaves in its directory changes."""
TIMED = 'TIMEFORMAT="%R %U %S"; time "$@"'


@dataclass(frozen=True)
class Figures:
    seconds: float
    cpu_seconds: float
    again_seconds: float
    """The same once more, nothing changed."""


@dataclass(frozen=True)
class Built:
    package: Path
    vmlinux: Path
    figures: Figures


def source(series: Series) -> Path:
    """The archive in Debian's linux-source, as it is."""

    def make(dest: Path) -> None:
        say(f"source of Linux {series} (once, 150 MB)")
        with tempfile.TemporaryDirectory(prefix=".source.", dir=cache()) as work:
            found = debian.download(SUITES[series], ["linux-source"], Path(work), also=r"linux-source-\d[\d.]*")
            deb = next((path for path in found if path.name.startswith(f"linux-source-{series}_")), None)
            if deb is None:
                raise LabError(f"Debian {SUITES[series]} has no linux-source-{series}: {[path.name for path in found]}")
            run(["dpkg-deb", "--extract", deb, work])
            dest.mkdir()
            shutil.move(next(Path(work).glob("usr/src/linux-source-*.tar.xz")), dest)
            version = run(["dpkg-deb", "--field", deb, "Version"]).stdout.strip()
            (dest / "version").write_text(version.split("-")[0])

    return next(once(f"source/{series}-{digest(SUITES[series])}", make).glob("*.tar.xz"))


def built(series: Series, fragments: Sequence[str] = SMALL) -> Built:
    """Made once for a recipe and a source; some ten minutes of two cores."""
    path = once(_name(series, fragments), lambda dest: _build(source(series), fragments, dest))
    figures = Figures(**json.loads((path / "figures.json").read_text()))
    return Built(next(path.glob("*.pkg.tar.zst")), path / "vmlinux", figures)


def is_built(series: Series, fragments: Sequence[str] = SMALL) -> bool:
    """Whether it is in the cache."""
    return (cache() / _name(series, fragments)).exists()


def _name(series: Series, fragments: Sequence[str]) -> str:
    """Of the options alone, and of the source: a comment is not worth ten minutes."""
    files = ((RECIPE / f"{name}.config").read_text() for name in fragments)
    options = [line for text in files for line in text.splitlines() if "CONFIG_" in line]
    version = (source(series).parent / "version").read_text()
    return f"variant/{series}-{len(fragments)}-{digest(LAYOUT, version, *fragments, *options)}"


def _build(archive: Path, fragments: Sequence[str], dest: Path) -> None:
    say(f"makepkg builds linux-kdump from {archive.name} (once, ten minutes and more)")
    with open_root(generator="dracut", above=[compilers.layer("dracut")]) as root:
        home = root.path / HOME.lstrip("/")
        shutil.copytree(RECIPE, home)
        shutil.copy(archive, home)
        version = (archive.parent / "version").read_text()
        settings = SETTINGS.format(version=version, archive=archive.name, fragments=" ".join(fragments))
        (home / "settings").write_text(settings)
        root.run(["chown", "-R", "build:build", HOME])
        dest.mkdir(parents=True)
        first = makepkg(root, dest / "log")
        again = makepkg(root, dest / "log.again")
        shutil.copy(next(home.glob("*.pkg.tar.zst")), dest)
        shutil.copy(home / "src/build/vmlinux", dest)
        shutil.copy(home / "src/build/.config", dest / "config")
        figures = Figures(first[0], first[1], again[0])
        (dest / "figures.json").write_text(json.dumps(asdict(figures)))


def makepkg(root: ArchRoot, log: Path) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    command = ["makepkg", "-f", "--noconfirm", "--nocolor"]
    argv = ["env", "-C", HOME, "CCACHE_DISABLE=1", "bash", "-c", TIMED, "timed", *command]
    start = time.monotonic()
    done = root.run(argv, user="build", check=False, timeout=5400)
    log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        raise LabError(f"makepkg failed after {time.monotonic() - start:.0f} s: {(done.stdout + done.stderr)[-3000:]}")
    found = re.search(r"^([\d.]+) ([\d.]+) ([\d.]+)$", done.stderr, re.MULTILINE)
    if found is None:
        raise LabError("bash's time said nothing")
    real, user, system = map(float, found.groups())
    return real, user + system
