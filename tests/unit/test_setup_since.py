"""What `setup --undo` makes of a system that went on living: new kernels, counted boots, edits, links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kdump_pkg import fs
from kdump_pkg.errors import KdumpError
from tests.fakes import UUID, FakeRunner, make_tree
from tests.unit import test_setup
from tests.unit.test_apply_setup import contents
from tests.unit.test_setup import CONFIG, DEFAULTS, ENTRY, Run

system, grub, entries, run = test_setup.system, test_setup.grub, test_setup.entries, test_setup.run

ID = "0123456789abcdef0123456789abcdef"
ENTRIES = "/boot/loader/entries"
OF_KERNEL = f"title Arch Linux\nmachine-id {ID}\nlinux /{ID}/%s/linux\noptions root=UUID={UUID} rw\n"
RESERVED = " crashkernel=104M"


def made_by_kernel_install(root: Path, version: str, more: str = "") -> None:
    make_tree(root, {f"{ENTRIES}/{ID}-{version}.conf": (OF_KERNEL % version).replace("rw\n", f"rw{more}\n")})


def text(root: Path, path: str) -> str:
    return (root / path[1:]).read_text()


def test_an_entry_that_kernel_install_made_since(system: FakeRunner, root: Path, run: Run) -> None:
    """It is made from /etc/kernel/cmdline, so that what is in it came from us."""
    files = {
        "/etc/kernel/cmdline": f"root=UUID={UUID} rw\n",
        "/usr/bin/kernel-install": "",
        "/etc/machine-id": f"{ID}\n",
    }
    make_tree(root, files)
    made_by_kernel_install(root, "6.12.1")
    assert run("--yes") == 0
    (root / f"{ENTRIES[1:]}/{ID}-6.12.1.conf").unlink()
    made_by_kernel_install(root, "6.13.0", RESERVED)
    assert run("--undo", "--yes") == 0
    assert text(root, f"{ENTRIES}/{ID}-6.13.0.conf") == OF_KERNEL % "6.13.0"
    assert text(root, "/etc/kernel/cmdline") == files["/etc/kernel/cmdline"]


def test_an_entry_that_the_user_copied_since(
    entries: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays, and is said: the memory isn't back where that one is booted."""
    first = text(root, ENTRY)
    assert run("--yes") == 0
    make_tree(root, {f"{ENTRIES}/lts.conf": text(root, ENTRY)})
    capsys.readouterr()
    assert run("--undo", "--yes") == 0
    assert f"{ENTRIES}/lts.conf has crashkernel=104M too, but not from setup: it stays" in capsys.readouterr().out
    assert text(root, ENTRY) == first
    assert RESERVED in text(root, f"{ENTRIES}/lts.conf")


@pytest.mark.parametrize(("before", "now"), [("arch+3.conf", "arch+2-1.conf"), ("arch+3.conf", "arch.conf")])
def test_boots_were_counted(entries: FakeRunner, root: Path, run: Run, before: str, now: str) -> None:
    home = root / ENTRIES[1:]
    (root / ENTRY[1:]).rename(home / before)
    first = (home / before).read_bytes()
    assert run("--yes") == 0
    (home / before).rename(home / now)
    assert run("--undo", "--yes") == 0
    assert (home / now).read_bytes() == first


def test_the_users_own_value_is_booted_after_an_undo(grub: FakeRunner, root: Path, run: Run) -> None:
    """grub.cfg as it was first wouldn't have what /etc/default/grub says by now."""
    assert run("--yes") == 0
    changed = text(root, DEFAULTS).replace("104M", "300M")
    (root / DEFAULTS[1:]).write_text(changed)
    assert run("--yes") == 0
    assert run("--undo", "--yes") == 0
    assert text(root, DEFAULTS) == changed
    assert "crashkernel=300M" in text(root, CONFIG)


def test_a_file_made_where_a_link_leads(grub: FakeRunner, root: Path, run: Run) -> None:
    (root / DEFAULTS[1:]).unlink()
    (root / DEFAULTS[1:]).symlink_to("/home/me/grub")
    (root / CONFIG[1:]).write_text(test_setup.CFG % "rw")
    grub.answers["grub-mkconfig"] = lambda call: (root / CONFIG[1:]).write_text(test_setup.CFG % f"rw{RESERVED}") and 0
    first = contents(root)
    assert run("--yes") == 0
    assert RESERVED.strip() in (root / "home/me/grub").read_text()
    assert run("--undo", "--yes") == 0
    assert contents(root) == first
    assert (root / DEFAULTS[1:]).readlink() == Path("/home/me/grub")


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    """A configuration file that is a link to /dev/null: that must stay a device."""
    os.mkfifo(tmp_path / "null")
    (tmp_path / "file").symlink_to("null")
    with pytest.raises(KdumpError, match="file: no regular file"):
        fs.rewrite(tmp_path / "file", b"new")
    assert (tmp_path / "null").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "null"]
