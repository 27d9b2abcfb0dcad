"""The rehearsal without a machine: what it decides, what it reads from a console, how it ends a program."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import cpio, rehearsal, ui
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts.state import read_image
from kdump_pkg.model import Config, Facts, ImageState, ModuleIndex
from kdump_pkg.plan import console, machine
from kdump_pkg.plan import rehearsal as plan
from kdump_pkg.plan.capture import design_capture
from tests import fakes
from tests.fakes import RELEASE, UUID, FakeRunner, make_tree
from tests.tools import tool

CONFIG = Config()
IMAGE = "/boot/initramfs-linux-kdump.img"
DUMP = f"2026-11-23T08-31-30Z-{RELEASE}"
CRASH = "Kernel panic - not syncing: sysrq triggered crash"
FIRST = ["kdump-rehearsal: reserved 268435456", "kdump-rehearsal: loaded by -s", "sysrq: Trigger a crash", CRASH]
CAPTURE = ["[    0.000000] Linux version 6.12.1", "kdump-save: start direct pid=1 mem_available_kib=99"]
SAVED = ["kdump-save: least memory available: 4321 KiB", f"kdump-save: saved /var/crash/{DUMP} result=complete"]
GOOD = [*FIRST, *CAPTURE, *SAVED, "kdump-save: final reboot"]
META = (("min_available_kib", "4000"), ("result", "complete"))
FILES = (plan.DumpFile("dmesg.txt", 30_000), plan.DumpFile("meta", 300), plan.DumpFile("vmcore", 40_000_000))
COMPLETE = plan.Saved(DUMP, FILES, META, True, CRASH)


def armed(**changes: Any) -> Facts:
    """A machine whose capture image is there and current."""
    facts = fakes.facts(**changes)
    return dataclasses.replace(
        facts, image=ImageState(IMAGE, True, design_capture(CONFIG, facts).fingerprint, 4_100_000)
    )


def designed(wish: plan.Wish = plan.Wish(), **changes: Any) -> plan.Rehearsal:  # noqa: B008 - frozen
    return plan.design(CONFIG, armed(**changes), wish)


def said(*texts: str) -> console.Console:
    """A console with a line a second."""
    return console.read(console.lines((float(n), text.encode()) for n, text in enumerate(texts)))


# --- the archive ----------------------------------------------------------------------------------------------------


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


# --- the design -----------------------------------------------------------------------------------------------------


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
        (("ext4",), ("virtio_pci", "virtio_blk"), "virtio_blk"),
        (("ahci", "sd_mod"), ("virtio_pci", "virtio_blk", "nvme"), "ahci"),
        (("nvme",), ("virtio_pci", "virtio_blk", "nvme"), "nvme"),
    ],
)
def test_the_controller_is_one_that_the_image_drives(
    modules: tuple[str, ...], builtin: tuple[str, ...], wanted: str
) -> None:
    index = ModuleIndex(RELEASE, {n.rstrip("?").replace("-", "_"): n for n in modules}, builtin=frozenset(builtin))
    assert machine.choose_controller(index, modules).name == wanted


@pytest.mark.parametrize("modules", [(), ("mpt3sas", "sd_mod"), ("virtio_blk",), ("nvme?",), ("ahci", "sd_mod?")])
def test_no_controller_is_a_line_with_a_remedy(modules: tuple[str, ...]) -> None:
    index = ModuleIndex(RELEASE, {n: n for n in modules if not n.endswith("?")})
    with pytest.raises(KdumpError, match="no driver for any disk") as caught:
        machine.choose_controller(index, modules)
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
    found = plan.design(CONFIG, facts, plan.Wish())
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
        (lambda: armed(), plan.Wish(memory_mib=64), "too little"),
        (lambda: armed(), plan.Wish(timeout_s=0), "not a time"),
        (lambda: fakes.facts(tools={}), plan.Wish(), "makedumpfile is not installed"),
    ],
)
def test_what_prevents_a_rehearsal_is_one_line(facts: Callable[[], Facts], wish: plan.Wish, words: str) -> None:
    with pytest.raises(KdumpError, match=words) as caught:
        plan.design(CONFIG, facts(), wish)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (fakes.target(fstype="xfs"), "can't rehearse on xfs yet"),
        (fakes.target(fstype="btrfs", options="subvol=@"), "can't rehearse on btrfs yet"),
        (fakes.target(device="PARTUUID=1234"), "named PARTUUID=1234"),
    ],
)
def test_file_systems_that_have_no_double_yet(target: Any, words: str) -> None:
    with pytest.raises(KdumpError, match=words):
        machine.choose_file_system(target)


def test_the_scratch_disk_is_a_double_of_the_target() -> None:
    made = machine.make_command(fakes.target(), "/w/disk.img")
    assert made[0] == "mkfs.ext4"
    assert shlex.join(made).count(f"-U {UUID}") == 1
    assert made[-1] == "/w/disk.img"
    assert "-L spool" in shlex.join(machine.make_command(fakes.target(device="LABEL=spool"), "/d"))
    read = machine.read_command(fakes.target(), "/w/d i", "/w/in to")
    assert read[2:] == ['rdump "/var/crash" "/w/in to"', "/w/d i"]


@pytest.mark.parametrize(("accelerator", "cpu"), [("kvm", "host"), ("tcg", "max,la57=off,cx16=off")])
def test_the_machine(accelerator: machine.Accelerator, cpu: str) -> None:
    assert machine.CPUS[accelerator][0] == cpu
    files, controller = machine.Files("/k", "/i", "/a,b/disk"), machine.CONTROLLERS[0]
    argv = machine.crash_command(files, controller, accelerator, cpu, memory_mib=2048, crashkernel="96M")
    line = " ".join(argv)
    assert argv[argv.index("-cpu") + 1] == cpu
    assert "crashkernel=96M" in argv[argv.index("-append") + 1].split()
    assert "file=/a,,b/disk" in line and "-m 2048" in line and "-no-reboot" in argv
    assert "virtio-blk-pci,drive=target" in argv


@pytest.mark.spawns
@pytest.mark.parametrize("command", [("sh", "-n"), ("shellcheck", "--severity=warning", "-")])
def test_the_first_stage_is_sound_shell(command: tuple[str, ...], tmp_path: Path) -> None:
    script = tmp_path / "init"
    script.write_text(machine.FIRST_STAGE)
    done = tool(*command[:-1] if command[-1] == "-" else command, os.fspath(script))
    assert (done.returncode, done.stdout) == (0, "")


# --- the console ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"[    1.0] plain\r", "[    1.0] plain"),
        (b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS", "SeaBIOS"),
        (b"\x1b]0;evil title\x07text", "text"),
        (b"\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
        (b"\x1bP1$r0m\x1b\\x", "x"),
        (b"a\x00b\x07c\x08d\x9b31me", "a b c d�31me"),
        ("right\u202eleft \u200bhidden".encode(), "right left  hidden"),
        ("a\u009b31mb".encode(), "a 31mb"),
        (b"\xff\xfe", "��"),
        (b"\x1b", ""),
        (b"x" * 1000, "x" * 400 + " …"),
        ("Umlaut ä".encode(), "Umlaut ä"),
    ],
)
def test_a_console_line_can_be_shown(raw: bytes, wanted: str) -> None:
    assert console.clean(raw) == wanted


@given(st.binary(max_size=300))
def test_nothing_gets_through_to_a_terminal(raw: bytes) -> None:
    assert console.clean(raw).isprintable()


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([t.encode() for t in GOOD])), max_size=20))
def test_any_console_can_be_read(raw: list[bytes]) -> None:
    console.read(console.lines(enumerate(map(bytes, raw))))


@pytest.mark.parametrize(
    ("lines", "stage_"),
    [
        ([], "nothing"),
        (["Linux version 6.12.1"], "system"),
        (FIRST[:1], "first stage"),
        (FIRST[:2], "loaded"),
        (FIRST[:3], "panicked"),
        ([*FIRST, "[    0.000000] some line of the crash"], "panicked"),
        ([*FIRST, CAPTURE[0]], "capture"),
        ([*FIRST, *CAPTURE], "saving"),
        ([*FIRST, *CAPTURE, *SAVED], "saved"),
        (GOOD, "ended"),
    ],
)
def test_how_far_it_came(lines: list[str], stage_: str) -> None:
    assert said(*lines).stage == stage_


def test_a_good_console_gives_its_figures() -> None:
    found = said(*GOOD)
    assert (found.reserved, found.method, found.least_kib, found.result) == (268435456, "-s", 4321, "complete")
    assert found.crash == console.Line(3.0, CRASH)
    assert found.final == console.Line(8.0, "kdump-save: final reboot")
    assert found.trouble is None and found.refused is None


TROUBLE = [
    (
        "[ 1.9] Kernel panic - not syncing: System is deadlocked on memory",
        "the capture ran out of memory; reserve more",
    ),
    ("[ 1.9] Out of memory: Killed process 159 (makedumpfile)", "the capture ran out of memory; reserve more"),
    ("[ 1.9] sh invoked oom-killer: gfp_mask=0x1", "the capture ran out of memory; reserve more"),
    ("Initramfs unpacking failed: write error", "the image did not fit into the memory; reserve more"),
    ("Initramfs unpacking failed: junk", "the capture kernel could not unpack the image: junk"),
    ("BUG: unable to handle page fault for address: 0", "the capture kernel crashed: BUG: unable to handle page fault"),
    ("Kernel panic - not syncing: VFS: Unable", "the capture kernel panicked: VFS: Unable"),
    ("kdump-save: step target failed exit=1: UUID=x did not appear", "target failed exit=1: UUID=x did not appear"),
    ("kdump-save: not done after 600 s, rebooting", "kdump-save was not done after 600 s, rebooting"),
    ("kdump-init: /run can't be mounted", "the image's init said: /run can't be mounted"),
    ("[ 6.0] dracut: FATAL: No or empty root=", "the image gave up: FATAL: No or empty root="),
    ("You are in emergency mode. After logging in", "the image gave up: You are in emergency mode"),
]


@pytest.mark.parametrize(("line", "reason"), TROUBLE)
def test_the_reason_is_found_with_its_line(line: str, reason: str) -> None:
    noise = "kdump-init: /usr/lib/modules/x/xen-blkfront.ko can't be loaded"
    found = said(*FIRST, CAPTURE[0], noise, line)
    assert (found.trouble or "").startswith(reason)
    assert found.trouble_line == line


def test_the_cause_counts_not_what_followed() -> None:
    found = said(*FIRST, *CAPTURE, "kdump-save: step vmcore failed exit=137: killed", "Out of memory: Killed process 1")
    assert found.trouble_line == "Out of memory: Killed process 1"
    found = said(
        *FIRST, CAPTURE[0], "BUG: page fault", " try_to_free_pages+0xf2/0x220", "Kernel panic - not syncing: Attempted"
    )
    assert found.trouble_line == "try_to_free_pages+0xf2/0x220"


def test_a_panic_that_starts_nothing_is_told_from_a_capture_that_dies() -> None:
    found = said(*FIRST, f"---[ end {CRASH} ]---")
    assert found.stage == "panicked"
    assert found.trouble == "the panic did not start the capture kernel"


def test_what_came_before_the_crash_is_no_trouble_of_the_capture() -> None:
    assert said("Out of memory: Killed process 1", *GOOD).trouble is None


@pytest.mark.parametrize(
    ("line", "over"),
    [(b"kdump-save: final halt", True), (b"kdump-save: final shell\r", True), (b"kdump-save: final reboot", False)],
)
def test_some_ends_never_come(line: bytes, over: bool) -> None:
    assert console.ends(line) is over


# --- the verdict ----------------------------------------------------------------------------------------------------


def ran(*lines: str, seconds: float = 60.0, timed_out: bool = False) -> plan.Ran:
    return plan.Ran(said(*lines), seconds, timed_out, "tcg")


def test_a_capture() -> None:
    verdict = plan.judge(designed(), ran(*GOOD, seconds=12.34), COMPLETE)
    assert verdict.captured and verdict.reason is None and verdict.console_line is None
    assert (verdict.result, verdict.min_available_kib, verdict.makedumpfile_readable) == ("complete", 4000, True)
    assert (verdict.seconds_total, verdict.seconds_panic_to_reboot) == (12.3, 9.3)
    assert (verdict.reserved_bytes, verdict.load_method, verdict.controller) == (268435456, "-s", "virtio_blk")
    assert verdict.panic_line == CRASH
    assert ui.plain(verdict)["dump"][2] == {"name": "vmcore", "size": 40_000_000}


def test_a_final_action_that_never_ends_is_timed_to_its_announcement() -> None:
    halted = ran(*GOOD[:-1], "kdump-save: final halt", seconds=13.0, timed_out=True)
    verdict = plan.judge(designed(), halted, COMPLETE)
    assert verdict.captured
    assert verdict.seconds_panic_to_reboot == 5.0


def test_a_capture_that_hangs_in_the_end_says_so() -> None:
    verdict = plan.judge(designed(), ran(*GOOD, seconds=600, timed_out=True), COMPLETE)
    assert verdict.captured and verdict.seconds_panic_to_reboot is None
    assert "it did not reboot" in rehearsal.report(verdict)


def saved(**changes: Any) -> plan.Saved:
    return dataclasses.replace(COMPLETE, **changes)


@pytest.mark.parametrize(
    ("run", "found", "reason", "line"),
    [
        (ran(), plan.Saved(), "the machine ended too early: nothing came from the virtual machine", None),
        (
            ran("qemu: -m: no"), plan.Saved(),
            "the machine ended too early: the system kernel did not reach the first stage", "qemu: -m: no",
        ),
        (
            ran("kdump-rehearsal: reserved 0", "kdump-rehearsal: failed: nothing was reserved"), plan.Saved(),
            "crashkernel=256M reserved nothing in a machine of 1024 MiB", None,
        ),
        (
            ran(FIRST[0], "kdump-rehearsal: failed: the kernel took no capture kernel: kexec -s: no;"), plan.Saved(),
            "the kernel took no capture kernel: kexec -s: no;", None,
        ),
        (
            ran(FIRST[0], "kdump-rehearsal: failed: kexec -s: Cannot assign requested address;"), plan.Saved(),
            "crashkernel=256M has no place for the capture kernel; reserve more",
            "kexec -s: Cannot assign requested address;",
        ),
        (
            ran(*FIRST, timed_out=True), plan.Saved(),
            "not done after 600 s: the capture kernel did not start", CRASH,
        ),
        (
            ran(*FIRST, *CAPTURE, timed_out=True), plan.Saved(),
            "not done after 600 s: kdump-save did not come to its end", CAPTURE[1],
        ),
        (
            ran(*FIRST, CAPTURE[0], TROUBLE[0][0]), plan.Saved(),
            "the capture ran out of memory; reserve more", TROUBLE[0][0],
        ),
        (ran(*GOOD), plan.Saved(), "there is no dump on the disk", None),
        (ran(*GOOD), saved(meta=(("result", "dmesg"),)), "the dump is not complete: dmesg", None),
        (ran(*GOOD), saved(meta=()), "the dump is not complete: it has no meta", None),
        (ran(*GOOD), saved(files=FILES[:2]), "the dump has no vmcore", None),
        (ran(*GOOD), saved(files=(plan.DumpFile("vmcore", 0),)), "the dump has no vmcore", None),
        (ran(*GOOD), saved(readable=False), "makedumpfile can't read the vmcore", None),
        (ran(*GOOD), saved(panic_line=None), "the panic is not in the dump's log", None),
    ],
)  # fmt: skip
def test_what_is_no_capture(run: plan.Ran, found: plan.Saved, reason: str, line: str | None) -> None:
    verdict = plan.judge(designed(), run, found)
    assert (verdict.captured, verdict.reason, verdict.console_line) == (False, reason, line)


def test_without_makedumpfile_the_dump_counts_as_it_lies_there() -> None:
    verdict = plan.judge(designed(), ran(*GOOD), saved(readable=None))
    assert verdict.captured and verdict.makedumpfile_readable is None


def test_the_report_says_what_counts() -> None:
    good = rehearsal.report(plan.judge(designed(), ran(*GOOD, seconds=12.3), COMPLETE))
    assert good.startswith("captured: ")
    assert "vmcore (40.0 MB)" in good and "panic to reboot 9.3 s" in good and "console=ttyS0" in good
    bad = rehearsal.report(plan.judge(designed(), ran(*FIRST, CAPTURE[0], TROUBLE[0][0]), plan.Saved()))
    assert bad.startswith("not captured: the capture ran out of memory")
    assert TROUBLE[0][0] in bad


# --- what runs ------------------------------------------------------------------------------------------------------


def never(line: bytes) -> bool:
    return False


@pytest.mark.spawns
def test_watching_to_the_end() -> None:
    run = stage.watch(["sh", "-c", "echo one; echo two >&2; printf three"], timeout=20, ends=never)
    assert [line for _, line in run.lines] == [b"one", b"two", b"three"]
    assert not run.timed_out


@pytest.mark.spawns
def test_watching_no_longer_than_allowed() -> None:
    run = stage.watch(["sh", "-c", "echo $$; exec sleep 60"], timeout=0.5, ends=never)
    assert run.timed_out and run.seconds < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(run.lines[0][1]), 0)


@pytest.mark.spawns
def test_watching_ends_soon_after_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "GRACE", 0.2)
    script = "echo kdump-save: final halt; while :; do echo more; sleep 0.05; done"
    run = stage.watch(["sh", "-c", script], timeout=60, ends=console.ends)
    assert run.timed_out and run.seconds < 20


@pytest.mark.spawns
def test_a_flood_ends_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FLOOD", 1 << 20)
    run = stage.watch(["sh", "-c", "exec cat /dev/zero"], timeout=60, ends=never)
    assert run.timed_out
    assert max(len(line) for _, line in run.lines) <= stage.LONGEST


@pytest.mark.spawns
def test_a_machine_that_is_not_there() -> None:
    with pytest.raises(KdumpError, match="No such file"):
        stage.watch(["/nonexistent/qemu"], timeout=5, ends=never)


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """/dev/kvm is there; what the probe's machine says next, and None more after it."""
    (tmp_path / "kvm").touch()
    answers: list[str] = []

    def fake(argv: object, *, timeout: float, ends: object) -> stage.Run:
        return stage.Run(((1.0, answers.pop(0).encode()),), 1.0, False)

    monkeypatch.setattr(stage, "KVM", os.fspath(tmp_path / "kvm"))
    monkeypatch.setattr(stage, "watch", fake)
    return answers


@pytest.mark.parametrize(("line", "works"), [(f"[1.0] {machine.PROBED}", True), ("kvm: internal error", False)])
def test_kvm_is_believed_by_its_mark_and_tried_once_in_a_boot(
    ctx: Context, probes: list[str], line: str, works: bool
) -> None:
    probes.append(line)
    assert stage.kvm_works(ctx, ["qemu"], machine.PROBED) is works
    assert stage.kvm_works(ctx, ["qemu"], machine.PROBED) is works


@pytest.mark.parametrize("record", ["", "[]", '{"boot_id": "another", "works": true}', "\x00", '{"works": true}'])
def test_another_boot_or_a_broken_record_is_no_answer(ctx: Context, root: Path, probes: list[str], record: str) -> None:
    make_tree(root, {"/run/kdump-pkg/kvm.json": record})
    probes.append("dead")
    assert not stage.kvm_works(ctx, ["qemu"], machine.PROBED)


def test_without_kvm_nothing_is_tried(ctx: Context, probes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "KVM", "/nonexistent/kvm")
    assert not stage.kvm_works(ctx, ["qemu"], machine.PROBED)


def test_the_first_stage_has_all_that_its_programs_need() -> None:
    found = names(stage.first_stage(Context(), "#!/bin/sh\n", ("sh", "mount"), {"/cmdline": b"x\n"}))
    assert found["init"] == (0o100755, b"#!/bin/sh\n")
    assert found["cmdline"] == (0o100644, b"x\n")
    assert {"bin/sh", "bin/mount", "proc", "sys", "dev"} <= found.keys()
    assert any("/ld-linux" in name for name in found) and any(name.endswith("/libc.so.6") for name in found)


@pytest.mark.parametrize(
    ("tree", "error", "words"),
    [
        ({}, KdumpError, "kexec is not in"),
        ({"/usr/bin/kexec": "#!/bin/sh\n"}, BadImageError, "not an ELF file"),
        ({"/usr/sbin/kexec": b"\x7fELF damaged"}, BadImageError, "damaged ELF file"),
    ],
)
def test_a_first_stage_that_can_not_be_made(
    ctx: Context, root: Path, tree: dict[str, fakes.Entry], error: type[KdumpError], words: str
) -> None:
    make_tree(root, tree)
    with pytest.raises(error, match=words):
        stage.first_stage(ctx, "", ("kexec",), {})


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(KdumpError, match="not empty"):
        stage.check_keep(tmp_path)
    stage.check_keep(tmp_path / "new" / "one")
    assert (tmp_path / "new" / "one").is_dir()


# --- all together, but for the machine --------------------------------------------------------------------------------


def reading(call: fakes.Call) -> fakes.Answer:
    """debugfs copies a dump from the disk, and a link out of it."""
    home = Path(call.argv[2].split('"')[3]) / "crash" / DUMP
    make_tree(
        home, {"dmesg.txt": f"[1.0] {CRASH}\n", "meta": "format=1\nnonsense\nresult=complete\n", "vmcore": b"KDUMP"}
    )
    make_tree(home, {"save.log": "", "link": fakes.Link("/etc/passwd")})
    return 0


@pytest.fixture
def started(ctx: Context, root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A root that can be rehearsed, a virtual machine that says GOOD; what it was started with."""
    calls: list[list[str]] = []

    def run(argv: list[str], *, timeout: float, ends: object) -> stage.Run:
        calls.append(argv)
        return stage.Run(tuple((float(n), t.encode()) for n, t in enumerate(GOOD)), 10.0, False)

    def dumping(call: fakes.Call) -> fakes.Answer:
        (root / call.argv[3].lstrip("/")).write_text(CRASH)
        return 0

    monkeypatch.setattr(stage, "watch", run)
    monkeypatch.setattr(stage, "need", lambda program: None)
    monkeypatch.setattr(stage, "KVM", "/nonexistent/kvm")
    monkeypatch.setattr(stage, "first_stage", lambda *_: b"archive")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    runner.answers |= {"mkfs.ext4": 0, "debugfs": reading, "makedumpfile": dumping}
    make_tree(root, {**fakes.system_tree(), IMAGE: b"image", "/var/tmp": None})
    return calls


def test_a_whole_rehearsal(ctx: Context, root: Path, tmp_path: Path, started: list[list[str]]) -> None:
    verdict = rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish(keep=tmp_path / "kept"))
    assert verdict.captured, verdict
    assert verdict.kept == os.fspath(tmp_path / "kept")
    assert {f.name for f in verdict.dump} == {"dmesg.txt", "meta", "save.log", "vmcore", "link"}
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [DUMP, "console.log", "disk.img"]
    assert (tmp_path / "kept" / DUMP / "link").is_symlink()
    assert (tmp_path / "kept" / "disk.img").stat().st_blocks == 0
    assert len(started) == 1
    assert list((root / "var/tmp").iterdir()) == []


def test_a_machine_that_dies_at_once_is_tried_once_more(
    ctx: Context, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [("Linux version 6.12", "general protection fault"), tuple(GOOD)]
    cpus = []

    def run(argv: list[str], *, timeout: float, ends: object) -> stage.Run:
        cpus.append(argv[argv.index("-cpu") + 1])
        return stage.Run(tuple((float(n), t.encode()) for n, t in enumerate(runs.pop(0))), 10.0, False)

    monkeypatch.setattr(stage, "watch", run)
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).captured
    assert cpus == list(machine.CPUS["tcg"])


@pytest.mark.parametrize(
    ("program", "answer", "reason"),
    [
        ("debugfs", 1, "there is no dump on the disk"),
        ("makedumpfile", 1, "makedumpfile can't read the vmcore"),
        ("makedumpfile", 0, "makedumpfile can't read the vmcore"),
    ],
)
def test_a_dump_that_is_not_good(
    ctx: Context, runner: FakeRunner, started: list[list[str]], program: str, answer: int, reason: str
) -> None:
    runner.answers[program] = answer
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).reason == reason


@pytest.mark.parametrize(
    ("path", "words"), [(IMAGE, f"{IMAGE}: No such file"), (f"/usr/lib/modules/{RELEASE}/vmlinuz", "vmlinuz: No such")]
)
def test_what_vanished_in_between(ctx: Context, root: Path, started: list[list[str]], path: str, words: str) -> None:
    (root / path.lstrip("/")).unlink()
    with pytest.raises(KdumpError, match=words):
        rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish())
    assert list((root / "var/tmp").iterdir()) == []
