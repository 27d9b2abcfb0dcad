"""The capture: its kernel, the files that are generated for it, its image, and what its dumps are worth."""

from __future__ import annotations

from kdump_pkg.model import BuildImage, Finding, OwnFile, SaveDebug, WriteFile
from kdump_pkg.model.setup import Change
from kdump_pkg.plan import diff, level
from kdump_pkg.plan.checks import REBUILD, Case
from kdump_pkg.plan.kernel import mending


def kernels(case: Case) -> list[Finding]:
    """The one that captures, and those that can do nothing."""
    broken = (k for k in case.facts.kernels if k.problem)
    found = [Finding("kernel", "bad", k.problem or "", mending(k)) for k in broken]
    if case.capture:
        kernel = case.capture.kernel
        name = f"{kernel.package or kernel.pkgbase or 'unpackaged'} {kernel.version or ''}".strip()
        found.append(Finding("capture kernel", "ok", f"{kernel.release} ({name})", evidence=kernel.vmlinuz or ""))
    return found


def check(case: Case) -> list[Finding]:
    return [*_files(case), *_image(case), *_level(case), *_debug(case)]


def _files(case: Case) -> list[Finding]:
    capture, facts = case.capture, case.facts
    if capture is None:
        return []
    changed = {a.path: a.reason for a in case.plan.actions if isinstance(a, WriteFile)}
    pairs = (("configuration", facts.derived, capture.derived), ("preset", facts.preset, capture.preset))
    return [_file(name, have, want, changed) for name, have, want in pairs if want is not None]


def _file(name: str, have: OwnFile, want: bytes, changed: dict[str, str]) -> Finding:
    if have.data is not None and not have.pristine:
        same = have.data == want
        differs = "" if same else f" and differs:\n{difference(have, want)}"
        return Finding(name, "note", f"{have.path} is user-owned{differs}")
    if have.path in changed:
        return Finding(name, "todo", f"{have.path}: {changed[have.path]}", REBUILD)
    return Finding(name, "ok", have.path)


def difference(have: OwnFile, want: bytes) -> str:
    """Unified diff from the user's file to the one that we would write."""
    return diff.unified(Change(have.path, have.data, want), after=f"{have.path} (kdump-pkg's)", context=1)


def _image(case: Case) -> list[Finding]:
    capture, image = case.capture, case.facts.image
    if capture is None:
        return []
    build = next((a for a in case.plan.actions if isinstance(a, BuildImage)), None)
    if not image.readable:
        return [Finding("image", "unknown", f"{image.path}: only root can read it", "run it as root")]
    if build:
        return [Finding("image", "todo", f"{build.path}: {build.reason}", REBUILD)]
    size = f"{image.size / 1e6:.1f} MB"
    return [Finding("image", "ok", f"{image.path}, {size}, {capture.flavour} by {capture.generator}")]


def _level(case: Case) -> list[Finding]:
    capture = case.capture
    if capture is None:
        return []
    reason = capture.level_reason
    text = str(capture.level) if reason is None else f"{capture.level}: {reason}"
    found = [Finding("dump level", "ok" if reason is None else "note", text)]
    tool = case.facts.tools.get("makedumpfile")
    newer = level.beyond(case.facts.boot.running or capture.kernel.release, tool)
    if newer and "damages" not in (reason or ""):
        remedy = "pacman -Syu, and a rehearsal to be sure"
        found.append(Finding("dump level", "note", newer, remedy, f"makedumpfile {tool}"))
    return found


def _debug(case: Case) -> list[Finding]:
    saving = {a.release: a.reason for a in case.plan.actions if isinstance(a, SaveDebug)}
    found = [Finding("debug kernel", "todo", reason, REBUILD) for reason in saving.values()]
    for kept in case.facts.debug:
        if kept.release not in saving:
            owner = kept.abilities if kept.recorded else "not ours"
            found.append(Finding("debug kernel", "ok", f"{kept.release}: {owner}", evidence=kept.path))
    return found
