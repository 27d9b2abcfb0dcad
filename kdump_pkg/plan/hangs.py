"""The file in /etc/sysctl.d by which an oops and a hang become a panic, which is saved; made only when asked for."""

from __future__ import annotations

from kdump_pkg import paths, render

DUMP = 8
"""Of the bits of kernel.sysrq the one for dumps of processes and memory, and so for `c` (admin-guide/sysrq.rst)."""
SYSTEMD = 16
"""What systemd's 50-default.conf sets: sync alone."""


def sysctl_file(sysrq: int | None) -> bytes:
    """SYSRQ is what holds now; None where that can't be seen."""
    header = (
        f"# {paths.SYSCTL}: what makes a hang of the kernel a panic, which kdump saves.\n"
        "# Made by kdump-pkg setup --panic-on-hang. Edit it and it is yours: kdump-pkg then leaves it alone.\n"
    )
    body = (
        "\n"
        "# A bug of the kernel that it could go on after, with a process dead and its locks held for ever.\n"
        "kernel.panic_on_oops = 1\n"
        "\n"
        "# A CPU that takes no interrupts any more, or that was in the kernel for 20 s without a pause. To a virtual\n"
        "# machine whose host is overloaded the second happens without a fault of its own: there, 0 may be better.\n"
        "kernel.hardlockup_panic = 1\n"
        "kernel.softlockup_panic = 1\n"
        "\n"
        "# A process that has waited for two minutes where nothing can interrupt it. Not set: a slow disk or a server\n"
        "# that doesn't answer does that, too, and would take a sound machine down.\n"
        "#kernel.hung_task_panic = 1\n"
    )
    return render.own_file(header, body + _sysrq(SYSTEMD if sysrq is None else sysrq))


def _sysrq(now: int) -> str:
    """Alt+SysRq+c, for a hang that the kernel doesn't see itself; who has forbidden all keys meant it."""
    head = "\n# Alt+SysRq+c crashes the machine, for a hang that the kernel itself doesn't see.\n"
    if now == 1 or now & DUMP:
        return f"{head}# kernel.sysrq = {now} allows it already.\n"
    if now == 0:
        return f"{head}# Not set: kernel.sysrq = 0 forbids all keys.\n#kernel.sysrq = {DUMP}\n"
    return f"{head}# What was allowed before, {now}, and this key, {DUMP}:\nkernel.sysrq = {now | DUMP}\n"
