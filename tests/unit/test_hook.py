"""What pacman starts: with hardly any Python left, without a terminal, in any locale, it works or says one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdump_pkg import hook, paths, reconcile
from kdump_pkg.context import Context
from kdump_pkg.plan.rebuild import Scope
from kdump_pkg.run import SystemRunner
from tests.fakes import (
    DEFAULTS,
    FakeRunner,
    kernel_tree,
    make_tree,
    snapshot,
    standard_input,
    system_runner,
    system_tree,
)

REPO = Path(__file__).resolve().parents[2]
IMAGE = f"boot/{paths.IMAGE_NAME}"

# In a Python of its own, without site-packages (-S): the hook on a root that takes itself for the running system.
DRIVER = """
import os, sys
from pathlib import Path
repo, root, verb, hidden = sys.argv[1:5]
sys.path.insert(0, repo)
sys.argv[1:] = ["hook", verb]
from kdump_pkg import context, fs
from kdump_pkg.__main__ import run
early = set(sys.modules)
sys.path[1:1] = [p for p in hidden.split(":") if p]
from tests.fakes import system_runner
ours = context.Context(root=Path(root), runner=system_runner(Path(root)))
import kdump_pkg.hook
for name in set(sys.modules) - early - {"kdump_pkg.hook"}:
    if name.split(".")[0] not in ("tests", "kdump_pkg"):
        del sys.modules[name]
context.Context = lambda: ours
code = run()
sys.stdout.flush()
report = os.environ.get("KDUMP_TEST_MODULES")
if report:
    Path(report).write_text("\\n".join(sorted(sys.modules)))
sys.exit(code)
"""


def start(
    root: Path,
    verb: str,
    *,
    stdin: int | bytes = b"usr/lib/modules/6.12.1-arch1-1/vmlinuz\n",
    env: dict[str, str] | None = None,
    hidden: Sequence[str] = (),
    close: Sequence[int] = (),
    report: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `kdump-pkg hook VERB`; HIDDEN are directories with modules that it may import after all."""
    argv = [sys.executable, "-I", "-S", "-B", "-c", DRIVER, os.fspath(REPO), os.fspath(root), verb, ":".join(hidden)]
    if close:
        shut = " ".join(f"{fd}>&-" if fd else "0<&-" for fd in close)
        argv = ["/bin/sh", "-c", f'exec "$@" {shut}', "sh", *argv]
    done = subprocess.run(
        argv,
        input=stdin if isinstance(stdin, bytes) else None,
        stdin=stdin if isinstance(stdin, int) else None,
        capture_output=True,
        env={
            "PATH": os.environ["PATH"],
            **(env or {}),
            **({"KDUMP_TEST_MODULES": os.fspath(report)} if report else {}),
        },
        timeout=60,
        check=False,
    )
    return subprocess.CompletedProcess(
        argv, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    )


@pytest.fixture
def system(root: Path) -> Path:
    """A root on which all is done, configuration and records included."""
    make_tree(root, system_tree())
    make_tree(root, {paths.CONFIG: "# all defaults\n"})
    reconcile.rebuild(Context(root=root, runner=system_runner(root)), DEFAULTS, Scope(), lambda s: None)
    return root


# --- import budget --------------------------------------------------------------------------------------------------

HEAVY = {
    "configobj", "validate", "elftools", "pyalpm", "argparse", "logging", "asyncio", "http", "email", "urllib.request",
    "unittest", "difflib", "textwrap", "importlib.metadata", "multiprocessing", "concurrent",
}  # fmt: skip

OF_A_BUILD = {
    "kdump_pkg.variant", "kdump_pkg.variant_build", "kdump_pkg.plan.variant_build", "kdump_pkg.facts.building",
    "kdump_pkg.model.building", "kdump_pkg.apply.package_build", "kdump_pkg.rehearsal", "kdump_pkg.model.health",
}  # fmt: skip


@pytest.mark.spawns
def test_standard_library_is_enough_where_nothing_is_to_do(system: Path, tmp_path: Path) -> None:
    """No site-packages at all, as right after an upgrade of Python: still all is checked, and exit code 0."""
    before = snapshot(system)
    for verb in ("preset", "rebuild"):
        done = start(system, verb, report=tmp_path / "modules")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        loaded = set((tmp_path / "modules").read_text().split())
        assert sorted(loaded & HEAVY) == []
        assert "kdump_pkg.cli" not in loaded
        assert not loaded & OF_A_BUILD, "whoever builds the variant may take his time, the hook may not"
    assert snapshot(system) == before


@pytest.mark.spawns
def test_deciding_imports_next_to_nothing() -> None:
    """Before the hook knows what is wanted it has cost no more than Python itself."""
    script = textwrap.dedent("""
        import sys
        before = set(sys.modules)
        sys.path.insert(0, sys.argv.pop())
        from kdump_pkg import hook
        assert hook.main(["nonsense"]) == 2
        print(*sorted(m for m in set(sys.modules) - before))
    """)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, os.fspath(REPO)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    extra = set(done.stdout.split())
    assert {name for name in extra if name.startswith("kdump_pkg")} == {"kdump_pkg", "kdump_pkg.hook"}
    assert not extra & {"re", "json", "pathlib", "subprocess", "dataclasses", "typing", "hashlib", *HEAVY}
    assert "usage: kdump-pkg hook preset|rebuild|remove" in done.stderr


# --- what may be missing --------------------------------------------------------------------------------------------


@pytest.mark.spawns
@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("configobj", {paths.CONFIG: "timeout = 60\n"}),
        ("elftools", {paths.KERNEL_CACHE: "{}\n"}),  # a kernel never seen before
    ],
)
def test_module_that_is_gone_is_one_line(system: Path, name: str, entries: dict[str, str]) -> None:
    make_tree(system, dict(entries))
    before = snapshot(system)
    first = start(system, "preset")  # 95 meets the same in the same transaction, and says it
    assert (first.returncode, first.stdout, first.stderr) == (0, "", "")
    done = start(system, "rebuild")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"==> ERROR: kdump-pkg: Python can't import {name}")
    assert "what is armed stays armed" in line
    assert "pacman -S python-" in line
    assert done.stdout == ""
    assert snapshot(system) == before


@pytest.mark.spawns
def test_broken_pyalpm_is_done_without(system: Path, tmp_path: Path) -> None:
    make_tree(tmp_path, {"broken/pyalpm.py": "raise OSError('libalpm.so.15: cannot open shared object file')\n"})
    done = start(system, "rebuild", hidden=[os.fspath(tmp_path / "broken")])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.spawns
def test_bad_configuration_keeps_what_is_armed(system: Path) -> None:
    import configobj

    make_tree(system, {paths.CONFIG: "timeout = soon\nfinal_action = explode\n"})
    before = snapshot(system)
    done = start(system, "rebuild", hidden=[os.fspath(Path(configobj.__file__).parents[1])])
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("==> ERROR: /etc/kdump-pkg.conf:1: timeout = 'soon'")
    assert second.startswith("==> ERROR: /etc/kdump-pkg.conf:2: ")
    assert "what is armed stays armed" in second
    assert snapshot(system) == before


@pytest.mark.spawns
def test_preset_refreshes_texts_only(system: Path) -> None:
    for name in (paths.PRESET, paths.DERIVED_CONFIG, f"/{IMAGE}"):
        (system / name.lstrip("/")).unlink()
    done = start(system, "preset")
    assert (done.returncode, done.stderr) == (0, "")
    assert (system / paths.PRESET.lstrip("/")).exists()
    assert (system / paths.DERIVED_CONFIG.lstrip("/")).exists()
    assert not (system / IMAGE).exists()
    assert start(system, "rebuild").returncode == 0
    assert (system / IMAGE).exists()


@pytest.mark.spawns
def test_remove(system: Path) -> None:
    done = start(system, "remove")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (system / IMAGE).exists()
    assert not (system / paths.STATE.lstrip("/")).exists()


# --- surroundings ---------------------------------------------------------------------------------------------------


@pytest.mark.spawns
@pytest.mark.parametrize(
    "env",
    [
        {},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "LANG": "de_DE@euro"},
        {"LANG": "xx_YY.nonsense", "LC_ALL": ""},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere"},
        {"TERM": "", "COLUMNS": "1"},
    ],
    ids=str,
)
def test_any_environment(system: Path, env: dict[str, str]) -> None:
    """A name that no old locale can hold must not be what ends it."""
    make_tree(system, {"/etc/.kdump-pkg-1-ümläut-\udcff": "left by a killed run"})
    done = start(system, "rebuild", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert "removing /etc/.kdump-pkg-1-" in done.stdout
    assert "\033" not in done.stdout
    assert not [p for p in (system / "etc").iterdir() if p.name.startswith(".kdump-pkg-")]


@pytest.mark.spawns
@pytest.mark.parametrize("close", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams(system: Path, close: tuple[int, ...]) -> None:
    (system / IMAGE).unlink()
    done = start(system, "rebuild", close=close)
    assert done.returncode == 0
    assert (system / IMAGE).exists()
    if 2 not in close:
        assert done.stderr == ""


def test_standard_input_is_read_to_its_end() -> None:
    """Else pacman would write into a pipe that nobody reads."""
    with standard_input(b"usr/lib/modules/x/vmlinuz\n" * 2000):
        hook._drain()
        assert os.read(0, 1) == b""


@pytest.mark.spawns
def test_many_targets(system: Path) -> None:
    done = start(system, "preset", stdin=b"usr/lib/modules/x/vmlinuz\n" * 40_000)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.spawns
def test_no_standard_input(system: Path) -> None:
    assert start(system, "preset", stdin=subprocess.DEVNULL).returncode == 0
    assert start(system, "preset", stdin=b"").returncode == 0


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["preset", "extra"], ["--help"]])
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert hook.main(argv) == 2
    assert capsys.readouterr().err == "usage: kdump-pkg hook preset|rebuild|remove\n"


# --- in this process: what is said -----------------------------------------------------------------------------------


@pytest.fixture
def inside(system: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    runner = system_runner(system)
    monkeypatch.setattr("kdump_pkg.context.Context", lambda: Context(root=system, runner=runner))
    monkeypatch.setattr(hook, "_drain", lambda: None)
    assert isinstance(SystemRunner(), SystemRunner)
    return runner


def test_voice_of_mkinitcpio(inside: FakeRunner, system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (system / IMAGE).unlink()
    assert hook.main(["rebuild"]) == 0
    out, err = capsys.readouterr()
    assert out == f"  -> building /{IMAGE} for 6.12.1-arch1-1 (direct, mkinitcpio): not there yet\n"
    assert err == ""


def test_failed_build_is_a_line_and_1(inside: FakeRunner, system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tree(system, {"/usr/lib/kdump-pkg/kdump-save": "new version"})
    old = (system / IMAGE).read_bytes()
    inside.answers["mkinitcpio"] = 1
    assert hook.main(["rebuild"]) == 1
    assert "what was there stays" in capsys.readouterr().err
    assert (system / IMAGE).read_bytes() == old


def test_obstacle_is_said_once_in_a_transaction(
    inside: FakeRunner, system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """89 and 95 meet the same; only the second says so, and neither fails the transaction."""
    (system / "etc/fstab").write_text("")
    assert hook.main(["preset"]) == 0
    assert capsys.readouterr().err == ""
    assert hook.main(["rebuild"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_kernel_removed_takes_its_preset_along(inside: FakeRunner, system: Path) -> None:
    """Before mkinitcpio's own hook runs `-P` over it."""
    import shutil

    shutil.rmtree(system / "usr/lib/modules")
    assert hook.main(["preset"]) == 0
    assert not (system / paths.PRESET.lstrip("/")).exists()
    assert (system / IMAGE).exists()  # what is armed stays armed


# --- the variant ------------------------------------------------------------------------------------------------------

SLIM = "6.12.0-kdump"


def follow(system: Path, *, version: str) -> None:
    """A variant that was built for this version of `linux`, and that nobody has tried."""
    built = {"release": SLIM, "build_id": "", "time": 1, "seconds": 1, "objects": 1}
    wanted = {"base": "linux", "version": version, "release": "6.12.0-arch1-1", "drivers": [], "reason": ""}
    home = f"{paths.MODULES}/{SLIM}"
    make_tree(system, kernel_tree(SLIM, None) | {f"{home}/modules.builtin": "kernel/fs/ext4/ext4.ko\n"})
    record = {"followed": True, "built": {**built, "wanted": wanted}, "trusted": {}}
    make_tree(system, {paths.VARIANT_RECORD: json.dumps(record)})


def test_an_upgrade_asks_for_a_build_once_and_waits_for_nothing(
    inside: FakeRunner, system: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    follow(system, version="6.12.0.arch1-1")
    assert hook.main(["preset"]) == 0
    assert json.loads((system / paths.VARIANT_RECORD.lstrip("/")).read_text()).get("wanted") is None
    capsys.readouterr()
    assert hook.main(["rebuild"]) == 0
    out, err = capsys.readouterr()
    told = "asking for a build of linux-kdump: linux is 6.12.1.arch1-1 now, the variant is of linux 6.12.0.arch1-1"
    assert f"  -> {told}\n" in out
    assert err == ""
    record = json.loads((system / paths.VARIANT_RECORD.lstrip("/")).read_text())
    assert (record["wanted"]["version"], record["followed"]) == ("6.12.1.arch1-1", True)
    assert not inside.lines("systemctl"), "this root is not the running system"
    before = snapshot(system)
    assert hook.main(["rebuild"]) == 0
    assert capsys.readouterr() == ("", "")
    assert snapshot(system) == before


@pytest.mark.parametrize("record", [b"noise", b"[]", b'{"followed": true, "built": {"wanted": 7}}', b"{" * 100_000])
def test_a_damaged_record_of_the_variant_stops_nothing(
    inside: FakeRunner, system: Path, capsys: pytest.CaptureFixture[str], record: bytes
) -> None:
    """The variant is as good as untried then: what captures is the stock kernel."""
    follow(system, version="6.12.1.arch1-1")
    make_tree(system, {paths.VARIANT_RECORD: record})
    (system / IMAGE).unlink()
    assert hook.main(["rebuild"]) == 0
    out, err = capsys.readouterr()
    assert f"building /{IMAGE} for 6.12.1-arch1-1" in out
    assert "Traceback" not in out + err
