"""What a rehearsal decides before its machine starts: the controller, the command line, the archive, the faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import cpio
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.state import read_image
from kdump_pkg.model import Config, CryptVolume, Facts, ImageState, Layer, ModuleIndex
from kdump_pkg.plan import faults, machine
from kdump_pkg.plan import rehearsal as plan
from kdump_pkg.plan.capture import design_capture
from tests import fakes
from tests.fakes import RELEASE, make_tree
from tests.rehearsals import CONFIG, IMAGE, armed, designed, index


def names(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """What the kernel would unpack: name to mode and data, in its order."""
    found: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while archive[offset : offset + 6] == b"070701":
        mode, size, length = (int(archive[offset + at : offset + at + 8], 16) for at in (14, 54, 94))
        name = archive[offset + 110 : offset + 109 + length].decode()
        start = (offset + 110 + length + 3) & ~3
        found[name] = (mode, archive[start : start + size])
        offset = (start + size + 3) & ~3
    return found


def test_cpio_puts_directories_before_what_is_in_them() -> None:
    archive = cpio.archive(
        [cpio.File("/usr/bin/true", b"\x7fELF", 0o755), cpio.File("usr/x", b""), cpio.File("init", b"1")]
    )
    found = names(archive)
    assert list(found) == ["usr", "usr/bin", "usr/bin/true", "usr/x", "init", "TRAILER!!!"]
    assert found["usr/bin/true"] == (0o100755, b"\x7fELF")
    assert found["usr"] == (0o040755, b"")
    assert len(archive) % 512 == 0


def test_cpio_is_what_the_reader_of_fingerprints_reads(ctx: Context, root: Path) -> None:
    make_tree(root, {IMAGE: cpio.archive([cpio.File("kdump/fingerprint", b"ab" * 32 + b"\n")])})
    assert read_image(ctx, IMAGE).fingerprint == "ab" * 32


def test_cpio_holds_directories_with_modes_of_their_own() -> None:
    found = names(cpio.archive([cpio.File("a/b", b"", 0o040700), cpio.File("a/b/c", b"x", 0o600)]))
    assert (found["a"][0], found["a/b"][0], found["a/b/c"]) == (0o040755, 0o040700, (0o100600, b"x"))


# --- the design -----------------------------------------------------------------------------------------------------

EVERYTHING = ModuleIndex(
    "1", builtin=frozenset(driver for controller in machine.CONTROLLERS for driver in controller.drivers)
)


@pytest.mark.parametrize(
    ("modules", "builtin", "wanted"),
    [
        (("virtio_pci", "virtio_blk", "nvme", "ext4"), (), "virtio_blk"),
        (("virtio_pci?", "virtio-blk?", "ext4"), (), "virtio_blk"),
        (("nvme", "ext4"), (), "nvme"),
        (("ahci", "sd_mod"), (), "ahci"),
        (("ahci",), ("sd_mod",), "ahci"),
        (("virtio_pci", "virtio_scsi", "sd_mod"), (), "virtio_scsi"),
        (("ata_piix", "sd_mod"), (), "ata_piix"),
        (("xhci_pci", "usb_storage", "sd_mod"), (), "usb_storage"),
        (("xhci_pci?", "usb_storage?", "sd_mod?", "ext4"), ("ahci", "ata_piix", "nvme"), "usb_storage"),
        (("ext4",), ("virtio_pci", "virtio_blk"), "virtio_blk"),
        (("ahci", "sd_mod"), ("virtio_pci", "virtio_blk", "nvme"), "ahci"),
        (("nvme",), ("virtio_pci", "virtio_blk", "nvme"), "nvme"),
    ],
)
def test_the_controller_is_one_that_the_image_drives(
    modules: tuple[str, ...], builtin: tuple[str, ...], wanted: str
) -> None:
    there = ModuleIndex(RELEASE, {n.rstrip("?").replace("-", "_"): n for n in modules}, builtin=frozenset(builtin))
    assert machine.choose_controller(there, modules, EVERYTHING, 2).name == wanted


@pytest.mark.parametrize("modules", [(), ("mpt3sas", "sd_mod"), ("virtio_blk",), ("nvme?",), ("ahci", "sd_mod?")])
def test_no_controller_is_a_line_with_a_remedy(modules: tuple[str, ...]) -> None:
    there = ModuleIndex(RELEASE, {n: n for n in modules if not n.endswith("?")})
    with pytest.raises(KdumpError, match="no driver for any disk") as caught:
        machine.choose_controller(there, modules, EVERYTHING, 2)
    assert "drivers = common" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ("irqpoll", "irqpoll console=ttyS0"),
        ("console=ttyS0 irqpoll", "console=ttyS0 irqpoll"),
        ("console=tty0 console=ttyS0,115200 x", "console=tty0 console=ttyS0,115200 x"),
        ("console=ttyS0,115200 console=tty0", "console=ttyS0,115200 console=tty0 console=ttyS0"),
        ("console=ttyS01", "console=ttyS01 console=ttyS0"),
        ("netconsole=ttyS0", "netconsole=ttyS0 console=ttyS0"),
        ("", " console=ttyS0"),
    ],
)
def test_only_a_console_is_added_to_the_command_line(given_: str, wanted: str) -> None:
    assert plan.with_console(given_) == wanted


def test_the_design_is_what_would_be_loaded() -> None:
    facts = armed()
    found = plan.design(CONFIG, facts, plan.Wish(), index)
    capture = design_capture(CONFIG, facts)
    assert found.cmdline == plan.with_console(capture.cmdline)
    assert (found.kernel, found.capture.image, found.methods) == (capture.kernel.vmlinuz, IMAGE, ("-s", "-c"))
    assert (found.system_release, found.image_bytes) == (RELEASE, 4_100_000)


def test_under_lockdown_only_the_newer_call_is_tried() -> None:
    assert designed(boot=fakes.live_boot(lockdown="integrity")).methods == ("-s",)


def test_the_running_kernel_crashes_and_the_chosen_one_captures() -> None:
    kernels = (fakes.kernel("6.12.1-arch1-1"), fakes.kernel("6.12.1-arch1-1-kdump", None))
    found = designed(kernels=kernels, boot=fakes.live_boot(running="6.12.1-arch1-1"))
    assert (found.system_release, found.capture.kernel.release) == ("6.12.1-arch1-1", "6.12.1-arch1-1-kdump")


@pytest.mark.parametrize(
    ("facts", "wish", "words"),
    [
        (lambda: fakes.facts(), plan.Wish(), "is missing"),
        (lambda: dataclasses.replace(armed(), image=ImageState(IMAGE, True, "0" * 64, 1)), plan.Wish(), "is stale"),
        (lambda: armed(), plan.Wish(crashkernel="256M root=/dev/sda"), "not a size"),
        (lambda: armed(), plan.Wish(crashkernel=""), "not a size"),
        (lambda: armed(), plan.Wish(crashkernel="64M  64M,cma"), "not a size"),
        (lambda: armed(), plan.Wish(crashkernel="64M 64M,cma\tx"), "not a size"),
        (lambda: armed(), plan.Wish(memory_mib=64), "too little"),
        (lambda: armed(), plan.Wish(timeout_s=0), "not a time"),
        (lambda: fakes.facts(tools={}), plan.Wish(), "makedumpfile is not installed"),
    ],
)
def test_what_prevents_a_rehearsal_is_one_line(facts: Callable[[], Facts], wish: plan.Wish, words: str) -> None:
    with pytest.raises(KdumpError, match=words) as caught:
        plan.design(CONFIG, facts(), wish, index)
    assert "\n" not in caught.value.message


def test_the_controller_is_one_that_the_system_drives_too() -> None:
    there = ModuleIndex(RELEASE, {n: n for n in ("nvme", "ahci", "sd_mod")})
    system = ModuleIndex("1", {"ahci": "ahci.ko"}, builtin=frozenset({"sd_mod"}))
    assert machine.choose_controller(there, ("nvme", "ahci", "sd_mod"), system, 2).name == "ahci"


def test_the_controller_takes_all_disks() -> None:
    there = ModuleIndex(RELEASE, {n: n for n in ("ata_piix", "sd_mod")})
    assert machine.choose_controller(there, ("ata_piix", "sd_mod"), EVERYTHING, 4).name == "ata_piix"
    with pytest.raises(KdumpError, match="no driver"):
        machine.choose_controller(there, ("ata_piix", "sd_mod"), EVERYTHING, 5)


DISKS = (machine.Disk("/a,b/disk"), machine.Disk("/c", readonly=True), *(machine.Disk(f"/{n}") for n in range(6)))


@pytest.mark.parametrize(("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max,la57=off,cx16=off,erms=off")])
def test_the_machine(accelerator: machine.Accelerator, cpu: str) -> None:
    assert machine.CPUS[accelerator][0] == cpu
    host = machine.Host(accelerator, cpu, 2048, ("-device", "i6300esb"))
    argv = machine.command(machine.Files("/k", "/i", DISKS[:2]), machine.CONTROLLERS[0], host, "crash", "96M")
    line = " ".join(argv)
    assert argv[argv.index("-cpu") + 1] == cpu
    assert {"crashkernel=96M", "KDUMP_REHEARSAL=crash"} <= set(argv[argv.index("-append") + 1].split())
    assert "file=/a,,b/disk -device" in line and "-m 2048" in line and "-no-reboot" in argv
    assert "file=/c,readonly=on -device" in line
    assert argv[-2:] == ["-device", "i6300esb"]
    assert "virtio-blk-pci,drive=disk1" in argv


def test_a_reservation_of_several_words() -> None:
    """Each is a parameter of its own, in its order: a kernel that doesn't know `,cma` takes the last one."""
    wish = designed(plan.Wish(crashkernel="64M,cma 72M")).wish
    host = machine.Host("tcg", "max", 512)
    argv = machine.command(machine.Files("/k", "/i"), machine.CONTROLLERS[0], host, "crash", wish.crashkernel)
    words = argv[argv.index("-append") + 1].split()
    assert [word for word in words if "crashkernel" in word] == ["crashkernel=64M,cma", "crashkernel=72M"]


@pytest.mark.parametrize("controller", machine.CONTROLLERS, ids=lambda c: c.name)
def test_every_disk_has_its_own_place(controller: machine.Controller) -> None:
    host = machine.Host("tcg", "max", 512)
    argv = machine.command(machine.Files("/k", "/i", DISKS[: controller.most]), controller, host, "read")
    devices = [argv[n + 1] for n, word in enumerate(argv) if word == "-device"]
    places = [d.partition(",")[2].split(",", 1)[-1] if "bus=" in d else d for d in devices]
    assert len(set(places)) == len(devices)
    assert sum("drive=" in device for device in devices) == min(len(DISKS), controller.most)
    assert "crashkernel" not in " ".join(argv)


def test_the_modules_are_those_of_the_system_kernel() -> None:
    assert designed().modules == ("virtio_pci.ko", "virtio_blk.ko", "ext4.ko")
    with pytest.raises(KdumpError, match="has no module ext4, the rehearsal needs it"):
        designed(read=lambda release: dataclasses.replace(index(release), files={"virtio_pci": "a", "virtio_blk": "b"}))


def test_capture_by_the_system_is_refused() -> None:
    config = Config(capture="system")
    with pytest.raises(KdumpError, match="capture = system can't be rehearsed"):
        plan.design(config, armed(config), plan.Wish(), index)


LUKS = "aaaaaaaa-1111-2222-3333-444455556666"


def test_a_typed_passphrase_costs_what_it_costs_on_the_real_volume() -> None:
    volume = CryptVolume(LUKS, 2, argon2_kib=65536)
    targets = (fakes.target(layers=(Layer("crypt", LUKS),), crypt=(volume,)),)
    typed = designed(plan.Wish(type_passphrase=True), targets=targets).script
    assert f'make_crypt "$d1" {LUKS} 65536' in typed
    assert f'make_crypt "$d1" {LUKS} 0' in designed(targets=targets).script
    large = (fakes.target(layers=targets[0].layers, crypt=(dataclasses.replace(volume, argon2_kib=1 << 20),)),)
    with pytest.raises(KdumpError, match="takes 1024 MiB, too much") as caught:
        designed(plan.Wish(type_passphrase=True), targets=large)
    assert caught.value.hint == "--memory 4096"


@pytest.mark.parametrize(
    ("typed", "can", "key", "handed"),
    [
        (False, None, "none", True),
        (False, True, "keyfile", True),
        (False, True, "none", False),
        (False, False, "keyfile", False),
        (True, True, "keyfile", False),
    ],
)
def test_a_key_is_handed_over_where_the_real_one_would_be(
    typed: bool, can: bool | None, key: Any, handed: bool
) -> None:
    targets = (fakes.target(layers=(Layer("crypt", LUKS),), crypt=(CryptVolume(LUKS, 2, key=key),)),)
    wish = plan.Wish(type_passphrase=typed)
    script = designed(wish, targets=targets, boot=fakes.live_boot(crash_dm_crypt=can)).script
    assert (f"hand_over=' {LUKS} '\n" in script) is handed


# --- faults ---------------------------------------------------------------------------------------------------------


def test_faults_are_read() -> None:
    found = faults.parse(("missing:2", "ro:1", "full:3", "room:4:40M", "dumps:1:3"))
    assert found.missing == {2}
    assert found.readonly == {1}
    assert (found.room, found.dumps) == ({3: 2 << 20, 4: 40 << 20}, {1: 3})


@pytest.mark.parametrize("word", ["", "missing", "missing:x", "room:1", "dumps:1", "full:1:2", "hot:1", "room:1:4T"])
def test_what_is_no_fault(word: str) -> None:
    with pytest.raises(KdumpError, match="not a fault"):
        faults.parse((word,))


def test_files_and_old_dumps_are_put_on_the_disks() -> None:
    wish = plan.Wish(break_target=("dumps:1:40",), files=(("/x", b"1"), ("1:/var/crash/odd/", b"")))
    found = {file.name: file for file in designed(wish).files}
    assert (found["/files/1/x"].data, found["/files/1/var/crash/odd"].mode) == (b"1", 0o040700)
    metas = [name for name in found if name.endswith("/meta")]
    assert len(metas) == 40 and metas == sorted(metas)
    assert found[metas[0]].data.startswith(b"format=1\n") and b"result=complete\n" in found[metas[0]].data
    with pytest.raises(KdumpError, match="no target 2"):
        designed(plan.Wish(break_target=("dumps:2:1",)))
