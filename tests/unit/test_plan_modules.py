"""Which modules, and their insmod order."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.model import Config, Layer, ModuleIndex
from kdump_pkg.plan.modules import COMMON_DRIVERS, LAYERS, insmod_order, wanted
from tests.fakes import module_index, target

VIRTIO = ("virtio_pci", "virtio_blk")
EXT4 = ("crypto-crc32c?", "ext4")


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        pytest.param(Config(), {}, (*VIRTIO, *EXT4), id="drivers seen"),
        pytest.param(Config(), {"drivers": None}, (*COMMON_DRIVERS, *EXT4), id="drivers not seen"),
        pytest.param(Config(), {"drivers": ()}, EXT4, id="drivers built in"),
        pytest.param(Config(drivers=("common",)), {}, (*COMMON_DRIVERS, *EXT4), id="common"),
        pytest.param(Config(drivers=("nvme",)), {}, ("nvme", *EXT4), id="named"),
        pytest.param(Config(modules=("foo?", "ext4")), {}, (*VIRTIO, *EXT4, "foo?"), id="more, each once"),
        pytest.param(Config(), {"fstype": "newfs"}, (*VIRTIO, "newfs"), id="unknown file system by its name"),
        pytest.param(Config(), {"fstype": ""}, VIRTIO, id="no file system"),
        pytest.param(
            Config(), {"layers": (Layer("md", "x"),)},
            (*VIRTIO, "md_mod", "raid1?", "raid0?", "raid10?", "raid456?", *EXT4), id="array of unknown level",
        ),
        pytest.param(
            Config(), {"layers": (Layer("md", "x"),), "drivers": ("nvme", "raid1")}, ("nvme", "raid1", "md_mod", *EXT4),
            id="array of known level",
        ),
        pytest.param(Config(), {"layers": (Layer("lvm", "a/b"),)}, (*VIRTIO, "dm_mod", *EXT4), id="lvm"),
    ],
)  # fmt: skip
def test_wanted(config: Config, changes: dict[str, object], expected: tuple[str, ...]) -> None:
    assert wanted(config, (target(**changes),)) == expected


def test_several_targets_and_what_else_is_needed() -> None:
    second = target(fstype="vfat", drivers=("nvme", "virtio_pci"))
    found = wanted(Config(modules=("mine",)), (target(), second), ("efivarfs?",))
    nls = ("nls_cp437?", "nls_ascii?", "nls_iso8859_1?")
    assert found == (*VIRTIO, *EXT4, "nvme", "vfat", *nls, "efivarfs?", "mine")


def test_every_layer_has_its_modules() -> None:
    assert set(LAYERS) == set(get_args(get_type_hints(Layer)["kind"]))


def short(files: tuple[str, ...]) -> list[str]:
    return [file.rsplit("/", 1)[1].removesuffix(".ko.zst") for file in files]


def test_order_follows_what_each_needs() -> None:
    order = insmod_order(module_index(), ("virtio_pci", "virtio_blk", "crypto-crc32c?", "ext4"))
    assert short(order.files) == [
        "virtio", "virtio_ring", "virtio_pci", "virtio_blk", "crc32c_generic", "mbcache", "jbd2", "ext4",
    ]  # fmt: skip
    assert order.missing == ()


@pytest.mark.parametrize(
    ("names", "files", "missing"),
    [
        (("sd-mod",), [], ()),
        (("sd_mod?",), [], ()),
        (("nvme",), [], ("nvme",)),
        (("nvme?",), [], ()),
        (("crypto-crc32c",), ["crc32c_generic"], ()),
        (("crypto-unknown",), [], ("crypto-unknown",)),
        (("virtio-ring", "virtio_ring"), ["virtio", "virtio_ring"], ()),
        (("ext4",), ["mbcache", "jbd2", "crc32c_generic", "ext4"], ()),
    ],
)
def test_names(names: tuple[str, ...], files: list[str], missing: tuple[str, ...]) -> None:
    order = insmod_order(module_index(), names)
    assert (short(order.files), order.missing) == (files, missing)


def test_softdep_of_something_needed() -> None:
    index = ModuleIndex(
        "1",
        {"a": "a.ko", "b": "b.ko", "soft": "soft.ko"},
        {"a.ko": ("b.ko",), "b.ko": (), "soft.ko": ()},
        softdeps={"b": ("soft",)},
    )
    assert insmod_order(index, ("a",)).files == ("soft.ko", "b.ko", "a.ko")


@pytest.mark.parametrize(
    "index",
    [
        ModuleIndex("1", {"a": "a.ko", "b": "b.ko"}, {"a.ko": (), "b.ko": ()}, softdeps={"a": ("b",), "b": ("a",)}),
        ModuleIndex("1", aliases={"a": ("b",), "b": ("a",)}),
        ModuleIndex("1", aliases={"a": ("a",)}),
    ],
)
def test_circles_end(index: ModuleIndex) -> None:
    insmod_order(index, ("a", "b"))


NAMES = [f"m{i}" for i in range(8)]


@given(
    edges=st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20),
    names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
)
def test_property_every_file_after_its_needs(edges: list[tuple[int, int]], names: list[str]) -> None:
    """Needs go from higher to lower numbers: no circles; modules.dep lists them closed and nearest first."""
    direct = {i: sorted({b for a, b in edges if a == i and b < i}, reverse=True) for i in range(8)}

    def closure(i: int) -> list[int]:
        found: list[int] = []
        for need in direct[i]:
            found += [need, *closure(need)]
        return list(dict.fromkeys(reversed(found)))[::-1]

    index = ModuleIndex(
        "1",
        {f"m{i}": f"m{i}.ko" for i in range(8)},
        {f"m{i}.ko": tuple(f"m{n}.ko" for n in closure(i)) for i in range(8)},
    )
    files = insmod_order(index, tuple(names)).files
    assert len(set(files)) == len(files)
    assert {f"{n}.ko" for n in names} <= set(files)
    for file in files:
        assert all(files.index(need) < files.index(file) for need in index.depends[file])
