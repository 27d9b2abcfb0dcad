"""linux-dwarf, as `kdump-pkg variant build --debug-kernel` makes it in a root of the lab.

The stock kernel's configuration is exchanged for a small one (CONFIG), with 12 modules. It is built by
`python -m tests.lab.debug_kernel`: some 900 seconds of a processor, once. The tests that need it are skipped, and say
so, where it isn't in the cache.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import compilers, packages, variant
from .common import LabError, cache, digest, once, run, say
from .packages import Series
from .root import ArchRoot, open_root

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "linux-kdump/debug"
SERIES: Series = "6.12"
CONFIG = Path(__file__).with_suffix(".config")
"""In the place of the stock kernel's own, which has 1,100 modules and took too long here."""
LAYOUT = "2"
"""To be counted up when the PKGBUILD puts other files into the package, or the kernel is built otherwise."""
HOME = "var/cache/kdump-pkg/debug-kernel"
KEPT = "/root/kept"
# The verb throws the package away once pacman has installed it.
PACMAN = f"""#!/bin/sh
case "$*" in *-U*) mkdir -p {KEPT} && for file; do [ ! -f "$file" ] || cp "$file" {KEPT}; done ;; esac
exec /usr/bin/pacman "$@"
"""
# What Arch's kmod brings and Debian's doesn't: kernel packages come without the lists of their modules.
DEPMOD_HOOK = """[Trigger]
Type = Path
Operation = Install
Operation = Upgrade
Target = usr/lib/modules/*/modules.order

[Action]
Description = Updating module dependencies...
When = PostTransaction
Exec = /bin/sh -c 'while read -r path; do release=${path#usr/lib/modules/}; depmod "${release%%/*}"; done'
NeedsTargets
"""


@dataclass(frozen=True)
class Figures:
    seconds: float
    cpu_seconds: float
    package: int
    """Bytes."""
    vmlinux: int
    directory: int
    """Of all that the build leaves."""


def built() -> Path:
    """The package. Made once for a source, a configuration and what is changed in it."""
    return next(once(_name(), _build).glob("linux-dwarf-*.pkg.tar.zst"))


def is_built() -> bool:
    """Whether it is in the cache, so that asking for it costs nothing."""
    return packages.is_made(SERIES) and (cache() / _name()).exists()


def release() -> str:
    """What uname -r says under it."""
    return f"{packages.release(SERIES).partition('+')[0]}-small-dwarf"


def source_lines(names: set[str]) -> dict[str, list[str]]:
    """Files of the source that it was built from, by their paths in it."""
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        wanted = [f"*/{name}" for name in sorted(names)]
        run(["bsdtar", "-xf", variant.source("6.12"), "-C", work, "--strip-components", "1", *wanted])
        return {name: (Path(work) / name).read_text(errors="replace").splitlines() for name in names}


def add_depmod_hook(root: ArchRoot) -> None:
    """As a root on Arch has it."""
    (root.path / "usr/share/libalpm/hooks/60-depmod.hook").write_text(DEPMOD_HOOK)


def prepare(root: ArchRoot) -> None:
    """A root as a user has it before the command: the stock kernel, a configuration, kdump-pkg, an archive."""
    (root.path / "etc/kdump-pkg.conf").write_text(
        f"drivers = virtio_pci, virtio_blk\n[variant]\nsource = /root/{variant.source('6.12').name}\n"
    )
    add_depmod_hook(root)
    root.pacman("-U", packages.kernel(SERIES), packages.kdump_pkg(REPO))
    root.run(["systemd-sysusers"])
    shutil.copy(CONFIG, root.path / f"boot/config-{packages.release(SERIES)}")
    shutil.copy(variant.source("6.12"), root.path / "root")
    (root.path / "root").chmod(0o755)
    (root.path / "root/bin").mkdir()
    (root.path / "root/bin/pacman").write_text(PACMAN)
    (root.path / "root/bin/pacman").chmod(0o755)


def build(root: ArchRoot, dest: Path) -> None:
    """The one command, and what came of it."""
    argv = ["bash", "-c", 'TIMEFORMAT="%R %U %S"; time kdump-pkg variant build --debug-kernel']
    start = time.monotonic()
    done = root.run(argv, check=False, env={"PATH": "/root/bin:/usr/bin:/bin"}, timeout=4 * 3600)
    dest.mkdir(parents=True, exist_ok=True)
    (dest / "said").write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        log = (root.path / HOME / "build.log").read_text(errors="replace")
        raise LabError(f"after {time.monotonic() - start:.0f} s: {(done.stdout + done.stderr)[-2000:]}\n{log[-3000:]}")
    package = next((root.path / KEPT.lstrip("/")).glob("*.pkg.tar.zst"))
    shutil.copy(package, dest)
    for name in ("build.log", "src/build/.config"):
        shutil.copy(root.path / HOME / name, dest / Path(name).name.lstrip("."))
    real, user, system = map(float, done.stderr.splitlines()[-1].split())
    used = int(run(["du", "-sk", root.path / HOME]).stdout.split()[0]) * 1024
    vmlinux = root.path / f"usr/lib/modules/{release()}/build/vmlinux"
    figures = Figures(real, user + system, package.stat().st_size, vmlinux.stat().st_size, used)
    (dest / "figures.json").write_text(json.dumps(asdict(figures)))


def _name() -> str:
    """Of what is done to the configuration, and of the kernel: a comment is not worth an hour."""
    lines = [line.strip() for line in (RECIPE / "configure").read_text().splitlines()]
    options = [line for line in lines if line.startswith(("set_config ", "without_file ", "for name", "grep -q"))]
    return f"debug-kernel/{SERIES}-{digest(LAYOUT, packages.release(SERIES), CONFIG.read_text(), *options)}"


def _build(dest: Path) -> None:
    say("building a kernel with debug information (once, 900 seconds of a processor)")
    with open_root(generator="dracut", above=[compilers.layer("dracut")]) as root:
        prepare(root)
        build(root, dest)


if __name__ == "__main__":
    path = built()
    sys.stdout.write(f"{path}\n{path.with_name('figures.json').read_text()}\n")
