"""What a rehearsal does on this machine: watching it, its first stage, the probe for KVM, and all of it together."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from kdump_pkg import cpio, fs, paths, rehearsal
from kdump_pkg.apply import rehearsal as stage
from kdump_pkg.apply import scratch as disks
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, KdumpError
from kdump_pkg.facts.records import read_rehearsed
from kdump_pkg.model.health import Rehearsed
from kdump_pkg.plan import console, first_stage, machine
from tests import fakes
from tests.fakes import RELEASE, FakeRunner, make_tree
from tests.rehearsals import CONFIG, CRASH, DUMP, GOOD, IMAGE, READ, armed
from tests.unit.test_rehearsal_design import names


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


@pytest.mark.spawns
def test_answers_are_typed_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "TYPING", 0.05)
    script = "printf 'kdump-save: passphrase for x, within 60 s:'; read -r a; echo; echo got $a; read -r b || echo end"
    run = stage.watch(["sh", "-c", script], timeout=3, ends=never, answers=((rehearsal.QUESTION, "word"),))
    assert [line for _, line in run.lines] == [b"kdump-save: passphrase for x, within 60 s:", b"got word"]


@pytest.mark.spawns
def test_the_power_is_cut_some_time_after_a_line() -> None:
    script = "echo begin; echo kdump-save: step vmcore begin; while :; do sleep 0.1; echo more; done"
    run = stage.watch(["sh", "-c", script], timeout=60, ends=never, cut=("step vmcore", 0.5))
    assert (run.killed, run.timed_out) == (True, False)
    assert 0.5 <= run.seconds < 20
    assert run.lines[-1][1] == b"more"


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


@pytest.mark.parametrize(("line", "works"), [(f"[1.0] {first_stage.PROBED}", True), ("kvm: internal error", False)])
def test_kvm_is_believed_by_its_mark_and_tried_once_in_a_boot(
    ctx: Context, probes: list[str], line: str, works: bool
) -> None:
    probes.append(line)
    assert stage.kvm_works(ctx, ["qemu"], first_stage.PROBED) is works
    assert stage.kvm_works(ctx, ["qemu"], first_stage.PROBED) is works


@pytest.mark.parametrize("record", ["", "[]", '{"boot_id": "another", "works": true}', "\x00", '{"works": true}'])
def test_another_boot_or_a_broken_record_is_no_answer(ctx: Context, root: Path, probes: list[str], record: str) -> None:
    make_tree(root, {"/run/kdump-pkg/kvm.json": record})
    probes.append("dead")
    assert not stage.kvm_works(ctx, ["qemu"], first_stage.PROBED)


def test_without_kvm_nothing_is_tried(ctx: Context, probes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "KVM", "/nonexistent/kvm")
    assert not stage.kvm_works(ctx, ["qemu"], first_stage.PROBED)


def test_the_first_stage_has_all_that_its_programs_need() -> None:
    found = names(
        stage.first_stage(Context(), "#!/bin/sh\n", ("sh", "mount"), [cpio.File("/cmdline", b"x\n")], ["nonesuch"])
    )
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
        stage.first_stage(ctx, "", ("kexec",))


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(KdumpError, match="not empty"):
        stage.check_keep(tmp_path)
    stage.check_keep(tmp_path / "new" / "one")
    assert (tmp_path / "new" / "one").is_dir()


# --- all together, but for the machine --------------------------------------------------------------------------------


def archive(directory: str, contents: dict[str, bytes]) -> bytes:
    """What the machine that reads the disks writes: one dump, private, and a link in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in {"": b"", **contents}.items():
            member = tarfile.TarInfo(f"{directory}/{name}".rstrip("/"))
            member.type = tarfile.REGTYPE if name else tarfile.DIRTYPE
            member.mode, member.size = (0o600 if name else 0o700), len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo(f"{directory}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return stream.getvalue()


PARTS = {
    "dmesg.txt": f"[1.0] {CRASH}\n".encode(), "meta": b"format=1\nnonsense\nresult=complete\n",
    "vmcore": b"KDUMP", "save.log": b"",
}  # fmt: skip


class Machine:
    """Stands in for QEMU: says what it is told to, and writes to the disk for the dumps when it is asked to read."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.says = [GOOD]
        self.reads = READ
        self.leaves = archive(f"1/var/crash/{DUMP}", PARTS)

    def watch(self, argv: list[str], *, timeout: float, **more: object) -> stage.Run:
        self.calls.append(argv)
        if self.modes[-1] == "read":
            out = next(word.split("file=")[1] for word in reversed(argv) if "file=" in word)
            with Path(out).open("r+b") as file:
                file.seek(disks.PARTITION)
                file.write(self.leaves)
        lines = self.reads if self.modes[-1] in ("read", "make") else self.says.pop(0)
        return stage.Run(tuple((float(n), t.encode()) for n, t in enumerate(lines)), 10.0, False)

    @property
    def modes(self) -> list[str]:
        return [" ".join(argv).split("KDUMP_REHEARSAL=")[1].split()[0] for argv in self.calls]


@pytest.fixture
def qemu(ctx: Context, root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A root that can be rehearsed, and a virtual machine that says GOOD."""
    machine_ = Machine()

    def dumping(call: fakes.Call) -> fakes.Answer:
        (root / call.argv[3].lstrip("/")).write_text(CRASH)
        return 0

    def unpacking(call: fakes.Call) -> fakes.Answer:
        make_tree(Path(call.argv[3]), {Path(name).name.removesuffix(".zst"): b"module" for name in call.argv[4:]})
        return 0

    monkeypatch.setattr(stage, "watch", machine_.watch)
    monkeypatch.setattr(stage, "need", lambda program: None)
    monkeypatch.setattr(stage, "KVM", "/nonexistent/kvm")
    monkeypatch.setattr(stage, "first_stage", lambda *_: b"archive")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    runner.answers |= {"makedumpfile": dumping, "zstd": unpacking}
    make_tree(root, {**fakes.system_tree(), IMAGE: b"image", "/var/tmp": None})
    return machine_


def test_a_whole_rehearsal(ctx: Context, root: Path, tmp_path: Path, qemu: Machine) -> None:
    kept = tmp_path / "kept"
    verdict = rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish(keep=kept))
    assert verdict.captured, verdict
    assert (verdict.kept, verdict.private, verdict.sound) == (os.fspath(kept), True, True)
    assert {f.name: f.mode for f in verdict.dump} == dict.fromkeys(PARTS, 0o600)
    assert sorted(p.name for p in kept.iterdir()) == [DUMP, "console.log", "disk-1-1.img", "read.log", "targets"]
    assert (kept / DUMP).resolve() == kept / "targets/1/var/crash" / DUMP
    assert (kept / DUMP / "link").is_symlink()
    assert (kept / "disk-1-1.img").stat().st_blocks * 512 < 1 << 20
    assert qemu.modes == ["crash", "read"]
    assert list((root / "var/tmp").iterdir()) == []


REHEARSED = Rehearsed(
    time=1_795_420_014, fingerprint=armed().image.fingerprint or "", release=RELEASE, crashkernel="256M", captured=True,
    reserved=256 << 20, least_kib=4321,
)  # fmt: skip
"""What GOOD leaves on record; under emulation, so without a time."""


def test_what_is_recorded(ctx: Context, qemu: Machine) -> None:
    rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish())
    assert read_rehearsed(ctx) == REHEARSED


@pytest.mark.parametrize(
    ("before", "last"),
    [
        pytest.param(None, False, id="the first one"),
        pytest.param(REHEARSED, False, id="with as much memory"),
        pytest.param(dataclasses.replace(REHEARSED, reserved=300 << 20), True, id="with less"),
        pytest.param(dataclasses.replace(REHEARSED, reserved=300 << 20, fingerprint="x"), False, id="of another image"),
        pytest.param(dataclasses.replace(REHEARSED, reserved=300 << 20, captured=False), False, id="after a failure"),
    ],
)
def test_a_failure_is_recorded_unless_it_had_less_memory(
    ctx: Context, root: Path, qemu: Machine, before: Rehearsed | None, last: bool
) -> None:
    if before:
        make_tree(root, {paths.REHEARSED: json.dumps(dataclasses.asdict(before))})
    qemu.leaves = b""
    rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish())
    found = read_rehearsed(ctx)
    assert found and found.captured is last
    assert last or found.reason == "there is no dump on the disk"


@pytest.mark.parametrize(
    "wish", [rehearsal.Wish(break_target=("ro:1",)), rehearsal.Wish(kill_after=("step vmcore", 1.0))]
)
def test_what_tests_do_is_not_recorded(ctx: Context, qemu: Machine, wish: rehearsal.Wish) -> None:
    rehearsal.rehearse(ctx, CONFIG, armed(), wish)
    assert read_rehearsed(ctx) is None


@pytest.mark.parametrize("error", [KdumpError("no room"), PermissionError(13, "no")])
def test_no_rehearsal_fails_for_its_record(
    ctx: Context, qemu: Machine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(fs, "write_atomic", refuse)
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).captured
    assert read_rehearsed(ctx) is None


def test_kept_disks_crash_again(ctx: Context, tmp_path: Path, qemu: Machine) -> None:
    kept = tmp_path / "kept"
    rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish(keep=kept))
    with (kept / "disk-1-1.img").open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"as it was left")
    qemu.says = [[f"kdump-rehearsal: there 1 {DUMP}", *GOOD]]
    again = rehearsal.Wish(disks=kept, keep=tmp_path / "again")
    verdict = rehearsal.rehearse(ctx, CONFIG, armed(), again)
    assert qemu.modes[2:] == ["again", "read"]
    assert verdict.reason == "there is no dump on the disk", "the one that is there was there before"
    with (tmp_path / "again" / "disk-1-1.img").open("rb") as file:
        file.seek(5 << 20)
        assert file.read(14) == b"as it was left"


def test_a_disk_that_can_not_be_written_to_is_made_in_a_machine_of_its_own(ctx: Context, qemu: Machine) -> None:
    rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish(break_target=("ro:1",)))
    assert qemu.modes == ["make", "again", "read"]
    assert ["readonly=on" in " ".join(argv) for argv in qemu.calls] == [False, True, False]


def test_a_missing_disk_is_not_there(ctx: Context, qemu: Machine) -> None:
    rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish(break_target=("missing:1",)))
    assert [" ".join(argv).count("-drive") for argv in qemu.calls] == [0, 1]


def test_a_machine_that_dies_at_once_is_tried_once_more(ctx: Context, qemu: Machine) -> None:
    qemu.says = [["Linux version 6.12", "general protection fault"], GOOD]
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).captured
    cpus = [argv[argv.index("-cpu") + 1] for argv in qemu.calls]
    assert cpus == [*machine.CPUS["tcg"], machine.CPUS["tcg"][1]], "the one that works reads the disks, too"


def test_what_stopped_before_the_crash_has_nothing_to_be_read(ctx: Context, qemu: Machine) -> None:
    qemu.says = [["kdump-rehearsal: start crash", "kdump-rehearsal: failed: mkfs.ext4: no"]]
    qemu.leaves = b""
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).reason == "mkfs.ext4: no"
    assert qemu.modes == ["crash"]


@pytest.mark.parametrize(
    ("leaves", "reads", "answer", "reason"),
    [
        (b"", READ, 0, "there is no dump on the disk"),
        (b"", READ[:1], 0, f"the disks can't be read back: {READ[0]}"),
        (None, READ, 1, "makedumpfile can't read the vmcore"),
    ],
)
def test_a_dump_that_is_not_good(
    ctx: Context, runner: FakeRunner, qemu: Machine, leaves: bytes | None, reads: list[str], answer: int, reason: str
) -> None:
    qemu.leaves, qemu.reads = qemu.leaves if leaves is None else leaves, reads
    runner.answers["makedumpfile"] = answer
    assert rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish()).reason == reason


@pytest.mark.parametrize(
    ("path", "words"), [(IMAGE, f"{IMAGE}: No such file"), (f"/usr/lib/modules/{RELEASE}/vmlinuz", "vmlinuz: No such")]
)
def test_what_vanished_in_between(ctx: Context, root: Path, qemu: Machine, path: str, words: str) -> None:
    (root / path.lstrip("/")).unlink()
    with pytest.raises(KdumpError, match=words):
        rehearsal.rehearse(ctx, CONFIG, armed(), rehearsal.Wish())
    assert list((root / "var/tmp").iterdir()) == []
