"""What `setup` writes, as the real programs of boot loaders read it and make images from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.loaders import systemd_boot, words
from kdump_pkg.model.bootloader import Place, Surroundings
from tests.lab import packages
from tests.lab.bootloaders import changed, contents, embedded
from tests.lab.fixtures import WITHOUT_MKINITCPIO
from tests.lab.recipe import MACHINE_ID
from tests.lab.root import ROOT_UUID, ArchRoot, Generator, mkinitcpio_prefix, open_root
from tests.pacman.conftest import armed_layer

pytestmark = pytest.mark.pacman

ROOT = f"root=UUID={ROOT_UUID} rw quiet"
WORD = "crashkernel=128M"
SETUP = ("kdump-pkg", "setup", "--yes", "--crashkernel", "128M")
DRACUT = "/etc/dracut.conf.d/image.conf"
UNDO = ("kdump-pkg", "setup", "--undo", "--yes")
# Those that `setup` changes, then those of other systems.
ENTRIES = {
    "plain.conf": f"title Arch\nlinux /vmlinuz-linux\noptions {ROOT}\n",
    "several.conf": f"linux /vmlinuz-linux\noptions {ROOT}\noptions a=1  b=2\ninitrd /initramfs-linux.img\n",
    "dos.conf": f"title Arch\r\nlinux /vmlinuz-linux\r\noptions {ROOT}\r\n",
    "open.conf": f"linux /vmlinuz-linux\noptions {ROOT}",
    "tabs.conf": f"# options x=y\ntitle\tÄrch, ein Kern\n\nlinux\t/vmlinuz-linux\n\toptions\t\t{ROOT} \t\n",
    "quoted.conf": f'linux /vmlinuz-linux\noptions {ROOT} x="a b" # no comment\n',
    "counted+3-1.conf": f"linux /vmlinuz-linux\noptions {ROOT}\n",
}
FOREIGN = {
    "other.conf": "title Other\nlinux /vmlinuz-linux\noptions root=UUID=00000000-1111-2222-3333-444444444444 rw\n",
    "windows.conf": "title Windows\nefi /vmlinuz-linux\n",
}


@pytest.fixture
def root(armed: ArchRoot) -> ArchRoot:
    """One whose /boot has loader entries for systemd-boot."""
    for name, text in {**ENTRIES, **FOREIGN}.items():
        path = armed.path / "boot/loader/entries" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return armed


def as_bootctl_reads(root: ArchRoot) -> dict[str, str]:
    """File name of each entry to its command line."""
    argv = ["bootctl", "--esp-path=/boot", "--json=short", "list"]
    said = json.loads(root.run(argv, env={"SYSTEMD_RELAX_ESP_CHECKS": "1"}).stdout)
    return {Path(entry["path"]).name: entry.get("options", "") for entry in said if entry["type"] == "type1"}


def as_we_read(root: ArchRoot) -> dict[str, str]:
    around = Surroundings(
        roots=frozenset({f"UUID={ROOT_UUID}"}), machine_id=MACHINE_ID, places=(Place("/boot", "esp", "/dev/vda1"),)
    )
    loader = systemd_boot.read(Context(root=root.path), around)
    assert loader
    data = {file.path: file.data or b"" for file in loader.files}
    lines = {file.path.rpartition("/")[2]: line for file, line in zip(loader.files, loader.lines, strict=True)}
    return {name: " ".join(words.text(data[one.path], [one]) for one in line.stretches) for name, line in lines.items()}


def plain(lines: Mapping[str, str]) -> dict[str, list[str]]:
    return {name: text.split() for name, text in lines.items()}


def test_bootctl_reads_what_setup_wrote(root: ArchRoot) -> None:
    before, read = contents(root), plain(as_bootctl_reads(root))
    assert read.keys() == ENTRIES.keys() | FOREIGN.keys()
    assert plain(as_we_read(root)) == read
    root.run(SETUP)
    with_it = {name: [*line, WORD] if name in ENTRIES else line for name, line in read.items()}
    assert plain(as_bootctl_reads(root)) == with_it
    assert plain(as_we_read(root)) == with_it
    root.run(UNDO)
    assert changed(before, contents(root)) == set()
    assert plain(as_bootctl_reads(root)) == read


@pytest.fixture(params=["mkinitcpio", "dracut"])
def maker(request: pytest.FixtureRequest, package: Path, lab: None) -> Iterator[ArchRoot]:
    """A root in which kernel-install by mkinitcpio, or dracut by itself, makes unified kernel images; small ones."""
    generator: Generator = request.param
    if generator == "mkinitcpio" and mkinitcpio_prefix() is None:
        pytest.skip(WITHOUT_MKINITCPIO)
    with open_root(generator=generator, above=[armed_layer(generator, package)]) as root:
        files = {
            "/etc/kernel/install.conf": "layout=uki\n",
            "/etc/kernel/cmdline": f"{ROOT}\n",
            "/etc/mkinitcpio.conf.d/lab.conf": "HOOKS=(base)\n",
        }
        if generator == "dracut":
            conf = f'uefi="yes"\nkernel_cmdline="{ROOT}"\nhostonly="no"\ndracutmodules="base"\nno_kernel="yes"\n'
            files = {DRACUT: f'{conf}compress="cat"\n'}
        for name, text in files.items():
            path = root.path / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (root.path / "boot/EFI/Linux").mkdir(parents=True)
        yield root


def test_images_are_made_anew(maker: ArchRoot) -> None:
    release = packages.release("6.12")
    if maker.generator == "dracut":
        argv, name, file = ["dracut", "--force", "--regenerate-all"], f"linux-{release}-{MACHINE_ID}", DRACUT
        own = ""
    else:
        argv, name, file = ["kernel-install", "add-all"], f"{MACHINE_ID}-{release}", "/etc/kernel/cmdline"
        own = f" systemd.machine_id={MACHINE_ID}"  # kernel-install's
    image = f"/boot/EFI/Linux/{name}.efi"
    maker.run(argv)
    before = contents(maker)
    assert embedded(maker, image) == ROOT + own
    maker.run(SETUP)
    found = changed(before, contents(maker))
    assert embedded(maker, image) == f"{ROOT} {WORD}{own}"
    assert {path for path in found if not path.startswith(("/var/lib/kdump-pkg/", "/etc/systemd/"))} == {image, file}
    maker.run(UNDO)
    assert embedded(maker, image) == ROOT + own
    assert changed(before, contents(maker)) <= {image}, "it is made anew"
