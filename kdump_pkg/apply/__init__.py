"""The only code that changes the system: carries a plan out, action by action, in its order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from kdump_pkg import fs, paths
from kdump_pkg.apply import debug, images, kexec, prune, queue, trace
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Action,
    BuildImage,
    DropDebug,
    Load,
    MakeRecord,
    Plan,
    QueueVariant,
    Remove,
    RemoveDump,
    SaveDebug,
    Unload,
    WriteFile,
)

OURS = (paths.STATE, paths.RUN, paths.CACHE)
"""Directories that are ours altogether: these alone are ever removed with all that is in them."""

Reporter = Callable[[str], None]


def execute(ctx: Context, plan: Plan, report: Reporter) -> tuple[KdumpError, ...]:
    """Carry PLAN out; what fails is returned, and the rest is still done, but for a load without its image.

    Call it under `fs.lock` only, with a plan that was made under the same lock.
    """
    failed: list[KdumpError] = []
    for action in plan.actions:
        if isinstance(action, Load) and any(isinstance(f, images.BuildError) for f in failed):
            report("what was loaded stays loaded")
            continue
        report(describe(action))
        try:
            _PERFORM[type(action)](ctx, action, report)
        except KdumpError as error:
            failed.append(error)
    return tuple(failed)


def describe(action: Action) -> str:
    """One line for a user: what is done and why."""
    return f"{action.what}: {action.reason}"


def _write(ctx: Context, action: WriteFile) -> None:
    fs.write_atomic(ctx.path(action.path, follow=False), action.data, action.mode)


def _remove(ctx: Context, name: str) -> None:
    path = ctx.path(name, follow=False)
    if name in OURS:
        fs.remove_tree(path, keep=PurePosixPath(paths.SETUP).name)  # a boot loader may still have what setup put in
        return
    fs.remove(path)
    if PurePosixPath(name).is_relative_to(paths.DEBUG_MODULES):
        fs.remove_empty_parents(path, ctx.path("/usr/lib"))


_PERFORM: Mapping[type[Action], Callable[[Context, Any, Reporter], None]] = {
    WriteFile: lambda ctx, action, report: _write(ctx, action),
    Remove: lambda ctx, action, report: _remove(ctx, action.path),
    BuildImage: lambda ctx, action, report: images.build(ctx, action),
    SaveDebug: lambda ctx, action, report: debug.save(ctx, action),
    DropDebug: lambda ctx, action, report: debug.drop(ctx, action.release),
    Load: kexec.load,
    Unload: lambda ctx, action, report: kexec.unload(ctx),
    RemoveDump: lambda ctx, action, report: prune.remove_dump(ctx, action.directory, action.name, report),
    MakeRecord: lambda ctx, action, report: trace.make_record(ctx),
    QueueVariant: lambda ctx, action, report: queue.ask(ctx, action.wanted),
}
