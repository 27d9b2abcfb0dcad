"""UEFI variables: made by hand after the UEFI specification and the Boot Loader Interface, whole and broken."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.facts import efi
from kdump_pkg.model.bootloader import Firmware, NvramEntry
from tests.fakes import Entry, make_tree

HOME = "/sys/firmware/efi/efivars"
PART = "0f0e0d0c-1111-2222-3333-444455556666"
ATTRIBUTES = b"\7\0\0\0"
END = b"\x7f\xff\4\0"
ACPI = b"\2\1\x0c\0\xd0\x41\3\x0a\0\0\0\0"
PCI = b"\1\1\6\0\0\x1f"


def utf16(text: str) -> bytes:
    return text.encode("utf-16-le")


def loader(name: str, text: str) -> dict[str, Entry]:
    return {f"{HOME}/{name}-{efi.LOADER}": ATTRIBUTES + utf16(f"{text}\0")}


def plain(name: str, data: bytes) -> dict[str, Entry]:
    return {f"{HOME}/{name}-{efi.GLOBAL}": ATTRIBUTES + data}


def disk(number: int = 1, *, guid: str = PART, mbr: int | None = None) -> bytes:
    signature = uuid.UUID(guid).bytes_le if mbr is None else struct.pack("<I12x", mbr)
    kind = 2 if mbr is None else 1
    return struct.pack("<BBHIQQ16sBB", 4, 1, 42, number, 2048, 1 << 20, signature, kind, kind)


def file(name: str) -> bytes:
    data = utf16(f"{name}\0")
    return struct.pack("<BBH", 4, 4, 4 + len(data)) + data


def option(label: str, *nodes: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    paths = b"".join(nodes)
    return struct.pack("<IH", 1, len(paths) if size is None else size) + utf16(f"{label}\0") + paths + data


BOOT = option("Arch Linux", disk(), file("\\vmlinuz-linux"), END, data=utf16("root=UUID=1 rw\0"))


def read(ctx: Context, *variables: dict[str, Entry]) -> Firmware:
    make_tree(ctx.root, {HOME: None})
    for one in variables:
        make_tree(ctx.root, one)
    return efi.read_firmware(ctx)


def test_no_firmware_of_this_kind(ctx: Context) -> None:
    assert efi.read_firmware(ctx) == Firmware()


def test_nothing_set(ctx: Context) -> None:
    assert read(ctx) == Firmware(efi=True)


def test_all_that_is_read(ctx: Context) -> None:
    found = read(
        ctx,
        loader("LoaderInfo", "systemd-boot 257.9-1-arch"),
        loader("StubInfo", "systemd-stub 257.9-1-arch"),
        loader("LoaderEntrySelected", "arch.conf"),
        loader("LoaderDevicePartUUID", PART.upper()),
        plain("BootCurrent", b"\x0a\0"),
        plain("Boot000A", BOOT),
        plain("Boot000B", option("Other", END)),
        plain("SecureBoot", b"\1"),
        plain("SetupMode", b"\0"),
    )
    entry = NvramEntry("000A", "Arch Linux", "/vmlinuz-linux", PART, 1, "root=UUID=1 rw")
    assert found == Firmware(
        True, "systemd-boot 257.9-1-arch", "systemd-stub 257.9-1-arch", "arch.conf", PART, entry, True
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], None),
        ([plain("SecureBoot", b"")], None),
        ([plain("SecureBoot", b"\0")], False),
        ([plain("SecureBoot", b"\1")], True),
        ([plain("SecureBoot", b"\1"), plain("SetupMode", b"\1")], False),
        ([{f"{HOME}/SecureBoot-{efi.GLOBAL}": b"\6\0"}], None),
    ],
)
def test_secure_boot(ctx: Context, variables: list[dict[str, Entry]], expected: bool | None) -> None:
    assert read(ctx, *variables).secure_boot is expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (utf16("GRUB 2.12\0"), "GRUB 2.12"),
        (utf16("GRUB 2.12"), "GRUB 2.12"),
        (utf16("Limine 9\0rest"), "Limine 9"),
        (b"", ""),
        (b"\0", ""),
        (utf16("x")[:1], ""),
        (utf16("a\x1b[2J\0"), ""),
        (b"\0\xd8\0\0", ""),
    ],
)
def test_text(ctx: Context, data: bytes, text: str) -> None:
    assert read(ctx, {f"{HOME}/LoaderInfo-{efi.LOADER}": ATTRIBUTES + data}).loader_info == text


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param([], id="no BootCurrent"),
        pytest.param([plain("BootCurrent", b"\1\0")], id="no such entry"),
        pytest.param([plain("BootCurrent", b"\1"), plain("Boot0001", BOOT)], id="BootCurrent cut short"),
        pytest.param([plain("BootCurrent", b"\1\0\0"), plain("Boot0001", BOOT)], id="BootCurrent too long"),
        pytest.param([plain("BootCurrent", b"\1\0"), plain("Boot0001", b"")], id="empty"),
        pytest.param([plain("BootCurrent", b"\1\0"), {f"{HOME}/Boot0001-{efi.GLOBAL}": b"\7\0"}], id="no attributes"),
    ],
)
def test_no_entry(ctx: Context, variables: list[dict[str, Entry]]) -> None:
    assert read(ctx, *variables).entry is None


@pytest.mark.parametrize(
    ("nodes", "file_name", "partition", "partuuid"),
    [
        pytest.param([disk(2), file("\\EFI\\arch\\grubx64.efi")], "/EFI/arch/grubx64.efi", 2, PART, id="usual"),
        pytest.param([ACPI, PCI, disk(), file("\\a.efi")], "/a.efi", 1, PART, id="the whole way"),
        pytest.param([disk(), file("\\EFI\\x"), file("\\y.efi")], "/EFI/x/y.efi", 1, PART, id="two file nodes"),
        pytest.param([disk(), file("\\EFI\\"), file("y.efi")], "/EFI/y.efi", 1, PART, id="two, one backslash"),
        pytest.param([disk(), file("EFI/x.efi")], "/EFI/x.efi", 1, PART, id="slashes"),
        pytest.param([disk(5, mbr=0xDEADBEEF), file("\\x")], "/x", 5, "deadbeef-05", id="MBR"),
        pytest.param([disk()], "", 1, PART, id="no file"),
        pytest.param([file("\\x")], "/x", 0, "", id="no disk"),
        pytest.param([], "", 0, "", id="nothing"),
        pytest.param([disk(), file("\\x"), END, disk(9), file("\\y")], "/x", 1, PART, id="a second path"),
        pytest.param([b"\4\1\4\0", file("\\x")], "/x", 0, "", id="a disk without content"),
        pytest.param([disk()[:40] + b"\2\7", file("\\x")], "/x", 1, "", id="unknown signature"),
    ],
)
def test_device_paths(nodes: list[bytes], file_name: str, partition: int, partuuid: str) -> None:
    entry = efi.parse_entry("0001", option("A", *nodes, END))
    assert entry == NvramEntry("0001", "A", file_name, partuuid, partition)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\1\0\0\0\4\0A\0B\0", id="label without end"),
        pytest.param(option("A", disk(), END, size=0xFFFF), id="paths longer than all"),
        pytest.param(option("A", b"\4\4\0\0"), id="a node of no length"),
        pytest.param(option("A", b"\4\4\3\0"), id="a node shorter than its head"),
        pytest.param(option("A", b"\4\4\xff\xff"), id="a node longer than the paths"),
        pytest.param(option("A", b"\4\4"), id="half a head"),
        pytest.param(option("A", b"\4\4\5\0A", END), id="half a letter"),
        pytest.param(option("A", b"\4\4\6\0\0\xd8", END), id="half a pair"),
        pytest.param(option("A", file("\\x\x1b[2J"), END), id="a file name for the terminal"),
    ],
)
def test_broken_entries(data: bytes) -> None:
    assert efi.parse_entry("0001", data) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"", "", id="none"),
        pytest.param(
            utf16("root=UUID=1 rw initrd=\\initramfs-linux.img"), "root=UUID=1 rw initrd=\\initramfs-linux.img"
        ),
        pytest.param(utf16("root=1 rw\0"), "root=1 rw", id="with its NUL"),
        pytest.param(utf16("root=1 rw\0") + b"\0", "root=1 rw", id="odd"),
        pytest.param(utf16("root=1 rw \n"), "root=1 rw", id="echo's line feed"),
        pytest.param(utf16("root=LABEL=Größe rw"), "root=LABEL=Größe rw", id="not only ASCII"),
        pytest.param(b"root=UUID=1 rw", "root=UUID=1 rw", id="ASCII"),
        pytest.param(b"root=1\trw\n\0\0", "root=1\trw", id="ASCII with its ends"),
        pytest.param(utf16("A"), "A", id="one letter"),
        pytest.param(b"WINDOWS\0\1\0\0\0\x88\0\0\0x\0\0\0B\0C\0D\0=\0", "", id="Windows"),
        pytest.param(uuid.UUID("8c2ab3f5-aa10-4b5c-9b91-1d3dfd5a1c3f").bytes_le, "", id="a GUID"),
        pytest.param(b"\0\0\x4e\xac\x88\0", "", id="noise"),
        pytest.param(b"\0\xd8\0\xd8", "", id="no UTF-16"),
        pytest.param(utf16("a\x07b"), "", id="a bell"),
    ],
)
def test_arguments(data: bytes, text: str) -> None:
    entry = efi.parse_entry("0001", option("A", file("\\x"), END, data=data))
    assert entry is not None
    assert entry.arguments == text


@given(st.binary(max_size=200))
def test_noise_is_an_entry_or_none(data: bytes) -> None:
    entry = efi.parse_entry("0001", data)
    assert entry is None or (entry.label + entry.file + entry.arguments).replace("\t", " ").isprintable()


@given(st.integers(0, len(BOOT) - 1), st.integers(0, 255), st.integers(0, len(BOOT)))
def test_damage_is_an_entry_or_none(place: int, byte: int, end: int) -> None:
    data = bytearray(BOOT)
    data[place] = byte
    efi.parse_entry("0001", bytes(data[:end]))


def test_cut_short_anywhere() -> None:
    whole = len(BOOT) - len(utf16("root=UUID=1 rw\0"))
    for end in range(whole):
        assert efi.parse_entry("0001", BOOT[:end]) is None, end
    for end in range(whole, len(BOOT)):
        entry = efi.parse_entry("0001", BOOT[:end])
        assert entry is not None
        assert "root=UUID=1 rw".startswith(entry.arguments) or end % 2
