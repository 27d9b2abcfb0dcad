"""What the tests of the rehearsal share: consoles, dumps, and a machine whose capture image is current."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from kdump_pkg.model import Config, Facts, ImageState, ModuleIndex
from kdump_pkg.plan import console
from kdump_pkg.plan import rehearsal as plan
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.verdict import Dump, DumpFile, Ran
from tests import fakes
from tests.fakes import RELEASE

CONFIG = Config()
IMAGE = "/boot/initramfs-linux-kdump.img"
DUMP = f"2026-11-23T08-31-30Z-{RELEASE}"
CRASH = "Kernel panic - not syncing: sysrq triggered crash"
FIRST = [
    "kdump-rehearsal: start crash", "kdump-rehearsal: reserved 268435456", "kdump-rehearsal: loaded by -s",
    "sysrq: Trigger a crash", CRASH,
]  # fmt: skip
CAPTURE = ["[    0.000000] Linux version 6.12.1", "kdump-save: start direct pid=1 mem_available_kib=99"]
SAVED = ["kdump-save: least memory available: 4321 KiB", f"kdump-save: saved /var/crash/{DUMP} result=complete"]
GOOD = [*FIRST, *CAPTURE, *SAVED, "kdump-save: final reboot"]
READ = ["kdump-rehearsal: start read", "kdump-rehearsal: copied", "kdump-rehearsal: sound 1", "sysrq: Resetting"]
META = (("step_target", "exit=0 seconds=1 bytes=0"), ("min_available_kib", "4000"), ("result", "complete"))
FILES = (DumpFile("dmesg.txt", 30_000), DumpFile("meta", 300), DumpFile("vmcore", 40_000_000))
COMPLETE = Dump(1, DUMP, 0o700, FILES, META, True, CRASH)
DRIVERS = {name: f"{name}.ko" for name in ("virtio_pci", "virtio_blk", "ext4", "vfat", "dm_mod", "dm_crypt", "btrfs")}

PROGRAMS = dict.fromkeys(("mdadm", "cryptsetup", "lvm", "btrfs"), "1:1")


def index(release: str = RELEASE) -> ModuleIndex:
    """Of the system's kernel."""
    return ModuleIndex(release, DRIVERS, dict.fromkeys(DRIVERS.values(), ()))


def armed(config: Config = CONFIG, **changes: Any) -> Facts:
    """A machine whose capture image is there and current."""
    facts = fakes.facts(**({"modules": index(), "programs": PROGRAMS} | changes))
    mark = design_capture(config, facts).fingerprint
    return dataclasses.replace(facts, image=ImageState(IMAGE, True, mark, 4_100_000))


def designed(
    wish: plan.Wish = plan.Wish(),  # noqa: B008 - frozen
    read: Callable[[str], ModuleIndex] = index,
    **changes: Any,
) -> plan.Rehearsal:
    return plan.design(CONFIG, armed(**changes), wish, read)


def said(*texts: str) -> console.Console:
    """A console with a line a second."""
    return console.read(console.lines((float(n), text.encode()) for n, text in enumerate(texts)))


def ran(*lines: str, seconds: float = 60.0, timed_out: bool = False, killed: bool = False) -> Ran:
    return Ran(said(*lines), seconds, timed_out, "tcg", killed=killed)
