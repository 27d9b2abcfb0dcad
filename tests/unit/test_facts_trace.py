"""What failed captures leave: only the exact line counts, wherever it lies; the record only where it has a place."""

from __future__ import annotations

import fcntl
import json
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import fs, paths
from kdump_pkg.apply import execute
from kdump_pkg.apply import trace as apply_trace
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import trace
from kdump_pkg.model import MakeRecord, Plan, Trace, TraceRecord
from tests.fakes import UUID, FakeRunner, Link, LiveContext, make_tree

LINE = "kdump-pkg 1 1795420014 6.12.1-arch1-1 target_1: UUID=x did not appear within 30 s"
TEXT = "target_1: UUID=x did not appear within 30 s"
MARK = "0123456789abcdef" * 2
PMSG = f"{paths.PSTORE}/pmsg-ramoops-0"


def found(source: str, text: str = TEXT, time: int = 1795420014) -> Trace:
    return Trace(time, "6.12.1-arch1-1", text, source)


def record(line: str = "", mark: str = MARK) -> bytes:
    return (f"kdump-pkg record {mark}\n".encode().ljust(512, b"\0") + line.encode()).ljust(4096, b"\0")


def variable(line: str) -> bytes:
    return b"\7\0\0\0" + line.encode()


@pytest.mark.parametrize(
    ("tree", "source"),
    [
        ({paths.EFI_TRACE: variable(LINE)}, "EFI variable"),
        ({paths.EFI_TRACE: variable(f"{LINE}\n\0\0")}, "EFI variable"),
        ({PMSG: f"somebody's words\nkdump-pkg-trace: {LINE}\nmore"}, "pstore"),
        ({PMSG: b"\xff\0kdump-pkg-trace: " + LINE.encode() + b"\0\xff"}, "pstore"),
        ({f"{paths.PSTORE_ARCHIVE}/1795420014/pmsg-ramoops-0": f"kdump-pkg-trace: {LINE}"}, "pstore"),
        ({f"{paths.PSTORE_ARCHIVE}/a/b/pmsg.txt": f"kdump-pkg-trace: {LINE}"}, "pstore"),
        ({f"{paths.PSTORE_ARCHIVE}/pmsg-ramoops-0": f"kdump-pkg-trace: {LINE}"}, "pstore"),
        ({paths.RECORD: record(LINE)}, "record"),
    ],
)
def test_where_it_is_found(ctx: Context, root: Path, tree: dict[str, bytes | str], source: str) -> None:
    make_tree(root, tree)
    assert trace.read_traces(ctx) == trace.read_lying(ctx) == (found(source),)
    assert trace.read_collected(ctx) == ()


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {paths.EFI_TRACE: variable("")},
        {paths.EFI_TRACE: b"\7"},
        {paths.EFI_TRACE: LINE},  # the attributes are missing
        {paths.EFI_TRACE: variable(f"x{LINE}")},
        {paths.EFI_TRACE: variable(LINE.replace("kdump-pkg 1", "kdump-pkg 2"))},
        {paths.EFI_TRACE: variable("kdump-pkg 1 yesterday 6.12 text")},
        {paths.EFI_TRACE: variable("kdump-pkg 1 1795420014 6.12")},
        {paths.EFI_TRACE: variable("kdump-pkg 1 1795420014 6.12/x text")},
        {paths.EFI_TRACE: variable("kdump-pkg 1 " + "9" * 40 + " 6.12 text")},
        {paths.EFI_TRACE: variable("kdump-pkg 1 1795420014 6.12 \x1b[31mtext")},
        {paths.EFI_TRACE: Link("../../../../etc/trace"), "/etc/trace": variable(LINE)},
        {paths.EFI_TRACE: None},
        {PMSG: LINE},
        {f"{paths.PSTORE}/dmesg-ramoops-0": f"kdump-pkg-trace: {LINE}"},
        {f"{paths.PSTORE_ARCHIVE}/a/b/c/d/pmsg-ramoops-0": f"kdump-pkg-trace: {LINE}"},
        {paths.RECORD: record()},
        {paths.RECORD: record(LINE, MARK[:-1] + "g")},
        {paths.RECORD: record(LINE).replace(b"\n", b" ", 1)},
        {paths.RECORD: b"\0" * 512 + LINE.encode()},
        {paths.RECORD: record(LINE)[:512]},
    ],
)
def test_what_is_none(ctx: Context, root: Path, tree: dict[str, bytes | str]) -> None:
    make_tree(root, tree)
    assert trace.read_traces(ctx) == ()


def test_only_printable_and_not_too_much(ctx: Context, root: Path) -> None:
    line = f"kdump-pkg 1 1795420014 6.12.1-arch1-1 {'a' * 500}"
    make_tree(root, {paths.EFI_TRACE: variable(line), PMSG: f"kdump-pkg-trace: {LINE} \x1b]0;rm\x07"})
    assert {t.text for t in trace.read_lying(ctx)} == {"a" * 400, TEXT}


def test_found_twice_counts_once(ctx: Context, root: Path) -> None:
    make_tree(root, {paths.EFI_TRACE: variable(LINE), PMSG: f"kdump-pkg-trace: {LINE}", paths.RECORD: record(LINE)})
    assert trace.read_lying(ctx) == (found("EFI variable"),)


def test_the_last_twenty_by_time(ctx: Context, root: Path) -> None:
    lines = [f"kdump-pkg-trace: kdump-pkg 1 {1795420014 + n} 6.12.1-arch1-1 text" for n in range(30)]
    make_tree(root, {f"{paths.PSTORE}/pmsg-ramoops-{n}": line for n, line in enumerate(lines)})
    assert [t.time for t in trace.read_traces(ctx)] == [1795420014 + n for n in range(10, 30)]


def test_a_flood_of_words_takes_no_time(ctx: Context, root: Path) -> None:
    make_tree(root, {PMSG: f"kdump-pkg-trace: {LINE}\n" * 50_000})
    assert trace.read_lying(ctx) == (found("pstore"),)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b"{", b"\xff\xfe", b'{"traces": 3}', b'{"traces": {"a": 1}}',
        b'{"traces": [1, null, []]}',
        b'{"traces": [{"time": "x", "release": "6", "text": "t"}]}',
        b'{"traces": [{"time": 5, "release": "6 7/8", "text": "t"}]}',
        b'{"traces": [{"time": 5, "release": "6", "text": "a\\nb"}]}',
        b'{"traces": [{"time": 5, "release": "6", "text": "\\ud800"}]}',
        b'{"traces": [{"time": -5, "release": "6", "text": "t"}]}',
        b'{"traces": [{"time": 5, "release": "6"}]}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_list(ctx: Context, root: Path, data: bytes) -> None:
    make_tree(root, {paths.TRACES: data})
    assert trace.read_collected(ctx) == ()


@given(st.binary(max_size=700), st.binary(max_size=700))
def test_anything_may_lie_there(before: bytes, after: bytes) -> None:
    for one in trace._first(before + after, "x"):
        assert one.text.isprintable() and one.text.isascii() and len(one.text) <= 400
    assert all(m.end() <= len(before + after) for m in trace.PMSG.finditer(before + after))


def test_kept_and_read_again(ctx: Context, root: Path) -> None:
    kept = (found("pstore", 'quotes " and \\', 1), found("record", "x", 2))
    apply_trace.keep(ctx, kept)
    assert trace.read_collected(ctx) == kept
    data = json.loads((root / "var/lib/kdump-pkg/traces.json").read_bytes())
    data["traces"][0]["source"] = "\x1b"
    (root / "var/lib/kdump-pkg/traces.json").write_text(json.dumps(data))
    assert trace.read_collected(ctx)[0].source == "unknown"


# --- the record -------------------------------------------------------------------------------------------------------


def machine(root: Path, fstype: str = "ext4", data: bytes | None = None) -> Context:
    tree: dict[str, str | bytes | None] = {
        "/proc/self/mountinfo": f"25 1 254:1 / / rw,relatime - {fstype} /dev/vda1 rw\n",
        "/run/udev/data/b254:1": f"E:ID_FS_UUID={UUID}\nE:ID_FS_TYPE={fstype}\n",
        paths.STATE: None,
    }
    make_tree(root, tree | ({paths.RECORD: data} if data is not None else {}))
    return LiveContext(root, FakeRunner())


GOOD = fs.Extent(0, 1 << 30, 4096, 1)


@pytest.mark.parametrize(
    ("extents", "offset"),
    [
        ((GOOD,), 1 << 30),
        ((fs.Extent(0, 8192, 65536, 0x1001),), 8192),
        (None, None),
        ((), None),
        ((GOOD, GOOD), None),
        ((fs.Extent(4096, 1 << 30, 4096, 1),), None),
        ((fs.Extent(0, 0, 4096, 1),), None),
        ((fs.Extent(0, 1 << 30, 1024, 1),), None),
        *(((fs.Extent(0, 1 << 30, 4096, 1 | bad),), None) for bad in (2, 4, 8, 0x80, 0x100, 0x200, 0x400, 0x800)),
        ((fs.Extent(0, 1 << 30, 4096, 0x2001),), None),
    ],
)  # fmt: skip
def test_place_of_the_record(
    root: Path, monkeypatch: pytest.MonkeyPatch, extents: tuple[fs.Extent, ...] | None, offset: int | None
) -> None:
    ctx = machine(root, data=record())
    monkeypatch.setattr(fs, "extents", lambda path: extents)
    wanted = TraceRecord(f"UUID={UUID}", offset, MARK) if offset is not None else None
    assert trace.read_record(ctx) == wanted
    assert not trace.record_is_missing(ctx)


@pytest.mark.parametrize(
    ("fstype", "able"),
    [("ext4", True), ("ext3", True), ("ext2", True), ("xfs", True), ("vfat", True), ("btrfs", False), ("f2fs", False),
     ("overlay", False), ("zfs", False), ("nfs4", False)],
)  # fmt: skip
def test_file_systems_that_keep_a_block_in_its_place(
    root: Path, monkeypatch: pytest.MonkeyPatch, fstype: str, able: bool
) -> None:
    ctx = machine(root, fstype)
    monkeypatch.setattr(fs, "extents", lambda path: (GOOD,))
    assert trace.record_is_missing(ctx) is able
    assert trace.read_record(ctx) is None
    make_tree(root, {paths.RECORD: record()})
    assert (trace.read_record(ctx) is not None) is able


@pytest.mark.parametrize("data", [None, b"", record()[:20], record(mark="x" * 32), Link("/etc/record")])
def test_no_record(root: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | Link | None) -> None:
    ctx = machine(root)
    monkeypatch.setattr(fs, "extents", lambda path: (GOOD,))
    if data is not None:
        make_tree(root, {paths.RECORD: data})
    assert trace.read_record(ctx) is None
    assert trace.record_is_missing(ctx)


def test_another_root_has_no_place_on_a_device(ctx: Context, root: Path) -> None:
    machine(root)
    assert not trace.record_is_missing(ctx)
    make_tree(root, {paths.RECORD: record()})
    assert trace.read_record(ctx) is None


def test_made_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = machine(root)
    said: list[str] = []
    assert execute(ctx, Plan((MakeRecord("none yet"),)), said.append) == ()
    assert said == [f"writing {paths.RECORD}: none yet"]
    path = root / "var/lib/kdump-pkg/record"
    data = path.read_bytes()
    assert (len(data), path.stat().st_mode & 0o777, path.stat().st_nlink) == (4096, 0o600, 1)
    assert trace.HEADER.fullmatch(data)
    assert not trace.record_is_missing(ctx)
    real = fs.extents(path)
    if real is None or not real[0].physical:
        pytest.skip("the file system of the temporary directory doesn't say where a file lies (FIEMAP)")
    assert [(e.logical, e.length) for e in real] == [(0, 4096)]


# --- the helpers of fs ------------------------------------------------------------------------------------------------


def test_extents_of_what_has_none(root: Path) -> None:
    make_tree(root, {"/empty": b"", "/link": Link("empty")})
    assert fs.extents(root / "empty") in ((), None)
    for name in ("link", "nowhere", "."):
        assert fs.extents(root / name) is None


def test_a_protected_file_can_be_removed(root: Path) -> None:
    make_tree(root, {"/file": b"x"})
    fd = os.open(root / "file", os.O_RDONLY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(fd, 0x80086601, bytes(4)))[0]
        fcntl.ioctl(fd, 0x40086602, struct.pack("i", flags | 0x10))
    except OSError:
        pytest.skip("only root can protect a file (chattr +i), and only where the file system has such a flag")
    finally:
        os.close(fd)
    with pytest.raises(KdumpError, match="Operation not permitted"):
        fs.remove(root / "file")
    fs.clear_immutable(root / "file")
    fs.clear_immutable(root / "file")
    fs.remove(root / "file")
    assert not (root / "file").exists()


def test_overwrite_keeps_the_rest(root: Path) -> None:
    make_tree(root, {"/file": b"0123456789", "/link": Link("file")})
    fs.overwrite(root / "file", 3, b"abc")
    assert (root / "file").read_bytes() == b"012abc6789"
    for name in ("link", "nowhere"):
        with pytest.raises(KdumpError):
            fs.overwrite(root / name, 0, b"x")
    assert (root / "file").read_bytes() == b"012abc6789"
    assert not (root / "nowhere").exists()
