"""The rehearsal, pure: what is crashed how, on what disks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from kdump_pkg import cpio
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Config, Facts, Kernel, ModuleIndex
from kdump_pkg.plan import first_stage, scratch, targets
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.faults import DIRECTORY, Faults, old_dumps, parse
from kdump_pkg.plan.machine import Controller, choose_controller
from kdump_pkg.plan.modules import insmod_order
from kdump_pkg.plan.rebuild import load_methods
from kdump_pkg.plan.scratch import SPARE_MIB, Volume

VALUE = r"[0-9A-Za-z,:@-]+"
"""What may come after `crashkernel=`."""


class Directory(Protocol):
    """A path, as far as it matters here: nothing in this module touches it."""

    def __fspath__(self) -> str: ...


@dataclass(frozen=True)
class Wish:
    """What the user asks for; what comes after `type_passphrase`, only tests do."""

    memory_mib: int = 1024
    crashkernel: str = "256M"
    """One value, or several with blanks between them: `64M,cma 72M`."""
    timeout_s: int = 600
    keep: Directory | None = None
    type_passphrase: bool = False
    """Answer the capture kernel when it asks for a passphrase; no key is handed over then."""
    disks: Directory | None = None
    """What a former rehearsal kept: its disks are used again as it left them, instead of new ones."""
    break_target: tuple[str, ...] = ()
    """See `faults.parse`."""
    files: tuple[tuple[str, bytes], ...] = ()
    """Put on the disks before the crash: a path on the first target, on another one as `2:/path`; with a slash after
    it, it is a directory."""
    kill_after: tuple[str, float] | None = None
    """Cut the power so many seconds after a line of the console that this pattern fits."""
    qemu: tuple[str, ...] = ()
    """More arguments for the virtual machine."""


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
    volumes: tuple[Volume, ...]
    script: str
    programs: tuple[str, ...]
    maybe: tuple[str, ...]
    """Programs that it does without if need be."""
    modules: tuple[str, ...]
    """Files of the system's kernel below its modules directory, in the order in which they go in."""
    files: tuple[cpio.File, ...]
    """What else the first stage holds: what it puts on the disks."""

    @property
    def out_mib(self) -> int:
        """Size of the disk that the dumps come back on: room for all memory of the machine on every target."""
        return SPARE_MIB + self.wish.memory_mib * max(1, len(self.capture.targets))


def design(config: Config, facts: Facts, wish: Wish, read_modules: Callable[[str], ModuleIndex]) -> Rehearsal:
    """The rehearsal of what is, or would be, loaded. Raises KdumpError when that can't be rehearsed."""
    _check(wish)
    capture = design_capture(config, facts)
    if config.capture == "system":
        raise KdumpError("capture = system can't be rehearsed: it needs the whole root, not only a scratch disk")
    faults = parse(wish.break_target)
    found = scratch.volumes(capture.targets, faults, wish.memory_mib)
    if not facts.image.exists or facts.image.fingerprint != capture.fingerprint:
        state = "stale" if facts.image.exists else "missing"
        raise KdumpError(f"{capture.image} is {state}: there is nothing to rehearse", hint="kdump-pkg rebuild")
    system = _system_kernel(facts, capture)
    assert capture.kernel.vmlinuz is not None and system.vmlinuz is not None
    index = read_modules(system.release)
    disks = sum(volume.count for volume in found) + 1
    controller = choose_controller(facts.modules, capture.modules, index, disks)
    filling = first_stage.FILL_PROGRAMS if faults.room else ()
    return Rehearsal(
        wish=wish,
        capture=capture,
        image_bytes=facts.image.size,
        kernel=capture.kernel.vmlinuz,
        system=system.vmlinuz,
        system_release=system.release,
        cmdline=with_console(capture.cmdline),
        methods=load_methods(facts.boot),
        controller=controller,
        volumes=found,
        script=first_stage.script(found, faults, _argon2(wish, capture), _handed_over(wish, facts, capture)),
        programs=(*first_stage.PROGRAMS, *filling, *scratch.programs(found)),
        maybe=scratch.checkers(found),
        modules=_modules(index, (*controller.drivers, *scratch.modules(found))),
        files=_files(wish, faults, capture),
    )


def _modules(index: ModuleIndex, names: tuple[str, ...]) -> tuple[str, ...]:
    order = insmod_order(index, names)
    if order.missing:
        raise KdumpError(f"kernel {index.release} has no module {', '.join(order.missing)}, the rehearsal needs it")
    return order.files


def _handed_over(wish: Wish, facts: Facts, capture: Capture) -> frozenset[str]:
    """Volumes whose keys go to the capture kernel, if the guest can: those of the real load, where it is known."""
    if wish.type_passphrase:
        return frozenset()
    if facts.boot.crash_dm_crypt is not None:
        return frozenset(volume.uuid for volume in targets.keys(facts, capture.targets))
    return frozenset(layer.name for t in capture.targets for layer in t.layers if layer.kind == "crypt")


def _argon2(wish: Wish, capture: Capture) -> dict[str, int]:
    """What checking a typed passphrase costs on the real volume, so that it costs the same here."""
    found = {v.uuid: v.argon2_kib for target in capture.targets for v in target.crypt if wish.type_passphrase}
    most = max(found.values(), default=0) >> 10
    if most > wish.memory_mib // 2:
        raise KdumpError(
            f"checking the passphrase takes {most} MiB, too much in a machine of {wish.memory_mib} MiB",
            hint=f"--memory {4 * most}",
        )
    return found


def _files(wish: Wish, faults: Faults, capture: Capture) -> tuple[cpio.File, ...]:
    """Below /files/NUMBER: what the first stage copies to that target."""
    files: list[cpio.File] = []
    for number, count in faults.dumps.items():
        if not 0 < number <= len(capture.targets):
            raise KdumpError(f"there is no target {number}")
        directory = f"/files/{number}{capture.targets[number - 1].path}"
        files += old_dumps(directory, count, capture.kernel.release)
    for path, data in wish.files:
        target, _, rest = path.rpartition(":")
        mode = DIRECTORY if rest.endswith("/") else 0o600
        files.append(cpio.File(f"/files/{target or 1}{rest.rstrip('/')}", data, mode))
    return tuple(files)


def _check(wish: Wish) -> None:
    if not re.fullmatch(rf"{VALUE}(?: {VALUE})*", wish.crashkernel):
        raise KdumpError(f"--crashkernel {wish.crashkernel}: not a size", hint="for example 256M")
    if wish.memory_mib < 256:
        raise KdumpError(f"--memory {wish.memory_mib}: too little for a kernel and a reservation", hint="256 or more")
    if wish.timeout_s < 1:
        raise KdumpError(f"--timeout {wish.timeout_s}: not a time", hint="seconds, 1 or more")


def _system_kernel(facts: Facts, capture: Capture) -> Kernel:
    """The one that runs now, if its file is still there: it is the one that would crash.

    A variant is none to run a system, so that another one is taken where nothing tells.
    """
    usable = [k for k in facts.kernels if k.usable]
    running = next((k for k in usable if k.release == facts.boot.running), None)
    others = [k for k in usable if capture.kernel.variant and k.pkgbase]
    return running or (others[-1] if others else capture.kernel)


def with_console(cmdline: str) -> str:
    """The capture command line, byte for byte, and the serial port as its last console: only there can we read it."""
    consoles = re.findall(r"(?:^|\s)console=(\S+)", cmdline)
    at_the_port = bool(consoles) and re.fullmatch(r"ttyS0(,.*)?", consoles[-1]) is not None
    return cmdline if at_the_port else f"{cmdline} console=ttyS0"
