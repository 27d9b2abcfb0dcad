"""The ways to die that `crashes` knows; what a module has to do for them is in crash_module/.

Not to be had: a hard lockup, for the kernel's detector wants performance counters, which an emulated processor has none
of (`nmi-spin` is what an administrator would do then); what KASAN finds, and callers on a console, for Debian's kernels
are built without KASAN and PRINTK_CALLER.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from .packages import Series

How = Literal["capture", "console", "ramoops"]
BOTH: tuple[Series, ...] = ("6.12", "7.2")


@dataclass(frozen=True)
class Crash:
    """One way."""

    name: str
    do: str
    """For the shell that is process 1 of the guest; see crashes.GUEST for its words."""
    how: How = "capture"
    append: str = ""
    smp: int = 1
    memory: int = 1024
    series: tuple[Series, ...] = BOTH
    init: bool = True
    """Without: the kernel alone."""
    monitor: bool = False
    """QEMU's monitor is the guest's second serial line."""
    modules: tuple[str, ...] = ()
    """Of the kernel's own."""


def _die(name: str, way: str = "", **more: Any) -> Crash:
    """By the module alone."""
    return Crash(name, f"die {way or name.replace('-', '_')}", **more)


WARN = "set_to kernel/panic_on_warn 1\n"
SOFT = "set_to kernel/softlockup_panic 1\nset_to kernel/watchdog_thresh 3\n"
HUNG = "set_to kernel/hung_task_panic 1\nset_to kernel/hung_task_timeout_secs 3\n"
STALL = """set_to kernel/panic_on_rcu_stall 1
set_to kernel/soft_watchdog 0
echo 3 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout
"""
EAT = "mkdir /full\nmount -t tmpfs -o size=200% full /full\nexec cat /dev/zero >/full/file"
SPIN = "taskset 1 sh -c 'sleep 3; printf \"\\n\\nnmi\\n\" >/dev/ttyS1' &\nmonitor\ndie_on 2 hardlockup"
WEB = "sh -c 'echo -n \"Web Content\" >/proc/$$/comm; echo null >/sys/module/labcrash/parameters/die'"
MCE = "monitor mce 0 9 0xbe000000000000c0 0x5 0x12345000 0x8c"

CRASHES = (
    # what the processor refuses
    _die("null"), _die("call"), _die("fault"), _die("readonly"), _die("nx"), _die("user"), _die("divide"),
    _die("protection"), _die("opcode"), _die("overflow"),
    # what the kernel itself finds wrong
    _die("bug"), _die("bug-on"), _die("smash"), _die("list"), _die("fortify"), _die("usercopy"),
    _die("panic"),
    _die("double-free", series=("6.12",)),  # 7.2 frees into a per-CPU sheaf, which nobody looks through
    Crash("warn", f"{WARN}die warn"),
    Crash("refcount", f"{WARN}die refcount"),
    Crash("atomic", f"{WARN}die atomic"),
    Crash("bounds", f"{WARN}die bounds", series=("7.2",)),
    Crash("freed", f"{WARN}die freed", append="kfence.sample_interval=1"),
    # another context than that of a process
    _die("thread", "thread:null"), _die("work", "work:null"), _die("timer", "timer:null"),
    _die("hrtimer", "hrtimer:bug"), _die("irq", "irq:fault"), _die("ipi", "ipi:null", smp=2),
    # who does not go on
    Crash("softlockup", f"{SOFT}die softlockup"),
    Crash("softlockups", f"{SOFT}die_on 2 softlockup &\ndie_on 1 softlockup", smp=2),
    Crash("deadlock", f"{SOFT}die_on 1 deadlock", smp=2),
    Crash("stall-task", f"{STALL}die stall_task"),
    Crash("stall-cpu", f"{STALL}die_on 2 stall_cpu", smp=2),
    Crash("hang", f"{HUNG}die hang"),
    Crash("wait", f"{HUNG}die wait", smp=2),
    # out of memory
    Crash("oom", "set_to vm/panic_on_oom 2\ntail /dev/zero"),
    Crash("oom-deadlock", EAT),
    # from outside
    Crash("sysrq", "echo c >/proc/sysrq-trigger"),
    Crash("nmi", "set_to kernel/unknown_nmi_panic 1\nmonitor nmi", monitor=True),
    Crash("nmi-unrecovered", "set_to kernel/panic_on_unrecovered_nmi 1\nmonitor nmi", monitor=True, smp=2),
    Crash("nmi-spin", f"set_to kernel/unknown_nmi_panic 1\n{SPIN}", monitor=True, smp=2),
    Crash("mce", MCE, monitor=True),
    # the system itself is gone
    Crash("init", "exit 3"),
    Crash("noroot", "", how="console", init=False, append="root=/dev/vda1"),
    # two stories in one log, or lines of two
    Crash("later", "set_to kernel/panic_on_oops 0\ndie null\nsleep 2\necho c >/proc/sysrq-trigger"),
    Crash("noise", "die noise\nsleep 1\ndie_on 1 null", smp=2),
    Crash("web", WEB),
    # other ways of the log
    _die("null-console", "null", how="console"),
    _die("timer-console", "timer:null", how="console"),
    _die("overflow-console", "overflow", how="console"),
    _die("notime-console", "bug", how="console", append="printk.time=0"),
    Crash("noise-console", "die noise\nsleep 1\ndie_on 1 null", how="console", smp=2),
    Crash("softlockup-console", f"{SOFT}die softlockup", how="console", smp=2),
    _die("null-ramoops", "null", how="ramoops", memory=512),
    Crash("softlockup-ramoops", f"{SOFT}die softlockup", how="ramoops", memory=512, series=("7.2",)),
    Crash("sysrq-ramoops", "echo c >/proc/sysrq-trigger", how="ramoops", memory=512, series=("6.12",)),
)  # fmt: skip
