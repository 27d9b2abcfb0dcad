"""The plan of `rebuild`, of both hooks and of kdump.service: what has to change so that this machine is armed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdump_pkg import paths, render
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Action,
    Boot,
    BuildImage,
    Capture,
    Config,
    Facts,
    Load,
    MakeRecord,
    OwnFile,
    Plan,
    Remove,
    WriteFile,
)
from kdump_pkg.plan import cmdline, targets, variant
from kdump_pkg.plan.capture import design_capture, user_owned
from kdump_pkg.plan.debug import plan_debug
from kdump_pkg.plan.kernel import mending


@dataclass(frozen=True)
class Scope:
    """How much of the plan is wanted."""

    images: bool = True
    """False: configuration and preset only, for the hook that runs before mkinitcpio's own."""
    load: bool = True
    force: bool = False


def plan_rebuild(config: Config, facts: Facts, scope: Scope = Scope()) -> Plan:
    """Compare what is with what the configuration asks for. Never raises: what can't be is a warning."""
    try:
        capture = design_capture(config, facts)
    except KdumpError as error:
        rest = _without_capture(config, facts, scope)
        return replace(rest, warnings=(_line(error), *rest.warnings), fatal=True)
    actions: list[Action] = [*_files(capture, facts), *_cache(facts)]
    warnings: list[str] = []
    if scope.images:
        actions += _image(capture, facts, scope)
        load, problems = _load(capture, facts, scope)
        debug, more = plan_debug(config, facts)
        actions += [*load, *debug, *(Remove(path, "left by an interrupted run") for path in facts.leftovers)]
        actions += variant.queue(config, facts)
        warnings += [*variant.warnings(config, facts, capture.kernel), *capture.unusable, *_argon2(capture, facts)]
        broken = [f"{k.problem}: {mending(k)}" for k in facts.kernels if k.problem]
        warnings += [*problems, *broken, *more]
    first = (MakeRecord("not there yet"),) if scope.images and facts.record_missing else ()
    return Plan(tuple(actions), tuple(warnings), capture, prepare=first)


def plan_load(config: Config, facts: Facts) -> Plan:
    """The load alone. Raises KdumpError when it can't be done or the image isn't current."""
    if facts.boot.confined:
        raise KdumpError(f"{facts.boot.confined}: it would become the host's capture kernel", hint="run it on the host")
    capture = design_capture(config, facts)
    if _image(capture, facts, Scope()):
        raise KdumpError(f"{capture.image} is missing or stale", hint="kdump-pkg rebuild")
    obstacle = load_obstacle(facts)
    if obstacle:
        raise KdumpError(obstacle)
    actions, problems = _load(capture, facts, Scope())
    return Plan(tuple(actions), tuple(problems), capture, fatal=bool(problems))


def _files(capture: Capture, facts: Facts) -> list[Action]:
    """The generated files that differ; what the user has edited is theirs."""
    actions: list[Action] = []
    if facts.capture_env != capture.env:
        reason = _why(facts.capture_env, "the capture settings")
        actions.append(WriteFile(paths.CAPTURE_ENV, capture.env, 0o600, reason))
    for have, want in ((facts.derived, capture.derived), (facts.preset, capture.preset)):
        if want is None:
            actions += _take_away(have, f"{capture.generator} makes the image now")
        elif have.data != want and not user_owned(have):
            actions.append(WriteFile(have.path, want, 0o644, _why(have.data, "its content")))
    return actions


def _why(old: bytes | None, what: str) -> str:
    return "not there yet" if old is None else f"{what} changed"


def _take_away(file: OwnFile, reason: str) -> list[Action]:
    return [Remove(file.path, reason)] if file.data is not None and file.pristine else []


def _cache(facts: Facts) -> list[Action]:
    want = render.kernel_cache(facts.kernels)
    return [] if facts.kernel_cache == want else [WriteFile(paths.KERNEL_CACHE, want, 0o644, "the kernels changed")]


def _image(capture: Capture, facts: Facts, scope: Scope) -> list[Action]:
    if not facts.image.readable:
        return []
    if not facts.image.exists:
        reason = "not there yet"
    elif scope.force:
        reason = "asked for by --force"
    elif facts.image.fingerprint is None:
        reason = "it doesn't say what it was built from"
    elif facts.image.fingerprint != capture.fingerprint:
        reason = "something it is built from changed"
    else:
        return []
    release = capture.kernel.release
    args = (capture.image, capture.generator, release, capture.fingerprint, capture.flavour)
    return [BuildImage(*args, reason, capture.system)]


def _load(capture: Capture, facts: Facts, scope: Scope) -> tuple[list[Action], list[str]]:
    boot = facts.boot
    if not scope.load or boot.confined:
        return [], []
    obstacle = load_obstacle(facts)
    if obstacle:
        return [], [obstacle]
    loaded = facts.loaded
    current = (
        boot.crash_loaded
        and loaded is not None
        and (loaded.release, loaded.fingerprint, loaded.cmdline)
        == (capture.kernel.release, capture.fingerprint, capture.cmdline)
        and loaded.wanted == _key_names(capture)
    )
    if current and not scope.force:
        return [], []
    if len(capture.cmdline) > cmdline.LONGEST:
        text = f"the capture command line has {len(capture.cmdline)} characters, {cmdline.LONGEST} fit"
        return [], [f"{text}; shorten it with cmdline_remove ="]
    reason = "asked for by --force" if current else _load_reason(capture, facts)
    kernel = capture.kernel
    methods = load_methods(boot)
    args = (kernel.vmlinuz or "", capture.image, capture.cmdline, kernel.release, capture.fingerprint)
    return [Load(*args, methods, reason, capture.keys)], []


def load_methods(boot: Boot) -> tuple[str, ...]:
    """Options of kexec(8) in the order to try: kexec_file_load, then the older call where lockdown allows it."""
    return ("-s",) if boot.lockdown in ("integrity", "confidentiality") else ("-s", "-c")


def load_obstacle(facts: Facts) -> str | None:
    """Why no kernel can be loaded in this boot, with the remedy."""
    boot = facts.boot
    if boot.crash_size is None:
        return "this kernel can't be told to capture: CONFIG_CRASH_DUMP is off, or sysfs isn't mounted"
    if boot.crash_size == 0:
        if "crashkernel=" in (boot.cmdline or ""):
            return "crashkernel= is on the command line but reserved nothing; ask for less memory and reboot"
        return "no memory is reserved: run kdump-pkg setup, and reboot"
    if boot.load_disabled and not boot.crash_loaded:
        return "kernel.kexec_load_disabled is 1 until the next reboot; take it out of /etc/sysctl.d and reboot"
    if boot.load_disabled:
        return "kernel.kexec_load_disabled is 1: what is loaded stays until the next reboot"
    return None


def _load_reason(capture: Capture, facts: Facts) -> str:
    if not facts.boot.crash_loaded:
        return "nothing is loaded"
    if facts.loaded is None:
        return "what is loaded isn't ours"
    if facts.loaded.fingerprint == capture.fingerprint and facts.loaded.wanted != _key_names(capture):
        return "other volumes' keys can be handed over now"
    return "what is loaded is of another state"


def _key_names(capture: Capture) -> str:
    return " ".join(volume.uuid for volume in capture.keys)


def _argon2(capture: Capture, facts: Facts) -> list[str]:
    """What a passphrase costs, said before it is needed: Argon2 takes its memory from the reservation."""
    argon2 = targets.argon2_kib(facts, capture.targets) >> 10
    size = (facts.boot.crash_size or 0) >> 20
    if not argon2 or not size:
        return []
    from kdump_pkg import crashkernel  # hooks have to be fast, and most need no sum
    from kdump_pkg.plan.estimate import estimate

    need = estimate(facts, capture, None)
    if size >= need.need_mib:
        return []
    return [
        f"a passphrase can't be checked in a reservation of {size} MiB, Argon2 alone takes {argon2} MiB; "
        f"{crashkernel.text(need.values)}, or a target that isn't encrypted, or a key that can be handed over"
    ]


def _without_capture(config: Config, facts: Facts, scope: Scope) -> Plan:
    """No capture can be designed: keep what is armed, but leave no preset that makes `mkinitcpio -P` fail."""
    actions: list[Action] = []
    releases = {k.release for k in facts.kernels if k.vmlinuz}
    text = (facts.preset.data or b"").decode("utf-8", "replace")
    if not any(f'"{release}"' in text for release in releases):
        actions += _take_away(facts.preset, "the kernel it names is gone")
    warnings: list[str] = []
    if scope.images:
        debug, warnings = plan_debug(config, facts)
        actions += debug
    return Plan(tuple(actions), tuple(warnings))


def _line(error: KdumpError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
