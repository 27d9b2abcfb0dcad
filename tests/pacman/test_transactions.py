"""Real transactions of a real pacman: what our hooks make of each, and what they leave behind."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from tests.lab import archpkg, packages
from tests.lab.fixtures import WITHOUT_MKINITCPIO
from tests.lab.root import ArchRoot, default_generator, mkinitcpio_prefix, open_root

pytestmark = pytest.mark.pacman

IMAGE = "boot/initramfs-linux-kdump.img"
DERIVED = "etc/mkinitcpio-kdump.conf"
PRESET = "etc/mkinitcpio.d/kdump.preset"
DEBUG = "usr/lib/debug/lib/modules"
FAILED = "command failed to execute correctly"

needs_mkinitcpio = pytest.mark.skipif(mkinitcpio_prefix() is None, reason=WITHOUT_MKINITCPIO)
GENERATORS = [pytest.param("mkinitcpio", marks=needs_mkinitcpio), "dracut"]
both_generators = pytest.mark.parametrize("armed", GENERATORS, indirect=True)


def said(root: ArchRoot, *args: str | Path) -> str:
    """Output of a transaction in which no hook failed."""
    done = root.pacman(*args)
    output = done.stdout + done.stderr
    assert FAILED not in output, output
    return output


def snapshot(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """Every file below ROOT with what it holds; kernel file systems and pacman's own records left out."""
    out: dict[str, tuple[object, ...]] = {}
    skipped = ("proc", "sys", "dev", "run", "tmp", "var/lib/pacman", "var/log", "var/cache")
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(skipped) or path.is_dir():
            continue
        facts = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else hashlib.sha256(path.read_bytes()).hexdigest()
        out[name] = (content, facts.st_mode, facts.st_mtime_ns if times else 0)
    return out


def own(root: ArchRoot) -> dict[str, tuple[object, ...]]:
    """What kdump-pkg makes: its files alone, so that a snapshot takes no time."""
    found: dict[str, tuple[object, ...]] = {}
    for name in ("boot", "etc", "usr/lib/debug", "var/lib/kdump-pkg"):
        found |= {f"{name}/{key}": value for key, value in snapshot(root.path / name).items()}
    return found


def image_of(root: ArchRoot) -> str:
    """The release whose modules are in the capture image."""
    env = (root.path / "var/lib/kdump-pkg/capture.env").read_text()
    fingerprint = re.search(r"KDUMP_FINGERPRINT='(\w+)'", env)
    assert fingerprint
    assert fingerprint[1].encode() in (root.path / IMAGE).read_bytes()[:8192]
    release = re.search(r"KDUMP_RELEASE='([^']+)'", env)
    assert release
    return release[1]


def builds(output: str) -> int:
    """How often the capture image was built in this transaction, whoever did it."""
    return output.count("Using configuration file: '/etc/mkinitcpio-kdump.conf'") + output.count(f"building /{IMAGE}")


def assert_ready(root: ArchRoot, release: str) -> None:
    """Preset, configuration, image and debug kernel are all of RELEASE, and nothing is left to do."""
    assert image_of(root) == release
    assert (root.path / DEBUG / release / "vmlinux").is_file()
    if root.generator == "mkinitcpio":
        assert f'kdump_kver="{release}"' in (root.path / PRESET).read_text()
        assert "HOOKS=(kdump)" in (root.path / DERIVED).read_text()
    else:
        assert not (root.path / PRESET).exists()
    before = own(root)
    done = root.run(["kdump-pkg", "rebuild"])
    assert "building" not in done.stdout
    assert own(root) == before


@both_generators
def test_first_installation(armed: ArchRoot) -> None:
    assert_ready(armed, packages.release("6.12"))
    link = next((armed.path / "usr/lib/debug/.build-id").rglob("*.debug"))
    assert link.resolve() == (armed.path / DEBUG / packages.release("6.12") / "vmlinux").resolve()


@both_generators
def test_kernel_upgrade(armed: ArchRoot) -> None:
    output = said(armed, "-U", packages.kernel("7.2"))
    assert builds(output) == 1, output
    assert_ready(armed, packages.release("7.2"))
    old = armed.path / DEBUG / packages.release("6.12") / "vmlinux"
    assert old.is_file(), "the old release's debug kernel is still needed: a dump of it may come"


def test_upgrade_together_with_what_makes_mkinitcpio_rebuild_all(with_mkinitcpio: ArchRoot) -> None:
    trigger = packages.stub("some-initcpio-hook", "1-1", files={"usr/lib/initcpio/install/some": "build() { :; }\n"})
    output = said(with_mkinitcpio, "-U", packages.kernel("7.2"), trigger)
    assert "kdump.preset: 'kdump'" in output, "mkinitcpio -P was meant to run"
    assert builds(output) == 1, output
    assert_ready(with_mkinitcpio, packages.release("7.2"))


def test_same_version_again(armed: ArchRoot) -> None:
    output = said(armed, "-U", packages.kernel("6.12"))
    assert builds(output) <= 1, output
    assert_ready(armed, packages.release("6.12"))


def test_one_of_two_kernels_goes(armed: ArchRoot) -> None:
    said(armed, "-U", packages.kernel("7.2", pkgbase="linux-lts"))
    assert_ready(armed, packages.release("7.2"))
    said(armed, "-R", "linux-lts")
    assert_ready(armed, packages.release("6.12"))
    assert (armed.path / DEBUG / packages.release("7.2") / "vmlinux").is_file()


def test_the_last_kernel_goes(armed: ArchRoot) -> None:
    done = armed.pacman("-R", "linux")
    output = done.stdout + done.stderr
    assert "no kernel that can capture is installed" in output
    assert FAILED not in output
    assert not (armed.path / PRESET).exists(), "a preset of a kernel that is gone makes mkinitcpio -P fail"
    assert (armed.path / IMAGE).is_file(), "what may still be loaded at the next boot is not taken away"


def newer(root: ArchRoot, name: str, work: Path) -> Path:
    """The installed package with the same files, as a newer version of itself."""
    tree = work / "tree"
    for file in root.run(["pacman", "-Qlq", name]).stdout.split():
        source, target = root.path / file.lstrip("/"), tree / file.lstrip("/")
        if not file.endswith("/"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return archpkg.write(tree, archpkg.Info(name, f"1:{root.versions()[name]}"), work)


def test_upgrade_of_makedumpfile(armed: ArchRoot, tmp_path: Path) -> None:
    before = (armed.path / IMAGE).stat().st_ino
    output = said(armed, "-U", newer(armed, "makedumpfile", tmp_path))
    assert builds(output) == 1, output
    assert (armed.path / IMAGE).stat().st_ino != before
    assert_ready(armed, packages.release("6.12"))


def test_removal_leaves_dumps_and_edited_files(package: Path) -> None:
    with open_root(generator=default_generator()) as root:
        said(root, "-U", packages.kernel("6.12"))
        before = snapshot(root.path, times=False)
        said(root, "-U", package)
        dump = root.path / "var/crash/2026-01-01T00-00-00Z-6.1/meta"
        dump.parent.mkdir(parents=True)
        dump.write_text("release=6.1\n")
        said(root, "-R", "kdump-pkg")
        after = snapshot(root.path, times=False)
        assert set(after) - set(before) == {str(dump.relative_to(root.path))}
        # dracut's hook makes the system's own image anew when a module of dracut's comes; no two of them are alike.
        anew = {"boot/initramfs-linux.img"} if root.generator == "dracut" else set()
        kept = {name: what for name, what in before.items() if name not in anew}
        assert {name: what for name, what in after.items() if name in kept} == kept
        assert not (root.path / "var/lib/kdump-pkg").exists()
        assert not (root.path / "usr/lib/debug").exists()


def test_removal_keeps_what_the_user_edited(with_mkinitcpio: ArchRoot) -> None:
    derived = with_mkinitcpio.path / DERIVED
    derived.write_text(derived.read_text() + "# mine\n")
    said(with_mkinitcpio, "-R", "kdump-pkg")
    assert derived.read_text().endswith("# mine\n")
    assert not (with_mkinitcpio.path / PRESET).exists()


def test_user_edited_files_survive_an_upgrade(with_mkinitcpio: ArchRoot) -> None:
    derived = with_mkinitcpio.path / DERIVED
    text = derived.read_text().replace('COMPRESSION_OPTIONS=("-9")', 'COMPRESSION_OPTIONS=("-1")')
    derived.write_text(text)
    said(with_mkinitcpio, "-U", packages.kernel("7.2"))
    assert derived.read_text() == text
    assert image_of(with_mkinitcpio) == packages.release("7.2")
    status = with_mkinitcpio.run(["kdump-pkg", "status"], check=False).stdout
    assert "user-owned and differs" in status
    assert '-COMPRESSION_OPTIONS=("-1")' in status


def test_failing_generator_keeps_the_old_image(with_mkinitcpio: ArchRoot) -> None:
    image = with_mkinitcpio.path / IMAGE
    before = image.read_bytes()
    (with_mkinitcpio.path / "usr/bin/makedumpfile").rename(with_mkinitcpio.path / "usr/bin/gone")
    done = with_mkinitcpio.pacman("-U", packages.kernel("7.2"))
    output = done.stdout + done.stderr
    assert done.returncode == 0, "a hook never fails a transaction"
    assert "was not built, what was there stays" in output
    assert image.read_bytes() == before
    assert not [p for p in image.parent.iterdir() if p.name.startswith(".kdump-pkg")]
    (with_mkinitcpio.path / "usr/bin/gone").rename(with_mkinitcpio.path / "usr/bin/makedumpfile")
    assert with_mkinitcpio.run(["kdump-pkg", "rebuild"]).returncode == 0
    assert_ready(with_mkinitcpio, packages.release("7.2"))


def test_python_whose_packages_just_vanished(armed: ArchRoot) -> None:
    hidden = hide_site_packages(armed)
    assert hidden, "the root has site-packages to hide"
    done = armed.pacman("-U", packages.kernel("7.2"))
    output = done.stdout + done.stderr
    assert done.returncode == 0
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if "kdump-pkg" in line and "python" in line.lower()]
    assert len(lines) == 1, output
    for path in hidden:
        shutil.move(path.with_name(f"{path.name}.hidden"), path)
    armed.run(["kdump-pkg", "rebuild"])
    assert_ready(armed, packages.release("7.2"))


def hide_site_packages(root: ArchRoot) -> list[Path]:
    """What an upgrade of Python's minor version does to packages that were not rebuilt."""
    found = [
        path
        for name in ("configobj", "elftools", "pyalpm*")
        for library in ("usr/lib", "usr/local/lib")
        for path in (root.path / library).glob(f"**/*-packages/{name}")
    ]
    for path in found:
        shutil.move(path, path.with_name(f"{path.name}.hidden"))  # an overlay can't rename what lies below it
    return found


def test_odd_locale_and_no_stdin(armed: ArchRoot) -> None:
    script = "/usr/share/libalpm/scripts/kdump-pkg"
    for env in ({"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}, {"LC_ALL": "xx_XX"}, {"PYTHONHOME": "/nowhere"}):
        done = armed.run([script, "rebuild"], env=env, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    done = armed.run(["sh", "-c", f"{script} rebuild <&-"], check=False)
    assert done.returncode == 0, done.stderr


def test_other_root_gets_everything_but_a_load(armed: ArchRoot) -> None:
    done = armed.run(["kdump-pkg", "status", "--json"], check=False)
    assert '"armed": null' in done.stdout
