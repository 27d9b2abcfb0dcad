"""The whole story on a real root: pacman installs, the machine boots and arms itself, crashes, saves, boots again.

Nothing of the rehearsal is in here: the load is done by kdump.service in the booted system. A boot takes a minute and
more, so two have to do: the first one is set up, gives memory back and is crashed by `kdump-pkg test`; the second one
reports what became of that, takes the setup back and crashes with `capture = system`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg.plan.announcement import MESSAGE_ID
from tests.lab import debuggers, packages, vm
from tests.lab.common import run
from tests.lab.root import ROOT_UUID, ArchRoot, default_generator, open_root

pytestmark = [pytest.mark.vm, pytest.mark.timeout(2700)]

REPO = Path(__file__).resolve().parents[2]
SERIES: packages.Series = "7.2"
MIB = 1 << 20
RESERVED = 256
PARTS = {"capture-dmesg.txt", "dmesg.txt", "meta", "save.log", "vmcore"}
REPORTED = {"report.json", "report.sums", "report.txt"}
OLD = tuple(f"2026-01-0{day}T00-00-00Z-0-old" for day in range(1, 6))
"""Dumps that were there before, of which one is too many with the new one."""
PANIC = "Kernel panic - not syncing: sysrq triggered crash"
# A file system that isn't there: local-fs.target fails, and emergency.target wants the machine for itself.
MISSING = "UUID=00000000-1111-2222-3333-444444444444 /missing ext4 defaults,x-systemd.device-timeout=5 0 2"
GRUB = """# as grub's package has it
GRUB_DEFAULT=0
GRUB_TIMEOUT=5
GRUB_DISTRIBUTOR="Arch"
GRUB_CMDLINE_LINUX_DEFAULT='loglevel=3 quiet'   # and no more
GRUB_CMDLINE_LINUX=""
"""
MKINITCPIO = "HOOKS=(base systemd)\nMODULES=(virtio_pci virtio_blk ext4)\n"
GRUB_SCRIPTS = {"00_header", "10_linux", "40_custom"}
"""Of Debian's those that Arch has, too, and that do something here; each takes seconds."""

# Through a pipe, for what is said to a terminal has colours.
SCRIPT = """#!/bin/sh
step() {
    name=$1
    shift
    echo "%% $name"
    "$@"
    echo "%% exit $?"
}
size() {
    cat /sys/kernel/kexec/crash_size /sys/kernel/kexec_crash_size 2>/dev/null | head -n 1
}
keep() {
    mkdir -p "/root/seen/$1"
    cp /etc/default/grub /boot/grub/grub.cfg "/root/seen/$1"
}
first() {
    step armed kdump-pkg status
    step unload kdump-pkg unload
    step load kdump-pkg load

    step mkconfig grub-mkconfig -o /boot/grub/grub.cfg
    keep before
    printf '#!/bin/sh\\necho broken by a test >&2\\nexit 7\\n' >/etc/grub.d/09_broken
    chmod 755 /etc/grub.d/09_broken
    step broken kdump-pkg setup --yes --crashkernel RESERVEDM
    keep broken
    rm /etc/grub.d/09_broken
    step setup kdump-pkg setup --yes --crashkernel RESERVEDM
    step check grub-script-check /boot/grub/grub.cfg
    keep after

    step whole size
    step shrink sh -c 'echo y | kdump-pkg estimate --shrink'
    step shrunk size
    step ready kdump-pkg status --json
    sync
    step test sh -c 'echo crash | kdump-pkg test'
    poweroff -f
}
# What systemd says of a boot it says when that is over.
second() {
    systemd-run --quiet --collect --unit=later /usr/local/bin/at-boot later
}
later() {
    while [ "$(systemctl is-system-running)" = starting ]; do sleep 1; done
    step chain systemd-analyze --no-pager critical-chain multi-user.target
    step reached systemctl show --value -p ActiveEnterTimestampMonotonic multi-user.target
    step started systemctl show --value -p ExecMainStartTimestampMonotonic kdump-pkg-collect.service
    step collected systemctl show -p Result kdump-pkg-collect.service
    step unit journalctl --no-pager -o cat -u kdump-pkg-collect.service
    step entry journalctl --no-pager -o json MESSAGE_ID=MESSAGE
    step explained journalctl --no-pager -x MESSAGE_ID=MESSAGE
    step notice cat /run/kdump-pkg/notice
    step list kdump-pkg list --json
    step report kdump-pkg report NEWEST
    step facts kdump-pkg report NEWEST --json
    step verify kdump-pkg verify NEWEST
    step after kdump-pkg status --json
    step undo kdump-pkg setup --undo --yes
    keep undone
    echo 'capture = system' >/etc/kdump-pkg.conf
    step rebuild kdump-pkg rebuild
    step system kdump-pkg status
    echo 'MISSING' >>/etc/fstab
    sync
    echo c >/proc/sysrq-trigger
}
when=${1:-first}
[ -n "$1" ] || [ ! -e /root/seen ] || when=second
"$when" 2>&1 | cat >/dev/ttyS0
"""


@dataclass(frozen=True)
class Step:
    """What one command of the script said, and how it ended; None where the machine was gone before."""

    text: str
    code: int | None


class Guest:
    """The installed system, from one boot to the next."""

    def __init__(self, root: ArchRoot, home: Path) -> None:
        self.release = packages.release(SERIES)
        self.disk = vm.disk_from_root(root.path, home / "disk.img", uuid=ROOT_UUID, size="4G")
        self._kernel = packages.vmlinuz(SERIES)
        self._initrd = vm.disk_initramfs(packages.vmlinuz(SERIES), home / "initrd")
        self.console = ""
        self.steps: dict[str, Step] = {}

    def boot(self) -> None:
        """To the end of its capture, which is the reboot."""
        append = f"root=UUID={ROOT_UUID} ro crashkernel={RESERVED}M console=ttyS0 quiet mitigations=off"
        done = vm.boot(
            kernel=self._kernel,
            initrd=self._initrd,
            append=f"{append} systemd.show_status=no",
            disk=self.disk,
            timeout=1200,
        )
        self.console = done.console
        self.steps = steps(done.console)
        self.disk.with_name("console").write_text(done.console)  # to look at, where something failed
        assert not done.timed_out, self.console[-6000:]

    def said(self, name: str, code: int | None = 0) -> str:
        """What this step said; it has to have ended like that."""
        assert name in self.steps, f"{name} was not come to: {self.console[-6000:]}"
        step = self.steps[name]
        assert step.code == code, f"{name}: exit {step.code}: {step.text[-3000:]}"
        return step.text

    def json(self, name: str) -> Any:
        text = self.said(name)
        return json.loads(text[text.index("{") : text.rindex("}") + 1])

    def seen(self, when: str) -> tuple[bytes, bytes]:
        """/etc/default/grub and grub.cfg as they were then."""
        names = ("grub", "grub.cfg")
        defaults, config = (vm.read_file(self.disk, f"/root/seen/{when}/{name}") for name in names)
        return defaults, config

    def dumps(self) -> list[str]:
        """Those of this machine's crashes."""
        return [name for name in vm.list_dir(self.disk, "/var/crash") if name not in OLD]

    def add_old_dumps(self) -> None:
        """While the machine is off: what a capture finds, it prunes itself."""
        lines = []
        meta = self.disk.with_name("meta")
        meta.write_text("format=1\nresult=complete\n")
        for name in OLD:
            lines += [f"mkdir /var/crash/{name}", f"write {meta} /var/crash/{name}/meta"]
        commands = self.disk.with_name("commands")
        commands.write_text("\n".join(lines) + "\n")
        run(["debugfs", "-w", "-f", commands, self.disk])

    def check_dump(self, name: str, parts: set[str]) -> None:
        """A whole one, of this kernel, with the panic's own words in it."""
        assert re.search(rf"kdump-save: saved .*{re.escape(name)}.* result=complete", self.console), self.console[
            -6000:
        ]
        assert parts <= set(vm.list_dir(self.disk, f"/var/crash/{name}"))
        meta = vm.read_file(self.disk, f"/var/crash/{name}/meta").decode()
        assert f"release={self.release}\n" in meta
        assert "result=complete\n" in meta
        assert PANIC in vm.read_file(self.disk, f"/var/crash/{name}/dmesg.txt").decode(errors="replace")


def steps(console: str) -> dict[str, Step]:
    found: dict[str, Step] = {}
    for part in console.split("%% ")[1:]:
        name, _, text = part.partition("\n")
        if name.startswith("exit "):
            last = next(reversed(found))
            found[last] = Step(found[last].text, int(name.split()[1]))
        else:
            found[name] = Step(text, None)
    return found


def install(root: ArchRoot) -> None:
    """One transaction; no configuration: what the machine has for hardware is found in its first boot."""
    if root.generator == "mkinitcpio":  # an emulated machine builds its image for two minutes with the usual hooks
        (root.path / "etc/mkinitcpio.conf.d/lab.conf").write_text(MKINITCPIO)
    root.pacman("-U", packages.kernel(SERIES), packages.kdump_pkg(REPO))
    (root.path / "etc/default/grub").write_text(GRUB)
    (root.path / "boot/grub").mkdir()
    for script in (root.path / "etc/grub.d").iterdir():
        if script.name not in GRUB_SCRIPTS:
            script.unlink()
    root.run(["journalctl", "--update-catalog"])  # by a hook of systemd's on Arch
    at_boot = (
        SCRIPT.replace("MISSING", MISSING).replace("RESERVED", str(RESERVED)).replace("=MESSAGE", f"={MESSAGE_ID}")
    )
    root.run_at_boot(at_boot.replace("NEWEST", f"$(ls -d /var/crash/*{packages.release(SERIES)} | sed 's|.*/||')"))


def test_set_up_crashed_on_purpose_saved_and_undone(tmp_path: Path) -> None:
    with open_root(generator=default_generator(), above=[debuggers.tools()]) as root:
        install(root)
        guest = Guest(root, tmp_path)
        guest.boot()
        check_armed(guest)
        check_grub(guest)
        check_shrink(guest)
        identity = check_crash(guest)
        guest.add_old_dumps()
        guest.boot()
        check_collected(guest)
        check_reported(guest)
        check_seen_afterwards(guest, identity)
        check_undone(guest)
        check_system(guest)


def check_armed(guest: Guest) -> None:
    """With nothing to do by hand, and again after it was disarmed."""
    assert "armed: a crash now would be saved to /var/crash" in guest.said("armed")
    guest.said("unload")
    guest.said("load")


def check_grub(guest: Guest) -> None:
    """The real grub-mkconfig takes it over into the entries. Where that fails, all is as it was, and it's said why."""
    guest.said("mkconfig")
    before = guest.seen("before")
    assert before[0].decode() == GRUB
    broken = guest.said("broken", 1)
    assert "broken by a test" in broken, broken
    assert re.search(r"==> ERROR: .*grub-mkconfig.*nothing was changed", broken), broken
    assert guest.seen("broken") == before
    setup = guest.said("setup")
    assert "GRUB" in setup, setup
    guest.said("check")
    defaults, config = guest.seen("after")
    assert defaults.decode() == GRUB.replace("quiet'", f"quiet crashkernel={RESERVED}M'")
    lines = re.findall(rb"^\s*linux\s.*$", config, re.MULTILINE)
    with_it = [line for line in lines if f"quiet crashkernel={RESERVED}M".encode() in line]
    assert len(with_it) > 1, lines
    assert all(b" single " in line for line in lines if line not in with_it), "only those for recovery go without"
    assert config.replace(f" crashkernel={RESERVED}M".encode(), b"") == before[1], "and nothing else has changed"


def check_shrink(guest: Guest) -> None:
    """Memory is given back to the running system, which is as ready as before."""
    whole, shrunk = (int(guest.said(name)) for name in ("whole", "shrunk"))
    assert whole == RESERVED * MIB
    guest.said("shrink")
    assert 32 * MIB <= shrunk <= whole - 32 * MIB
    status = guest.json("ready")
    assert status["armed"] is True, status
    assert status["verdict"].startswith("armed: a crash now would be saved to /var/crash"), status


def check_crash(guest: Guest) -> str:
    """The machine is gone in the midst of `kdump-pkg test`; saved in what is left of the reservation."""
    said = guest.said("test", None)
    assert "Type the word crash" in said, said
    (name,) = guest.dumps()
    assert name.endswith(f"-{guest.release}")
    guest.check_dump(name, PARTS)
    assert set(vm.list_dir(guest.disk, f"/var/crash/{name}")) == PARTS
    dmesg = vm.read_file(guest.disk, f"/var/crash/{name}/dmesg.txt").decode(errors="replace")
    found = re.search(r"kdump-pkg: crash test ([0-9a-f]+)", dmesg)
    assert found, dmesg[-2000:]
    return found[1]


def check_seen_afterwards(guest: Guest, identity: str) -> None:
    """This very crash, where it is saved, how long it took; and the machine is armed again."""
    status = guest.json("after")
    assert status["armed"] is True, status
    (test,) = (one for one in status["findings"] if one["part"] == "crash test")
    assert test["state"] == "ok", test
    assert identity in test["text"], test
    assert re.search(r"saved, in \d+ s", test["text"]), test
    assert test["evidence"] == f"/var/crash/{guest.dumps()[0]}"


def check_collected(guest: Guest) -> None:
    """The journal has the entry and explains it, the rules were applied, and multi-user.target didn't wait for it."""
    name = guest.dumps()[0]
    print(guest.said("unit"))  # noqa: T201 - for -s
    assert "Result=success" in guest.said("collected")
    lines = [json.loads(line) for line in guest.said("entry").splitlines() if line.startswith("{")]
    (entry,) = (one for one in lines if one["KDUMP_DUMP"] == name)
    assert entry["PRIORITY"] == "2"
    assert entry["KDUMP_RELEASE"] == guest.release
    assert entry["KDUMP_KIND"] == "sysrq"
    assert entry["KDUMP_STATE"] == "complete"
    assert len(entry["KDUMP_SIGNATURE"]) == 16
    assert entry["_SYSTEMD_UNIT"] == "kdump-pkg-collect.service"
    assert guest.release in entry["MESSAGE"]
    explained = guest.said("explained")
    assert f"kdump-pkg report {name}" in explained, explained
    assert f"kdump-pkg debug {name}" in explained, explained
    assert "KDUMP_" not in explained, explained
    assert guest.said("notice").splitlines()[0] == name
    chain = guest.said("chain")
    assert "multi-user.target @" in chain, chain
    assert "kdump-pkg-collect" not in chain, chain
    assert int(guest.said("reached")) < int(guest.said("started"))
    pruned = re.findall(r"removing the dump /var/crash/(\S+)", guest.said("unit"))
    assert pruned == [OLD[0]], "one too many"


def check_reported(guest: Guest) -> None:
    """The catalogue has it, the report names the cause, and the memory was read: by makedumpfile, and task by task."""
    name = guest.dumps()[0]
    listed = guest.said("list")
    assert name in listed, listed
    assert "sysrq" in guest.said("report").lower(), guest.said("report")
    facts = guest.json("facts")
    checks = {check["name"]: check for check in facts["verification"]["checks"]}
    assert set(checks) == {"sums", "structure", "log", "kernel", "tasks"}
    assert all(check["state"] == "ok" for check in checks.values()), checks
    assert facts["vmcore"]["tasks"] > 40, facts["vmcore"]
    (running,) = facts["vmcore"]["running"]
    assert {"sysrq_handle_crash", "write_sysrq_trigger", "vfs_write"} <= set(running["trace"]), running
    assert dict(facts["vmcore"]["memory"])["MemTotal"] > 1 << 18
    assert "tasks can be read" in guest.said("verify")
    assert set(vm.list_dir(guest.disk, f"/var/crash/{name}")) == PARTS | REPORTED


def check_undone(guest: Guest) -> None:
    guest.said("undo")
    assert guest.seen("undone") == guest.seen("before"), "byte for byte"


def check_system(guest: Guest) -> None:
    """`capture = system`, and a file system is missing that was there until the crash.

    emergency.target stops what it can, and the dump is saved all the same.
    """
    guest.said("rebuild")
    assert "armed: a crash now would be saved to /var/crash" in guest.said("system")
    assert re.search(r"Dependency failed for .*missing\.mount", guest.console), guest.console[-6000:]
    first, second = guest.dumps()
    assert first < second
    guest.check_dump(second, PARTS - {"capture-dmesg.txt"})
