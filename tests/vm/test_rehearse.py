"""Real crashes: every generator and flavour that is here, through `kdump-pkg rehearse` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab import packages
from tests.lab.packages import Series
from tests.lab.root import ArchRoot, Generator, mkinitcpio_prefix, open_root

pytestmark = pytest.mark.vm

REPO = Path(__file__).parents[2]
CRASH = "Kernel panic - not syncing: sysrq triggered crash"
PARTS = {"dmesg.txt", "meta", "save.log", "vmcore"}

needs_mkinitcpio = pytest.mark.skipif(
    mkinitcpio_prefix() is None, reason="no mkinitcpio on this machine, nor where KDUMP_TEST_MKINITCPIO points"
)


@pytest.fixture(scope="session")
def package() -> Path:
    return packages.kdump_pkg(REPO)


@contextmanager
def armed(generator: Generator, package: Path, config: str, series: Series = "6.12") -> Iterator[ArchRoot]:
    """A root in which pacman's hooks have made the capture image."""
    with open_root(generator=generator) as root:
        (root.path / "etc/kdump-pkg.conf").write_text(config)
        done = root.pacman("-U", packages.kernel(series), package)
        assert (root.path / "boot/initramfs-linux-kdump.img").is_file(), done.stdout + done.stderr
        yield root


def rehearse(root: ArchRoot, *arguments: str, code: int = 0) -> dict[str, Any]:
    """The verdict, and that nothing of the rehearsal is left in the root."""
    argv = [sys.executable, "-m", "kdump_pkg", "rehearse", "--root", str(root.path), "--json", *arguments]
    done = subprocess.run(argv, cwd=REPO, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert not list((root.path / "var/tmp").glob("kdump-pkg-*"))
    verdict: dict[str, Any] = json.loads(done.stdout)
    return verdict


def check(verdict: dict[str, Any]) -> None:
    """The dump is there, complete and readable, and its log has the panic."""
    assert verdict["captured"], verdict["reason"]
    assert (verdict["result"], verdict["makedumpfile_readable"]) == ("complete", True)
    assert CRASH in verdict["panic_line"]
    assert {file["name"] for file in verdict["dump"]} == PARTS


@pytest.mark.parametrize("flavour", ["direct", "udev", "systemd"])
@pytest.mark.parametrize("generator", [pytest.param("mkinitcpio", marks=needs_mkinitcpio), "dracut"])
def test_a_crash_is_saved(generator: Generator, flavour: str, package: Path) -> None:
    with armed(generator, package, f"flavour = {flavour}\n") as root:
        verdict = rehearse(root, "--crashkernel", "256M")
    check(verdict)
    assert (verdict["generator"], verdict["flavour"]) == (generator, flavour)
    assert verdict["min_available_kib"] > 64 << 10


@pytest.mark.parametrize(("series", "size"), [("6.12", "48M"), ("7.2", "72M")])
def test_direct_captures_in_96_mib_and_says_when_it_is_too_little(
    series: Series, size: str, package: Path, tmp_path: Path
) -> None:
    generator: Generator = "mkinitcpio" if mkinitcpio_prefix() else "dracut"
    with armed(generator, package, "drivers = virtio_pci, virtio_blk\n", series) as root:
        kept = tmp_path / "kept"
        verdict = rehearse(root, "--crashkernel", "96M", "--keep", str(kept))
        check(verdict)
        assert verdict["flavour"] == "direct"
        assert verdict["image_bytes"] <= 10_000_000
        assert CRASH in (kept / verdict["directory"] / "dmesg.txt").read_text(errors="replace")
        failed = rehearse(root, "--crashkernel", size, code=1)
    assert not failed["captured"]
    assert failed["reason"].endswith("reserve more"), failed


@pytest.mark.parametrize(("drivers", "controller"), [("nvme", "nvme"), ("ahci, sd_mod", "ahci")])
def test_the_disk_is_one_that_the_image_drives(drivers: str, controller: str, package: Path) -> None:
    generator: Generator = "mkinitcpio" if mkinitcpio_prefix() else "dracut"
    with armed(generator, package, f"drivers = {drivers}\n") as root:
        verdict = rehearse(root, "--crashkernel", "128M")
    check(verdict)
    assert verdict["controller"] == controller
