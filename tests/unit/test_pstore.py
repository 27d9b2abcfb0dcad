"""Logs in pstore: EFI's many parts, ramoops, packed ones, as the kernel shows them and as systemd leaves them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.facts import pstore
from tests.fakes import Entry, Link, make_tree

TIME = 1795420014
LOG = "".join(f"<6>[  100.{n:06d}] line {n} of the log\n" for n in range(300))
LOG += "<0>[  101.000000] Kernel panic - not syncing: Fatal exception\n<0>[  101.000001] ---[ end Kernel panic ]---\n"
ARCHIVE = f"{paths.PSTORE_ARCHIVE}/{TIME}/001"


def parts(log: str = LOG, size: int = 1500, reason: str = "Panic#1") -> dict[int, bytes]:
    """By number; the last of the log is part 1, and a part begins with a whole line."""
    lines = log.splitlines(keepends=True)
    found: list[str] = [""]
    for line in reversed(lines):
        if len(found[-1]) + len(line) > size:
            found.append("")
        found[-1] = line + found[-1]
    return {number: f"{reason} Part{number}\n{text}".encode() for number, text in enumerate(found, 1)}


def efi(
    directory: str = paths.PSTORE,
    log: str = LOG,
    *,
    time: int = TIME,
    reason: str = "Panic#1",
    backend: str = "efi_pstore",
) -> dict[str, Entry]:
    every = parts(log, reason=reason)
    return {f"{directory}/dmesg-{backend}-{time}{n:02d}{reason[-1]:0>3}": data for n, data in every.items()}


def only(ctx: Context) -> pstore.Record:
    (record,) = pstore.read_records(ctx)
    return record


@pytest.mark.parametrize("backend", ["efi", "efi_pstore"])
@pytest.mark.parametrize("directory", [paths.PSTORE, ARCHIVE, paths.PSTORE_ARCHIVE])
def test_parts_of_efi(ctx: Context, root: Path, directory: str, backend: str) -> None:
    make_tree(root, efi(directory, backend=backend))
    assert only(ctx) == pstore.Record(TIME, LOG.encode(), True, backend)


def test_a_clock_that_ticks_between_the_parts(ctx: Context, root: Path) -> None:
    """Then systemd puts them into two directories."""
    every = list(parts().items())
    tree = {
        f"{paths.PSTORE_ARCHIVE}/{TIME + (n > 3)}/001/dmesg-efi_pstore-{TIME + (n > 3)}{n:02d}001": data
        for n, data in every
    }
    make_tree(root, dict(tree))
    assert only(ctx).text == LOG.encode()


def test_both_copies_count_once(ctx: Context, root: Path) -> None:
    """`Unlink=no` of pstore.conf leaves them where they were."""
    make_tree(root, efi() | efi(ARCHIVE))
    assert only(ctx).text == LOG.encode()


def test_what_systemd_put_together_counts_where_the_parts_are_gone(ctx: Context, root: Path) -> None:
    text = b"".join(
        f"dmesg-efi_pstore-{TIME}{n:02d}001:\n".encode() + data for n, data in sorted(parts().items(), reverse=True)
    )
    make_tree(root, {f"{ARCHIVE}/dmesg.txt": text})
    assert only(ctx).text == LOG.encode()
    make_tree(root, efi(ARCHIVE))
    assert only(ctx) == pstore.Record(TIME, LOG.encode(), True, "efi_pstore")


def test_a_part_is_lost(ctx: Context, root: Path) -> None:
    tree = efi()
    name = sorted(tree)[2]
    lost = tree.pop(name)
    make_tree(root, tree)
    assert isinstance(lost, bytes)
    assert only(ctx).text == LOG.encode().replace(lost.partition(b"\n")[2], b"")


@pytest.mark.parametrize("name", ["dmesg-ramoops-0", "dmesg-erst-7180437187410264065", "dmesg-pstore_blk-1"])
def test_others_have_all_in_one(ctx: Context, root: Path, name: str) -> None:
    make_tree(root, {f"{paths.PSTORE_ARCHIVE}/{name}": f"Panic#1 Part1\n{LOG}"})
    os.utime(root / f"{paths.PSTORE_ARCHIVE}/{name}".lstrip("/"), (TIME, TIME))
    assert only(ctx) == pstore.Record(TIME, LOG.encode(), True, name.split("-")[1])


def test_two_crashes_of_ramoops(ctx: Context, root: Path) -> None:
    for number in (0, 1):
        name = f"{paths.PSTORE}/dmesg-ramoops-{number}"
        make_tree(root, {name: f"Panic#1 Part1\n[ {number}.000000] words {number}\n"})
        os.utime(root / name.lstrip("/"), (TIME + number, TIME + number))
    assert [record.time for record in pstore.read_records(ctx)] == [TIME, TIME + 1]


def test_two_crashes_in_efi(ctx: Context, root: Path) -> None:
    make_tree(root, efi() | efi(log=LOG.replace("line 7", "line seven"), time=TIME + 3600))
    assert [record.time for record in pstore.read_records(ctx)] == [TIME, TIME + 3600]


@pytest.mark.parametrize("bits", [-15, 15, -12])
def test_packed_ones(ctx: Context, root: Path, bits: int) -> None:
    packer = zlib.compressobj(wbits=bits)
    data = packer.compress(f"Panic#1 Part1\n{LOG}".encode()) + packer.flush()
    make_tree(root, {f"{paths.PSTORE}/dmesg-ramoops-0.enc.z": data})
    assert only(ctx).text == LOG.encode()
    make_tree(root, {f"{paths.PSTORE}/dmesg-ramoops-0.enc.z": data[:200] + b"\xff" * 50})
    assert pstore.read_records(ctx) == () or LOG.encode().startswith(only(ctx).text[:100])


def test_a_bomb(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pstore, "LARGEST", 1 << 16)
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(b"Panic#1 Part1\n" + bytes(50 << 20)) + packer.flush()
    make_tree(root, {f"{paths.PSTORE}/dmesg-ramoops-0.enc.z": data})
    assert len(only(ctx).text) <= 1 << 16


def test_an_oops_that_became_a_panic_is_one_crash(ctx: Context, root: Path) -> None:
    oops = LOG.partition("<0>")[0] + "<4>[  100.900000] ---[ end trace 0000000000000000 ]---\n"
    panic = oops + LOG[len(LOG.partition("<0>")[0]) :]
    make_tree(root, efi(log=oops, reason="Oops#1") | efi(log=panic, time=TIME + 1, reason="Panic#2"))
    assert only(ctx).panic
    assert only(ctx).text == panic.encode()


def test_an_oops_that_was_survived(ctx: Context, root: Path) -> None:
    make_tree(root, efi(log="[ 1.000000] BUG: kernel NULL pointer dereference\n", reason="Oops#1"))
    assert not only(ctx).panic


@pytest.mark.parametrize(
    "tree",
    [
        {"dmesg-ramoops-0": ""},
        {"dmesg-ramoops-0": "no head\n"},
        {"dmesg-ramoops-0": "Panic#1 Part1\n"},
        {"dmesg-ramoops-0": "Panic#1 Part1\n \n\n"},
        {"dmesg-ramoops-0": "Restart#1 Part1\n[ 1.000000] rebooting\n"},
        {"dmesg-ramoops-0": f"x Panic#1 Part1\n{LOG}"},
        {"console-ramoops-0": f"Panic#1 Part1\n{LOG}"},
        {"pmsg-ramoops-0": f"Panic#1 Part1\n{LOG}"},
        {"dmesg-ramoops-0": Link("/etc/shadow")},
        {"dmesg-ramoops-0": None},
        {"dmesg-ramoops-x": f"Panic#1 Part1\n{LOG}"},
        {"a/b/c/d/e/dmesg-ramoops-0": f"Panic#1 Part1\n{LOG}"},
        {"dmesg-ramoops-0.enc.z": b"\xff" * 100},
        {"dmesg.txt": "whatever\n"},
    ],
)
def test_what_is_no_crash(ctx: Context, root: Path, tree: dict[str, Entry]) -> None:
    make_tree(root, {"/etc/shadow": f"Panic#1 Part1\n{LOG}"})
    make_tree(root, {f"{paths.PSTORE_ARCHIVE}/{name}": entry for name, entry in tree.items()})
    assert pstore.read_records(ctx) == ()


def test_a_fifo_is_not_waited_for(ctx: Context, root: Path) -> None:
    make_tree(root, {paths.PSTORE: None})
    os.mkfifo(root / paths.PSTORE[1:] / "dmesg-ramoops-0")
    assert pstore.read_records(ctx) == ()


def test_thousands(ctx: Context, root: Path) -> None:
    make_tree(
        root, {f"{paths.PSTORE_ARCHIVE}/dmesg-ramoops-{n}": f"Panic#1 Part1\n[ 1.{n:06d}] x\n" for n in range(2500)}
    )
    assert len(pstore.read_records(ctx)) == pstore.MOST_RECORDS


def test_known_again_wherever_it_is(ctx: Context, root: Path) -> None:
    make_tree(root, efi())
    digest = only(ctx).digest
    for path in (root / paths.PSTORE[1:]).iterdir():
        path.unlink()
    make_tree(root, efi(ARCHIVE))
    assert only(ctx).digest == digest


def test_the_line_by_which_a_dump_is_known() -> None:
    assert pstore.last_line(LOG.encode()) == b"[  101.000000] Kernel panic - not syncing: Fatal exception"
    assert pstore.last_line(b"<4>[    1.000000] a\n[    2.000000] b\nrest") == b"[    2.000000] b"
    assert pstore.last_line(b"nothing\n") == b""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=200), st.booleans()), max_size=6))
def test_property_never_raises(ctx: Context, root: Path, files: list[tuple[int, bytes, bool]]) -> None:
    make_tree(root, {paths.PSTORE: None})
    for path in (root / paths.PSTORE[1:]).iterdir():
        path.unlink()
    for number, data, headed in files:
        content = b"Panic#%d Part%d\n" % (number, number) + data if headed else data
        make_tree(root, {f"{paths.PSTORE}/dmesg-efi_pstore-{TIME}{number:02d}00{number}": content})
    for record in pstore.read_records(ctx):
        assert record.text.strip()
