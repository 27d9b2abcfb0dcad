"""Where the dumps really go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.facts import storage
from kdump_pkg.facts.udev import ESP_TYPE
from kdump_pkg.model import Config, CryptVolume, Layer, Retention, Target, TargetWish
from tests.disks import VIRTUAL, Disks
from tests.fakes import UUID, Entry, FakeRunner, Link, LiveContext, make_tree
from tests.unit.test_facts_luks import ARGON, VOLUME, luks2
from tests.unit.test_facts_stack import MD, MDADM, VIRTIO, lv

OTHER = "1a1b1c1d-5555-6666-7777-888899990000"
REMEDY = "set path = to a directory on a disk's own file system"


def read(context: Context, name: str = "root", path: str = "/var/crash", **wish: object) -> Target:
    wanted = TargetWish(name, path, **wish)  # type: ignore[arg-type]
    (found,) = storage.read_targets(context, Config(targets=(wanted,)))
    assert "\n" not in (found.problem or "")
    assert found.problem is None or found.device == ""
    return found


def plain(fstype: str = "ext4", point: str = "/", **more: str) -> Disks:
    """One disk with one partition, mounted."""
    disks = Disks()
    disks.part(disks.disk(), UUID=UUID, TYPE=fstype)
    return disks.mount("vda1", point, fstype, **more)


def test_ext4_root(root: Path) -> None:
    assert read(plain().context(root)) == Target(
        f"UUID={UUID}", "ext4", "/var/crash", drivers=VIRTIO, source="mounted on /", mounted="/var/crash"
    )


def test_what_is_wished_for_is_carried_over(root: Path) -> None:
    limits = Retention(2, 30, "10%", "1%")
    wishes = (
        TargetWish("root", device_timeout=7, timeout=99, retention=limits),
        TargetWish(f"uuid={OTHER}", "/x", device_timeout=5),
        TargetWish("esp", "/dumps"),
    )
    found = storage.read_targets(plain().context(root), Config(targets=wishes))
    assert [t.name for t in found] == ["root", f"uuid={OTHER}", "esp"]
    assert [t.device_timeout for t in found] == [7, 5, 30]
    assert (found[0].timeout, found[0].retention, found[2].retention) == (99, limits, Retention())
    assert [t.problem is None for t in found] == [True, False, False]


@pytest.mark.parametrize("fstype", ["ext2", "ext3", "ext4", "xfs", "f2fs", "vfat", "exfat"])
def test_its_own_file_system(root: Path, fstype: str) -> None:
    disks = plain()
    disks.part("vda", 2, UUID=OTHER, TYPE=fstype)
    found = read(disks.mount("vda2", "/var/crash", fstype).context(root))
    assert (found.device, found.fstype, found.path, found.options) == (f"UUID={OTHER}", fstype, "/", "")
    assert (found.mounted, found.source) == ("/var/crash", "mounted on /var/crash")


def test_bind_mount(root: Path) -> None:
    found = read(plain().mount("vda1", "/var/crash", root="/srv/dumps").context(root))
    assert (found.device, found.path, found.mounted) == (f"UUID={UUID}", "/srv/dumps", "/var/crash")


def btrfs(*devices: str) -> Disks:
    """A btrfs of these devices; what is mounted has a number of its own, which udev doesn't know."""
    disks = Disks()
    for name in devices or ("vda",):
        disks.disk(name, UUID=UUID, TYPE="btrfs")
    disks.btrfs(UUID, devices or ("vda",))
    return disks


def mount(disks: Disks, point: str, root: str, subvolume: str) -> Disks:
    options = f"rw,compress=zstd:3,subvolid=256,subvol={subvolume}"
    disks.mount("vda", point, "btrfs", root=root, options=options, major="0:26")
    return disks


@pytest.mark.parametrize(
    ("mounts", "path", "expected"),
    [
        ([("/", "/@", "/@")], "/var/crash", ("/var/crash", "subvol=/@")),
        ([("/", "/@", "/@"), ("/var", "/@var", "/@var")], "/var/crash", ("/crash", "subvol=/@var")),
        ([("/", "/@", "/@"), ("/var/crash", "/@crash", "/@crash")], "/var/crash", ("/", "subvol=/@crash")),
        ([("/", "/@", "/@"), ("/var/crash", "/@/n/d", "/@/n")], "/var/crash", ("/d", "subvol=/@/n")),
        ([("/", "/@", "/@"), ("/var/crash", "/@/srv/d", "/@")], "/var/crash", ("/srv/d", "subvol=/@")),
        ([("/", "/", "/")], "/var/crash", ("/var/crash", "subvol=/")),
    ],
)
def test_btrfs(root: Path, mounts: list[tuple[str, str, str]], path: str, expected: tuple[str, str]) -> None:
    disks = btrfs()
    for point, top, subvolume in mounts:
        mount(disks, point, top, subvolume)
    found = read(disks.context(root), path=path)
    assert (found.device, found.fstype, found.path, found.options) == (f"UUID={UUID}", "btrfs", *expected)
    assert (found.devices, found.drivers) == (1, VIRTIO)


def test_btrfs_of_several_devices(root: Path) -> None:
    """Layers and drivers of all members, one of which is encrypted."""
    disks = Disks()
    disks.disk("vda", UUID=UUID, TYPE="btrfs")
    disks.disk("vdb", UUID=VOLUME, TYPE="crypto_LUKS")
    disks.tree["/dev/vdb"] = luks2([ARGON])
    disks.luks("dm-0", "vdb", VOLUME, UUID=UUID, TYPE="btrfs")
    disks.btrfs(UUID, ["vda", "dm-0"])
    found = read(mount(disks, "/", "/@", "/@").context(root))
    assert (found.devices, found.layers, found.drivers) == (2, (Layer("crypt", VOLUME),), VIRTIO)


def test_btrfs_of_several_devices_that_is_not_mounted(root: Path) -> None:
    disks = plain()
    for name in ("vdb", "vdc"):
        disks.disk(name, UUID=OTHER, TYPE="btrfs")
    assert read(disks.context(root), f"uuid={OTHER}").devices == 2


def test_btrfs_with_a_member_missing(root: Path) -> None:
    disks = btrfs("vda", "vdb")
    disks.tree[f"/sys/fs/btrfs/{UUID}/devices/missing"] = None
    assert read(mount(disks, "/", "/@", "/@").context(root)).devices == 3


def test_btrfs_without_udev(root: Path) -> None:
    disks = mount(btrfs(), "/", "/@", "/@")
    disks.tree = {name: entry for name, entry in disks.tree.items() if not name.startswith("/run/udev")}
    assert read(disks.context(root)).device == f"UUID={UUID}"


def test_btrfs_whose_device_is_not_there(root: Path) -> None:
    line = "21 1 0:50 /@ / rw - btrfs /dev/sda2 rw,subvol=/@\n"
    found = read(Disks().context(root, {"/proc/self/mountinfo": line}))
    assert found.problem == f"the file system on / (/dev/sda2) has no UUID that can be found; {REMEDY}"


class DeviceContext(LiveContext):
    """Its /dev/root is a device node, which nobody but root could make in a directory: this machine's /dev/null."""

    def path(self, name: str, *, follow: bool = True) -> Path:
        return Path("/dev/null") if name == "/dev/root" else super().path(name, follow=follow)


def test_device_by_its_node_where_it_has_no_name_of_its_own(root: Path) -> None:
    line = "21 1 0:50 /@ / rw - btrfs /dev/root rw,subvol=/@\n"
    more: dict[str, Entry] = {"/proc/self/mountinfo": line, "/run/udev/data/b1:3": "E:ID_FS_UUID=by-device\n"}
    context = Disks().context(root, more)
    assert read(DeviceContext(root=root, runner=context.runner)).device == "UUID=by-device"


def test_uuid_from_blkid_where_udev_does_not_run(root: Path) -> None:
    disks = plain()
    disks.tree = {name: entry for name, entry in disks.tree.items() if not name.startswith("/run/udev")}
    context = disks.context(root)
    assert read(context).problem == f"the file system on / (/dev/vda1) has no UUID that can be found; {REMEDY}"
    answers = context.runner.answers  # type: ignore[attr-defined]
    for answer in (CommandError("not there"), "", 2):
        answers["blkid"] = answer
        assert read(context).device == ""
    answers["blkid"] = "abcd-1234\n"
    assert read(context).device == "UUID=abcd-1234"
    assert context.runner.lines()[-1] == "blkid -o value -s UUID /dev/vda1"  # type: ignore[attr-defined]


def test_no_program_runs_where_udev_knows(root: Path) -> None:
    context = plain().context(root)
    wishes = (TargetWish(), TargetWish(f"uuid={UUID}"), TargetWish("esp"), TargetWish("label=x"))
    storage.read_targets(context, Config(targets=wishes))
    assert context.runner.calls == []  # type: ignore[attr-defined]


def test_stacked(root: Path) -> None:
    disks = Disks()
    disks.array("md127", [disks.disk("vda"), disks.disk("vdb")], MD, UUID=VOLUME, TYPE="crypto_LUKS")
    disks.luks("dm-0", "md127", VOLUME)
    disks.mapped("dm-1", ["dm-0"], "my--vg-lv--crash", lv("x"), UUID=UUID, TYPE="xfs")
    disks.tree["/dev/md127"] = luks2([ARGON])
    disks.tree["/proc/keys"] = f"3cc81047 I--Q---     1 perm 3d010000     0     0 logon     cryptsetup:{VOLUME}: 64\n"
    found = read(disks.mount("dm-1", "/", "xfs").context(root))
    assert found.problem is None
    assert found.layers == (Layer("md", MDADM), Layer("crypt", VOLUME), Layer("lvm", "my-vg/lv-crash"))
    assert found.drivers == (*VIRTIO, "md_mod", "raid1")
    assert found.crypt == (CryptVolume(VOLUME, 2, 1048576, "linked", device="/dev/md127"),)


def test_layers_of_the_configuration_count(root: Path) -> None:
    disks = plain()
    disks.disk("vdb", UUID=VOLUME, TYPE="crypto_LUKS")
    disks.tree["/dev/vdb"] = luks2([ARGON])
    layers = (Layer("md", MDADM), Layer("crypt", VOLUME), Layer("lvm", "a/b"))
    found = read(disks.context(root), layers=layers)
    assert (found.layers, found.drivers, found.device) == (layers, VIRTIO, f"UUID={UUID}")
    assert [(c.uuid, c.version, c.argon2_kib, c.device) for c in found.crypt] == [(VOLUME, 2, 1048576, "/dev/vdb")]
    assert read(disks.context(root / "again"), layers=()).layers == ()


def test_escaped_mount_point(root: Path) -> None:
    disks = plain()
    disks.part("vda", 2, UUID=OTHER, TYPE="ext4")
    found = read(disks.mount("vda2", "/my disk").context(root), path="/my disk/dumps")
    assert (found.path, found.source, found.device) == ("/dumps", "mounted on /my disk", f"UUID={OTHER}")


def test_linked_directory_lies_where_the_link_leads(root: Path) -> None:
    disks = plain()
    disks.part("vda", 2, UUID=OTHER, TYPE="ext4")
    disks.mount("vda2", "/data").tree |= {"/data/d": None, "/crash": Link("/data/d")}
    found = read(disks.context(root), path="/crash/x")
    assert (found.path, found.mounted) == ("/d/x", "/data/d/x")


def test_read_only_now(root: Path) -> None:
    assert read(plain(options="ro").context(root)).source == "mounted on /, read-only now"


def test_automount_point_is_woken(root: Path) -> None:
    """What lies on it comes when somebody looks; here it is there in the second reading."""
    disks = plain()
    disks.part("vda", 2, UUID=OTHER, TYPE="xfs")
    disks.mount("systemd-1", "/var/crash", "autofs", major="0:40")
    context = disks.context(root)
    asleep = (root / "proc/self/mountinfo").read_text()
    assert read(context).problem == f"what is to be mounted on /var/crash does not come; {REMEDY}"
    awake = disks.mount("vda2", "/var/crash", "xfs").mounts[-1][1]

    class Waking(LiveContext):
        def names(self, directory: str) -> list[str]:
            if directory == "/var/crash":
                (root / "proc/self/mountinfo").write_text(f"{asleep}{awake}\n")
            return super().names(directory)

    assert read(Waking(root=root, runner=context.runner)).device == f"UUID={OTHER}"


# --- what can't be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fstype", "reason"),
    [
        ("tmpfs", ": it is gone after a crash"),
        ("ramfs", ": it is gone after a crash"),
        ("nfs4", ": it is remote only, and a capture sets up no network"),
        ("cifs", ": it is remote only, and a capture sets up no network"),
        ("9p", ": it is remote only, and a capture sets up no network"),
        ("fuse.sshfs", ": it is remote only, and a capture sets up no network"),
        ("fuseblk", ": a program would have to run for it"),
        ("fuse.mergerfs", ": a program would have to run for it"),
        ("squashfs", ": nothing can be written there"),
        ("ntfs3", ""),
    ],
)
def test_file_systems_that_are_none_for_dumps(root: Path, fstype: str, reason: str) -> None:
    found = read(plain().mount("x", "/var", fstype, major="0:9").context(root))
    assert found.problem == f"dumps can't be saved to {fstype} on /var{reason}; {REMEDY}"
    assert found.fstype == fstype


@pytest.mark.parametrize("fstype", ["zfs", "bcachefs"])
def test_no_tool_for_it(root: Path, fstype: str) -> None:
    assert read(plain(fstype).context(root)).problem == (
        f"dumps can't be saved to {fstype} on /: there is no tool for {fstype} in the capture image "
        f"(ext4, xfs, btrfs, f2fs and vfat are supported); {REMEDY} or add a [target]"
    )


def test_directory_above_is_missing(root: Path) -> None:
    context = plain().context(root)
    assert read(context, path="/mnt/disk/crash").problem == (
        "there is no /mnt/disk for /mnt/disk/crash to be in; make it, or correct path ="
    )
    assert read(context, path="/var/other").problem is None


def test_path_is_a_file(root: Path) -> None:
    context = plain().context(root, {"/srv/file": "x"})
    assert read(context, path="/srv/file").problem == "/srv/file is a file; set path = to a directory"
    assert read(context, path="/srv/file/x").problem == "/srv/file/x lies in a file; set path = to a directory"


def test_path_that_only_root_may_look_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = plain().context(root, {"/var/crash/x": None})
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if path.name == "x":
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert read(context, path="/var/crash/x").path == "/var/crash/x"


def test_path_in_a_circle_of_links(root: Path) -> None:
    context = plain().context(root, {"/a": Link("b"), "/b": Link("a")})
    assert "too many levels of symbolic links" in (read(context, path="/a/x").problem or "")
    assert "not an absolute path" in (read(context, path="a").problem or "")


def test_in_the_root_image(root: Path) -> None:
    found = read(Disks().mount("airootfs", "/", "overlay", major="0:30").context(root))
    assert found.problem == (f"/var/crash is in the root image (overlay on /), which is gone after a crash; {REMEDY}")


def test_loop_device(root: Path) -> None:
    disks = Disks()
    disks.block("loop0", f"{VIRTUAL}/loop0", UUID=UUID, TYPE="ext4")
    disks.tree[f"{VIRTUAL}/loop0/loop/backing_file"] = "/run/image\n"
    assert "loop device on /run/image" in (read(disks.mount("loop0", "/").context(root)).problem or "")


def test_encrypted_without_a_header(root: Path) -> None:
    disks = Disks()
    disks.mapped("dm-0", [disks.disk()], "x", "CRYPT-PLAIN-x", UUID=UUID, TYPE="ext4")
    assert "encrypted as PLAIN, without a LUKS header" in (read(disks.mount("dm-0", "/").context(root)).problem or "")


def test_file_system_with_its_log_elsewhere(root: Path) -> None:
    found = read(plain("xfs", options="rw,logdev=/dev/vdb").context(root))
    assert found.problem == (
        "the file system on / needs a second device (logdev=, rtdev=), which no capture gives it; " + REMEDY
    )


def test_deleted_bind_mount(root: Path) -> None:
    found = read(plain().mount("vda1", "/var/crash", root="/srv/x//deleted").context(root))
    assert found.problem == "the directory that was mounted on /var/crash is deleted; mount it anew"


def test_deleted_subvolume_that_is_still_mounted(root: Path) -> None:
    disks = btrfs()
    disks.mount("vda", "/var/crash", "btrfs", root="/@sv//deleted", options="rw,subvolid=259", major="0:26")
    assert read(disks.context(root)).problem == (
        "the directory that was mounted on /var/crash is deleted; mount it anew"
    )


def test_drivers_that_can_not_be_seen(root: Path) -> None:
    """The planner takes the common ones then."""
    disks = plain()
    disks.tree = {name: entry for name, entry in disks.tree.items() if not name.endswith("driver")}
    found = read(disks.context(root))
    assert (found.problem, found.drivers) == (None, None)


def test_names_that_can_not_be_written_down(root: Path) -> None:
    disks = plain()
    found = read(disks.mount("vda1", "/var/crash", root="/a\\012b").context(root))
    assert found.problem is None
    line = disks.mounts[-1][1].replace("\\134012", "\\012")
    (root / "proc/self/mountinfo").write_text(f"{disks.mounts[0][1]}\n{line}\n")
    assert read(LiveContext(root=root, runner=FakeRunner())).problem == (
        f"'/a\\nb': no name that can be written down; {REMEDY}"
    )


# --- fstab -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fstab", "expected"),
    [
        (f"UUID={UUID} / ext4 rw 0 1", (f"UUID={UUID}", "ext4", "/var/crash", "")),
        (f'UUID="{UUID}" / ext4', (f"UUID={UUID}", "ext4", "/var/crash", "")),
        (f"/dev/disk/by-uuid/{UUID} / ext4", (f"UUID={UUID}", "ext4", "/var/crash", "")),
        ("/dev/disk/by-partlabel/my-disk / xfs", ("PARTLABEL=my-disk", "xfs", "/var/crash", "")),
        ("LABEL=root / xfs defaults", ("LABEL=root", "xfs", "/var/crash", "")),
        ("PARTUUID=ab-cd /var ext4 rw\nLABEL=r / ext4 rw", ("PARTUUID=ab-cd", "ext4", "/crash", "")),
        ("LABEL=r / btrfs rw,subvol=/@,x 0 0", ("LABEL=r", "btrfs", "/var/crash", "subvol=/@")),
        ("LABEL=r / btrfs subvolid=256 0 0", ("LABEL=r", "btrfs", "/var/crash", "subvolid=256")),
        ("LABEL=r / btrfs defaults", ("LABEL=r", "btrfs", "/var/crash", "")),
        ("LABEL=r / ext4 rw\nLABEL=c /var/crash ext4 rw", ("LABEL=c", "ext4", "/", "")),
        ("LABEL=r\t/\text4\trw\t0\t1 # end", ("LABEL=r", "ext4", "/var/crash", "")),
        ("LABEL=r / ext4\nLABEL=h /home xfs\n/home/d /var/crash none bind", ("LABEL=h", "xfs", "/d", "")),
        ("LABEL=r / ext4\n/srv/v /var none rw,rbind", ("LABEL=r", "ext4", "/srv/v/crash", "")),
    ],
)
@pytest.mark.parametrize("where", ["another root", "overlay", "rootfs"])
def test_fstab(root: Path, fstab: str, expected: tuple[str, ...], where: str) -> None:
    text = f"# static\n\n{fstab}\nproc /proc proc defaults 0 0\nLABEL=s none swap sw 0 0\n"
    make_tree(root, {"/etc/fstab": text})
    context: Context = Context(root=root, runner=FakeRunner())
    if where != "another root":
        context = Disks().mount("x", "/", where, major="0:50").context(root)
    found = read(context)
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
        ("one two three four five", "no entry in /etc/fstab fits"),
        (b"\xff\xfe\0\0 \x80" * 50, "no entry in /etc/fstab fits"),
        (bytes(range(256)), "no entry in /etc/fstab fits"),
        ("/dev/sda1 / ext4 rw 0 1", "/etc/fstab:1: /dev/sda1 may be another disk after a crash; name it by UUID="),
        ("UUID=1';reboot / ext4 rw 0 1", "may be another disk"),
        ("UUID=$(x) / ext4 rw 0 1", "may be another disk"),
        ("UUID= / ext4 rw 0 1", "may be another disk"),
        ("# x\ntmpfs / tmpfs rw 0 0", "dumps can't be saved to tmpfs on / (/etc/fstab:2): it is gone after a crash"),
        ("server:/x / nfs rw 0 0", "dumps can't be saved to nfs on / (/etc/fstab:1): it is remote only"),
        ("UUID=1 /home ext4 rw 0 1", "no entry in /etc/fstab fits"),
        ("UUID=1 / auto defaults", "/etc/fstab:1: the type auto says nothing of what is on UUID=1; name it there"),
        ("UUID=1 / swap defaults", "that is swap space"),
        ("/var/crash /var/crash none bind", "/etc/fstab:1: /var/crash bound to /var/crash leads nowhere; correct it"),
        ("/a /var/crash none bind\n/var/crash /a none bind", "leads nowhere"),
        ("LABEL=x /var/crash none bind", "/etc/fstab:1: LABEL=x bound to /var/crash leads nowhere"),
    ],
)
def test_nonsense_in_fstab_is_one_line(root: Path, fstab: str | bytes | None, problem: str) -> None:
    if fstab is not None:
        make_tree(root, {"/etc/fstab": fstab})
    assert problem in (read(Context(root=root, runner=FakeRunner())).problem or "")


def test_meant_to_be_mounted_but_not_now(root: Path) -> None:
    """Dumps would be hidden under it once it is: the line of fstab counts."""
    disks = plain()
    disks.part("vda", 2, UUID=OTHER, TYPE="xfs")
    context = disks.context(root, {"/etc/fstab": f"UUID={UUID} / ext4\nUUID={OTHER} /var/crash auto noauto\n"})
    found = read(context)
    assert (found.device, found.fstype, found.path, found.mounted) == (f"UUID={OTHER}", "xfs", "/", "")
    assert (found.source, found.drivers) == ("/etc/fstab:2", VIRTIO)
    (root / "etc/fstab").write_text("LABEL=gone /var/crash xfs noauto\n")
    assert read(context).problem == ("no file system LABEL=gone on this machine; plug it in, or correct /etc/fstab:1")


def test_type_of_the_configuration(root: Path) -> None:
    make_tree(root, {"/etc/fstab": "UUID=1 / auto defaults\n"})
    assert read(Context(root=root, runner=FakeRunner()), fstype="xfs").fstype == "xfs"


# --- by name ---------------------------------------------------------------------------------------------------------


def named() -> Disks:
    """A second disk with a file system that is known by all names."""
    disks = plain()
    disks.disk("vdb")
    disks.part("vdb", 1, UUID=OTHER, TYPE="xfs", LABEL="my\\x20dumps", PARTUUID="abcd-01", PARTLABEL="dumps")
    return disks


@pytest.mark.parametrize("name", [f"uuid={OTHER}", f"uuid={OTHER.upper()}", "partuuid=abcd-01", "partlabel=dumps"])
def test_by_name(root: Path, name: str) -> None:
    kind, _, value = name.partition("=")
    found = read(named().context(root), name, "/d")
    assert (found.device, found.fstype, found.path) == (f"{kind.upper()}={value.lower()}", "xfs", "/d")
    assert (found.problem, found.drivers, found.mounted, found.source) == (None, VIRTIO, "", f"[target {name}]")


def test_by_the_links_of_udev(root: Path) -> None:
    disks = plain()
    disks.part(disks.disk("vdb"), 1, TYPE="ext4")
    disks.tree["/dev/disk/by-label/dumps"] = Link("../../vdb1")
    assert read(disks.context(root), "label=dumps", "/d").fstype == "ext4"


def test_by_label_with_a_blank(root: Path) -> None:
    """Not what can go on a command line; the UUID says the same."""
    assert "a plain name" in (read(named().context(root), "label=my dumps").problem or "")


def test_where_it_is_mounted(root: Path) -> None:
    disks = named()
    disks.mount("vdb1", "/mnt/a", "xfs", root="/d/e")
    disks.mount("vdb1", "/mnt/b", "xfs")
    assert read(disks.context(root), f"uuid={OTHER}", "/d/x").mounted == "/mnt/b/d/x"
    found = read(disks.mount("vda1", "/x").context(root / "again"), f"uuid={OTHER}", "/d/e/x")
    assert found.mounted == "/mnt/a/x"


def test_where_it_is_covered_it_is_not_mounted(root: Path) -> None:
    disks = named().mount("vdb1", "/mnt", "xfs")
    assert read(disks.mount("tmpfs", "/mnt", "tmpfs", major="0:9").context(root), f"uuid={OTHER}").mounted == ""


def test_mounted_read_only(root: Path) -> None:
    disks = named().mount("vdb1", "/mnt", "xfs", options="ro")
    assert read(disks.context(root), f"uuid={OTHER}").source == f"[target uuid={OTHER}], mounted read-only now"


def test_not_on_this_machine(root: Path) -> None:
    found = read(named().context(root), "uuid=1234-ABCD")
    assert (
        found.problem == "no file system UUID=1234-ABCD on this machine; plug it in, or correct [target uuid=1234-ABCD]"
    )


@pytest.mark.parametrize(
    ("fstype", "what"),
    [
        ("crypto_LUKS", "a LUKS volume"),
        ("LVM2_member", "a physical volume of LVM"),
        ("linux_raid_member", "a member of an md array"),
        ("swap", "swap space"),
    ],
)
def test_what_is_no_file_system(root: Path, fstype: str, what: str) -> None:
    disks = plain()
    disks.disk("vdb", UUID=OTHER, TYPE=fstype)
    assert read(disks.context(root), f"uuid={OTHER}").problem == (
        f"UUID={OTHER} is {what}, not a file system; name the file system that is in it"
    )


@pytest.mark.parametrize("fstype", ["zfs_member", "bcachefs", "ntfs"])
def test_file_systems_that_are_none_for_dumps_by_name(root: Path, fstype: str) -> None:
    disks = plain()
    disks.disk("vdb", UUID=OTHER, TYPE=fstype)
    problem = read(disks.context(root), f"uuid={OTHER}").problem or ""
    assert problem.startswith(f"dumps can't be saved to {fstype} on UUID={OTHER}")
    assert "name another one" in problem


def test_nothing_says_what_is_on_it(root: Path) -> None:
    disks = plain()
    disks.disk("vdb", UUID=OTHER)
    context = disks.context(root)
    name = f"uuid={OTHER}"
    assert read(context, name).problem == (
        f"nothing says which file system is on UUID={OTHER}; add fstype = to [target {name}]"
    )
    assert read(context, name, fstype="f2fs").fstype == "f2fs"


@pytest.mark.parametrize(
    ("subvolume", "options"), [("", "subvol=/"), (":@crash", "subvol=/@crash"), (":/a/b", "subvol=/a/b")]
)
def test_btrfs_by_uuid(root: Path, subvolume: str, options: str) -> None:
    """Not its default subvolume, which may be anything."""
    found = read(btrfs("vda", "vdb").context(root), f"uuid={UUID}{subvolume}", "/d")
    assert (found.device, found.options, found.path, found.devices) == (f"UUID={UUID}", options, "/d", 2)
    assert (found.problem, found.mounted) == (None, "")


def test_deleted_subvolume(root: Path) -> None:
    disks = mount(btrfs(), "/top", "/", "/")
    context = disks.context(root, {"/top/@here": None})
    assert read(context, f"uuid={UUID}:@here", "/d").mounted == "/top/@here/d"
    assert read(context, f"uuid={UUID}:@gone", "/d").problem == (
        f"there is no subvolume @gone on UUID={UUID}; make it, or correct [target uuid={UUID}:@gone]"
    )


def test_subvolume_that_can_not_be_looked_for(root: Path) -> None:
    disks = mount(btrfs(), "/", "/@", "/@")
    assert read(disks.context(root), f"uuid={UUID}:@crash").problem is None


def test_subvolume_of_what_has_none(root: Path) -> None:
    assert read(named().context(root), f"uuid={OTHER}:@x").problem == (
        f"UUID={OTHER} is xfs, which has no subvolumes; leave out :@x"
    )


def test_file_where_the_directory_should_be(root: Path) -> None:
    disks = named().mount("vdb1", "/mnt", "xfs")
    found = read(disks.context(root, {"/mnt/d": "file"}), f"uuid={OTHER}", "/d")
    assert found.problem == f"/mnt/d is a file; set another path = for [target uuid={OTHER}]"


@pytest.mark.parametrize("name", ["", "x", "uuid", "uuid=", "uuid=a b", "uuid=';x", "device=/dev/sda", "label=a\nb"])
def test_names_that_are_none(root: Path, name: str) -> None:
    wish = TargetWish(name)
    (found,) = storage.read_targets(plain().context(root), Config(targets=(wish,)))
    assert found.problem is not None
    assert "a plain name" in found.problem


def test_another_root_is_trusted(root: Path) -> None:
    make_tree(root, {"/etc/fstab": f"UUID={UUID} / ext4\nLABEL=d /srv btrfs subvol=@\nLABEL=s none swap\n"})
    context = Context(root=root, runner=FakeRunner())
    found = read(context, f"uuid={OTHER}", "/d", fstype="xfs", layers=(Layer("lvm", "a/b"),))
    assert (found.device, found.fstype, found.path, found.drivers) == (f"UUID={OTHER}", "xfs", "/d", None)
    assert (found.problem, found.layers) == (None, (Layer("lvm", "a/b"),))
    assert read(context, f"uuid={UUID}").fstype == "ext4"
    assert read(context, "label=d").options == "subvol=/"
    assert read(context, f"uuid={OTHER}").problem == (
        f"UUID={OTHER} can't be looked at from here; add fstype = to [target uuid={OTHER}]"
    )
    assert "no tool for zfs" in (read(context, f"uuid={OTHER}", fstype="zfs").problem or "")


def test_a_chroot_is_trusted_where_it_is_said_to_be_one(root: Path) -> None:
    context = plain().context(root)
    config = Config(targets=(TargetWish(f"uuid={OTHER}", fstype="xfs"), TargetWish("label=x")))
    found = storage.read_targets(context, config, trust=True)
    assert (found[0].device, found[0].drivers, found[0].problem) == (f"UUID={OTHER}", None, None)
    assert found[1].problem == "LABEL=x can't be looked at from here; add fstype = to [target label=x]"


def test_layers_in_another_root(root: Path) -> None:
    context = Context(root=root, runner=FakeRunner())
    found = read(context, f"uuid={OTHER}", fstype="ext4", layers=(Layer("crypt", VOLUME),))
    assert found.problem is None
    assert (found.crypt[0].uuid, found.crypt[0].version, found.crypt[0].key) == (VOLUME, None, "none")


# --- the ESP ---------------------------------------------------------------------------------------------------------


def esp(**record: str) -> Disks:
    disks = plain()
    disks.part("vda", 2, **({"UUID": "AB12-CD34", "TYPE": "vfat", "PARTTYPE": ESP_TYPE, "PARTUUID": "p-2"} | record))
    return disks


@pytest.mark.parametrize("place", ["/efi", "/boot", "/boot/efi"])
def test_esp_where_it_is_mounted(root: Path, place: str) -> None:
    found = storage.read_esp(esp().mount("vda2", place, "vfat").context(root))
    assert found is not None
    assert (found.name, found.device, found.fstype, found.path) == ("esp", "UUID=AB12-CD34", "vfat", "/var/crash")
    assert (found.mounted, found.source, found.drivers) == (f"{place}/var/crash", f"mounted on {place}", VIRTIO)


def test_esp_that_is_not_mounted(root: Path) -> None:
    found = read(esp().context(root), "esp", "/dumps")
    assert (found.device, found.path, found.mounted) == ("UUID=AB12-CD34", "/dumps", "")
    assert found.source == "EFI system partition"


def test_the_real_esp_beside_an_extended_boot_partition(root: Path) -> None:
    disks = esp()
    disks.part("vda", 3, UUID="1111-2222", TYPE="vfat", PARTTYPE="bc13c2ff-59e6-4262-a352-b275fd6f7172")
    disks.mount("vda3", "/boot", "vfat")
    found = storage.read_esp(disks.mount("vda2", "/boot/efi", "vfat").context(root))
    assert found is not None
    assert found.device == "UUID=AB12-CD34"


def test_esp_without_a_uuid(root: Path) -> None:
    disks = esp(UUID="").mount("vda2", "/efi", "vfat")
    found = read(disks.context(root), "esp")
    assert found.device == "PARTUUID=p-2"


def test_esp_without_any_name(root: Path) -> None:
    disks = esp(UUID="", PARTUUID="").mount("vda2", "/efi", "vfat")
    found = storage.read_esp(disks.context(root))
    assert found is not None
    assert found.problem == "the EFI system partition (mounted on /efi) has no UUID that can be found"


def test_no_esp(root: Path) -> None:
    context = plain().mount("vda1", "/boot").context(root)
    assert storage.read_esp(context) is None
    assert read(context, "esp").problem == (
        "no EFI system partition is seen on this machine; remove [target esp], or mount it on /efi or /boot"
    )


def test_esp_of_another_root(root: Path) -> None:
    context = Context(root=root, runner=FakeRunner())
    assert storage.read_esp(context) is None
    make_tree(root, {"/etc/fstab": "UUID=1 / ext4\nUUID=AB12-CD34 /boot vfat rw\n"})
    found = storage.read_esp(context)
    assert found is not None
    assert (found.device, found.fstype, found.path) == ("UUID=AB12-CD34", "vfat", "/var/crash")
    (root / "etc/fstab").write_text("/dev/sda1 /boot vfat rw\n")
    found = storage.read_esp(context)
    assert found is not None
    assert found.problem == "/etc/fstab:1: /dev/sda1 may be another disk after a crash; name it by UUID="


# --- anything --------------------------------------------------------------------------------------------------------

WORDS: Sequence[bytes] = (
    b"21", b"1", b"0:5", b"254:0", b"/", b"/var", b"rw", b"-", b"btrfs", b"ext4", b"autofs", b"overlay", b"/dev/vda",
    b"rw,subvol=/@", b"UUID=1", b"LABEL=\\134", b"none", b"bind", b"auto", b"\\012", b"\n", b"#", b"\xff", b"//deleted",
)  # fmt: skip
NOISE = st.binary(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=60).map(b" ".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NOISE, NOISE, NOISE, st.booleans())
def test_property_noise_never_surprises(root: Path, fstab: bytes, mounts: bytes, udev: bytes, live: bool) -> None:
    make_tree(root, {"/etc/fstab": fstab, "/proc/self/mountinfo": mounts, "/run/udev/data/b254:0": b"E:" + udev})
    context = (LiveContext if live else Context)(root=root, runner=FakeRunner())
    wishes = [TargetWish(name) for name in ("root", "esp", "uuid=1", "uuid=1:@x", "label=x", "\0")]
    found = storage.read_targets(context, Config(targets=(*wishes, replace(wishes[0], path="/\0"))))
    for target in found:
        assert (target.device == "") == (target.problem is not None)
        assert "\n" not in (target.problem or "")
    storage.read_esp(context)
