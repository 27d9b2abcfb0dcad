"""Where the dumps really go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.facts.storage import read_target
from kdump_pkg.model import Target
from tests.fakes import UUID, Entry, FakeRunner, Link, LiveContext, make_tree

ROOT = "21 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw"
UDEV = {"/run/udev/data/b8:2": f"S:disk/by-uuid/x\nE:ID_FS_UUID={UUID}\nE:ID_FS_TYPE=ext4\n"}


def live(root: Path, mounts: list[str], entries: dict[str, Entry] | None = None) -> LiveContext:
    make_tree(root, {"/proc/self/mountinfo": "\n".join(mounts) + "\n", "/var/crash": None, **UDEV, **(entries or {})})
    return LiveContext(root=root, runner=FakeRunner())


def test_ext4_root(root: Path) -> None:
    found = read_target(live(root, [ROOT]), "/var/crash")
    assert found == Target(f"UUID={UUID}", "ext4", "/var/crash", "", (), (), "mounted on /")


@pytest.mark.parametrize(
    ("mounts", "path", "inner", "options", "fstype"),
    [
        pytest.param(
            [ROOT, "30 21 8:2 / /var rw - xfs /dev/sda2 rw"], "/var/crash", "/crash", "", "xfs", id="its own mount"
        ),
        pytest.param(
            [ROOT, "30 21 8:2 /srv/dumps /var/crash rw master:1 propagate_from:2 - ext4 /dev/sda2 rw"],
            "/var/crash", "/srv/dumps/", "", "ext4", id="bind mount",
        ),
        pytest.param(
            [ROOT, "30 21 8:2 /srv /var rw - ext4 /dev/sda2 rw"], "/var/crash", "/srv/crash", "", "ext4", id="above",
        ),
        pytest.param(
            ["21 1 8:2 /@ / rw - btrfs /dev/sda2 rw,subvolid=256,subvol=/@"],
            "/var/crash", "/var/crash", "subvol=/@", "btrfs", id="btrfs subvolume",
        ),
        pytest.param(
            ["21 1 8:2 /@/x / rw - btrfs /dev/sda2 rw,subvolid=256,subvol=/@"],
            "/var/crash", "/x/var/crash", "subvol=/@", "btrfs", id="bind inside a subvolume",
        ),
        pytest.param(
            ["21 1 8:2 /@ / rw - btrfs /dev/sda2 subvol=/@", "22 21 8:2 /@v /var rw - btrfs /dev/sda2 subvol=/@v"],
            "/var/crash", "/crash", "subvol=/@v", "btrfs", id="two subvolumes",
        ),
        pytest.param(
            ["21 1 8:2 / / rw - btrfs /dev/sda2 rw,subvolid=5,subvol=/"],
            "/var/crash", "/var/crash", "subvol=/", "btrfs", id="btrfs without subvolume",
        ),
        pytest.param(
            [ROOT, "30 21 8:9 / /var rw - xfs /dev/x rw", "31 30 8:2 / /var rw - ext4 /dev/sda2 rw"],
            "/var/crash", "/crash", "", "ext4", id="mounted over",
        ),
        pytest.param([ROOT, "30 21 8:9 / /va rw - xfs /x rw"], "/var/crash", "/var/crash", "", "ext4", id="prefix"),
    ],
)  # fmt: skip
def test_mounts(root: Path, mounts: list[str], path: str, inner: str, options: str, fstype: str) -> None:
    found = read_target(live(root, mounts), path)
    assert (found.problem, found.device) == (None, f"UUID={UUID}")
    assert (found.path.rstrip("/"), found.options, found.fstype) == (inner.rstrip("/"), options, fstype)


def test_escaped_mount_point(root: Path) -> None:
    context = live(root, [ROOT, r"30 21 8:2 / /my\040disk rw - ext4 /dev/sda2 rw"], {"/my disk": None})
    found = read_target(context, "/my disk/dumps")
    assert (found.path, found.source) == ("/dumps", "mounted on /my disk")


def test_linked_directory_lies_where_the_link_leads(root: Path) -> None:
    context = live(
        root, [ROOT, "30 21 8:2 / /data rw - ext4 /dev/sda2 rw"], {"/data/d": None, "/crash": Link("/data/d")}
    )
    assert read_target(context, "/crash/x").path == "/d/x"


@pytest.mark.parametrize("fstype", ["tmpfs", "nfs4", "zfs", "fuse.sshfs", "squashfs", "9p"])
def test_what_is_on_no_disk(root: Path, fstype: str) -> None:
    found = read_target(live(root, [ROOT, f"30 21 0:9 / /var rw - {fstype} x rw"]), "/var/crash")
    assert found.problem == (
        f"dumps can't be saved to {fstype} on /var; set path = to a directory on a disk's own file system"
    )
    assert found.device == ""


def test_uuid_from_blkid_where_udev_does_not_run(root: Path) -> None:
    context = live(root, [ROOT], {"/run/udev/data/b8:2": "E:ID_FS_TYPE=ext4\n"})
    assert read_target(context, "/").problem == "the file system on / (/dev/sda2) has no UUID that can be found"
    for answer in (CommandError("not there"), "", 2):
        context.runner.answers["blkid"] = answer  # type: ignore[attr-defined]
        assert read_target(context, "/").device == ""
    context.runner.answers["blkid"] = "abcd-1234\n"  # type: ignore[attr-defined]
    assert read_target(context, "/").device == "UUID=abcd-1234"
    assert context.runner.lines()[-1] == "blkid -o value -s UUID /dev/sda2"  # type: ignore[attr-defined]


class DeviceContext(LiveContext):
    """Its /dev/sda2 is a device node, which nobody but root could make in a directory: this machine's /dev/null."""

    def path(self, name: str, *, follow: bool = True) -> Path:
        return Path("/dev/null") if name == "/dev/sda2" else super().path(name, follow=follow)


BTRFS = "21 1 0:50 /@ / rw - btrfs /dev/sda2 rw,subvol=/@"


def test_btrfs_number_is_that_of_its_device(root: Path) -> None:
    """Its own is made up, and udev knows nothing of it."""
    context = live(root, [BTRFS], {"/run/udev/data/b1:3": "E:ID_FS_UUID=by-device\n"})
    found = read_target(DeviceContext(root=root, runner=context.runner), "/var/crash")
    assert (found.device, found.options) == ("UUID=by-device", "subvol=/@")


def test_btrfs_whose_device_is_not_there(root: Path) -> None:
    assert "has no UUID" in (read_target(live(root, [BTRFS]), "/var/crash").problem or "")


# --- what lies under the file system --------------------------------------------------------------------------------

PCI = "/sys/devices/pci0000:00/0000:00:04.0"


def driver(device: str, bus: str, name: str, module: str | None) -> dict[str, Entry]:
    """A device with its driver, and the driver with its module (None: built in)."""
    tree: dict[str, Entry] = {f"{device}/driver": Link(up(device) + f"bus/{bus}/drivers/{name}")}
    home = f"/sys/bus/{bus}/drivers/{name}"
    return tree | (
        {f"{home}/module": Link(f"../../../../module/{module}"), f"/sys/module/{module}": None}
        if module
        else {home: None}
    )


def up(device: str) -> str:
    return "../" * (device.count("/") - 1)


def virtio_disk(number: str = "8:2", name: str = "vda") -> dict[str, Entry]:
    disk = f"{PCI}/virtio1/block/{name}"
    return {
        f"/sys/dev/block/{number}": Link(f"../..{disk.removeprefix('/sys')}/{name}2"),
        f"{disk}/{name}2/partition": "2",
        **driver(PCI, "pci", "virtio-pci", "virtio_pci"),
        **driver(f"{PCI}/virtio1", "virtio", "virtio_blk", "virtio_blk"),
    }


def test_drivers_of_a_virtio_disk(root: Path) -> None:
    found = read_target(live(root, [ROOT], virtio_disk()), "/var/crash")
    assert (found.drivers, found.layers) == (("virtio_pci", "virtio_blk"), ())


def test_drivers_of_an_ahci_disk(root: Path) -> None:
    target = f"{PCI}/ata1/host0/target0:0:0/0:0:0:0"
    tree: dict[str, Entry] = {
        "/sys/dev/block/8:2": Link(f"../..{target.removeprefix('/sys')}/block/sda/sda2"),
        f"{target}/block/sda/sda2/partition": "2",
        **driver(PCI, "pci", "ahci", "ahci"),
        **driver(target, "scsi", "sd", "sd_mod"),
    }
    assert read_target(live(root, [ROOT], tree), "/").drivers == ("ahci", "sd_mod")


def test_built_in_driver_by_its_name(root: Path) -> None:
    tree = virtio_disk() | driver(f"{PCI}/virtio1", "virtio", "virtio-blk", None)
    tree = {k: v for k, v in tree.items() if "virtio_blk" not in k}
    assert read_target(live(root, [ROOT], tree), "/").drivers == ("virtio_pci", "virtio_blk")


@pytest.mark.parametrize(
    ("uuid", "layer"),
    [("CRYPT-LUKS2-abc-root", "crypt"), ("LVM-abcdef", "lvm"), ("mpath-36", "multipath"), ("DMRAID-x", "dm")],
)
def test_device_mapper(root: Path, uuid: str, layer: str) -> None:
    dm = "/sys/devices/virtual/block/dm-0"
    tree = virtio_disk("254:2") | {
        "/sys/dev/block/8:2": Link("../../devices/virtual/block/dm-0"),
        f"{dm}/dm/uuid": f"{uuid}\n",
        f"{dm}/slaves/vda2": Link(up(f"{dm}/slaves") + f"{PCI.removeprefix('/sys/')}/virtio1/block/vda/vda2"),
    }
    found = read_target(live(root, [ROOT], tree), "/")
    assert (found.layers, found.drivers) == ((layer,), ("virtio_pci", "virtio_blk"))


def test_stacked(root: Path) -> None:
    """lvm on crypt on an md of two disks: every driver once."""
    virtual = "/sys/devices/virtual/block"

    def slave(of: str, name: str, target: str) -> dict[str, Entry]:
        return {f"{virtual}/{of}/slaves/{name}": Link(up(f"{virtual}/x/slaves") + target)}

    disk = f"{PCI.removeprefix('/sys/')}/virtio1/block"
    tree = virtio_disk("254:2", "vda") | virtio_disk("254:18", "vdb") | {
        "/sys/dev/block/8:2": Link("../../devices/virtual/block/dm-1"),
        f"{virtual}/dm-1/dm/uuid": "LVM-x",
        f"{virtual}/dm-0/dm/uuid": "CRYPT-x",
        f"{virtual}/md0/md/level": "raid1",
        **slave("dm-1", "dm-0", "devices/virtual/block/dm-0"),
        **slave("dm-0", "md0", "devices/virtual/block/md0"),
        **slave("md0", "vda2", f"{disk}/vda/vda2"),
        **slave("md0", "vdb2", f"{disk}/vdb/vdb2"),
    }  # fmt: skip
    found = read_target(live(root, [ROOT], tree), "/")
    assert (found.layers, found.drivers) == (("lvm", "crypt", "md"), ("virtio_pci", "virtio_blk"))


# --- fstab --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fstab", "expected"),
    [
        (f"UUID={UUID} / ext4 rw 0 1", (f"UUID={UUID}", "ext4", "/var/crash", "")),
        (f'UUID="{UUID}" / ext4 rw 0 1', (f"UUID={UUID}", "ext4", "/var/crash", "")),
        ("LABEL=root / xfs defaults", ("LABEL=root", "xfs", "/var/crash", "")),
        ("PARTUUID=ab-cd /var ext4 rw\nLABEL=r / ext4 rw", ("PARTUUID=ab-cd", "ext4", "/crash", "")),
        ("LABEL=r / btrfs rw,subvol=/@,x 0 0", ("LABEL=r", "btrfs", "/var/crash", "subvol=/@")),
        ("LABEL=r / ext4 rw\nLABEL=c /var/crash ext4 rw", ("LABEL=c", "ext4", "/", "")),
        ("LABEL=r\t/\text4\trw\t0\t1 # end", ("LABEL=r", "ext4", "/var/crash", "")),
    ],
)
@pytest.mark.parametrize("where", ["another root", "overlay", "rootfs"])
def test_fstab(root: Path, fstab: str, expected: tuple[str, ...], where: str) -> None:
    make_tree(root, {"/etc/fstab": f"# static\n\n{fstab}\nproc /proc proc defaults 0 0\nLABEL=s none swap sw 0 0\n"})
    context: Context = Context(root=root, runner=FakeRunner())
    if where != "another root":
        context = live(root, [f"21 1 0:50 / / rw - {where} {where} rw,lowerdir=/x"])
    found = read_target(context, "/var/crash")
    assert (found.device, found.fstype, found.path, found.options) == expected
    assert (found.problem, found.drivers) == (None, None)
    assert found.source.startswith("/etc/fstab:")


@pytest.mark.parametrize(
    ("fstab", "problem"),
    [
        (None, "no entry in /etc/fstab fits"),
        ("", "no entry in /etc/fstab fits"),
        ("# nothing\n\n   \n", "no entry in /etc/fstab fits"),
        ("UUID=1", "no entry in /etc/fstab fits"),
        ("UUID=1 / ext4", "no entry in /etc/fstab fits"),
        ("one two three four five", "no entry in /etc/fstab fits"),
        (b"\xff\xfe\0\0 \x80" * 50, "no entry in /etc/fstab fits"),
        (bytes(range(256)), "no entry in /etc/fstab fits"),
        ("/dev/sda1 / ext4 rw 0 1", "/etc/fstab:1: /dev/sda1 may be another disk after a crash; name it by UUID="),
        ("UUID=1';reboot / ext4 rw 0 1", "may be another disk"),
        ("UUID=$(x) / ext4 rw 0 1", "may be another disk"),
        ("# x\ntmpfs / tmpfs rw 0 0", "dumps can't be saved to tmpfs on /"),
        ("server:/x / nfs rw 0 0", "dumps can't be saved to nfs on /"),
        ("UUID=1 /home ext4 rw 0 1", "no entry in /etc/fstab fits"),
    ],
)
def test_nonsense_in_fstab_is_one_line(root: Path, fstab: str | bytes | None, problem: str) -> None:
    if fstab is not None:
        make_tree(root, {"/etc/fstab": fstab})
    found = read_target(Context(root=root, runner=FakeRunner()), "/var/crash")
    assert problem in (found.problem or "")
    assert "\n" not in (found.problem or "")
    assert found.device == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_property_noise_never_surprises(root: Path, data: bytes, mounts: bool) -> None:
    make_tree(root, {"/etc/fstab": data, "/proc/self/mountinfo": data if mounts else ""})
    context = LiveContext if mounts else Context
    found = read_target(context(root=root, runner=FakeRunner()), "/var/crash")
    assert found.device == "" or found.problem is None
