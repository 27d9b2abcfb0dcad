"""Installed kernels, and both ways to the package database."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import paths, render
from kdump_pkg.context import Context
from kdump_pkg.facts import alpm, kernels
from kdump_pkg.facts.kernels import natural, read_kernels, read_modules
from kdump_pkg.model import Kernel
from tests.fakes import BUILD_ID, PACKERS, Hole, Link, bzimage, elf, kernel_tree, make_tree, module_index, pacman_db

NEW, OLD, LTS = "6.12.1-arch1-1", "6.9.7-arch1-1", "6.6.30-1-lts"


def read(ctx: Context) -> tuple[Kernel, ...]:
    return read_kernels(ctx, alpm.open_packages(ctx))


def test_none(ctx: Context, root: Path) -> None:
    assert read(ctx) == ()
    make_tree(root, {paths.MODULES: None})
    assert read(ctx) == ()
    make_tree(root, {f"{paths.MODULES}/file": "", f"{paths.MODULES}/bad name": None, f"{paths.MODULES}/a;b": None})
    assert read(ctx) == ()


def test_several_oldest_first(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW) | kernel_tree(OLD) | kernel_tree(LTS, "linux-lts"))
    found = read(ctx)
    assert [k.release for k in found] == [LTS, OLD, NEW]
    assert [k.pkgbase for k in found] == ["linux-lts", "linux", "linux"]
    assert all(k.usable and k.build_id == BUILD_ID and not k.variant for k in found)
    assert found[2].vmlinuz == f"/usr/lib/modules/{NEW}/vmlinuz"


def test_package_and_version(ctx: Context, root: Path) -> None:
    owned = {"linux": ("6.12.1.arch1-1", [f"/usr/lib/modules/{NEW}/vmlinuz"])}
    make_tree(root, kernel_tree(NEW) | kernel_tree(OLD) | pacman_db(owned))
    old, new = read(ctx)
    assert (new.package, new.version) == ("linux", "6.12.1.arch1-1")
    assert (old.package, old.version) == (None, None)  # left behind, although its pkgbase is installed


def test_split_package_with_another_name(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW, "linux-base") | pacman_db({"linux-other": ("1-1", [])}))
    (found,) = read(ctx)
    assert (found.pkgbase, found.package, found.usable) == ("linux-base", None, True)


def test_leftover_of_a_removed_package(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{paths.MODULES}/{OLD}/extra/nvidia.ko": "", f"{paths.MODULES}/{OLD}/modules.dep": ""})
    (found,) = read(ctx)
    assert (found.vmlinuz, found.usable, found.build_id, found.problem, found.stamp) == (None, False, None, None, "")


def test_variant(ctx: Context, root: Path) -> None:
    release = "6.12.1-1-kdump"
    owned = {"linux-kdump": ("6.12.1-1", [f"/usr/lib/modules/{release}/vmlinuz"])}
    make_tree(root, kernel_tree(release, None) | pacman_db(owned))
    (found,) = read(ctx)
    assert (found.variant, found.package, found.pkgbase) == (True, "linux-kdump", None)


def test_what_the_variant_has_built_in(ctx: Context, root: Path) -> None:
    """Of all others that index is large, and nobody asks."""
    slim = "6.12.1-kdump"
    builtin = "kernel/drivers/nvme/host/nvme.ko\nkernel/drivers/md/dm-mod.ko\n"
    make_tree(root, kernel_tree(NEW) | kernel_tree(slim, None) | kernel_tree("6.13-kdump", None, image=None))
    make_tree(root, {f"{paths.MODULES}/{slim}/modules.builtin": builtin})
    assert {k.release: k.builtin for k in read(ctx)} == {
        NEW: None, slim: frozenset({"nvme", "dm_mod"}), "6.13-kdump": None,
    }  # fmt: skip
    (root / f"{paths.MODULES}/{slim}/modules.builtin".lstrip("/")).unlink()
    assert read(ctx)[1].builtin == frozenset(), "then it lacks all"


def test_a_kernel_to_boot_with_our_ending_is_no_variant(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree("6.12.1-kdump", "linux-own"))
    (found,) = read(ctx)
    assert (found.variant, found.builtin, found.pkgbase) == (False, None, "linux-own")


def test_the_variant_has_its_debug_file_where_it_was_built(ctx: Context, root: Path) -> None:
    slim, built = "6.12.1-kdump", f"{paths.VARIANT_BUILD}/src/build/vmlinux"
    make_tree(root, kernel_tree(NEW) | kernel_tree(slim, None) | {built: elf()})
    assert {k.release: k.vmlinux for k in read(ctx)} == {NEW: (), slim: (built,)}


@pytest.mark.parametrize("text", ["", "a b", "../x", "x\ny", "\x1b[31m"])
def test_nonsense_in_pkgbase(ctx: Context, root: Path, text: str) -> None:
    make_tree(root, kernel_tree(NEW) | {f"{paths.MODULES}/{NEW}/pkgbase": text})
    assert read(ctx)[0].pkgbase is None


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (b"noise", "not a bzImage kernel"),
        (bzimage()[:-200], "truncated"),
        (Hole(1 << 30), "not a bzImage kernel"),
        (bzimage(PACKERS["gzip"](elf(None))), "has no build ID"),
        (bzimage(PACKERS["gzip"](elf()[:40])), "damaged ELF file"),
    ],
)
def test_broken_image_is_a_problem_not_an_error(ctx: Context, root: Path, image: bytes, problem: str) -> None:
    make_tree(root, kernel_tree(NEW, image=image) | kernel_tree(OLD))
    old, new = read(ctx)
    assert old.usable
    assert not new.usable
    assert new.problem is not None
    assert new.problem.startswith(f"/usr/lib/modules/{NEW}/vmlinuz: ")
    assert problem in new.problem
    assert str(root) not in new.problem


def test_image_that_is_no_file(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW, image=None) | kernel_tree(OLD, image=Link("/etc/../../nowhere")))
    assert [k.vmlinuz for k in read(ctx)] == [None, None]


def test_debug_candidates_best_first(ctx: Context, root: Path) -> None:
    home = f"{paths.MODULES}/{NEW}"
    make_tree(root, kernel_tree(NEW))
    make_tree(root, {f"{home}/build/vmlinux": elf(), "/usr/src/debug/linux/vmlinux": elf(), f"{home}/vmlinux": elf()})
    make_tree(root, {f"{home}/build/System.map": "0 T x\n"})
    (found,) = read(ctx)
    assert found.vmlinux == ("/usr/src/debug/linux/vmlinux", f"{home}/build/vmlinux", f"{home}/vmlinux")
    assert found.system_map == f"{home}/build/System.map"
    assert found.sources.count("=") == 4
    (root / f"{home}/vmlinux".lstrip("/")).write_bytes(b"changed")
    assert read(ctx)[0].sources != found.sources


def test_unchanged_images_are_not_unpacked_again(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(root, kernel_tree(NEW) | kernel_tree(OLD, image=b"broken"))
    first = read(ctx)
    make_tree(root, {paths.KERNEL_CACHE: render.kernel_cache(first)})
    monkeypatch.setattr(kernels, "_build_id", lambda *a: pytest.fail("unpacked again"))
    assert read(ctx) == first


def test_changed_image_is_unpacked_again(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW))
    make_tree(root, {paths.KERNEL_CACHE: render.kernel_cache(read(ctx))})
    other = bzimage(PACKERS["gzip"](elf("ff" * 20)))
    make_tree(root, {f"{paths.MODULES}/{NEW}/vmlinuz": other})
    assert read(ctx)[0].build_id == "ff" * 20


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xff\0",
        b"[]",
        b"null",
        b'{"6.12.1-arch1-1": 7}',
        b"{",
        b'{"6.12.1-arch1-1": {"stamp": 1, "build_id": 7}}',
        b'{"6.12.1-arch1-1": {"stamp": null}}',
        b"[" * 100_000,
    ],
    ids=lambda r: r[:20].decode("latin-1"),
)
def test_damaged_record_is_as_good_as_none(ctx: Context, root: Path, record: bytes) -> None:
    make_tree(root, kernel_tree(NEW) | {paths.KERNEL_CACHE: record})
    assert read(ctx)[0].build_id == BUILD_ID


def test_record_of_the_right_stamp_but_wrong_types(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW))
    stamp = read(ctx)[0].stamp
    make_tree(root, {paths.KERNEL_CACHE: json.dumps({NEW: {"stamp": stamp, "build_id": [1], "problem": 3}})})
    found = read(ctx)[0]
    assert (found.build_id, found.problem) == (BUILD_ID, None)


def test_modules(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW))
    assert read_modules(ctx, NEW) == module_index(NEW)
    assert read_modules(ctx, "missing").files == {}


@pytest.mark.parametrize(
    "noise", [b"\0" * 100, b"\xff\xfe:" * 50, b":\n: :\nsoftdep\nsoftdep x pre:\nalias a\n", b"\n\n"]
)
def test_modules_from_noise(ctx: Context, root: Path, noise: bytes) -> None:
    home = f"{paths.MODULES}/{NEW}"
    make_tree(root, {f"{home}/modules.{n}": noise for n in ("dep", "softdep", "alias", "builtin")})
    read_modules(ctx, NEW)


def test_softdeps_with_post(ctx: Context, root: Path) -> None:
    text = "softdep a pre: b c-d post: e\nsoftdep f post: g\nsoftdep h pre: i\n# softdep x pre: y z\n"
    make_tree(root, {f"{paths.MODULES}/{NEW}/modules.softdep": text})
    assert read_modules(ctx, NEW).softdeps == {"a": ("b", "c-d"), "h": ("i",)}


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("6.9.1", "6.12.1"),
        ("6.12.1-arch1-1", "6.12.1-arch1-2"),
        ("6.12.1-arch1-1", "6.12.10-arch1-1"),
        ("6.12", "6.12.1"),
        ("6.12-rc7-1-mainline", "6.12.1-1"),
    ],
)
def test_natural_order(older: str, newer: str) -> None:
    assert natural(older) < natural(newer)


@given(st.lists(st.text(max_size=8), min_size=3, max_size=3))
def test_property_natural_is_an_order(texts: list[str]) -> None:
    a, b, c = sorted(texts, key=natural)
    assert natural(a) <= natural(b) <= natural(c)


# --- packages -----------------------------------------------------------------------------------------------------


def alpm_backend(ctx: Context) -> alpm.Packages:
    if importlib.util.find_spec("pyalpm") is None:
        pytest.skip("pyalpm is not installed")
    return alpm._Alpm(ctx)


@pytest.mark.parametrize("backend", [alpm._Files, alpm_backend], ids=["files", "pyalpm"])
def test_both_backends_say_the_same(ctx: Context, root: Path, backend: Callable[[Context], alpm.Packages]) -> None:
    make_tree(
        root,
        pacman_db({
            "linux": ("6.12.1.arch1-1", ["/usr/lib/modules/x/vmlinuz", "/usr/lib/modules/x/"]),
            "linux-headers": ("6.12.1.arch1-1", ["/usr/lib/modules/x/build/vmlinux"]),
            "epoch": ("1:2.0-3", ["/usr/bin/epoch"]),
            "a-b-c": ("1.0_rc1-1.1", []),
        }),
    )  # fmt: skip
    packages = backend(ctx)
    versions = {
        name: packages.version(name) for name in ("linux", "linux-headers", "epoch", "a-b-c", "a-b", "none", "")
    }
    assert versions == {
        "linux": "6.12.1.arch1-1", "linux-headers": "6.12.1.arch1-1", "epoch": "1:2.0-3", "a-b-c": "1.0_rc1-1.1",
        "a-b": None, "none": None, "": None,
    }  # fmt: skip
    assert packages.owns("linux", "/usr/lib/modules/x/vmlinuz")
    assert not packages.owns("linux", "/usr/lib/modules/x/build/vmlinux")
    assert not packages.owns("linux", "/vmlinuz")
    assert not packages.owns("a-b-c", "/usr/bin/epoch")
    assert not packages.owns("none", "/usr/bin/epoch")


def test_without_a_database_nothing_is_known(ctx: Context) -> None:
    packages = alpm.open_packages(ctx)
    assert packages.version("linux") is None
    assert not packages.owns("linux", "/x")


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError])
def test_broken_pyalpm_is_done_without(
    ctx: Context, root: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A libalpm bump makes `import pyalpm` fail in the very transaction that called us."""

    def broken(self: object, ctx: Context) -> None:
        raise error

    monkeypatch.setattr(alpm._Alpm, "__init__", broken)
    make_tree(root, pacman_db({"linux": ("6.12-1", [])}))
    assert alpm.open_packages(ctx).version("linux") == "6.12-1"


def test_odd_entries_of_the_database(ctx: Context, root: Path) -> None:
    make_tree(root, {"/var/lib/pacman/local/ALPM_DB_VERSION": "9", "/var/lib/pacman/local/x": None})
    make_tree(root, {"/var/lib/pacman/local/linux-6.12-1/files": b"%FILES%\n\xff\xfe\nusr/bin/x\n"})
    packages = alpm._Files(ctx)
    assert packages.version("linux") == "6.12-1"
    assert packages.owns("linux", "/usr/bin/x")


def sized(size: int) -> bytes:
    image = bytearray(bzimage())
    struct.pack_into("<I", image, 0x260, size)
    return bytes(image)


def test_what_a_kernel_takes_to_start(ctx: Context, root: Path) -> None:
    make_tree(root, kernel_tree(NEW, image=sized(50 << 20)) | kernel_tree(OLD, image=b"broken"))
    sizes = {k.release: k.init_size for k in read(ctx)}
    assert sizes == {NEW: 50 << 20, OLD: None}


def test_it_is_kept_with_the_build_id(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(root, kernel_tree(NEW, image=sized(50 << 20)))
    first = read(ctx)
    cache = render.kernel_cache(first)
    make_tree(root, {paths.KERNEL_CACHE: cache})
    monkeypatch.setattr(kernels, "_init_size", lambda *a: pytest.fail("read again"))
    assert read(ctx) == first
    monkeypatch.undo()
    older = {NEW: {k: v for k, v in json.loads(cache)[NEW].items() if k != "init_size"}}
    make_tree(root, {paths.KERNEL_CACHE: json.dumps(older)})
    monkeypatch.setattr(kernels, "_build_id", lambda *a: pytest.fail("unpacked again"))
    assert read(ctx) == first, "what an older version wrote lacks nothing but this"


@pytest.mark.parametrize("value", ["1", 1.5, True, [1]])
def test_a_record_with_a_wrong_size_counts_as_none(ctx: Context, root: Path, value: object) -> None:
    make_tree(root, kernel_tree(NEW, image=sized(50 << 20)))
    known = json.loads(render.kernel_cache(read(ctx)))
    known[NEW]["init_size"] = value
    make_tree(root, {paths.KERNEL_CACHE: json.dumps(known)})
    assert read(ctx)[0].init_size == 50 << 20
