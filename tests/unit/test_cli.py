"""The verbs on a fake root, and the boundary where errors become lines and exit codes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import get_args, get_type_hints

import jsonschema
import pytest

from kdump_pkg import __main__, cli, facts, fs, paths, reconcile, variant
from kdump_pkg.apply.images import BuildError
from kdump_pkg.cli.variant import ACTIONS, BELONGS
from kdump_pkg.context import Context
from kdump_pkg.errors import ConfigError, KdumpError
from kdump_pkg.model import Config, Finding, Loaded
from kdump_pkg.plan.rebuild import Scope
from kdump_pkg.plan.status import Status
from kdump_pkg.run import SystemRunner
from tests import docs
from tests.docs import flags, verbs
from tests.fakes import FakeRunner, Link, make_tree, snapshot, system_runner, system_tree
from tests.unit.test_plan_status import FAILURES, status

IMAGE = f"/boot/{paths.IMAGE_NAME}"


@pytest.fixture
def system(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> FakeRunner:
    """A whole root; nothing was done on it yet."""
    make_tree(root, system_tree())
    runner = system_runner(root)
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: runner(*args, **kwargs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return runner


def test_rebuild_then_nothing_to_do(system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rebuild", "--root", str(root)]) == 0
    assert (
        "==> building /boot/initramfs-linux-kdump.img for 6.12.1-arch1-1 (direct, mkinitcpio)"
        in capsys.readouterr().out
    )
    for name in (paths.DERIVED_CONFIG, paths.PRESET, paths.CAPTURE_ENV, IMAGE, paths.KERNEL_CACHE, paths.DEBUG_RECORD):
        assert (root / name.lstrip("/")).is_file(), name
    before = snapshot(root)
    system.calls.clear()
    assert cli.main(["rebuild", "--root", str(root)]) == 0
    assert snapshot(root) == before
    assert [c.argv[0] for c in system.calls] == ["/bin/bash"]  # not one image unpacked, nothing built


def test_dry_run_changes_nothing(system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(root)
    assert cli.main(["rebuild", "--dry-run", "--root", str(root)]) == 0
    assert snapshot(root) == before
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 6
    assert out[0] == f"writing {paths.CAPTURE_ENV}: not there yet"
    assert cli.main(["rebuild", "--root", str(root)]) == 0
    done = [line.removeprefix("==> ") for line in capsys.readouterr().out.splitlines()]
    assert done == out  # what it says is what is done
    assert cli.main(["rebuild", "--dry-run", "--root", str(root)]) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_dry_run_needs_no_privilege(
    system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["rebuild", "--dry-run", "--root", str(root)]) == 0
    assert cli.main(["status", "--root", str(root)]) == 3
    capsys.readouterr()
    assert cli.main(["rebuild", "--root", str(root)]) == 1
    assert capsys.readouterr().err == "==> ERROR: only root can do this (run it with sudo)\n"


@pytest.mark.parametrize("verb", ["rebuild", "status"])
def test_json(system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    cli.main(["rebuild", "--root", str(root)])
    capsys.readouterr()
    code = cli.main([verb, "--json", "--root", str(root)])
    value = json.loads(capsys.readouterr().out)
    if verb == "rebuild":
        assert (code, value) == (0, {"actions": [], "failures": [], "warnings": []})
    else:
        assert code == 3  # the unit is not enabled
        assert value["version"] == 2
        assert value["armed"] is None
        assert {f["part"] for f in value["findings"]} >= {"image", "preset", "kdump.service"}


SCHEMA = json.loads((docs.REPO / "man/status.schema.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("config", ["", "nonsense\n"], ids=["fresh", "bad configuration"])
def test_json_of_status_is_as_it_is_documented(
    system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str], config: str
) -> None:
    make_tree(root, {paths.CONFIG: config} if config else {})
    assert cli.main(["status", "--json", "--root", str(root)]) == 3
    value = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(value, SCHEMA, jsonschema.Draft202012Validator)
    assert value["todo"] is True


@pytest.mark.parametrize("name", FAILURES)
def test_json_of_every_finding_is_as_it_is_documented(
    name: str, system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    have, health, *_ = FAILURES[name]
    monkeypatch.setattr(reconcile, "read_status", lambda *_: status(have, health=health))
    code = cli.main(["status", "--json", "--root", str(root)])
    value = json.loads(capsys.readouterr().out)
    jsonschema.validate(value, SCHEMA, jsonschema.Draft202012Validator)
    assert code == (3 if value["todo"] else 0)


def test_the_schema_knows_all_states() -> None:
    states = SCHEMA["$defs"]["finding"]["properties"]["state"]["enum"]
    assert states == list(get_args(get_type_hints(Finding)["state"]))
    wrong = {"version": 2, "verdict": "x", "armed": True, "todo": False, "findings": [{"part": "x", "state": "fine"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA, jsonschema.Draft202012Validator)


def test_status_in_words(
    system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The verdict, a line for each part, and what is to be done, each thing once; advice stands where it belongs."""
    findings = (
        Finding("a", "ok", "fine", evidence="/proc/a"),
        Finding("bb", "ok", "/proc/b is fine", evidence="/proc/b"),
        Finding("cc", "ok", "fine (at last)", evidence="/proc/c"),
        Finding("c", "note", "could be better", "do it", "c = 0"),
        Finding("c", "note", "x" * 80, "do it", "where there is no more room for it"),
        Finding("d", "unknown", "can't be seen", "run it as root"),
        Finding("e", "todo", "missing", "make it", "/e"),
        Finding("f", "bad", "broken", "make it"),
    )
    monkeypatch.setattr(reconcile, "read_status", lambda *_: Status(False, "not armed", findings))
    assert cli.main(["status", "--root", str(root)]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "not armed",
        "  a   ok       fine (/proc/a)",
        "  bb  ok       /proc/b is fine",
        "  cc  ok       fine (at last; /proc/c)",
        "  c   note     could be better (c = 0): do it",
        f"  c   note     {'x' * 80}: do it",
        "  d   unknown  can't be seen: run it as root",
        "  e   todo     missing (/e)",
        "  f   bad      broken",
        "  to do: make it",
    ]


def test_anybody_is_told_what_only_root_can_see(
    system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["status", "--root", str(root)]) == 3
    said = [line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("privileges")]
    assert len(said) == 1 and said[0].endswith(": run it as root")


@pytest.mark.parametrize("flag", [["--force"], ["--dry-run"], []])
def test_rebuild_json_is_json_and_nothing_else(
    system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str], flag: list[str]
) -> None:
    assert cli.main(["rebuild", "--json", "--root", str(root), *flag]) == 0
    assert json.loads(capsys.readouterr().out)["actions"]


def test_status_is_0_when_nothing_is_to_do(system: FakeRunner, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wants = "/etc/systemd/system/multi-user.target.wants"
    make_tree(root, {f"{wants}/kdump.service": Link("/x"), f"{wants}/kdump-pkg-collect.service": Link("/x")})
    cli.main(["rebuild", "--root", str(root)])
    capsys.readouterr()
    assert cli.main(["status", "--root", str(root)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("everything is ready to be loaded")
    assert "to do:" not in out


def test_status_reads_only(system: FakeRunner, root: Path) -> None:
    before = snapshot(root)
    cli.main(["status", "--root", str(root)])
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["rebuild", "--nonsense"],
        ["rebuild", "extra"],
        ["status", "--roo", "/"],
        ["load", "--root", "/"],
        ["variant"],
        ["variant", "nonsense"],
        ["variant", "status", "--force"],
        ["variant", "build", "--yes"],
        ["variant", "build", "--json"],
        ["variant", "remove", "--automatic"],
        ["variant", "build", "--debug-kernel", "--force"],
    ],
)
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert "usage: kdump-pkg" in capsys.readouterr().err


def test_a_flag_of_another_action_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["variant", "--force", "status"])
    line = "kdump-pkg variant: error: --force goes with `variant build`, not with `variant status`\n"
    assert capsys.readouterr().err.endswith(line)
    assert set(BELONGS) == flags(verbs()["variant"]) - {"--help", "--debug"}
    assert set(BELONGS.values()) == set(ACTIONS)


@pytest.mark.parametrize(
    ("argv", "called"),
    [
        (["status"], ("show", {"as_json": False})),
        (["--json", "status"], ("show", {"as_json": True})),
        (["build"], ("build", {"automatic": False, "force": False})),
        (["build", "--automatic"], ("build", {"automatic": True, "force": False})),
        (["build", "--force"], ("build", {"automatic": False, "force": True})),
        (["build", "--debug-kernel"], ("build_debug_kernel", {})),
        (["remove", "--yes"], ("remove", {"yes": True})),
    ],
)
def test_actions_of_variant(
    argv: list[str],
    called: tuple[str, dict[str, bool]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said: list[tuple[str, dict[str, bool]]] = []

    def answer(name: str) -> Callable[..., int]:
        def act(ctx: Context, **given: bool) -> int:
            said.append((name, given))
            return 0

        return act

    for name in ("show", "build", "build_debug_kernel", "remove"):
        monkeypatch.setattr(variant, name, answer(name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.main(["variant", *argv]) == 0
    assert said == [called]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["variant", *argv]) == (0 if called[0] == "show" else 1)
    assert ("only root can do this" in capsys.readouterr().err) == (called[0] != "show")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KdumpError("what failed", hint="do this"), "==> ERROR: what failed (do this)\n"),
        (OSError(28, "No space left", "/x"), "==> ERROR: /x: No space left (free some space and run it again)\n"),
        (OSError("odd"), "==> ERROR: kdump-pkg: odd\n"),
        (KeyboardInterrupt(), "==> ERROR: interrupted; what was there stays\n"),
        (ModuleNotFoundError("x", name="elftools.elf"), "python-pyelftools"),
        (ConfigError(("a:1: one", "a:2: two")), "==> ERROR: a:1: one\n==> ERROR: a:2: two (correct"),
    ],
)
def test_errors_are_lines(
    error: BaseException, line: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(cli, "_context", fail)
    assert cli.main(["status"]) == 1
    assert line in capsys.readouterr().err
    if isinstance(error, Exception):
        cli.main(["status", "--debug"])
        assert "Traceback" in capsys.readouterr().err


def test_a_root_that_is_a_loop_of_links(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert cli.main(["list", "--root", str(tmp_path / "loop")]) == 1
    assert "loop: not a directory (--root takes" in capsys.readouterr().err


def test_a_root_without_a_name_is_not_this_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prune", "--root", ""]) == 1
    assert "an empty word: not a directory" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["report", "--html"], ["export", "x"]])
def test_a_file_that_can_be_none(
    argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No directory is made for it: its name is mistyped."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cli.main([*argv, str(tmp_path / "no" / "x")]) == 1
    assert f"there is no directory {tmp_path}/no (make it, or name another file)" in capsys.readouterr().err
    assert cli.main([*argv, str(tmp_path)]) == 1
    assert f"{tmp_path}: a directory (name the file to write)" in capsys.readouterr().err
    assert not list(tmp_path.glob("no"))


def test_reader_that_went_away(system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`kdump-pkg status | head -1`"""
    done: list[int] = []

    def gone(text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("kdump_pkg.ui.out", gone)
    monkeypatch.setattr(os, "dup2", lambda a, b: done.append(b))
    assert cli.main(["status", "--root", str(root)]) == 1
    assert done == [1]


@pytest.mark.parametrize(
    ("argv", "where"), [(["hook", "x"], "kdump_pkg.hook.main"), (["status"], "kdump_pkg.cli.main")]
)
def test_entry_point(argv: list[str], where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("sys.argv", ["kdump-pkg", *argv])

    def record(args: list[str]) -> int:
        seen.append(args)
        return 7

    monkeypatch.setattr(where, record)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    assert __main__.run() == 7
    assert [s.errors for s in streams] == ["backslashreplace"] * 2  # an old locale is no reason to fail
    assert seen == [argv[1:] if argv[0] == "hook" else argv]


# --- reconcile ----------------------------------------------------------------------------------------------------


def test_plan_and_execution_share_the_lock(system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts are read under it too: hook and user never act on what the other has just changed."""
    ctx = Context(root=root)
    held: list[bool] = []

    def collect(*args: object) -> object:
        with pytest.raises(KdumpError, match="another kdump-pkg"), fs.lock(root / "run/kdump-pkg.lock"):
            pytest.fail("not held")
        held.append(True)
        return facts.collect(ctx, Config())

    monkeypatch.setattr("kdump_pkg.reconcile.collect", collect)
    reconcile.rebuild(ctx, Config(), Scope(), lambda text: None)
    assert held == [True]


def test_busy(
    system: FakeRunner, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reconcile, "WAIT", 0)
    with fs.lock(root / "run/kdump-pkg.lock"):
        before = snapshot(root)
        assert cli.main(["rebuild", "--root", str(root)]) == 1
        assert snapshot(root) == before
    assert capsys.readouterr().err == "==> ERROR: another kdump-pkg is at work (wait until it is done and try again)\n"


def test_failures_are_in_the_outcome(system: FakeRunner, root: Path) -> None:
    system.answers["mkinitcpio"] = 1
    outcome = reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    assert not outcome.good
    assert isinstance(outcome.failures[0], BuildError)
    assert (root / "usr/lib/debug/lib/modules/6.12.1-arch1-1/vmlinux").exists()  # the rest is done all the same


def test_interrupted_run_is_mended(system: FakeRunner, root: Path) -> None:
    """Whatever a killed run left: parts of the texts, temporary files, an image of another state."""
    reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    good = snapshot(root)
    for name in (paths.CAPTURE_ENV, paths.PRESET, paths.KERNEL_CACHE, IMAGE):
        (root / name.lstrip("/")).unlink()
    make_tree(root, {"/boot/.kdump-pkg-77-x": "half", f"{paths.STATE}/.kdump-pkg-77-y": "half"})
    reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    now = snapshot(root)
    assert set(now) == set(good)
    assert all(now[name][2] == good[name][2] for name in good)


def test_remove_leaves_nothing_but_what_is_the_users(system: FakeRunner, root: Path) -> None:
    before = set(snapshot(root))
    reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    make_tree(root, {"/var/crash/x/vmcore": "dump", "/var/crash/x/meta": "release=1\n"})
    reconcile.remove(Context(root=root), lambda text: None)
    left = set(snapshot(root)) - before
    assert left == {"etc/mkinitcpio.d", "var/crash/x", "var/crash/x/vmcore", "var/crash/x/meta"}


def test_remove_keeps_edited_files(system: FakeRunner, root: Path) -> None:
    reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    preset = root / paths.PRESET.lstrip("/")
    preset.write_text(preset.read_text() + "kdump_options=(-v)\n")
    outcome = reconcile.remove(Context(root=root), lambda text: None)
    assert preset.exists()
    assert outcome.plan.warnings == (f"{paths.PRESET} was edited and stays",)


def test_remove_with_a_bad_configuration(system: FakeRunner, root: Path) -> None:
    reconcile.rebuild(Context(root=root), Config(), Scope(), lambda text: None)
    make_tree(root, {paths.CONFIG: "nonsense\n"})
    reconcile.remove(Context(root=root), lambda text: None)
    assert not (root / IMAGE.lstrip("/")).exists()


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_only_on_the_host(
    verb: str, root: Path, system: FakeRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have no --root; in a chroot they refuse."""
    monkeypatch.setattr(cli, "_context", lambda args: Context(root=root))
    make_tree(root, {paths.LOADED: json.dumps(asdict(Loaded("1", "2", "3", "4", "-s")))})
    assert cli.main([verb]) == 1
    assert "run it on the host" in capsys.readouterr().err
    assert not system.lines("kexec")
