"""What debuggers are compared with: crash and drgn, Debian's debug packages of the lab's kernels, and dumps of those.

The debug packages are the real thing that a made vmlinux has to be as good as; they are large, so of each only the
kernel's and a few modules' files are kept. The dumps come of a system that was at work: daemons, mounts, sockets, swap,
loop devices, System V IPC, and a module of some size.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kdump_pkg.plan.level import choose

from . import archpkg, base, debian, packages, vm
from .chroot import Clone
from .common import LabError, cache, digest, once, run, say
from .packages import SUITES, Series
from .root import ROOT_UUID, ArchRoot, open_root

TOOLS = {"crash": "crash", "drgn": "python3-drgn"}
"""Arch's name and Debian's."""
LIBRARIES = r"lib(kdumpfile|addrxlat|snappy|gomp|gmp|mpfr|lzo2-)\S*"
MODULES = ("loop", "xfs", "tun", "dummy", "brd", "dm-mod", "overlay")
"""Loaded in the dumps besides the disk's; those that these need come along."""
DUMP_ID = "2026-11-20T10-00-00Z"
REPO = Path(__file__).resolve().parents[2]

# What the machine does until it dies; nothing of it has to be the same in two dumps.
WORK = r"""#!/bin/sh
exec >/dev/ttyS0 2>&1
cd /root/dump
while read -r module; do insmod "modules/$module"; done <order
truncate -s 400M /var/tmp/xfs
mkfs.xfs -q /var/tmp/xfs
mkdir -p /mnt/xfs /mnt/overlay /mnt/work /mnt/upper
mount -o loop /var/tmp/xfs /mnt/xfs
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /mnt/overlay
fallocate -l 32M /var/tmp/swap
chmod 600 /var/tmp/swap
mkswap /var/tmp/swap >/dev/null
swapon /var/tmp/swap
busybox ip link set lo up
busybox ip link add dummy1 type dummy
busybox ip addr add 192.0.2.1/24 dev dummy1
busybox ip link set dummy1 up
cp /usr/bin/python3 /mnt/xfs/python
/mnt/xfs/python -c "$(cat busy.py)" &
sleep 5000 &
sh -c 'sleep 4000 & wait' &
until [ -e /run/busy ]; do sleep 0.2; done
sync
kexec -p vmlinuz --initrd=initrd --command-line="console=ttyS0 irqpoll nr_cpus=1 reset_devices panic=1"
echo "crashing: $(cut -d ' ' -f 1 /proc/modules | tr '\n' ' ')"
echo c >/proc/sysrq-trigger
"""
BUSY = r"""
import ctypes, mmap, os, select, socket, threading, time
libc = ctypes.CDLL(None)
shared = libc.shmget(0x6b64, 1 << 16, 0o1600)
libc.shmat(shared, None, 0)
libc.semget(0x6b65, 3, 0o1600)
libc.msgget(0x6b66, 0o1600)
file = open("/mnt/xfs/data", "w+b")
file.write(b"x" * (1 << 20))
file.flush()
area = mmap.mmap(file.fileno(), 1 << 20)
area[:4096] = b"y" * 4096
server = socket.create_server(("127.0.0.1", 4711))
client = socket.create_connection(("127.0.0.1", 4711))
peer = server.accept()[0]
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 4712))
pair = socket.socketpair()
reader, writer = os.pipe()
poll = select.epoll()
poll.register(reader, select.EPOLLIN)
threading.Thread(target=lambda: os.read(reader, 1), daemon=True).start()
threading.Thread(target=lambda: poll.poll(), daemon=True).start()
open("/run/busy", "w").close()
time.sleep(9000)
"""
CAPTURE = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
for module in $($b cat /modules/order); do $b insmod "/modules/$module"; done
$b mkdir /disk
$b mount -t ext4 /dev/vda /disk
$b mount -t proc proc /disk/proc
cd /disk
$b chroot /disk /usr/bin/makedumpfile --dump-dmesg /proc/vmcore /root/dump/dmesg.txt
$b chroot /disk /usr/bin/makedumpfile -z -d LEVEL /proc/vmcore /root/dump/vmcore && echo 'lab: dumped'
$b sync
$b umount /disk/proc
cd /
$b umount /disk
$b reboot -f
"""
META = """format=1
release={release}
crash_time=1795168800
result=complete
"""


def tools() -> Path:
    """A layer for above dracut's root, in which pacman has installed crash and drgn."""

    def make(dest: Path) -> None:
        say("packages of crash and drgn")
        with tempfile.TemporaryDirectory(prefix=".debuggers.", dir=cache()) as work:
            have = {path.name for path in (base.base() / "root/usr/lib").iterdir()}
            made = [_package(name, deb, Path(work), have) for name, deb in TOOLS.items()]
            clone = Clone([base.layer("dracut"), base.base() / "root"])
            try:
                for package in made:
                    shutil.copy(package, clone.path / "root")
                names = [f"/root/{package.name}" for package in made]
                clone.run(["pacman", "--noconfirm", "-U", *names])
                for name in names:
                    (clone.path / name.lstrip("/")).unlink()
                run(["cp", "-a", clone.detach(), dest])
            finally:
                clone.close()

    return once(f"layer/debuggers-{digest(LIBRARIES, repr(TOOLS), base.layer('dracut').name)}", make)


@contextmanager
def open_debuggers() -> Iterator[ArchRoot]:
    """A private root with crash and drgn in it."""
    with open_root(generator="dracut", above=[tools()]) as root:
        yield root


def real(series: Series) -> Path:
    """Debian's own debug files: `vmlinux`, and below `modules` one for each of MODULES and what they need."""
    release = packages.release(series)

    def make(dest: Path) -> None:
        say(f"debug package of {release} (once, 350 MB to fetch)")
        with tempfile.TemporaryDirectory(prefix=".debug.", dir=cache()) as work:
            try:
                (deb,) = debian.download(SUITES[series], [f"linux-image-{release}-dbg"], Path(work))
            except LabError as error:
                why = f"Debian has no debug package of {release}, which the cache has: remove kernel-trees/{series}-*"
                raise LabError(f"{why}\n{error}") from None
            wanted = [f"*/{Path(name).name.removesuffix('.zst')}" for name in _modules(series)]
            _extract(deb, Path(work), ["./usr/lib/debug/boot/vmlinux-*", "./usr/lib/debug/lib/*/vmlinux", *wanted])
            found = [path for path in Path(work).rglob("vmlinux*") if path.is_file() and not path.is_symlink()]
            (dest / "modules").mkdir(parents=True)
            shutil.move(found[0], dest / "vmlinux")
            for path in Path(work).rglob("*.ko"):
                shutil.move(path, dest / "modules" / path.name)

    return once(f"debug/{series}-{digest(release, repr(MODULES))}", make)


def dump(series: Series) -> Path:
    """A directory as kdump-save leaves it, in which the crash of a system at work was saved."""

    def make(dest: Path) -> None:
        say(f"a crash of kernel {series} (once, three minutes)")
        with (
            tempfile.TemporaryDirectory(prefix=".crash.", dir=cache()) as work,
            open_root(generator="dracut") as root,
        ):
            _crash(series, root, Path(work), dest)

    recipe = digest(WORK, BUSY, CAPTURE, repr(MODULES), base.layer("dracut").name)
    return once(f"dumps/{series}-{digest(packages.release(series), recipe)}", make)


def dump_id(series: Series) -> str:
    return f"{DUMP_ID}-{packages.release(series)}"


def place_dump(series: Series, directory: Path) -> None:
    """As kdump-save would have left it in DIRECTORY."""
    home = directory / dump_id(series)
    home.mkdir(parents=True)
    for name in ("vmcore", "dmesg.txt"):
        shutil.copy(dump(series) / name, home)
    (home / "meta").write_text(META.format(release=packages.release(series)))


def _crash(series: Series, root: ArchRoot, work: Path, dest: Path) -> None:
    kernel, release = packages.vmlinuz(series), packages.release(series)
    level = choose("auto", (release,), root.versions()["makedumpfile"])
    here = root.path / "root/dump"
    (here / "modules").mkdir(parents=True)
    disk = vm.disk_modules(kernel)
    capture = CAPTURE.replace("LEVEL", str(level.value))
    names = "\n".join(Path(name).name for name in disk)
    vm.tiny_initramfs(capture, here / "initrd", {**disk, "modules/order": names.encode()})
    shutil.copy(kernel, here / "vmlinuz")
    (here / "busy.py").write_text(BUSY)
    order = []
    for path in _modules(series):
        name = Path(path).name.removesuffix(".zst")
        (here / "modules" / name).write_bytes(vm.unpack_module(kernel.parent / path))
        order.append(name)
    (here / "order").write_text("".join(f"{name}\n" for name in order))
    root.run_at_boot(WORK, arm=False)
    image = vm.disk_from_root(root.path, work / "disk.img", uuid=ROOT_UUID, size="4G")
    append = f"root=UUID={ROOT_UUID} ro crashkernel=192M quiet mitigations=off systemd.show_status=no"
    done = vm.boot(
        kernel=kernel, initrd=vm.disk_initramfs(kernel, work / "initrd"), append=append, disk=image, memory=1024,
        timeout=600, smp=2,
    )  # fmt: skip
    if "lab: dumped" not in done.console:
        raise LabError(f"no dump came of the crash:\n{done.console[-3000:]}")
    dest.mkdir()
    for name in ("vmcore", "dmesg.txt"):
        (dest / name).write_bytes(vm.read_file(image, f"/root/dump/{name}"))
    (dest / "console.log").write_text(done.console)


def _modules(series: Series) -> list[str]:
    """Paths below the kernel's own directory, in the order in which they can be loaded."""
    return vm.in_order(packages.vmlinuz(series), MODULES)


def _package(name: str, deb: str, work: Path, have: set[str]) -> Path:
    """One of Debian's programs as an Arch package, with the libraries besides those that are there already."""
    debs, tree = work / f"{name}.debs", work / name
    debs.mkdir()
    tree.mkdir()
    found = debian.download(SUITES["7.2"], [deb], debs, also=LIBRARIES)
    for one in found:
        run(["dpkg-deb", "--extract", one, tree])
    version = run(["dpkg-deb", "--field", next(p for p in found if p.name.startswith(f"{deb}_")), "Version"]).stdout
    for part in ("doc", "man", "lintian"):
        shutil.rmtree(tree / "usr/share" / part, ignore_errors=True)
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    for path in [*libraries.glob("*")]:
        if path.name not in have:
            have.add(path.name)
            path.rename(tree / "usr/lib" / path.name)
    shutil.rmtree(libraries)
    return archpkg.write(tree, archpkg.Info(name, archpkg.version_from_debian(version.strip())), work)


def _extract(deb: Path, dest: Path, patterns: Sequence[str]) -> None:
    """Some files of a package; unpacked whole it has 1.8 GB."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as source:
        argv = ["tar", "-C", str(dest), "-xf", "-", "--wildcards", *patterns]
        done = subprocess.run(argv, stdin=source.stdout, capture_output=True, text=True, check=False)
    if source.returncode != 0:
        raise LabError(f"{deb.name}: {done.stderr[-500:]}")
