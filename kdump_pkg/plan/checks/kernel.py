"""Whether the running kernel was built so that it can do it, and lets a capture kernel be loaded."""

from __future__ import annotations

from kdump_pkg.model import Finding
from kdump_pkg.plan.checks import Case, State
from kdump_pkg.plan.rebuild import load_obstacle

PART = "kernel configuration"
OTHER = "boot a kernel that has it; Arch's kernels have"
CRASHING = ("CRASH_DUMP",)
CAPTURING = ("PROC_VMCORE", "RELOCATABLE")
"""What the capture kernel needs, for itself."""
WISHED = {
    "DEBUG_INFO": "the memory of a crash can be opened by debuggers only with debug information of another source",
    "DEBUG_INFO_BTF": "the unpacked kernel that is kept for the dump has no types",
    "MAGIC_SYSRQ": "neither Alt+SysRq+C nor `kdump-pkg test` can crash it",
}


def check(case: Case) -> list[Finding]:
    if not case.live:
        return []
    have, source = case.health.kconfig, case.health.kconfig_source
    if have is None:
        where = f"neither /proc/config.gz nor /boot/config-{case.facts.boot.running or 'RELEASE'}"
        return [Finding(PART, "unknown", "can't be read", "modprobe configs", where)]
    needed: tuple[str, ...] = CRASHING
    if case.capture is None or case.capture.kernel.release == case.facts.boot.running:
        needed += CAPTURING
    calls = [name for name in ("KEXEC_FILE", "KEXEC") if have.get(name) == "y"]
    found = [
        Finding(PART, "bad", f"CONFIG_{name} is off", OTHER, source) for name in needed if have.get(name, "n") == "n"
    ]
    if not calls:
        found.append(Finding(PART, "bad", "CONFIG_KEXEC_FILE and CONFIG_KEXEC are off", OTHER, source))
    if not found:
        found.append(Finding(PART, "ok", ", ".join((*needed, *calls)), evidence=source))
    off = ((name, text) for name, text in WISHED.items() if have.get(name, "n") == "n")
    return [*found, *(Finding(PART, "note", f"CONFIG_{name} is off: {text}", evidence=source) for name, text in off)]


def loading(case: Case) -> list[Finding]:
    """What may forbid that a kernel is loaded; all of it in one line where nothing does."""
    boot = case.facts.boot
    if not case.live or not boot.crash_size:
        return []
    found = []
    if boot.load_disabled:
        text, _, remedy = (load_obstacle(case.facts) or "").partition("; ")
        state: State = "note" if boot.crash_loaded else "bad"
        where = "/proc/sys/kernel/kexec_load_disabled"
        found.append(Finding("loading", state, text, remedy or None, where))
    return [*found, *_signed(case)] or [Finding("loading", "ok", _allowed(case), evidence="kexec_load_disabled = 0")]


def _signed(case: Case) -> list[Finding]:
    boot, firmware = case.facts.boot, case.health.surroundings.firmware
    where = "/sys/kernel/security/lockdown"
    locked = boot.lockdown in ("integrity", "confidentiality")
    if locked:
        secure = ", as with Secure Boot" if firmware.secure_boot else ""
        why = f"the kernel is locked down ({boot.lockdown}{secure})"
    elif (case.health.kconfig or {}).get("KEXEC_SIG_FORCE") == "y":
        why, where = "CONFIG_KEXEC_SIG_FORCE is on", case.health.kconfig_source
    else:
        return []
    if boot.crash_loaded:
        return [Finding("loading", "ok", f"{why}, and took what is loaded", evidence=where)]
    remedy = "sign the capture kernel with a key that the firmware knows" + (", or boot with lockdown=none" * locked)
    return [Finding("loading", "note", f"{why}: only a signed kernel can be loaded", remedy, where)]


def _allowed(case: Case) -> str:
    secure = case.health.surroundings.firmware.secure_boot
    known = [f"lockdown {case.facts.boot.lockdown}"] if case.facts.boot.lockdown else []
    known += [f"Secure Boot {'on' if secure else 'off'}"] if secure is not None else []
    return ", ".join(("allowed", *known))
