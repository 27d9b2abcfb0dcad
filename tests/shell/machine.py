"""A machine made of files: the capture scripts run under dash and busybox ash, as nobody, with every tool shimmed.

Busybox prefers its own applets to PATH, so there the shims are shell functions. Running without privileges is the belt
to KDUMP_ROOT's braces: a mistake in a script under test must never reboot the machine that tests it.
"""

from __future__ import annotations

import contextlib
import os
import re
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
# The last two arguments are the core and the file to write; with -F there is no file, and the core goes to stdout.
MAKEDUMPFILE = """case " $* " in *" -F "*) echo "KDUMP FLAT"; exit ;; esac
while [ $# -gt 2 ]; do shift; done
[ -e "$1" ] || { echo "no $1" >&2; exit 1; }
case "$2" in */dmesg.txt | */partial) echo "Kernel panic - not syncing: sysrq" ;; *) echo "KDUMP   " ;; esac >"$2"
"""
SHIMS = {
    "mount": "",
    "umount": "",
    "reboot": "",
    "poweroff": "",
    "halt": "",
    "insmod": "",
    "mdadm": "exit 1",
    "lvm": "exit 5",
    "cryptsetup": "exit 1",
    "btrfs": "",
    "findfs": "exit 1",
    "sync": "",
    "stty": "",
    "dmesg": "echo 'the capture kernel'",
    "age": "echo AGE; /bin/cat | /usr/bin/tr a-zA-Z n-za-mN-ZA-M",
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
        "KDUMP_FORMAT": "2",
        "KDUMP_FINGERPRINT": "ab" * 32,
        "KDUMP_RELEASE": RELEASE,
        "KDUMP_FLAVOUR": "direct",
        "KDUMP_CAPTURE": "image",
        "KDUMP_MODULES": "virtio_blk ext4",
        "KDUMP_INSMOD": "kernel/drivers/block/virtio_blk.ko.zst kernel/fs/ext4/ext4.ko.zst",
        "KDUMP_TARGETS": "1",
        **target(1),
        "KDUMP_TIMEOUT": "999999",
        "KDUMP_STEP_TIMEOUT": "99999",
        "KDUMP_PASSPHRASE_TIMEOUT": "60",
        "KDUMP_CRASH_LOOP": "10",
        "KDUMP_LEVEL": "31",
        "KDUMP_COMPRESS": "-z",
        "KDUMP_MAKEDUMPFILE": "1.7.9-1",
        "KDUMP_ENCRYPT_TO": "",
        "KDUMP_WATCHDOG": "",
        "KDUMP_TRACE_RECORD": "",
        "KDUMP_FINAL_ACTION": "reboot",
        "KDUMP_FAILURE_ACTION": "reboot",
        **changes,
    }


def target(number: int, **changes: str) -> dict[str, str]:
    """The part of the capture file about one target."""
    values = {
        "NAME": "root",
        "DEVICE": f"UUID={UUID}",
        "FSTYPE": "ext4",
        "OPTIONS": "",
        "PATH": "/var/crash",
        "LAYERS": "",
        "DEVICES": "1",
        "MOUNTED": "",
        "SAVE": "all",
        "DEVICE_TIMEOUT": "30",
        "TIMEOUT": "99999",
        "KEEP": "0",
        "MAX_AGE": "0",
        "MAX_USE": "0",
        "KEEP_FREE": "0",
        **changes,
    }
    return {f"KDUMP_TARGET_{number}_{key}": value for key, value in values.items()}


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

    def run(self, script: str, *args: str, until: str = "", without: str = "") -> None:
        """Run one of our scripts to its end, or until a file is written to; what it printed is in `output`."""
        for name, body in self.shims.items():
            self.path(f"shims/{name}").unlink(missing_ok=True)  # one of an earlier run may still be busy
            shim = self.write(f"shims/{name}", f'#!/bin/sh\necho "{name} $*" >>"$KDUMP_ROOT/calls"\n{body}\n')
            shim.chmod(0o755)
        argv = self._argv(REPO / script, args)
        if without:
            self.path(f"usr/lib/kdump-pkg/save/{without}.sh").unlink()
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
                self._wait_for_the_end()
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

    @property
    def files(self) -> list[str]:
        """The names in the dump's directory."""
        return sorted(path.name for path in self.dump.iterdir())

    def older(self, name: str, meta: str = "format=1\nresult=complete\n", kib: int = 4, *extra: str) -> Path:
        """A dump of an earlier crash."""
        directory = self.path(f"run/kdump/target/var/crash/{name}")
        self.write(str(directory.relative_to(self.root) / "meta"), meta)
        (directory / "vmcore").write_bytes(b"x" * (kib << 10))
        for file in extra:
            (directory / file).write_text("")
        return directory

    def meta(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.dump / "meta").read_text().splitlines())

    def _wait(self, process: subprocess.Popen[bytes], until: str, limit: float = 30) -> None:
        deadline = time.monotonic() + limit
        while process.poll() is None and not (until and self.path(until).stat().st_size):
            assert time.monotonic() < deadline, f"still running after {limit} s"
            time.sleep(0.01)

    def _wait_for_the_end(self, limit: float = 5) -> None:
        """The last command is started in the background, and the shell doesn't wait for it."""
        deadline = time.monotonic() + limit
        action = re.search(r"final (reboot|poweroff|halt)$", self.path("output").read_text(), re.MULTILINE)
        while action and not self.calls(action[1]) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _argv(self, script: Path, args: tuple[str, ...]) -> list[str]:
        copy = self.write(f"scripts/{script.name}", script.read_bytes())
        copy.chmod(0o755)
        for part in (REPO / "hooks/save").glob("*.sh"):
            self.write(f"usr/lib/kdump-pkg/save/{part.name}", part.read_bytes())
        if self.shell == "dash":
            return ["dash", str(copy), *args]
        functions = "".join(f'{name}() {{ "$KDUMP_ROOT/shims/{name}" "$@"; }}\n' for name in self.shims)
        return [*SHELLS[self.shell], "-c", f'{functions}script=$1; shift; . "$script"', "ash", str(copy), *args]

    def _hand_over(self) -> None:
        if os.geteuid() == 0:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
