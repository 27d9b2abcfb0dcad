"""The kernel that `variant build --debug-kernel` makes: installed by pacman, booted, armed, crashed;
its dump opened by the real crash and the real drgn, with the lines of the source that it was built from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from kdump_pkg.facts import elf
from tests.lab import debug_kernel, debuggers, packages, vm
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = [
    pytest.mark.vm,
    pytest.mark.usefixtures("lab"),
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not debug_kernel.is_built(),
        reason="the lab has no debug kernel; python -m tests.lab.debug_kernel builds it, once, in a quarter of an hour",
    ),
]
REPO = Path(__file__).resolve().parents[2]
CONFIG = "drivers = virtio_pci, virtio_blk\n"
# An emulated machine builds and boots its image for minutes with the usual hooks.
MKINITCPIO = "HOOKS=(base)\nMODULES=(virtio_pci virtio_blk ext4)\n"
CRASH = """#!/bin/sh
{
    uname -r
    kdump-pkg status
    sync
    echo c >/proc/sysrq-trigger
} 2>&1 | cat >/dev/ttyS0
"""
CALLED = {
    "__handle_sysrq": "drivers/tty/sysrq.c",
    "write_sysrq_trigger": "drivers/tty/sysrq.c",
    "proc_reg_write": "fs/proc/inode.c",
    "vfs_write": "fs/read_write.c",
    "ksys_write": "fs/read_write.c",
}
"""What the crashed thread came through, and where that is. sysrq_handle_crash is not among it: it jumps to panic."""
INLINED = {"proc_reg_write": "pde_write"}
"""Of whose lines crash speaks in the place of the function that it has become part of."""
MODULE = {"kjournald2": "fs/jbd2/journal.c"}
"""A thread that waits in a module, of the root's own file system."""
FRAME = re.compile(r"^ *#\d+ \[[0-9a-f]+\] (\w+) at [0-9a-f]+(?: \[(\w+)\])?\n +(\S+): (\d+) *$", re.MULTILINE)
"""Two lines of crash's `bt -l`: function and, of a module, its name; file and line."""
DRGN_FRAME = re.compile(r"^#\d+ +(\w+) \(([^\s:]+):(\d+):\d+\)$", re.MULTILINE)


@dataclass(frozen=True)
class Line:
    file: str
    number: int


@dataclass(frozen=True)
class Crashed:
    """A root with the dump of its own kernel in it."""

    root: ArchRoot
    console: str

    def debug(self, tool: str, *commands: str) -> str:
        words = [word for command in commands for word in ("--command", command)]
        done = self.root.run(["kdump-pkg", "debug", "--tool", tool, *words], timeout=900)
        return done.stdout

    @cached_property
    def bt(self) -> str:
        return self.debug("crash", "bt -l")

    @property
    def modules(self) -> Path:
        return self.root.path / "usr/lib/modules" / debug_kernel.release()

    @property
    def kept(self) -> Path:
        return self.root.path / "usr/lib/debug/lib/modules" / debug_kernel.release()


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    home = tmp_path_factory.mktemp("debug-kernel")
    with open_root(generator=default_generator(), above=[debuggers.tools()]) as root:
        (root.path / "etc/kdump-pkg.conf").write_text(CONFIG)
        if root.generator == "mkinitcpio":
            (root.path / "etc/mkinitcpio.conf.d/lab.conf").write_text(MKINITCPIO)
        debug_kernel.add_depmod_hook(root)
        done = root.pacman("-U", debug_kernel.built(), packages.kdump_pkg(REPO), timeout=1800)
        assert "command failed to execute correctly" not in done.stdout + done.stderr, done.stdout + done.stderr
        root.run_at_boot(CRASH)
        console = crash(root, home)
        yield Crashed(root, console)


def crash(root: ArchRoot, home: Path) -> str:
    """Booted with its own modules, by the lab's first stage, for Debian's busybox has a modprobe that mkinitcpio's
    images are nothing to. The dump is put into the root, as if it had left it there.
    """
    kernel = root.path / "usr/lib/modules" / debug_kernel.release() / "vmlinuz"
    disk = vm.disk_from_root(root.path, home / "disk.img", uuid=ROOT_UUID, size="6G")
    append = (
        f"root=UUID={ROOT_UUID} ro crashkernel=256M panic=5 console=ttyS0 quiet mitigations=off systemd.show_status=no"
    )
    done = vm.boot(kernel=kernel, initrd=first_stage(kernel, home / "initrd"), append=append, disk=disk, timeout=1200)
    assert re.search(r"kdump-save: saved .* result=complete", done.console), done.console[-6000:]
    (name,) = vm.list_dir(disk, "/var/crash")
    dump = root.path / "var/crash" / name
    dump.mkdir(parents=True)
    for file in ("vmcore", "dmesg.txt", "meta"):
        (dump / file).write_bytes(vm.read_file(disk, f"/var/crash/{name}/{file}"))
    disk.unlink()
    return done.console


def first_stage(kernel: Path, dest: Path) -> Path:
    """With what ext4 asks for by an alias, which a plain insmod knows nothing of."""
    order = vm.in_order(kernel, ("crc32c_generic", *vm.DISK_MODULES))
    files = {f"modules/{Path(path).stem}": vm.unpack_module(kernel.parent / path) for path in order}
    names = "\n".join(Path(path).stem for path in order)
    return vm.tiny_initramfs(vm.SWITCH, dest, {**files, "modules/order": names.encode()})


def source_of(name: str) -> str:
    """Its path in the source, of the one that the build had."""
    found = re.fullmatch(r"/var/cache/kdump-pkg/debug-kernel/src/linux/(\S+)", name)
    assert found, f"{name} is no file of the source"
    return found[1]


def assert_inside(function: str, line: Line, texts: Sequence[str]) -> None:
    """The line is in the body of that function, which ends, in the kernel's style, with a brace at column 0."""
    above = [n for n in range(line.number) if re.match(rf"(?![\s#/*]).*\b{function}\(", texts[n])]
    assert above, f"{line.file}:{line.number} is before {function}"
    end = next(n for n in range(above[-1], len(texts)) if texts[n].startswith("}")) + 1
    assert above[-1] < line.number <= end, f"{line.file}:{line.number} is not in {function}"


def test_is_a_kernel_like_any_other(crashed: Crashed) -> None:
    """By the name in its `pkgbase`, which the hooks of Arch go by; modules as small as everybody's."""
    assert (crashed.modules / "pkgbase").read_text() == "linux-dwarf\n"
    if crashed.root.generator == "mkinitcpio":
        assert (crashed.root.path / "etc/mkinitcpio.d/linux-dwarf.preset").is_file()
        assert (crashed.root.path / "boot/initramfs-linux-dwarf.img").is_file()
        copied = crashed.root.path / "boot/vmlinuz-linux-dwarf"
        assert copied.read_bytes() == (crashed.modules / "vmlinuz").read_bytes()
    module = next(crashed.modules.rglob("ext4.ko.zst"))
    assert elf.inspect_bytes(vm.unpack_module(module), "ext4").abilities != "DWARF"
    assert not list(crashed.modules.rglob("*.ko"))
    assert debug_kernel.release() in crashed.console.split()
    assert "armed: a crash now would be saved to /var/crash" in crashed.console


def test_its_vmlinux_is_kept(crashed: Crashed) -> None:
    facts = elf.inspect_file(crashed.kept / "vmlinux")
    assert facts.abilities == "DWARF"
    assert facts.build_id
    link = crashed.root.path / f"usr/lib/debug/.build-id/{facts.build_id[:2]}/{facts.build_id[2:]}.debug"
    assert link.resolve() == (crashed.kept / "vmlinux").resolve()


def test_crash_shows_file_and_line(crashed: Crashed) -> None:
    """Each frame of the crashed thread, against the source."""
    found = {name: Line(source_of(file), int(line)) for name, _, file, line in FRAME.findall(crashed.bt)}
    assert {name: found[name].file for name in CALLED if name in found} == CALLED, crashed.bt
    texts = debug_kernel.source_lines({line.file for line in found.values()})
    for name in CALLED:
        assert_inside(INLINED.get(name, name), found[name], texts[found[name].file])


def test_crash_shows_lines_of_modules(crashed: Crashed) -> None:
    said = crashed.debug("crash", "mod -S", "foreach kernel bt -l")
    found = {name: (module, Line(source_of(file), int(line))) for name, module, file, line in FRAME.findall(said)}
    texts = debug_kernel.source_lines(set(MODULE.values()))
    for name, file in MODULE.items():
        module, line = found[name]
        assert (module, line.file) == ("jbd2", file)
        assert_inside(name, line, texts[file])


def test_drgn_shows_file_and_line(crashed: Crashed) -> None:
    """Of the caller's own line, where crash shows that of the return; and variables of the stack."""
    said = crashed.debug("drgn", "trace = prog.crashed_thread().stack_trace(); print(trace)")
    found = {name: Line(source_of(file), int(line)) for name, file, line in DRGN_FRAME.findall(said)}
    assert {name: found[name].file for name in CALLED if name in found} == CALLED, said
    texts = debug_kernel.source_lines({line.file for line in found.values()})
    for name in CALLED:
        assert_inside(name, found[name], texts[found[name].file])
    at = found["__handle_sysrq"]
    assert "handler(key)" in texts[at.file][at.number - 1]
    frame = "next(f for f in prog.crashed_thread().stack_trace() if f.name == 'ksys_write')"
    assert crashed.debug("drgn", f"print(int({frame}['count']))").strip() == "2"
