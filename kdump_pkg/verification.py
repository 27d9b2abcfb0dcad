"""Whether a dump is whole and can be read: its sums, its structure, makedumpfile's word, its kernel, its tasks.

None of these alone proves it: makedumpfile damages dumps of Linux 7.1 and later and reports success, and what it wrote
is well-formed. A page that is missing shows when somebody wants to read it, so the tasks are read, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

from kdump_pkg import fs, untrusted
from kdump_pkg.apply.decrypt import MAGIC as SEALS
from kdump_pkg.context import Context
from kdump_pkg.errors import BadDumpError, CommandError, KdumpError
from kdump_pkg.facts import catalogue, crashed, debugfiles, diskdump, dumps
from kdump_pkg.facts.alpm import open_packages
from kdump_pkg.model.crash import Check, TaskFacts, Verification, VmcoreFacts
from kdump_pkg.model.dumps import Entry, Vmcore
from kdump_pkg.paths import REPORT_SUMS
from kdump_pkg.plan import level
from kdump_pkg.run import Result
from kdump_pkg.untrusted import one_line
from kdump_pkg.vmcore import LONGEST, UNREADABLE

T = TypeVar("T")
MOST_SUMS = 1 << 16
READING = 300
"""Seconds for the program that reads the memory, more than it has of the processor."""
THREADS = {"OMP_NUM_THREADS": "4"}
"""drgn takes one for each CPU, and dies where it can't have them."""
STREAM = "it is a stream (makedumpfile -F): makedumpfile can't read it before makedumpfile -R has put it in order"
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from kdump_pkg.__main__ import run; sys.exit(run())"
"""Ours may be a directory of its own (-I leaves nothing else of the path) or a work tree."""


def verify(ctx: Context, entry: Entry, facts: VmcoreFacts | None = None, *, sums: Check | None = None) -> Verification:
    """Look at everything. FACTS of `read_vmcore` and SUMS of `write_sums` spare their part where they are known."""
    sums = sums or check_sums(ctx, entry)
    if is_sealed(entry):
        locked = Check("structure", "skipped", "encrypted: without the key only sums and sizes can be checked")
        return _done(ctx, sums, _check_sealed(ctx, entry) or locked)
    structure, core = _check_structure(ctx, entry)
    if core is None:
        return _done(ctx, sums, structure)
    known = read_vmcore(ctx, entry, _ready_vmlinux(ctx, entry)) if facts is None else facts
    log = _check_log(ctx, entry) if core.form != "flattened" else Check("log", "skipped", STREAM)
    return _done(ctx, sums, structure, log, _check_kernel(entry, core), _check_tasks(ctx, entry, core, known))


def is_sealed(entry: Entry) -> bool:
    """Whether the memory, or all that there is, can't be read without a key."""
    return entry.vmcore.endswith(".age") or (entry.encrypted and not entry.vmcore)


def _done(ctx: Context, *checks: Check) -> Verification:
    return Verification(checks, int(ctx.clock()))


# --- sums -------------------------------------------------------------------------------------------------------------


def write_sums(ctx: Context, entry: Entry) -> Check:
    """`report.sums`, as sha256sum writes it, of all that was saved. Raises KdumpError where it can't be made.

    Those that are there stay: what has changed since must not become what it is held against.
    """
    with catalogue.opened_directory(ctx, entry) as fd:
        if _read_sums(fd) is not None:
            return check_sums(ctx, entry)
        names = [name for name in sorted(dumps.files_of(fd)) if not name.startswith(("report.", fs.TEMPORARY))]
        lines = [f"{_digest(fd, name)}  {name}\n" for name in names]
    fs.write_atomic(ctx.path(entry.path) / REPORT_SUMS, "".join(lines).encode(), 0o600)
    return Check("sums", "ok", f"{_count(len(names), 'file')}, summed up now")


def check_sums(ctx: Context, entry: Entry) -> Check:
    """Every file that has a sum, held against it; but for those that somebody has removed who has decrypted them."""
    if entry.foreign:
        return Check("sums", "skipped", f"{'who made it' if entry.maker == 'unknown' else entry.maker} makes none")
    with catalogue.opened_directory(ctx, entry) as fd:
        said = _read_sums(fd)
        if said is None:
            return Check("sums", "skipped", "there are none yet: kdump-pkg collect makes them")
        there = dumps.files_of(fd)
        said = [(name, digest) for name, digest in said if name in there or name.removesuffix(".age") not in there]
        changed = [name for name, digest in said if name not in there or _digest(fd, name) != digest]
    wrong = [f"{name} {'has changed' if name in there else 'is gone'}" for name in changed]
    if wrong:
        return Check("sums", "bad", f"since the report was made, {', '.join(wrong)}")
    return Check("sums", "ok", f"{_count(len(said), 'file')} as when the report was made")


def _read_sums(fd: int) -> list[tuple[str, str]] | None:
    """Name and sum of each; lines of another form are left out. None where there is nothing to go by."""
    text = (dumps.head_of(fd, REPORT_SUMS, MOST_SUMS) or b"").decode("utf-8", "replace")
    pairs = [line.split("  ", 1) for line in text.splitlines() if "  " in line]
    return [(name, digest) for digest, name in pairs if len(digest) == 64 and dumps.is_known(name)] or None


def _digest(fd: int, name: str) -> str:
    try:
        with os.fdopen(os.open(name, dumps.HERE | os.O_NONBLOCK, dir_fd=fd), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise KdumpError(f"{name}: {error.strerror}") from None


# --- structure --------------------------------------------------------------------------------------------------------


def _check_sealed(ctx: Context, entry: Entry) -> Check | None:
    """What shows without a key that nobody could ever decrypt it."""
    names = [name for name, _ in catalogue.read_details(ctx, entry).files if name.endswith(".age")]
    with catalogue.opened_directory(ctx, entry) as fd:
        heads = {name: dumps.head_of(fd, name, 64) or b"" for name in names}
    for name, head in heads.items():
        if not head.startswith(SEALS):
            return Check("structure", "bad", f"{name} is not what age writes: {'empty' if not head else 'damaged'}")
    return None


def _check_structure(ctx: Context, entry: Entry) -> tuple[Check, Vmcore | None]:
    """The second is None where there is nothing that could be read any further."""
    if not entry.vmcore:
        if entry.state == "dmesg only":
            return Check("structure", "skipped", "only the log was saved"), None
        return Check("structure", "bad", "there is no vmcore"), None
    try:
        core = diskdump.examine(ctx.path(entry.vmcore))
    except BadDumpError as error:
        return Check("structure", "bad", _whole(error)), _headers(ctx, entry)
    if core.incomplete:
        return Check("structure", "bad", "makedumpfile says that it could not write all of it"), core
    how = [f"{_count(core.pages, 'page')}", *([f"level {core.level}"] if core.level is not None else [])]
    return Check("structure", "ok", f"{', '.join([*how, core.compression or core.form])}, all inside the file"), core


def _headers(ctx: Context, entry: Entry) -> Vmcore | None:
    try:
        return diskdump.read(ctx.path(entry.vmcore))
    except BadDumpError:
        return None


def _whole(error: KdumpError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


# --- its log ----------------------------------------------------------------------------------------------------------


def _check_log(ctx: Context, entry: Entry) -> Check:
    """Whether makedumpfile finds the log in the memory, and the same as was saved."""
    with tempfile.TemporaryDirectory(prefix="kdump-pkg-") as work:
        out = Path(work, "dmesg.txt")
        try:
            done = crashed.dump_dmesg(ctx, entry, out)
        except CommandError as error:
            return Check("log", "skipped", _whole(error))
        if done.returncode == 127:
            return Check("log", "skipped", "makedumpfile is not installed: pacman -S makedumpfile")
        log = _read_log(out)
        if done.returncode or not log:
            return Check("log", "bad", f"makedumpfile can't read it: {_last_words(done)}")
        return _compare(log, _read_log(ctx.path(entry.log)) if entry.log else b"")


def _read_log(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            return file.read(crashed.LARGEST_LOG) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""


def _compare(log: bytes, saved: bytes) -> Check:
    """The same up to the crash: what is said after it depends on when the log was taken."""
    lines, others = log.splitlines(), saved.splitlines()
    if not others:
        return Check("log", "ok", f"makedumpfile reads it, {_count(len(lines), 'line')}")
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0].rstrip() == pair[1].rstrip(), zip(lines, others, strict=False))
    )
    crashed = next((n for n, line in enumerate(others, 1) if b"Kernel panic - not syncing" in line), len(others))
    if same < crashed:
        return Check("log", "bad", f"makedumpfile reads another log than dmesg.txt has, from line {same + 1} on")
    return Check("log", "ok", f"makedumpfile reads it, the same {_count(crashed, 'line')} as in dmesg.txt")


def _last_words(done: Result) -> str:
    lines = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").splitlines()
    words = [line for line in lines if line.strip() and "Completed" not in line and "not supported" not in line]
    return clean(words[-1]) if words else "it found none"


# --- its kernel -------------------------------------------------------------------------------------------------------


def _check_kernel(entry: Entry, core: Vmcore) -> Check:
    pairs = (("release", core.info.release, entry.release), ("build ID", core.info.build_id, entry.build_id.lower()))
    known = [(what, one, other) for what, one, other in pairs if one and other]
    for what, one, other in known:
        if one != other:
            return Check("kernel", "bad", f"the memory is of {what} {clean(one)}, the dump of {clean(other)}")
    if not known:
        return Check("kernel", "skipped", "the memory doesn't say of which kernel it is")
    return Check("kernel", "ok", " and ".join(f"{what} {clean(one)}" for what, one, _ in known))


# --- its tasks --------------------------------------------------------------------------------------------------------


def read_vmcore(ctx: Context, entry: Entry, vmlinux: Path | None) -> VmcoreFacts:
    """What drgn reads out of the memory, in a process of its own with limits. Never raises for a bad dump."""
    if is_sealed(entry) or not entry.vmcore:
        return VmcoreFacts(missing="encrypted: kdump-pkg decrypt" if is_sealed(entry) else "there is no vmcore")
    home = Path(__file__).resolve().parents[1]
    argv = [sys.executable or "/usr/bin/python3", "-I", "-B", "-c", START, os.fspath(home), "vmcore"]
    argv += [os.fspath(ctx.path(entry.vmcore)), *([os.fspath(vmlinux)] if vmlinux else [])]
    try:
        done = ctx.runner(argv, check=False, timeout=READING, env=THREADS)
    except CommandError as error:
        late = "not done after" in error.message
        return VmcoreFacts(missing=f"{UNREADABLE}drgn was not done after {READING} s" if late else error.message)
    if done.returncode < 0:
        return VmcoreFacts(missing=f"{UNREADABLE}drgn died of it (signal {-done.returncode})")
    return parse_facts(done.stdout) or VmcoreFacts(missing=f"{UNREADABLE}drgn gave no answer")


def _ready_vmlinux(ctx: Context, entry: Entry) -> Path | None:
    """One that is there already: with types more is looked at. drgn leaves it alone where it is of another build."""
    if not untrusted.release(entry.release):
        return None
    places = (debugfiles.made(entry.release), *debugfiles.places(ctx, entry.release))
    return next((ctx.path(place) for place in places if ctx.is_file(place)), None)


def _check_tasks(ctx: Context, entry: Entry, core: Vmcore, facts: VmcoreFacts) -> Check:
    if facts.missing.startswith(UNREADABLE):
        return Check("tasks", "bad", f"its tasks {facts.missing}")
    if facts.missing:
        return Check("tasks", "skipped", facts.missing)
    if not facts.fault:
        return Check("tasks", "ok", f"{_count(facts.tasks, 'task')} can be read")
    left_out = "excluded" in facts.fault.lower()  # and not one that is cut off or can't be unpacked
    return Check("tasks", "bad", f"{_blame(ctx, entry, core) if left_out else ''}{facts.fault}")


def _blame(ctx: Context, entry: Entry, core: Vmcore) -> str:
    """Who damaged it, where that is known: makedumpfile up to 1.7.9 doesn't know how Linux 7.1 marks its pages."""
    used = crashed.read_meta(ctx, entry).get("makedumpfile", "")
    version = used or open_packages(ctx).version("makedumpfile") or ""
    release = core.info.release or entry.release
    if core.level is None or not level.damages(release, version, core.level):
        return ""
    certainty = "" if used else " (if it was the one that is installed)"
    return (
        f"damaged by makedumpfile {level.plain(version)}{certainty}: of Linux 7.1 and later, as {clean(release)}, it "
        f"leaves out pages that are needed at level {core.level}: "
    )


def parse_facts(answer: bytes) -> VmcoreFacts | None:
    """What the child has printed; nothing of it is believed. None where it is no answer."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return VmcoreFacts(
        tasks=_number(value.get("tasks")) or 0,
        running=_several(value.get("running"), _task),
        blocked=_several(value.get("blocked"), _task),
        memory=_several(value.get("memory"), _figure),
        fault=clean(value.get("fault")),
        missing=clean(value.get("missing")),
    )


def _several(value: object, read: Callable[[object], T | None]) -> tuple[T, ...]:
    found = (read(one) for one in (value if isinstance(value, list) else [])[:200])
    return tuple(one for one in found if one is not None)


def _task(value: object) -> TaskFacts | None:
    if not isinstance(value, dict):
        return None
    trace = value.get("trace")
    names = tuple(clean(name) for name in (trace if isinstance(trace, list) else [])[:200])
    pid, cpu = (_number(value.get(key)) or 0 for key in ("pid", "cpu"))
    return TaskFacts(pid, clean(value.get("name")), clean(value.get("state"))[:1], cpu, names)


def _figure(value: object) -> tuple[str, int] | None:
    name, number = value if isinstance(value, list) and len(value) == 2 else ("", None)
    size = _number(number)
    return None if size is None else (clean(name), size)


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62 else None


def clean(text: object) -> str:
    """One line of printable characters, and not too long a one."""
    return one_line(text, 2 * LONGEST) if isinstance(text, str) else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
