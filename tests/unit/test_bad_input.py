"""Bad input, whatever it is: one line, exit code 1, nothing changed, no traceback.

Each case starts from a root on which `rebuild` has nothing left to do, and breaks one thing in it. Where there is a
choice (a broken kernel beside a good one) the good one is used, and the bad one named in a line: last section.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdump_pkg import cli, paths
from kdump_pkg.run import SystemRunner
from tests.fakes import (
    PACKERS,
    RELEASE,
    Entry,
    FakeRunner,
    Hole,
    Link,
    bash_arrays,
    bzimage,
    elf,
    failing,
    kernel_tree,
    make_tree,
    pacman_db,
    snapshot,
    system_runner,
    system_tree,
)

NOISE = bytes(range(256)) * 64
VMLINUZ = f"/usr/lib/modules/{RELEASE}/vmlinuz"
HEADERS = f"/usr/lib/modules/{RELEASE}/build/vmlinux"
DROPIN = f"{paths.CONFIG_DROPINS}/10.conf"
IMAGE = f"/boot/{paths.IMAGE_NAME}"


class System:
    """A fake root, its programs, and what a verb on it said."""

    def __init__(self, root: Path, runner: FakeRunner, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.runner, self._capsys = root, runner, capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        code = cli.main([*argv, "--root", os.fspath(self.root)])
        self.out, self.err = self._capsys.readouterr()
        return code

    def put(self, entries: dict[str, Entry]) -> None:
        """Replace these files by something else."""
        for name in entries:
            path = self.root / name.lstrip("/")
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)
        make_tree(self.root, entries)

    def data(self, name: str) -> bytes:
        return (self.root / name.lstrip("/")).read_bytes()


@pytest.fixture
def system(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], guard: object
) -> Iterator[System]:
    """A root on which everything is done; its owner is root, whoever runs the test."""
    make_tree(root, system_tree())
    runner = system_runner(root)
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: runner(*args, **kwargs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    made = System(root, runner, capsys)
    assert made("rebuild") == 0, made.err
    yield made


def test_nothing_is_left_to_do(system: System) -> None:
    before = snapshot(system.root)
    assert system("rebuild") == 0
    assert (system.out, system.err, snapshot(system.root)) == ("", "", before)


def one_line(system: System, *, place: str = "") -> str:
    """The one line on stderr, which names no place outside of the root but where we were to write: PLACE."""
    (line,) = system.err.splitlines()
    assert line.startswith(("==> ERROR: ", "==> WARNING: "))
    assert line.isprintable()
    assert os.fspath(system.root) not in line.replace(place, "")
    return line


CONFIGURATIONS: dict[str, tuple[dict[str, Entry], str]] = {
    "unknown option": ({paths.CONFIG: "\nkernl = linux\n"}, f"{paths.CONFIG}:2: unknown option kernl"),
    "wrong value": ({paths.CONFIG: "timeout = soon\n"}, f"{paths.CONFIG}:1: timeout = 'soon' is not allowed"),
    "value out of range": ({paths.CONFIG: "keep_debug = 1000\n"}, f"{paths.CONFIG}:1: keep_debug"),
    "relative path": ({paths.CONFIG: "path = crash\n"}, f"{paths.CONFIG}:1: path"),
    "quote in a path": ({paths.CONFIG: "path = \"/a'; reboot; '\"\n"}, f"{paths.CONFIG}:1: path"),
    "no assignment": ({paths.CONFIG: "kernel\n"}, f"{paths.CONFIG}:1: not a line"),
    "set twice": ({paths.CONFIG: "timeout = 60\ntimeout = 70\n"}, f"{paths.CONFIG}:2: set twice"),
    "section": ({paths.CONFIG: "[kdump]\n"}, f"{paths.CONFIG}:1: unknown section"),
    "configuration of noise": ({paths.CONFIG: NOISE}, f"{paths.CONFIG}:2: not UTF-8"),
    "configuration of zeros": ({paths.CONFIG: b"\0" * 4096}, f"{paths.CONFIG}:1: "),
    "configuration truncated in a quote": ({paths.CONFIG: 'path = "/var/cra'}, f"{paths.CONFIG}:1: not a line"),
    "configuration is a directory": ({paths.CONFIG: None}, f"{paths.CONFIG}:1: can't be read: not a regular file"),
    "configuration of 1 GiB": ({paths.CONFIG: Hole(1 << 30)}, f"{paths.CONFIG}:1: can't be read: larger"),
    "configuration is a loop of links": ({paths.CONFIG: Link(paths.CONFIG)}, f"{paths.CONFIG}:1: too many levels"),
    "drop-in": ({DROPIN: "flavour = fast\n"}, f"{DROPIN}:1: flavour = 'fast' is not allowed"),
    "drop-in of noise": ({DROPIN: NOISE}, f"{DROPIN}:2: not UTF-8"),
    "kernel that is not installed": ({paths.CONFIG: "kernel = linux-zen\n"}, "kernel = linux-zen: no such kernel"),
    "generator that is not installed": ({paths.CONFIG: "generator = dracut\n"}, "dracut is not installed"),
    "driver that is not there": ({paths.CONFIG: "drivers = nosuchdriver\n"}, "has no module nosuchdriver"),
    "fstab of noise": ({"/etc/fstab": NOISE}, "no entry in /etc/fstab fits"),
    "empty fstab": ({"/etc/fstab": ""}, "no entry in /etc/fstab fits"),
    "fstab names a disk by chance": ({"/etc/fstab": "/dev/sda1 / ext4 rw 0 1\n"}, "/etc/fstab:1: /dev/sda1 may be"),
    "fstab is a directory": ({"/etc/fstab": None}, "no entry in /etc/fstab fits"),
    "fstab of 1 GiB": ({"/etc/fstab": Hole(1 << 30)}, "no entry in /etc/fstab fits"),
    "mkinitcpio.conf is gone": ({paths.MKINITCPIO_CONFIG: Link("/nowhere")}, f"{paths.MKINITCPIO_CONFIG} is missing"),
    "mkinitcpio.conf is a directory": ({paths.MKINITCPIO_CONFIG: None}, f"{paths.MKINITCPIO_CONFIG} is missing"),
    "modules.dep of noise": ({f"/usr/lib/modules/{RELEASE}/modules.dep": NOISE}, "has no module ext4"),
    "modules.dep truncated": ({f"/usr/lib/modules/{RELEASE}/modules.dep": "kernel/fs/ex"}, "has no module ext4"),
}  # fmt: skip

OWN_FILES: dict[str, tuple[dict[str, Entry], str]] = {
    f"{name} {how}": ({path: entry}, f"{path}: {words}")
    for name, path, lack in (
        ("preset", paths.PRESET, "it has no PRESETS and no kver and no image"),
        ("derived configuration", paths.DERIVED_CONFIG, "it has no hook kdump"),
    )
    for how, entry, words in (
        ("empty", "", lack),
        ("of noise", NOISE, "not a text file"),
        ("of zeros", b"\0" * 512, "not a text file"),
        ("of 1 GiB", Hole(1 << 30), "no text file that can be read"),
        ("is a directory", None, "no text file that can be read"),
        ("leads out of the root", Link("/../../../../etc/kdump-pkg-outside"), "no text file that can be read"),
        ("is a loop of links", Link(path), "no text file that can be read"),
        ("is another file", "Lorem ipsum dolor sit amet\n", lack),
    )
} | {
    "preset truncated": ({paths.PRESET: "# x\nPRESETS=('kdump')\nkdump_kv"}, "it has no kver and no image"),
}

KERNELS: dict[str, tuple[dict[str, Entry], str]] = {
    "vmlinuz empty": ({VMLINUZ: ""}, f"{VMLINUZ}: not a bzImage kernel"),
    "vmlinuz of noise": ({VMLINUZ: NOISE}, f"{VMLINUZ}: not a bzImage kernel"),
    "vmlinuz of 1 GiB": ({VMLINUZ: Hole(1 << 30)}, f"{VMLINUZ}: not a bzImage kernel"),
    "vmlinuz truncated in the header": ({VMLINUZ: bzimage()[:0x210]}, f"{VMLINUZ}: not a bzImage kernel"),
    "vmlinuz truncated in the payload": ({VMLINUZ: bzimage()[:1200]}, f"{VMLINUZ}: truncated"),
    "vmlinuz with half a payload": ({VMLINUZ: bzimage(PACKERS["xz"](elf())[:100])}, f"{VMLINUZ}: damaged xz payload"),
    "vmlinuz with a payload of noise": ({VMLINUZ: bzimage(b"\x1f\x8b\x08" + NOISE)}, f"{VMLINUZ}: damaged gzip"),
    "vmlinuz with zstd that fails": ({VMLINUZ: bzimage(PACKERS["zstd"](elf()))}, f"{VMLINUZ}: zstd payload: "),
    "vmlinuz with an unknown payload": ({VMLINUZ: bzimage(NOISE)}, f"{VMLINUZ}: payload of an unknown compression"),
    "vmlinuz without an ELF file": ({VMLINUZ: bzimage(PACKERS["xz"](b"text"))}, f"{VMLINUZ}: its xz payload holds no"),
    "vmlinuz with half an ELF file": ({VMLINUZ: bzimage(PACKERS["xz"](elf()[:50]))}, f"{VMLINUZ}: damaged ELF file"),
    "vmlinuz without a build ID": ({VMLINUZ: bzimage(PACKERS["xz"](elf(None)))}, f"{VMLINUZ}: has no build ID"),
    "vmlinuz is a directory": ({VMLINUZ: None}, "no kernel that can capture is installed"),
    "vmlinuz leads out of the root": ({VMLINUZ: Link("/../../../boot/vmlinuz")}, "no kernel that can capture"),
    "vmlinuz is a loop of links": ({VMLINUZ: Link(VMLINUZ)}, "no kernel that can capture"),
}  # fmt: skip

NEEDED = CONFIGURATIONS | OWN_FILES | KERNELS


def test_there_are_enough() -> None:
    assert len(NEEDED) >= 30


def prepare(system: System, name: str) -> None:
    entries, _ = NEEDED[name]
    system.runner.answers["zstd"] = lambda call: failing(call.argv, 1, "zstd: decoding error\n")
    system.put(entries)


@pytest.mark.parametrize("name", NEEDED)
def test_rebuild(system: System, name: str) -> None:
    prepare(system, name)
    if name in ("vmlinuz is a directory", "vmlinuz leads out of the root", "vmlinuz is a loop of links"):
        # To us that kernel is gone, and a preset that names a release which is gone must go (it fails every `-P`).
        (system.root / paths.PRESET.lstrip("/")).unlink()
    before = snapshot(system.root)
    assert system("rebuild") == 1
    assert NEEDED[name][1] in one_line(system)
    assert system.out == ""
    assert snapshot(system.root) == before


@pytest.mark.parametrize("name", NEEDED)
def test_dry_run_and_status_say_it_too(system: System, name: str) -> None:
    prepare(system, name)
    words = NEEDED[name][1]
    before = snapshot(system.root)
    assert system("rebuild", "--dry-run", "--force") == 1
    assert words in one_line(system)
    assert system("status") == 3
    assert system.err == ""
    assert len([line for line in system.out.splitlines()[1:] if words in line and "to do:" not in line]) == 1
    assert system("status", "--json") == 3
    assert [f["state"] for f in json.loads(system.out)["findings"] if words in f["text"]] == ["bad"]
    assert snapshot(system.root) == before


# --- ELF files, beside what is kept ---------------------------------------------------------------------------------

ELF_FILES: dict[str, tuple[Entry, str]] = {
    "empty": ("", "not an ELF file"),
    "of noise": (NOISE, "not an ELF file"),
    "of 1 GiB": (Hole(1 << 30), "not an ELF file"),
    "truncated": (elf(sections=(".BTF", ".symtab"))[:200], "damaged ELF file"),
    "truncated in the header": (elf()[:30], "damaged ELF file"),
    "of another build": (elf("ff" * 20, (".debug_info",)), f"build ID {'ff' * 20} is not that of {RELEASE}"),
    "without a build ID": (elf(None, (".debug_info",)), "build ID missing is not that of"),
}


@pytest.mark.parametrize("name", ELF_FILES)
def test_damaged_vmlinux_is_told_until_it_is_mended(system: System, name: str) -> None:
    """What is kept already stays, byte for byte; and with every run the line comes again."""
    entry, words = ELF_FILES[name]
    system.put({HEADERS: entry})
    before = snapshot(system.root)
    for _ in range(2):
        assert system("rebuild") == 1
        line = one_line(system)
        assert f"{HEADERS}: " in line
        assert words in line
        assert snapshot(system.root) == before
    system.put({HEADERS: elf(sections=(".debug_info",))})
    assert system("rebuild") == 0
    assert system("rebuild") == 0
    assert (system.out, system.err) == ("", "")


@pytest.mark.parametrize(
    "entry", [None, Link("/../../../../etc/passwd"), Link(HEADERS)], ids=["directory", "out", "loop"]
)
def test_vmlinux_that_is_no_file_is_no_candidate(system: System, entry: Entry) -> None:
    system.put({HEADERS: entry})
    before = snapshot(system.root)
    assert system("rebuild") == 0
    assert (system.err, snapshot(system.root)) == ("", before)


# --- mkinitcpio's configuration, as its bash says it ----------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        lambda call: failing(call.argv, 2, "/etc/mkinitcpio.conf: line 3: syntax error near `)'\n  `HOOKS=(base))'\n"),
        lambda call: failing(call.argv, -9),
        bash_arrays()[:20],
        b"",
    ],
    ids=["syntax error", "killed", "cut short", "silent"],
)
def test_mkinitcpio_conf_that_bash_can_not_read(system: System, answer: Callable[..., object] | bytes) -> None:
    system.runner.answers["/bin/bash"] = answer  # type: ignore[assignment]
    before = snapshot(system.root)
    assert system("rebuild") == 1
    assert "/etc/mkinitcpio.conf: bash can't read it: " in one_line(system)
    assert snapshot(system.root) == before


# --- what fails on the way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [paths.CAPTURE_ENV, IMAGE])
def test_directory_in_place_of_what_we_write(system: System, name: str) -> None:
    system.put({name: None})
    system.put({f"{name}/kept": "x"})
    before = snapshot(system.root)
    assert system("rebuild") == 1
    assert f"{name}: Is a directory" in system.err
    one_line(system, place=f"{system.root}{name}")
    assert snapshot(system.root) == before


def test_failing_generator(system: System) -> None:
    system.runner.answers["mkinitcpio"] = lambda call: failing(call.argv, 1, "==> ERROR: no space\n")
    before = snapshot(system.root)
    assert system("rebuild", "--force") == 1
    assert "what was there stays" in one_line(system)
    assert snapshot(system.root) == before


def test_root_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["status", "--root", os.fspath(tmp_path / "missing")]) == 1
    assert capsys.readouterr().err.startswith("==> ERROR: ")


@pytest.mark.parametrize("name", ["configobj", "elftools"])
def test_module_that_is_gone(system: System, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade of Python that left a module behind."""
    import sys

    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    system.put({paths.CONFIG: "timeout = 60\n"} if name == "configobj" else {VMLINUZ: bzimage(b"\x7fELF" + NOISE)})
    before = snapshot(system.root)
    assert system("rebuild") == 1
    line = one_line(system)
    assert name in line
    assert "pacman -S python-" in line
    assert snapshot(system.root) == before


# --- a broken kernel beside a good one ------------------------------------------------------------------------------

OTHER = "6.13.1-arch1-1"
OTHER_IMAGE = f"/usr/lib/modules/{OTHER}/vmlinuz"


@pytest.mark.parametrize("image", [b"noise", bzimage()[:1200], Hole(1 << 30)], ids=["noise", "truncated", "zeros"])
def test_the_good_one_is_used_and_the_bad_one_named(system: System, image: Entry) -> None:
    """Newer, so it would have been the one; what was asked for, a machine that is armed, is so: exit code 0."""
    system.put(kernel_tree(OTHER, "linux-mainline", image=image))
    env = system.data(paths.CAPTURE_ENV)
    assert system("rebuild") == 0
    line = one_line(system)
    assert line.startswith(f"==> WARNING: {OTHER_IMAGE}: ")
    assert line.endswith("reinstall linux-mainline")
    assert system.data(paths.CAPTURE_ENV) == env
    before = snapshot(system.root)
    assert system("rebuild") == 0
    assert (system.out, snapshot(system.root)) == ("", before)
    assert system("status") == 3
    assert system.out.count(OTHER_IMAGE) == 1


def test_the_broken_one_was_asked_for_by_name(system: System) -> None:
    system.put({**kernel_tree(OTHER, "linux-mainline", image=b"noise"), paths.CONFIG: "kernel = linux-mainline\n"})
    before = snapshot(system.root)
    assert system("rebuild") == 1
    assert f"kernel = linux-mainline can't capture: {OTHER_IMAGE}: not a bzImage kernel" in one_line(system)
    assert snapshot(system.root) == before


def test_the_one_in_use_broke_and_another_takes_over(system: System) -> None:
    system.put({**kernel_tree(OTHER, "linux-mainline"), VMLINUZ: b"noise"})
    assert system("rebuild") == 0
    assert f"KDUMP_RELEASE='{OTHER}'".encode() in system.data(paths.CAPTURE_ENV)
    assert VMLINUZ in one_line(system)
    assert (system.root / f"usr/lib/debug/lib/modules/{RELEASE}/vmlinux").exists()  # a reinstallation mends the kernel


def test_damaged_package_database(system: System) -> None:
    """Only versions come from there; a kernel is one without it."""
    system.put({"/var/lib/pacman/local": None, **pacman_db({})})
    system.runner.answers["makedumpfile"] = "makedumpfile: version 1.7.9\n"
    assert system("rebuild") == 0
    assert system.err == ""
