"""The verb `rehearse`: what would be loaded, crashed in a virtual machine instead of on this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kdump_pkg import ui
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.context import Context
from kdump_pkg.model import Config, Facts
from kdump_pkg.plan import console, machine
from kdump_pkg.plan import rehearsal as plan
from kdump_pkg.plan.rehearsal import DumpFile, Ran, Rehearsal, Saved, Verdict, Wish

__all__ = ["Verdict", "Wish", "rehearse", "report"]


def rehearse(ctx: Context, config: Config, facts: Facts, wish: Wish) -> Verdict:
    """Crash it and see. Raises KdumpError when something prevents that; a crash that isn't saved is a verdict."""
    rehearsal = plan.design(config, facts, wish)
    disk = machine.choose_file_system(rehearsal.capture.target)
    for program in (machine.QEMU, disk.make[0], disk.read[0]):
        stage.need(program)
    keep = Path(wish.keep).resolve() if wish.keep else None
    if keep:
        stage.check_keep(keep)
    with stage.workplace(ctx) as work:
        ran, said = _crash(ctx, rehearsal, work)
        saved, dump = _collect(ctx, rehearsal, work)
        verdict = plan.judge(rehearsal, ran, saved)
        if keep:
            log = work / "console.log"
            log.write_text("".join(f"[{line.seconds:8.2f}] {line.text}\n" for line in said), encoding="utf-8")
            stage.keep([log, _disk(work), *([dump] if dump else [])], keep)
    return replace(verdict, kept=str(keep) if keep else None)


def _disk(work: Path) -> Path:
    return work / "disk.img"


def _crash(ctx: Context, rehearsal: Rehearsal, work: Path) -> tuple[Ran, tuple[console.Line, ...]]:
    files = _prepare(ctx, rehearsal, work)
    wish = rehearsal.wish
    works = stage.kvm_works(ctx, machine.probe_command(files), machine.PROBED)
    accelerator: machine.Accelerator = "kvm" if works else "tcg"
    for cpu in machine.CPUS[accelerator]:
        command = machine.crash_command(
            files, rehearsal.controller, accelerator, cpu, memory_mib=wish.memory_mib, crashkernel=wish.crashkernel
        )
        run = stage.watch(command, timeout=wish.timeout_s, ends=console.ends)
        said = console.lines(run.lines)
        seen = console.read(said)
        if run.timed_out or seen.stage not in ("nothing", "system"):
            break
    return Ran(seen, run.seconds, run.timed_out, accelerator), said


def _prepare(ctx: Context, rehearsal: Rehearsal, work: Path) -> machine.Files:
    """The first stage, with what the host would load in it, and the scratch disk."""
    initrd, disk = work / "first-stage.img", _disk(work)
    contents = {
        "/vmlinuz": stage.read(ctx, rehearsal.kernel),
        "/image": stage.read(ctx, rehearsal.capture.image),
        "/cmdline": f"{rehearsal.cmdline}\n".encode(),
        "/methods": f"{' '.join(rehearsal.methods)}\n".encode(),
    }
    initrd.write_bytes(stage.first_stage(ctx, machine.FIRST_STAGE, machine.PROGRAMS, contents))
    stage.make_disk(ctx, disk, rehearsal.disk_mib, machine.make_command(rehearsal.capture.target, str(disk)))
    return machine.Files(str(ctx.path(rehearsal.system)), str(initrd), str(disk))


def _collect(ctx: Context, rehearsal: Rehearsal, work: Path) -> tuple[Saved, Path | None]:
    """What is on the scratch disk, and where it was copied to."""
    into = work / "target"
    into.mkdir()
    ctx.runner(machine.read_command(rehearsal.capture.target, str(_disk(work)), str(into)), check=False)
    dump = stage.find_dump(into)
    if dump is None:
        return Saved(), None
    files = tuple(DumpFile(p.name, p.lstat().st_size) for p in sorted(dump.iterdir()) if p.is_file())
    log = stage.read_log(ctx, dump) if (dump / "vmcore").is_file() else None
    readable = None if log is None else _panic(log) is not None
    return Saved(dump.name, files, stage.read_meta(dump), readable, _panic(stage.read_file(dump / "dmesg.txt"))), dump


def _panic(log: bytes) -> str | None:
    return next((line for line in map(console.clean, log.splitlines()) if console.CRASH.search(line)), None)


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
        ("target", f"{v.target}, on a scratch disk by {v.controller}"),
        ("time", f"{reboot}{v.seconds_total} s in all, by {v.accelerator}"),
        ("memory", f"{reserved}{least}"),
        ("kernel", f"{v.release}, crashed: {v.system_release}"),
        ("image", f"{v.image}, {_size(v.image_bytes)}, {v.flavour} by {v.generator}"),
        ("command line", v.cmdline),
        ("kept in", v.kept or ""),
    ]


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.1f} kB"
