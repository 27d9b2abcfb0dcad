"""Whether an oops or a hang becomes a crash at all: only a crash is saved. Never more than advice."""

from __future__ import annotations

from kdump_pkg.model import Finding
from kdump_pkg.plan.checks import SETUP, Case
from kdump_pkg.plan.hangs import DUMP

PART = "panic"
REMEDY = f"{SETUP} --panic-on-hang"
ADVISED = {
    "kernel.panic_on_oops": "oops", "kernel.hardlockup_panic": "hard lockup",
    "kernel.softlockup_panic": "soft lockup",
}  # fmt: skip
"""What REMEDY turns on."""
LEFT = {
    "kernel.hung_task_panic": "hung task", "kernel.panic_on_unrecovered_nmi": "hardware NMI",
    "kernel.unknown_nmi_panic": "unknown NMI",
}  # fmt: skip
"""What takes some sound machines down, too, and so is everybody's own decision."""


def check(case: Case) -> list[Finding]:
    now = case.health.sysctls
    if not now:
        return []
    known = {name: text for name, text in ADVISED.items() if name in now}
    on, off = ([text for name, text in known.items() if (now[name] != "0") is wanted] for wanted in (True, False))
    left = [text for name, text in LEFT.items() if now.get(name) == "0"]
    evidence = ", ".join(f"{name} = {now[name]}" for name in known)
    found = []
    if off:
        found.append(Finding(PART, "note", f"no crash on {', '.join(off)}", REMEDY, evidence))
    elif on:
        but = f"; not on {', '.join(left)}" if left else ""
        found.append(Finding(PART, "ok", f"crash on {', '.join(on)}{but}", evidence=evidence))
    if now.get("kernel.panic_on_warn", "0") != "0":
        text = "a mere warning of the kernel crashes the machine, too"
        found.append(Finding(PART, "note", text, "sysctl kernel.panic_on_warn=0", "kernel.panic_on_warn = 1"))
    return [*found, *_key(now.get("kernel.sysrq", ""))]


def _key(text: str) -> list[Finding]:
    """Alt+SysRq+C, for a hang that the kernel doesn't see itself (admin-guide/sysrq.rst)."""
    if not text.isdigit():
        return []
    value, evidence = int(text), f"kernel.sysrq = {text}"
    if value == 1 or value & DUMP:
        return [Finding("sysrq", "ok", "Alt+SysRq+C crashes the machine", evidence=evidence)]
    return [Finding("sysrq", "note", "Alt+SysRq+C does nothing", REMEDY if value else None, evidence)]
