"""A machine made of files: the capture scripts run under dash and busybox ash, as nobody, with every tool shimmed.

Busybox prefers its own applets to PATH, so there the shims are shell functions. Running without privileges is the belt
to KDUMP_ROOT's braces: a mistake in a script under test must never reboot the machine that tests it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
NOBODY = 65534
SHELLS = {"dash": ["dash"], "ash": ["busybox", "ash"]}

UUID = "0f0e0d0c-1111-2222-3333-444455556666"
RELEASE = "6.12.107-arch1-1"
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
CRASH_TIME = 1795420014
CRASH_NAME = f"2026-11-23T07-46-54Z-{RELEASE}"

# A clock that only moves when somebody sleeps: tests of time limits take no time.
SLEEP = """clock=$KDUMP_ROOT/proc/uptime
read -r up rest <"$clock"
echo "$((${up%%.*} + 1)).00 $rest" >"$clock.$$" && mv "$clock.$$" "$clock"
exec /bin/sleep 0.02"""
# The last two arguments are the core and the file to write.
MAKEDUMPFILE = """while [ $# -gt 2 ]; do shift; done
[ -e "$1" ] || { echo "no $1" >&2; exit 1; }
case "$2" in */dmesg.txt) echo "Kernel panic - not syncing: sysrq" ;; *) echo "KDUMP   " ;; esac >"$2"
"""
SHIMS = {
    "mount": "",
    "umount": "",
    "reboot": "",
    "poweroff": "",
    "halt": "",
    "insmod": "",
    "findfs": "exit 1",
    "sync": "",
    "sleep": SLEEP,
    "makedumpfile": MAKEDUMPFILE,
}


def vmcore_bytes(cpus: int = 4, release: str = RELEASE, crash_time: int = CRASH_TIME) -> bytes:
    """The beginning of a /proc/vmcore: headers, a note for each CPU, then VMCOREINFO."""
    info = (
        f"OSRELEASE={release}\nBUILD-ID={BUILD_ID}\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff83a12540\n"
        f"NUMBER(phys_base)=0\nCRASHTIME={crash_time}\n"
    ).encode()
    notes = b"".join(b"\x05\0\0\0P\x01\0\0\x01\0\0\0CORE\0\0\0\0" + bytes(range(256)) + b"\0" * 80 for _ in range(cpus))
    note = b"\x0b\0\0\0" + len(info).to_bytes(4, "little") + b"\0\0\0\0VMCOREINFO\0\0" + info
    return b"\x7fELF\x02\x01\x01".ljust(4096, b"\0") + (notes + note).ljust(8192, b"\0") + bytes(range(256)) * 400


def quoted(settings: dict[str, str]) -> str:
    """A capture file as Python renders it."""
    return "".join(f"{key}='{value}'\n" for key, value in settings.items())


def settings(**changes: str) -> dict[str, str]:
    """The capture file of a machine with one ext4 target."""
    return {
        "KDUMP_FORMAT": "1",
        "KDUMP_FINGERPRINT": "ab" * 32,
        "KDUMP_RELEASE": RELEASE,
        "KDUMP_FLAVOUR": "direct",
        "KDUMP_MODULES": "virtio_blk ext4",
        "KDUMP_INSMOD": "kernel/drivers/block/virtio_blk.ko.zst kernel/fs/ext4/ext4.ko.zst",
        "KDUMP_TARGETS": "1",
        "KDUMP_TARGET_1_DEVICE": f"UUID={UUID}",
        "KDUMP_TARGET_1_FSTYPE": "ext4",
        "KDUMP_TARGET_1_OPTIONS": "",
        "KDUMP_TARGET_1_PATH": "/var/crash",
        "KDUMP_DEVICE_TIMEOUT": "30",
        "KDUMP_TIMEOUT": "999999",
        "KDUMP_LEVEL": "31",
        "KDUMP_COMPRESS": "-z",
        "KDUMP_FINAL_ACTION": "reboot",
        **changes,
    }


@dataclass
class Machine:
    """A fake machine under `root`, and what its tools were called with."""

    root: Path
    shell: str
    shims: dict[str, str] = field(default_factory=lambda: dict(SHIMS))
    output: str = ""

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def run(self, script: str, *args: str, until: str = "") -> None:
        """Run one of our scripts to its end, or until a file is written to; what it printed is in `output`."""
        for name, body in self.shims.items():
            shim = self.write(f"shims/{name}", f'#!/bin/sh\necho "{name} $*" >>"$KDUMP_ROOT/calls"\n{body}\n')
            shim.chmod(0o755)
        argv = self._argv(REPO / script, args)
        self._hand_over()
        nobody = NOBODY if os.geteuid() == 0 else None
        with self.path("output").open("w+") as output:  # no pipe: the watchdog would keep it open
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"KDUMP_ROOT": str(self.root), "PATH": f"{self.path('shims')}:/usr/bin:/bin"},
                start_new_session=True,
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
            )
            try:
                self._wait(process, until)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # on a real machine the reboot ends the watchdog
                process.wait()
            output.seek(0)
            self.output = output.read()

    def capture(self, until: str = "", **changes: str) -> list[str]:
        """Run kdump-save with these settings; the markers it printed."""
        self.write("kdump/env", quoted(settings(**changes)))
        self.run("hooks/kdump-save", str(self.path("kdump/env")), until=until)
        said = (line.partition("kdump-save: ") for line in self.output.splitlines())
        return [text for before, mark, text in said if mark and not before]

    def calls(self, tool: str = "") -> list[str]:
        log = self.path("calls")
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == tool or not tool]

    @property
    def target(self) -> Path:
        return self.path("run/kdump/target/var/crash")

    @property
    def dump(self) -> Path:
        return self.target / CRASH_NAME

    def meta(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.dump / "meta").read_text().splitlines())

    def _wait(self, process: subprocess.Popen[bytes], until: str, limit: float = 30) -> None:
        deadline = time.monotonic() + limit
        while process.poll() is None and not (until and self.path(until).stat().st_size):
            assert time.monotonic() < deadline, f"still running after {limit} s"
            time.sleep(0.01)

    def _argv(self, script: Path, args: tuple[str, ...]) -> list[str]:
        copy = self.write(f"scripts/{script.name}", script.read_bytes())
        copy.chmod(0o755)
        if self.shell == "dash":
            return ["dash", str(copy), *args]
        functions = "".join(f'{name}() {{ "$KDUMP_ROOT/shims/{name}" "$@"; }}\n' for name in self.shims)
        return [*SHELLS[self.shell], "-c", f'{functions}script=$1; shift; . "$script"', "ash", str(copy), *args]

    def _hand_over(self) -> None:
        if os.geteuid() == 0:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
