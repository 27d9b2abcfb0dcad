"""The verb `debug`: crash or drgn on a dump, with the kernel and modules that belong to it."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from kdump_pkg import catalogue, paths, ui
from kdump_pkg.apply import vmlinux as making
from kdump_pkg.context import Context
from kdump_pkg.errors import BadDumpError, KdumpError
from kdump_pkg.facts import debugfiles, diskdump, elf
from kdump_pkg.facts.alpm import open_packages
from kdump_pkg.facts.debuggers import read_debuggers
from kdump_pkg.model.dumps import CoreInfo, Entry
from kdump_pkg.plan import readers
from kdump_pkg.run import interact
from kdump_pkg.untrusted import escaped

PROMPT = Path(__file__).with_name("prompt.py")
"""What drgn runs."""
LISTING = 120
"""Seconds that listing the modules may take."""
MOST_MODULES = 2000
NAME = re.compile(r"\w{1,64}", re.ASCII)
CRASH_ROW = re.compile(r"^[0-9a-f]{8,16} +(\S+) +[0-9a-f]{8,16} ", re.MULTILINE)
"""A line of crash's `mod`: address, name, where its text begins."""


@dataclass(frozen=True)
class Wish:
    tool: str | None
    commands: tuple[str, ...]
    force: bool
    prepare: bool


@dataclass(frozen=True)
class _Session:
    """Everything that a debugger is told."""

    vmcore: str
    vmlinux: str
    modules: tuple[str, ...] = ()
    force: bool = False


def debug(ctx: Context, match: str | None, wish: Wish) -> int:
    """The verb `debug`. Returns the exit code, that of the tool where it ran."""
    if any(not command.strip() for command in wish.commands):
        raise KdumpError("--command is empty")
    entry = catalogue.find(ctx, catalogue.settings(ctx), match)
    info = _identify(ctx, entry, force=wish.force)
    packages = open_packages(ctx)
    installed = read_debuggers(ctx, {tool: packages.version(tool) for tool in readers.TOOLS})
    choice = None if wish.prepare else readers.choose(info.release, installed, wish.tool, force=wish.force)
    session = _prepare(ctx, entry, info, installed, force=wish.force)
    if choice is None:
        ui.out(session.vmlinux)
        return 0
    _say(ctx, info.release, choice, installed[choice.tool], session)
    code = _start(ctx, choice.tool, session, wish.commands)
    if code and choice.tool == "crash":  # which may say nothing at all of a dump that was cut short
        ui.remark(f"crash ended with exit code {code}; is the dump whole? kdump-pkg verify {escaped(entry.id)}")
    return code


def _prepare(ctx: Context, entry: Entry, info: CoreInfo, installed: dict[str, str], *, force: bool) -> _Session:
    """The kernel and the modules; the modules only of the very kernel, and where a debugger can list them."""
    with ui.progress("looking for its kernel"):
        vmlinux, same = _vmlinux(ctx, info, force=force)
        session = _Session(str(ctx.path(entry.vmcore)), str(vmlinux), force=not same)
        tool = next((tool for tool in reversed(readers.TOOLS) if tool in installed), "")
        found = _modules(ctx, info.release, _loaded(ctx, tool, session)) if same and tool else {}
    return replace(session, modules=tuple(sorted(found.values())))


def _identify(ctx: Context, entry: Entry, *, force: bool) -> CoreInfo:
    """Which kernel the memory is of, as it says itself. Raises KdumpError for what no debugger could open."""
    name = escaped(entry.id)
    if not entry.vmcore:
        raise KdumpError(f"{name}: its memory was not saved", hint=f"kdump-pkg report {name}")
    if entry.vmcore.endswith(".age"):
        hint = f"kdump-pkg decrypt {name} --identity FILE, then debug"
        raise KdumpError(f"{name}: its memory is encrypted", hint=hint)
    if entry.state in ("being written", "incomplete") and not force:
        words = {"incomplete": "only the beginning of its memory was saved"}.get(entry.state, f"it is {entry.state}")
        raise KdumpError(f"{name}: {words}", hint="--force tries; the log is in kdump-pkg report")
    core = diskdump.read(ctx.path(entry.vmcore))
    if not force:
        _check(ctx.path(entry.vmcore))
        if entry.state == "damaged":
            raise KdumpError(f"{name}: it is damaged", hint=f"--force tries; kdump-pkg verify {name} says more")
    if core.incomplete or entry.state == "partial":
        ui.warn(f"{name}: not all of its memory was saved; what is missing can't be read")
    if not core.info.release:
        raise KdumpError(f"{escaped(entry.vmcore)}: doesn't say of which kernel it is, VMCOREINFO is missing")
    _compare(entry, core.info, force=force)
    return core.info


def _check(path: Path) -> None:
    """Whether all is there: crash ends without a word where it isn't."""
    try:
        with ui.progress("looking at the dump"):
            diskdump.examine(path)
    except BadDumpError as error:
        raise KdumpError(error.message, hint=error.hint or "--force tries") from None


def _compare(entry: Entry, info: CoreInfo, *, force: bool) -> None:
    """What was noted when it was saved against what is in the memory: a file may have been moved."""
    pairs = ((entry.release, info.release), (entry.build_id.lower(), info.build_id))
    for noted, own in pairs:
        if noted and own and noted != own:
            text = f"{escaped(entry.id)}: was saved of {escaped(noted)}, and the memory in it is of {own}"
            if not force:
                raise KdumpError(text, hint="look whose file that is; --force opens it as what it is")
            ui.warn(text)


def _vmlinux(ctx: Context, info: CoreInfo, *, force: bool) -> tuple[Path, bool]:
    """The kernel to open it with, and whether it is the one that crashed, which it is unless FORCE takes another."""
    try:
        path = making.ensure(ctx, info.release, info.build_id)
        if (found := elf.inspect_file(path).build_id) == info.build_id:
            return path, True
        refused = KdumpError(f"{path} is of build {found}, and the dump of {info.build_id}")
    except KdumpError as error:
        refused = error
    here = debugfiles.read_vmlinux(ctx, info.release)
    others = [file.build_id for file in sorted(here, key=lambda file: not file.dwarf) if file.build_id]
    if not others or info.build_id in others:
        raise refused
    if not force:
        raise KdumpError(refused.message, hint=f"{refused.hint or 'install that very kernel again'}, or --force")
    ui.warn(refused.message)
    return making.ensure(ctx, info.release, others[0]), False


def _loaded(ctx: Context, tool: str, session: _Session) -> dict[str, str]:
    """The modules in the dump, to their build IDs, empty where that isn't known; none where they can't be listed."""
    try:
        if tool == "drgn":
            done = ctx.runner(_drgn(session, listing=True), check=False, timeout=LISTING)
            rows = [(f"{line} ").split(" ")[:2] for line in done.text.splitlines()]
        else:
            done = ctx.runner(_crash(session), stdin=b"mod\nquit\n", check=False, timeout=LISTING)
            rows = [[name, ""] for name in CRASH_ROW.findall(done.text)]
    except KdumpError:
        return {}
    found = {name: build_id for name, build_id in rows[:MOST_MODULES] if NAME.fullmatch(name)}
    found.pop("kernel", None)
    return found


def _modules(ctx: Context, release: str, loaded: dict[str, str]) -> dict[str, str]:
    """Debug files by module: somebody's where there is one, else ours; none that is of another build."""
    found = {n: ctx.path(path) for n, path in debugfiles.read_modules(ctx, release, loaded).items()}
    found = {n: path for n, path in found.items() if _fits(path, loaded[n])}
    rest = [name for name in loaded if name not in found]
    made = making.ensure_modules(ctx, release, rest) if rest else {}
    found |= {n: path for n, path in made.items() if n in loaded and _fits(path, loaded[n])}
    if left := [name for name in rest if name not in found]:
        more = f" and {len(left) - 5} more" if left[5:] else ""
        ui.remark(f"without types: {', '.join(left[:5])}{more}; no file of that build is here, or it has no BTF")
    return {name: str(path) for name, path in found.items()}


def _fits(path: Path, build_id: str) -> bool:
    try:
        return elf.inspect_file(path).build_id == build_id or not build_id
    except KdumpError:
        return False


def _say(ctx: Context, release: str, choice: readers.Choice, version: str, session: _Session) -> None:
    """With what, why, and what can't be had."""
    if choice.reason.startswith(choice.tool):
        ui.warn(f"{choice.reason}; tried all the same")
    elif choice.reason:
        ui.remark(f"{choice.reason}: opened by {choice.tool} {version}".rstrip())
    for limit in making.limits(ctx, release) if debugfiles.is_made(session.vmlinux) else ():
        ui.remark(limit)
    if choice.tool == "crash" and session.modules:
        ui.remark("types of modules: after mod -S")


def _start(ctx: Context, tool: str, session: _Session, commands: tuple[str, ...]) -> int:
    """On the terminal, or with the commands alone, whose output is data."""
    if tool == "drgn":
        argv, typed = _drgn(session, commands), None
    else:
        argv, typed = _crash(session, quiet=bool(commands)), _lines(commands)
    if not commands:
        return _code(interact(argv))
    sys.stdout.flush()
    return _code(ctx.runner(argv, stdin=typed, check=False, capture=False, timeout=None).returncode)


def _lines(commands: tuple[str, ...]) -> bytes:
    return "".join(f"{command}\n" for command in (*commands, "quit")).encode("utf-8", "surrogateescape")


def _crash(session: _Session, *, quiet: bool = True) -> list[str]:
    argv = ["crash", *(["-s", "--no_scroll"] if quiet else []), session.vmlinux, session.vmcore]
    return [*argv, "--mod", _common(session.modules)] if session.modules else argv


def _common(files: tuple[str, ...]) -> str:
    """The directory to look for modules in: ours, or that of somebody's debug package, which has them all."""
    real = [file for file in files if not debugfiles.is_made(file)]
    if not real:
        return str(Path(files[0]).parent)
    return real[0].partition("/kernel/")[0] if paths.DEBUG_MODULES in real[0] else str(Path(real[0]).parent)


def _drgn(session: _Session, commands: tuple[str, ...] = (), *, listing: bool = False) -> list[str]:
    request = {
        "vmlinux": session.vmlinux, "modules": session.modules, "force": session.force, "commands": commands,
        "list": listing,
    }  # fmt: skip
    return ["drgn", "-q", "--no-default-symbols", "-c", session.vmcore, str(PROMPT), json.dumps(request)]


def _code(returncode: int) -> int:
    return returncode if returncode >= 0 else 128 - returncode
