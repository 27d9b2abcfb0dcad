"""What the capture kernel, its image and its load have to be, and what makes an image stale."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from kdump_pkg import paths, render
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Boot, Capture, Config, Facts, Flavour, GeneratorName, Kernel, OwnFile, Target
from kdump_pkg.plan import cmdline, hooks, level, modules, targets, tools
from kdump_pkg.plan.kernel import choose


def design_capture(config: Config, facts: Facts) -> Capture:
    """What the capture kernel, its image and its load have to be. Raises KdumpError when they can't."""
    kernel = choose(config, facts.kernels, facts.boot.running)
    generator = facts.images.generator
    if generator is None or facts.images.problem:
        raise KdumpError(facts.images.problem or "no initramfs generator is installed")
    chosen = targets.choose(config, facts)
    if not chosen.targets:
        raise KdumpError("; ".join(chosen.problems) or "no target is configured")
    if facts.tools.get("makedumpfile") is None:
        raise KdumpError("makedumpfile is not installed", hint="pacman -S makedumpfile")
    if config.encrypt_to and "age" not in facts.programs:
        raise KdumpError("age is not installed, encrypt_to = needs it", hint="pacman -S age")
    if generator == "mkinitcpio":
        _check_texts(facts)
    return _assemble(config, facts, _parts(config, facts, kernel, chosen.targets), chosen)


def _parts(config: Config, facts: Facts, kernel: Kernel, wanted: tuple[Target, ...]) -> render.Parts:
    """What goes into the image; raises KdumpError for a module that the kernel doesn't have."""
    flavour = choose_flavour(config, facts, wanted)
    names = modules.wanted(config, wanted, _last_resorts(facts.boot))
    order = modules.insmod_order(facts.modules, names)
    if order.missing:
        raise KdumpError(
            f"kernel {kernel.release} has no module {', '.join(order.missing)}", hint="see drivers = and modules ="
        )
    makedumpfile = facts.tools.get("makedumpfile")
    releases = (*(k.release for k in facts.kernels if k.usable), facts.boot.running or "")
    return render.Parts(
        kernel=kernel,
        flavour=flavour,
        modules=names,
        insmod=order.files,
        applets=tools.applets(flavour),
        binaries=tools.binaries(config, wanted),
        hooks=tuple(name for name, _ in facts.hooks),
        level=level.choose(config.dump_level, releases, makedumpfile),
        makedumpfile=makedumpfile or "",
        watchdog=facts.boot.watchdog,
        record=facts.record,
    )


def _last_resorts(boot: Boot) -> tuple[str, ...]:
    """Modules for what is not storage: the variable that a failed capture leaves, the watchdog that must be fed."""
    found = ["efivarfs?"] if boot.efi else []
    return (*found, f"{boot.watchdog.driver}?") if boot.watchdog and boot.watchdog.driver else tuple(found)


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


def _assemble(config: Config, facts: Facts, parts: render.Parts, chosen: targets.Choice) -> Capture:
    wanted = chosen.targets
    generator = facts.images.generator
    assert generator is not None
    image = f"{config.image_dir.rstrip('/')}/{paths.IMAGE_NAME}"
    derived = preset = None
    if generator == "mkinitcpio":
        system = config.capture == "system"
        names = hooks.capture_hooks(facts.images, parts.flavour, system=system)
        more = hooks.capture_modules(facts.images, parts.flavour)
        derived = render.mkinitcpio_config(facts.images, names, more, parts.flavour)
        preset = render.preset(parts.kernel.release, image)
    effective = facts.derived.data if user_owned(facts.derived) else derived
    in_image = parts if parts.flavour == "direct" else replace(parts, insmod=())
    unsigned = render.capture_env(config, wanted, in_image, "")
    mark = fingerprint(facts, in_image, generator, unsigned, effective or b"")
    return Capture(
        kernel=parts.kernel,
        generator=generator,
        flavour=parts.flavour,
        image=image,
        modules=parts.modules,
        insmod=parts.insmod,
        targets=wanted,
        unusable=chosen.problems,
        keys=targets.keys(facts, wanted),
        level=parts.level.value,
        level_reason=parts.level.reason,
        cmdline=cmdline.capture_cmdline(facts.boot.cmdline, parts.flavour, config),
        fingerprint=mark,
        env=render.capture_env(config, wanted, in_image, mark),
        derived=derived,
        preset=preset,
        system=config.capture == "system",
    )


def fingerprint(facts: Facts, parts: render.Parts, generator: GeneratorName, env: bytes, derived: bytes) -> str:
    """Digest of all that goes into the image; an image with another one is stale."""
    kernel = parts.kernel
    busybox = facts.tools.get("mkinitcpio-busybox") or facts.tools.get("busybox")
    versions = [facts.tools.get("makedumpfile"), facts.tools.get("kexec-tools"), facts.tools.get(generator), busybox]
    stamps = [facts.programs.get(name) for name in parts.binaries]
    scripts = [word for hook in facts.hooks for word in hook]
    digest = hashlib.sha256()
    for part in (
        kernel.release, kernel.build_id, kernel.stamp, generator, facts.parts_hash, *versions, *stamps, *scripts,
    ):  # fmt: skip
        digest.update(f"{part}\0".encode())
    for data in (env, derived):
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()


def choose_flavour(config: Config, facts: Facts, wanted: tuple[Target, ...]) -> Flavour:
    """The lightest flavour that reaches the targets."""
    own: Flavour = facts.images.flavour or ("systemd" if facts.images.generator == "dracut" else "udev")
    if config.capture == "system":
        return "systemd" if config.flavour == "systemd" else own
    others = sorted({layer.kind for target in wanted for layer in target.layers} - tools.BY_LAYER.keys())
    if config.flavour == "direct" and others:
        raise KdumpError(f"flavour = direct can't open {' and '.join(others)}", hint="use flavour = auto")
    chosen: dict[str, Flavour] = {"direct": "direct", "udev": "udev", "systemd": "systemd"}
    return chosen.get(config.flavour) or (own if others else "direct")


def user_owned(file: OwnFile) -> bool:
    """Whether the user has edited it: it is theirs then."""
    return file.data is not None and not file.pristine
