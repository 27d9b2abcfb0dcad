"""What boot-loader modules are told: names of the root, places of files, presets, programs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts import boot, efi, places, presets, root_names, surroundings
from kdump_pkg.facts.lookup import read_machine
from kdump_pkg.facts.udev import ESP_TYPE, XBOOTLDR_TYPE
from kdump_pkg.loaders import Look, Reader, all
from kdump_pkg.loaders import places as writable
from kdump_pkg.model.bootloader import Firmware, Loader, Place, Preset, Surroundings
from tests.disks import Disks
from tests.fakes import UUID, Entry, FakeRunner, Link, LiveContext, make_tree
from tests.unit.test_facts_generator import HostBash

PART = "11112222-3333-4444-5555-666677778888"
MACHINE = "0123456789abcdef0123456789abcdef"
ESP = {"PARTTYPE": ESP_TYPE, "TYPE": "vfat", "UUID": "AAAA-BBBB"}
EFI: dict[str, Entry] = {"EFI/BOOT/BOOTX64.EFI": b"MZ"}


def alive(root: Path, monkeypatch: pytest.MonkeyPatch, cmdline: str = f"root=UUID={UUID} rw quiet") -> None:
    """The marks by which a running system is told from a chroot."""
    proc: dict[str, Entry] = {"/proc/1/root": Link("/"), "/proc/self/ns/pid": "", "/proc/cmdline": f"{cmdline}\n"}
    make_tree(root, proc)
    monkeypatch.setattr(boot, "INITIAL_PID_NAMESPACE", (root / "proc/self/ns/pid").stat().st_ino)


# --- the whole ----------------------------------------------------------------------------------------------------


def usual() -> Disks:
    """An ESP on /boot, the root behind it."""
    disks = Disks()
    disks.disk()
    disks.part("vda", 1, **ESP)
    disks.part("vda", 2, UUID=UUID, TYPE="ext4", PARTUUID=PART)
    return disks.mount("vda2", "/").mount("vda1", "/boot", "vfat")


MORE: dict[str, Entry] = {
    "/etc/machine-id": f"{MACHINE}\n",
    f"/sys/firmware/efi/efivars/LoaderInfo-{efi.LOADER}": b"\6\0\0\0" + "GRUB 2.12\0".encode("utf-16-le"),
    "/usr/bin/mkinitcpio": "",
    "/usr/local/bin/limine-update": "",
    "/usr/bin/vi": "",
    "/usr/bin/bootctl": None,
}


def test_the_running_system(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = usual().context(root, MORE)
    alive(root, monkeypatch)
    found = surroundings.read_surroundings(ctx)
    assert found == Surroundings(
        live=True,
        cmdline=f"root=UUID={UUID} rw quiet",
        roots=frozenset({f"UUID={UUID}", f"PARTUUID={PART}", "/dev/vda2"}),
        machine_id=MACHINE,
        places=(Place("/boot", "esp", "/dev/vda1"),),
        firmware=Firmware(efi=True, loader_info="GRUB 2.12"),
        programs=frozenset({"mkinitcpio", "limine-update"}),
    )
    assert isinstance(ctx.runner, FakeRunner)
    assert ctx.runner.calls == []


def test_a_chroot_shows_the_hosts_kernel_and_firmware(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctx = usual().context(root, MORE)
    alive(root, monkeypatch, "root=LABEL=install archisobasedir=arch")
    (root / "proc/1/root").unlink()
    make_tree(root, {"/elsewhere": None, "/proc/1/root": Link("/elsewhere")})
    found = surroundings.read_surroundings(ctx)
    assert (found.live, found.cmdline, found.firmware) == (False, None, Firmware())
    assert found.roots == {f"UUID={UUID}", f"PARTUUID={PART}", "/dev/vda2"}
    assert found.places == (Place("/boot", "esp", "/dev/vda1"),)


def test_another_root(ctx: Context) -> None:
    tree: dict[str, Entry] = {"/etc/fstab": f"UUID={UUID} / ext4\n", "/proc/cmdline": "root=/dev/sda1", "/boot": None}
    make_tree(ctx.root, MORE | tree)
    found = surroundings.read_surroundings(ctx)
    assert (found.live, found.cmdline, found.firmware) == (False, None, Firmware())
    assert (set(found.roots), found.machine_id, found.places) == ({f"UUID={UUID}"}, MACHINE, (Place("/boot"),))


@pytest.mark.parametrize("text", ["", "uninitialized", MACHINE[:-1], f"{MACHINE}0", MACHINE.upper(), "../" * 10 + "ab"])
def test_no_machine_id(ctx: Context, text: str) -> None:
    make_tree(ctx.root, {"/etc/machine-id": text})
    assert surroundings.read_surroundings(ctx).machine_id == ""


def test_nothing_at_all(ctx: Context) -> None:
    assert surroundings.read_surroundings(ctx) == Surroundings()


# --- names of the root --------------------------------------------------------------------------------------------


def names(ctx: Context, cmdline: str | None = "") -> frozenset[str]:
    return root_names.read_names(read_machine(ctx), cmdline)


def test_all_names_of_a_partition(root: Path) -> None:
    disks = Disks()
    disks.disk()
    disks.part("vda", 2, UUID=UUID, TYPE="ext4", PARTUUID=PART, PARTLABEL="Arch\\x20root", LABEL="r\\x2fx")
    disks.tree["/run/udev/data/b254:1"] = f"S:disk/by-path/pci-1-part2\nS:disk/by-uuid/{UUID}\n" + str(
        disks.tree["/run/udev/data/b254:1"]
    )
    assert names(disks.mount("vda2", "/").context(root), "root=/dev/root2 rw") == {
        "/dev/root2", "/dev/vda2", f"UUID={UUID}", f"PARTUUID={PART}", "PARTLABEL=Arch root", "LABEL=r/x",
        "/dev/disk/by-path/pci-1-part2", f"/dev/disk/by-uuid/{UUID}",
    }  # fmt: skip


def mapped() -> Disks:
    disks = Disks()
    disks.part(disks.disk(), 1, UUID=PART, TYPE="crypto_LUKS")
    return disks


def test_encrypted(root: Path) -> None:
    disks = mapped()
    disks.luks("dm-0", "vda1", PART, "root", UUID=UUID, TYPE="ext4")
    found = names(disks.mount("dm-0", "/").context(root))
    assert found == {f"UUID={UUID}", "/dev/dm-0", "/dev/mapper/root"}


@pytest.mark.parametrize(
    ("name", "volume"),
    [("arch-root", "/dev/arch/root"), ("my--vg-my--root", "/dev/my-vg/my-root"), ("plain", None), ("a-b-c", None)],
)
def test_logical_volume(root: Path, name: str, volume: str | None) -> None:
    disks = mapped()
    disks.mapped("dm-0", ["vda1"], name, f"LVM-{'x' * 64}", UUID=UUID, TYPE="ext4")
    found = names(disks.mount("dm-0", "/").context(root))
    assert found == {f"UUID={UUID}", "/dev/dm-0", f"/dev/mapper/{name}"} | ({volume} if volume else set())


def test_btrfs_of_two_devices_has_the_names_of_both(root: Path) -> None:
    disks = Disks()
    for name in ("vda", "vdb"):
        disks.disk(name, UUID=UUID, TYPE="btrfs")
    disks.btrfs(UUID, ("vda", "vdb"))
    disks.mount("vda", "/", "btrfs", root="/@", options="rw,subvol=/@", major="0:26")
    assert names(disks.context(root)) == {f"UUID={UUID}", "/dev/vda", "/dev/vdb"}


def test_bcachefs_of_two_devices(root: Path) -> None:
    disks = Disks()
    for name in ("vda", "vdb"):
        disks.disk(name, UUID=UUID, TYPE="bcachefs")
    line = "21 1 0:40 / / rw - bcachefs /dev/vda:/dev/vdb rw\n"
    assert names(disks.context(root, {"/proc/self/mountinfo": line})) == {f"UUID={UUID}", "/dev/vda", "/dev/vdb"}


def test_zfs(root: Path) -> None:
    ctx = Disks().mount("rpool/ROOT/arch", "/", "zfs", major="0:30").context(root)
    assert names(ctx, "zfs=rpool/ROOT/arch") == {"ZFS=rpool/ROOT/arch", "zfs:rpool/ROOT/arch", "rpool/ROOT/arch"}


@pytest.mark.parametrize("fstype", ["overlay", "nfs4", "tmpfs"])
def test_a_root_without_a_device_is_what_it_was_started_with(root: Path, fstype: str) -> None:
    ctx = Disks().mount("it", "/", fstype, major="0:30").context(root, {"/etc/fstab": f"UUID={UUID} / ext4\n"})
    assert names(ctx, "root=/dev/nfs rw") == {"/dev/nfs"}


def test_in_a_chroot_without_udev(root: Path) -> None:
    """`arch-chroot` gives it /dev, /sys and an empty /run."""
    disks = Disks()
    disks.disk()
    disks.part("vda", 2)
    disks.tree = {name: entry for name, entry in disks.tree.items() if not name.startswith("/run/")}
    disks.tree[f"/dev/disk/by-uuid/{UUID}"] = Link("../../vda2")
    disks.tree[f"/dev/disk/by-partuuid/{PART}"] = Link("../../vda2")
    disks.tree["/dev/disk/by-partuuid/another"] = Link("../../vda1")
    disks.tree["/dev/disk/by-label/loop"] = Link("loop")
    found = names(disks.mount("vda2", "/").context(root, {"/etc/fstab": f"UUID={UUID} / ext4\n"}), None)
    links = {f"/dev/disk/by-uuid/{UUID}", f"/dev/disk/by-partuuid/{PART}"}
    assert found == {"/dev/vda2", f"UUID={UUID}", f"PARTUUID={PART}"} | links


def test_a_container_has_the_names_of_its_fstab(root: Path) -> None:
    """Its root is a directory of the host's."""
    disks = usual()
    disks.mounts.clear()
    disks.mount("vda2", "/", root="/var/lib/machines/x")
    assert names(disks.context(root, {"/etc/fstab": "LABEL=x / ext4\n"}), None) == {"LABEL=x"}


@pytest.mark.parametrize(
    ("fstab", "expected"),
    [
        ("", set()),
        ("UUID=1 /home ext4\n", set()),
        ("UUID=1 / ext4\nUUID=2 / ext4\n", {"UUID=2"}),
        ("/dev/disk/by-uuid/1 / ext4\n", {"/dev/disk/by-uuid/1", "UUID=1"}),
        ("/dev/mapper/root / btrfs subvol=@\n", {"/dev/mapper/root"}),
        ('LABEL="my\\040root" / ext4\n', {"LABEL=my root"}),
        ("rpool/arch / zfs\n", {"ZFS=rpool/arch", "zfs:rpool/arch", "rpool/arch"}),
        ("server:/x / nfs\n", set()),
        ("overlay / overlay\n", set()),
        ("none / ext4\n", set()),
    ],
)
def test_names_by_fstab(ctx: Context, fstab: str, expected: set[str]) -> None:
    make_tree(ctx.root, {"/etc/fstab": fstab})
    assert names(ctx, None) == expected


def test_what_runs_is_known_better_than_what_is_written(root: Path) -> None:
    ctx = usual().context(root, {"/etc/fstab": "UUID=old / ext4\n"})
    assert "UUID=old" not in names(ctx, "root=/dev/vda2")


# --- places -------------------------------------------------------------------------------------------------------


NONE = Firmware()


def seen(ctx: Context, firmware: Firmware = NONE) -> tuple[Place, ...]:
    return places.read_places(read_machine(ctx), firmware)


def at(point: str, tree: dict[str, Entry]) -> dict[str, Entry]:
    return {f"{point}/{name}": entry for name, entry in tree.items()}


@pytest.mark.parametrize(
    ("record", "fstype", "tree", "device", "kind"),
    [
        pytest.param({"PARTTYPE": ESP_TYPE}, "vfat", {}, "", "esp", id="type of GPT"),
        pytest.param({"PARTTYPE": ESP_TYPE.upper()}, "vfat", {}, "", "esp", id="in capitals"),
        pytest.param({"PARTTYPE": "0xef"}, "vfat", {}, "", "esp", id="type of MBR"),
        pytest.param({"PARTTYPE": XBOOTLDR_TYPE}, "ext4", {}, "", "xbootldr", id="XBOOTLDR"),
        pytest.param({"PARTTYPE": XBOOTLDR_TYPE}, "vfat", EFI, "", "xbootldr", id="type before content"),
        pytest.param({"PARTTYPE": "0x83"}, "ext4", EFI, "", "directory", id="no FAT"),
        pytest.param({"PARTTYPE": "0x0c"}, "vfat", EFI, "", "esp", id="FAT with EFI/"),
        pytest.param({}, "vfat", {"efi/boot/x": ""}, "", "esp", id="FAT with efi/"),
        pytest.param({}, "vfat", {"vmlinuz-linux": ""}, "", "directory", id="FAT without"),
        pytest.param({"PARTUUID": PART.upper()}, "vfat", {}, PART, "esp", id="the loader was started from it"),
        pytest.param({"PARTUUID": PART}, "vfat", {}, "another", "directory", id="from another one"),
    ],
)
def test_kinds(
    root: Path, record: dict[str, str], fstype: str, tree: dict[str, Entry], device: str, kind: places.Kind
) -> None:
    disks = Disks()
    disks.disk()
    disks.part("vda", 1, **record)
    ctx = disks.mount("vda1", "/boot", fstype).context(root, at("/boot", tree))
    assert seen(ctx, Firmware(device=device)) == (Place("/boot", kind, "/dev/vda1"),)


def test_order_and_plain_directories(root: Path) -> None:
    disks = usual()
    disks.mounts.clear()
    disks.mount("vda2", "/").mount("vda1", "/efi", "vfat")
    assert seen(disks.context(root, {"/boot/grub/grub.cfg": "", "/esp": None})) == (
        Place("/boot"), Place("/efi", "esp", "/dev/vda1"), Place("/esp"),
    )  # fmt: skip


@pytest.mark.parametrize("super_block", ["ro", "rw,errors=remount-ro"])
@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_read_only(root: Path, super_block: str, mode: str) -> None:
    """Of the mount, or of the file system under it, which the kernel turns so when it finds damage."""
    line = f"22 21 254:1 / /boot {mode},relatime - vfat /dev/vda1 {super_block}\n"
    ctx = usual().context(root, {"/proc/self/mountinfo": f"21 1 254:2 / / ro - ext4 /dev/vda2 rw\n{line}"})
    assert seen(ctx) == (Place("/boot", "esp", "/dev/vda1", readonly="ro" in (mode, super_block)),)


def test_what_only_root_may_look_into(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ESP with dmask=0077; before 3.14, pathlib raises for what is inside of such a directory."""
    make_tree(root, {"/boot": None})
    real = Path.is_dir

    def is_dir(path: Path) -> bool:
        if root / "boot" in path.parents:
            raise PermissionError
        return real(path)

    monkeypatch.setattr(Path, "is_dir", is_dir)
    monkeypatch.setattr(os, "access", lambda path, mode: path != root / "boot")
    found = seen(ctx)
    assert found == (Place("/boot", readable=False),)
    said = "only root may look into /boot; run it with sudo"
    around = Surroundings(places=found)
    assert (writable.unmounted(around), writable.problem(around, ["/boot/loader/entries"])) == (said, said)


def test_directory_of_a_read_only_root(root: Path) -> None:
    disks = usual()
    disks.mounts.clear()
    assert seen(disks.mount("vda2", "/", options="ro").context(root, {"/boot": None})) == (
        Place("/boot", readonly=True),
    )


@pytest.mark.parametrize(
    ("fstab", "place"),
    [
        ("UUID=AAAA-BBBB /boot vfat\n", Place("/boot", "esp", "UUID=AAAA-BBBB", mounted=False)),
        ("UUID=AAAA-BBBB /boot vfat noauto\n", Place("/boot", "esp", "UUID=AAAA-BBBB", mounted=False)),
        ("UUID=CCCC /boot ext4\n", Place("/boot", "xbootldr", "UUID=CCCC", mounted=False)),
        ("UUID=gone /boot ext4\n", Place("/boot", "directory", "UUID=gone", mounted=False)),
        ("UUID=gone /boot vfat\n", Place("/boot", "esp", "UUID=gone", mounted=False)),
        ("/efi/EFI/arch /boot none bind\n", Place("/boot", "directory", "/efi/EFI/arch", mounted=False)),
    ],
)
def test_not_mounted(root: Path, fstab: str, place: Place) -> None:
    disks = usual()
    disks.mounts.clear()
    disks.part("vda", 3, UUID="CCCC", TYPE="ext4", PARTTYPE=XBOOTLDR_TYPE)
    ctx = disks.mount("vda2", "/").context(root, {"/etc/fstab": fstab, "/boot/vmlinuz-linux": ""})
    assert seen(ctx) == (place,)


class Automount(LiveContext):
    """Mounts what is to be there as soon as somebody looks into it."""

    def names(self, directory: str) -> list[str]:
        if directory == "/efi" and (self.root / "late").exists():
            info = self.root / "proc/self/mountinfo"
            info.write_text(info.read_text() + (self.root / "late").read_text())
            (self.root / "late").unlink()
        return super().names(directory)


AUTOFS = "21 1 254:2 / / rw - ext4 /dev/vda2 rw\n30 21 0:40 / /efi rw - autofs systemd-1 rw,fd=1\n"


@pytest.mark.parametrize("fstab", ["", "UUID=AAAA-BBBB /efi vfat x-systemd.automount\n"], ids=["by GPT", "fstab"])
@pytest.mark.parametrize("comes", [True, False])
def test_automount(root: Path, comes: bool, fstab: str) -> None:
    tree: dict[str, Entry] = {"/proc/self/mountinfo": AUTOFS, "/etc/fstab": fstab, "/efi": None}
    if comes:
        tree["/late"] = "31 30 254:1 / /efi rw - vfat /dev/vda1 rw\n"
    disks = usual()
    del disks.tree["/boot"]
    disks.context(root, tree)
    device = "/dev/vda1" if comes else "UUID=AAAA-BBBB" if fstab else ""
    assert seen(Automount(root=root, runner=FakeRunner())) == (Place("/efi", "esp", device, mounted=comes),)


def test_one_file_system_in_two_places_is_one(root: Path) -> None:
    ctx = usual().mount("vda1", "/efi", "vfat").context(root, at("/boot", EFI) | at("/efi", EFI))
    assert [place.path for place in seen(ctx)] == ["/boot"]


def test_a_directory_of_the_esp_is_none(root: Path) -> None:
    """/efi/EFI/arch bound to /boot, so that mkinitcpio writes where the firmware reads."""
    disks = usual()
    disks.mounts.clear()
    disks.mount("vda2", "/").mount("vda1", "/efi", "vfat").mount("vda1", "/boot", "vfat", root="/EFI/arch")
    found = seen(disks.context(root))
    assert found == (Place("/boot", "directory", "/dev/vda1"), Place("/efi", "esp", "/dev/vda1"))


def test_a_link_is_where_it_leads(root: Path) -> None:
    disks = usual()
    disks.mounts.clear()
    disks.tree["/boot/efi"] = Link("/efi")
    disks.tree["/esp"] = Link("esp")
    disks.mount("vda2", "/").mount("vda1", "/efi", "vfat")
    assert [place.path for place in seen(disks.context(root))] == ["/boot", "/efi"]


@pytest.mark.parametrize(
    ("point", "fstab", "tree", "expected"),
    [
        ("/boot/EFI", "", EFI, True),
        ("/system/esp", "", {"loader/loader.conf": ""}, True),
        ("/system/esp", "", {"limine.conf": ""}, True),
        ("/home/u/stick", "", {"photo": ""}, False),
        ("/run/media/u/stick", "", EFI, False),
        ("/mnt", "", EFI, False),
        ("/mnt/esp", "UUID=AAAA-BBBB /mnt/esp vfat\n", EFI, True),
    ],
)
def test_unusual_places(root: Path, point: str, fstab: str, tree: dict[str, Entry], expected: bool) -> None:
    disks = Disks()
    disks.disk()
    disks.part("vda", 1, TYPE="vfat", UUID="AAAA-BBBB")
    ctx = disks.mount("vda1", point, "vfat").context(root, at(point, tree) | {"/etc/fstab": fstab})
    assert (point in [place.path for place in seen(ctx)]) is expected


def test_an_unusual_place_that_is_not_mounted_counts_by_its_partition(root: Path) -> None:
    disks = usual()
    disks.part("vda", 3, UUID="CCCC-DDDD", TYPE="vfat")
    fstab = "UUID=AAAA-BBBB /system/esp vfat\nUUID=CCCC-DDDD /camera vfat\n"
    disks.mounts.clear()
    del disks.tree["/boot"]
    ctx = disks.mount("vda2", "/").context(root, {"/etc/fstab": fstab})
    assert seen(ctx) == (Place("/system/esp", "esp", "UUID=AAAA-BBBB", mounted=False),)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"/boot/EFI/BOOT/x": "", "/boot/vmlinuz": ""}, (Place("/boot", "esp"),)),
        ({"/boot/vmlinuz": ""}, (Place("/boot"),)),
        ({"/boot": ""}, ()),
        (
            {"/etc/fstab": "UUID=1 /boot vfat\n", "/boot/EFI/x": ""},
            (Place("/boot", "esp", "UUID=1"),),
        ),
        ({"/etc/fstab": "UUID=1 /boot vfat\n", "/boot": None}, (Place("/boot", "esp", "UUID=1", mounted=False),)),
        ({"/etc/fstab": "UUID=1 /boot vfat\n"}, (Place("/boot", "esp", "UUID=1", mounted=False),)),
        ({"/etc/fstab": "UUID=1 /boot ext4\n", "/boot": None}, (Place("/boot", device="UUID=1", mounted=False),)),
        ({"/etc/fstab": "UUID=1 /boot vfat\n", "/boot/vmlinuz": ""}, (Place("/boot", device="UUID=1"),)),
        (
            {"/etc/fstab": "UUID=1 /boot/EFI vfat\n", "/boot/EFI/EFI/x": ""},
            (Place("/boot"), Place("/boot/EFI", "esp", "UUID=1")),
        ),
    ],
)
def test_places_of_another_root(ctx: Context, tree: dict[str, Entry], expected: tuple[Place, ...]) -> None:
    make_tree(ctx.root, tree)
    assert seen(ctx) == expected


# --- presets ------------------------------------------------------------------------------------------------------

bash = pytest.mark.spawns
HOME = "/etc/mkinitcpio.d"


class Bash(HostBash):
    """The paths of the root in place of those of this machine."""


def evaluated(root: Path, tree: dict[str, str | bytes], *, timeout: float = 5) -> list[Preset]:
    make_tree(root, {f"{HOME}/{name}": text for name, text in tree.items()})
    found = presets.read_presets(Context(root=root, runner=Bash(timeout)))
    return [replace(one, file=one.file.removeprefix(f"{root}{HOME}/")) for one in found]


STOCK = """\
# mkinitcpio preset file for the 'linux' package
ALL_kver="/boot/vmlinuz-linux"
PRESETS=('default')
default_image="/boot/initramfs-linux.img"
#default_uki="/efi/EFI/Linux/arch-linux.efi"
  # default_options="-U /x"
"""
UKI = """\
ALL_cmdline=/etc/kernel/lts
PRESETS=(default fallback)
default_uki="/efi/EFI/Linux/${0##*/}arch-linux.efi"
default_cmdline="/etc/kernel/cmd line"
fallback_image=/boot/fallback.img
fallback_uki="/efi/EFI/Linux/arch-fallback.efi"
fallback_options="-S autodetect"
"""


def test_no_bash_for_stock_presets(ctx: Context) -> None:
    make_tree(ctx.root, {f"{HOME}/linux.preset": STOCK, f"{HOME}/kdump.preset": UKI, f"{HOME}/x.pacsave": UKI})
    assert presets.read_presets(ctx) == ()
    assert isinstance(ctx.runner, FakeRunner)
    assert ctx.runner.calls == []


@bash
def test_presets(root: Path) -> None:
    found = evaluated(root, {"a.preset": UKI, "b.preset": STOCK, "kdump.preset": UKI, "c.preset.pacsave": UKI})
    assert found == [
        Preset("a.preset", "default", "/efi/EFI/Linux/kdump-pkgarch-linux.efi", "", "/etc/kernel/cmd line"),
        Preset("a.preset", "fallback", "/efi/EFI/Linux/arch-fallback.efi", "/boot/fallback.img", "/etc/kernel/lts"),
        Preset("b.preset", "default", "", "/boot/initramfs-linux.img", ""),
    ]


@bash
@pytest.mark.parametrize(
    ("options", "uki", "cmdline"),
    [
        ("'--splash /x.bmp'", "/a.efi", "/all"),
        ("'--cmdline /etc/kernel/fallback'", "/a.efi", "/etc/kernel/fallback"),
        ("'-S x --cmdline=/etc/kernel/fallback'", "/a.efi", "/etc/kernel/fallback"),
        ("(-S x --cmdline /etc/f)", "/a.efi", "/etc/f"),
        ("'--no-cmdline'", "", "/all"),
        ("'-U /b.efi'", "/b.efi", "/all"),
        ("--uki=/b.efi", "/b.efi", "/all"),
        ("'--cmdline'", "/a.efi", ""),
    ],
)
def test_options_of_a_preset_count_more(root: Path, options: str, uki: str, cmdline: str) -> None:
    text = f"ALL_cmdline=/all\nPRESETS=(a)\na_uki=/a.efi\na_options={options}\n"
    assert evaluated(root, {"x.preset": text}) == [Preset("x.preset", "a", uki, "", cmdline)]


@bash
@pytest.mark.parametrize(
    ("text", "uki"),
    [
        ("a_efi_image=/old.efi", "/old.efi"),
        ("ALL_efi_image=/old.efi", "/old.efi"),
        ("ALL_uki=/all.efi", "/all.efi"),
        ("ALL_uki=/all.efi a_uki=/a.efi a_efi_image=/old.efi", "/a.efi"),
    ],
)
def test_every_name_of_a_unified_kernel_image(root: Path, text: str, uki: str) -> None:
    (found,) = evaluated(root, {"x.preset": f"PRESETS=(a)\n{text}\n"})
    assert found.uki == uki


@bash
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("PRESETS=(a\na_uki=/x", id="never closed"),
        pytest.param("PRESETS=(a)\na_uki=/x\nexit 0", id="exit"),
        pytest.param("PRESETS=(a)\na_uki=/x\nreturn 1", id="return"),
        pytest.param("PRESETS=('a b' '$(touch x)' 'x[$(touch y)]')\nALL_uki=/x", id="names that are none"),
        pytest.param("PRESETS=()\nALL_uki=/x", id="no images"),
        pytest.param(b"# uki\n_uki\xff\xfe\x00=(\n", id="noise"),
        pytest.param("kill -9 $BASHPID # uki\nx_uki=", id="killed"),
    ],
)
def test_what_bash_can_not_read_is_left_out_alone(root: Path, text: str | bytes) -> None:
    found = evaluated(root, {"a.preset": text, "b.preset": "PRESETS=(b)\nb_uki=/b.efi\n"})
    assert found == [Preset("b.preset", "b", "/b.efi")]


@bash
def test_what_a_preset_prints_is_no_answer(root: Path) -> None:
    noise = "printf '%s\\0' a b c d e f; echo uki\nset -eu\nIFS=x\ntrap 'echo bye' EXIT\nPRESETS=(b)\nb_uki=/bxb.efi\n"
    assert evaluated(root, {"x.preset": noise}) == [Preset("x.preset", "b", "/bxb.efi")]


@bash
def test_endless_presets_are_none(root: Path) -> None:
    pid = root / "pid"
    assert evaluated(root, {"x.preset": f"x_uki=/x\necho $BASHPID >{pid}\nwhile :; do :; done"}, timeout=0.5) == []
    deadline = time.monotonic() + 120
    while pid.exists() and Path(f"/proc/{pid.read_text().strip()}").exists():
        assert time.monotonic() < deadline, "it runs for ever"
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [CommandError("no bash"), b"", b"a\0b", b"a\0b\0c\0d\0e\0"])
def test_answers_that_are_none(root: Path, answer: CommandError | bytes) -> None:
    make_tree(root, {f"{HOME}/x.preset": UKI})
    assert presets.read_presets(Context(root=root, runner=FakeRunner({"/bin/bash": answer}))) == ()


# --- the loaders --------------------------------------------------------------------------------------------------


def reader(name: str, found: Loader | KdumpError | None) -> Reader:
    def read(look: Look, around: Surroundings) -> Loader | None:
        if isinstance(found, KdumpError):
            raise found
        return found

    read.__module__ = f"kdump_pkg.loaders.{name}"
    return read


def test_one_that_can_not_be_read_does_not_hide_the_others(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    grub = Loader("grub", "GRUB", "its file is here")
    many = (
        reader("limine", None),
        reader("systemd_boot", KdumpError("/efi/loader: too many links", hint="untie them")),
        reader("uki", KdumpError("/etc/kernel: no directory")),
        reader("grub", grub),
    )
    monkeypatch.setattr(all, "ALL", many)
    first, second, third = surroundings.read_loaders(ctx, Surroundings())
    assert (first.name, first.problem) == ("systemd-boot", "/efi/loader: too many links; untie them")
    assert (second.name, second.problem) == ("uki", "/etc/kernel: no directory; correct what it names")
    assert third == grub


def test_every_reader_has_the_name_of_a_loader() -> None:
    assert len({surroundings._name(one) for one in all.ALL}) == len(all.ALL)
