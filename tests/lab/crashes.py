"""`make crashes`: real kernels of both series, crashed in every way that a virtual machine can; their logs are kept.

Most logs are what a user would have: the crashed kernel's own, taken out of /proc/vmcore by makedumpfile in a capture
kernel. The rest is what the serial line said, where there can be no capture or where it would cut the log short, and
what ramoops kept. The expectations in tests/reports are written by whoever has read a log, not here.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from . import packages, vm
from .common import LabError, say
from .crash_kinds import CRASHES, Crash
from .crash_tools import Tools, tools
from .packages import Series

SECONDS = 150
RESERVED = "208M"
HEAD = re.compile(rb"Linux version |Command line: |^[A-Z][a-z]+#\d+ Part\d+")
BOOT_LINES = 30
KEPT_LINES = 300
LIMIT = 60_000
"""Bytes of a log in the repository."""

BEGIN, END = "%% log", "%% end"
GUEST = """#!/bin/busybox sh
PATH=/bin
exec >/dev/null 2>&1
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
set_to() { echo "$2" >"/proc/sys/$1"; }
die() { sh -c "echo $1 >/sys/module/labcrash/parameters/die"; }
die_on() { taskset "$1" sh -c "echo $2 >/sys/module/labcrash/parameters/die"; }
monitor() {
    stty -F /dev/ttyS1 raw -echo
    printf '\\n\\n%s\\n' "$*" >/dev/ttyS1
}
for module in /modules/*; do
    insmod "$module"
done
set_to kernel/panic_on_oops 1
"""
LOAD = """/lib/ld.so --library-path /lib /bin/kexec -c -p /capture/vmlinuz --initrd=/capture/initrd \\
    --append='console=ttyS0 loglevel=1 nr_cpus=1 reset_devices panic=-1 mitigations=off'
"""
CAPTURE = f"""#!/bin/busybox sh
PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mkdir /tmp
/lib/ld.so --library-path /lib /bin/makedumpfile --dump-dmesg /proc/vmcore /log >/words 2>&1 || cat /words
echo '{BEGIN}'
gzip -c /log | base64
echo '{END}'
poweroff -f
"""
RAMOOPS = "insmod /ramoops/ramoops mem_address=0x10000000 mem_size=0x100000 record_size=0x20000 ecc=1\n"
RAMOOPS_AREA = "memmap=1M$0x10000000"
PSTORE = f"""mount -t pstore pstore /sys/fs/pstore
cd /sys/fs/pstore
for record in dmesg-*; do
    echo '{BEGIN}'
    gzip -c "$record" | base64
    echo '{END}'
done >/dev/ttyS0
poweroff -f
"""


def main() -> int:
    """Every crash that is asked for; the exit code is 1 where one left no log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", default="", help="crashes whose `NAME-SERIES` it fits")
    parser.add_argument("--output", type=Path, default=Path("build/crashes"), metavar="DIR", help="(build/crashes)")
    parser.add_argument("--list", action="store_true", help="name them, and no more")
    args = parser.parse_args()
    todo = [(one, series) for one in CRASHES for series in one.series if re.search(args.only, f"{one.name}-{series}")]
    if args.list:
        print("\n".join(f"{one.name}-{series} ({one.how})" for one, series in todo))
        return 0
    args.output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, (one, series) in enumerate(todo, 1):
        name = f"real-{one.name}-{series}"
        try:
            log = trim(cause(one, series))
            (args.output / f"{name}.log").write_bytes(log)
            words = f"{len(log):,} bytes"
        except LabError as error:
            failed += 1
            words = f"FAILED: {error}"
        say(f"[{number}/{len(todo)}] {name}: {words}")
    return 1 if failed else 0


def cause(crash: Crash, series: Series) -> bytes:
    """The log of one crash, caused now; for ramoops its records, newest last. Raises LabError if there is none."""
    with tempfile.TemporaryDirectory(prefix="kdump-crash-") as work:
        if crash.how == "ramoops":
            return _by_ramoops(crash, series, Path(work))
        done = _boot(crash, series, Path(work), GUEST + (LOAD if crash.how == "capture" else "") + crash.do)
        if crash.how == "console":
            return _console(done)
        logs = list(_logs(done.console))
        if len(logs) != 1 or not logs[0]:
            raise LabError(f"no log was captured\n{done.console[-3000:]}")
        return logs[0]


def trim(log: bytes) -> bytes:
    """Small enough for the repository: of what was said until init started the kernel's version, its command line and
    the last lines, and of all that followed the end."""
    lines = log.splitlines(keepends=True)
    started = next((number for number, line in enumerate(lines) if b"Run /init as init" in line), 0)
    start = max(started - BOOT_LINES, len(lines) - KEPT_LINES, 0)
    lines = [*[line for line in lines[:start] if HEAD.search(line)][:3], *lines[start:]]
    while sum(map(len, lines)) > LIMIT:
        del lines[3]
    return b"".join(lines)


def _by_ramoops(crash: Crash, series: Series, work: Path) -> bytes:
    """Crash, then boot again with the memory as it was left; QEMU itself has been gone meanwhile."""
    memory = work / "memory"
    shared = f"memory-backend-file,id=memory,size={crash.memory}M,share=on,mem-path={memory}"
    extra = ("-object", shared, "-machine", "memory-backend=memory")
    _boot(crash, series, work, GUEST + RAMOOPS + crash.do, extra)
    done = _boot(crash, series, work, GUEST + RAMOOPS + PSTORE, extra)
    records = list(_logs(done.console))
    if not records:
        raise LabError(f"ramoops kept nothing\n{done.console[-3000:]}")
    return b"".join(map(trim, records))


def _boot(crash: Crash, series: Series, work: Path, script: str, extra: tuple[str, ...] = ()) -> vm.BootResult:
    """One boot of the guest, until the machine is gone."""
    made = tools(series)
    initrd = vm.tiny_initramfs(f"{script}\nsleep {SECONDS}\n", work / "initrd", _files(crash, series, made, work))
    words = ["panic=-1 mitigations=off", crash.append]
    words += {
        "capture": [f"crashkernel={RESERVED} quiet"],
        "console": ["ignore_loglevel"],
        "ramoops": [f"{RAMOOPS_AREA} quiet"],
    }[crash.how]
    if crash.monitor:
        socket = work / "monitor"
        extra += ("-chardev", f"socket,id=monitor,path={socket},server=on,wait=off", "-mon", "chardev=monitor")
        extra += ("-serial", f"unix:{socket}")
    done = vm.boot(
        kernel=packages.vmlinuz(series),
        initrd=initrd if crash.init else None,
        append=" ".join(word for word in words if word),
        memory=crash.memory,
        smp=crash.smp,
        timeout=SECONDS,
        until=re.compile(END) if crash.how == "capture" else None,
        extra=extra,
    )
    if done.timed_out:
        raise LabError(f"nothing happened in {SECONDS} s\n{done.console[-3000:]}")
    return done


def _files(crash: Crash, series: Series, made: Tools, work: Path) -> Mapping[str, bytes]:
    """What the guest has besides busybox."""
    files = {"modules/labcrash.ko": made.module.read_bytes()}
    if crash.how == "ramoops":
        files |= {f"modules/{name}": data for name, data in _modules(series, "ramoops")}
        files["ramoops/ramoops"] = files.pop("modules/ramoops.ko")
    files |= {f"modules/{name}": data for one in crash.modules for name, data in _modules(series, one)}
    if crash.how == "capture":
        files |= made.kexec
        capture = vm.tiny_initramfs(CAPTURE, work / "capture", made.makedumpfile)
        files["capture/initrd"] = gzip.compress(capture.read_bytes(), 1)
        files["capture/vmlinuz"] = packages.vmlinuz(series).read_bytes()
    return files


def _modules(series: Series, name: str) -> Iterator[tuple[str, bytes]]:
    """One of the kernel's own modules, after those that it needs."""
    home = packages.vmlinuz(series).parent
    for line in (home / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        if Path(path).name == f"{name}.ko.zst":
            for one in (*reversed(needs.split()), path):
                yield Path(one).stem, vm.unpack_module(home / one)
            return
    raise LabError(f"{packages.release(series)} has no module {name}")


def _logs(console: str) -> Iterator[bytes]:
    """What a guest has sent between two marks."""
    for text in re.findall(rf"^{BEGIN}\n(.*?)^{END}", console, re.MULTILINE | re.DOTALL):
        try:
            yield gzip.decompress(base64.b64decode(text))
        except (ValueError, EOFError, OSError) as error:
            raise LabError(f"what the guest sent is no log: {error}\n{console[-3000:]}") from None


def _console(done: vm.BootResult) -> bytes:
    """All that the serial line said; of a machine that is gone."""
    if "Linux version" not in done.console:
        raise LabError(f"no kernel started\n{done.console[-3000:]}")
    return (done.console + "\n").encode()


if __name__ == "__main__":
    sys.exit(main())
