"""What the capture kernel, its image and its load have to be, and what makes an image stale."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from kdump_pkg import paths, render
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Config, Facts, Flavour, GeneratorName, Kernel, OwnFile, Target
from kdump_pkg.plan import cmdline, hooks, level, modules
from kdump_pkg.plan.kernel import choose


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
    return _assemble(config, facts, _Choices(kernel, generator, flavour, names, order.files, chosen))


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


@dataclass(frozen=True)
class _Choices:
    """What was chosen; the rest of a capture follows from it."""

    kernel: Kernel
    generator: GeneratorName
    flavour: Flavour
    modules: tuple[str, ...]
    insmod: tuple[str, ...]
    level: level.Level


def _assemble(config: Config, facts: Facts, choices: _Choices) -> Capture:
    kernel, flavour = choices.kernel, choices.flavour
    image = f"{config.image_dir.rstrip('/')}/{paths.IMAGE_NAME}"
    derived = preset = None
    if choices.generator == "mkinitcpio":
        wanted = hooks.capture_hooks(facts.images, flavour), hooks.capture_modules(facts.images, flavour)
        derived = render.mkinitcpio_config(facts.images, *wanted, flavour)
        preset = render.preset(kernel.release, image)
    effective = facts.derived.data if user_owned(facts.derived) else derived
    mark = fingerprint(facts, kernel, choices.generator, _env(config, facts, choices, ""), effective or b"")
    return Capture(
        kernel=kernel,
        generator=choices.generator,
        flavour=flavour,
        image=image,
        modules=choices.modules,
        insmod=choices.insmod,
        target=facts.target,
        level=choices.level.value,
        level_reason=choices.level.reason,
        cmdline=cmdline.capture_cmdline(facts.boot.cmdline, flavour, config),
        fingerprint=mark,
        env=_env(config, facts, choices, mark),
        derived=derived,
        preset=preset,
    )


def _env(config: Config, facts: Facts, choices: _Choices, mark: str) -> bytes:
    return render.capture_env(
        config,
        facts.target,
        kernel=choices.kernel,
        flavour=choices.flavour,
        modules=choices.modules,
        insmod=choices.insmod if choices.flavour == "direct" else (),
        level=choices.level.value,
        fingerprint=mark,
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


def user_owned(file: OwnFile) -> bool:
    """Whether the user has edited it: it is theirs then."""
    return file.data is not None and not file.pristine


def target_text(target: Target) -> str:
    return f"{target.path} on {target.device} ({target.fstype})"
