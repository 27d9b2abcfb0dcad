"""Roots in which linux-kdump is built from the stand-in for a source, by the real makepkg, and installed by pacman."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg import paths

from . import archpkg, packages, variant_source
from .base import layer
from .common import LabError, Text, digest, once, run
from .root import ArchRoot, Generator, open_root
from .variant_source import Twist

REPO = Path(__file__).resolve().parents[2]
SOURCE = "/srv/linux.tar.xz"
HEADER = "drivers = virtio_pci, virtio_blk\n"
CONFIG = f"{HEADER}[variant]\nsource = {SOURCE}\ntrust = yes\npower = any\nmax_load = 0\n"
IMAGE = f"boot/{paths.IMAGE_NAME}"
STARTED = "root/systemctl"
SAID = "root/first-build"
"""What the first build said."""
SYSTEMCTL = f"""#!/bin/sh
# systemctl: a STAND-IN (tests/lab/variant_root.py)
printf '%s\\n' "$*" >>/{STARTED}
"""
UNIT = """#!/usr/bin/python3 -I
# What kdump-pkg-variant.service starts, but for its refusal to build by itself in a container, which the lab is.
import sys
sys.path.insert(0, "/usr/lib/kdump-pkg")
from kdump_pkg import cli, variant
variant._is_idle = lambda ctx, config: False
sys.exit(cli.main(["variant", "build", "--automatic"]))
"""
BUILD_IN = """
import sys
from pathlib import Path
from kdump_pkg import ui, variant
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
try:
    sys.exit(variant.build(Context(root=Path(sys.argv[1])), automatic=False, force=False))
except KdumpError as error:
    ui.error(error.message, error.hint)
    sys.exit(1)
"""
FROM_OUTSIDE = """
root=$1; shift
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
exec setpriv --bounding-set=-sys_boot,-sys_module --inh-caps=-sys_boot,-sys_module -- "$@"
"""
SYSTEMCTL_REAL = "usr/bin/systemctl.real"
GO = "/srv/go"
"""The file that a build waits for that `Twist.waits`."""
# Every command of the lab has a /run of its own, so what looks on at a build runs beside it in the same one.
TOGETHER = f"""
mkdir -p /run/systemd/system
step() {{ echo "%% $1"; shift; "$@" </dev/null 2>&1; echo "%% exit $?"; }}
lingers() {{ # and the program has said so
    for _ in $(seq 600); do
        grep -qs LINGER {paths.VARIANT_BUILD}/build.log && grep -Eqs '"done": *[1-9]' {paths.VARIANT_PROGRESS} && return
        sleep 0.1
    done
    return 1
}}
go() {{ touch {GO}; }}
"""


@dataclass(frozen=True)
class Step:
    text: str
    code: int


@dataclass(frozen=True)
class Armed:
    """What a crash would meet."""

    release: str
    fingerprint: str
    image: str
    plan: str
    """What is to be done, but for debug kernels: a build that failed may have taken its vmlinux along."""


class VariantRoot:
    """A root, and what is asked of it again and again."""

    def __init__(self, root: ArchRoot) -> None:
        self.root = root
        self.path = root.path

    def source(self, version: str, twist: Twist | None = None) -> None:
        """Put a source there; what makes it wait is forgotten."""
        made = variant_source.archive(self.path / "srv", version, twist)
        made.rename(self.path / SOURCE.lstrip("/"))
        (self.path / GO.lstrip("/")).unlink(missing_ok=True)

    def configure(self, more: str = "", *, variant: str = "") -> None:
        """The configuration with these lines more, outside of `[variant]` and in it."""
        (self.path / paths.CONFIG.lstrip("/")).write_text(f"{more}{CONFIG}{variant}")

    def build(self, *args: str) -> Text:
        return self.root.run(["kdump-pkg", "variant", "build", *args], check=False)

    def build_from_outside(self) -> Text:
        """By the work tree's kdump-pkg, which has the QEMU of the host for the rehearsal, and not its crash kernel."""
        argv: list[str | Path] = [sys.executable, "-c", BUILD_IN, self.path]
        return run(["unshare", "--mount", "sh", "-euc", FROM_OUTSIDE, "lab", self.path, *argv], cwd=REPO, check=False)

    def keep_package(self) -> Path:
        """The variant as it is installed, as a package again."""
        versions = self.root.versions()
        with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
            tree = Path(work) / "tree"
            for home in (self.path / "usr/lib/modules").glob("*-kdump"):
                shutil.copytree(home, tree / "usr/lib/modules" / home.name)
            return archpkg.write(tree, archpkg.Info(paths.VARIANT, versions[paths.VARIANT]), self.path / "srv")

    def unit(self) -> Text:
        """What systemd would start."""
        return self.root.run(["unit"], check=False)

    def upgrade(self, *what: str | Path) -> str:
        """A transaction on a machine that systemd seems to run, in which no hook failed."""
        words = [self.root.bring(one) if isinstance(one, Path) else one for one in what]
        script = 'mkdir -p /run/systemd/system; exec pacman --noconfirm --color=never "$@"'
        done = self.root.run(["sh", "-c", script, "pacman", *words], timeout=900)
        if "command failed to execute correctly" in done.stdout + done.stderr:
            raise LabError(done.stdout + done.stderr)
        return done.stdout + done.stderr

    def together(self, script: str) -> dict[str, Step]:
        """What the steps of a script said that runs in one go: `step NAME COMMAND`."""
        done = self.root.run(["bash", "-c", TOGETHER + script], check=False, timeout=300)
        found: dict[str, Step] = {}
        for name, text, code in re.findall(r"^%% (\w+)\n(.*?)^%% exit (\d+)$", done.stdout, re.DOTALL | re.MULTILINE):
            found[name] = Step(text, int(code))
        if not found:
            raise LabError(done.stdout + done.stderr)
        return found

    def started(self) -> list[str]:
        """How systemctl was called, but by dracut for its image's own root."""
        log = self.path / STARTED
        called = log.read_text().splitlines() if log.exists() else []
        return [line for line in called if "--root" not in line.split()]

    def armed(self) -> Armed:
        env = (self.path / paths.CAPTURE_ENV.lstrip("/")).read_text()
        words = [re.search(rf"^KDUMP_{key}='([^']*)'$", env, re.MULTILINE) for key in ("RELEASE", "FINGERPRINT")]
        release, fingerprint = (word[1] for word in words if word)
        image = hashlib.sha256((self.path / IMAGE).read_bytes()).hexdigest()
        plan = self.root.run(["kdump-pkg", "rebuild", "--dry-run"], check=False).stdout
        return Armed(release, fingerprint, image, re.sub(r"^nothing to do\n|.*the debug kernel of .*\n", "", plan))


@contextmanager
def stock(generator: Generator, package: Path) -> Iterator[VariantRoot]:
    """The older kernel and kdump-pkg, a source that fits, and no variant."""
    with open_root(generator=generator, above=_stock(generator, package)) as root:
        yield VariantRoot(root)


@contextmanager
def followed(generator: Generator, package: Path) -> Iterator[VariantRoot]:
    """The same with a variant, built and followed."""
    with open_root(generator=generator, above=_followed(generator, package)) as root:
        yield VariantRoot(root)


def _stock(generator: Generator, package: Path) -> list[Path]:
    below = [variant_source.tools(generator)]

    def make(dest: Path) -> None:
        with open_root(generator=generator, above=below) as root:
            one = VariantRoot(root)
            (one.path / "srv").mkdir(exist_ok=True)
            one.source(version("6.12"))
            one.configure()
            one.upgrade("-U", packages.kernel("6.12"), package)
            root.run(["systemd-sysusers"])  # by a hook of systemd's on Arch
            systemctl = one.path / "usr/bin/systemctl"
            shutil.move(systemctl, one.path / SYSTEMCTL_REAL)
            systemctl.write_text(SYSTEMCTL)
            systemctl.chmod(0o755)
            (one.path / "usr/bin/unit").write_text(UNIT)
            (one.path / "usr/bin/unit").chmod(0o755)
            run(["cp", "-a", root.detach(), dest])

    return [once(f"variant-roots/stock-{generator}-{_key(generator, package)}", make), *below]


def _followed(generator: Generator, package: Path) -> list[Path]:
    below = _stock(generator, package)

    def make(dest: Path) -> None:
        with open_root(generator=generator, above=below) as root:
            done = VariantRoot(root).build()
            if done.returncode != 0:
                raise LabError(done.stdout + done.stderr)
            (root.path / SAID).write_text(done.stdout + done.stderr)
            run(["cp", "-a", root.detach(), dest])

    return [once(f"variant-roots/followed-{generator}-{_key(generator, package)}", make), *below]


def _key(generator: Generator, package: Path) -> str:
    parts = [layer(generator).name, packages.kernel("6.12").parent.name, package.parent.name, CONFIG, SYSTEMCTL, UNIT]
    return digest(*parts, variant_source.key())


def version(series: packages.Series) -> str:
    """Of the source that belongs to one of the lab's kernels: 6.12.117."""
    found = re.match(r"\d+\.\d+\.\d+", packages.release(series))
    if found is None:
        raise LabError(f"{packages.release(series)} is no release of a stable kernel")
    return found[0]
