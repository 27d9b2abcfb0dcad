"""What is true of this boot: command line, reservation, whether a capture kernel is loaded and may be loaded at all."""

from __future__ import annotations

import os
import re

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.facts.kconfig import read_kconfig
from kdump_pkg.model import Boot, Watchdog


def read_boot(ctx: Context) -> Boot:
    """Facts of the running kernel; nearly all None for a root, a chroot or a container: that kernel is not its own."""
    reason = confined(ctx) if ctx.live else f"{ctx.root} is not the running system"
    if reason:
        return Boot(confined=reason, cmdline=_kernel_install_cmdline(ctx))
    memory = re.search(r"MemTotal:\s+(\d+) kB", ctx.read_text("/proc/meminfo") or "")
    loaded = _number(ctx, paths.CRASH_LOADED)
    running = ctx.read_text("/proc/sys/kernel/osrelease")
    return Boot(
        running=running,
        cmdline=ctx.read_text("/proc/cmdline"),
        crash_loaded=None if loaded is None else loaded == 1,
        crash_size=_number(ctx, paths.CRASH_SIZE),
        load_disabled=_flag(ctx.read_text("/proc/sys/kernel/kexec_load_disabled")),
        lockdown=_lockdown(ctx.read_text("/sys/kernel/security/lockdown")),
        crash_dm_crypt=_hands_keys_over(ctx, running or ""),
        efi=ctx.path(paths.EFI_VARIABLES).is_dir(),
        watchdog=_watchdog(ctx),
        memory_total=int(memory[1]) * 1024 if memory else None,
        framebuffer=_framebuffer(ctx),
    )


def _hands_keys_over(ctx: Context, running: str) -> bool | None:
    """Whether the kernel has CONFIG_CRASH_DM_CRYPT: by its directory in configfs, else by what it was built with."""
    if ctx.path(paths.CRASH_KEYS).is_dir():
        return True
    options, _ = read_kconfig(ctx, running)
    return None if options is None else options["CRASH_DM_CRYPT"] == "y"


def _framebuffer(ctx: Context) -> int:
    """What the firmware's screen takes in memory once more: its driver draws into a copy (drivers/gpu/drm/sysfb)."""
    home = "/sys/class/graphics/fb0"
    size = re.fullmatch(r"(\d{1,5}),(\d{1,5})", ctx.read_text(f"{home}/virtual_size") or "")
    bits = ctx.read_text(f"{home}/bits_per_pixel") or ""
    return int(size[1]) * int(size[2]) * int(bits) // 8 if size and re.fullmatch(r"\d{1,2}", bits) else 0


def _watchdog(ctx: Context) -> Watchdog | None:
    """The first one that is running and has hardware: a software one died with the kernel (sysfs-class-watchdog)."""
    for name in ctx.names("/sys/class/watchdog"):
        home = f"/sys/class/watchdog/{name}"
        device = ctx.path(f"{home}/device")
        if ctx.read_text(f"{home}/state") == "active" and device.exists():
            module = ctx.path(f"{home}/device/driver/module")
            seconds = ctx.read_text(f"{home}/timeout") or ""
            driver = module.resolve().name.replace("-", "_") if module.exists() else ""
            return Watchdog(f"/dev/{name}", driver, int(seconds) if seconds.isdigit() else 0)
    return None


def _kernel_install_cmdline(ctx: Context) -> str | None:
    """What the system will be booted with, as kernel-install(8) and mkinitcpio's UKIs take it."""
    from kdump_pkg.loaders import cmdline_files, text_files, words  # of no use where the running one is known

    files = text_files(ctx, (cmdline_files.ETC, cmdline_files.USR))
    texts = (words.text(file.data or b"", cmdline_files.stretches([file])) for file in files)
    return next(filter(None, texts), None)


def _number(ctx: Context, names: tuple[str, ...]) -> int | None:
    """The first of several sysfs files that is there and holds a number."""
    for name in names:
        text = ctx.read_text(name)
        if text is not None and text.isdigit():
            return int(text)
    return None


def _flag(text: str | None) -> bool | None:
    return None if text not in ("0", "1") else text == "1"


def _lockdown(text: str | None) -> str | None:
    """The selected word of `none [integrity] confidentiality`."""
    found = re.search(r"\[(\w+)\]", text or "")
    return found[1] if found else None


INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO in the kernel's include/linux/proc_ns.h


def confined(ctx: Context) -> str | None:
    """Why a capture kernel must not be loaded from here: it would become the host's (arch-facts, section 1)."""
    try:
        namespace = ctx.path("/proc/self/ns/pid").stat().st_ino
        here, init = ctx.path("/").stat(), ctx.path("/proc/1/root/.").stat()
    except PermissionError:  # an unprivileged user can't look there, and can't load either
        return "in a container that hides /proc/1/root" if os.geteuid() == 0 else None
    except OSError:
        return "in a chroot without /proc"
    if (here.st_dev, here.st_ino) != (init.st_dev, init.st_ino):
        return "in a chroot"
    if namespace != INITIAL_PID_NAMESPACE:
        return "in a PID namespace, so in a container"
    environment = ctx.read_text("/proc/1/environ") or ""
    marks = ("/run/systemd/container", "/run/host/container-manager")
    if re.search(r"(^|\0)container=", environment) or any(ctx.path(mark).exists() for mark in marks):
        return "in a container"
    return None
