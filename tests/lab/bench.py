"""`make bench`: the figures, each from a real run: sizes and times; the memory that a capture needs is `make least`'s.

Nothing here is asserted: figures depend on the machine, two cores under emulation are noisy; orders and ratios count.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdump_pkg import config as configuration
from kdump_pkg import cpio, reconcile
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.context import Context
from kdump_pkg.plan import first_stage
from kdump_pkg.plan.capture import design_capture
from tests.fakes import RELEASE, make_tree, pacman_db, system_tree
from tests.lab import packages, vm
from tests.lab.common import LabError, say
from tests.lab.root import ROOT_UUID, ArchRoot, Generator, mkinitcpio_prefix, open_root

REPO = Path(__file__).resolve().parents[2]
CRASH = r"Kernel panic - not syncing: sysrq triggered crash"
PACKAGES, FILES, MODULES, ALIASES = 1500, 200, 6000, 25_000
COMMAND = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from kdump_pkg import cli
from kdump_pkg.run import SystemRunner
from tests.fakes import system_runner
runner = system_runner(Path(sys.argv[2]))
SystemRunner.__call__ = lambda self, *args, **kwargs: runner(*args, **kwargs)
sys.exit(cli.main([sys.argv[3], "--root", sys.argv[2]]))
"""

# The ArchWiki's recipe (arch-facts.md, section 3): the default image with makedumpfile in it, the real root booted.
WIKI_UNIT = """[Unit]
Description=Create dump after kernel crash
DefaultDependencies=no
Wants=local-fs.target
After=local-fs.target

[Service]
Type=idle
ExecStart=/bin/sh -c 'mkdir -p /var/crash/ && \\
    /usr/bin/makedumpfile -c -d 31 /proc/vmcore "/var/crash/crashdump-$$(date +%%F-%%T)"'
ExecStopPost=/usr/bin/systemctl reboot
UMask=0077
StandardInput=tty-force
StandardOutput=inherit
StandardError=inherit
"""
WIKI_CMDLINE = f"root=UUID={ROOT_UUID} rw console=ttyS0 single irqpoll maxcpus=1 reset_devices"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["status", "sizes", "wiki"], help="status, sizes, wiki")
    parts = parser.parse_args().parts
    if "status" in parts:
        _status()
    for generator in _generators() if {"sizes", "wiki"} & set(parts) else []:
        with _armed(generator, "7.2") as root:
            if "sizes" in parts:
                _sizes(root)
            if "wiki" in parts and generator == "mkinitcpio":
                _wiki(root)


def _generators() -> list[Generator]:
    if mkinitcpio_prefix() is None:
        say("no mkinitcpio on this machine: dracut alone")
        return ["dracut"]
    return ["mkinitcpio", "dracut"]


@contextmanager
def _armed(generator: Generator, series: packages.Series) -> Iterator[ArchRoot]:
    with open_root(generator=generator) as root:
        _configure(root, "direct")
        start = time.monotonic()
        root.pacman("-U", packages.kernel(series), packages.kdump_pkg(REPO))
        say(f"{generator}: transaction with kernel and kdump-pkg {time.monotonic() - start:.1f} s")
        yield root


def _configure(root: ArchRoot, flavour: str) -> None:
    (root.path / "etc/kdump-pkg.conf").write_text(f"flavour = {flavour}\ndrivers = virtio_pci, virtio_blk\n")


def _timed(root: ArchRoot, *argv: str) -> tuple[float, float]:
    """Seconds of a command by the clock, and of its CPU (its children's included)."""
    done = root.run(["bash", "-c", 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null 2>&1', "timed", *argv])
    real, user, system = (float(word) for word in done.stderr.split()[-3:])
    return real, user + system


def _sizes(root: ArchRoot) -> None:
    """Image against default image, hook against a bare run of the generator."""
    default = next(p for p in sorted((root.path / "boot").glob("initramfs-*.img")) if "kdump" not in p.name)
    for flavour in ("direct", "udev", "systemd"):
        _configure(root, flavour)
        root.run(["kdump-pkg", "rebuild"])
        size = (root.path / "boot/initramfs-linux-kdump.img").stat().st_size
        whole = default.stat().st_size
        share = f"{100 * size / whole:.0f} % of the default's {whole / 1e6:.1f}"
        say(f"{root.generator} {flavour}: {size / 1e6:.1f} MB, {share}")
    _configure(root, "direct")
    root.run(["kdump-pkg", "rebuild"])
    hook = "/usr/share/libalpm/scripts/kdump-pkg"
    idle = min(_timed(root, hook, "rebuild") for _ in range(5))
    say(f"{root.generator}: hook with nothing to do {idle[0]:.2f} s, {idle[1]:.2f} s of CPU")
    if root.generator == "mkinitcpio":
        bare = ["mkinitcpio", "-c", "/etc/mkinitcpio-kdump.conf", "-k", packages.release("7.2"), "-g", "/tmp/bare.img"]
        alone = min(_timed(root, *bare) for _ in range(3))
        ours = []
        for _ in range(3):
            (root.path / "boot/initramfs-linux-kdump.img").unlink()
            ours.append(_timed(root, hook, "rebuild"))
        say(f"mkinitcpio alone {alone[0]:.2f} s, our hook around it {min(ours)[0]:.2f} s")


def _wiki(root: ArchRoot) -> None:
    """Panic to reboot, ours and the ArchWiki's, on the same disk in the same run."""
    release = packages.release("7.2")
    (root.path / "etc/systemd/system/kdump-save.service").write_text(WIKI_UNIT)
    conf = (root.path / "etc/mkinitcpio.conf").read_text()
    for dropin in sorted((root.path / "etc/mkinitcpio.conf.d").glob("*.conf")):
        conf += dropin.read_text()
    conf += "BINARIES=(/usr/bin/makedumpfile)\nFILES=(/etc/systemd/system/kdump-save.service)\n"
    (root.path / "etc/mkinitcpio-wiki.conf").write_text(conf)
    root.run(["mkinitcpio", "-c", "/etc/mkinitcpio-wiki.conf", "-k", release, "-g", "/boot/initramfs-wiki.img"])
    ctx = Context(root=root.path)
    ours = reconcile.read_facts(ctx, configuration.load(ctx))
    capture = design_capture(configuration.load(ctx), ours)
    wiki = f"{WIKI_CMDLINE} systemd.unit=kdump-save.service"
    with tempfile.TemporaryDirectory(prefix="kdump-bench-") as work:
        runs = (
            ("ours", capture.image, f"{capture.cmdline} console=ttyS0"),
            ("ArchWiki", "/boot/initramfs-wiki.img", wiki),
        )
        for name, image, cmdline in runs:
            disk = vm.disk_from_root(root.path, Path(work) / f"{name}.img", uuid=ROOT_UUID)
            seconds, dump = _crash(ctx, Path(work), image, cmdline, release, disk)
            say(f"panic to reboot, {name}: {seconds:.1f} s; on the disk: {dump}")


def _crash(ctx: Context, work: Path, image: str, cmdline: str, release: str, disk: Path) -> tuple[float, list[str]]:
    files = [
        cpio.File("/vmlinuz", stage.read(ctx, f"/usr/lib/modules/{release}/vmlinuz")),
        cpio.File("/image", stage.read(ctx, image)),
        cpio.File("/cmdline", f"{cmdline}\n".encode()),
        cpio.File("/methods", b"-s -c\n"),
        cpio.File("/modules/order", b""),
    ]
    initrd = work / "first-stage.img"
    initrd.write_bytes(stage.first_stage(ctx, first_stage.script(), first_stage.PROGRAMS, files))
    kernel = ctx.path(f"/usr/lib/modules/{release}/vmlinuz")
    append = "KDUMP_REHEARSAL=crash crashkernel=256M quiet panic=1 mitigations=off printk.devkmsg=on"
    result = vm.boot(kernel=kernel, initrd=initrd, append=append, disk=disk, timeout=600)
    crashed = result.when(CRASH)
    if crashed is None or result.timed_out:
        say("\n".join(result.console.splitlines()[-20:]))
        return float("nan"), []
    return result.seconds - crashed, vm.list_dir(disk, "/var/crash")


def _status() -> None:
    """CPU of `status`, and of a rebuild with nothing to do, on a system of the size of a real one: the best of five."""
    with tempfile.TemporaryDirectory(prefix="kdump-bench-") as work:
        root = Path(work)
        _large(root)
        _cost(root, "rebuild")
        for verb in ("status", "rebuild"):
            costs = [_cost(root, verb) for _ in range(5)]
            say(f"{verb} with {PACKAGES} packages and {MODULES} modules: {min(costs):.2f} s of CPU")


def _large(root: Path) -> None:
    make_tree(root, system_tree())
    files = {f"package{n}": [f"usr/share/package{n}/file-{i}" for i in range(FILES)] for n in range(PACKAGES)}
    make_tree(root, pacman_db({name: ("1.0-1", names) for name, names in files.items()}))
    home = root / "usr/lib/modules" / RELEASE
    with (home / "modules.dep").open("a") as file:
        file.writelines(f"kernel/a/m{n}.ko.zst: kernel/a/m{n * 7 % MODULES}.ko.zst\n" for n in range(MODULES))
    with (home / "modules.alias").open("a") as file:
        file.writelines(f"alias pci:v0000{n:04x}d*sv*sd*bc*sc*i* m{n % MODULES}\n" for n in range(ALIASES))


def _cost(root: Path, verb: str) -> float:
    """Seconds of CPU of a process of its own, and of what it starts; the root has no programs, so those are faked."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-I", "-c", COMMAND, str(REPO), str(root), verb]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise LabError(done.stderr)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
