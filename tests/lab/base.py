"""The recipe: Debian sid laid out as Arch Linux is, and the two roots built on it, one per initramfs generator.

What stands in for Arch's repositories: the files of makedumpfile, kexec-tools, busybox and dracut are repacked as real
Arch packages that own them, so that upgrading them fires the triggers it fires on Arch; packages that others depend on
by name only (`python`, `systemd`, …) are empty ones of Debian's versions. mkinitcpio is never in the repository: the
root takes it from where it was set up by hand (`mkinitcpio_prefix`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import archpkg, debian
from .chroot import Chroot, Clone
from .common import LabError, digest, once, run, say, source_digest

ROOT_UUID = "6b64756d-702d-4c61-8b00-0123456789ab"
MACHINE_ID = "6b64756d70706b676c6162000123abcd"
PYALPM = "pyalpm==0.10.12"

PACKAGES = (
    "pacman-package-manager makepkg fakeroot libarchive-tools zstd xz-utils lz4 gawk file binutils cpio diffutils "
    "systemd systemd-sysv udev kmod util-linux-extra mount e2fsprogs procps kbd busybox-static dracut-core "
    "libkmod2 libacl1 libaudit1 libpam0g libseccomp2 libcryptsetup12 libcrypt1 libssl3t64 "
    "passwd makedumpfile kexec-tools python3 python3-configobj python3-pyelftools "
    "python3-pytest python3-pytest-mock python3-pytest-timeout python3-hypothesis"
).split()
COMPILERS = (
    "gcc libc6-dev libalpm-dev libarchive-dev pkgconf python3-dev python3-pip python3-wheel python3-setuptools "
    "python3-pkgconfig"
).split()

# Real Arch packages: they own the files that these Debian packages brought.
REPACKED = {
    "makedumpfile": ("makedumpfile",),
    "kexec-tools": ("kexec-tools",),
    "busybox": ("busybox-static",),
    "dracut": ("dracut-core", "dracut-install"),
}
# Empty Arch packages, each with the version of a Debian package.
NAMES_ONLY = {
    "bash": "bash", "binutils": "binutils", "coreutils": "coreutils", "diffutils": "diffutils",
    "e2fsprogs": "e2fsprogs", "fakeroot": "fakeroot", "file": "file", "findutils": "findutils", "gawk": "gawk",
    "glibc": "libc6", "grep": "grep", "gzip": "gzip", "kbd": "kbd", "kmod": "kmod", "libarchive": "libarchive13t64",
    "libelf": "libelf1t64", "lz4": "lz4", "pacman": "pacman-package-manager", "procps-ng": "procps",
    "python": "python3", "python-configobj": "python3-configobj", "python-hypothesis": "python3-hypothesis",
    "python-pyelftools": "python3-pyelftools", "python-pytest": "python3-pytest",
    "python-pytest-mock": "python3-pytest-mock", "python-pytest-timeout": "python3-pytest-timeout",
    "sed": "sed", "systemd": "systemd", "tar": "tar", "util-linux": "util-linux", "xz": "xz-utils", "zstd": "zstd",
}  # fmt: skip
ALSO_PROVIDES = {"bash": ("sh",), "systemd": ("udev", "systemd-libs"), "util-linux": ("util-linux-libs",)}

PACMAN_CONF = """[options]
HoldPkg = pacman glibc
Architecture = x86_64
SigLevel = Never
LocalFileSigLevel = Never
HookDir = /etc/pacman.d/hooks/
"""
# A cloud kernel has neither USB keyboards nor screens, and Debian no keymaps: those hooks would fail.
MKINITCPIO_DROP_IN = "HOOKS=(base systemd autodetect microcode modconf block filesystems fsck)\n"
FSTAB = f"UUID={ROOT_UUID} / ext4 rw,relatime 0 1\n"

DRACUT_HOOK = """[Trigger]
Type = Path
Operation = Install
Operation = Upgrade
Target = usr/lib/modules/*/vmlinuz
Target = usr/lib/dracut/*

[Action]
Description = Updating the initramfs with dracut...
When = PostTransaction
Exec = /usr/share/libalpm/scripts/dracut-install
"""
DRACUT_SCRIPT = """#!/bin/sh
# Stands in for the hook that Arch's users of dracut install beside it: every kernel gets its image in /boot.
for base in /usr/lib/modules/*/pkgbase; do
    [ -e "$base" ] || continue
    read -r name <"$base"
    release=${base%/pkgbase}; release=${release##*/}
    install -Dm644 "/usr/lib/modules/$release/vmlinuz" "/boot/vmlinuz-$name"
    dracut --force --quiet --no-hostonly --add-drivers 'virtio_pci virtio_blk ext4' \\
        "/boot/initramfs-$name.img" "$release"
done
"""


def base() -> Path:
    """The directory with `root` (Debian sid in Arch's layout) and `packages` (what was repacked from it)."""
    return once(f"base/{source_digest('base', 'archpkg', 'debian')}", _make_base)


def layer(generator: str) -> Path:
    """What pacman and this generator's packages put on top of the base."""
    prefix = mkinitcpio_prefix() if generator == "mkinitcpio" else None
    parts = [str(base()), generator, source_digest("base", "archpkg")]
    if prefix:
        parts += [path.read_text() for path in _mkinitcpio_files(prefix) if path.is_file()]

    def make(dest: Path) -> None:
        say(f"packages of the {generator} root")
        clone = Clone([base() / "root"])
        try:
            _install(clone, generator, prefix)
            shutil.copytree(clone.detach(), dest, symlinks=True)
        finally:
            clone.close()

    return once(f"layer/{generator}-{digest(*parts)}", make)


def mkinitcpio_prefix() -> Path | None:
    """Where mkinitcpio is set up: what KDUMP_TEST_MKINITCPIO points to, else this machine itself; None without one."""
    prefix = Path(os.environ.get("KDUMP_TEST_MKINITCPIO") or "/")
    return prefix if (prefix / "usr/bin/mkinitcpio").exists() else None


def _make_base(dest: Path) -> None:
    say("building the root from Debian sid (once, two or three minutes)")
    root, packages = dest / "root", dest / "packages"
    dest.mkdir(parents=True)
    packages.mkdir()
    debian.bootstrap("sid", PACKAGES, root)
    wheel = _build_pyalpm(root, dest)
    files = {name: _owned(root, debs) for name, debs in REPACKED.items()}
    versions = dict(line.split(" ", 1) for line in _dpkg(root, "-W", "-f", "${Package} ${Version}\\n"))
    _merge_sbin(root)
    _flatten_libraries(root)
    _install_wheel(root, wheel)
    _configure(root)
    files["mkinitcpio-busybox"] = ["/usr/lib/initcpio/busybox"]
    versions["mkinitcpio-busybox"] = versions["busybox-static"]
    for name, owned in files.items():
        _repack(root, name, owned, versions[REPACKED.get(name, (name,))[0]], packages)
    infos = [
        archpkg.Info(name, archpkg.version_from_debian(versions[deb]), provides=ALSO_PROVIDES.get(name, ()))
        for name, deb in NAMES_ONLY.items()
    ]
    archpkg.empty([*infos, archpkg.Info("pyalpm", PYALPM.partition("==")[2] + "-1")], packages)
    _forget_debian(root)


def _forget_debian(root: Path) -> None:
    """Nothing of dpkg and apt is left to run, and a first boot finds nothing to update."""
    for directory in ("var/lib/dpkg", "var/lib/apt", "var/cache", "etc/apt", "usr/share/debconf"):
        shutil.rmtree(root / directory, ignore_errors=True)
    for units in ("usr/lib/systemd/system", "etc/systemd/system"):
        for unit in [*(root / units).rglob("apt-*"), *(root / units).rglob("dpkg-*")]:
            unit.unlink()
    (root / "var/cache/pacman/pkg").mkdir(parents=True)
    for updated in ("etc/.updated", "var/.updated"):
        (root / updated).touch()


def _repack(root: Path, name: str, files: Sequence[str], version: str, packages: Path) -> None:
    """Files of the root as an Arch package, which pacman puts back as its own."""
    provides = ("initramfs",) if name == "dracut" else ()
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        archpkg.take(root, files, Path(work))
        if name == "dracut":
            _add_dracut_hook(Path(work))
        info = archpkg.Info(name, archpkg.version_from_debian(version), provides=provides)
        archpkg.write(Path(work), info, packages)


def _dpkg(root: Path, *args: str) -> list[str]:
    return Chroot(root).run(["dpkg-query", *args]).stdout.splitlines()


def _owned(root: Path, debs: Sequence[str]) -> list[str]:
    """The files of these Debian packages, at the places that Arch's layout gives them."""
    return [arch_path(line) for line in _dpkg(root, "-L", *debs) if line.startswith("/") and line != "/."]


def arch_path(path: str) -> str:
    """Where Arch has what Debian has at `path`."""
    merged = path if path.startswith(("/usr/", "/etc/", "/var/")) else f"/usr{path}"
    return merged.replace("/usr/sbin", "/usr/bin", 1).replace("/usr/lib/x86_64-linux-gnu", "/usr/lib", 1)


def _build_pyalpm(root: Path, dest: Path) -> Path:
    """pyalpm for the root's Python, from PyPI's source, in a clone with compilers that is thrown away."""
    say("building pyalpm for the root's Python")
    plain_pc = "sed '/^Requires.private/d' /usr/lib/*/pkgconfig/libalpm.pc >/tmp/libalpm.pc"
    clone = Clone([root])
    try:
        apt = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *COMPILERS]
        shutil.copy("/etc/resolv.conf", clone.path / "etc/resolv.conf")
        clone.run(apt, env={"DEBIAN_FRONTEND": "noninteractive"})
        clone.run(["sh", "-c", plain_pc])
        with tempfile.TemporaryDirectory() as config:
            shutil.copy(clone.path / "tmp/libalpm.pc", config)
            fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", PYALPM]
            run([*fetch, "-d", clone.path / "tmp"], env={"PKG_CONFIG_PATH": config})
        source = next((clone.path / "tmp").glob("pyalpm-*.tar.gz")).name
        build = ["pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", "/tmp", f"/tmp/{source}"]
        clone.run(build, env={"PKG_CONFIG_PATH": "/tmp"})
        return Path(shutil.copy(next((clone.path / "tmp").glob("pyalpm-*.whl")), dest))
    finally:
        clone.close()


def _install_wheel(root: Path, wheel: Path) -> None:
    """pacman's Python binding where Debian's own packages for Python lie."""
    run(["bsdtar", "-xf", wheel, "-C", root / "usr/lib/python3/dist-packages"])
    wheel.unlink()


def _merge_sbin(root: Path) -> None:
    """/usr/sbin is /usr/bin, as on Arch; mkinitcpio looks nowhere else."""
    sbin = root / "usr/sbin"
    for path in sbin.iterdir():
        target = root / "usr/bin" / path.name
        if not (target.exists() or target.is_symlink()):
            path.rename(target)
    shutil.rmtree(sbin)
    sbin.symlink_to("bin")


def _flatten_libraries(root: Path) -> None:
    """/usr/lib holds the libraries, as on Arch; the multiarch directory becomes a name for it.

    mkinitcpio's systemd hook looks for libraries right in /usr/lib only, and without them its image hangs.
    """
    multiarch = root / "usr/lib/x86_64-linux-gnu"
    _merge(multiarch, root / "usr/lib")
    multiarch.symlink_to(".")
    shutil.rmtree(root / "usr/lib64")  # one link to the dynamic loader, which lies in /usr/lib by now
    (root / "usr/lib64").symlink_to("lib")
    (root / "lib64").unlink()
    (root / "lib64").symlink_to("usr/lib")


def _merge(source: Path, dest: Path) -> None:
    """Move what is in `source` into `dest`, directory by directory; two different files of one name are an error."""
    for path in source.iterdir():
        target = dest / path.name
        if path.is_dir() and not path.is_symlink() and target.is_dir() and not target.is_symlink():
            _merge(path, target)
        elif target.exists() or target.is_symlink():
            raise LabError(f"{path} and {target} both exist")
        else:
            path.rename(target)
    source.rmdir()


def _configure(root: Path) -> None:
    """The machine's own files: what an installation would have written."""
    texts = {
        "etc/pacman.conf": PACMAN_CONF,
        "etc/fstab": FSTAB,
        "etc/machine-id": MACHINE_ID + "\n",
        "etc/hostname": "lab\n",
        "etc/vconsole.conf": "KEYMAP=us\n",
        "etc/os-release": 'NAME="Arch Linux"\nID=arch\nPRETTY_NAME="Arch Linux (kdump-pkg test lab)"\n',
    }
    for name, text in texts.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.write_text(text)
    makepkg = root / "etc/makepkg.conf"
    makepkg.write_text(makepkg.read_text().replace(".pkg.tar.gz", ".pkg.tar.zst"))
    for directory in ("etc/pacman.d/hooks", "usr/lib/initcpio", "boot"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    shutil.copy2(root / "usr/bin/busybox", root / "usr/lib/initcpio/busybox")
    shutil.copy2(root / "usr/lib/udev/hwdb.bin", root / "etc/udev/hwdb.bin")
    run(["chroot", root, "useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "build"])
    run(["chroot", root, "ldconfig"])


def _add_dracut_hook(tree: Path) -> None:
    for name, text, mode in (
        ("hooks/90-dracut-install.hook", DRACUT_HOOK, 0o644),
        ("scripts/dracut-install", DRACUT_SCRIPT, 0o755),
    ):
        path = tree / "usr/share/libalpm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def _mkinitcpio_files(prefix: Path) -> list[Path]:
    """What an installation of mkinitcpio put below `prefix`: its own directories, and its files in shared ones."""
    own = ["usr/lib/initcpio", "usr/share/mkinitcpio"]
    shared = [
        "usr/bin/mkinitcpio", "usr/bin/lsinitcpio", "etc/mkinitcpio.conf", "usr/share/libalpm/scripts/mkinitcpio",
        "usr/share/libalpm/hooks/60-mkinitcpio-remove.hook", "usr/share/libalpm/hooks/90-mkinitcpio-install.hook",
    ]  # fmt: skip
    below = [path for name in own for path in sorted((prefix / name).rglob("*"))]
    return [path for path in [*below, *(prefix / name for name in shared)] if path.is_file() or path.is_symlink()]


def _pack_mkinitcpio(prefix: Path, dest: Path) -> Path:
    """mkinitcpio as the Arch package it is."""
    with tempfile.TemporaryDirectory(prefix="kdump-lab-") as work:
        for path in _mkinitcpio_files(prefix):
            target = Path(work) / path.relative_to(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)
        for directory in ("mkinitcpio.conf.d", "mkinitcpio.d", "initcpio/install", "initcpio/hooks", "initcpio/post"):
            (Path(work) / "etc" / directory).mkdir(parents=True)
        said = run([prefix / "usr/bin/mkinitcpio", "--version"], check=False).stdout
        version = "".join(letter for letter in said if letter.isdigit() or letter == ".") or "0"
        info = archpkg.Info(
            "mkinitcpio", f"{version}-1", depends=("mkinitcpio-busybox",), provides=("initramfs",),
            backup=("etc/mkinitcpio.conf",),
        )  # fmt: skip
        return archpkg.write(Path(work), info, dest)


def _install(clone: Clone, generator: str, prefix: Path | None) -> None:
    """Everything through pacman itself, in one transaction."""
    stock = clone.path / "var/cache/pacman/pkg"
    for package in (base() / "packages").glob("*.pkg.tar.zst"):
        if not package.name.startswith("dracut-") or generator == "dracut":
            shutil.copy(package, stock)
    if prefix:
        _pack_mkinitcpio(prefix, stock)
    names = [f"/var/cache/pacman/pkg/{path.name}" for path in sorted(stock.iterdir())]
    clone.run(["pacman", "--noconfirm", "-U", *names])
    if prefix:
        (clone.path / "etc/mkinitcpio.conf.d/lab.conf").write_text(MKINITCPIO_DROP_IN)
    for path in stock.iterdir():
        path.unlink()
