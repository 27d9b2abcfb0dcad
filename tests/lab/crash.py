"""A lab root armed as a test wants it, and crashed in a rehearsal; by Python, where `kdump-pkg` itself can't say it.

A root is no running machine: what facts would read from hardware (members of a btrfs, a watchdog, Argon2's cost) the
caller sets in them by `adjust`, and image and rehearsal are made from the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from kdump_pkg import config as configuration
from kdump_pkg import paths, reconcile, rehearsal
from kdump_pkg.context import Context
from kdump_pkg.model import Capture, Config, Facts
from kdump_pkg.plan import estimate
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.rebuild import Scope, plan_rebuild
from kdump_pkg.plan.rehearsal import Wish
from kdump_pkg.plan.status import Status, plan_status
from kdump_pkg.plan.verdict import Verdict
from kdump_pkg.run import Result, SystemRunner, explain

from . import packages, vm
from .base import layer
from .common import LabError, digest, once, run
from .packages import Series
from .root import ArchRoot, Generator, open_root

REPO = Path(__file__).resolve().parents[2]
Bus = Literal["virtio", "NVMe", "AHCI", "USB"]
BUSES: Mapping[Bus, str] = {
    "virtio": "virtio_pci, virtio_blk",
    "NVMe": "nvme",
    "AHCI": "ahci, sd_mod",
    "USB": "xhci_pci, usb_storage, sd_mod",
}
"""Drivers by which the capture, and so the virtual machine, has its disks."""
TRUST = "[variant]\ntrust = yes\n"
TRUSTED = "/etc/kdump-pkg.conf.d/variant.conf"
Adjust = Callable[[Facts], Facts]
SMALL = Wish(memory_mib=512, crashkernel="160M", timeout_s=400)
"""A machine whose dump takes seconds."""


@dataclass(frozen=True)
class Cost:
    """Of a capture image."""

    packed: int
    """Bytes."""
    unpacked: int
    modules: int


class Machine:
    """One root in which the kernel and kdump-pkg are installed."""

    def __init__(self, root: ArchRoot, series: Series, bus: Bus) -> None:
        self.root = root
        self.series = series
        self.bus: Bus = bus
        self.ctx = Context(root=root.path, runner=_InRoot(root))
        self._adjust: Adjust = _as_they_are
        own = root.path / "proc/self/mountinfo"  # stands for the /proc that every command in the root gets
        own.parent.mkdir(parents=True, exist_ok=True)
        own.touch()

    def configure(
        self,
        config: str,
        *,
        fstab: str = "",
        files: Mapping[str, str | bytes] | None = None,
        adjust: Adjust | None = None,
    ) -> None:
        """Write the configuration alone; FSTAB is the whole table, FILES go into the root."""
        self._write("/etc/kdump-pkg.conf", header(self.bus) + config)
        if fstab:
            self._write("/etc/fstab", fstab)
        for name, content in (files or {}).items():
            self._write(name, content)
        self._adjust = adjust or _as_they_are

    def arm(
        self,
        config: str,
        *,
        fstab: str = "",
        files: Mapping[str, str | bytes] | None = None,
        adjust: Adjust | None = None,
    ) -> None:
        """Make the capture image for this configuration."""
        self.configure(config, fstab=fstab, files=files, adjust=adjust)
        read = self.config()
        outcome = reconcile.carry_out(
            self.ctx, lambda: plan_rebuild(read, self.facts(read), Scope()), lambda text: None, wait=60
        )
        if not outcome.good or outcome.plan.capture is None:
            words = [*(failure.message for failure in outcome.failures), *outcome.plan.warnings]
            raise LabError("; ".join(words))

    def crash(self, wish: Wish) -> Verdict:
        """The rehearsal's verdict on what was armed."""
        self._know_kvm()
        config = self.config()
        return rehearsal.rehearse(self.ctx, config, self.facts(config), wish)

    def status(self) -> Status:
        config = self.config()
        facts = self.facts(config)
        return plan_status(config, facts, plan_rebuild(config, facts))

    def estimated(self) -> int:
        """MiB that `kdump-pkg estimate` would have reserved."""
        return estimate.estimate(self.facts(self.config()), self.capture(), None).need_mib

    def capture(self) -> Capture:
        """What is loaded."""
        config = self.config()
        return design_capture(config, self.facts(config))

    def cost(self) -> Cost:
        """Of the image as it is now."""
        data = (self.root.path / "boot" / paths.IMAGE_NAME).read_bytes()
        whole = b""
        start = data.index(b"\x1f\x8b\x08")
        while start >= 0:
            unpacker = zlib.decompressobj(wbits=31)
            whole += unpacker.decompress(data[start:])
            rest = unpacker.unused_data.lstrip(b"\0")
            start = len(data) - len(rest) if rest.startswith(b"\x1f\x8b\x08") else -1
        names = re.findall(rb"lib/modules/[^\0\n]+\.ko(?:\.\w+)?\0", whole)  # whole paths: busybox has bare `.ko` in it
        return Cost(len(data), len(whole), len(names))

    def config(self) -> Config:
        return configuration.load(self.ctx)

    def facts(self, config: Config) -> Facts:
        """As of a machine on which the stock kernel runs, whatever captures."""
        facts = reconcile.read_facts(self.ctx, config)
        running = packages.release(self.series)
        return self._adjust(replace(facts, boot=replace(facts.boot, running=running)))

    def _write(self, name: str, content: str | bytes) -> None:
        path = self.ctx.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(data)
        path.chmod(0o755 if data.startswith(b"#!") else 0o644)

    def _know_kvm(self) -> None:
        """Every root is new, but the lab has tried KVM once in this boot."""
        kernel = packages.vmlinuz(self.series)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        record = self.root.path / f"{paths.RUN}/kvm.json".lstrip("/")
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"boot_id": boot, "works": vm.accelerator(kernel) == vm.KVM}))


@contextmanager
def machine(
    generator: Generator, series: Series, *, variant: Path | None = None, bus: Bus = "virtio"
) -> Iterator[Machine]:
    """A clone of a root in which that transaction was done before; kept until the lab or our package changes.

    With a package VARIANT that was installed, too, after it, and is trusted.
    """
    layers = [_stock(generator, series)]
    if variant:
        layers.insert(0, _with_variant(generator, layers[0], variant))
    with open_root(generator=generator, above=layers) as root:
        yield Machine(root, series, bus)


def header(bus: Bus) -> str:
    """What every configuration begins with: the only controller that the virtual machine will have."""
    return f"drivers = {BUSES[bus]}\n"


def _stock(generator: Generator, series: Series) -> Path:
    package, kernel = _package(), packages.kernel(series)

    def make(dest: Path) -> None:
        with open_root(generator=generator) as root:
            (root.path / "etc/kdump-pkg.conf").write_text(header("virtio"))
            _install(root, dest, kernel, package)

    return once(f"crash/{generator}-{digest(layer(generator).name, kernel.parent.name, package.parent.name)}", make)


def _with_variant(generator: Generator, stock: Path, variant: Path) -> Path:
    def make(dest: Path) -> None:
        with open_root(generator=generator, above=[stock]) as root:
            trusted = root.path / TRUSTED.lstrip("/")
            trusted.parent.mkdir(exist_ok=True)
            trusted.write_text(TRUST)
            _install(root, dest, variant)

    return once(f"crash-variant/{stock.name}-{variant.parent.name}", make)


def _install(root: ArchRoot, dest: Path, *wanted: Path) -> None:
    image = root.path / "boot" / paths.IMAGE_NAME
    before = image.read_bytes() if image.is_file() else b""
    done = root.pacman("-U", *wanted)
    if not image.is_file() or image.read_bytes() == before:
        raise LabError(f"no capture image came of the transaction\n{done.stdout}{done.stderr}")
    run(["cp", "-a", root.detach(), dest])


@cache
def _package() -> Path:
    """One for the whole run, as the Python of it is: somebody may be editing the work tree."""
    return packages.kdump_pkg(REPO)


def _as_they_are(facts: Facts) -> Facts:
    return facts


class _InRoot:
    """A runner whose programs in the root are confined as all the lab's are; those of the host run as they do."""

    def __init__(self, root: ArchRoot) -> None:
        self._root = root
        self._host = SystemRunner()

    def __call__(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        capture: bool = True,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        if root is None:
            return self._host(argv, stdin=stdin, check=check, capture=capture, timeout=timeout, env=env)
        try:
            done = self._root.run(argv, check=False, env=env, timeout=timeout or 900)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{' '.join(argv)}: not done after {error.timeout} s") from None
        result = Result(tuple(argv), done.returncode, done.stdout.encode(), done.stderr.encode())
        if check and result.returncode != 0:
            raise explain(result)
        return result
