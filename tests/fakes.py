"""Fakes are data, not patches: trees from dictionaries, a runner with a script, kernels and packages made by hand."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.model import Boot, Config, Facts, Kernel, ModuleIndex, OwnFile, SystemImages, Target
from kdump_pkg.run import Result, explain

RELEASE = "6.12.1-arch1-1"
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
UUID = "0f0e0d0c-1111-2222-3333-444455556666"
DEFAULTS = Config()


# --- trees --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    target: str


@dataclass(frozen=True)
class Hole:
    """A sparse file of zeros."""

    size: int


Entry = str | bytes | Link | Hole | None
"""Content of a file, a symlink, a sparse file; None is an empty directory."""


def make_tree(root: Path, entries: Mapping[str, Entry]) -> None:
    """Make files under ROOT; names may start with a slash."""
    for name, entry in entries.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case None:
                path.mkdir(exist_ok=True)
            case Link():
                path.symlink_to(entry.target)
            case Hole():
                with path.open("wb") as file:
                    file.truncate(entry.size)
            case str():
                path.write_text(entry, encoding="utf-8", errors="surrogateescape")
            case bytes():
                path.write_bytes(entry)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a test can compare: mode, and of files also time, inode and content (of large ones: the size)."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            facts = path.lstat()
            content: object = None
            if path.is_symlink():
                content = os.readlink(path)  # noqa: PTH115 - as it is written
            elif path.is_file():
                content = path.read_bytes() if facts.st_size < 1 << 24 else facts.st_size
            time = None if path.is_dir() and not path.is_symlink() else (facts.st_mtime_ns, facts.st_ino)
            found[os.fspath(path.relative_to(root))] = (facts.st_mode, time, content)
    return found


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """A pipe with these bytes in it as descriptor 0."""
    reader, writer = os.pipe()
    saved = os.dup(0)
    try:
        os.write(writer, data)
        os.close(writer)
        os.dup2(reader, 0)
        yield
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(reader)


# --- programs -----------------------------------------------------------------------------------------------------

Answer = int | str | bytes | CommandError | Result | Callable[["Call"], "Answer"]
"""Exit code, standard output, an error to raise, a whole result, or a function that gives one of these."""


@dataclass(frozen=True)
class Call:
    argv: tuple[str, ...]
    root: Path | None
    stdin: bytes | None
    timeout: float | None


@dataclass
class FakeRunner:
    """Answers by the longest matching beginning of the argv; a program without an answer isn't installed."""

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        capture: bool = True,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        call = Call(tuple(argv), root, stdin, timeout)
        self.calls.append(call)
        line = " ".join(argv)
        fitting = [prefix for prefix in self.answers if line == prefix or line.startswith(f"{prefix} ")]
        if not fitting:
            raise CommandError(f"{argv[0]}: not found", hint=f"install it: pacman -S {argv[0]}")
        result = self._result(call, self.answers[max(fitting, key=len)])
        if check and result.returncode != 0:
            raise explain(result)
        return result

    def _result(self, call: Call, answer: Answer) -> Result:
        if callable(answer):
            return self._result(call, answer(call))
        if isinstance(answer, CommandError):
            raise answer
        if isinstance(answer, Result):
            return answer
        if isinstance(answer, int):
            return Result(call.argv, answer, b"", b"")
        return Result(call.argv, 0, answer.encode() if isinstance(answer, str) else answer, b"")

    def lines(self, program: str = "") -> list[str]:
        """The command lines so far, of one program or of all."""
        return [" ".join(c.argv) for c in self.calls if not program or c.argv[0] == program]


def failing(argv: Sequence[str], code: int = 1, stderr: str = "") -> Result:
    return Result(tuple(argv), code, b"", stderr.encode())


# --- kernels ------------------------------------------------------------------------------------------------------


def note(build_id: str = BUILD_ID, name: bytes = b"GNU\0", kind: int = 3) -> bytes:
    """An ELF note; kind 3 of GNU is the build ID."""
    desc = bytes.fromhex(build_id)
    return struct.pack("<III", len(name), len(desc), kind) + name + desc + b"\0" * (-len(desc) % 4)


def elf(build_id: str | None = BUILD_ID, sections: Sequence[str] = (), *, notes: bytes | None = None) -> bytes:
    """A 64-bit ELF file with one note segment and empty sections of these names."""
    data = notes if notes is not None else note(build_id) if build_id else b""
    names = ["", *sections, ".shstrtab"]
    table = b"\0".join(n.encode() for n in names) + b"\0"
    offset_notes = 64 + 56
    offset_table = offset_notes + len(data)
    offset_sections = (offset_table + len(table) + 7) & ~7
    header = (
        b"\x7fELF\x02\x01\x01"
        + b"\0" * 9
        + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, offset_sections, 0, 64, 56, 1, 64, len(names), len(names) - 1)
    )
    segment = struct.pack("<IIQQQQQQ", 4, 4, offset_notes, 0, 0, len(data), len(data), 4)
    body = (header + segment + data + table).ljust(offset_sections, b"\0")
    for number, name in enumerate(names):
        place = 0 if number == 0 else len(b"\0".join(n.encode() for n in names[:number])) + 1
        kind = 0 if number == 0 else 3 if name == ".shstrtab" else 1
        size, where = (len(table), offset_table) if name == ".shstrtab" else (0, offset_notes)
        body += struct.pack("<IIQQQQIIQQ", place, kind, 0, 0, where, size, 0, 0, 1, 0)
    return body


def zstd_stored(data: bytes) -> bytes:
    """A Zstandard frame of stored blocks (RFC 8878), so that no compressor is needed to make one."""
    out = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", len(data))
    pieces = [data[i : i + 0x10000] for i in range(0, len(data), 0x10000)] or [b""]
    for number, piece in enumerate(pieces):
        last = number == len(pieces) - 1
        out += struct.pack("<I", len(piece) << 3 | last)[:3] + piece
    return out


def lz4_stored(data: bytes) -> bytes:
    """LZ4's legacy frame, as the kernel uses it, with one block of literals only."""
    count = len(data)
    head = bytes([min(count, 15) << 4])
    if count >= 15:
        head += b"\xff" * ((count - 15) // 255) + bytes([(count - 15) % 255])
    return b"\x02\x21\x4c\x18" + struct.pack("<I", len(head) + count) + head + data


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32) + struct.pack("<I", len(data)),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE) + struct.pack("<I", len(data)),
    "zstd": lambda data: zstd_stored(data) + struct.pack("<I", len(data)),
    "lz4": lambda data: lz4_stored(data) + struct.pack("<I", len(data)),
    "plain": lambda data: data,
}


def bzimage(payload: bytes | None = None, *, release: str = RELEASE, protocol: int = 0x20F, setup: int = 1) -> bytes:
    """A bzImage as far as its header names it: boot sector, set-up code with the version string, payload."""
    data = PACKERS["gzip"](elf()) if payload is None else payload
    version = f"{release} (builder@host) #1 SMP".encode() + b"\0"
    head = bytearray((setup + 1) * 512 if setup else 5 * 512)
    head[0x1F1] = setup
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<HH", head, 0x206, protocol, 0)
    struct.pack_into("<H", head, 0x20E, 0x280 - 0x200)
    head[0x280 : 0x280 + len(version)] = version
    struct.pack_into("<II", head, 0x248, 64, len(data))
    return bytes(head) + b"\x90" * 64 + data + b"\x90" * 64


# --- packages and whole systems -------------------------------------------------------------------------------------


def pacman_db(packages: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, Entry]:
    """The local database of these packages: name to version and files."""
    tree: dict[str, Entry] = {"/var/lib/pacman/local/ALPM_DB_VERSION": "9\n"}
    for name, (version, files) in packages.items():
        home = f"/var/lib/pacman/local/{name}-{version}"
        tree[f"{home}/desc"] = f"%NAME%\n{name}\n\n%VERSION%\n{version}\n\n%ARCH%\nx86_64\n\n%SIZE%\n1\n\n"
        tree[f"{home}/files"] = "%FILES%\n" + "".join(f"{f.lstrip('/')}\n" for f in files) + "\n"
    return tree


MODULES_DEP = """\
kernel/drivers/virtio/virtio.ko.zst:
kernel/drivers/virtio/virtio_ring.ko.zst: kernel/drivers/virtio/virtio.ko.zst
kernel/drivers/virtio/virtio_pci.ko.zst: kernel/drivers/virtio/virtio_ring.ko.zst kernel/drivers/virtio/virtio.ko.zst
kernel/drivers/block/virtio_blk.ko.zst: kernel/drivers/virtio/virtio_ring.ko.zst kernel/drivers/virtio/virtio.ko.zst
kernel/fs/jbd2/jbd2.ko.zst:
kernel/fs/mbcache.ko.zst:
kernel/fs/ext4/ext4.ko.zst: kernel/fs/jbd2/jbd2.ko.zst kernel/fs/mbcache.ko.zst
kernel/crypto/crc32c_generic.ko.zst:
"""


def kernel_tree(release: str = RELEASE, pkgbase: str | None = "linux", image: Entry = b"") -> dict[str, Entry]:
    """One kernel as its package lays it out; IMAGE instead of a good vmlinuz."""
    home = f"/usr/lib/modules/{release}"
    tree: dict[str, Entry] = {
        f"{home}/vmlinuz": bzimage(release=release) if image == b"" else image,
        f"{home}/modules.dep": MODULES_DEP,
        f"{home}/modules.softdep": "softdep ext4 pre: crypto-crc32c\n",
        f"{home}/modules.alias": "alias crypto-crc32c crc32c_generic\nalias fs-ext4 ext4\nalias pci:v1 virtio_pci\n",
        f"{home}/modules.builtin": "kernel/drivers/scsi/sd_mod.ko\n",
    }
    return tree | ({f"{home}/pkgbase": f"{pkgbase}\n"} if pkgbase else {})


MKINITCPIO_HOOKS = ("base", "systemd", "autodetect", "microcode", "modconf", "kms", "keyboard", "block", "filesystems")


def system_tree() -> dict[str, Entry]:
    """An Arch-like root: one kernel, mkinitcpio, an ext4 root in fstab, all packages that matter."""
    packages = {
        "linux": ("6.12.1.arch1-1", (f"/usr/lib/modules/{RELEASE}/vmlinuz",)),
        "makedumpfile": ("1.7.9-1", ("/usr/bin/makedumpfile",)),
        "kexec-tools": ("2.0.32-1", ("/usr/bin/kexec",)),
        "mkinitcpio": ("41-1", ("/usr/bin/mkinitcpio",)),
        "mkinitcpio-busybox": ("1.36.1-1", ()),
    }
    return {
        **kernel_tree(),
        **pacman_db(packages),
        "/etc/fstab": f"# the root\nUUID={UUID} / ext4 rw,relatime 0 1\ntmpfs /tmp tmpfs rw 0 0\n",
        "/etc/mkinitcpio.conf": f"MODULES=()\nBINARIES=()\nFILES=()\nHOOKS=({' '.join(MKINITCPIO_HOOKS)})\n",
        "/usr/bin/mkinitcpio": "#!/bin/bash\n",
        "/usr/bin/makedumpfile": "",
        "/usr/lib/kdump-pkg/kdump-save": "#!/bin/sh\n",
        "/boot": None,
        "/proc/self/mountinfo": "",
        "/run/kdump-pkg.lock": "",
        "/var/crash": None,
    }


def bash_arrays(**arrays: Sequence[str]) -> bytes:
    """What facts/generator's bash prints."""
    values = {"HOOKS": MKINITCPIO_HOOKS, "MODULES": (), "BINARIES": (), "FILES": (), **arrays}
    out = "".join(f"={name}\0" + "".join(f"+{word}\0" for word in words) for name, words in values.items())
    return f"{out}=END\0".encode()


def building(root: Path, fingerprint: str | None = None) -> Callable[[Call], Answer]:
    """A mkinitcpio that puts the fingerprint of the capture file into its image, as install/kdump does."""

    def build(call: Call) -> Answer:
        from kdump_pkg.render import cpio_archive

        out = root / call.argv[call.argv.index("-g") + 1].lstrip("/")
        text = (root / "var/lib/kdump-pkg/capture.env").read_text()
        mark = fingerprint or text.split("KDUMP_FINGERPRINT='")[1].split("'")[0]
        out.write_bytes(cpio_archive("kdump/fingerprint", f"{mark}\n".encode()) + b"\x1f\x8b rest of the image")
        return 0

    return build


@dataclass(frozen=True)
class LiveContext(Context):
    """A root that takes itself for the running system: what is read under `/proc` and `/sys` there counts."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str, *, follow: bool = True) -> Path:
        return Context(self.root, self.runner, self.clock).path(name, follow=follow)


def system_runner(root: Path) -> FakeRunner:
    """The programs of `system_tree`."""
    return FakeRunner({"/bin/bash": bash_arrays(), "mkinitcpio": building(root)})


# --- facts --------------------------------------------------------------------------------------------------------


def kernel(release: str = RELEASE, pkgbase: str | None = "linux", **changes: object) -> Kernel:
    """A kernel in good order."""
    image = f"/usr/lib/modules/{release}/vmlinuz"
    values: dict[str, object] = {
        "vmlinuz": image,
        "package": pkgbase,
        "version": "1-1",
        "build_id": BUILD_ID,
        "stamp": "1:1",
        "sources": f"{image}=1:1",
    }
    return Kernel(release=release, pkgbase=pkgbase, **(values | changes))  # type: ignore[arg-type]


def module_index(release: str = RELEASE) -> ModuleIndex:
    """What `kernels.read_modules` makes of MODULES_DEP."""
    depends = {}
    for line in MODULES_DEP.splitlines():
        file, _, needs = line.partition(":")
        depends[file] = tuple(needs.split())
    names = {file.rsplit("/", 1)[1].removesuffix(".ko.zst"): file for file in depends}
    soft: dict[str, tuple[str, ...]] = {"ext4": ("crypto-crc32c",)}
    aliases: dict[str, tuple[str, ...]] = {"crypto_crc32c": ("crc32c_generic",), "fs_ext4": ("ext4",)}
    return ModuleIndex(release, names, depends, soft, aliases, frozenset({"sd_mod"}))


def target(**changes: object) -> Target:
    values: dict[str, object] = {
        "device": f"UUID={UUID}",
        "fstype": "ext4",
        "path": "/var/crash",
        "drivers": ("virtio_pci", "virtio_blk"),
        "source": "mounted on /",
    }
    return Target(**(values | changes))  # type: ignore[arg-type]


def live_boot(**changes: object) -> Boot:
    """A running system with a reservation and nothing loaded."""
    values: dict[str, object] = {
        "running": RELEASE,
        "cmdline": f"BOOT_IMAGE=/vmlinuz-linux root=UUID={UUID} rw quiet crashkernel=256M console=ttyS0",
        "crash_loaded": False,
        "crash_size": 256 << 20,
        "load_disabled": False,
        "lockdown": "none",
        "memory_total": 1 << 30,
    }
    return Boot(**(values | changes))  # type: ignore[arg-type]


def facts(**changes: object) -> Facts:
    """A machine on which everything is installed and nothing was done yet."""
    values: dict[str, object] = {
        "kernels": (kernel(),),
        "boot": live_boot(),
        "targets": (target(),),
        "images": SystemImages("mkinitcpio", "41-1", "systemd", MKINITCPIO_HOOKS, sources=("/etc/mkinitcpio.conf",)),
        "modules": module_index(),
        "tools": {"makedumpfile": "1.7.9-1", "kexec-tools": "2.0.32-1", "mkinitcpio": "41-1"},
        "derived": OwnFile("/etc/mkinitcpio-kdump.conf", None),
        "preset": OwnFile("/etc/mkinitcpio.d/kdump.preset", None),
        "units": {"kdump.service": True},
    }
    return Facts(**(values | changes))  # type: ignore[arg-type]
