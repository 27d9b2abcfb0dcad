"""Making the roots: Debian sid laid out as Arch Linux is, and on it a layer for each initramfs generator."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import archpkg, debian, recipe
from .chroot import Chroot, Clone
from .common import LabError, digest, once, run, say, source_digest


def base() -> Path:
    """The directory with `root` (Debian sid in Arch's layout) and `packages` (what was repacked from it)."""
    return once(f"base/{source_digest('recipe', 'base', 'archpkg', 'debian')}", _make_base)


def layer(generator: str) -> Path:
    """What pacman and this generator's packages put on top of the base."""
    prefix = mkinitcpio_prefix() if generator == "mkinitcpio" else None
    parts = [str(base()), generator, source_digest("recipe", "base", "archpkg")]
    if prefix:
        parts += [path.read_text() for path in _mkinitcpio_files(prefix) if path.is_file()]

    def make(dest: Path) -> None:
        say(f"packages of the {generator} root")
        clone = Clone([base() / "root"])
        try:
            _install(clone, generator, prefix)
            run(["cp", "-a", clone.detach(), dest])
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
    debian.bootstrap("sid", recipe.PACKAGES, root)
    wheel = _build_pyalpm(root, dest)
    files = {name: _owned(root, debs) for name, debs in recipe.REPACKED.items()}
    versions = dict(line.split(" ", 1) for line in _dpkg(root, "-W", "-f", "${Package} ${Version}\\n"))
    _merge_sbin(root)
    _flatten_libraries(root)
    _install_wheel(root, wheel)
    _configure(root)
    files["mkinitcpio-busybox"] = ["/usr/lib/initcpio/busybox"]
    versions["mkinitcpio-busybox"] = versions["busybox-static"]
    for name, owned in files.items():
        _repack(root, name, owned, versions[recipe.REPACKED.get(name, (name,))[0]], packages)
    infos = [
        archpkg.Info(
            name, archpkg.version_from_debian(versions.get(deb, "1-1")), provides=recipe.ALSO_PROVIDES.get(name, ())
        )
        for name, deb in recipe.NAMES_ONLY.items()
    ]
    archpkg.empty([*infos, archpkg.Info("pyalpm", recipe.PYALPM.partition("==")[2] + "-1")], packages)
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
        apt = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *recipe.COMPILERS]
        shutil.copy("/etc/resolv.conf", clone.path / "etc/resolv.conf")
        clone.run(apt, env={"DEBIAN_FRONTEND": "noninteractive"})
        clone.run(["sh", "-c", plain_pc])
        with tempfile.TemporaryDirectory() as config:
            shutil.copy(clone.path / "tmp/libalpm.pc", config)
            fetch = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", recipe.PYALPM]
            run([*fetch, "-d", clone.path / "tmp"], env={"PKG_CONFIG_PATH": config})
        source = next((clone.path / "tmp").glob("pyalpm-*.tar.gz")).name
        offline = ["--no-deps", "--no-index", "--no-build-isolation"]
        build = ["pip", "wheel", "-q", *offline, "-w", "/tmp", f"/tmp/{source}"]
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
    for name, text in recipe.INSTALLATION.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.write_text(text)
    makepkg = root / "etc/makepkg.conf"
    makepkg.write_text(makepkg.read_text().replace(".pkg.tar.gz", ".pkg.tar.zst"))
    for directory in ("etc/pacman.d/hooks", "usr/lib/initcpio", "boot"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/python").symlink_to("python3")
    shutil.copy2(root / "usr/bin/busybox", root / "usr/lib/initcpio/busybox")
    shutil.copy2(root / "usr/lib/udev/hwdb.bin", root / "etc/udev/hwdb.bin")
    run(["chroot", root, "useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", "build"])
    run(["chroot", root, "ldconfig"])


def _add_dracut_hook(tree: Path) -> None:
    for name, text, mode in (
        ("hooks/90-dracut-install.hook", recipe.DRACUT_HOOK, 0o644),
        ("scripts/dracut-install", recipe.DRACUT_SCRIPT, 0o755),
    ):
        path = tree / "usr/share/libalpm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)


def _mkinitcpio_files(prefix: Path) -> list[Path]:
    """What an installation of mkinitcpio put below `prefix`: its own directories, and its files in shared ones."""
    below = [path for name in recipe.MKINITCPIO_DIRECTORIES for path in sorted((prefix / name).rglob("*"))]
    files = [*below, *(prefix / name for name in recipe.MKINITCPIO_FILES)]
    return [path for path in files if (path.is_file() or path.is_symlink()) and "kdump" not in path.name]


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
        version = re.search(r"\d+(\.\d+)*", said)
        info = archpkg.Info(
            "mkinitcpio",
            f"{version.group() if version else 0}-1",
            depends=("mkinitcpio-busybox",),
            provides=("initramfs",),
            backup=("etc/mkinitcpio.conf",),
        )
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
        (clone.path / "etc/mkinitcpio.conf.d/lab.conf").write_text(recipe.MKINITCPIO_DROP_IN)
    for path in stock.iterdir():
        path.unlink()
