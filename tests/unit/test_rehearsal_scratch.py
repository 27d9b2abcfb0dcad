"""The scratch disks: their tables, the shell that makes and opens them, and what is taken from them."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg.apply import scratch as disks
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Layer, Target
from kdump_pkg.plan import first_stage, gpt, scratch
from kdump_pkg.plan.faults import Faults, parse
from tests import fakes
from tests.fakes import RELEASE, UUID, FakeRunner, make_tree
from tests.tools import tool

MD = "01234567:89abcdef:01234567:89abcdef"
LUKS = "aaaaaaaa-1111-2222-3333-444455556666"
OTHER = LUKS.replace("a", "b")
PART = "11111111-2222-3333-4444-555555555555"
ARRAY, CRYPT, LOGICAL = Layer("md", MD), Layer("crypt", LUKS), Layer("lvm", "v-g/cra-sh")
WHOLE = fakes.target(fstype="xfs", layers=(ARRAY, CRYPT, LOGICAL))
STACKS = {
    "ext4": fakes.target(),
    "label": fakes.target(fstype="ext3", device="LABEL=dumps"),
    "subvolume": fakes.target(fstype="btrfs", options="rw,compress=zstd:3,subvol=/@/crash", path="/"),
    "devices": fakes.target(fstype="btrfs", devices=2),
    "encrypted devices": fakes.target(fstype="btrfs", devices=2, layers=(CRYPT, Layer("crypt", OTHER))),
    "esp": fakes.target(fstype="vfat", device=f"PARTUUID={PART}", name="esp", path="/kdump"),
    "partition label": fakes.target(device="PARTLABEL=my dumps"),
    "array": fakes.target(layers=(ARRAY,)),
    "luks": fakes.target(layers=(CRYPT,)),
    "lvm": fakes.target(layers=(LOGICAL,)),
    "all": WHOLE,
    "f2fs": fakes.target(fstype="f2fs", device="LABEL=flash"),
    "exfat": fakes.target(fstype="exfat", device="LABEL=stick"),
}


def volumes(*targets: Target, faults: Faults = Faults()) -> tuple[scratch.Volume, ...]:  # noqa: B008 - frozen
    return scratch.volumes(targets, faults, 1024)


# --- the table ------------------------------------------------------------------------------------------------------


def test_the_table_is_a_gpt() -> None:
    partition = gpt.Partition("kdump-1-1", uuid.UUID(PART), gpt.ESP)
    table = gpt.table(64, partition)
    sectors = 64 * 2048
    assert table.head[510:512] == b"\x55\xaa" and table.head[450] == 0xEE
    for header, entries, here, other in (
        (table.head[512:1024], table.head[1024:], 1, sectors - 1),
        (table.tail[-512:], table.tail[:-512], sectors - 1, 1),
    ):
        crc = zlib.crc32(header[:16] + bytes(4) + header[20:92])
        assert struct.unpack_from("<8sIII", header) == (b"EFI PART", 0x10000, 92, crc)
        assert struct.unpack_from("<QQQQ", header, 24) == (here, other, 34, sectors - 34)
        assert struct.unpack_from("<QIII", header, 72)[1:] == (128, 128, zlib.crc32(entries))
        assert uuid.UUID(bytes_le=entries[:16]) == gpt.ESP
        assert str(uuid.UUID(bytes_le=entries[16:32])) == PART
        assert struct.unpack_from("<QQ", entries, 32) == (2048, sectors - 2048 - 1)
        assert entries[56:128].decode("utf-16-le").rstrip("\0") == "kdump-1-1"
    assert struct.unpack_from("<Q", table.tail[-512:], 72)[0] == sectors - 33


def test_a_long_name_is_cut() -> None:
    table = gpt.table(64, gpt.Partition("x" * 50, uuid.UUID(PART)))
    assert len(table.head) == 34 * 512


def test_a_disk_is_holes_and_a_table(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disks.make_disk(disk, 256, gpt.Partition("x", uuid.UUID(PART)))
    assert disk.stat().st_size == 256 << 20
    assert disk.stat().st_blocks * 512 < 1 << 20
    assert disk.read_bytes()[-512:-504] == b"EFI PART"


# --- the volumes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "programs"),
    [
        ("ext4", 1, ("mkfs.ext4",)),
        ("subvolume", 1, ("mkfs.btrfs", "btrfs")),
        ("devices", 2, ("mkfs.btrfs",)),
        ("encrypted devices", 2, ("mkfs.btrfs", "cryptsetup")),
        ("all", 2, ("mkfs.xfs", "mdadm", "cryptsetup", "lvm")),
        ("esp", 1, ("mkfs.vfat",)),
    ],
)
def test_disks_and_programs(name: str, count: int, programs: tuple[str, ...]) -> None:
    found = volumes(STACKS[name])
    assert [volume.count for volume in found] == [count]
    assert scratch.programs(found) == programs


def test_partitions_have_the_names_of_the_target() -> None:
    esp, label, array = (volumes(STACKS[name])[0].partitions[0] for name in ("esp", "partition label", "array"))
    assert (str(esp.unique), esp.kind) == (PART, gpt.ESP)
    assert label.name == "my dumps"
    assert (array.name, array.kind) == ("kdump-1-1", gpt.LINUX)


def test_targets_on_the_same_file_system_share_it() -> None:
    root, crash = (fakes.target(fstype="btrfs", options=f"subvol=/{name}") for name in ("@", "@crash"))
    found = volumes(root, fakes.target(device="UUID=other"), crash)
    assert [[number for number, _ in volume.targets] for volume in found] == [[1, 3], [2]]
    made = scratch.make(found[0], {})
    assert made.count("subvolume @") == made.count("subvolume @crash") == 1
    assert len([line for line in made if "mkfs" in line]) == 1


def test_faults_change_the_disks() -> None:
    targets = (fakes.target(), fakes.target(device="UUID=2"), fakes.target(device="UUID=3", fstype="vfat"))
    found = volumes(*targets, faults=parse(("missing:1", "ro:2", "room:3:40M")))
    assert [(v.number, v.readonly, v.mib) for v in found] == [(2, True, 1536), (3, False, 104)]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (fakes.target(fstype="zfs"), "can't rehearse on zfs, only on ext4"),
        (fakes.target(fstype="exfat"), "a exfat target named UUID="),
        (fakes.target(device="/dev/sda1"), "named /dev/sda1"),
        (fakes.target(device="PARTUUID=12345678-01"), "no partition of a GPT"),
        (fakes.target(device=f"PARTUUID={PART}", layers=(CRYPT,)), "the file system is above crypt:"),
        (fakes.target(layers=(Layer("multipath", "mpatha"),)), "with multipath below"),
        (fakes.target(layers=(CRYPT, ARRAY)), "above md:"),
        (fakes.target(fstype="btrfs", devices=2, layers=(LOGICAL,)), "on 2 device.s. above lvm:"),
        (fakes.target(devices=2), "ext4 on 2 device.s. above a disk"),
        (fakes.target(fstype="btrfs", options="subvolid=260"), "use subvol="),
    ],
)
def test_what_has_no_double_is_one_line(target: Target, words: str) -> None:
    with pytest.raises(KdumpError, match=words) as caught:
        volumes(target)
    assert "\n" not in caught.value.message


# --- the shell ------------------------------------------------------------------------------------------------------


def made(name: str) -> list[str]:
    return scratch.make(volumes(STACKS[name])[0], {})


def test_a_file_system_gets_the_names_of_the_target() -> None:
    assert any(line.startswith("run mkfs.ext4 ") and line.endswith(f'-U {UUID} "$d1"') for line in made("ext4"))
    assert any(line.startswith("run mkfs.ext3 ") and "-L dumps" in line for line in made("label"))
    assert any(line == 'run mkfs.vfat -F 32 "$d1"' for line in made("esp"))
    by_uuid = scratch.make(volumes(fakes.target(fstype="vfat", device="UUID=ABCD-1234"))[0], {})
    assert 'run mkfs.vfat -F 32 -i ABCD1234 "$d1"' in by_uuid


def test_a_stack_is_made_from_the_disk_up() -> None:
    lines = made("all")
    assert lines[:2] == ["part kdump-1-1; d1=$node", "part kdump-1-2; d2=$node"]
    assert lines[2:5] == [
        f'make_md /dev/md1 {MD} "$d1" "$d2"',
        f"make_crypt /dev/md1 {LUKS} 0",
        f"make_lvm /dev/mapper/scratch-{LUKS} v-g cra-sh",
    ]
    assert lines[5].startswith("run mkfs.xfs ") and lines[5].endswith(" /dev/mapper/v--g-cra--sh")
    assert scratch.open_(volumes(WHOLE)[0])[2:5] == [
        f'open_md /dev/md1 {MD} "$d1" "$d2"', f"open_crypt /dev/md1 {LUKS} 0",
        f"open_lvm /dev/mapper/scratch-{LUKS} v-g cra-sh",
    ]  # fmt: skip


def test_a_btrfs_of_several_devices_is_told_of_all() -> None:
    assert made("devices")[-1] == 'use 1 btrfs device="$d2" "$d1"'
    lines = made("encrypted devices")
    assert f'make_crypt "$d2" {OTHER} 0' in lines
    assert lines[-1] == f"use 1 btrfs device=/dev/mapper/scratch-{OTHER} /dev/mapper/scratch-{LUKS}"


def test_a_subvolume_is_made_and_mounted() -> None:
    lines = made("subvolume")
    assert "subvolume @/crash" in lines
    assert lines[-1] == 'use 1 btrfs compress=zstd:3,subvol=/@/crash "$d1"'


def test_a_file_system_is_checked_when_it_is_closed() -> None:
    found = volumes(WHOLE, STACKS["esp"])
    assert scratch.checkers(found) == ("xfs_repair", "fsck.vfat", "dd")
    assert scratch.close(found[0]) == ["umount /target/1 2>/dev/null", 'check 1 xfs_repair -n "$device_1"']
    assert "seek=65" in scratch.close(found[1])[1]


@pytest.mark.spawns
@pytest.mark.parametrize("command", ["sh -n", "bash -n", "busybox ash -n", "shellcheck --severity=warning"])
def test_the_first_stage_is_sound_shell(command: str, tmp_path: Path) -> None:
    faults = parse(("room:1:40M", "ro:2", "dumps:1:1"))
    for number, target in enumerate([*STACKS.values(), None]):
        targets = [target, fakes.target(device="LABEL=it's")] if target else []
        script = tmp_path / f"init{number}"
        script.write_text(first_stage.script(volumes(*targets, faults=faults), faults, {LUKS: 1000}, [LUKS]))
        done = tool(*command.split(), os.fspath(script))
        assert (done.returncode, done.stdout) == (0, "")


def test_a_disk_that_refuses_to_be_written_to_is_only_opened_to_be_read() -> None:
    faults = parse(("ro:1",))
    script = first_stage.script(volumes(STACKS["luks"], faults=faults), faults)
    reopen = script[script.index("reopen() {") :]
    assert reopen.splitlines()[1].strip() == 'if [ "$KDUMP_REHEARSAL" = read ]; then'


# --- modules --------------------------------------------------------------------------------------------------------


def test_modules_are_unpacked_in_their_order(ctx: Context, root: Path, runner: FakeRunner, tmp_path: Path) -> None:
    import gzip
    import lzma

    def unpacked(call: fakes.Call) -> fakes.Answer:
        assert [Path(name).name for name in call.argv[4:]] == ["a.ko.zst", "e.ko.zst"]
        make_tree(Path(call.argv[3]), {"a.ko": b"A", "e.ko": b"E"})
        return 0

    runner.answers["zstd"] = unpacked
    home = f"/usr/lib/modules/{RELEASE}"
    packed: dict[str, fakes.Entry] = {
        f"{home}/a.ko.zst": b"", f"{home}/x/b.ko.xz": lzma.compress(b"B"), f"{home}/c.ko.gz": gzip.compress(b"C"),
        f"{home}/d.ko": b"D", f"{home}/e.ko.zst": b"",
    }  # fmt: skip
    make_tree(root, packed)
    names = [name.removeprefix(f"{home}/") for name in packed]
    found = disks.modules(ctx, RELEASE, names, tmp_path / "work")
    assert [file.data for file in found[:5]] == [b"A", b"B", b"C", b"D", b"E"]
    assert (found[5].name, found[5].data) == ("/modules/order", b"a.ko\nb.ko\nc.ko\nd.ko\ne.ko\n")


@pytest.mark.parametrize("name", ["a.ko.xz", "a.ko.gz"])
def test_a_damaged_module_is_one_line(ctx: Context, root: Path, tmp_path: Path, name: str) -> None:
    make_tree(root, {f"/usr/lib/modules/{RELEASE}/{name}": b"no"})
    with pytest.raises(KdumpError, match=f"{name}: damaged module"):
        disks.modules(ctx, RELEASE, [name], tmp_path / "work")


# --- what comes back ------------------------------------------------------------------------------------------------


def out(tmp_path: Path, *members: tuple[str, dict[str, Any]], cut: int | None = None) -> Path:
    """A disk with an archive on it; `data` is a file's content, what else is given are fields of its header."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            member.size = len(data)
            for key, value in fields.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(data))
    disk = tmp_path / "out.img"
    disk.write_bytes(bytes(disks.PARTITION) + stream.getvalue()[:cut] + bytes(1 << 16))
    return disk


DIRECTORY = {"type": tarfile.DIRTYPE, "mode": 0o700}


def test_names_modes_and_contents_come_back(tmp_path: Path) -> None:
    into = tmp_path / "into"
    link = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
    disks.unpack(
        out(tmp_path, ("1/a", DIRECTORY), ("1/a/f", {"data": b"x" * 5000, "mode": 0o604}), ("1/a/l", link)), into
    )
    assert (into / "1/a/f").read_bytes() == b"x" * 5000
    assert [(into / name).stat().st_mode & 0o777 for name in ("1/a", "1/a/f")] == [0o700, 0o604]
    assert (into / "1/a/l").readlink() == Path("/etc/passwd")


def test_nothing_gets_out(tmp_path: Path) -> None:
    into = tmp_path / "into"
    (tmp_path / "victim").mkdir()
    evil = (
        ("../victim/a", {"data": b"1"}),
        (f"{tmp_path}/victim/b", {"data": b"1"}),
        ("1/out", {"type": tarfile.SYMTYPE, "linkname": str(tmp_path / "victim")}),
        ("1/out/c", {"data": b"1"}),
        ("1/out", {"data": b"1"}),
        ("1/fifo", {"type": tarfile.FIFOTYPE}),
        ("1/fine", {"data": b"1"}),
    )
    disks.unpack(out(tmp_path, *evil), into)
    assert list((tmp_path / "victim").iterdir()) == []
    assert sorted(p.name for p in (into / "1").iterdir()) == ["fine", "out"]


def test_half_an_archive_is_taken_as_far_as_it_goes(tmp_path: Path) -> None:
    into = tmp_path / "into"
    disks.unpack(out(tmp_path, ("1/a", {"data": b"1"}), ("1/b", {"data": b"2" * 9999}), cut=2048), into)
    assert (into / "1/a").read_bytes() == b"1"
    disks.unpack(out(tmp_path, cut=0), tmp_path / "nothing")
    assert list((tmp_path / "nothing").iterdir()) == []


def test_only_dumps_are_found(tmp_path: Path) -> None:
    home = tmp_path / "crash"
    good = [f"2026-11-23T08-31-30Z-{RELEASE}", f"2026-11-23T08-31-30Z-{RELEASE}.1"]
    make_tree(home, {f"{name}/meta": "" for name in (*good, "lost+found", "2026-11-23-x")})
    make_tree(home, {"2027-11-23T08-31-30Z-1": "a file", "2028-11-23T08-31-30Z-1": fakes.Link(good[0])})
    assert [p.name for p in disks.find_dumps(home)] == good
    assert disks.find_dumps(tmp_path / "missing") == []


def test_a_disk_that_was_not_kept(tmp_path: Path) -> None:
    with pytest.raises(KdumpError, match="there is no disk-1-1"):
        disks.reuse(tmp_path, tmp_path / "work" / "disk-1-1.img")
