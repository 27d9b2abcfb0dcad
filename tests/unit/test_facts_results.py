"""Command lines read back: from real and broken PE files, loader entries, grub.cfg, limine.conf."""

from __future__ import annotations

import importlib.util
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import results
from kdump_pkg.model.bootloader import Result, ResultLine, Surroundings
from tests.fakes import UUID, Entry, Hole, Link, make_tree

pefile = pytest.mark.skipif(not importlib.util.find_spec("pefile"), reason="no pefile (python-pefile)")
IMAGE = "/efi/EFI/Linux/arch-linux.efi"
AROUND = Surroundings(roots=frozenset({f"UUID={UUID}"}))
OWN = f"root=UUID={UUID} rw crashkernel=256M"
OTHER = "root=UUID=another rw"
AGAIN = "make it anew, and see what its program says"


def pe(*sections: tuple[str, bytes], order: int = 1, padding: int = 512) -> bytes:
    """A PE32+ file with these sections; with ORDER -1 their addresses go down."""
    count = len(sections)
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    optional = struct.pack("<HBBIIIII", 0x20B, 2, 0, 0, 0, 0, 0x1000, 0x1000)
    optional += struct.pack("<QIIHHHHHHIIIIHH", 1 << 32, 4096, 512, 0, 0, 0, 0, 1, 0, 0, 1 << 24, 512, 0, 10, 0)
    optional += struct.pack("<QQQQII", 0, 0, 0, 0, 0, 16) + bytes(16 * 8)
    head = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, count, 0, 0, 0, len(optional), 0x22E) + optional
    start = -(-(len(dos) + len(head) + 40 * count) // 512) * 512
    table = body = b""
    for number, (name, data) in enumerate(sections):
        size = -(-len(data) // padding) * padding
        address = 4096 * (1 + (number if order > 0 else count - number))
        place = start + len(body)
        table += struct.pack("<8sIIIIIIHHI", name.encode(), len(data), address, size, place, 0, 0, 0, 0, 0x40000040)
        body += data.ljust(size, b"\0")
    return (dos + head + table).ljust(start, b"\0") + body


def uki(cmdline: bytes, *more: tuple[str, bytes]) -> bytes:
    return pe((".osrel", b"ID=arch\n"), (".cmdline", cmdline), (".linux", b"MZ kernel"), (".initrd", b"x" * 600), *more)


def image(ctx: Context, data: Entry, around: Surroundings = AROUND) -> tuple[ResultLine, ...]:
    make_tree(ctx.root, {IMAGE: data})
    return results.read_result(ctx, Result(IMAGE, "uki"), around)


# --- unified kernel images ----------------------------------------------------------------------------------------


@pefile
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (OWN.encode(), OWN),
        (f"{OWN}\n\0".encode(), OWN),
        (f"{OWN}\0\0 crashkernel=1M".encode(), OWN),
        ("root=LABEL=Größe".encode(), "root=LABEL=Größe"),
        (b"a\xff", "a\ufffd"),
        (b"", ""),
    ],
)
def test_an_image(ctx: Context, content: bytes, text: str) -> None:
    assert image(ctx, uki(content), Surroundings()) == (ResultLine("arch-linux.efi", text),)


@pefile
def test_another_systems(ctx: Context) -> None:
    (line,) = image(ctx, uki(OTHER.encode()))
    assert (line.text, line.foreign) == (OTHER, "its root is another one, root=UUID=another")


@pefile
def test_without_a_command_line(ctx: Context) -> None:
    """It gets its boot loader's then."""
    assert image(ctx, pe((".linux", b"MZ"))) == ()


@pefile
@pytest.mark.parametrize("order", [1, -1])
def test_profiles(ctx: Context, order: int) -> None:
    """The order of the headers counts, not that of the addresses."""
    data = pe(
        (".linux", b"MZ"),
        (".cmdline", OWN.encode()),
        (".profile", b"ID=main\n"),
        (".profile", b"ID=debug\nTITLE='Debug shell'\n"),
        (".cmdline", b"debug"),
        (".profile", b""),
        (".cmdline", b"last"),
        order=order,
    )
    assert image(ctx, data) == (
        ResultLine("arch-linux.efi", OWN),
        ResultLine("arch-linux.efi, profile Debug shell", "debug"),
        ResultLine("arch-linux.efi, profile without a name", "last"),
    )


@pefile
@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "no unified kernel image: The file is empty", id="empty"),
        pytest.param(b"MZ", "no unified kernel image: ", id="two bytes"),
        pytest.param(b"\x7fELF" * 99, "no unified kernel image: DOS Header magic not found", id="ELF"),
        pytest.param(bytes(range(256)) * 16, "no unified kernel image: ", id="noise"),
        pytest.param(Hole(1 << 20), "no unified kernel image: ", id="zeros"),
        pytest.param(pe((".text", b"x")), "there is no kernel in it", id="another program"),
        pytest.param(pe((".cmdline", OWN.encode())), "there is no kernel in it", id="no kernel"),
        pytest.param(pe((".linux", b"MZ"), (".cmdline", b"x" * 99))[:-500], "cut short in its section .cmdline"),
        pytest.param(None, "no file", id="directory"),
        pytest.param(Link("/nowhere"), "No such file or directory", id="dangling"),
        pytest.param(Link(IMAGE), "too many levels of symbolic links", id="loop"),
    ],
)
def test_images_that_are_none(ctx: Context, data: Entry, words: str) -> None:
    with pytest.raises(KdumpError) as caught:
        image(ctx, data)
    assert caught.value.message.startswith(f"{IMAGE}: ")
    assert words in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


@pefile
def test_a_pipe_in_its_place_does_not_hang(ctx: Context) -> None:
    make_tree(ctx.root, {"/efi/EFI/Linux": None})
    os.mkfifo(ctx.path(IMAGE))
    with pytest.raises(KdumpError, match="no file"):
        results.read_result(ctx, Result(IMAGE, "uki"), AROUND)


@pefile
def test_a_command_line_of_gigabytes(ctx: Context) -> None:
    """Only as much is read as a command line may have."""
    data = bytearray(uki(b"a" * 512))
    place = data.index(b".cmdline") + 8
    struct.pack_into("<IIII", data, place, 1 << 31, 0x2000, 1 << 31, 512)
    make_tree(ctx.root, {IMAGE: bytes(data)})
    with ctx.path(IMAGE).open("r+b") as file:
        file.truncate(1 << 31)
    (line,) = results.read_result(ctx, Result(IMAGE, "uki"), Surroundings())
    assert len(line.text) <= results.LONGEST


WHOLE = uki(OWN.encode(), (".profile", b"ID=x"))


@pefile
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), max_size=6), st.integers(0, len(WHOLE)))
def test_damage_is_lines_or_one_line_of_error(ctx: Context, changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(WHOLE)
    for place, byte in changes:
        data[place] = byte
    try:
        image(ctx, bytes(data[: end if end % 3 == 0 else len(data)]))
    except KdumpError as error:
        assert error.message.startswith(IMAGE)
        assert "\n" not in error.message


def test_pefile_is_missing(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pefile", None)
    with pytest.raises(KdumpError) as caught:
        image(ctx, uki(OWN.encode()))
    assert caught.value.message == f"{IMAGE}: Python needs pefile to read its command line"
    assert caught.value.hint == "pacman -S python-pefile"


STUB = Path("/usr/lib/systemd/boot/efi/linuxx64.efi.stub")


@pefile
@pytest.mark.spawns
@pytest.mark.skipif(not shutil.which("objcopy"), reason="no objcopy (binutils)")
@pytest.mark.parametrize("base", ["by hand", "systemd-stub"])
def test_objcopy_makes_the_same(ctx: Context, tmp_path: Path, base: str) -> None:
    """Sections put into a PE file by another program than ours, as mkinitcpio does it without ukify."""
    if base == "systemd-stub" and not STUB.is_file():
        pytest.skip(f"no {STUB} (systemd-boot-efi, systemd)")
    whole = STUB.read_bytes() if base == "systemd-stub" else pe((".text", b"\x90" * 16), (".linux", b"MZ"))
    make_tree(tmp_path, {"stub": whole, "cmdline": f"{OWN}\n\0", "linux": b"MZ" * 300})
    added = {"cmdline": 0x10000000} | ({"linux": 0x11000000} if base == "systemd-stub" else {})
    words = [f"--add-section=.{name}={tmp_path}/{name}" for name in added]
    words += [f"--change-section-vma=.{name}={address:#x}" for name, address in added.items()]
    argv = ["objcopy", *words, f"{tmp_path}/stub", f"{tmp_path}/image"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr
    assert image(ctx, (tmp_path / "image").read_bytes()) == (ResultLine("arch-linux.efi", OWN),)


# --- texts --------------------------------------------------------------------------------------------------------


def test_grub_cfg(ctx: Context) -> None:
    text = f"""\
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Arch Linux' {{
	linux	/vmlinuz-linux {OWN}
}}
### END /etc/grub.d/10_linux ###
### BEGIN /etc/grub.d/30_os-prober ###
menuentry 'Debian' {{
	linux /vmlinuz {OTHER}
}}
### END /etc/grub.d/30_os-prober ###
"""
    make_tree(ctx.root, {"/boot/grub/grub.cfg": text})
    own, other = results.read_result(ctx, Result("/boot/grub/grub.cfg", "grub.cfg"), AROUND)
    assert own == ResultLine("Arch Linux", OWN)
    assert (other.text, other.foreign) == (OTHER, "it starts another system")


def test_entries(ctx: Context) -> None:
    home = "/boot/loader/entries"
    tree: dict[str, Entry] = {
        f"{home}/arch.conf": f"title Arch\nlinux /vmlinuz-linux\noptions root=UUID={UUID}\noptions crashkernel=256M\n",
        f"{home}/other.conf": f"title Other\nlinux /vmlinuz\noptions {OTHER}\n",
        f"{home}/none.conf": "title None\nlinux /vmlinuz\n",
        f"{home}/arch.conf.bak": "options x\n",
        f"{home}/.hidden.conf": "options x\n",
    }
    make_tree(ctx.root, tree)
    found = {line.entry: line for line in results.read_result(ctx, Result(home, "entries"), AROUND)}
    assert set(found) == {"Arch (arch.conf)", "Other (other.conf)", "None (none.conf)"}
    assert found["Arch (arch.conf)"] == ResultLine("Arch (arch.conf)", f"root=UUID={UUID} crashkernel=256M")
    assert found["Other (other.conf)"].foreign
    assert found["None (none.conf)"].text == ""


def test_limine(ctx: Context) -> None:
    text = (
        f"timeout: 3\n/Arch\n    protocol: linux\n    path: boot():/vmlinuz-linux\n    cmdline: {OWN}\n"
        f"/Other\n    protocol: linux\n    path: boot():/vmlinuz\n    cmdline: {OTHER}\n"
    )
    make_tree(ctx.root, {"/boot/limine.conf": text})
    own, other = results.read_result(ctx, Result("/boot/limine.conf", "limine"), AROUND)
    assert own == ResultLine("Arch", OWN)
    assert (other.entry, other.text) == ("Other", OTHER)
    assert other.foreign


def test_limine_of_its_tool_and_by_hand(ctx: Context) -> None:
    """No variable reaches what its user wrote beside the entries of limine-entry-tool."""
    entry = f"protocol: linux\n  path: boot():/vmlinuz\n  cmdline: {OWN}\n"
    comment = f"comment: machine-id={'0123456789abcdef' * 2} order-priority=50"
    text = f"/+Arch\n{comment}\n  //linux\n  {entry}\n/Rescue\n  {entry}"
    make_tree(ctx.root, {"/boot/limine.conf": text})
    own, rescue = results.read_result(ctx, Result("/boot/limine.conf", "limine"), AROUND)
    assert (own.entry, own.foreign) == ("Arch/linux", None)
    assert (rescue.entry, rescue.foreign) == ("Rescue", "it was written by hand")


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (Result("/boot/grub/grub.cfg", "grub.cfg"), "/boot/grub/grub.cfg: not there, or it can't be read"),
        (Result("/boot/limine.conf", "limine"), "/boot/limine.conf: not there, or it can't be read"),
        (Result("/boot/loader/entries", "entries"), "/boot/loader/entries: there is no loader entry in it"),
        pytest.param(Result(IMAGE, "uki"), f"{IMAGE}: No such file or directory", marks=pefile),
    ],
)
def test_not_there(ctx: Context, result: Result, message: str) -> None:
    with pytest.raises(KdumpError) as caught:
        results.read_result(ctx, result, AROUND)
    assert (caught.value.message, caught.value.hint) == (message, AGAIN)


def test_an_entry_that_can_not_be_read(ctx: Context) -> None:
    make_tree(ctx.root, {"/boot/loader/entries/a.conf": None})
    with pytest.raises(KdumpError, match=r"a\.conf: not there, or it can't be read"):
        results.read_result(ctx, Result("/boot/loader/entries", "entries"), AROUND)
