"""The plan of `rebuild`, of both hooks and of kdump.service: what has to change so that this machine is armed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from kdump_pkg import paths, render
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Action,
    BuildImage,
    Capture,
    Config,
    Facts,
    Flavour,
    GeneratorName,
    Kernel,
    Load,
    OwnFile,
    Plan,
    Remove,
    Target,
    WriteFile,
)
from kdump_pkg.plan import cmdline, hooks, level, modules
from kdump_pkg.plan.debug import plan_debug
from kdump_pkg.plan.kernel import choose


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
        broken = [f"{k.problem}: reinstall {k.pkgbase or 'it'}" for k in facts.kernels if k.problem]
        warnings += [*problems, *broken, *more]
    return Plan(tuple(actions), tuple(warnings), capture)


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


def design_capture(config: Config, facts: Facts) -> Capture:
    """What the capture kernel, its image and its load have to be. Raises KdumpError when they can't."""
    kernel = choose(config, facts.kernels, facts.boot.running)
    generator = facts.images.generator
    if generator is None or facts.images.problem:
        raise KdumpError(facts.images.problem or "no initramfs generator is installed")
    if facts.target.problem:
        raise KdumpError(facts.target.problem)
    if "crypt" in facts.target.layers:
        raise KdumpError(
            f"{facts.target.path} is encrypted, and nobody types a passphrase after a crash",
            hint="set path = to a directory on a file system that isn't encrypted",
        )
    if facts.tools.get("makedumpfile") is None:
        raise KdumpError("makedumpfile is not installed", hint="pacman -S makedumpfile")
    if generator == "mkinitcpio":
        _check_texts(facts)
    flavour = choose_flavour(config, facts)
    names = modules.wanted(config, facts.target)
    order = modules.insmod_order(facts.modules, names)
    if order.missing:
        raise KdumpError(
            f"kernel {kernel.release} has no module {', '.join(order.missing)}", hint="see drivers = and modules ="
        )
    releases = (*(k.release for k in facts.kernels if k.usable), facts.boot.running or "")
    chosen = level.choose(config.dump_level, releases, facts.tools.get("makedumpfile"))
    return _assemble(config, facts, kernel, generator, flavour, names, order.files, chosen)


# Without these neither `mkinitcpio -P` nor we can make an image from a user's own file.
NEEDED: dict[str, str] = {r"^\s*PRESETS=": "PRESETS", r"^\s*\w+_kver=": "kver", r"^\s*\w+_(image|uki)=": "image"}
NEEDED_DERIVED: dict[str, str] = {r"^[^#\n]*\bkdump\b": "hook kdump"}


def _check_texts(facts: Facts) -> None:
    """Refuse what can be no edit of a user's but damage: the last good image must not be built over from it."""
    for file, needed in ((facts.derived, NEEDED_DERIVED), (facts.preset, NEEDED)):
        why = file.problem or _damage(file, needed)
        if why:
            raise KdumpError(f"{file.path}: {why}", hint="mend it, or remove it and run kdump-pkg rebuild")


def _damage(file: OwnFile, needed: dict[str, str]) -> str | None:
    if file.data is None or file.pristine:
        return None
    try:
        text = file.data.decode()
    except UnicodeDecodeError:
        return "not a text file"
    if "\0" in text:
        return "not a text file"
    lacking = [name for pattern, name in needed.items() if not re.search(pattern, text, re.MULTILINE)]
    return f"it has no {' and no '.join(lacking)}" if lacking else None


def _assemble(
    config: Config,
    facts: Facts,
    kernel: Kernel,
    generator: GeneratorName,
    flavour: Flavour,
    names: tuple[str, ...],
    insmod: tuple[str, ...],
    chosen: level.Level,
) -> Capture:
    derived = None
    if generator == "mkinitcpio":
        wanted_hooks = hooks.capture_hooks(facts.images, flavour)
        derived = render.mkinitcpio_config(
            facts.images, wanted_hooks, hooks.capture_modules(facts.images, flavour), flavour
        )
    image = f"{config.image_dir.rstrip('/')}/{paths.IMAGE_NAME}"

    def env(fingerprint: str) -> bytes:
        return render.capture_env(
            config, facts.target, kernel=kernel, flavour=flavour, modules=names,
            insmod=insmod if flavour == "direct" else (), level=chosen.value, fingerprint=fingerprint,
        )  # fmt: skip

    effective = facts.derived.data if _user_owned(facts.derived) else derived
    mark = fingerprint(facts, kernel, generator, env(""), effective or b"")
    return Capture(
        kernel=kernel,
        generator=generator,
        flavour=flavour,
        image=image,
        modules=names,
        insmod=insmod,
        target=facts.target,
        level=chosen.value,
        level_reason=chosen.reason,
        compress=render.COMPRESS[config.compression],
        cmdline=cmdline.capture_cmdline(facts.boot.cmdline, flavour, config),
        fingerprint=mark,
        env=env(mark),
        derived=derived,
        preset=render.preset(kernel.release, image) if generator == "mkinitcpio" else None,
    )


def fingerprint(facts: Facts, kernel: Kernel, generator: GeneratorName, env: bytes, derived: bytes) -> str:
    """Digest of all that goes into the image; an image with another one is stale."""
    busybox = facts.tools.get("mkinitcpio-busybox") or facts.tools.get("busybox")
    versions = [facts.tools.get("makedumpfile"), facts.tools.get("kexec-tools"), facts.tools.get(generator), busybox]
    digest = hashlib.sha256()
    for part in (kernel.release, kernel.build_id, kernel.stamp, generator, facts.parts_hash, *versions):
        digest.update(f"{part}\0".encode())
    for data in (env, derived):
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def choose_flavour(config: Config, facts: Facts) -> Flavour:
    """The lightest flavour that reaches the target."""
    if config.flavour == "direct":
        if facts.target.layers:
            raise KdumpError(
                f"flavour = direct can't open {' and '.join(facts.target.layers)} below {facts.target.path}",
                hint="use flavour = auto",
            )
        return "direct"
    if config.flavour == "udev":
        return "udev"
    if config.flavour == "systemd":
        return "systemd"
    if not facts.target.layers:
        return "direct"
    return facts.images.flavour or ("systemd" if facts.images.generator == "dracut" else "udev")


def _files(capture: Capture, facts: Facts) -> list[Action]:
    """The generated files that differ; what the user has edited is theirs."""
    actions: list[Action] = []
    if facts.capture_env != capture.env:
        reason = _why(facts.capture_env, "the capture settings")
        actions.append(WriteFile(paths.CAPTURE_ENV, capture.env, 0o600, reason))
    for have, want in ((facts.derived, capture.derived), (facts.preset, capture.preset)):
        if want is None:
            actions += _take_away(have, f"{capture.generator} makes the image now")
        elif have.data != want and not _user_owned(have):
            actions.append(WriteFile(have.path, want, 0o644, _why(have.data, "its content")))
    return actions


def _why(old: bytes | None, what: str) -> str:
    return "not there yet" if old is None else f"{what} changed"


def _user_owned(file: OwnFile) -> bool:
    return file.data is not None and not file.pristine


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
    return [BuildImage(capture.image, capture.generator, release, capture.fingerprint, capture.flavour, reason)]


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
    )
    if current and not scope.force:
        return [], []
    if len(capture.cmdline) > cmdline.LONGEST:
        text = f"the capture command line has {len(capture.cmdline)} characters, {cmdline.LONGEST} fit"
        return [], [f"{text}; shorten it with cmdline_remove ="]
    reason = "asked for by --force" if current else _load_reason(facts)
    kernel = capture.kernel
    methods = ("-s",) if boot.lockdown in ("integrity", "confidentiality") else ("-s", "-c")
    args = (kernel.vmlinuz or "", capture.image, capture.cmdline, kernel.release, capture.fingerprint)
    return [Load(*args, methods, reason)], []


def load_obstacle(facts: Facts) -> str | None:
    """Why no kernel can be loaded in this boot, with the remedy."""
    boot = facts.boot
    if boot.crash_size is None:
        return "this kernel can't be told to capture: CONFIG_CRASH_DUMP is off, or sysfs isn't mounted"
    if boot.crash_size == 0:
        if "crashkernel=" in (boot.cmdline or ""):
            return "crashkernel= is on the command line but reserved nothing; ask for less memory and reboot"
        return "no memory is reserved: add crashkernel=256M to the kernel command line and reboot"
    if boot.load_disabled and not boot.crash_loaded:
        return "kernel.kexec_load_disabled is 1 until the next reboot; take it out of /etc/sysctl.d and reboot"
    if boot.load_disabled:
        return "kernel.kexec_load_disabled is 1: what is loaded stays until the next reboot"
    return None


def _load_reason(facts: Facts) -> str:
    if not facts.boot.crash_loaded:
        return "nothing is loaded"
    return "what is loaded is of another state" if facts.loaded else "what is loaded isn't ours"


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


def target_text(target: Target) -> str:
    return f"{target.path} on {target.device} ({target.fstype})"
