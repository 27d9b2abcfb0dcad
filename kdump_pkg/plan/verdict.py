"""What to make of how a rehearsal went, pure: the disks decide whether it was saved, the console says why not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kdump_pkg import crashkernel
from kdump_pkg.model import Capture
from kdump_pkg.plan.console import Console, ends
from kdump_pkg.plan.machine import Accelerator
from kdump_pkg.plan.rehearsal import Rehearsal

# How kexec(8) and the kernel say that the reservation can't hold what is to be loaded.
NO_PLACE = r"Could not find a free area of memory|locate_hole failed|Cannot assign requested address"


RESULTS = ("complete", "partial", "dmesg", "incomplete", "started")
"""From the best to the worst, as `meta` says them; anything else is worse."""
WITHOUT_MODES = ("vfat", "exfat")


@dataclass(frozen=True)
class DumpFile:
    name: str
    size: int
    mode: int = 0o600
    """Permissions."""


@dataclass(frozen=True)
class Dump:
    """One directory that the capture made, as it was found on a scratch disk afterwards."""

    target: int
    """Number of the target, 1 being the first."""
    name: str
    mode: int = 0o700
    files: tuple[DumpFile, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    readable: bool | None = None
    """Whether makedumpfile can read the vmcore; None where none was there to ask, or it is encrypted."""
    panic_line: str | None = None
    """From the log inside the dump."""
    log: bool = True
    """Whether that log can be read without a key."""


@dataclass(frozen=True)
class Read:
    """What the machine said that copied the dumps from the disks afterwards."""

    problem: str | None = None
    """Why nothing could be copied."""
    sound: tuple[tuple[int, str | None], ...] = ()
    """Volumes whose file system was checked: number, and what is wrong with it."""

    @property
    def good(self) -> bool | None:
        """None where nothing was checked."""
        return all(what is None for _, what in self.sound) if self.sound else None


@dataclass(frozen=True)
class Ran:
    """How the machine ran."""

    console: Console
    seconds: float
    timed_out: bool
    accelerator: Accelerator
    cpu: str = ""
    """That came as far as the first stage."""
    killed: bool = False
    """Its power was cut, as asked for."""


@dataclass(frozen=True)
class Verdict:
    """Whether the crash was saved; if not, why; and the figures."""

    captured: bool
    reason: str | None
    console_line: str | None
    """Where the console shows that reason."""
    result: str | None
    directory: str | None
    target_name: str | None
    """Of the target that it was saved to."""
    dump: tuple[DumpFile, ...]
    dumps: tuple[Dump, ...]
    """All that this capture left, on all targets; the best one first."""
    private: bool | None
    """Whether nobody but root can read it; None without a dump, or where the file system has no permissions."""
    sound: bool | None
    """Whether the file systems are in order afterwards; None where nothing could check them."""
    unsound: tuple[str, ...]
    """What is wrong with them."""
    steps: tuple[str, ...]
    """What kdump-save did, in its order, each with how it ended."""
    trace: str | None
    """Where it left word for the next boot when it could save nothing."""
    makedumpfile_readable: bool | None
    panic_line: str | None
    seconds_total: float
    seconds_panic_to_reboot: float | None
    min_available_kib: int | None
    reserved_bytes: int | None
    crashkernel: str
    memory_mib: int
    accelerator: Accelerator
    release: str
    system_release: str
    flavour: str
    generator: str
    image: str
    image_bytes: int
    load_method: str | None
    keys: tuple[str, ...]
    """Volumes whose keys were handed over."""
    controller: str
    target: str
    cmdline: str
    kept: str | None = None


def judge(rehearsal: Rehearsal, ran: Ran, dumps: Sequence[Dump], read: Read) -> Verdict:
    """The verdict on a crash that left these dumps."""
    capture = rehearsal.capture
    ordered, best, meta = _order(dumps)
    reason, line = _failure(rehearsal, ran, best, read)
    return Verdict(
        captured=reason is None,
        reason=reason,
        console_line=line,
        result=meta.get("result") or ran.console.result,
        directory=best.name if best else None,
        target_name=capture.targets[best.target - 1].name if best else None,
        dump=best.files if best else (),
        dumps=ordered,
        private=_private(capture, ordered),
        sound=read.good,
        unsound=tuple(f"file system {number}: {what}" for number, what in read.sound if what is not None),
        steps=tuple(f"{key[5:]} {value}" for key, value in meta.items() if key.startswith("step_")),
        trace=ran.console.trace,
        makedumpfile_readable=best.readable if best else None,
        panic_line=(best.panic_line if best else None) or (ran.console.crash.text if ran.console.crash else None),
        seconds_total=round(ran.seconds, 1),
        seconds_panic_to_reboot=_until_reboot(ran),
        min_available_kib=_number(meta.get("min_available_kib", "")) or ran.console.least_kib,
        reserved_bytes=ran.console.reserved,
        crashkernel=rehearsal.wish.crashkernel,
        memory_mib=rehearsal.wish.memory_mib,
        accelerator=ran.accelerator,
        release=capture.kernel.release,
        system_release=rehearsal.system_release,
        flavour=capture.flavour,
        generator=capture.generator,
        image=capture.image,
        image_bytes=rehearsal.image_bytes,
        load_method=ran.console.method,
        keys=ran.console.keys,
        controller=rehearsal.controller.name,
        target=_target(capture, best),
        cmdline=rehearsal.cmdline,
    )


def _target(capture: Capture, best: Dump | None) -> str:
    target = capture.targets[best.target - 1 if best else 0]
    return f"{target.path} on {target.device} ({target.fstype})"


def _order(dumps: Sequence[Dump]) -> tuple[tuple[Dump, ...], Dump | None, dict[str, str]]:
    """The best one first; that one, and what its `meta` says."""
    ordered = tuple(sorted(dumps, key=_rank))
    return (ordered, ordered[0], dict(ordered[0].meta)) if ordered else ((), None, {})


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _rank(dump: Dump) -> tuple[int, int]:
    result = dict(dump.meta).get("result", "")
    return RESULTS.index(result) if result in RESULTS else len(RESULTS), dump.target


def _private(capture: Capture, dumps: Sequence[Dump]) -> bool | None:
    """Nobody but the owner has any permission on them."""
    kept = [dump for dump in dumps if capture.targets[dump.target - 1].fstype not in WITHOUT_MODES]
    modes = [mode for dump in kept for mode in (dump.mode, *(file.mode for file in dump.files))]
    return all(mode & 0o077 == 0 for mode in modes) if modes else None


def _until_reboot(ran: Ran) -> float | None:
    """To the end of the machine; or to the announcement of an end that never comes. None if it just hung."""
    crash, final = ran.console.crash, ran.console.final
    if crash is None:
        return None
    if not ran.timed_out:
        return round(ran.seconds - crash.seconds, 1)
    return round(final.seconds - crash.seconds, 1) if final and ends(final.text.encode()) else None


def _failure(rehearsal: Rehearsal, ran: Ran, best: Dump | None, read: Read) -> tuple[str | None, str | None]:
    """Why it is no capture, and the console's line on it; None when it is one."""
    console = ran.console
    problem = _on_disk(best)
    if problem is None:
        return None, None
    last = console.last.text if console.last else None
    if console.refused:
        return _refused(rehearsal, console)
    if ran.killed:
        return f"the power was cut, as asked for: {problem}", last
    if console.trouble:
        return console.trouble, console.trouble_line
    if ran.timed_out and console.stage != "ended":
        return f"not done after {rehearsal.wish.timeout_s} s: {_REACHED[console.stage]}", last
    if console.stage in ("saved", "ended"):
        return read.problem or problem, None
    return f"the machine ended too early: {_REACHED[console.stage]}", last


def _refused(rehearsal: Rehearsal, console: Console) -> tuple[str | None, str | None]:
    """What stopped it before the crash."""
    wish, words = rehearsal.wish, console.refused or ""
    asked = crashkernel.text(wish.crashkernel.split())
    if console.reserved == 0:
        return f"{asked} reserved nothing in a machine of {wish.memory_mib} MiB", None
    if re.search(NO_PLACE, words):
        return f"{asked} has no place for the capture kernel; reserve more", words
    return words, None


_REACHED = {
    "nothing": "nothing came from the virtual machine",
    "system": "the system kernel did not reach the first stage",
    "first stage": "the capture kernel was not loaded",
    "loaded": "the system kernel did not panic",
    "panicked": "the capture kernel did not start",
    "capture": "the capture kernel did not reach kdump-save",
    "saving": "kdump-save did not come to its end",
    "saved": "it was saved, but the capture kernel did not reboot",
    "ended": "the machine did not reboot",
}


def _on_disk(dump: Dump | None) -> str | None:
    """What is wrong with the dump itself."""
    if dump is None:
        return "there is no dump on the disk"
    names = {file.name for file in dump.files if file.size > 0}
    result = dict(dump.meta).get("result")
    if result != "complete":
        return f"the dump is not complete: {result or 'it has no meta'}"
    if not names & {"vmcore", "vmcore.age"}:
        return "the dump has no vmcore"
    if dump.readable is False:
        return "makedumpfile can't read the vmcore"
    if dump.log and dump.panic_line is None:
        return "the panic is not in the dump's log"
    return None
