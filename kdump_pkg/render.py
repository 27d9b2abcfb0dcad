"""The texts we generate, pure: same input, same bytes. Each says in its header what it is and whence."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

from kdump_pkg import cpio, paths
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Flavour, Kernel, Level, SystemImages, Target, TraceRecord, Watchdog
from kdump_pkg.options import BY_NAME, OPTIONS, TARGET_OPTIONS, UPLOAD, UPLOAD_OPTIONS, VARIANT, VARIANT_OPTIONS, Option

COMPRESS = {"zstd": "-z", "zlib": "-c", "lzo": "-l", "snappy": "-p", "none": ""}
KERNEL_FACTS = ("stamp", "build_id", "problem", "init_size")
SAFE = re.compile(r"[^\x00-\x1f\x7f'\\]*")


def own_file(header: str, body: str) -> bytes:
    """A text file that stays ours until it is edited: its checksum stands in the header."""
    rest = f"{header}{body}"
    line = f"# checksum: {hashlib.sha256(rest.encode()).hexdigest()}\n"
    return f"{header}{line}{body}".encode()


def _header(name: str, what: str, source: str) -> str:
    return (
        f"# {name}: {what}\n"
        f"# Made by kdump-pkg{source}.\n"
        "# Edit it and it is yours: kdump-pkg then leaves it alone, and `kdump-pkg status` shows what it would write.\n"
        "# Remove it and `kdump-pkg rebuild` makes it anew.\n"
    )


def mkinitcpio_config(
    images: SystemImages, hooks: tuple[str, ...], modules: tuple[str, ...], flavour: Flavour
) -> bytes:
    """/etc/mkinitcpio-kdump.conf; see mkinitcpio.conf(5)."""
    keep = flavour != "direct"
    left = [hook for hook in images.hooks if hook not in hooks]
    source = f" from {', '.join(images.sources)}" if images.sources else ""
    body = (
        f"# flavour: {flavour}; the hooks of the system: {' '.join(images.hooks)}\n"
        f"# left out, because a capture doesn't need them: {' '.join(left) or 'none'}\n"
        f"MODULES=({_words(modules)})\n"
        f"BINARIES=({_words(images.binaries if keep else ())})\n"
        f"FILES=({_words(images.files if keep else ())})\n"
        f"HOOKS=({_words(hooks)})\n"
        "# gzip needs the least memory to unpack; what counts is the reservation, not the file.\n"
        'COMPRESSION="gzip"\n'
        'COMPRESSION_OPTIONS=("-9")\n'
        "# Packed modules would need a tool to unpack them, and can't be packed any further.\n"
        'MODULES_DECOMPRESS="yes"\n'
    )
    return own_file(_header(paths.DERIVED_CONFIG, "the mkinitcpio configuration of the capture image", source), body)


def preset(release: str, image: str) -> bytes:
    """The preset, so that `mkinitcpio -P` makes the capture image too.

    Its name is no package base and its kver no path: with either, mkinitcpio's pacman hook would copy or delete
    kernels in /boot (arch-facts, section 2).
    """
    body = (
        "PRESETS=('kdump')\n"
        f'kdump_kver="{_in_quotes(release)}"\n'
        f'kdump_config="{paths.DERIVED_CONFIG}"\n'
        f'kdump_image="{_in_quotes(image)}"\n'
    )
    return own_file(_header(paths.PRESET, "mkinitcpio preset of the capture image", ""), body)


@dataclass(frozen=True)
class Parts:
    """What an image is to hold besides its targets."""

    kernel: Kernel
    flavour: Flavour
    modules: tuple[str, ...]
    insmod: tuple[str, ...]
    applets: tuple[str, ...]
    binaries: tuple[str, ...]
    hooks: tuple[str, ...]
    level: Level
    makedumpfile: str = ""
    """Its package's version, for `meta`: some damage the dumps of some kernels."""
    watchdog: Watchdog | None = None
    record: TraceRecord | None = None


def capture_env(config: Config, targets: tuple[Target, ...], parts: Parts, fingerprint: str) -> bytes:
    """The flat file that the shell sources at crash time; nothing is parsed there."""
    record = parts.record
    values = {
        "FORMAT": "2",
        "FINGERPRINT": fingerprint,
        "RELEASE": parts.kernel.release,
        "FLAVOUR": parts.flavour,
        "CAPTURE": config.capture,
        "MODULES": " ".join(parts.modules),
        "INSMOD": " ".join(parts.insmod),
        "APPLETS": " ".join(parts.applets),
        "BINARIES": " ".join(parts.binaries),
        "HOOKS": " ".join(parts.hooks),
        "TARGETS": str(len(targets)),
        **{k: v for number, target in enumerate(targets, 1) for k, v in _target(config, number, target).items()},
        "TIMEOUT": str(config.timeout),
        "STEP_TIMEOUT": str(config.step_timeout),
        "PASSPHRASE_TIMEOUT": str(config.passphrase_timeout),
        "CRASH_LOOP": str(config.crash_loop),
        "LEVEL": str(parts.level.value),
        "COMPRESS": COMPRESS[config.compression],
        "MAKEDUMPFILE": parts.makedumpfile,
        "ENCRYPT_TO": " ".join(config.encrypt_to),
        "WATCHDOG": parts.watchdog.device if parts.watchdog else "",
        "TRACE_RECORD": f"{record.device} {record.offset} {record.mark}" if record else "",
        "FINAL_ACTION": config.final_action,
        "FAILURE_ACTION": config.failure_action,
    }
    return "".join(f"KDUMP_{key}='{_checked(value)}'\n" for key, value in values.items()).encode()


def _target(config: Config, number: int, target: Target) -> dict[str, str]:
    rules = target.retention
    values = {
        "NAME": target.name,
        "DEVICE": target.device,
        "FSTYPE": target.fstype,
        "OPTIONS": target.options,
        "PATH": target.path,
        "LAYERS": " ".join(f"{layer.kind}:{layer.name}" for layer in target.layers),
        "DEVICES": str(target.devices),
        "MOUNTED": target.mounted if config.capture == "system" else "",
        "SAVE": target.save,
        "DEVICE_TIMEOUT": str(target.device_timeout),
        "TIMEOUT": str(target.timeout),
        "KEEP": str(rules.keep),
        "MAX_AGE": str(rules.max_age),
        "MAX_USE": rules.max_use,
        "KEEP_FREE": rules.keep_free,
    }
    return {f"TARGET_{number}_{key}": value for key, value in values.items()}


def kernel_cache(kernels: tuple[Kernel, ...]) -> bytes:
    """What was found in each kernel, by release, so that unchanged ones are not unpacked again."""
    known = {k.release: {name: getattr(k, name) for name in KERNEL_FACTS} for k in kernels if k.vmlinuz}
    return (json.dumps(known, indent=1, sort_keys=True) + "\n").encode()


def sample_config() -> str:
    """/etc/kdump-pkg.conf as the package ships it: every option, commented out, with its default."""
    parts = [
        "# kdump-pkg.conf(5): how this machine saves kernel crashes. Every line below shows the default.\n"
        "# After a change: kdump-pkg rebuild\n"
    ]
    parts += [_sample(option) for option in OPTIONS]
    parts.append(
        "# Where dumps go, tried in the order of the sections. Without any it is [target root] alone.\n"
        "# Other names: [target esp], [target uuid=UUID], with btrfs [target uuid=UUID:SUBVOLUME], or partuuid=,\n"
        "# label=, partlabel=. What a section leaves out is as above.\n"
        "#[target root]\n"
    )
    parts += [_sample(option) for option in TARGET_OPTIONS if option.name not in BY_NAME]
    parts.append(
        "# What is sent away after the reboot, with rclone, by kdump-pkg-upload.timer or kdump-pkg upload.\n"
        f"#[{UPLOAD}]\n"
    )
    parts += [_sample(option) for option in UPLOAD_OPTIONS]
    parts.append(
        "# How linux-kdump is built, the slim kernel that only captures, once kdump-pkg variant build asks.\n"
        f"#[{VARIANT}]\n"
    )
    parts += [_sample(option) for option in VARIANT_OPTIONS]
    return "\n".join(parts)


def _sample(option: Option) -> str:
    setting = f"#{option.name} = {option.default}".rstrip()
    return f"{_wrap(option.help, 110)}# Allowed: {option.allowed}.\n{setting}\n"


def cpio_archive(name: str, data: bytes) -> bytes:
    """An archive of this one file, to go before any other part of an initramfs."""
    return cpio.archive([cpio.File(name, data)])


def _words(words: tuple[str, ...]) -> str:
    return " ".join(word if re.fullmatch(r"[\w@%+=:,./?-]+", word) else f"'{_checked(word)}'" for word in words)


def _checked(value: str) -> str:
    if not SAFE.fullmatch(value):
        raise KdumpError(f"{value!r} has a character that can't be handed to the capture (quote, backslash, control)")
    return value


def _in_quotes(value: str) -> str:
    """Checked for double quotes, in which bash expands more."""
    if re.search(r'["$`]', value):
        raise KdumpError(f"{value!r} has a character that can't be handed to the capture (quote, dollar, backtick)")
    return _checked(value)


def _wrap(text: str, width: int) -> str:
    import textwrap

    return "".join(f"# {line}\n" for line in textwrap.wrap(text, width))
