"""What `status` says: each part, whether it is as it should be, why, and what to do about it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime

from kdump_pkg.model import (
    BuildImage,
    Capture,
    Config,
    CryptVolume,
    Facts,
    Finding,
    Load,
    OwnFile,
    Plan,
    SaveDebug,
    WriteFile,
)
from kdump_pkg.plan import targets
from kdump_pkg.plan.rebuild import load_obstacle

REBUILD = "kdump-pkg rebuild"


@dataclass(frozen=True)
class Status:
    armed: bool | None
    """None where it can't be known: another root, a chroot."""
    verdict: str
    findings: tuple[Finding, ...]

    @property
    def todo(self) -> bool:
        return any(f.state in ("todo", "bad") for f in self.findings)


def plan_status(config: Config, facts: Facts, plan: Plan) -> Status:
    """The findings in the order in which they depend on each other, and the verdict."""
    findings = [
        *_kernels(facts, plan.capture),
        *_targets(config, facts, plan.capture),
        *_files(facts, plan),
        *_image(facts, plan),
        *_level(plan.capture),
    ]
    findings += [*_debug(facts, plan), *_reservation(facts), *_loaded(facts, plan), *_units(facts), *_traces(facts)]
    explained = " ".join(f"{f.text}: {f.remedy}" for f in findings)
    general = [Finding("problem", "bad", w) for w in plan.warnings if w not in explained]
    said = " ".join(f.text for f in general)
    ordered = (*general, *(f for f in findings if f.state != "bad" or f.text not in said))
    armed = None if facts.boot.confined else bool(facts.boot.crash_loaded and _current(plan))
    return Status(armed, _verdict(armed, facts, plan, ordered), ordered)


def bad_config_status(problems: tuple[str, ...]) -> Status:
    findings = tuple(Finding("configuration", "bad", p, "correct it") for p in problems)
    return Status(None, "the configuration can't be used; what is armed stays armed", findings)


def _current(plan: Plan) -> bool:
    return plan.capture is not None and not any(isinstance(a, Load | BuildImage) for a in plan.actions)


def _verdict(armed: bool | None, facts: Facts, plan: Plan, findings: tuple[Finding, ...]) -> str:
    if armed and plan.capture:
        return f"armed: a crash now would be saved to {targets.text(plan.capture.targets[0])}"
    first = next((f for f in findings if f.state in ("bad", "todo")), None)
    following = f", next: {first.remedy or first.text}" if first else ""
    if armed is None:
        ready = "everything is ready to be loaded" if first is None else "not ready"
        return f"{ready} ({facts.boot.confined}, where nothing is ever loaded){following}"
    loaded = "a capture kernel is loaded, but not the one asked for" if facts.boot.crash_loaded else "not armed"
    return f"{loaded}{following}"


def _kernels(facts: Facts, capture: Capture | None) -> list[Finding]:
    findings = [
        Finding("kernel", "bad", k.problem, f"reinstall {k.pkgbase or 'it'}") for k in facts.kernels if k.problem
    ]
    if capture:
        kernel = capture.kernel
        name = f"{kernel.package or kernel.pkgbase or 'unpackaged'} {kernel.version or ''}".strip()
        findings.append(Finding("capture kernel", "ok", f"{kernel.release} ({name})"))
    return findings


def _targets(config: Config, facts: Facts, capture: Capture | None) -> list[Finding]:
    """Each target in the order in which they are tried, how an encrypted one is opened, and what can't be used."""
    if capture is None:
        return []
    found = []
    for number, target in enumerate(capture.targets):
        only = ", its log alone" if target.save == "dmesg" else ""
        name = "target" if number == 0 else f"target {number + 1}"
        source = f", {target.source}" if target.source else ""
        found.append(Finding(name, "ok", f"{targets.text(target)}{source}{only}"))
        found += [_key(config, facts, volume) for volume in target.crypt]
    return [*found, *(Finding("target", "bad", problem) for problem in capture.unusable)]


def _key(config: Config, facts: Facts, volume: CryptVolume) -> Finding:
    if targets.way(facts, volume) == "handed over":
        if facts.loaded and volume.uuid in facts.loaded.wanted.split() and volume.uuid not in facts.loaded.keys.split():
            text = f"the key of {volume.uuid} could not be handed to the capture kernel ({volume.key})"
            return Finding("encryption", "todo", text, f"{REBUILD} --force, which says why")
        return Finding("encryption", "ok", f"the key of {volume.uuid} is handed to the capture kernel ({volume.key})")
    cost = f"; Argon2 takes {volume.argon2_kib >> 10} MiB of the reservation then" if volume.argon2_kib else ""
    asked = f"the passphrase of {volume.uuid} would be asked for, {config.passphrase_timeout} s long{cost}"
    if not facts.boot.crash_dm_crypt and not facts.boot.confined:
        return Finding("encryption", "note", f"{asked}: this kernel has no CONFIG_CRASH_DM_CRYPT to hand its key over")
    return Finding("encryption", "note", f"{asked}{f': {volume.problem}' if volume.problem else ''}")


def _traces(facts: Facts) -> list[Finding]:
    """What captures left that could save nothing."""
    return [
        Finding("last crash", "note", f"a crash on {moment(trace.time)} could not be saved: {trace.text}")
        for trace in facts.traces[-1:]
    ]


def moment(seconds: int) -> str:
    """A time as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _files(facts: Facts, plan: Plan) -> list[Finding]:
    capture = plan.capture
    if capture is None:
        return []
    changed = {a.path: a.reason for a in plan.actions if isinstance(a, WriteFile)}
    pairs = (("configuration", facts.derived, capture.derived), ("preset", facts.preset, capture.preset))
    findings = [_file(name, have, want, changed) for name, have, want in pairs if want is not None]
    return findings


def _file(name: str, have: OwnFile, want: bytes, changed: dict[str, str]) -> Finding:
    if have.data is not None and not have.pristine:
        same = have.data == want
        diff = "" if same else "\n" + difference(have, want)
        return Finding(name, "note", f"{have.path} is user-owned{'' if same else ' and differs:'}{diff}")
    if have.path in changed:
        return Finding(name, "todo", f"{have.path}: {changed[have.path]}", REBUILD)
    return Finding(name, "ok", have.path)


def difference(have: OwnFile, want: bytes) -> str:
    """Unified diff from the user's file to the one that we would write."""
    old, new = ((d or b"").decode("utf-8", "replace").splitlines() for d in (have.data, want))
    return "\n".join(difflib.unified_diff(old, new, have.path, f"{have.path} (kdump-pkg's)", lineterm="", n=1))


def _image(facts: Facts, plan: Plan) -> list[Finding]:
    if plan.capture is None:
        return []
    build = next((a for a in plan.actions if isinstance(a, BuildImage)), None)
    if not facts.image.readable:
        return [Finding("image", "unknown", f"{facts.image.path}: only root can read it; run it as root")]
    if build:
        return [Finding("image", "todo", f"{build.path}: {build.reason}", REBUILD)]
    size = f"{facts.image.size / 1e6:.1f} MB"
    return [Finding("image", "ok", f"{facts.image.path}, {size}, {plan.capture.flavour} by {plan.capture.generator}")]


def _level(capture: Capture | None) -> list[Finding]:
    if capture is None:
        return []
    if capture.level_reason is None:
        return [Finding("dump level", "ok", str(capture.level))]
    return [Finding("dump level", "note", f"{capture.level}: {capture.level_reason}")]


def _debug(facts: Facts, plan: Plan) -> list[Finding]:
    saving = {a.release: a.reason for a in plan.actions if isinstance(a, SaveDebug)}
    findings = [Finding("debug kernel", "todo", reason, REBUILD) for reason in saving.values()]
    for kept in facts.debug:
        if kept.release not in saving:
            owner = kept.abilities if kept.recorded else "not ours"
            findings.append(Finding("debug kernel", "ok", f"{kept.release}: {owner}"))
    return findings


def _reservation(facts: Facts) -> list[Finding]:
    boot = facts.boot
    if boot.confined:
        return []
    obstacle = load_obstacle(facts)
    if boot.crash_size:
        return [Finding("reservation", "ok", f"{boot.crash_size >> 20} MiB")] + (
            [Finding("loading", "bad" if not boot.crash_loaded else "note", obstacle)] if obstacle else []
        )
    text, _, remedy = (obstacle or "").partition(": ")
    return [Finding("reservation", "bad", text if remedy else obstacle or "unknown", remedy or None)]


def _loaded(facts: Facts, plan: Plan) -> list[Finding]:
    if facts.boot.confined:
        return [Finding("load", "unknown", f"{facts.boot.confined}: nothing is ever loaded from here")]
    load = next((a for a in plan.actions if isinstance(a, Load)), None)
    if load:
        return [Finding("load", "todo", load.reason, REBUILD)]
    if facts.boot.crash_loaded and facts.loaded:
        call = {"-s": "kexec_file_load", "-c": "kexec_load"}.get(facts.loaded.method, facts.loaded.method)
        return [Finding("load", "ok", f"{facts.loaded.release}, by {call}")]
    return [] if facts.boot.crash_size == 0 else [Finding("load", "bad", "nothing is loaded")]


def _units(facts: Facts) -> list[Finding]:
    off = [u for u, enabled in facts.units.items() if enabled is False]
    on = [u for u, enabled in facts.units.items() if enabled]
    return [
        *(Finding(u, "ok", "enabled") for u in on),
        *(Finding(u, "todo", "not enabled", "systemctl enable --now kdump.service") for u in off),
    ]
