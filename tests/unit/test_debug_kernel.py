"""`variant build --debug-kernel`: of which kernel, from what, what may be installed, and each way in which it ends."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kdump_pkg import debug_kernel, paths
from kdump_pkg.apply import package_build
from kdump_pkg.apply.build_log import BuildError, Log
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.fs import lock
from kdump_pkg.model import Config
from tests.fakes import (
    RELEASE,
    Call,
    FakeRunner,
    Hole,
    facts,
    kernel,
    kernel_tree,
    live_boot,
    make_tree,
    snapshot,
    system_runner,
    system_tree,
)

REPO = Path(__file__).resolve().parents[2]
RECIPE = REPO / "linux-kdump"
DWARF = "6.12.1-arch1-dwarf"
PACKAGE = "/var/cache/kdump-pkg/linux-dwarf-6.12.1_arch1-1-x86_64.pkg.tar.zst"
KCONFIG = "#\n# Linux/x86 6.12.1 Kernel Configuration\n#\nCONFIG_MODULES=y\n"
FILES = (
    ".BUILDINFO", ".MTREE", ".PKGINFO",
    "usr/", "usr/lib/", "usr/lib/debug/", "usr/lib/debug/lib/", "usr/lib/debug/lib/modules/",
    f"usr/lib/debug/lib/modules/{DWARF}/", f"usr/lib/debug/lib/modules/{DWARF}/kernel/fs/ext4/ext4.ko.debug",
    "usr/lib/modules/", f"usr/lib/modules/{DWARF}/", f"usr/lib/modules/{DWARF}/vmlinuz",
    f"usr/lib/modules/{DWARF}/pkgbase", f"usr/lib/modules/{DWARF}/build/vmlinux",
)  # fmt: skip
ALL_THERE = {
    "pacman -T": "",
    "bsdtar -tf": "\n".join(FILES),
    "bsdtar -xOqf": "pkgname = linux-dwarf\npkgver = 6.12.1_arch1-1\n",
}


class Building:
    """A machine on which `makepkg` and `pacman -U` are this."""

    def __init__(self, root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.ctx = Context(root, runner)
        self.prepared: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.installed: list[str] = []
        self.ends: Callable[[], str] = self._built
        monkeypatch.setattr(package_build, "prepare", self._prepare)
        monkeypatch.setattr(package_build, "makepkg", self._makepkg)
        monkeypatch.setattr(package_build, "install", self._install)
        runner.answers |= ALL_THERE
        recipe = {
            f"{paths.VARIANT_RECIPE}/{name}": (RECIPE / name).read_text() for name in debug_kernel.RECIPE.values()
        }
        make_tree(root, system_tree() | recipe)
        make_tree(root, {f"/boot/config-{RELEASE}": KCONFIG, "/proc/cpuinfo": "processor\t: 0\nprocessor\t: 1\n"})

    def _prepare(
        self, ctx: Context, home: str, files: dict[str, bytes], links: dict[str, str], keep: tuple[str, ...]
    ) -> None:
        assert home == paths.DEBUG_KERNEL_BUILD
        self.prepared, self.links, self.keep = files, links, keep

    def _makepkg(self, ctx: Context, home: str, watch: Callable[[Log], None]) -> str:
        for objects in (1, 249, 250, 251, 700):
            watch(Log(objects))
        return self.ends()

    def _built(self) -> str:
        make_tree(self.root, {PACKAGE: "a package"})
        return PACKAGE

    def _install(self, ctx: Context, package: str, say: Callable[[str], None]) -> None:
        assert ctx.path(package).is_file()
        self.installed.append(package)
        make_tree(self.root, kernel_tree(DWARF, "linux-dwarf"))
        make_tree(self.root, {f"/usr/lib/modules/{DWARF}/build/vmlinux": Hole(300 << 20)})

    def run(self) -> int:
        return debug_kernel.build(self.ctx)

    def sourced(self) -> dict[str, str]:
        """What bash gets out of the file `settings`."""
        text = self.prepared["settings"].decode()
        return dict(re.findall(r"^(_\w+)=(.*)$", text, re.MULTILINE))


@pytest.fixture
def machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> Building:
    return Building(root, system_runner(root), monkeypatch)


def test_one_command(machine: Building, capsys: pytest.CaptureFixture[str]) -> None:
    assert machine.run() == 0
    said = capsys.readouterr().out
    assert machine.installed == [PACKAGE]
    assert not (machine.root / PACKAGE.lstrip("/")).exists()
    assert machine.prepared["system.config"].decode() == KCONFIG
    assert machine.prepared["PKGBUILD"] == (RECIPE / "debug/PKGBUILD").read_bytes()
    assert machine.prepared["source.sh"] == (RECIPE / "source.sh").read_bytes()
    assert machine.prepared["configure"] == (RECIPE / "debug/configure").read_bytes()
    assert machine.sourced()["_base"] == "linux" and machine.sourced()["_version"] == "'6.12.1'"
    assert "v6.12.1-arch1" in machine.sourced()["_source"]
    assert "linux-6.12.1.tar.xz" in machine.keep
    assert [line.split()[1] for line in said.splitlines() if "files compiled" in line] == ["250", "700"]
    for words in (
        f"linux-dwarf is installed beside linux: the kernel {DWARF}",
        f"/usr/lib/modules/{DWARF}/build/vmlinux (300 MiB)",
        "linux-dwarf in the boot menu, as linux has it",
        "kdump-pkg debug --tool crash --command 'bt -l'",
        "/var/cache/kdump-pkg/debug-kernel/src/linux",
    ):
        assert words in said, words


def test_says_what_grub_needs_and_where_the_kernel_is_kept(
    machine: Building, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(machine.root, {"/boot/grub/grub.cfg": "", f"{paths.DEBUG_MODULES}/{DWARF}/vmlinux": Hole(5 << 20)})
    assert machine.run() == 0
    said = capsys.readouterr().out
    assert "grub-mkconfig -o /boot/grub/grub.cfg" in said
    assert f"{paths.DEBUG_MODULES}/{DWARF}/vmlinux (5 MiB)" in said


def test_another_version_is_said(machine: Building, capsys: pytest.CaptureFixture[str]) -> None:
    """source = leads to whatever the user has there."""
    other = DWARF.replace("6.12.1", "6.13")
    machine.ctx.runner.answers["bsdtar -tf"] = "\n".join(FILES).replace(DWARF, other)  # type: ignore[attr-defined]
    make_tree(machine.root, {f"/usr/lib/modules/{other}/build/vmlinux": "x"})
    assert machine.run() == 0
    assert "not the same kernel" in capsys.readouterr().err


# --- which kernel ---------------------------------------------------------------------------------------------------

LTS = kernel("6.6.1-1-lts", "linux-lts", version="6.6.1-1")
MAIN = kernel("6.12.1-arch1-1", "linux", version="6.12.1.arch1-1")
DEBUG = kernel("6.6.1-1-lts-dwarf", "linux-lts-dwarf", version="6.6.1-1")
SLIM = kernel("6.12.1-kdump", None)


@pytest.mark.parametrize(
    ("running", "base"),
    [
        (MAIN.release, "linux"), (LTS.release, "linux-lts"), (DEBUG.release, "linux-lts"), (SLIM.release, "linux"),
        ("6.12.0-arch1-1", "linux"), (None, "linux"),
    ],
)  # fmt: skip
def test_the_running_kernel_is_meant(running: str | None, base: str) -> None:
    known = facts(kernels=(LTS, DEBUG, MAIN, SLIM), boot=live_boot(running=running))
    assert debug_kernel._system(Config(kernel="linux-lts"), known).pkgbase == base


def test_no_kernel() -> None:
    with pytest.raises(KdumpError, match="no kernel package"):
        debug_kernel._system(Config(), facts(kernels=(DEBUG, SLIM), boot=live_boot(running=DEBUG.release)))


# --- ways to end ----------------------------------------------------------------------------------------------------


def ends(machine: Building, pattern: str) -> KdumpError:
    """One line, and nothing installed: what is armed is no business of this."""
    before = snapshot(machine.root / "boot") | snapshot(machine.root / "var/lib")
    with pytest.raises(KdumpError, match=pattern) as caught:
        machine.run()
    assert "\n" not in caught.value.message + (caught.value.hint or "")
    assert machine.installed == []
    assert snapshot(machine.root / "boot") | snapshot(machine.root / "var/lib") == before
    return caught.value


def test_nobody_has_the_configuration(machine: Building) -> None:
    (machine.root / f"boot/config-{RELEASE}").unlink()
    assert "linux-headers" in (ends(machine, f"nothing here has the configuration of {RELEASE}").hint or "")


def test_the_recipe_is_gone(machine: Building) -> None:
    (machine.root / paths.VARIANT_RECIPE.lstrip("/") / "source.sh").unlink()
    ends(machine, "source.sh is missing")


def test_what_it_is_built_by_is_not_installed(machine: Building) -> None:
    def missing(call: Call) -> str:
        return "".join(f"{word}\n" for word in call.argv if word in ("pahole", "rust-src", "bc"))

    machine.ctx.runner.answers["pacman -T"] = missing  # type: ignore[attr-defined]
    assert "bc" in ends(machine, "needed to build a kernel: bc$").message
    make_tree(machine.root, {f"/boot/config-{RELEASE}": f"{KCONFIG}CONFIG_DEBUG_INFO_BTF=y\nCONFIG_RUST=y\n"})
    error = ends(machine, "needed to build a kernel")
    assert {"pahole", "rust-src", "bc"} == set(error.message.partition(": ")[2].split())
    assert (error.hint or "").startswith("pacman -S")


def test_no_source(machine: Building) -> None:
    make_tree(machine.root, {"/etc/kdump-pkg.conf": "[variant]\nsource = /nowhere/linux.tar.xz\n"})
    ends(machine, "/nowhere/linux.tar.xz")


def test_the_build_fails(machine: Building) -> None:
    def fail() -> str:
        raise BuildError("configuring", "CONFIG_CRASH_DUMP can't be set", tail=("some", "lines"))

    machine.ends = fail
    error = ends(machine, "no debug kernel was made, configuring: CONFIG_CRASH_DUMP can't be set")
    assert error.hint == "the log: /var/cache/kdump-pkg/debug-kernel/build.log"


def test_one_at_a_time(machine: Building) -> None:
    with lock(machine.ctx.path(paths.DEBUG_KERNEL_LOCK)):
        ends(machine, "is being built already")


def test_the_builds_of_the_variant_are_not_in_its_way(machine: Building) -> None:
    with lock(machine.ctx.path(paths.VARIANT_LOCK)):
        assert machine.run() == 0


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("etc/sudoers.d/me", "etc/sudoers.d/me"),
        (".INSTALL", ".INSTALL"),
        (f"usr/lib/modules/{DWARF}/../../systemd/system/x.service", "x.service"),
        (f"usr/lib/modules/{RELEASE}/kernel/x.ko", "x.ko"),
        (f"usr/lib/modules/{RELEASE}/vmlinuz", "other kernels"),
        ("etc/\x1b[31mred", r"etc/\\x1b|etc/\?|etc/"),
        ("usr/bin/", "usr/bin/"),
    ],
)
def test_a_package_with_more_in_it_is_not_installed(machine: Building, more: str, named: str) -> None:
    machine.ctx.runner.answers["bsdtar -tf"] = "\n".join((*FILES, more))  # type: ignore[attr-defined]
    error = ends(machine, named)
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "info", ["pkgname = linux\n", "pkgname = linux-dwarf-x\n", "pkgname = linux-dwarf\nreplaces = linux\n", ""]
)
def test_a_package_of_another_name_is_not_installed(machine: Building, info: str) -> None:
    machine.ctx.runner.answers["bsdtar -xOqf"] = info  # type: ignore[attr-defined]
    ends(machine, "is no package linux-dwarf")


@pytest.mark.parametrize("release", ["6.12.1-arch1-1", "6.12.1-kdump"])
def test_a_kernel_of_another_suffix_is_not_installed(machine: Building, release: str) -> None:
    machine.ctx.runner.answers["bsdtar -tf"] = "\n".join(FILES).replace(DWARF, release)  # type: ignore[attr-defined]
    ends(machine, f"ends with -dwarf: {release}")


# --- the configuration ----------------------------------------------------------------------------------------------

# The kernel's own, as far as it is used.
SCRIPTS_CONFIG = r"""#!/bin/sh
[ "$1" = --file ] || exit 2
file=$2
shift 2
while [ $# -gt 0 ]; do
    sed -i "/^CONFIG_$2=/d; /^# CONFIG_$2 is not set$/d" "$file"
    case $1 in
        -e) echo "CONFIG_$2=y" >>"$file" ;;
        -d) echo "# CONFIG_$2 is not set" >>"$file" ;;
        --set-str) echo "CONFIG_$2=\"$3\"" >>"$file"; shift ;;
        *) exit 2 ;;
    esac
    shift 2
done
"""
MAKEFILE = 'olddefconfig:\n\t@for name in $(LOSES); do sed -i "/^CONFIG_$$name=/d" $(KCONFIG_CONFIG); done\n'
STOCK = """#
CONFIG_LOCALVERSION="-own"
CONFIG_LOCALVERSION_AUTO=y
CONFIG_MODULES=y
CONFIG_RUST=y
CONFIG_EXT4_FS=m
CONFIG_WERROR=y
CONFIG_KEXEC_FILE=y
CONFIG_DEBUG_INFO_REDUCED=y
CONFIG_DEBUG_INFO_SPLIT=y
CONFIG_MODULE_SIG_KEY="/home/maker/keys/signing_key.pem"
CONFIG_SYSTEM_TRUSTED_KEYS="certs/vendor.pem"
CONFIG_EFI_SBAT_FILE="certs/there.csv"
"""


@dataclass(frozen=True)
class Configure:
    home: Path

    def __call__(self, stock: str = STOCK, *, loses: str = "") -> tuple[int, str]:
        """Exit code, and all that was said."""
        config = self.home / "system.config"
        config.write_text(stock)
        argv = [RECIPE / "debug/configure", self.home / "linux", self.home / "build", config]
        env = {"PATH": os.environ["PATH"], "LOSES": loses, "TMPDIR": str(self.home)}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    @property
    def file(self) -> Path:
        return self.home / "build/.config"

    @property
    def lines(self) -> set[str]:
        return set(self.file.read_text().splitlines())


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    home = tmp_path / "made"
    tree = {
        "linux/scripts/config": SCRIPTS_CONFIG,
        "linux/Makefile": MAKEFILE,
        "linux/certs/there.csv": "",
        "build": None,
    }
    make_tree(home, tree)
    (home / "linux/scripts/config").chmod(0o755)
    return Configure(home)


@pytest.mark.spawns
@pytest.mark.parametrize("name", ["PKGBUILD", "configure"])
def test_shellcheck(name: str) -> None:
    tool = shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is missing: not checked")
    argv = [tool, "--shell=bash", "--external-sources", "--exclude=SC2034,SC2154", f"linux-kdump/debug/{name}"]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.spawns
def test_configure_changes_what_it_has_to(configure: Configure) -> None:
    assert configure() == (0, configure()[1])
    assert {
        'CONFIG_LOCALVERSION="-own-dwarf"', "# CONFIG_LOCALVERSION_AUTO is not set", "CONFIG_DEBUG_INFO=y",
        "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y", "# CONFIG_DEBUG_INFO_REDUCED is not set",
        "# CONFIG_DEBUG_INFO_SPLIT is not set", "# CONFIG_DEBUG_INFO_NONE is not set", "CONFIG_CRASH_DUMP=y",
        "CONFIG_PROC_VMCORE=y", "CONFIG_KEXEC_FILE=y", "CONFIG_EXT4_FS=m", "CONFIG_MODULES=y", "CONFIG_RUST=y",
        "CONFIG_MODULE_COMPRESS_ZSTD=y", "# CONFIG_WERROR is not set", 'CONFIG_SYSTEM_TRUSTED_KEYS=""',
        'CONFIG_MODULE_SIG_KEY="certs/signing_key.pem"', 'CONFIG_EFI_SBAT_FILE="certs/there.csv"',
    } <= configure.lines  # fmt: skip
    assert "CONFIG_KEXEC=y" not in configure.lines


@pytest.mark.spawns
@pytest.mark.parametrize("version", ["CONFIG_DEBUG_INFO_DWARF4=y", "CONFIG_DEBUG_INFO_DWARF5=y"])
def test_configure_leaves_the_version_of_dwarf(configure: Configure, version: str) -> None:
    assert configure(f"{STOCK}{version}\n")[0] == 0
    assert version in configure.lines
    assert "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y" not in configure.lines


@pytest.mark.spawns
def test_configure_lets_make_find_all_current(configure: Configure) -> None:
    configure()
    before = configure.file.stat().st_mtime_ns
    configure()
    assert configure.file.stat().st_mtime_ns == before


@pytest.mark.spawns
def test_configure_says_what_is_left_out(configure: Configure) -> None:
    code, said = configure(f"{STOCK}CONFIG_CC_HAS_IT=y\n", loses="RUST EXT4_FS CC_HAS_IT")
    assert (code, said) == (0, "not in it, unlike in the system kernel: EXT4_FS RUST\n")
    assert configure() == (0, "")


@pytest.mark.spawns
@pytest.mark.parametrize("lost", ["DEBUG_INFO", "CRASH_DUMP", "PROC_VMCORE", "KEXEC_FILE"])
def test_configure_fails_without_what_a_dump_needs(configure: Configure, lost: str) -> None:
    code, said = configure(loses=f"{lost} KEXEC")
    name = lost.removesuffix("_FILE")
    assert (code, said.splitlines()[-1]) == (1, f"linux-dwarf: CONFIG_{name} can't be set")
    assert not configure.file.exists()


@pytest.mark.spawns
@pytest.mark.parametrize(("stock", "said"), [("", "no configuration"), ("\0\0", "no configuration")])
def test_configure_refuses_what_is_no_configuration(configure: Configure, stock: str, said: str) -> None:
    code, words = configure(stock)
    assert code == 1 and words.startswith("linux-dwarf: ") and said in words


@pytest.mark.spawns
def test_configure_refuses_what_is_no_source(configure: Configure) -> None:
    (configure.home / "linux/scripts/config").unlink()
    code, words = configure()
    assert (code, words.count("\n")) == (1, 1) and "no source of a kernel" in words
