"""Real images with every tool that a storage stack needs: each is in there with its libraries, and runs."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.fixtures import WITHOUT_MKINITCPIO
from tests.lab.root import ArchRoot, Generator, mkinitcpio_prefix, open_root

pytestmark = pytest.mark.pacman

REPO = Path(__file__).resolve().parents[2]
CONFIG = """flavour = direct
drivers = virtio_pci, virtio_blk
encrypt_to = age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
[target root]
[target partuuid=6b64756d-01]
fstype = ext4
layers = md:6b64756d:702d4c61:8b000123:456789ab, crypt:6b64756d-702d-4c61-8b00-0123456789ac, lvm:vg/crash
"""
IMAGE = "boot/initramfs-linux-kdump.img"
VERSIONS = {
    "makedumpfile": "-v", "mdadm": "--version", "lvm": "version", "cryptsetup": "--version", "age": "--version",
    "findfs": "--version",
}  # fmt: skip


def unpack(image: bytes, dest: Path) -> None:
    """Archive after archive, as the kernel does it: plain ones, then one in gzip."""
    dest.mkdir()
    while image:
        start = image
        while image[:6] == b"070701":
            size, named = int(image[54:62], 16), int(image[94:102], 16)
            body = (110 + named + 3) & ~3
            last = image[110 : 110 + named] == b"TRAILER!!!\0"
            image = image[(body + size + 3) & ~3 :]
            if last:
                break
        packed = start[: len(start) - len(image)]
        if not packed:
            packed, image = gzip.decompress(image), b""
        subprocess.run(["bsdtar", "-xf", "-", "-C", dest, "--exclude", "./dev/*"], input=packed, check=True)
        image = image.lstrip(b"\0")


def says(tree: Path, *argv: str) -> str:
    done = subprocess.run(
        ["chroot", tree, *argv], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/usr/sbin"}
    )
    return done.stdout + done.stderr


def check(root: ArchRoot, flavour: str, tree: Path) -> None:
    (root.path / "etc/kdump-pkg.conf").write_text(CONFIG.replace("direct", flavour))
    root.run(["kdump-pkg", "rebuild"])
    unpack((root.path / IMAGE).read_bytes(), tree)
    for name, option in VERSIONS.items():
        said = says(tree, name, option)
        assert "version" in said.lower() or name in said or said[:1].isdigit(), f"{flavour} {name}: {said}"
        assert "error while loading" not in said and "BusyBox" not in said, f"{flavour} {name}: {said}"
    assert list(tree.glob("usr/lib*/**/libgcc_s.so.1"))
    parts = {path.name for path in (REPO / "hooks/save").glob("*.sh")}
    assert {path.name for path in (tree / "usr/lib/kdump-pkg/save").iterdir()} == parts
    assert (tree / "kdump/env").stat().st_mode & 0o777 == 0o600
    assert (tree / "etc/kdump-pkg/pre.d/wake").stat().st_mode & 0o777 == 0o755
    assert f"KDUMP_FLAVOUR='{flavour}'" in (tree / "kdump/env").read_text()
    for name in ("dm-crypt", "dm-mod", "raid1"):
        assert list(tree.rglob(f"{name}.ko*")), f"{flavour}: no {name}"


@pytest.mark.parametrize("generator", ["mkinitcpio", "dracut"])
def test_every_program_runs_in_the_image(generator: Generator, package: Path, tmp_path: Path) -> None:
    if generator == "mkinitcpio" and mkinitcpio_prefix() is None:
        pytest.skip(WITHOUT_MKINITCPIO)
    with open_root(generator=generator) as root:
        script = root.path / "etc/kdump-pkg/pre.d/wake"
        script.parent.mkdir(parents=True)
        script.write_text("#!/bin/sh\n")
        script.chmod(0o755)
        (root.path / "etc/kdump-pkg.conf").write_text(CONFIG)
        root.pacman("-U", packages.kernel("7.2"), package)
        for flavour in ("direct", "udev", "systemd"):
            check(root, flavour, tmp_path / flavour)


def test_the_package_has_the_parts_and_the_directories(package: Path) -> None:
    done = subprocess.run(["bsdtar", "-tvf", package], capture_output=True, text=True, check=True)
    modes = {words[-1]: words[0] for words in (line.split() for line in done.stdout.splitlines())}
    for part in (REPO / "hooks/save").glob("*.sh"):
        assert modes[f"usr/lib/kdump-pkg/save/{part.name}"] == "-rw-r--r--"
    for name in ("pre.d", "post.d"):
        assert modes[f"etc/kdump-pkg/{name}/"] == "drwxr-xr-x"
    for unit in (REPO / "systemd").glob("*.service"):
        assert modes[f"usr/lib/systemd/system/{unit.name}"] == "-rw-r--r--"
    for file in (file for file in (REPO / "linux-kdump").rglob("*") if file.is_file()):
        wanted = "-rwxr-xr-x" if file.name == "configure" else "-rw-r--r--"
        assert modes[f"usr/share/kdump-pkg/{file.relative_to(REPO)}"] == wanted
    assert modes["usr/lib/sysusers.d/kdump-pkg.conf"] == "-rw-r--r--"
