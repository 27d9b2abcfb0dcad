"""Commands inside a root directory, and private clones of one.

Nothing in here can reach the host's own crash kernel: the command has no CAP_SYS_BOOT and no CAP_SYS_MODULE, sees
/sys and /proc/sys read-only and has /dev/null for a sysrq trigger, in mount and process namespaces that end with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from .common import LabError, Text, cache, explain, locked, need, run

ENTER = """
root=$1; shift
mount --make-rprivate /
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir -p "$root/run/lock"
mount -t tmpfs -o mode=755,nosuid dev "$root/dev"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for stream in 0/stdin 1/stdout 2/stderr; do
    ln -s "/proc/self/fd/${stream%/*}" "$root/dev/${stream#*/}"
done
cd /
exec setpriv --bounding-set=-sys_boot,-sys_module --inh-caps=-sys_boot,-sys_module -- "$@"
"""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TERM": "dumb", "TZ": "UTC"}
# Directories can be renamed as anywhere else; nothing in a clone has to outlive a crash of the host.
OVERLAY = "redirect_dir=on,volatile"
CONFINED = ("unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-euc", ENTER, "lab-chroot")


class Chroot:
    """A root directory that commands can run in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self,
        argv: Sequence[str],
        *,
        user: str | None = None,
        check: bool = True,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,
        echo: bool = False,
    ) -> Text:
        """Run a command inside; `echo` lets its output through as it comes instead of collecting it."""
        home = f"/home/{user}" if user else "/root"
        settings = {**ENVIRONMENT, "HOME": home, "USER": user or "root", **(env or {})}
        inside = ["chroot", *([f"--userspec={user}:{user}"] if user else []), str(self.path)]
        assignments = [f"{key}={value}" for key, value in settings.items()]
        given: dict[str, object] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        done: Text = subprocess.run(  # type: ignore[call-overload]
            [*CONFINED, str(self.path), *inside, "/usr/bin/env", "-i", *assignments, *argv],
            **given,
            capture_output=not echo,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise LabError(explain(argv, done))
        return done


class Clone(Chroot):
    """A private, writable copy of a stack of directories, uppermost first: an overlay, or a plain copy without one."""

    def __init__(self, layers: Sequence[Path]) -> None:
        need("unshare", "setpriv", "mount")
        if os.geteuid() != 0:
            raise LabError("the lab's roots need root: overlay mounts, chroot and namespaces")
        home = cache() / "clones"
        home.mkdir(exist_ok=True)
        with locked("clones"):
            _sweep(home)
            self._home = Path(tempfile.mkdtemp(dir=home))
            self._alive: IO[str] = (self._home / "alive").open("w")
            fcntl.flock(self._alive, fcntl.LOCK_EX)
        super().__init__(self._home / "root")
        self.upper = self._home / "upper"
        for part in (self.path, self.upper, self._home / "work"):
            part.mkdir(mode=0o755)
        options = f"lowerdir={':'.join(map(str, layers))},upperdir={self.upper},workdir={self._home / 'work'}"
        mounted = run(["mount", "-t", "overlay", "-o", f"{OVERLAY},{options}", "kdump-lab", self.path], check=False)
        self.overlaid = mounted.returncode == 0
        if not self.overlaid:
            _copy(layers, self.path)

    def detach(self) -> Path:
        """Unmount and hand out what was written, as a layer; whiteouts in it mean something to overlayfs only."""
        if self.overlaid:
            run(["umount", self.path])
            self.overlaid = False
            return self.upper
        return self.path

    def close(self) -> None:
        """Give it all back."""
        if self.overlaid:
            run(["umount", "--lazy", self.path], check=False)
        for part in (self.path, self.upper, self._home / "work"):
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(self._home, ignore_errors=True)
        self._alive.close()


def _copy(layers: Sequence[Path], dest: Path) -> None:
    """The stack as one directory, where no overlay can be mounted."""
    for layer in reversed(layers):
        run(["cp", "-a", "--reflink=auto", f"{layer}/.", dest])


def _sweep(home: Path) -> None:
    """Take away the clones of processes that died: nobody holds their lock any more, or ever will."""
    for clone in home.iterdir():
        try:
            with (clone / "alive").open() as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or going away right now
        run(["umount", "--lazy", clone / "root"], check=False)
        shutil.rmtree(clone, ignore_errors=True)
