"""The verb `test`: a real crash of this machine, on purpose, that can be told from any other afterwards.

What became of it is found out after the reboot, by `settle`, which `collect` calls; `status` reads that.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, replace

from kdump_pkg import config as configuration
from kdump_pkg import fs, paths, reconcile, ui
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import dumps, trace
from kdump_pkg.facts.boot import read_boot
from kdump_pkg.facts.health import read_boot_id
from kdump_pkg.facts.records import read_test
from kdump_pkg.model import Config, Trace
from kdump_pkg.model.health import CrashTest, LastDump

WORD = "crash"
SYSRQ = "/proc/sysrq-trigger"
KMSG = "/dev/kmsg"
SLACK = 5
"""Seconds that the clock may have been set back by between the announcement and the crash."""
LATEST = 600
"""Seconds after the announcement in which a crash is taken for this one where nothing but the time tells."""
LOST = {
    "partial": "only a part of the memory was saved", "dmesg": "only the log was saved",
    "incomplete": "the saving was cut short", "started": "the saving was cut short at its beginning",
}  # fmt: skip


def crash(ctx: Context) -> int:
    """Announce it and crash. Doesn't return but with an error: where this machine isn't armed, or nobody wants it."""
    config = configuration.load(ctx)
    release = _check(ctx, config)
    if not ui.typed(f"Type the word {WORD} to crash this machine now:", WORD):
        raise KdumpError("not confirmed; nothing was done", hint=f"type the word {WORD}")
    with fs.lock(ctx.path(paths.LOCK)):  # nobody is in the midst of a build, or of loading another one
        if not read_boot(ctx).crash_loaded:
            raise KdumpError("nothing is loaded any more", hint="kdump-pkg status")
        test = CrashTest(secrets.token_hex(4), read_boot_id(ctx), int(ctx.clock()), release)
        _write(ctx, test)
        fs.feed(ctx.path(KMSG), b"<5>" + mark(test) + b"\n")
        os.sync()
        fs.feed(ctx.path(SYSRQ), b"c")
        fs.remove(ctx.path(paths.CRASH_TEST))  # still here
    raise KdumpError("the kernel did not crash", hint="journalctl -k says why")


def mark(test: CrashTest) -> bytes:
    """What the kernel's log has of it."""
    return f"kdump-pkg: crash test {test.id}".encode()


def _check(ctx: Context, config: Config) -> str:
    """Say what will happen. Returns the release; raises KdumpError where a crash now wouldn't be saved."""
    status = reconcile.read_status(ctx, config)
    boot = read_boot(ctx)
    if not ctx.live or boot.confined:
        raise KdumpError(f"{boot.confined}: it is the host that would crash", hint="run it on the host")
    if not status.armed:
        raise KdumpError(status.verdict)
    if not ctx.path(SYSRQ).exists():
        raise KdumpError(f"{SYSRQ} isn't there", hint="boot a kernel with CONFIG_MAGIC_SYSRQ")
    ends = {"reboot": "reboots", "poweroff": "is switched off", "halt": "halts", "shell": "waits in a shell"}
    ui.say("this crashes the kernel of this machine, for real and at once")
    ui.detail("whatever is not saved is lost, of everybody who works on it")
    ui.detail(status.verdict.removeprefix("armed: "))
    ui.detail(f"then the machine {ends.get(config.final_action, config.final_action)}; after the next boot")
    ui.detail("`kdump-pkg status` says whether this very crash was saved")
    return boot.running or ""


def _write(ctx: Context, test: CrashTest) -> None:
    fs.write_record(ctx.path(paths.CRASH_TEST), asdict(test))


# --- after the reboot -----------------------------------------------------------------------------------------------


def settle(ctx: Context, places: Sequence[dumps.Place]) -> CrashTest | None:
    """Find out what became of the last one and write it down; None where there is nothing new to say.

    One that seems lost is looked for again: its target may not have been mounted at the first boot.
    """
    test = read_test(ctx)
    if test is None or test.result == "saved" or test.boot_id == read_boot_id(ctx):
        return None
    settled = judge(test, _candidates(ctx, test, places), trace.read_traces(ctx))
    if settled == test:
        return None
    _write(ctx, settled)
    return settled


def _candidates(ctx: Context, test: CrashTest, places: Sequence[dumps.Place]) -> list[tuple[LastDump, bool | None]]:
    since, word = test.time - SLACK, mark(test)
    return [one for place in places for one in dumps.read_since(ctx, place.directory, since, word)]


def judge(test: CrashTest, found: Sequence[tuple[LastDump, bool | None]], traces: Sequence[Trace]) -> CrashTest:
    """What became of it: by its mark in a dump's log; where that can't be read, by time and release."""
    sure = [dump for dump, has in found if has]
    near = [dump for dump, has in found if has is None and _fits(test, dump.time, dump.release)]
    best = min(sure or near, key=_rank, default=None)
    if best is None:
        said = [one.text for one in traces if _fits(test, one.time, one.release)]
        return replace(test, result="lost", reason=said[-1] if said else "no dump of it is on any mounted target")
    if best.result == "complete":
        return replace(test, result="saved", dump=best.path, seconds=best.seconds, certain=bool(sure), reason="")
    reason = LOST.get(best.result, "nobody knows how it was saved")
    return replace(test, result="lost", dump=best.path, seconds=None, certain=bool(sure), reason=reason)


def _rank(dump: LastDump) -> bool:
    """The complete one first, of those that one crash left on several targets."""
    return dump.result != "complete"


def _fits(test: CrashTest, time: int, release: str) -> bool:
    return -SLACK <= time - test.time <= LATEST and release in (test.release, "unknown")
