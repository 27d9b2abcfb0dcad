"""The only code that changes the system: carries a plan out, action by action, in its order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from kdump_pkg import fs, paths
from kdump_pkg.apply import debug, images, kexec, prune, trace
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Action,
    BuildImage,
    DropDebug,
    Load,
    MakeRecord,
    Plan,
    Remove,
    RemoveDump,
    SaveDebug,
    Unload,
    WriteFile,
)

OURS = (paths.STATE, paths.RUN)
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
            _perform(ctx, action, report)
        except KdumpError as error:
            failed.append(error)
    return tuple(failed)


def describe(action: Action) -> str:
    """One line for a user: what is done and why."""
    match action:
        case WriteFile():
            return f"writing {action.path}: {action.reason}"
        case Remove():
            return f"removing {action.path}: {action.reason}"
        case BuildImage():
            how = f"{action.flavour}, {action.generator}"
            return f"building {action.path} for {action.release} ({how}): {action.reason}"
        case SaveDebug():
            return f"saving the debug kernel of {action.release}: {action.reason}"
        case DropDebug():
            return f"removing the debug kernel of {action.release}: {action.reason}"
        case Load():
            return f"loading {action.release} as the capture kernel: {action.reason}"
        case Unload():
            return f"unloading the capture kernel: {action.reason}"
        case RemoveDump():
            return f"removing the dump {action.directory}/{action.name} ({action.kib / 1024:.1f} MiB): {action.reason}"
        case MakeRecord():
            return f"writing {paths.RECORD}: {action.reason}"


def _perform(ctx: Context, action: Action, report: Reporter) -> None:
    match action:
        case WriteFile():
            fs.write_atomic(ctx.path(action.path, follow=False), action.data, action.mode)
        case Remove():
            _remove(ctx, action.path)
        case BuildImage():
            images.build(ctx, action)
        case SaveDebug():
            debug.save(ctx, action)
        case DropDebug():
            debug.drop(ctx, action.release)
        case Load():
            kexec.load(ctx, action, report)
        case Unload():
            kexec.unload(ctx)
        case RemoveDump():
            prune.remove_dump(ctx, action.directory, action.name, report)
        case MakeRecord():
            trace.make_record(ctx)


def _remove(ctx: Context, name: str) -> None:
    path = ctx.path(name, follow=False)
    if name in OURS:
        fs.remove_tree(path, keep=PurePosixPath(paths.SETUP).name)  # a boot loader may still have what setup put in
        return
    fs.remove(path)
    if PurePosixPath(name).is_relative_to(paths.DEBUG_MODULES):
        fs.remove_empty_parents(path, ctx.path("/usr/lib"))
