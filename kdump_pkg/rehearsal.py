"""The verb `rehearse`: what would be loaded, crashed in a virtual machine instead of on this one."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kdump_pkg import cpio, fs, paths, ui
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.apply import scratch as disks
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import kernels
from kdump_pkg.facts.records import read_rehearsed
from kdump_pkg.model import Config, Facts
from kdump_pkg.model.health import Rehearsed
from kdump_pkg.plan import console, first_stage, gpt, machine, scratch
from kdump_pkg.plan import rehearsal as plan
from kdump_pkg.plan.rehearsal import Rehearsal, Wish
from kdump_pkg.plan.verdict import Dump, DumpFile, Ran, Read, Verdict, judge

__all__ = ["Verdict", "Wish", "rehearse", "report"]

QUESTION = r"kdump-save: passphrase for [^\n]*"
READ_TIMEOUT = 180  # seconds to make or to read all disks, once the machine is known to start


def rehearse(ctx: Context, config: Config, facts: Facts, wish: Wish) -> Verdict:
    """Crash it and see. Raises KdumpError when something prevents that; a crash that isn't saved is a verdict."""
    rehearsal = plan.design(config, facts, wish, lambda release: kernels.read_modules(ctx, release))
    stage.need(machine.QEMU)
    keep = Path(wish.keep).resolve() if wish.keep else None
    if keep:
        stage.check_keep(keep)
    with stage.workplace(ctx) as work:
        made = _prepare(ctx, rehearsal, work)
        ran, said = _crash(ctx, rehearsal, made)
        read, heard = _read_back(rehearsal, made, ran)
        dumps = _collect(ctx, rehearsal, work, ran)
        verdict = judge(rehearsal, ran, dumps, read)
        if keep:
            _write_log(work / "console.log", said)
            _write_log(work / "read.log", heard)
            logs = [work / "console.log", work / "read.log"]
            disks.keep([*logs, work / "targets", *(Path(disk.path) for disk in made.disks)], keep)
            _point_to(keep, rehearsal, verdict)
    record(ctx, rehearsal, verdict)
    return replace(verdict, kept=str(keep) if keep else None)


def record(ctx: Context, rehearsal: Rehearsal, verdict: Verdict) -> None:
    """Keep the result for `status` and `estimate`, where we may write; a rehearsal never fails for it.

    One that failed with less memory than the last one that captured says nothing against that. One whose disks or
    whose power were played with says nothing at all.
    """
    wish, last = rehearsal.wish, read_rehearsed(ctx)
    now = Rehearsed(
        time=int(ctx.clock()),
        fingerprint=rehearsal.capture.fingerprint,
        release=rehearsal.capture.kernel.release,
        crashkernel=verdict.crashkernel,
        captured=verdict.captured,
        reason=verdict.reason or "",
        reserved=verdict.reserved_bytes or 0,
        least_kib=verdict.min_available_kib,
        seconds=verdict.seconds_panic_to_reboot if verdict.accelerator == "kvm" else None,  # else it is no measure
    )
    if wish.disks or wish.break_target or wish.kill_after:
        return
    same = last is not None and last.captured and last.fingerprint == now.fingerprint
    if last is not None and same and not now.captured and now.reserved < last.reserved:
        return
    with contextlib.suppress(OSError, KdumpError):
        fs.write_record(ctx.path(paths.REHEARSED), asdict(now))


@dataclass(frozen=True)
class _Made:
    """What lies in the work place."""

    kernel: str
    base: str
    """The first stage alone."""
    whole: str
    """The first stage with what it is to load."""
    disks: tuple[machine.Disk, ...]
    out: machine.Disk


def _prepare(ctx: Context, rehearsal: Rehearsal, work: Path) -> _Made:
    """The first stage, with what the host would load in it, and the scratch disks."""
    contents = {
        "/vmlinuz": stage.read(ctx, rehearsal.kernel),
        "/image": stage.read(ctx, rehearsal.capture.image),
        "/cmdline": f"{rehearsal.cmdline}\n".encode(),
        "/methods": f"{' '.join(rehearsal.methods)}\n".encode(),
    }
    modules = disks.modules(ctx, rehearsal.system_release, rehearsal.modules, work / "modules")
    files = [*modules, *rehearsal.files]
    base = stage.first_stage(ctx, rehearsal.script, rehearsal.programs, files, rehearsal.maybe)
    (work / "base.img").write_bytes(base)
    (work / "whole.img").write_bytes(base + cpio.archive(cpio.File(name, data) for name, data in contents.items()))
    made = []
    for volume in rehearsal.volumes:
        for number, partition in enumerate(volume.partitions, 1):
            disk = work / f"disk-{volume.number}-{number}.img"
            if rehearsal.wish.disks:
                disks.reuse(Path(rehearsal.wish.disks), disk)
            else:
                disks.make_disk(disk, volume.mib, partition)
            made.append(machine.Disk(str(disk), volume.readonly))
    out = work / "out.img"
    disks.make_disk(out, rehearsal.out_mib, gpt.Partition(scratch.OUT, gpt.LINUX))
    kernel = str(ctx.path(rehearsal.system))
    return _Made(kernel, str(work / "base.img"), str(work / "whole.img"), tuple(made), machine.Disk(str(out)))


def _crash(ctx: Context, rehearsal: Rehearsal, made: _Made) -> tuple[Ran, tuple[console.Line, ...]]:
    """Under KVM where it works; with the first processor that comes as far as the first stage."""
    wish = rehearsal.wish
    works = stage.kvm_works(ctx, machine.probe_command(machine.Files(made.kernel, made.base)), first_stage.PROBED)
    accelerator: machine.Accelerator = "kvm" if works else "tcg"
    answers = ((QUESTION, scratch.PASSPHRASE),) if wish.type_passphrase else ()
    for cpu in machine.CPUS[accelerator]:
        host = machine.Host(accelerator, cpu, wish.memory_mib, wish.qemu)
        mode: first_stage.Mode = "again" if wish.disks else "crash"
        if mode == "crash" and any(volume.readonly for volume in rehearsal.volumes):
            writable = tuple(replace(disk, readonly=False) for disk in made.disks)
            files, mode = machine.Files(made.kernel, made.base, writable), "again"
            argv = machine.command(files, rehearsal.controller, host, "make")
            stage.watch(argv, timeout=READ_TIMEOUT, ends=console.ends)
        argv = machine.command(
            machine.Files(made.kernel, made.whole, made.disks), rehearsal.controller, host, mode, wish.crashkernel
        )
        run = stage.watch(argv, timeout=wish.timeout_s, ends=console.ends, answers=answers, cut=wish.kill_after)
        said = console.lines(run.lines)
        seen = console.read(said)
        if run.timed_out or run.killed or seen.stage not in ("nothing", "system"):
            break
    return Ran(seen, run.seconds, run.timed_out, accelerator, cpu, run.killed), said


def _read_back(rehearsal: Rehearsal, made: _Made, ran: Ran) -> tuple[Read, tuple[console.Line, ...]]:
    """Start once more, as after the reboot, and have the dumps copied to a disk of their own."""
    if ran.console.stage in ("nothing", "system", "first stage"):
        return Read(), ()
    host = machine.Host(ran.accelerator, ran.cpu, rehearsal.wish.memory_mib)
    writable = tuple(replace(disk, readonly=False) for disk in made.disks)
    files = machine.Files(made.kernel, made.base, (*writable, made.out))
    argv = machine.command(files, rehearsal.controller, host, "read")
    run = stage.watch(argv, timeout=READ_TIMEOUT, ends=console.ends)
    said = console.lines(run.lines)
    return Read(console.uncopied(said), console.checked(said)), said


def _collect(ctx: Context, rehearsal: Rehearsal, work: Path, ran: Ran) -> list[Dump]:
    """The dumps that were not there before the crash."""
    into = work / "targets"
    disks.unpack(work / "out.img", into)
    found = []
    for number, target in enumerate(rehearsal.capture.targets, 1):
        for path in disks.find_dumps(into / str(number) / target.path.strip("/")):
            if (number, path.name) not in ran.console.there:
                found.append(_dump(ctx, number, path))
    return found


def _dump(ctx: Context, target: int, path: Path) -> Dump:
    names = {p.name for p in path.iterdir()}
    stats = [(p.name, p.lstat()) for p in sorted(path.iterdir()) if p.is_file() and not p.is_symlink()]
    log = stage.read_log(ctx, path) if "vmcore" in names and not (path / "vmcore").is_symlink() else None
    return Dump(
        target=target,
        name=path.name,
        mode=path.stat().st_mode & 0o777,
        files=tuple(DumpFile(name, stat.st_size, stat.st_mode & 0o777) for name, stat in stats),
        meta=disks.read_meta(path),
        readable=None if log is None else _panic(log) is not None,
        panic_line=_panic(disks.read_file(path / "dmesg.txt")),
        log="dmesg.txt.age" not in names,
    )


def _panic(log: bytes) -> str | None:
    return next((line for line in map(console.clean, log.splitlines()) if console.CRASH.search(line)), None)


def _write_log(file: Path, said: tuple[console.Line, ...]) -> None:
    file.write_text("".join(f"[{line.seconds:8.2f}] {line.text}\n" for line in said), encoding="utf-8")


def _point_to(keep: Path, rehearsal: Rehearsal, verdict: Verdict) -> None:
    """The dump has its place beside the logs, too: as a link."""
    if verdict.dumps:
        best = verdict.dumps[0]
        path = rehearsal.capture.targets[best.target - 1].path.strip("/")
        (keep / best.name).symlink_to(Path("targets", str(best.target), path, best.name))


def report(verdict: Verdict) -> str:
    """The verdict for people."""
    v = verdict
    rows = [("", name, text) for name, text in _rows(v) if text]
    head = "captured: the dump is complete" if v.captured else f"not captured: {v.reason}"
    return f"{head}\n{ui.table(rows)}"


def _rows(v: Verdict) -> list[tuple[str, str]]:
    reserved = f"{v.crashkernel} of {v.memory_mib} MiB reserved"
    least = f", at the least {v.min_available_kib / 1024:.0f} MiB available" if v.min_available_kib is not None else ""
    back = v.seconds_panic_to_reboot
    reboot = f"panic to reboot {back} s, " if back is not None else "it did not reboot, " if v.captured else ""
    return [
        ("console", v.console_line or ""),
        ("panic", v.panic_line or ""),
        ("dump", " ".join([f"{v.directory}:", *(f"{f.name} ({_size(f.size)})" for f in v.dump)]) if v.dump else ""),
        ("exposed", "" if v.private is not False else "others than root may read the dump"),
        ("damaged", "; ".join(v.unsound)),
        ("trace", f"left in {v.trace}" if v.trace else ""),
        ("target", f"{v.target}, on a scratch disk by {v.controller}"),
        ("keys", f"handed over for {' and '.join(v.keys)}" if v.keys else ""),
        ("time", f"{reboot}{v.seconds_total} s in all, by {v.accelerator}"),
        ("memory", f"{reserved}{least}"),
        ("kernel", f"{v.release}, crashed: {v.system_release}"),
        ("image", f"{v.image}, {_size(v.image_bytes)}, {v.flavour} by {v.generator}"),
        ("command line", v.cmdline),
        ("kept in", v.kept or ""),
    ]


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"
