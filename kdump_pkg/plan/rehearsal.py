"""The rehearsal, pure: what is crashed how, and what to make of how it went."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Config, Facts, Kernel
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.console import Console, ends
from kdump_pkg.plan.machine import Accelerator, Controller, choose_controller, choose_file_system
from kdump_pkg.plan.rebuild import load_methods

# How kexec(8) and the kernel say that the reservation can't hold what is to be loaded.
NO_PLACE = r"Could not find a free area of memory|locate_hole failed|Cannot assign requested address"


class Directory(Protocol):
    """A path, as far as it matters here: nothing in this module touches it."""

    def __fspath__(self) -> str: ...


@dataclass(frozen=True)
class Wish:
    """What the user asks for."""

    memory_mib: int = 1024
    crashkernel: str = "256M"
    timeout_s: int = 600
    keep: Directory | None = None


@dataclass(frozen=True)
class Rehearsal:
    """Everything that is decided before the machine starts; paths are the system's own, in its root."""

    wish: Wish
    capture: Capture
    image_bytes: int
    kernel: str
    system: str
    system_release: str
    cmdline: str
    methods: tuple[str, ...]
    controller: Controller

    @property
    def disk_mib(self) -> int:
        """Room for all memory of the machine, whatever the dump leaves out; the file has holes."""
        return self.wish.memory_mib + 512


@dataclass(frozen=True)
class DumpFile:
    name: str
    size: int


@dataclass(frozen=True)
class Saved:
    """What was found on the scratch disk afterwards."""

    directory: str | None = None
    files: tuple[DumpFile, ...] = ()
    meta: tuple[tuple[str, str], ...] = ()
    readable: bool | None = None
    """Whether makedumpfile can read the vmcore; None where none was there to ask."""
    panic_line: str | None = None
    """From the log inside the dump."""


@dataclass(frozen=True)
class Ran:
    """How the machine ran."""

    console: Console
    seconds: float
    timed_out: bool
    accelerator: Accelerator


@dataclass(frozen=True)
class Verdict:
    """Whether the crash was saved; if not, why; and the figures."""

    captured: bool
    reason: str | None
    console_line: str | None
    """Where the console shows that reason."""
    result: str | None
    directory: str | None
    dump: tuple[DumpFile, ...]
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
    controller: str
    target: str
    cmdline: str
    kept: str | None = None


def design(config: Config, facts: Facts, wish: Wish) -> Rehearsal:
    """The rehearsal of what is, or would be, loaded. Raises KdumpError when that can't be rehearsed."""
    _check(wish)
    capture = design_capture(config, facts)
    choose_file_system(capture.target)
    if not facts.image.exists or facts.image.fingerprint != capture.fingerprint:
        state = "stale" if facts.image.exists else "missing"
        raise KdumpError(f"{capture.image} is {state}: there is nothing to rehearse", hint="kdump-pkg rebuild")
    system = _system_kernel(facts, capture)
    assert capture.kernel.vmlinuz is not None and system.vmlinuz is not None
    return Rehearsal(
        wish=wish,
        capture=capture,
        image_bytes=facts.image.size,
        kernel=capture.kernel.vmlinuz,
        system=system.vmlinuz,
        system_release=system.release,
        cmdline=with_console(capture.cmdline),
        methods=load_methods(facts.boot),
        controller=choose_controller(facts.modules, capture.modules),
    )


def _check(wish: Wish) -> None:
    if not re.fullmatch(r"[0-9A-Za-z,:@-]+", wish.crashkernel):
        raise KdumpError(f"--crashkernel {wish.crashkernel}: not a size", hint="for example 256M")
    if wish.memory_mib < 256:
        raise KdumpError(f"--memory {wish.memory_mib}: too little for a kernel and a reservation", hint="256 or more")
    if wish.timeout_s < 1:
        raise KdumpError(f"--timeout {wish.timeout_s}: not a time", hint="seconds, 1 or more")


def _system_kernel(facts: Facts, capture: Capture) -> Kernel:
    """The one that runs now, if its file is still there: it is the one that would crash."""
    running = (k for k in facts.kernels if k.usable and k.release == facts.boot.running)
    return next(running, capture.kernel)


def with_console(cmdline: str) -> str:
    """The capture command line, byte for byte, and the serial port as its last console: only there can we read it."""
    consoles = re.findall(r"(?:^|\s)console=(\S+)", cmdline)
    at_the_port = bool(consoles) and re.fullmatch(r"ttyS0(,.*)?", consoles[-1]) is not None
    return cmdline if at_the_port else f"{cmdline} console=ttyS0"


def judge(rehearsal: Rehearsal, ran: Ran, saved: Saved) -> Verdict:
    """The verdict: the disk decides whether it was captured, the console says why not."""
    console, capture, meta = ran.console, rehearsal.capture, dict(saved.meta)
    reason, line = _failure(rehearsal, ran, saved)
    least = meta.get("min_available_kib", "")
    return Verdict(
        captured=reason is None,
        reason=reason,
        console_line=line,
        result=meta.get("result") or console.result,
        directory=saved.directory,
        dump=saved.files,
        makedumpfile_readable=saved.readable,
        panic_line=saved.panic_line or (console.crash.text if console.crash else None),
        seconds_total=round(ran.seconds, 1),
        seconds_panic_to_reboot=_until_reboot(ran),
        min_available_kib=int(least) if least.isdigit() else console.least_kib,
        reserved_bytes=console.reserved,
        crashkernel=rehearsal.wish.crashkernel,
        memory_mib=rehearsal.wish.memory_mib,
        accelerator=ran.accelerator,
        release=capture.kernel.release,
        system_release=rehearsal.system_release,
        flavour=capture.flavour,
        generator=capture.generator,
        image=capture.image,
        image_bytes=rehearsal.image_bytes,
        load_method=console.method,
        controller=rehearsal.controller.name,
        target=f"{capture.target.path} on {capture.target.device} ({capture.target.fstype})",
        cmdline=rehearsal.cmdline,
    )


def _until_reboot(ran: Ran) -> float | None:
    """To the end of the machine; or to the announcement of an end that never comes. None if it just hung."""
    crash, final = ran.console.crash, ran.console.final
    if crash is None:
        return None
    if not ran.timed_out:
        return round(ran.seconds - crash.seconds, 1)
    return round(final.seconds - crash.seconds, 1) if final and ends(final.text.encode()) else None


def _failure(rehearsal: Rehearsal, ran: Ran, saved: Saved) -> tuple[str | None, str | None]:
    """Why it is no capture, and the console's line on it; None when it is one."""
    console = ran.console
    problem = _on_disk(saved)
    if problem is None:
        return None, None
    last = console.last.text if console.last else None
    if console.refused:
        wish = rehearsal.wish
        if console.reserved == 0:
            return f"crashkernel={wish.crashkernel} reserved nothing in a machine of {wish.memory_mib} MiB", None
        if re.search(NO_PLACE, console.refused):
            return f"crashkernel={wish.crashkernel} has no place for the capture kernel; reserve more", console.refused
        return console.refused, None
    if console.trouble:
        return console.trouble, console.trouble_line
    if ran.timed_out and console.stage != "ended":
        return f"not done after {rehearsal.wish.timeout_s} s: {_REACHED[console.stage]}", last
    if console.stage in ("saved", "ended"):
        return problem, None
    return f"the machine ended too early: {_REACHED[console.stage]}", last


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


def _on_disk(saved: Saved) -> str | None:
    """What is wrong with the dump itself."""
    names = {file.name for file in saved.files if file.size > 0}
    result = dict(saved.meta).get("result")
    if saved.directory is None:
        return "there is no dump on the disk"
    if result != "complete":
        return f"the dump is not complete: {result or 'it has no meta'}"
    if "vmcore" not in names:
        return "the dump has no vmcore"
    if saved.readable is False:
        return "makedumpfile can't read the vmcore"
    if saved.panic_line is None:
        return "the panic is not in the dump's log"
    return None
