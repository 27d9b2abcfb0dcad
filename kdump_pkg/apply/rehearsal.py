"""What a rehearsal does on this machine: the first stage's archive, the scratch disk, QEMU, and what it left behind.

Everything lies in one temporary directory inside the root that is worked on, so that its makedumpfile can read there.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kdump_pkg import cpio, fs, paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import elf
from kdump_pkg.run import PACKAGE_OF, clean_environment

PROGRAM_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/bin", "/sbin")
# Where loaders look without being told, on Arch and, for the tests' sake, on Debian.
LIBRARY_DIRECTORIES = (
    "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/lib", "/lib/x86_64-linux-gnu", "/lib64",
)  # fmt: skip
KVM = "/dev/kvm"
PROBE_TIMEOUT = 20  # seconds; where KVM works, it takes two
GRACE = 5  # seconds for the last words, once nothing more is expected
FLOOD = 64 << 20  # bytes; a capture says some 30 kB
LONGEST = 4096  # bytes without a line's end that still are one line
WANTED_SPACE = 512 << 20  # bytes: two copies of a usual dump, and the first stage


@dataclass(frozen=True)
class Run:
    """How a machine ran: its console, line by line, with the seconds since its start."""

    lines: tuple[tuple[float, bytes], ...]
    seconds: float
    timed_out: bool
    """It was ended by us, not by itself."""


@contextmanager
def workplace(ctx: Context) -> Iterator[Path]:
    """A directory of our own below this root, gone afterwards; not in memory, where that can be had."""
    home = next((path for path in map(ctx.path, ("/var/tmp", "/tmp")) if path.is_dir()), None)
    if home is None:
        raise KdumpError(f"{ctx.root} has no /var/tmp to work in")
    fs.check_space(home, WANTED_SPACE)
    with tempfile.TemporaryDirectory(prefix="kdump-pkg-rehearsal-", dir=home) as name:
        yield Path(name)


def need(program: str) -> None:
    """Raises KdumpError when PROGRAM isn't on this machine."""
    if shutil.which(program, path=clean_environment()["PATH"]) is None:
        hint = f"install it: pacman -S {PACKAGE_OF.get(program, program)}"
        raise KdumpError(f"{program} is not installed, a rehearsal needs it", hint=hint)


def first_stage(ctx: Context, init: str, programs: Sequence[str], files: Mapping[str, bytes]) -> bytes:
    """The archive that the virtual machine starts from: /init, PROGRAMS in /bin with their libraries, FILES."""
    parts = {f"/bin/{name}": _find(ctx, name, PROGRAM_DIRECTORIES) for name in programs}
    todo = list(parts.items())
    contents: dict[str, bytes] = {}
    while todo:
        name, path = todo.pop()
        data = contents[name] = read(ctx, path)
        linkage = elf.linkage(data, path)
        needs = [_find(ctx, library, LIBRARY_DIRECTORIES, linkage.machine) for library in linkage.libraries]
        if linkage.interpreter:
            needs.append(linkage.interpreter)
        todo.extend((need, need) for need in needs if need not in contents)
    entries = [cpio.File("/init", init.encode(), 0o755)]
    entries += [cpio.File(name, data, 0o755) for name, data in sorted(contents.items())]
    entries += [cpio.File(name, data) for name, data in files.items()]
    entries += [cpio.File(f"{directory}/.keep", b"") for directory in ("/dev", "/proc", "/sys")]
    return cpio.archive(entries)


def read(ctx: Context, name: str) -> bytes:
    """A file of this root. Raises KdumpError when it can't be read."""
    try:
        return ctx.path(name).read_bytes()
    except PermissionError:
        raise KdumpError(f"{name}: only root can read it", hint="run it with sudo") from None
    except OSError as error:
        raise KdumpError(f"{name}: {error.strerror}") from None


def _find(ctx: Context, name: str, directories: Sequence[str], machine: str | None = None) -> str:
    """Path of a program, or of a library of this MACHINE: others of its name may lie about."""
    for directory in directories:
        path = f"{directory}/{name}"
        if ctx.is_file(path) and (machine is None or elf.linkage(read(ctx, path), path).machine == machine):
            return path
    hint = None if machine else f"install it: pacman -S {PACKAGE_OF.get(name, name)}"
    raise KdumpError(f"{name} is not in {', '.join(directories)}, a rehearsal needs it", hint=hint)


def make_disk(ctx: Context, disk: Path, mib: int, command: Sequence[str]) -> None:
    """A file with nothing but holes, and on it what COMMAND makes."""
    with disk.open("xb") as file:
        file.truncate(mib << 20)
    ctx.runner(command, timeout=120)


def watch(argv: Sequence[str], *, timeout: float, ends: Callable[[bytes], bool]) -> Run:
    """Run a machine and read its console until it ends, until ENDS says that nothing more will come, or TIMEOUT."""
    start = time.monotonic()
    reader = _Reader(start)
    deadline, over = start + timeout, False
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean_environment()
        )
    except OSError as error:
        raise CommandError(f"{argv[0]}: {error.strerror}") from None
    assert process.stdout is not None
    try:
        console = process.stdout.fileno()
        while reader.size < FLOOD and (left := deadline - time.monotonic()) > 0:
            if not select.select([console], [], [], left)[0]:
                break
            data = os.read(console, 1 << 16)
            if not data:
                return Run(reader.finish(), time.monotonic() - start, False)
            if any(ends(line) for line in reader.feed(data)) and not over:
                deadline, over = time.monotonic() + GRACE, True
        return Run(reader.finish(), time.monotonic() - start, True)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Reader:
    """Cuts what comes into lines, and notes when each was whole."""

    def __init__(self, start: float) -> None:
        self.size = 0
        self._start = start
        self._rest = b""
        self._lines: list[tuple[float, bytes]] = []

    def feed(self, data: bytes) -> list[bytes]:
        self.size += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST:
            whole.append(self._rest)
            self._rest = b""
        now = time.monotonic() - self._start
        self._lines += [(now, line[:LONGEST]) for line in whole]
        return whole

    def finish(self) -> tuple[tuple[float, bytes], ...]:
        if self._rest:
            self.feed(b"\n")
        return tuple(self._lines)


def kvm_works(ctx: Context, command: Sequence[str], mark: str) -> bool:
    """Whether a machine under KVM really comes to say MARK: tried once in a boot, never believed by an exit code."""
    if not os.access(KVM, os.R_OK | os.W_OK):
        return False
    boot = Context().read_text("/proc/sys/kernel/random/boot_id")  # this machine's, whatever root is worked on
    record = ctx.path(f"{paths.RUN}/kvm.json")
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        if known["boot_id"] == boot:
            return bool(known["works"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    run = watch(command, timeout=PROBE_TIMEOUT, ends=lambda line: False)
    works = any(mark.encode() in line for _, line in run.lines)
    with contextlib.suppress(KdumpError, OSError):  # then it is tried again the next time
        fs.write_atomic(record, (json.dumps({"boot_id": boot, "works": works}) + "\n").encode())
    return works


def find_dump(directory: Path) -> Path | None:
    """The one dump in the directory that was copied from the scratch disk."""
    found = [path.parent for name in ("save.log", "dmesg.txt", "meta") for path in sorted(directory.rglob(name))]
    return found[-1] if found else None


def read_meta(dump: Path) -> tuple[tuple[str, str], ...]:
    """The lines of `meta`, as far as they are keys and values."""
    pairs = (line.partition("=") for line in read_file(dump / "meta").decode("utf-8", "replace").splitlines())
    return tuple((key, value) for key, mark, value in pairs if mark)


def read_file(file: Path) -> bytes:
    """A file of the dump; nothing where it can't be read."""
    try:
        return file.read_bytes()
    except OSError:
        return b""


def read_log(ctx: Context, dump: Path) -> bytes | None:
    """The kernel's log out of the vmcore, by this root's makedumpfile; empty when it can't, None without one."""
    log = dump.parent / "log-from-vmcore"
    inside = [f"/{path.relative_to(ctx.root)}" for path in (dump / "vmcore", log)]
    if not (ctx.live or os.geteuid() == 0) or not any(ctx.is_file(f"{d}/makedumpfile") for d in PROGRAM_DIRECTORIES):
        return None
    try:
        ctx.runner(["makedumpfile", "--dump-dmesg", *inside], root=ctx.root)
        return log.read_bytes()
    except (CommandError, OSError):
        return b""


def keep(files: Sequence[Path], directory: Path) -> None:
    """Copy what is worth keeping; holes of the disk stay holes, links of the guest stay links."""
    for file in files:
        if file.is_dir():
            shutil.copytree(file, directory / file.name, symlinks=True)
        elif file.exists():
            fs.copy_atomic(file, directory / file.name, 0o600)


def check_keep(directory: Path) -> None:
    """Raises KdumpError unless DIRECTORY can be made, or is there and empty: nothing is mixed or written over."""
    fs.ensure_directory(directory)
    if any(directory.iterdir()):
        raise KdumpError(f"{directory}: not empty", hint="--keep takes an empty or a new directory")
