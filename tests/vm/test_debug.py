"""What debuggers say by a kernel made of BTF and kallsyms, against what they say by Debian's own debug package.

Dumps of both series, taken from a system at work, are opened by `kdump-pkg debug` as a user would do it, in a root in
which pacman has installed the real crash and the real drgn. First nothing but the stock kernels is there; then the
debug package's files are put where it would put them, and the verb has to prefer them. What still differs stands in
this file, and nothing else may.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import debuggers, packages
from tests.lab.common import Text, run
from tests.lab.packages import Series
from tests.lab.root import ArchRoot

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]

REPO = Path(__file__).resolve().parents[2]
BOTH: tuple[Series, ...] = ("6.12", "7.2")
CRASH: Series = "6.12"
"""The one that crash 9.0.2 can open."""
MARK = "%%"

COMMANDS = """
bt -a                   bt -f                   bt -e                   bt -t                   foreach bt
ps                      ps -m                   ps -t                   ps -p 1                 mod
log                     log -T                  sys                     sys -c                  sys -i
kmem -i                 kmem -s                 kmem -n                 kmem -z                 kmem -V
kmem -v                 kmem -f                 kmem -h                 kmem -o                 kmem -g
kmem -S task_struct     files                   foreach files           vm                      vm -m
foreach vm              net                     net -a                  net -s 1                mount
runq                    runq -t                 runq -g                 irq                     irq -b
irq -a                  irq -s                  timer                   timer -r                dev
dev -p                  dev -i                  dev -d                  struct -o task_struct   struct page
struct module           struct -x list_head     union thread_union      p linux_banner          p init_task
p jiffies               p runqueues             p init_uts_ns           p -x panic_timeout      whatis task_struct
whatis linux_banner     whatis schedule         whatis jiffies          waitq log_wait          fuser /
fuser /mnt/xfs/data     task -R pid,comm        task 1                  dis schedule            dis -r panic+10
dis xfs_file_read_iter  sym panic               sym -q xfs_file         sym -m dm_mod           sym -M
sym -p vfs_read         sig                     ipcs                    swap                    mach
mach -c                 ptov 1000               vtop linux_banner       vtop init_task          rd linux_banner 16
rd -a linux_banner      rd jiffies              sig 1                   pte 8000000000000067    set
gdb info symbol panic   gdb ptype struct page   gdb info address panic  gdb info scope panic    gdb info line panic
search -s linux_banner -l 200 -c Linux
tree -t xarray init_pid_ns.idr
tree -t maple -N sparse_irqs
list task_struct.tasks -h init_task -s task_struct.pid,comm
list -H modules module.list -s module.name
list -H super_blocks super_block.s_list -s super_block.s_id
"""
MODULES = """
mod -S                  mod -t                  sym xfs_file_read_iter  struct xfs_mount        struct -o tun_struct
struct dm_target        whatis xfs_iget         p loop_index_idr        dis loop_add            struct -x ovl_fs
"""
"""After these, so that those before see the modules as they are without files."""

LOCATIONS = re.compile(r"(?:(?<= )| )(?:\.\./|debian/)\S+: \d+ ?$", re.MULTILINE)
"""File and line, at the end of crash's lines."""
NUMBER = re.compile(r"\d+")
DIFFERENCES = {
    "gdb info scope panic": "BTF knows no local variables",
    "gdb info line panic": "nor lines",
    "p loop_index_idr": "nor types of a module's variables",
}
"""What a made kernel can't say, and why. Besides these: files and lines, and of how many dimensions an array is."""


def words(text: str) -> list[str]:
    return [command for line in text.strip().splitlines() for command in re.split(r" {2,}", line.strip())]


@dataclass(frozen=True)
class Opened:
    """A root with dumps, kernels and debuggers in it."""

    root: ArchRoot

    def debug(self, series: Series, *args: str, check: bool = True, stdin: str | None = None) -> Text:
        """The verb on the dump of this series."""
        argv = ["kdump-pkg", "debug", debuggers.dump_id(series), *args]
        return self.root.run(argv, check=check, stdin=stdin, timeout=600)

    def crash(self, commands: Sequence[str]) -> dict[str, str]:
        """What each command says."""
        marked = [part for n, command in enumerate(commands) for part in (f"gdb echo {MARK}{n}\\n", command)]
        args = [arg for one in marked for arg in ("--command", one)]
        said = self.debug(CRASH, "--tool", "crash", *args).stdout
        parts = re.split(rf"{MARK}(\d+)\n", said)
        return {commands[int(n)]: text for n, text in zip(parts[1::2], parts[2::2], strict=True)}

    def drgn(self, series: Series, commands: Mapping[str, str]) -> dict[str, str]:
        """The value of each expression, by name."""
        args = [arg for one in commands.values() for arg in ("--command", one, "--command", f"print('{MARK}')")]
        said = self.debug(series, "--tool", "drgn", *args).stdout
        return dict(zip(commands, said.split(f"{MARK}\n"), strict=False))

    def home(self, series: Series) -> Path:
        """Where debug files of this kernel are."""
        return self.root.path / "usr/lib/debug/lib/modules" / packages.release(series)

    def install_debug_package(self, series: Series) -> None:
        run(["cp", "--sparse=always", debuggers.real(series) / "vmlinux", self.home(series) / "vmlinux"])
        shutil.copytree(debuggers.real(series) / "modules", self.home(series) / "kernel")

    def remove_debug_package(self, series: Series) -> None:
        (self.home(series) / "vmlinux").unlink()
        shutil.rmtree(self.home(series) / "kernel")

    def dump(self, series: Series) -> Path:
        return self.root.path / "var/crash" / debuggers.dump_id(series)


@pytest.fixture(scope="module")
def opened(lab: None) -> Iterator[Opened]:
    with debuggers.open_debuggers() as root:
        for package in (packages.kdump_pkg(REPO), *(packages.kernel(series) for series in BOTH)):
            run(["bsdtar", "-xf", package, "-C", root.path, "--exclude", ".*", "--exclude", "boot"])
        for series in BOTH:
            debuggers.place_dump(series, root.path / "var/crash")
        yield Opened(root)


def test_prepare_makes_the_kernel_once(opened: Opened) -> None:
    path = opened.home("7.2") / "vmlinux.made"
    said = opened.debug("7.2", "--prepare")
    assert said.stdout == f"/{path.relative_to(opened.root.path)}\n"
    before = path.stat().st_mtime_ns
    assert opened.debug("7.2", "--prepare").stdout == said.stdout
    assert path.stat().st_mtime_ns == before
    held = path.stat().st_blocks * 512
    assert held < 40 << 20, "not sparse"


def test_crash_says_the_same(opened: Opened) -> None:
    commands = [*words(COMMANDS), *words(MODULES)]
    assert len(commands) > 100
    made = opened.crash(commands)
    opened.install_debug_package(CRASH)
    try:
        real = opened.crash([*commands, "bt -l"])
    finally:
        opened.remove_debug_package(CRASH)
    assert re.search(r"kernel/panic\.c: \d+$", real.pop("bt -l"), re.MULTILINE), "not opened by the real one"
    assert set(made) == set(real) == set(commands)
    same = {one for one in commands if plain(made[one]) == plain(real[one])}
    assert {one: (real[one][:400], made[one][:400]) for one in commands if one not in same | DIFFERENCES.keys()} == {}
    assert not same & DIFFERENCES.keys(), "say more than this file knows"
    empty = {one for one in commands if not real[one].strip()}
    assert empty <= {"waitq log_wait"}, "a command that says nothing shows nothing"


def plain(said: str) -> str:
    """Without the names of files, without file and line of the source, and with arrays as BTF has them."""
    named = re.sub(r"/usr/lib/debug/lib/modules/\S+?/(?:kernel|made)/([\w-]+)\.ko *", "FILE", said)
    named = re.sub(r"/usr/lib/debug/\S+/vmlinux\S*", "VMLINUX", named)
    flat = re.sub(r"(?:\[\d+\]){2,}", lambda found: f"[{math.prod(map(int, re.findall(NUMBER, found[0])))}]", named)
    return re.sub(r" +$", "", LOCATIONS.sub("", flat), flags=re.MULTILINE)


def test_what_crash_cannot_open_is_opened_by_drgn(opened: Opened) -> None:
    done = opened.debug("7.2", "--command", "prog['init_task'].comm")
    assert done.stdout == '(char [16])"swapper/0"\n'
    assert "crash 9.0.2 can't open dumps of Linux 7.1 and later" in done.stderr
    refused = opened.debug("7.2", "--tool", "crash", "--command", "bt", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "(--tool drgn, or --force)" in refused.stderr
    tried = opened.debug("7.2", "--tool", "crash", "--force", "--command", "bt", check=False)
    assert tried.returncode == 1
    assert "module_num_gpl_syms" in tried.stdout + tried.stderr, "crash can do it now: mend plan/readers.py"


EXPRESSIONS = {
    "trace": "trace = prog.crashed_thread().stack_trace()",
    "frames": "[f.name.removesuffix('.cold') for f in trace if not f.is_inline and f.pc >> 63][:-1]",
    "addresses": "[hex(f.pc) for f in trace if not f.is_inline]",
    "tasks": "[(t.pid.value_(), t.comm.string_(), task_state_to_char(t)) for t in for_each_task(prog)]",
    "log": "print(get_dmesg(prog).decode())",
    "modules": "[(m.name, m.build_id.hex(), [hex(a) for a, _ in m.address_ranges]) for m in prog.modules()]",
    "symbols": "[prog.symbol(n) for n in ('xfs_file_read_iter', 'tun_get_user', 'dm_table_add_target', 'loop_add')]",
    "types": "prog.type('struct xfs_mount')",
    "kernel types": "prog.type('struct task_struct')",
    "member": "prog.type('struct tun_struct').member('dev')",
    "mounts": "[(mount_src(m), mount_dst(m), mount_fstype(m)) for m in for_each_mount(prog)]",
    "slab": "[(c.name.string_(), c.object_size.value_()) for c in for_each_slab_cache(prog)]",
    "disks": "[disk_name(d) for d in for_each_disk(prog)]",
    "root": "root = prog['cgrp_dfl_root'].cgrp.self.address_of_()",
    "cgroups": "[cgroup_path(c.cgroup) for c in css_for_each_descendant_pre(root)]",
    "maps": "[(hex(v.vm_start), hex(v.vm_end)) for v in for_each_vma(find_task(prog, 1).mm)]",
    "stacks": "[sum(not f.is_inline for f in prog.stack_trace(t.pid.value_())) for t in for_each_task(prog) if t.pid]",
    "variable": "prog['init_uts_ns'].name",
    "per CPU": "[per_cpu(prog['runqueues'], cpu).nr_running.value_() for cpu in for_each_online_cpu(prog)]",
    "taint": "prog['tainted_mask']",
}
"""A part of a function that was moved away has a symbol of its own, and the entry to the kernel has several."""


@pytest.mark.parametrize("series", BOTH)
def test_drgn_says_the_same(opened: Opened, series: Series) -> None:
    made = opened.drgn(series, EXPRESSIONS)
    opened.install_debug_package(series)
    try:
        real = opened.drgn(series, EXPRESSIONS | {"locals": "trace[1].locals()", "source": "print(trace[1])"})
    finally:
        opened.remove_debug_package(series)
    assert "kernel/crash_core.c" in real.pop("source"), "not opened by the real one"
    assert "regs" in real.pop("locals")
    frames = json.loads(made["frames"].replace("'", '"'))
    assert frames[0] == "__crash_kexec" and {"panic", "sysrq_handle_crash", "ksys_write"} <= set(frames), frames
    assert "sysrq: Trigger a crash" in made["log"]
    assert len(made["tasks"].split("), (")) > 50
    assert made["symbols"].count("Symbol(") == 4
    pairs = {name: (plain(real[name]), plain(made[name])) for name in EXPRESSIONS}
    different = {name: (one[:300], other[:300]) for name, (one, other) in pairs.items() if one != other}
    assert different == {}


def test_what_does_not_belong_together_is_refused(opened: Opened) -> None:
    """A kernel of another build under the same release, as after a rebuild; and a file in the place of another."""
    release = packages.release(CRASH)
    image = opened.root.path / "usr/lib/modules" / release / "vmlinuz"
    kept = image.read_bytes()
    made = opened.home(CRASH) / "vmlinux.made"
    made.unlink(missing_ok=True)
    try:
        image.write_bytes(packages.vmlinuz("7.2").read_bytes())
        refused = opened.debug(CRASH, "--command", "bt", check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.search(rf"ERROR: .*{re.escape(release)}.*[0-9a-f]{{40}}.*another build.*--force", refused.stderr)
        tried = opened.debug(CRASH, "--force", "--tool", "drgn", "--command", "prog['init_task'].comm", check=False)
        assert "WARNING" in tried.stderr and "Traceback" not in tried.stderr
        image.unlink()
        gone = opened.debug(CRASH, "--force", "--command", "bt", check=False)
        assert gone.returncode == 1 and "no kernel image of it is left" in gone.stderr, gone.stderr
    finally:
        image.write_bytes(kept)
        made.unlink(missing_ok=True)
    moved, other = opened.dump("7.2") / "vmcore", opened.dump(CRASH) / "vmcore"
    moved.rename(moved.with_name("away"))
    try:
        shutil.copy(other, moved)
        wrong = opened.debug("7.2", "--command", "bt", check=False)
        assert wrong.returncode == 1 and "the memory in it is of" in wrong.stderr, wrong.stderr
        assert "at-boot" in opened.debug("7.2", "--force", "--command", "bt").stdout
    finally:
        moved.with_name("away").rename(moved)


def test_a_dump_that_was_cut_short_ends_in_one_line(opened: Opened) -> None:
    vmcore = opened.dump(CRASH) / "vmcore"
    whole = vmcore.read_bytes()
    try:
        vmcore.write_bytes(whole[: len(whole) * 6 // 10])
        for tool, command in (("crash", "bt"), ("drgn", "prog.crashed_thread().stack_trace()")):
            refused = opened.debug(CRASH, "--tool", tool, "--command", command, check=False)
            assert (refused.returncode, refused.stdout) == (1, "")
            assert len(refused.stderr.splitlines()) == 1 and "truncated" in refused.stderr, refused.stderr
            tried = opened.debug(CRASH, "--force", "--tool", tool, "--command", command, check=False)
            assert tried.returncode == 1 and "Traceback" not in tried.stdout + tried.stderr
            assert ("kdump-pkg verify" if tool == "crash" else "FaultError") in tried.stderr, tried.stderr
    finally:
        vmcore.write_bytes(whole)


@pytest.mark.parametrize(
    ("tool", "prompt", "typed", "answer"),
    [
        ("crash", "crash> ", "bt", "sysrq_handle_crash"),
        ("drgn", ">>> ", "prog.crashed_thread().stack_trace()", "sysrq_handle_crash"),
    ],
)
def test_the_prompt_is_on_the_terminal(opened: Opened, tool: str, prompt: str, typed: str, answer: str) -> None:
    (opened.root.path / "root/terminal.py").write_text(TERMINAL)
    argv = ["kdump-pkg", "debug", debuggers.dump_id(CRASH), "--tool", tool]
    done = opened.root.run(["python3", "/root/terminal.py", prompt, typed, *argv], env={"TERM": "linux"}, timeout=300)
    assert answer in done.stdout, done.stdout[-3000:]


TERMINAL = r"""
import os, pty, select, sys, time
prompt, typed, argv = sys.argv[1], sys.argv[2], sys.argv[3:]
child, master = pty.fork()
if not child:
    os.execvp(argv[0], argv)
seen, lines, end = b"", [f"{typed}\n", "exit()\n" if "drgn" in argv else "exit\n"], time.monotonic() + 200
while time.monotonic() < end:
    if select.select([master], [], [], 0.5)[0]:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        seen += data
        sys.stdout.write(data.decode(errors="replace"))
    elif lines and prompt.strip().encode() in seen:
        os.write(master, lines.pop(0).encode())
        seen = b""
else:
    os.kill(child, 9)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_status_knows_what_could_be_opened(opened: Opened) -> None:
    said = json.loads(opened.root.run(["kdump-pkg", "status", "--json"], check=False).stdout)
    found = {one["part"]: one for one in said["findings"]}
    assert found["debuggers"]["state"] == "ok"
    assert "crash 9.0.2-1 and drgn 0.3.0-1" in found["debuggers"]["text"]
    assert "crash 9.0.2 can't open dumps of Linux 7.1 and later" in found["debuggers"]["text"]
