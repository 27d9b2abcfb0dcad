"""A crash stopped as it begins to be saved, and from there carried on any number of times: each takes seconds.

The machine is saved by QEMU's migration to a file, which works under TCG with a raw disk; the disk is copied beside it.
"""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdump_pkg import config as configuration
from kdump_pkg import rehearsal
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.apply.scratch import PARTITION
from kdump_pkg.facts import kernels
from kdump_pkg.plan import console, machine
from kdump_pkg.plan import rehearsal as plan

from . import vm
from .common import LabError, run
from .crash import Machine

PATIENCE = 300  # seconds until a machine has come to the point, or has been saved


class _Monitor:
    """QEMU's own protocol on a socket: a line of JSON each way."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        _until(lambda: path.exists())
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._lines.readline()  # its greeting
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: str) -> Any:
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self._lines:
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        return None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


@dataclass(frozen=True)
class Frozen:
    """One machine at one instant."""

    argv: tuple[str, ...]
    """What it runs by, with `disk` as its disk."""
    home: Path

    @property
    def disk(self) -> Path:
        """As it is at that instant."""
        return self.home / "frozen.img"


def freeze(lab: Machine, wish: plan.Wish, home: Path, until: str) -> Frozen:
    """Crash what LAB is armed with, up to the line of the console that UNTIL fits."""
    home.mkdir()
    state, monitor = home / "state", home / "monitor"
    config = configuration.load(lab.ctx)
    designed = plan.design(config, lab.facts(config), wish, lambda name: kernels.read_modules(lab.ctx, name))
    made = rehearsal._prepare(lab.ctx, designed, home)
    accelerator = "kvm" if vm.accelerator(Path(made.kernel)) == vm.KVM else "tcg"
    assert accelerator == "tcg", "KVM's processor may not be saved: name another one here"
    host = machine.Host("tcg", machine.CPUS["tcg"][0], wish.memory_mib, ("-qmp", f"unix:{monitor},server=on,wait=off"))
    (one,) = made.disks
    disk = replace(one, path=str(home / "frozen.img"))
    Path(one.path).rename(disk.path)
    files = machine.Files(made.kernel, made.whole, (disk,))
    argv = machine.command(files, designed.controller, host, "crash", wish.crashkernel)
    reached = re.compile(until.encode())

    def save(line: bytes) -> bool:
        if reached.search(line):
            _save(monitor, state)
        return False

    stage.watch(argv, timeout=PATIENCE, ends=save)
    if not state.exists():
        raise LabError(f"the console never said {until}")
    return Frozen(tuple(argv), home)


def carry_on(frozen: Frozen, disk: Path, cut: tuple[str, float]) -> tuple[console.Line, ...]:
    """The console from that instant on, until the power is cut so many seconds after a line, or to its end."""
    run(["cp", "--sparse=always", frozen.disk, disk])
    monitor = frozen.home / "monitor"
    monitor.unlink(missing_ok=True)
    argv = [word.replace(str(frozen.disk), str(disk)) for word in frozen.argv]
    waker = threading.Thread(target=_wake, args=(monitor,), daemon=True)
    waker.start()
    done = stage.watch(
        [*argv, "-incoming", f"exec:cat {frozen.home / 'state'}"], timeout=PATIENCE, ends=console.ends, cut=cut
    )
    waker.join(PATIENCE)
    return console.lines(done.lines)


def read_partition(disk: Path, home: Path, directory: str) -> Path:
    """DIRECTORY of the ext4 on a disk, as it is after the next boot has replayed the journal. It has to be sound."""
    home.mkdir()
    part = home / "part.img"
    run(["dd", f"if={disk}", f"of={part}", "bs=1M", f"skip={PARTITION >> 20}", "conv=sparse", "status=none"])
    preened = run(["e2fsck", "-p", part], check=False)
    checked = run(["e2fsck", "-fn", part], check=False)
    if preened.returncode > 1 or checked.returncode != 0:
        raise LabError(f"the file system is not sound: {preened.stdout}{checked.stdout}")
    run(["debugfs", "-R", f"rdump {directory} {home}", part])
    return home / Path(directory).name


def _save(monitor: Path, state: Path) -> None:
    with closing(_Monitor(monitor)) as tell:
        tell("stop")
        tell("migrate", uri=f"exec:cat >{state}")
        _until(lambda: tell("query-migrate").get("status") in ("completed", "failed"))
        if tell("query-migrate")["status"] == "failed":
            state.unlink(missing_ok=True)
        tell("quit")


def _wake(monitor: Path) -> None:
    with closing(_Monitor(monitor)) as tell:
        _until(lambda: tell("query-status")["status"] != "inmigrate")
        tell("cont")


def _until(true: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > end:
            raise LabError("QEMU does not come to the point")
        time.sleep(0.05)
