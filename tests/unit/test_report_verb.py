"""The verb `report`: what was kept is shown, what wasn't is made, from whatever there is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg import __version__, catalogue, config, crashlog, fs, reports
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts import crashed
from kdump_pkg.model.crash import Crash
from kdump_pkg.model.dumps import Entry
from tests.fakes import FakeRunner, Link, make_tree
from tests.reports_made import CRASH, ENTRY, ID, VERIFICATION, VMCORE, rich

HOME = f"/var/crash/{ID}"
ENCRYPTED = replace(ENTRY, encrypted=True, log="", vmcore=f"{HOME}/vmcore.age")


@pytest.fixture(autouse=True)
def fakes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump of ours, with a log that the reader makes CRASH of."""
    make_tree(root, {f"{HOME}/dmesg.txt": b"Oops", f"{HOME}/meta": "format=1\nrelease=6.17.8-arch1-1\nin_a_row=2\n"})
    monkeypatch.setattr(crashlog, "read", lambda log: CRASH if log == b"Oops" else Crash())
    monkeypatch.setattr(catalogue, "read", lambda ctx, config: (ENTRY,))
    monkeypatch.setattr(catalogue, "find", lambda ctx, config, match: ENTRY)
    monkeypatch.setattr(os, "geteuid", lambda: 0)


Found = Callable[[Entry], None]


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Found:
    return lambda entry: monkeypatch.setattr(catalogue, "find", lambda ctx, config, match: entry)


def show(ctx: Context, *, html: str | None = None, as_json: bool = False) -> int:
    return reports.show(ctx, None, html=html, as_json=as_json)


def test_make_takes_what_there_is(ctx: Context) -> None:
    report = reports.make(ctx, ENTRY, VERIFICATION, VMCORE)
    assert report.crash == CRASH and report.verification == VERIFICATION and report.vmcore == VMCORE
    assert report.advice[0].text.startswith("The machine crashed 2 times")
    assert report.owners == ()


def test_keep_and_load(ctx: Context, root: Path) -> None:
    reports.keep(ctx, ENTRY, rich())
    assert reports.load(ctx, ENTRY) == rich()
    for name in ("report.json", "report.txt"):
        assert (root / HOME[1:] / name).stat().st_mode & 0o777 == 0o600
    assert json.loads((root / HOME[1:] / "report.json").read_text())["version"] == 1
    assert (root / HOME[1:] / "report.txt").read_text().startswith("Kernel 6.17.8-arch1-1 died")


def test_a_report_of_another_dump_is_none(ctx: Context) -> None:
    reports.keep(ctx, ENTRY, replace(rich(), id="another"))
    assert reports.load(ctx, ENTRY) is None


def test_the_same_report_whatever_else_is_mounted(ctx: Context) -> None:
    """Of two dumps with one name the id of the second has its target's in it: no reason to report it again."""
    reports.keep(ctx, ENTRY, rich())
    assert reports.load(ctx, replace(ENTRY, id=f"{ID}@esp")) == replace(rich(), id=f"{ID}@esp")


def test_nothing_is_written_beside_somebody_elses_dump(ctx: Context, found: Found, root: Path) -> None:
    foreign = replace(ENTRY, maker="Debian")
    with pytest.raises(KdumpError, match="not made by kdump-pkg"):
        reports.keep(ctx, foreign, rich())
    found(foreign)
    assert show(ctx) == 0
    assert not (root / HOME[1:] / "report.json").exists()


def test_it_is_made_once(ctx: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(ctx) == 0
    first = capsys.readouterr().out
    assert first.startswith("Kernel 6.17.8-arch1-1 died of a null pointer access in nouveau_fence_update [nouveau]")
    monkeypatch.setattr(crashlog, "read", lambda log: pytest.fail("read again"))
    assert show(ctx) == 0
    assert capsys.readouterr().out == first


def test_what_another_version_kept_is_made_anew(ctx: Context, capsys: pytest.CaptureFixture[str]) -> None:
    """It may have read the log otherwise; what was found in the dump itself stays."""
    reports.keep(ctx, ENTRY, replace(rich(), made_by="0.0.1", crash=Crash(), sentence="nobody knew"))
    assert show(ctx) == 0
    assert capsys.readouterr().out.startswith("Kernel 6.17.8-arch1-1 died of a null pointer access")
    kept = reports.load(ctx, ENTRY)
    assert kept is not None and kept.made_by == __version__ and kept.crash == CRASH
    assert kept.verification == VERIFICATION and kept.vmcore == VMCORE


def test_who_is_not_root_keeps_nothing(ctx: Context, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert show(ctx) == 0
    assert not (root / HOME[1:] / "report.json").exists()


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"version": 7}', b"[" * 100_000])
def test_a_kept_report_that_is_none_is_made_anew(
    ctx: Context, root: Path, data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(root, {f"{HOME}/report.json": data})
    assert show(ctx) == 0
    assert "died of a null pointer access" in capsys.readouterr().out
    assert reports.load(ctx, ENTRY) is not None


def test_a_report_that_cannot_be_kept_is_shown(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise KdumpError("/var/crash: no room")

    monkeypatch.setattr(fs, "write_atomic", full)
    assert show(ctx) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Kernel") and "the report is not kept: /var/crash: no room" in err


def test_json(ctx: Context, capsys: pytest.CaptureFixture[str]) -> None:
    reports.keep(ctx, ENTRY, rich())
    assert show(ctx, as_json=True) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["version"] == 1 and value["crash"]["where"]["function"] == "nouveau_fence_update"
    assert value == json.loads(json.dumps(reports.told(rich())))


# --- the page ---


def test_a_page_is_for_its_owner(ctx: Context, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "crash.html"
    assert show(ctx, html=os.fspath(file)) == 0
    assert capsys.readouterr().out == f"==> {file}: written, for its owner alone\n"
    assert file.read_text().startswith("<!DOCTYPE html>")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_keeps_its_mode(ctx: Context, tmp_path: Path) -> None:
    file = tmp_path / "crash.html"
    file.write_text("old")
    file.chmod(0o644)
    assert show(ctx, html=os.fspath(file)) == 0
    assert file.read_text().startswith("<!DOCTYPE html>")
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_device_is_not_replaced(ctx: Context, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KdumpError, match="no regular file"):
        show(ctx, html=os.fspath(tmp_path / "pipe"))


def test_a_page_to_standard_output(ctx: Context, capsys: pytest.CaptureFixture[str]) -> None:
    assert show(ctx, html="-") == 0
    assert capsys.readouterr().out.endswith("</html>\n")


# --- what can't be read ---


def test_an_encrypted_dump_says_what_its_meta_says(
    ctx: Context, found: Found, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / HOME[1:] / "dmesg.txt").unlink()
    found(replace(ENCRYPTED, release=""))
    assert show(ctx) == 0
    out = capsys.readouterr().out
    assert out.startswith("Kernel 6.17.8-arch1-1 crashed; what of, is encrypted.\n")
    assert f"kdump-pkg decrypt {ID} --identity KEY-FILE" in out
    assert (root / HOME[1:] / "report.json").exists()


def test_what_was_decrypted_is_told_and_not_kept(
    ctx: Context, found: Found, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Encrypted stays encrypted: a report of it would go to wherever reports go."""
    reports.keep(ctx, ENCRYPTED, reports.make(ctx, ENCRYPTED))
    before = (root / HOME[1:] / "report.json").read_bytes()
    found(replace(ENCRYPTED, log=f"{HOME}/dmesg.txt"))
    assert show(ctx) == 0
    assert "died of a null pointer access" in capsys.readouterr().out
    assert (root / HOME[1:] / "report.json").read_bytes() == before
    with pytest.raises(KdumpError, match="is encrypted"):
        reports.keep(ctx, ENCRYPTED, rich())


def test_a_dump_of_another_machine(
    ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Named by its path, and no dump of ours: what is installed here has nothing to do with it."""
    log = "[2026-11-20T07:00:00+0000] [ALPM] upgraded linux (6.17.7.arch1-1 -> 6.17.8.arch1-1)\n"
    dmi = "/sys/class/dmi/id"
    make_tree(root, {"/var/log/pacman.log": log, f"{dmi}/sys_vendor": "DELL\n", f"{dmi}/product_name": "X  1\n"})
    assert reports.make(ctx, ENTRY).owners[0].package == "linux"
    monkeypatch.setattr(catalogue, "read", lambda ctx, config: ())
    report = reports.make(ctx, ENTRY)
    assert report.owners == () and report.machine == ()
    make_tree(root, {f"{dmi}/sys_vendor": "LENOVO\n", f"{dmi}/product_name": " 21CB000HGE\n"})
    assert reports.make(ctx, ENTRY).owners[0].package == "linux"


def test_a_dump_without_a_log(ctx: Context, found: Found, capsys: pytest.CaptureFixture[str]) -> None:
    found(replace(ENTRY, log="", vmcore=""))
    assert show(ctx) == 0
    out = capsys.readouterr().out
    assert out.startswith("Kernel 6.17.8-arch1-1 crashed; there is no log that says what of.\n")
    assert "No log was saved" in out


def test_a_log_that_can_be_had_by_now(ctx: Context, found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    """makedumpfile was installed since; as long as it isn't, the report that is kept stays the same file."""
    found(replace(ENTRY, log=""))
    monkeypatch.setattr(crashed, "make_dmesg", lambda *_: None)
    assert show(ctx) == 0
    kept = ctx.path(f"{HOME}/report.json")
    before = kept.stat().st_ino
    assert show(ctx) == 0
    assert kept.stat().st_ino == before
    monkeypatch.setattr(crashed, "make_dmesg", lambda *_: b"Oops")
    assert show(ctx) == 0
    assert json.loads(kept.read_text())["has_log"]


def test_the_log_in_the_memory_will_do(
    ctx: Context, root: Path, found: Found, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with the ArchWiki's recipe, which saves nothing else."""

    def dump(call: object) -> int:
        Path(runner.calls[-1].argv[-1]).write_bytes(b"Oops")
        return 0

    runner.answers["prlimit"] = dump
    make_tree(root, {f"{HOME}/vmcore": b"KDUMP"})
    found(replace(ENTRY, log="", maker="ArchWiki"))
    assert show(ctx) == 0
    assert "died of a null pointer access" in capsys.readouterr().out


def test_a_link_in_the_place_of_a_log_is_none(
    ctx: Context, root: Path, found: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    make_tree(root, {"/etc/secret": b"Oops", f"{HOME}/log": Link("/etc/secret")})
    found(replace(ENTRY, log=f"{HOME}/log", vmcore=""))
    assert show(ctx) == 0
    assert "there is no log" in capsys.readouterr().out


def test_a_damaged_configuration_stops_no_report(ctx: Context, root: Path) -> None:
    """`collect` makes reports after a crash whatever the configuration is by then."""
    make_tree(root, {"/etc/kdump-pkg.conf": "kernel = [\nnonsense\n"})
    with pytest.raises(KdumpError):
        config.load(ctx)
    assert reports.make(ctx, ENTRY).crash == CRASH


def test_other_dumps_can_be_handed_over(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "read", lambda ctx, config: pytest.fail("read again"))
    others = (replace(ENTRY, id="other"), ENTRY)
    assert reports.make(ctx, ENTRY, others=others).seen == ("other",)
