"""The lab keeps what it promises: private roots that can't reach this machine, in which generators work."""

from __future__ import annotations

import pytest

from tests.lab import packages
from tests.lab.archpkg import version_from_debian
from tests.lab.root import ArchRoot, default_generator, open_root

pytestmark = pytest.mark.pacman

HOOKS = {
    "systemd": "base systemd autodetect modconf block filesystems",
    "udev": "base udev autodetect modconf block filesystems",
}


def test_two_clones_share_nothing() -> None:
    with open_root(generator=default_generator()) as one, open_root(generator=default_generator()) as two:
        (one.path / "etc/fstab").write_text("changed\n")
        one.pacman("-U", packages.stub("tiny", "1-1", files={"usr/bin/tiny": "#!/bin/sh\necho tiny\n"}))
        assert one.run(["tiny"]).stdout == "tiny\n"
        assert "tiny" in one.versions()
        assert "tiny" not in two.versions()
        assert (two.path / "etc/fstab").read_text().startswith("UUID=")
    assert not one.path.exists()


def test_commands_in_a_root_can_not_reach_the_machine(arch_root: ArchRoot) -> None:
    def fails(command: str) -> str:
        done = arch_root.run(["sh", "-c", command], check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr

    assert "Operation not permitted" in fails("reboot -f")
    assert "Read-only file system" in fails("echo 0 >/sys/kernel/kexec_crash_size")
    assert "Read-only file system" in fails("echo 1 >/proc/sys/kernel/panic")
    assert arch_root.run(["id", "-un"], user="build").stdout == "build\n"


@pytest.mark.parametrize("flavour", HOOKS)
def test_mkinitcpio_builds_without_a_complaint(flavour: str, with_mkinitcpio: ArchRoot) -> None:
    (with_mkinitcpio.path / "tmp/mkinitcpio.conf").write_text(f"HOOKS=({HOOKS[flavour]})\n")
    argv = ["mkinitcpio", "-k", packages.release("6.12"), "-c", "/tmp/mkinitcpio.conf", "-g", "/tmp/x.img"]
    done = with_mkinitcpio.run(argv)
    assert "ERROR" not in done.stdout + done.stderr
    listed = with_mkinitcpio.run(["lsinitcpio", "/tmp/x.img"]).stdout.split()
    assert {"usr/lib/libc.so.6", "usr/lib/ld-linux-x86-64.so.2", "init"} <= set(listed), "as on Arch, all in /usr/lib"


@pytest.mark.parametrize(
    ("debian", "arch"),
    [("1:1.7.8-1", "1.7.8-1"), ("6.12.107-1", "6.12.107-1"), ("1:1.38.0-3+b1", "1.38.0-3"), ("20.04.1", "20.04.1-1"),
     ("2.1~rc1-2", "2.1.rc1-2")],
)  # fmt: skip
def test_versions(debian: str, arch: str) -> None:
    assert version_from_debian(debian) == arch
