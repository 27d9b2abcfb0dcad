"""A kernel upgrade on a machine whose PID 1 is systemd: the unit builds the variant, which is loaded, and captures.

The source is the stand-in (variant_source): an emulated machine would compile a real one for half a day. The kernel
that comes out is a really built one, and the crash at the end is captured by it.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import packages, variant_source, vm
from .common import LabError, say
from .root import ROOT_UUID, ArchRoot, default_generator
from .variant_root import GO, SYSTEMCTL_REAL, followed, version

RESERVED = 192
TIMEOUT = 5400
CALM = "quiet mitigations=off no_timer_check panic=1"
"""On a host that is busy the timer of an emulated machine seems to be broken, and Linux gives up."""
MKINITCPIO = "HOOKS=(base)\nMODULES=(virtio_pci virtio_blk ext4)\n"
"""For the image of the system, which nobody starts here; an emulated machine takes ten minutes for a usual one."""
UNIT = "kdump-pkg-variant.service"
PROPERTIES = (
    "ActiveState", "SubState", "Result", "CPUSchedulingPolicy", "IOSchedulingClass", "Nice", "CPUWeight", "MemoryHigh",
    "MemoryMax", "MemoryPeak", "CPUUsageNSec", "ExecMainStatus",
)  # fmt: skip
NOW = r"""
for pid in $(pgrep -u kdump-build); do
    echo "$(tr '\0' ' ' </proc/$pid/cmdline | cut -c1-60)"
    grep -E '^(Uid|NoNewPrivs|CapBnd|CapEff)' /proc/$pid/status | tr '\n' ' '
    chrt -p $pid | sed 1q
    ionice -p $pid
    cat /proc/$pid/cgroup
    break
done
"""
SCRIPT = """#!/bin/bash
step() {
    name=$1
    shift
    echo "%% $name"
    "$@"
    echo "%% exit $?"
}
show() { systemctl show UNIT PROPERTIES; }
made() { for _ in $(seq 600); do pgrep -u kdump-build make >/dev/null && return; sleep 1; done; return 1; }
over() {
    for _ in $(seq 1800); do
        [ "$(systemctl show --value -p ActiveState UNIT)" = activating ] || return 0
        sleep 1
    done
    return 1
}
story() {
    step release uname -r
    step verify systemd-analyze verify --man=no --recursive-errors=no UNIT
    step armed kdump-pkg status --json
    step before kdump-pkg variant status --json
    TIMEFORMAT='%R seconds'
    step upgrade eval 'time pacman --noconfirm --color=never -U /root/KERNEL'
    step started show
    step queued kdump-pkg variant status --json
    step made made
    step now /usr/local/bin/now
    step building kdump-pkg variant status --json
    step meanwhile kdump-pkg status --json
    step go touch GOAHEAD
    step over over
    step ended show
    step journal journalctl --no-pager -o short-monotonic -u UNIT
    step installed kdump-pkg variant status --json
    step status kdump-pkg status --json
    step packages pacman -Q linux linux-kdump
    step loaded cat /run/kdump-pkg/loaded.json
    step size cat /sys/kernel/kexec_crash_loaded
    sync
    echo c >/proc/sysrq-trigger
}
story 2>&1 | cat >/dev/ttyS0
"""


@dataclass(frozen=True)
class Story:
    """What the machine said, step by step, and the disk that it left."""

    steps: dict[str, tuple[str, int]]
    console: str
    timeline: tuple[tuple[float, str], ...]
    dumps: tuple[str, ...]
    meta: str

    def said(self, name: str) -> str:
        if name not in self.steps:
            raise LabError(f"{name} was not come to: {self.console[-3000:]}")
        return self.steps[name][0]

    def json(self, name: str) -> dict[str, Any]:
        text = self.said(name)
        found: dict[str, Any] = json.loads(text[text.index("{") : text.rindex("}") + 1])
        return found


def run_story(package: Path, keep: Path | None = None) -> Story:
    """Some ten minutes to half an hour of one emulated processor."""
    if not variant_source.can_capture():
        raise LabError("no linux-kdump in the cache: run tests.lab.variant.built('6.12') first")
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work, _disk(package, Path(work)) as disk:
        initrd = vm.disk_initramfs(packages.vmlinuz("6.12"), Path(work) / "initrd")
        append = f"root=UUID={ROOT_UUID} ro crashkernel={RESERVED}M console=ttyS0 {CALM}"
        say("the machine boots, is upgraded, builds, loads and crashes")
        done = vm.boot(
            kernel=packages.vmlinuz("6.12"), initrd=initrd, append=f"{append} systemd.show_status=no", disk=disk,
            timeout=TIMEOUT, memory=1536,
        )  # fmt: skip
        if keep:
            keep.write_text("".join(f"{at:8.1f} {line}\n" for at, line in done.timeline))
        dumps = [name for name in vm.list_dir(disk, "/var") if name == "crash"]
        names = vm.list_dir(disk, "/var/crash") if dumps else []
        meta = vm.read_file(disk, f"/var/crash/{names[-1]}/meta").decode() if names else ""
        return Story(_steps(done.console), done.console, done.timeline, tuple(names), meta)


@contextmanager
def _disk(package: Path, work: Path) -> Iterator[Path]:
    with followed(default_generator(), package) as one:
        root = one.root
        shutil.move(root.path / SYSTEMCTL_REAL, root.path / "usr/bin/systemctl")
        one.source(version("7.2"), variant_source.Twist(waits=GO))
        if root.generator == "mkinitcpio":
            (root.path / "etc/mkinitcpio.conf.d/lab.conf").write_text(MKINITCPIO)
        _bring(root, packages.kernel("7.2"))
        root.run(["kdump-pkg", "rebuild"])
        yield vm.disk_from_root(root.path, work / "disk.img", uuid=ROOT_UUID, size="5G")


def _bring(root: ArchRoot, kernel: Path) -> None:
    shutil.copy(kernel, root.path / "root")
    now = root.path / "usr/local/bin/now"
    now.parent.mkdir(parents=True, exist_ok=True)
    now.write_text(f"#!/bin/bash\n{NOW}")
    now.chmod(0o755)
    words = {
        "PROPERTIES": " ".join(f"-p {name}" for name in PROPERTIES),
        "UNIT": UNIT,
        "KERNEL": kernel.name,
        "GOAHEAD": GO,
    }
    script = SCRIPT
    for word, value in words.items():
        script = script.replace(word, value)
    root.run_at_boot(script)


def _steps(console: str) -> dict[str, tuple[str, int]]:
    found = re.findall(r"%% (\w+)\n(.*?)^%% exit (\d+)$", console, re.DOTALL | re.MULTILINE)
    return {name: (text, int(code)) for name, text, code in found}


def check(story: Story) -> list[str]:
    """What is not as it should be; and nothing of times."""
    wrong = []

    def want(true: bool, what: str) -> None:
        if not true:
            wrong.append(what)

    old, new = f"{version('6.12')}-kdump", f"{version('7.2')}-kdump"
    verified, code = story.steps.get("verify", ("not come to", 1))
    want(code == 0 and UNIT not in verified, f"systemd-analyze verify: {verified}")
    want(story.json("armed")["armed"] is True, "armed with the older variant before")
    want(story.json("before")["captures"] == old, f"{old} captures before")
    want("ActiveState=activating" in story.said("started"), "the unit is activating when the transaction is over")
    want(story.json("queued")["due"] is not None, "a build is due after the upgrade")
    want(story.json("building")["running"] is True, "status says that it is building")
    want(story.json("meanwhile")["armed"] is True, "armed while it is built")
    want("Result=success" in story.said("ended"), f"the unit ended well: {story.said('ended')}")
    want(story.json("installed")["captures"] == new, f"{new} captures afterwards")
    want(story.json("status")["armed"] is True, "armed afterwards")
    want(new in story.said("loaded"), f"{new} is loaded")
    want(story.said("size").strip() == "1", "kexec_crash_loaded")
    want(len(story.dumps) == 1 and "result=complete" in story.meta, f"the crash was captured: {story.dumps}")
    return wrong
