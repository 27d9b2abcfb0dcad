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

from kdump_pkg import config as configuration
from kdump_pkg import reconcile, rehearsal
from kdump_pkg.context import Context
from kdump_pkg.plan.verdict import Verdict
from kdump_pkg.rehearsal import Wish
from tests.lab import packages
from tests.lab.packages import Series
from tests.lab.root import ArchRoot, Generator, default_generator, mkinitcpio_prefix, open_root

pytestmark = pytest.mark.vm

REPO = Path(__file__).parents[2]
CRASH = "Kernel panic - not syncing: sysrq triggered crash"
PARTS = {"capture-dmesg.txt", "dmesg.txt", "meta", "save.log", "vmcore"}

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
    assert (verdict["private"], verdict["sound"]) == (True, True), verdict["unsound"]


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


FILE_SYSTEM = "0f0e0d0c-1111-2222-3333-444455556666"
STACK = f"""drivers = virtio_pci, virtio_blk
[target uuid={FILE_SYSTEM}]
path = /crash
fstype = xfs
layers = md:01234567:89abcdef:01234567:89abcdef, crypt:aaaaaaaa-1111-2222-3333-444455556666, lvm:v-g/cra-sh
"""


def rehearsed(root: ArchRoot, wish: Wish) -> Verdict:
    """As the command does it, with what only tests may wish for."""
    ctx = Context(root=root.path)
    config = configuration.load(ctx)
    return rehearsal.rehearse(ctx, config, reconcile.read_facts(ctx, config), wish)


def test_a_whole_stack_is_made_opened_by_a_typed_passphrase_and_read(package: Path) -> None:
    with armed(default_generator(), package, STACK) as root:
        verdict = rehearsed(root, Wish(type_passphrase=True))
    assert verdict.captured, verdict
    assert (verdict.result, verdict.private, verdict.sound, verdict.keys) == ("complete", True, True, ())


def test_kept_disks_crash_again_and_may_be_full(package: Path, tmp_path: Path) -> None:
    """What a later crash finds on a disk is what the one before left there."""
    kept = tmp_path / "kept"
    with armed(default_generator(), package, "drivers = virtio_pci, virtio_blk\n") as root:
        first = rehearsed(root, Wish(keep=kept, break_target=("dumps:1:2", "room:1:400M")))
        assert first.captured, first
        again = rehearsed(root, Wish(disks=kept, keep=tmp_path / "again"))
    assert again.captured, again
    assert again.directory != first.directory
    names = {path.name for path in (tmp_path / "again/targets/1/var/crash").iterdir()}
    assert {first.directory, again.directory} < names
    assert len(names) == 4
    assert again.sound


def test_the_power_is_cut(package: Path) -> None:
    with armed(default_generator(), package, "drivers = virtio_pci, virtio_blk\n") as root:
        verdict = rehearsed(root, Wish(kill_after=("kdump-save: step vmcore begin", 1)))
    assert not verdict.captured
    assert (verdict.reason or "").startswith("the power was cut"), verdict
    assert (verdict.result, verdict.sound) == ("incomplete", True)
    assert "dmesg.txt" in {file.name for file in verdict.dump}


def test_a_target_that_refuses_to_be_written_to_leaves_the_next(package: Path) -> None:
    partition = "11111111-2222-3333-4444-555555555555"
    esp = f"[target root]\n[target partuuid={partition}]\npath = /kdump\nfstype = vfat\n"
    with armed(default_generator(), package, f"drivers = virtio_pci, virtio_blk\n{esp}") as root:
        verdict = rehearsed(root, Wish(break_target=("ro:1",)))
    assert verdict.captured, verdict
    assert verdict.target_name == f"partuuid={partition}"
