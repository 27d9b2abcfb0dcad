"""The build hooks, install/ and hooks/dracut/, with the generators' functions replaced by ones that take notes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import RELEASE, REPO, quoted, settings

# What mkinitcpio and dracut give to a hook, as far as ours use it.
MKINITCPIO = r"""
die() { printf "==> ERROR: $1\n" "${@:2}" >&2; exit 1; }
in_array() { local one; for one in "${@:2}"; do [[ "$one" == "$1" ]] && return; done; return 1; }
map() { local one; for one in "${@:2}"; do "$1" "$one" || return; done; }
note() { printf '%s\n' "$*" >>"$CALLS"; }
add_binary() { note add_binary "$@"; [[ "$FAILING" != "$1" ]] || (( ++_builderrors )); }
add_module() { note add_module "$@"; }
add_runscript() { note add_runscript; }
add_symlink() { note add_symlink "$@"; }
add_file() { note add_file "$@" "$([[ "$1" != - ]] || tr '\n' ' ')"; }
add_file_early() { note add_file_early "$@" "$(tr '\n' ' ')"; }
_builderrors=0
"""
SYSTEMD = r"""
add_systemd_unit() { note add_systemd_unit "$@"; }
add_systemd_drop_in() { note add_systemd_drop_in "$@" "$(tr '\n' ' ')"; }
"""
DRACUT = r"""
dfatal() { printf 'dracut[F]: %s\n' "$*" >&2; }
note() { printf '%s\n' "$*" >>"$CALLS"; }
inst_simple() { local to="$initdir${2:-$1}"; note inst_simple "$@"; mkdir -p "${to%/*}"; : >"$to"; }
inst_multiple() { note inst_multiple "$@"; }
inst_hook() { note inst_hook "$@"; }
inst() { note inst "$@"; mkdir -p "$initdir${1%/*}"; cp "$1" "$initdir$1"; }
inst_libdir_file() { note inst_libdir_file "$@"; [[ "$FAILING" != "$1" ]]; }
instmods() { note instmods "$@"; }
kernel=$KERNELVERSION initdir=$BUILDROOT moddir=/moddir systemdsystemunitdir=/usr/lib/systemd/system
"""
REMEDY = "run 'kdump-pkg rebuild'"
STACK = {"KDUMP_BINARIES": "makedumpfile mdadm lvm cryptsetup age findfs"}


@dataclass
class Build:
    """One build, under a directory of the test."""

    top: Path
    returncode: int = 0
    stderr: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        for name in ("busybox", *STACK["KDUMP_BINARIES"].split()):
            tool = self.top / "bin" / name
            tool.parent.mkdir(exist_ok=True)
            tool.write_text("#!/bin/sh\necho sh; echo cat; echo mount; echo insmod; echo findfs\n")
            tool.chmod(0o755)
        (self.top / "root/usr/bin").mkdir(parents=True)
        (self.top / "save").mkdir()
        for name in ("room", "layers"):
            (self.top / f"save/{name}.sh").write_text("")
        self.path = f"{self.top}/bin:/usr/bin:/bin"

    def settings(self, **changes: str) -> None:
        own = {
            "KDUMP_FORMAT": "2", "KDUMP_CAPTURE": "image", "KDUMP_BINARIES": "makedumpfile", "KDUMP_HOOKS": "",
            "KDUMP_APPLETS": "sh mount umount findfs insmod", "KDUMP_FAILURE_ACTION": "reboot",
        }  # fmt: skip
        (self.top / "capture.env").write_text(quoted(settings(**{**own, **changes})))

    def script(self, mode: int = 0o644) -> str:
        """One of the user's, and its path."""
        script = self.top / "etc/kdump-pkg/pre.d/wake"
        script.parent.mkdir(parents=True)
        script.write_text("#!/bin/sh\n")
        script.chmod(mode)
        return str(script)

    def bash(self, script: str, **env: str) -> list[str]:
        """Run it; the calls it made."""
        calls = self.top / "calls"
        calls.write_text("")
        done = subprocess.run(
            [shutil.which("bash") or "bash", "-c", script],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
            env={
                "PATH": self.path, "CALLS": str(calls), "BUILDROOT": str(self.top / "root"), "KERNELVERSION": RELEASE,
                "KDUMP_CAPTURE_ENV": str(self.top / "capture.env"), "KDUMP_LIBRARY": str(self.top / "save"),
                "FAILING": "", **env,
            },
        )  # fmt: skip
        self.returncode, self.stderr = done.returncode, done.stderr
        return calls.read_text().splitlines()

    def mkinitcpio(self, hook: str = "kdump", after: str = "", **env: str) -> list[str]:
        given = MKINITCPIO + after
        return self.bash(f"{given}\n. {REPO}/install/{hook}\nbuild", **env)

    def dracut(self, *functions: str, **env: str) -> list[str]:
        wanted = "\n".join(functions or ("installkernel", "install"))
        given = f"{DRACUT}\nsrcmods={self.top}/modules"
        return self.bash(f"{given}\n. {REPO}/hooks/dracut/module-setup.sh\n{wanted}", **env)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    need("bash")
    one = Build(tmp_path)
    one.settings()
    return one


def test_direct(build: Build) -> None:
    calls = build.mkinitcpio()
    assert (build.returncode, build.stderr) == (0, "")
    assert "add_file /usr/lib/kdump-pkg/kdump-init /init 755 " in calls
    assert [call for call in calls if "add_module" in call] == ["add_module virtio_blk", "add_module ext4"]
    top = f"/usr/lib/modules/{RELEASE}/kernel"
    assert f"add_file - /kdump/insmod 644 {top}/drivers/block/virtio_blk.ko {top}/fs/ext4/ext4.ko " in calls
    assert "add_symlink /usr/bin/insmod busybox" in calls
    assert "add_binary umount /usr/bin/umount" in calls, "not an applet of this busybox: the system's own"
    assert f"add_file_early - /kdump/fingerprint 644 {'ab' * 32} " in calls
    assert f"add_file {build.top}/capture.env /kdump/env 600 " in calls
    assert "add_runscript" not in calls


def test_direct_without_modules(build: Build) -> None:
    build.settings(KDUMP_INSMOD="")
    calls = build.mkinitcpio()
    assert build.returncode == 0
    assert not [call for call in calls if "add_module" in call]


def test_udev(build: Build) -> None:
    build.settings(KDUMP_FLAVOUR="udev", KDUMP_MODULES="virtio_blk crypto-crc32c?")
    calls = build.mkinitcpio()
    assert build.returncode == 0
    assert calls[:2] == ["add_module virtio_blk", "add_module crypto-crc32c?"]
    assert calls[-1] == "add_runscript"
    assert not [call for call in calls if "/init" in call]


def test_systemd(build: Build) -> None:
    build.settings(KDUMP_FLAVOUR="systemd", KDUMP_TIMEOUT="600")
    calls = build.mkinitcpio("sd-kdump", SYSTEMD)
    assert (build.returncode, build.stderr) == (0, "")
    assert "add_systemd_unit kdump-capture.service" in calls
    assert "add_systemd_drop_in kdump-capture.service limit [Unit] JobTimeoutSec=720 " in calls
    for target in ("initrd", "emergency"):
        link = f"/usr/lib/systemd/system/{target}.target.wants/kdump-capture.service"
        assert f"add_symlink {link} ../kdump-capture.service" in calls


def test_programs_are_the_real_ones(build: Build) -> None:
    build.settings(**STACK)
    calls = build.mkinitcpio()
    assert build.returncode == 0
    for name in STACK["KDUMP_BINARIES"].split():
        assert f"add_binary {name} /usr/bin/{name}" in calls
    assert "add_binary /usr/lib/libgcc_s.so.1" in calls, "cryptsetup's threads need it"
    programs = [call for call in calls if call.startswith("add_binary") and "busybox" not in call]
    assert programs[0] == "add_binary makedumpfile /usr/bin/makedumpfile", "before any applet takes its place"


def test_that_library_only_with_cryptsetup(build: Build) -> None:
    assert not [call for call in build.mkinitcpio() if "libgcc_s" in call]


@pytest.mark.parametrize(("hook", "after", "flavour"), [("kdump", "", "direct"), ("sd-kdump", SYSTEMD, "systemd")])
def test_scripts_of_ours_and_of_the_user(build: Build, hook: str, after: str, flavour: str) -> None:
    script = build.script()
    build.settings(KDUMP_HOOKS=script, KDUMP_FLAVOUR=flavour)
    calls = build.mkinitcpio(hook, after)
    assert build.returncode == 0
    for name in ("room", "layers"):
        assert f"add_file {build.top}/save/{name}.sh /usr/lib/kdump-pkg/save/{name}.sh 644 " in calls
    assert f"add_binary {script} {script} 755" in calls


@pytest.mark.parametrize(("hook", "flavour"), [("kdump", "udev"), ("sd-kdump", "systemd")])
def test_the_system_captures(build: Build, hook: str, flavour: str) -> None:
    """Modules and fingerprint; all else is that of an image to start the system with."""
    build.settings(KDUMP_CAPTURE="system", KDUMP_FLAVOUR=flavour, KDUMP_MODULES="virtio_blk ext4?")
    calls = build.mkinitcpio(hook, SYSTEMD if hook == "sd-kdump" else "")
    assert build.returncode == 0
    mark = f"add_file_early - /kdump/fingerprint 644 {'ab' * 32} "
    assert calls == ["add_module virtio_blk", "add_module ext4?", mark]


@pytest.mark.parametrize("action", ["KDUMP_FINAL_ACTION", "KDUMP_FAILURE_ACTION"])
def test_a_shell_has_no_limit(build: Build, action: str) -> None:
    build.settings(KDUMP_FLAVOUR="systemd", **{action: "shell"})
    calls = build.mkinitcpio("sd-kdump", SYSTEMD)
    assert "add_systemd_drop_in kdump-capture.service limit [Unit] JobTimeoutSec=infinity " in calls
    build.dracut()
    drop_in = build.top / "root/etc/systemd/system/kdump-capture.service.d/limit.conf"
    assert drop_in.read_text() == "[Unit]\nJobTimeoutSec=infinity\n"


@pytest.mark.parametrize(
    ("changes", "env", "line"),
    [
        ({}, {"KDUMP_CAPTURE_ENV": "/nowhere"}, f"The capture file is missing: '/nowhere': {REMEDY}"),
        ({}, {"KERNELVERSION": "7.0"}, f"The capture file is for kernel '{RELEASE}', not '7.0': {REMEDY}"),
        ({}, {"PATH": "/nowhere"}, "makedumpfile not found: install the package that has it"),
        ({"KDUMP_BINARIES": "makedumpfile nope"}, {}, "nope not found: install the package that has it"),
        ({"KDUMP_FORMAT": "1"}, {}, f"The capture file is of another version of kdump-pkg: {REMEDY}"),
        (
            {"KDUMP_CAPTURE": "system"}, {},
            "Flavour 'direct' can't start the system, as 'capture = system' wants it to",
        ),
        ({"KDUMP_FLAVOUR": "systemd"}, {}, "The capture file is for flavour 'systemd': use the hook 'sd-kdump'"),
        ({}, {"FAILING": "makedumpfile"}, "The capture image would be incomplete: the one that was there is kept"),
    ],
)  # fmt: skip
def test_refusals(build: Build, changes: dict[str, str], env: dict[str, str], line: str) -> None:
    build.settings(**changes)
    build.mkinitcpio(**env)
    assert build.returncode == 1
    assert build.stderr == f"==> ERROR: {line}\n"


@pytest.mark.parametrize(
    ("flavour", "after", "line"),
    [
        ("direct", SYSTEMD, "The capture file is for flavour 'direct': use the hook 'kdump'"),
        ("systemd", "", "The hook 'sd-kdump' needs the hook 'systemd' before it"),
    ],
)
def test_sd_refusals(build: Build, flavour: str, after: str, line: str) -> None:
    build.settings(KDUMP_FLAVOUR=flavour)
    build.mkinitcpio("sd-kdump", after)
    assert (build.returncode, build.stderr) == (1, f"==> ERROR: {line}\n")


@pytest.mark.parametrize("hook", ["kdump", "sd-kdump"])
def test_help(build: Build, hook: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f". {REPO}/install/{hook}; help"], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "kdump" in done.stdout and done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines()) < 80


def test_dracut_direct_unpacks_modules_in_order(build: Build) -> None:
    for name in ("drivers/block/virtio_blk", "fs/ext4/ext4"):
        packed = build.top / f"modules/kernel/{name}.ko"
        packed.parent.mkdir(parents=True)
        packed.write_text(name)
        subprocess.run(["gzip", packed], check=True)
    build.settings(KDUMP_INSMOD="kernel/drivers/block/virtio_blk.ko.gz kernel/fs/ext4/ext4.ko.gz")
    calls = build.dracut()
    assert (build.returncode, build.stderr) == (0, "")
    root = build.top / "root"
    listed = (root / "kdump/insmod").read_text().split()
    assert [(root / name.lstrip("/")).read_text() for name in listed] == ["drivers/block/virtio_blk", "fs/ext4/ext4"]
    assert "inst_simple /usr/lib/kdump-pkg/kdump-init /init" in calls
    assert "inst_multiple umount" in calls
    assert (root / "usr/bin/insmod").readlink() == Path("busybox")
    assert (root / "kdump/save").readlink() == Path("/usr/lib/kdump-pkg/kdump-save")
    assert f"inst_simple {build.top}/save/room.sh /usr/lib/kdump-pkg/save/room.sh" in calls


def test_dracut_programs_and_scripts(build: Build) -> None:
    script = build.script(0o644)
    build.settings(**STACK, KDUMP_HOOKS=script, KDUMP_FLAVOUR="udev")
    calls = build.dracut()
    assert build.returncode == 0
    for name in STACK["KDUMP_BINARIES"].split():
        assert f"inst_multiple {name}" in calls
    assert "inst_libdir_file libgcc_s.so.1" in calls
    assert f"inst {script}" in calls
    assert (build.top / f"root{script}").stat().st_mode & 0o777 == 0o755


def test_dracut_programs_take_the_place_of_applets(build: Build) -> None:
    """dracut's own module `busybox` makes a link for every applet, before ours."""
    for directory in ("usr/bin", "usr/sbin"):
        (build.top / "root" / directory).mkdir(exist_ok=True)
        (build.top / "root" / directory / "findfs").symlink_to("/bin/busybox")
    build.settings(KDUMP_BINARIES="findfs", KDUMP_APPLETS="", KDUMP_FLAVOUR="udev")
    assert "inst_multiple findfs" in build.dracut()
    assert not list((build.top / "root").rglob("findfs"))


def test_dracut_the_system_captures(build: Build) -> None:
    build.settings(KDUMP_CAPTURE="system", KDUMP_FLAVOUR="systemd", KDUMP_MODULES="virtio_blk ext4?")
    assert build.dracut() == ["instmods virtio_blk ext4"]
    build.dracut('depends >"$CALLS"')
    assert (build.top / "calls").read_text() == ""


def test_dracut_udev(build: Build) -> None:
    build.settings(KDUMP_FLAVOUR="udev", KDUMP_MODULES="virtio_blk crypto-crc32c?")
    calls = build.dracut()
    assert calls[0] == "instmods virtio_blk crypto-crc32c"
    stages = [call.split()[1] for call in calls if call.startswith("inst_hook")]
    assert stages == ["cmdline", "initqueue/settled", "pre-mount"]
    assert "rd.emergency=reboot" in (build.top / "root/etc/cmdline.d/kdump-pkg.conf").read_text()


def test_dracut_systemd(build: Build) -> None:
    build.settings(KDUMP_FLAVOUR="systemd")
    calls = build.dracut()
    assert "inst_simple /usr/lib/systemd/system/kdump-capture.service" in calls
    for target in ("initrd", "emergency"):
        link = build.top / f"root/usr/lib/systemd/system/{target}.target.wants/kdump-capture.service"
        assert link.readlink() == Path("../kdump-capture.service")


def test_dracut_never_by_itself(build: Build) -> None:
    build.dracut("check")
    assert build.returncode == 255


@pytest.mark.parametrize(
    ("flavour", "modules"), [("direct", ""), ("udev", "base udev-rules"), ("systemd", "systemd systemd-initrd")]
)
def test_dracut_depends(build: Build, flavour: str, modules: str) -> None:
    build.settings(KDUMP_FLAVOUR=flavour)
    build.dracut('depends >"$CALLS"')
    assert (build.top / "calls").read_text().startswith(modules)
    assert bool((build.top / "calls").read_text()) == bool(modules)


@pytest.mark.parametrize(
    ("changes", "env", "line"),
    [
        ({}, {"KDUMP_CAPTURE_ENV": "/nowhere"}, f"the capture file is missing: '/nowhere': {REMEDY}"),
        ({}, {"KERNELVERSION": "7.0"}, f"the capture file is for kernel '{RELEASE}', not '7.0': {REMEDY}"),
        ({"KDUMP_FLAVOUR": "best"}, {}, "no such flavour: 'best'"),
        ({"KDUMP_FORMAT": "1"}, {}, f"the capture file is of another version of kdump-pkg: {REMEDY}"),
        ({"KDUMP_BINARIES": "nope"}, {}, "nope not found: install the package that has it"),
        (STACK, {"FAILING": "libgcc_s.so.1"}, "the library can't be found: 'libgcc_s.so.1'"),
    ],
)
def test_dracut_refusals(build: Build, changes: dict[str, str], env: dict[str, str], line: str) -> None:
    build.settings(**changes)
    build.dracut("install", **env)
    assert (build.returncode, build.stderr) == (1, f"dracut[F]: kdump-pkg: {line}\n")


def test_dracut_refuses_a_module_that_is_not_there(build: Build) -> None:
    build.dracut("installkernel")
    assert build.returncode == 1
    assert "the module can't be read" in build.stderr
