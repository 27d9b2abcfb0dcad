"""Debug files on demand: which is taken, when one is made, when it is made anew, and what is left when that fails."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import fs, paths
from kdump_pkg.apply import debug, vmlinux
from kdump_pkg.context import Context
from kdump_pkg.debuginfo import image
from kdump_pkg.errors import BusyError, KdumpError
from kdump_pkg.facts import elf as facts
from kdump_pkg.facts.state import read_debug
from kdump_pkg.model import SaveDebug
from tests import kernels
from tests.btf import every_kind
from tests.fakes import BUILD_ID, PACKERS, RELEASE, Entry, FakeRunner, Link, bzimage, elf, make_tree, snapshot
from tests.kernels import DATA, TEXT, parts, with_table
from tests.unit.test_debuginfo_image import ko, own_types

HOME = f"/usr/lib/modules/{RELEASE}"
VMLINUZ, HEADERS = f"{HOME}/vmlinuz", f"{HOME}/build/vmlinux"
DEBUG = f"{paths.DEBUG_MODULES}/{RELEASE}"
MADE, KEPT = f"{DEBUG}/vmlinux.made", f"{DEBUG}/vmlinux"
LINK = f"{paths.DEBUG_BUILD_ID}/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug"
KERNEL = kernels.kernel()
PACKED = bzimage(PACKERS["gzip"](KERNEL))
WITH_SYMBOLS = kernels.image(
    with_table(
        [(TEXT, 0, 0x10, 1, "_text"), (TEXT + 0x100, 49, 0x12, 1, "do_work"), (DATA, 64, 0x11, 5, "own")], parts()
    )
)
REAL = elf(sections=(".debug_info", ".symtab"))


@pytest.fixture
def ctx(root: Path) -> Context:
    make_tree(root, {VMLINUZ: PACKED, "/run": None, paths.STATE: None})
    return Context(root=root, runner=FakeRunner())


def ensure(ctx: Context) -> str:
    """What is taken, as seen from the root."""
    return f"/{os.fspath(vmlinux.ensure(ctx, RELEASE, BUILD_ID).relative_to(ctx.root))}"


def refused(ctx: Context, release: str = RELEASE, build_id: str = BUILD_ID) -> str:
    with pytest.raises(KdumpError) as caught:
        vmlinux.ensure(ctx, release, build_id)
    assert "\n" not in caught.value.message
    assert caught.value.message.isprintable()
    assert str(ctx.root) not in caught.value.message
    return caught.value.message


def record(ctx: Context) -> Any:
    return ctx.read_record(paths.DEBUG_RECORD).get(RELEASE)


# --- made ---------------------------------------------------------------------------------------------------------


def test_made_of_the_installed_kernel(ctx: Context, root: Path) -> None:
    said: list[str] = []
    path = vmlinux.ensure(ctx, RELEASE, BUILD_ID, said.append)
    assert path == ctx.path(MADE)
    assert facts.inspect_file(path) == facts.ElfFacts(BUILD_ID, "DWARF")
    assert said == [f"making a vmlinux with types and symbols for {RELEASE} of {VMLINUZ}"]
    assert (path.stat().st_mode & 0o777, ctx.read_bytes(LINK)) == (0o644, path.read_bytes())
    assert not (root / LINK.lstrip("/")).readlink().is_absolute()
    assert vmlinux.limits(ctx, RELEASE) == (*image.LIMITS, image.SIZES)
    assert vmlinux.limits(ctx, "6.0") == ()


def test_not_made_twice(ctx: Context, root: Path) -> None:
    ensure(ctx)
    before = snapshot(root)
    said: list[str] = []
    assert vmlinux.ensure(ctx, RELEASE, BUILD_ID, said.append) == ctx.path(MADE)
    assert (snapshot(root), said) == (before, [])


def test_stays_when_the_kernel_is_gone(ctx: Context, root: Path) -> None:
    ensure(ctx)
    (root / VMLINUZ.lstrip("/")).unlink()
    before = snapshot(root)
    assert ensure(ctx) == MADE
    assert snapshot(root) == before


@pytest.mark.parametrize("change", ["format", "damaged", "removed", "record", "other build", "source"])
def test_made_anew(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    ensure(ctx)
    good = ctx.read_bytes(MADE)
    path = ctx.path(MADE)
    if change == "format":
        monkeypatch.setattr(image, "FORMAT", image.FORMAT + 1)
    elif change in ("damaged", "removed"):
        path.unlink()
        make_tree(root, {MADE: b"half"} if change == "damaged" else {})
    elif change == "record":
        ctx.path(paths.DEBUG_RECORD).write_text('{"6.12.1-arch1-1": {"made": [1]}}')
    elif change == "other build":
        kept = record(ctx)
        kept["made"]["build_id"] = "ff" * 20
        fs.write_record(ctx.path(paths.DEBUG_RECORD), {RELEASE: kept})
    else:
        make_tree(root, {HEADERS: WITH_SYMBOLS})
    said: list[str] = []
    assert vmlinux.ensure(ctx, RELEASE, BUILD_ID, said.append) == path
    assert len(said) == 1
    assert (ctx.read_bytes(MADE) == good) == (change != "source")


@pytest.mark.parametrize("place", [HEADERS, f"{HOME}/vmlinux", KEPT])
def test_symbols_of_its_own_are_better(ctx: Context, root: Path, place: str) -> None:
    make_tree(root, {place: WITH_SYMBOLS})
    ensure(ctx)
    assert record(ctx)["made"]["origin"] == place
    assert image.SIZES not in vmlinux.limits(ctx, RELEASE)


def test_a_better_one_that_is_damaged_is_passed_over(ctx: Context, root: Path) -> None:
    broken = bytearray(WITH_SYMBOLS)
    at = broken.index(every_kind().build())
    broken[at : at + 2] = b"xx"
    make_tree(root, {HEADERS: bytes(broken)})
    ensure(ctx)
    assert record(ctx)["made"]["origin"] == VMLINUZ


def test_a_system_map_stands_in(ctx: Context, root: Path) -> None:
    from tests.unit.test_debuginfo_symbols import system_map

    bare = [p if p.name != ".rodata" else kernels.Part(".rodata", b"\0" * 64, kernels.RODATA) for p in parts()]
    make_tree(root, {VMLINUZ: bzimage(PACKERS["gzip"](kernels.image(bare)))})
    assert "kallsyms: not found" in refused(ctx)
    make_tree(root, {f"{DEBUG}/System.map": system_map(len(every_kind().build()))})
    assert ensure(ctx) == MADE


# --- real ones ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        KEPT,
        f"{KEPT}.debug",
        f"/usr/lib/debug/boot/vmlinux-{RELEASE}",
        f"/usr/lib/debug{HOME}/vmlinux",
        HEADERS,
        f"{HOME}/vmlinux",
        LINK,
        "/usr/src/debug/linux/vmlinux",
    ],
)
def test_a_real_one_is_taken(ctx: Context, root: Path, place: str) -> None:
    make_tree(root, {place: REAL, f"{HOME}/pkgbase": "linux\n"})
    before = snapshot(root)
    assert ensure(ctx) == place
    assert snapshot(root) == before


@pytest.mark.parametrize("place", [KEPT, f"/usr/lib/debug/boot/vmlinux-{RELEASE}", "/usr/src/debug/linux/vmlinux"])
def test_a_real_one_of_another_build_is_not(ctx: Context, root: Path, place: str) -> None:
    make_tree(root, {place: elf("ff" * 20, (".debug_info",)), f"{HOME}/pkgbase": "linux\n"})
    assert ensure(ctx) == MADE


def test_a_real_one_that_comes_later(ctx: Context, root: Path) -> None:
    ensure(ctx)
    make_tree(root, {f"/usr/lib/debug/boot/vmlinux-{RELEASE}": REAL})
    assert ensure(ctx) == f"/usr/lib/debug/boot/vmlinux-{RELEASE}"


def test_made_one_is_not_taken_for_a_real_one_by_its_link(ctx: Context, root: Path) -> None:
    ensure(ctx)
    make_tree(root, {MADE: b"damaged"})
    assert ensure(ctx) == MADE
    assert facts.inspect_file(ctx.path(MADE)).abilities == "DWARF"


@pytest.mark.parametrize("there", [elf("ff" * 20), Link("/usr/src/debug/linux/vmlinux")])
def test_a_link_of_somebody_else_stays(ctx: Context, root: Path, there: Entry) -> None:
    make_tree(root, {LINK: there})
    before = snapshot(root / "usr/lib/debug/.build-id")
    ensure(ctx)
    assert snapshot(root / "usr/lib/debug/.build-id") == before


def test_our_link_to_a_kernel_without_types_is_led_on(ctx: Context, root: Path) -> None:
    debug.save(ctx, SaveDebug(RELEASE, BUILD_ID, (VMLINUZ,), None, "digest", "why"))
    ensure(ctx)
    assert ctx.path(LINK) == ctx.path(MADE)


# --- none ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bzimage(PACKERS["gzip"](elf(sections=(".symtab",)))), "has no BTF"),
        (bzimage(PACKERS["gzip"](elf("ff" * 20, (".BTF",)))), f"of another build, {'ff' * 20}"),
        (bzimage(PACKERS["gzip"](elf(None, (".BTF",)))), "of another build, without an ID"),
        (bzimage(PACKERS["gzip"](kernels.kernel(btf=b"noise" * 9))), "BTF: not of version 1"),
        (PACKED[:2000], "truncated"),
        (b"noise", "not a bzImage kernel"),
        (None, "no kernel image of it is left"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(ctx: Context, root: Path, data: bytes | None, words: str) -> None:
    (root / VMLINUZ.lstrip("/")).unlink()
    if data is not None:
        make_tree(root, {VMLINUZ: data})
    before = snapshot(root)
    message = refused(ctx)
    assert message.startswith(f"no vmlinux for {RELEASE} with build ID {BUILD_ID}: ")
    assert words in message
    locks = {"run/kdump-pkg-debug.lock"}
    assert {k: v for k, v in snapshot(root).items() if k not in locks and k != "run"} == {
        k: v for k, v in before.items() if k != "run"
    }


@pytest.mark.parametrize("release", ["", "../../etc", "6.12/../..", ".", "..", "x" * 200, "6.12\n", "-rf"])
def test_a_release_that_is_none(ctx: Context, release: str) -> None:
    assert ("is no kernel release" if release else "its kernel is not known") in refused(ctx, release)


@pytest.mark.parametrize("build_id", ["", "xyz", "../../../../etc/passwd", "AB" * 20, "ab"])
def test_a_build_id_that_is_none(ctx: Context, build_id: str) -> None:
    assert "build ID" in refused(ctx, build_id=build_id)


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_no_room(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure(ctx)
    old = ctx.read_bytes(MADE)
    make_tree(root, {HEADERS: WITH_SYMBOLS})
    real = os.ftruncate

    def full(fd: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(KdumpError, match=r"vmlinux\.made: No space left on device") as caught:
        vmlinux.ensure(ctx, RELEASE, BUILD_ID)
    assert caught.value.hint == "free some space and run it again"
    assert ctx.read_bytes(MADE) == old
    assert sorted(ctx.names(DEBUG)) == ["vmlinux.made"]
    monkeypatch.setattr(os, "ftruncate", real)
    assert ensure(ctx) == MADE


def test_no_room_is_seen_before(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def statvfs(path: Any) -> Any:
        return os.statvfs_result((4096, 4096, 10, 10, 10, 10, 10, 10, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    with pytest.raises(KdumpError, match="no room for"):
        vmlinux.ensure(ctx, RELEASE, BUILD_ID)
    assert ctx.names(DEBUG) == []


def test_leftovers_of_a_killed_run_go(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{DEBUG}/.kdump-pkg-999999999-vmlinux.made": b"x" * 100})
    ensure(ctx)
    assert ctx.names(DEBUG) == ["vmlinux.made"]


def test_somebody_else_makes_it(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vmlinux, "WAIT", 0)
    with fs.lock(ctx.path(paths.DEBUG_LOCK)), pytest.raises(BusyError):
        vmlinux.ensure(ctx, RELEASE, BUILD_ID)


def test_zeros_are_holes(ctx: Context) -> None:
    path = vmlinux.ensure(ctx, RELEASE, BUILD_ID)
    data = path.read_bytes()
    text = facts.layout(data, "made").sections[1]
    assert not any(data[text.offset : text.offset + text.size])


# --- and gone again -----------------------------------------------------------------------------------------------


def test_dropped_with_its_release(ctx: Context, root: Path) -> None:
    make_tree(root, {**MODULES})
    debug.save(ctx, SaveDebug(RELEASE, BUILD_ID, (VMLINUZ,), None, "digest", "why"))
    ensure(ctx)
    assert vmlinux.ensure_modules(ctx, RELEASE, ["own"])
    debug.drop(ctx, RELEASE)
    assert not ctx.path("/usr/lib/debug").exists()
    assert record(ctx) is None


def test_dropped_where_no_kernel_was_kept(ctx: Context) -> None:
    """With save_debug = no there is a made one alone: the plan must see it to let it go."""
    ensure(ctx)
    (found,) = read_debug(ctx)
    assert (found.release, found.path, found.build_id, found.recorded) == (RELEASE, MADE, BUILD_ID, True)
    debug.drop(ctx, RELEASE)
    assert read_debug(ctx) == ()
    assert not ctx.path("/usr/lib/debug").exists()


def test_keeping_the_kernel_later_keeps_what_was_made(ctx: Context) -> None:
    ensure(ctx)
    debug.save(ctx, SaveDebug(RELEASE, BUILD_ID, (VMLINUZ,), None, "digest", "why"))
    assert ctx.is_file(KEPT)
    assert ensure(ctx) == MADE


# --- modules ------------------------------------------------------------------------------------------------------

MODULES: dict[str, Entry] = {
    f"{HOME}/kernel/own.ko": ko(),
    f"{HOME}/kernel/fs/two-parts.ko.gz": gzip.compress(ko()),
    f"{HOME}/updates/third.ko.xz": lzma.compress(ko()),
    f"{HOME}/kernel/plain.ko": kernels.image([kernels.Part(".text", b"\xc3", flags=6)], kind=1),
    f"{HOME}/kernel/noise.ko.zst": b"noise",
    f"{HOME}/modules.dep": "".join(
        f"{name}:\n"
        for name in (
            "kernel/own.ko", "kernel/fs/two-parts.ko.gz", "updates/third.ko.xz: kernel/own.ko", "kernel/plain.ko",
            "kernel/noise.ko.zst", "kernel/gone.ko", "../../../../etc/passwd.ko",
        )
    ),
}  # fmt: skip


def test_modules(ctx: Context, root: Path) -> None:
    make_tree(root, MODULES)
    said: list[str] = []
    names = ["own", "two_parts", "two-parts", "third", "plain", "noise", "gone", "passwd", "unknown", "../x"]
    found = vmlinux.ensure_modules(ctx, RELEASE, names, said.append)
    assert set(found) == {"own", "two_parts", "two-parts", "third"}
    assert found["two_parts"] == found["two-parts"] == ctx.path(f"{DEBUG}/made/two_parts.ko")
    for path in found.values():
        assert facts.inspect_file(path).abilities == "DWARF"
    assert [line.partition(": ")[0].rsplit("/", 1)[-1] for line in said] == ["gone.ko", "noise.ko.zst", "plain.ko"]
    assert all(str(root) not in line for line in said)


def test_modules_are_not_made_twice(ctx: Context, root: Path) -> None:
    make_tree(root, MODULES)
    vmlinux.ensure_modules(ctx, RELEASE, ["own", "third"])
    before = snapshot(root)
    assert set(vmlinux.ensure_modules(ctx, RELEASE, ["third", "own"])) == {"own", "third"}
    assert snapshot(root) == before
    (root / f"{HOME}/kernel/own.ko".lstrip("/")).unlink()
    make_tree(root, {f"{HOME}/kernel/own.ko": ko(kernels.Part(".extra", b"x", flags=0))})
    vmlinux.ensure_modules(ctx, RELEASE, ["third", "own"])
    changed = {name for name, what in snapshot(root).items() if before.get(name) != what and name.endswith(".ko")}
    assert {name.rsplit("/", 2)[-2] for name in changed} == {"kernel", "made"}


def test_modules_without_their_kernel(ctx: Context, root: Path) -> None:
    make_tree(root, MODULES)
    (root / VMLINUZ.lstrip("/")).unlink()
    said: list[str] = []
    assert vmlinux.ensure_modules(ctx, RELEASE, ["own", "third"], said.append) == {}
    assert all("no kernel 6.12.1-arch1-1 with BTF is left" in line for line in said)
    make_tree(root, {f"/usr/lib/debug/boot/vmlinux-{RELEASE}": KERNEL})
    assert set(vmlinux.ensure_modules(ctx, RELEASE, ["own"])) == {"own"}


def test_no_modules(ctx: Context, root: Path) -> None:
    assert vmlinux.ensure_modules(ctx, RELEASE, ["own"]) == {}
    assert own_types().count > 0
    with pytest.raises(KdumpError, match="is no kernel release"):
        vmlinux.ensure_modules(ctx, "../..", ["own"])


def test_what_is_there_needs_no_lock(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to be root, or to wait, for what is made already."""
    make_tree(root, MODULES)
    ensure(ctx)
    vmlinux.ensure_modules(ctx, RELEASE, ["own"])
    monkeypatch.setattr(vmlinux, "WAIT", 0)
    with fs.lock(ctx.path(paths.DEBUG_LOCK)):
        assert ensure(ctx) == MADE
        assert set(vmlinux.ensure_modules(ctx, RELEASE, ["own", "unknown"])) == {"own"}
        with pytest.raises(BusyError):
            vmlinux.ensure_modules(ctx, RELEASE, ["own", "third"])
