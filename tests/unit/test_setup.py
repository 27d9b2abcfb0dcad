"""The verb `setup` from the command line: shown, asked, done, taken back, on roots with real boot loaders' files."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import cli, fs, paths, reconcile, setup
from kdump_pkg.context import Context
from kdump_pkg.errors import BusyError
from kdump_pkg.facts.surroundings import read_surroundings
from kdump_pkg.model import Config
from kdump_pkg.model.bootloader import CommandLine, Loader, Stretch, Surroundings, TextFile
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.plan import hangs
from kdump_pkg.run import SystemRunner
from tests.fakes import (
    RELEASE,
    UUID,
    Answer,
    Call,
    FakeRunner,
    LiveContext,
    facts,
    make_tree,
    snapshot,
    system_runner,
    system_tree,
    target,
)
from tests.setups import SUM
from tests.unit.test_apply_setup import WANTS, contents, systemctl

DEFAULTS, CONFIG, ENTRY = "/etc/default/grub", "/boot/grub/grub.cfg", "/boot/loader/entries/arch.conf"
ROOT = f"root=UUID={UUID} rw"
GRUB = f'GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT="loglevel=3 quiet"\nGRUB_CMDLINE_LINUX="{ROOT}"\n'
CFG = """\
### BEGIN /etc/grub.d/10_linux ###
menuentry 'Arch Linux' {
    linux /vmlinuz-linux %s
}
### END /etc/grub.d/10_linux ###
"""
OPTIONS = f"title Arch Linux\nlinux /vmlinuz-linux\noptions {ROOT} quiet\n"
WINDOWS = "title Windows\nefi /EFI/Microsoft/bootmgfw.efi\n"

Run = Callable[..., int]


def grub_mkconfig(root: Path) -> Callable[[Call], Answer]:
    def make(call: Call) -> Answer:
        lines = (root / DEFAULTS[1:]).read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if line.startswith("GRUB_CMDLINE"))
        words = [values[name].strip("\"'") for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")]
        (root / call.argv[2].lstrip("/")).write_text(CFG % " ".join(words))
        return 0

    return make


@pytest.fixture
def system(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> FakeRunner:
    """A whole root, with no boot loader yet; what is estimated is 104M."""
    make_tree(root, {**system_tree(), WANTS: None, paths.STATE: None})
    runner = system_runner(root)
    runner.answers |= {"systemctl": systemctl(root), "grub-mkconfig": grub_mkconfig(root)}
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: runner(*args, **kwargs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(setup, "_estimate", lambda config, facts: SUM)
    return runner


@pytest.fixture
def grub(system: FakeRunner, root: Path) -> FakeRunner:
    config = CFG % f"{ROOT} loglevel=3 quiet"
    make_tree(root, {DEFAULTS: GRUB, CONFIG: config, "/usr/bin/grub-mkconfig": "", "/etc/grub.d": None})
    return system


@pytest.fixture
def entries(system: FakeRunner, root: Path) -> FakeRunner:
    make_tree(root, {ENTRY: OPTIONS, "/boot/loader/entries/windows.conf": WINDOWS})
    return system


@pytest.fixture
def run(root: Path) -> Run:
    return lambda *flags: cli.main(["setup", *flags, "--root", str(root)])


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Somebody at a terminal who types this."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    return lambda text: monkeypatch.setattr(sys, "stdin", Terminal(text))


GRUB_DRY = f"""\
==> GRUB: {CONFIG} is there
  -> crashkernel=104M, by the estimate (kdump-pkg estimate shows the sum)
--- {DEFAULTS}
+++ {DEFAULTS}
@@ -1,3 +1,3 @@
 GRUB_DEFAULT=0
-GRUB_CMDLINE_LINUX_DEFAULT="loglevel=3 quiet"
+GRUB_CMDLINE_LINUX_DEFAULT="loglevel=3 quiet crashkernel=104M"
 GRUB_CMDLINE_LINUX="{ROOT}"
  -> runs grub-mkconfig -o {CONFIG}
  -> enables kdump.service, kdump-pkg-collect.service
==> it holds from the next boot of that system on: the kernel reserves memory only while it boots
"""


def test_dry_run(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    assert run("--dry-run") == 0
    assert capsys.readouterr() == (GRUB_DRY, "")
    assert snapshot(root) == before
    assert not grub.lines("grub-mkconfig") + grub.lines("systemctl")


def test_dry_run_needs_neither_root_nor_a_writable_one(
    grub: FakeRunner, root: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    before = snapshot(root)
    for path in (root, root / "etc/default", root / "boot/grub", root / "run", root / "var/lib/kdump-pkg"):
        path.chmod(0o555)
    try:
        assert run("--dry-run") == 0
        assert capsys.readouterr().out == GRUB_DRY
        assert run("--dry-run", "--undo") == 0
        assert "nothing to undo" in capsys.readouterr().out
        assert run("--yes") == 1
        assert capsys.readouterr().err == "==> ERROR: only root can do this (run it with sudo)\n"
    finally:
        for path in (root, root / "etc/default", root / "boot/grub", root / "run", root / "var/lib/kdump-pkg"):
            path.chmod(0o755)
    assert {name: fact[2] for name, fact in snapshot(root).items()} == {name: fact[2] for name, fact in before.items()}


@pytest.mark.parametrize("loader", ["grub", "entries"])
def test_set_set_again_undo_undo_again(
    loader: str, request: pytest.FixtureRequest, root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    request.getfixturevalue(loader)
    first = contents(root)
    assert run("--yes") == 0
    done = contents(root)
    changed = {name for name in {*first, *done} if first.get(name) != done.get(name)}
    files = {DEFAULTS[1:], CONFIG[1:]} if loader == "grub" else {ENTRY[1:]}
    units = {f"{WANTS[1:]}/{unit}" for unit in ("kdump.service", "kdump-pkg-collect.service")}
    assert changed == {*files, *units, paths.SETUP[1:]}
    assert "reboot" not in capsys.readouterr().err
    before = snapshot(root)
    assert run("--yes") == 0
    assert "nothing to do: crashkernel=104M is in the configuration of" in capsys.readouterr().out
    assert snapshot(root) == before
    assert run("--undo", "--yes") == 0
    assert contents(root) == first
    capsys.readouterr()
    assert run("--undo", "--yes") == 0
    assert capsys.readouterr().out == "nothing to undo: setup has changed nothing here\n"


def test_undo_is_shown_and_asked(
    grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str], answer: Callable[[str], None]
) -> None:
    run("--yes")
    before = snapshot(root)
    capsys.readouterr()
    assert run("--undo", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert '-GRUB_CMDLINE_LINUX_DEFAULT="loglevel=3 quiet crashkernel=104M"\n+GRUB_CMDLINE' in shown
    assert f"  -> gives its first content back to {CONFIG}\n" in shown
    assert "  -> disables kdump.service, kdump-pkg-collect.service\n" in shown
    answer("n\n")
    assert run("--undo") == 1
    assert capsys.readouterr().out == f"{shown}:: Proceed? [Y/n] nothing was changed\n"
    assert snapshot(root) == before
    answer("\n")
    assert run("--undo") == 0
    assert "crashkernel" not in (root / DEFAULTS[1:]).read_text()


@pytest.mark.parametrize(
    ("typed", "code"), [("\n", 0), ("y\n", 0), (" YES \n", 0), ("n\n", 1), ("", 1), ("nonsense\n", 1)]
)
def test_asked(grub: FakeRunner, root: Path, run: Run, answer: Callable[[str], None], typed: str, code: int) -> None:
    answer(typed)
    assert run() == code
    assert ("crashkernel" in (root / DEFAULTS[1:]).read_text()) == (code == 0)


def test_nobody_to_ask(
    grub: FakeRunner, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert run() == 1
    said = "==> ERROR: nobody is there to be asked (--yes does it unasked, --dry-run shows it)\n"
    assert capsys.readouterr().err == said
    assert run("--json") == 1
    assert "--json asks nothing" in capsys.readouterr().err


def test_json(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, changed in ((["--dry-run"], False), (["--yes"], True), (["--yes"], False)):
        assert run("--json", *flags) == 0
        value = json.loads(capsys.readouterr().out)
        assert value["changed"] == changed
        assert value["loader"] == {"name": "grub", "title": "GRUB", "evidence": f"{CONFIG} is there"}
        assert (value["values"], value["reboot_needed"], value["undo"]) == (["104M"], False, False)
        if changed or "--dry-run" in flags:
            assert [edit["path"] for edit in value["edits"]] == [DEFAULTS]
            assert "\n+GRUB_CMDLINE_LINUX_DEFAULT" in value["edits"][0]["diff"]
            assert value["commands"] == [f"grub-mkconfig -o {CONFIG}"]
            assert value["units"]["enable"] == ["kdump.service", "kdump-pkg-collect.service"]
        else:
            assert (value["edits"], value["commands"], value["units"]["enable"]) == ([], [], [])
    assert run("--json", "--undo", "--yes") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["undo"], value["changed"], value["restored"]) == (True, True, [CONFIG])


def test_another_value(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    first = contents(root)
    assert run("--yes", "--crashkernel", "crashkernel=300M,high 64M,low") == 0
    assert 'quiet crashkernel=300M,high crashkernel=64M,low"' in (root / DEFAULTS[1:]).read_text()
    capsys.readouterr()
    assert run("--dry-run") == 0
    out = capsys.readouterr().out
    assert "crashkernel=300M,high crashkernel=64M,low is there already and stays: 300 MiB" in out
    assert run("--yes", "--crashkernel", "256M") == 0
    assert 'quiet crashkernel=256M"' in (root / DEFAULTS[1:]).read_text()
    assert "crashkernel=256M" in (root / CONFIG[1:]).read_text()
    assert run("--undo", "--yes") == 0
    assert contents(root) == first


@pytest.mark.parametrize(("value", "said"), [("lots", "not a size"), ("0M", "reserves nothing")])
def test_a_value_that_is_none(
    grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str], value: str, said: str
) -> None:
    before = snapshot(root)
    assert run("--yes", "--crashkernel", value) == 1
    assert said in capsys.readouterr().err
    assert snapshot(root) == before


def test_the_user_edits_in_between(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("--yes")
    file = root / DEFAULTS[1:]
    file.write_text(file.read_text().replace("loglevel=3", "loglevel=7") + "GRUB_TIMEOUT=1\n")
    grub_mkconfig(root)(Call(("grub-mkconfig", "-o", CONFIG), None, None, None))
    capsys.readouterr()
    grub.calls.clear()
    assert run("--undo", "--yes") == 0
    assert file.read_text() == GRUB.replace("loglevel=3", "loglevel=7") + "GRUB_TIMEOUT=1\n"
    assert grub.lines("grub-mkconfig") == [f"grub-mkconfig -o {CONFIG}"]
    assert (root / CONFIG[1:]).read_text() == CFG % f"{ROOT} loglevel=7 quiet"
    assert f"{DEFAULTS} was edited since: only what is ours goes" in capsys.readouterr().out


def test_did_not_come_through(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    grub.answers["grub-mkconfig"] = lambda call: (root / CONFIG[1:]).write_text(CFG % ROOT) and 0
    first = contents(root)
    assert run("--yes") == 1
    said = f"crashkernel=104M did not come to the entry Arch Linux of {CONFIG}; nothing was changed"
    said += " (look for what else grub-mkconfig takes a command line from)"
    assert capsys.readouterr().err == f"==> ERROR: {said}\n"
    assert contents(root) == first


def test_a_generated_file_that_vanished(
    grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(call: Call) -> Answer:
        (root / CONFIG[1:]).unlink()
        return 0

    grub.answers["grub-mkconfig"] = make
    first = contents(root)
    assert run("--yes") == 1
    assert capsys.readouterr().err.startswith(
        f"==> ERROR: {CONFIG}: not there, or it can't be read; nothing was changed"
    )
    assert contents(root) == first


def test_several(
    grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str], answer: Callable[[str], None]
) -> None:
    make_tree(root, {ENTRY: OPTIONS})
    assert run("--yes") == 1
    error = capsys.readouterr().err
    assert "any of these may boot this machine: grub (" in error
    assert "systemd-boot (loader entries in /boot/loader/entries)" in error
    assert "kdump-pkg setup --loader grub or --loader systemd-boot" in error
    assert run("--dry-run", "--loader", "limine") == 1
    assert "limine isn't here (here is grub, systemd-boot)" in capsys.readouterr().err
    answer("7\n")
    assert run() == 1
    shown = capsys.readouterr()
    assert ":: Several boot loaders are here. Which of them boots this machine?\n   1) grub: " in shown.out
    assert "any of these" in shown.err
    answer("2\ny\n")
    assert run() == 0
    assert "crashkernel" in (root / ENTRY[1:]).read_text()
    assert run("--yes", "--loader", "grub") == 0
    assert "crashkernel" in (root / DEFAULTS[1:]).read_text()
    assert run("--undo", "--yes") == 0
    assert not any("crashkernel" in (root / path[1:]).read_text() for path in (ENTRY, DEFAULTS, CONFIG))


def test_none(system: FakeRunner, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run") == 1
    assert "no boot loader was found" in capsys.readouterr().err


def test_a_damaged_record(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(root, {paths.SETUP: '{"version": 1, "files": '})
    before = snapshot(root)
    for flags in (["--yes"], ["--undo", "--yes"], ["--dry-run"]):
        assert run(*flags) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"==> ERROR: {paths.SETUP}: damaged")
        assert error.count("\n") == 1
    assert snapshot(root) == before


def test_a_record_that_only_root_reads(
    grub: FakeRunner, root: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--yes")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    real = Context.read_bytes
    monkeypatch.setattr(Context, "read_bytes", lambda self, name: None if name == paths.SETUP else real(self, name))
    assert run("--dry-run", "--crashkernel", "256M") == 0
    assert "what an earlier setup did is known to root only" in capsys.readouterr().out
    assert run("--dry-run", "--undo") == 1
    assert f"{paths.SETUP}: can't be read" in capsys.readouterr().err


def test_panic_on_hang(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    first = contents(root)
    run("--yes")
    assert not (root / paths.SYSCTL[1:]).exists()  # never by itself
    capsys.readouterr()
    assert run("--yes", "--panic-on-hang") == 0
    assert "+kernel.panic_on_oops = 1" in capsys.readouterr().out
    assert (root / paths.SYSCTL[1:]).read_bytes() == hangs.sysctl_file(None)
    before = snapshot(root)
    assert run("--yes", "--panic-on-hang") == 0
    assert run("--yes") == 0
    assert snapshot(root) == before
    assert run("--undo", "--yes") == 0
    assert contents(root) == first


def test_a_sysctl_file_of_the_user(grub: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(root, {paths.SYSCTL: "kernel.panic = 3\n"})
    first = contents(root)
    assert run("--yes", "--panic-on-hang") == 0
    assert f"{paths.SYSCTL} is yours, and left alone" in capsys.readouterr().out
    assert run("--undo", "--yes") == 0
    assert contents(root) == first
    (root / paths.SYSCTL[1:]).unlink()
    run("--yes", "--panic-on-hang")
    with (root / paths.SYSCTL[1:]).open("a") as file:
        file.write("kernel.panic = 3\n")
    capsys.readouterr()
    assert run("--undo", "--yes") == 0
    assert f"{paths.SYSCTL} was edited, and stays" in capsys.readouterr().out
    assert (root / paths.SYSCTL[1:]).exists()


def test_the_package_is_removed_and_comes_back(grub: FakeRunner, root: Path, run: Run) -> None:
    """A hook doesn't touch a boot loader: what it has is told, and can still be taken out to the byte."""
    first = (root / DEFAULTS[1:]).read_bytes()
    run("--yes", "--panic-on-hang")
    make_tree(root, {f"{paths.STATE}/last-good/image": "", f"{paths.STATE}/kernels.json": ""})
    said: list[str] = []
    outcome = reconcile.remove(Context(root, grub), said.append)
    assert not outcome.failures
    assert outcome.plan.warnings[0].startswith(f"crashkernel= stays in {DEFAULTS}: take it out by hand")
    assert [path.name for path in (root / paths.STATE[1:]).iterdir()] == ["setup.json"]
    assert not (root / paths.SYSCTL[1:]).exists()
    assert run("--undo", "--yes") == 0
    assert (root / DEFAULTS[1:]).read_bytes() == first
    run("--yes")
    (root / paths.SETUP[1:]).write_text("damaged")
    assert not reconcile.remove(Context(root, grub), said.append).plan.warnings
    assert [path.name for path in (root / paths.STATE[1:]).iterdir()] == ["setup.json"]
    (root / paths.SETUP[1:]).unlink()
    reconcile.remove(Context(root, grub), said.append)
    assert not (root / paths.STATE[1:]).exists()


def test_busy(grub: FakeRunner, root: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "WAIT", 0)
    with fs.lock(root / paths.LOCK[1:]):
        assert run("--dry-run") == 0
        with pytest.raises(BusyError):
            setup.setup(Context(root), setup.Wish(), dry_run=False, yes=True, as_json=False)
    assert "crashkernel" not in (root / DEFAULTS[1:]).read_text()


# --- the running system -------------------------------------------------------------------------------------------


@pytest.fixture
def live(entries: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], LiveContext]:
    """The same root as the system that runs, with this command line."""

    def boot(cmdline: str) -> LiveContext:
        (root / "proc/cmdline").write_text(cmdline)
        monkeypatch.setattr(
            setup, "read_surroundings", lambda ctx: replace(read_surroundings(ctx), live=True, cmdline=cmdline)
        )
        entries.answers["systemctl"] = 0
        return LiveContext(root, entries)

    make_tree(root, {"/proc/cmdline": "", "/proc/sys/kernel/osrelease": RELEASE})
    return boot


@pytest.mark.parametrize(
    ("running", "reboot"), [("rw quiet", True), ("rw crashkernel=64M", True), ("rw crashkernel=104M", False)]
)
def test_reboot_is_said(
    live: Callable[[str], LiveContext], capsys: pytest.CaptureFixture[str], running: str, reboot: bool
) -> None:
    wish = setup.Wish(values=("104M",))
    assert setup.setup(live(running), wish, dry_run=False, yes=True, as_json=False) == 0
    out = capsys.readouterr().out
    assert (f"==> reboot: {setup.WHY}\n" in out) == reboot
    assert setup.NEXT in out


def test_undo_says_when_the_memory_is_back(
    live: Callable[[str], LiveContext], capsys: pytest.CaptureFixture[str]
) -> None:
    ctx = live("rw crashkernel=104M")
    setup.setup(ctx, setup.Wish(), dry_run=False, yes=True, as_json=False)
    capsys.readouterr()
    assert setup.setup(ctx, setup.Wish(undo=True), dry_run=False, yes=True, as_json=False) == 0
    assert "==> reboot to have the memory back" in capsys.readouterr().out


def test_what_the_firmware_starts_is_for_the_user(
    live: Callable[[str], LiveContext], root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(ctx: Context, around: Surroundings) -> tuple[Loader, ...]:
        line = CommandLine("Arch", (Stretch("NVRAM:Boot0001", 0, 2, 1),))
        files = (TextFile("NVRAM:Boot0001", b"rw"),)
        command = "efibootmgr --unicode 'rw {}'"
        return (Loader("efistub", "EFI stub", "Boot0001", True, files, (line,), manual=(command,)),)

    monkeypatch.setattr(setup, "read_loaders", read)
    assert setup.setup(live("rw"), setup.Wish(), dry_run=False, yes=True, as_json=False) == 0
    out = capsys.readouterr().out
    assert "==> enabling kdump.service" in out
    assert "==> this has to be run by hand:\n    efibootmgr --unicode 'rw crashkernel=104M'\n==> then reboot" in out


def test_the_estimate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one is asked, with the capture where one can be designed."""
    asked: list[Any] = []

    def estimate(facts: Any, capture: Any, rehearsed: Any) -> Estimate:
        asked.append(capture)
        return SUM

    monkeypatch.setattr(setup, "estimate", estimate)
    setup._estimate(Config(), facts())
    setup._estimate(Config(), facts(targets=(target(problem="none"),), tools={}))
    assert asked[0] is not None and asked[1] is None


def test_refused_by_the_boot_loader(
    system: FakeRunner, root: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(root, {DEFAULTS: GRUB})
    before = snapshot(root)
    assert run("--yes") == 1
    assert capsys.readouterr().err.startswith("==> ERROR: GRUB: there is no grub.cfg")
    assert snapshot(root) == before
