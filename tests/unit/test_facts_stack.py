"""Layers and drivers from sysfs; names and UUIDs as they were seen under kernel 7.2."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.facts.stack import Crypt, Stack, read_stack, volume_name
from kdump_pkg.model import Layer
from tests.disks import VIRTUAL, Disks
from tests.fakes import Entry, FakeRunner, Link, LiveContext, make_tree

LUKS = "a9e752b9-dfe0-4c6f-a5e4-652a6e67cb57"
MD = "fddfe74e-6f4b-9ac3-122a-595a56e9bd9c"
MDADM = "fddfe74e:6f4b9ac3:122a595a:56e9bd9c"
GROUP = "iUoeZi1ZkQ1cSnb5UgsBczTGnBU8nKHh"
VIRTIO = ("virtio_pci", "virtio_blk")


def lv(letter: str, suffix: str = "", group: str = GROUP) -> str:
    return f"LVM-{group}{letter * 32}{suffix}"


def read(root: Path, disks: Disks, *names: str) -> Stack:
    return read_stack(disks.context(root), [disks.numbers[name] for name in names])


def test_nothing_can_be_seen(root: Path) -> None:
    assert read_stack(Disks().context(root), ["254:0", "", "x"]) == Stack()


def test_partition(root: Path) -> None:
    disks = Disks()
    disks.part(disks.disk())
    assert read(root, disks, "vda1") == Stack((), VIRTIO)


def test_md_luks_lvm(root: Path) -> None:
    """What is opened first stands first, and every driver once."""
    disks = Disks()
    disks.array("md127", [disks.disk("vdb"), disks.disk("vdc")], MD)
    disks.luks("dm-0", "md127", LUKS)
    disks.mapped("dm-1", ["dm-0"], "my--vg-lv--crash", lv("x"))
    assert read(root, disks, "dm-1") == Stack(
        (Layer("md", MDADM), Layer("crypt", LUKS), Layer("lvm", "my-vg/lv-crash")),
        (*VIRTIO, "md_mod", "raid1"),
        (Crypt(LUKS, "secret", "/dev/md127"),),
    )


def test_luks_on_lvm_on_luks(root: Path) -> None:
    other = "11111111-2222-3333-4444-555555555555"
    disks = Disks()
    disks.luks("dm-0", disks.disk(), LUKS, "outer")
    disks.mapped("dm-1", ["dm-0"], "vg-root", lv("x"))
    disks.luks("dm-2", "dm-1", other, "inner", "LUKS1")
    disks.mapped("dm-3", ["dm-2"], "other-root", lv("y", group="z" * 32))
    found = read(root, disks, "dm-3")
    names = [layer.name for layer in found.layers]
    assert names == [LUKS, "vg/root", other, "other/root"]
    assert [crypt.device for crypt in found.crypts] == ["/dev/vda", "/dev/dm-1"]


def test_a_volume_group_on_a_volume(root: Path) -> None:
    disks = Disks()
    disks.mapped("dm-0", [disks.disk()], "vg-inner", lv("x"))
    disks.mapped("dm-1", ["dm-0"], "top-root", lv("y", group="z" * 32))
    assert read(root, disks, "dm-1").layers == (Layer("lvm", "vg/inner"), Layer("lvm", "top/root"))


def test_partition_of_an_array(root: Path) -> None:
    disks = Disks()
    disks.array("md127", [disks.disk()], MD, "raid10")
    disks.part("md127")
    found = read(root, disks, "md127p1")
    assert found == Stack((Layer("md", MDADM),), (*VIRTIO, "md_mod", "raid10"))


@pytest.mark.parametrize(
    ("level", "modules"), [("raid6", ("md_mod", "raid456")), ("raid0", ("md_mod", "raid0")), ("?", ())]
)
def test_levels(root: Path, level: str, modules: tuple[str, ...]) -> None:
    disks = Disks()
    disks.array("md0", [disks.disk()], MD, level)
    assert read(root, disks, "md0").drivers == (*VIRTIO, *modules)


def test_old_metadata_has_its_bytes_the_other_way_round(root: Path) -> None:
    """mdadm prints the UUID of format 0.90 as four numbers, which are little-endian on disk."""
    disks = Disks()
    disks.array("md0", [disks.disk()], "4ee7fdfe-c39a-4b6f-5a59-2a129cbde956")
    disks.tree[f"{VIRTUAL}/md0/md/metadata_version"] = "0.90\n"
    assert read(root, disks, "md0").layers == (Layer("md", "fefde74e:6f4b9ac3:122a595a:56e9bd9c"),)


def test_an_array_of_the_firmware(root: Path) -> None:
    """mdadm opens its container first: that is left to udev's rules."""
    disks = Disks()
    disks.array("md126", [disks.disk()], "")
    disks.tree[f"{VIRTUAL}/md126/md/metadata_version"] = "external:/md127/0\n"
    assert read(root, disks, "md126") == Stack((Layer("dm", "md126"),), (*VIRTIO, "md_mod", "raid1"))


def test_what_udev_says_of_an_array_comes_first(root: Path) -> None:
    disks = Disks()
    disks.array("md0", [disks.disk()], "", MD_UUID="01234567:89abcdef:01234567:89abcdef")
    assert read(root, disks, "md0").layers == (Layer("md", "01234567:89abcdef:01234567:89abcdef"),)


@pytest.mark.parametrize("uuid", ["", "00000000-0000-0000-0000-000000000000", "nonsense"])
def test_an_array_without_a_uuid(root: Path, uuid: str) -> None:
    disks = Disks()
    disks.array("md0", [disks.disk()], uuid, MD_UUID="x")
    assert read(root, disks, "md0").problem == (
        "the array /dev/md0 has no UUID that can be seen: neither the kernel nor udev has a record of it"
    )


@pytest.mark.parametrize(
    ("hidden", "modules"),
    [
        ([("pool-mirror_rimage_0", lv("a")), ("pool-mirror_rmeta_0", lv("b"))],
         ("dm_raid", "raid1?", "raid10?", "raid456?", "raid0?")),
        ([("pool-tp-tpool", lv("a", "-tpool"))], ("dm_thin_pool",)),
        ([("pool-orig-real", lv("a", "-real")), ("pool-snap-cow", lv("b", "-cow"))], ("dm_snapshot",)),
        ([("pool-slow_corig", lv("a")), ("pool-fast_cvol-cdata", lv("b", "-cdata"))], ("dm_cache", "dm_cache_smq")),
        ([("pool-old_mimage_0", lv("a"))], ("dm_mirror", "dm_region_hash", "dm_log")),
        ([("pool-x_wcorig", lv("a"))], ("dm_writecache",)),
        ([("pool-x_rimage_0_imeta", lv("a"))], ("dm_integrity",)),
    ],
)  # fmt: skip
def test_hidden_parts_of_a_volume(root: Path, hidden: list[tuple[str, str]], modules: tuple[str, ...]) -> None:
    """They are no layers: lvm opens them with the volume."""
    disks = Disks()
    disks.disk()
    parts = [disks.mapped(f"dm-{n}", ["vda"], name, uuid) for n, (name, uuid) in enumerate(hidden)]
    disks.mapped("dm-9", parts, "pool-top", lv("t"))
    assert read(root, disks, "dm-9") == Stack((Layer("lvm", "pool/top"),), (*VIRTIO, *modules))


@pytest.mark.parametrize(
    ("uuid", "layer"),
    [
        ("mpath-36001405", Layer("multipath", "map")),
        ("DMRAID-isw_x", Layer("dm", "map")),
        ("", Layer("dm", "map")),
        ("part1-mpath-36001405", Layer("dm", "map")),
    ],
)
def test_other_mappings(root: Path, uuid: str, layer: Layer) -> None:
    disks = Disks()
    disks.mapped("dm-0", [disks.disk()], "map", uuid)
    assert read(root, disks, "dm-0") == Stack((layer,), VIRTIO)


def test_bcache(root: Path) -> None:
    disks = Disks()
    disks.disk()
    disks.block("bcache0", f"{VIRTUAL}/bcache0")
    disks.tree |= {
        f"{VIRTUAL}/bcache0/bcache": None,
        f"{VIRTUAL}/bcache0/slaves/vda": Link("../../../../../" + disks.homes["vda"][5:]),
    }
    assert read(root, disks, "bcache0") == Stack((Layer("dm", "bcache0"),), (*VIRTIO, "bcache"))


def test_a_volume_with_integrity_is_one_layer(root: Path) -> None:
    """cryptsetup puts a device of its own under it."""
    disks = Disks()
    disks.mapped("dm-0", [disks.disk()], "withtag_dif", f"CRYPT-SUBDEV-{LUKS.replace('-', '')}-withtag_dif")
    disks.luks("dm-1", "dm-0", LUKS, "withtag")
    found = read(root, disks, "dm-1")
    assert found.layers == (Layer("crypt", LUKS),)
    assert found.drivers == (*VIRTIO, "dm_integrity")
    assert found.crypts == (Crypt(LUKS, "withtag", "/dev/vda"),)


@pytest.mark.parametrize("kind", ["PLAIN", "TCRYPT", "BITLK"])
def test_encrypted_without_a_luks_header(root: Path, kind: str) -> None:
    disks = Disks()
    disks.mapped("dm-0", [disks.disk()], "secret", f"CRYPT-{kind}-secret")
    assert read(root, disks, "dm-0").problem == (
        f"/dev/mapper/secret is encrypted as {kind}, without a LUKS header: it can't be opened after a crash; "
        "set path = to a directory elsewhere or add a [target]"
    )


def test_loop_device(root: Path) -> None:
    disks = Disks()
    disks.block("loop0", f"{VIRTUAL}/loop0")
    disks.tree[f"{VIRTUAL}/loop0/loop/backing_file"] = "/srv/image\n"
    assert (read(root, disks, "loop0").problem or "").startswith(
        "/dev/loop0 is a loop device on /srv/image, which isn't"
    )


@pytest.mark.parametrize(
    "home",
    [
        "/sys/devices/platform/host2/session1/target2:0:0/2:0:0:0/block/sda",
        "/sys/devices/virtual/nvme-fabrics/ctl/nvme0/nvme0n1",
        f"{VIRTUAL}/nbd0",
        f"{VIRTUAL}/drbd0",
    ],
)
def test_over_the_network(root: Path, home: str) -> None:
    disks = Disks()
    name = disks.block(home.rsplit("/", 1)[1], home)
    assert (read(root, disks, name).problem or "").startswith(f"/dev/{name} is reached over the network")


# --- drivers ---------------------------------------------------------------------------------------------------------


def test_ahci(root: Path) -> None:
    disks = Disks()
    target = "/sys/devices/pci0000:00/0000:00:04.0/ata1/host0/target0:0:0/0:0:0:0"
    disks.block("sda", f"{target}/block/sda")
    disks.driver("/sys/devices/pci0000:00/0000:00:04.0", "pci", "ahci", "ahci")
    disks.driver(target, "scsi", "sd", "sd_mod")
    assert read(root, disks, disks.part("sda")).drivers == ("ahci", "sd_mod")


def test_usb(root: Path) -> None:
    """Some drivers are built in and have no module that tells their name: they may be missing."""
    disks = Disks()
    bridge, host = "/sys/devices/pci0000:00/0000:00:1c.0", "/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0"
    usb = f"{host}/usb1/1-2"
    scsi = f"{usb}/1-2:1.0/host6/target6:0:0/6:0:0:0"
    disks.driver(bridge, "pci", "pcieport", None)
    disks.driver(host, "pci", "xhci_hcd", "xhci_pci")
    disks.driver(usb, "usb", "usb", None)
    disks.driver(f"{usb}/1-2:1.0", "usb", "usb-storage", "usb_storage")
    disks.driver(scsi, "scsi", "sd", None)
    disks.block("sdb", f"{scsi}/block/sdb")
    assert read(root, disks, "sdb").drivers == ("xhci_pci", "usb?", "usb_storage", "sd_mod")


def test_nvme_with_two_ways_to_it(root: Path) -> None:
    """Its namespace hangs on the subsystem, which is virtual; the controllers are linked there."""
    disks = Disks()
    home = "/sys/devices/virtual/nvme-subsystem/nvme-subsys1"
    disks.block("nvme1n1", f"{home}/nvme1n1")
    for n, slot in enumerate(("02", "03")):
        disks.driver(f"/sys/devices/pci0000:00/0000:00:{slot}.0", "pci", "nvme", "nvme")
        disks.tree[f"/sys/devices/pci0000:00/0000:00:{slot}.0/nvme/nvme{n}"] = None
        disks.tree[f"{home}/nvme{n}"] = Link(f"../../../pci0000:00/0000:00:{slot}.0/nvme/nvme{n}")
    assert read(root, disks, disks.part("nvme1n1", 2)).drivers == ("nvme",)


def test_a_disk_without_a_driver_is_not_seen(root: Path) -> None:
    disks = Disks()
    disks.block("ram0", f"{VIRTUAL}/ram0")
    assert read(root, disks, "ram0").drivers is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vg-lv", "vg/lv"), ("my--vg-lv--crash", "my-vg/lv-crash"), ("a----b-c", "a--b/c"), ("plain", "plain")],
)
def test_volume_name(name: str, expected: str) -> None:
    assert volume_name(name) == expected


def test_a_circle_ends(root: Path) -> None:
    disks = Disks()
    disks.disk()
    disks.mapped("dm-0", ["vda"], "vg-a", lv("x"))
    disks.tree[f"{VIRTUAL}/dm-0/slaves/dm-0"] = Link("../../dm-0")
    assert read(root, disks, "dm-0").layers == (Layer("lvm", "vg/a"),)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=90), st.binary(max_size=40), st.binary(max_size=40))
def test_property_noise(root: Path, uuid: bytes, name: bytes, md: bytes) -> None:
    home = "/sys/devices/virtual/block"
    tree: dict[str, Entry] = {f"{home}/dm-0/dm/uuid": uuid, f"{home}/dm-0/dm/name": name, f"{home}/md0/md/uuid": md}
    make_tree(root, tree)
    for link, to in (("253:0", "dm-0"), ("9:0", "md0")):
        if not (root / f"sys/dev/block/{link}").exists():
            make_tree(root, {f"/sys/dev/block/{link}": Link(f"../../devices/virtual/block/{to}")})
    found = read_stack(LiveContext(root=root, runner=FakeRunner()), ["253:0", "9:0"])
    assert 1 <= len(found.layers) <= 2
