"""`setup` carried out: a fault at every step leaves what was there, and what was killed can be taken back."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import fs, paths
from kdump_pkg.apply import setup as stage
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.results import read_files
from kdump_pkg.facts.state import read_units
from kdump_pkg.model.bootloader import Loader, Result, ResultLine
from kdump_pkg.model.setup import Change, SetupPlan, dump, load
from kdump_pkg.plan.reservation import Amount, Here, lacking, plan_setup
from kdump_pkg.plan.undo import Now, plan_undo
from tests.fakes import Answer, Call, FakeRunner, Link, make_tree
from tests.setups import CONFIG, DEFAULTS, ENTRIES, LIVE, MAKE, generate, read_entries, read_generating, read_result

AMOUNT = Amount(("256M",), True, ())
WANTED = [("256M",)]
WANTS = "/etc/systemd/system/multi-user.target.wants"
TREE = {
    DEFAULTS: "# mine\noptions root=x rw quiet\n",
    CONFIG: "# generated long ago\nlinux root=x rw quiet\n",
    f"{ENTRIES}/a.conf": "options root=x rw\n",
    f"{ENTRIES}/b.conf": "options root=x rw debug",
    WANTS: None,
    "/run/kdump-pkg.lock": "",
    paths.STATE: None,
}
Tree = dict[str, bytes | str]


def systemctl(root: Path) -> Callable[[Call], Answer]:
    """Enables by a link and disables by removing it; `Also=` of kdump.service takes its sister along."""

    def act(call: Call) -> Answer:
        assert call.argv[1] == f"--root={root}"
        verb, units = call.argv[2], set(call.argv[3:])
        if "kdump.service" in units:
            units.add("kdump-pkg-collect.service")
        for unit in units:
            link = root / WANTS.lstrip("/") / unit
            link.unlink(missing_ok=True)
            if verb == "enable":
                link.symlink_to(f"/usr/lib/systemd/system/{unit}")
        return 0

    return act


@pytest.fixture
def ctx(ctx: Context, root: Path, runner: FakeRunner) -> Context:
    make_tree(root, TREE)
    runner.answers |= {"systemctl": systemctl(root), MAKE[0]: lambda call: generate(ctx)}
    return ctx


def contents(root: Path) -> Tree:
    """All files and links; of the lock nothing."""
    found: Tree = {}
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            found[os.fspath(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes()  # noqa: PTH115
    return found


def prepared(ctx: Context, loader: Loader | None, **here: Any) -> SetupPlan:
    assert loader
    recorded = ctx.read_bytes(paths.SETUP)
    found = Here(
        results={result: read_result(ctx, result) for result in loader.results},
        generated=read_files(ctx, loader.results),
        record=load(recorded) if recorded else None,
        recorded=recorded,
        units=read_units(ctx),
    )
    return plan_setup(loader, LIVE, AMOUNT, replace(found, **here))


def check(ctx: Context, plan: SetupPlan) -> Callable[[], str | None]:
    return lambda: lacking({result: read_result(ctx, result) for result in plan.results}, WANTED)


def reserve(ctx: Context, plan: SetupPlan) -> list[str]:
    said: list[str] = []
    stage.reserve(ctx, plan, check(ctx, plan), said.append)
    return said


def undo(ctx: Context, *read: Callable[[Context], Loader | None]) -> SetupPlan:
    recorded = ctx.read_bytes(paths.SETUP)
    assert recorded is not None
    record = load(recorded)
    loaders = tuple(loader for reader in read if (loader := reader(ctx)))
    generated: dict[str, dict[str, bytes | None]] = {}
    results: dict[str, dict[Result, tuple[ResultLine, ...] | None]] = {}
    for one in loaders:
        generated[one.name] = read_files(ctx, one.results)
        results[one.name] = {result: read_result(ctx, result) for result in one.results if result.kind == "uki"}
    files = {file.path: ctx.read_bytes(file.path) for file in record.files}
    now = Now(recorded, files, generated, results, units=read_units(ctx))
    plan = plan_undo(record, loaders, now)
    stage.undo(ctx, plan, lambda text: None)
    return plan


def test_all_of_it_and_back(ctx: Context, root: Path, runner: FakeRunner) -> None:
    first = contents(root)
    said = reserve(ctx, prepared(ctx, read_generating(ctx)))
    assert said == [
        f"writing {DEFAULTS}",
        f"running {' '.join(MAKE)}",
        "enabling kdump.service, kdump-pkg-collect.service",
    ]
    assert (root / DEFAULTS[1:]).read_text() == "# mine\noptions root=x rw quiet crashkernel=256M\n"
    assert b"crashkernel=256M" in (root / CONFIG[1:]).read_bytes()
    record = root / paths.SETUP[1:]
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert all(read_units(ctx).values())
    runner.calls.clear()
    plan = undo(ctx, read_generating)
    assert not runner.lines(MAKE[0])  # the first bytes are known: nothing has to be generated
    assert [change.path for change in plan.restored] == [CONFIG]
    assert contents(root) == first


def test_entries_need_no_program(ctx: Context, root: Path, runner: FakeRunner) -> None:
    first = contents(root)
    reserve(ctx, prepared(ctx, read_entries(ctx), units={}))
    assert not runner.calls
    assert (root / f"{ENTRIES[1:]}/b.conf").read_bytes() == b"options root=x rw debug crashkernel=256M"
    undo(ctx, read_entries)
    assert contents(root) == first


def test_one_boot_loader_after_another(ctx: Context, root: Path) -> None:
    first = contents(root)
    reserve(ctx, prepared(ctx, read_generating(ctx)))
    reserve(ctx, prepared(ctx, read_entries(ctx)))
    assert sum(b"crashkernel" in data for data in contents(root).values() if isinstance(data, bytes)) == 4
    undo(ctx, read_generating, read_entries)
    assert contents(root) == first


def test_only_the_units_that_we_enabled(ctx: Context, root: Path, runner: FakeRunner) -> None:
    make_tree(root, {f"{WANTS}/kdump-pkg-collect.service": Link("/usr/lib/systemd/system/kdump-pkg-collect.service")})
    first = contents(root)
    reserve(ctx, prepared(ctx, read_entries(ctx)))
    assert runner.lines("systemctl") == [f"systemctl --root={root} enable kdump.service"]
    undo(ctx, read_entries)
    assert contents(root) == first  # disabling takes the other one along by `Also=`, so it is put back


def test_live_units(root: Path, runner: FakeRunner) -> None:
    assert stage.systemctl(Context(), "enable", ["x"]) == ["systemctl", "enable", "x"]


# --- faults -------------------------------------------------------------------------------------------------------


class Faults:
    """Counts the steps that can fail, and lets the one at `at` fail, once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runner: FakeRunner, error: BaseException) -> None:
        self.at, self.seen, self.error = -1, 0, error
        for name in ("rewrite", "write_atomic", "remove"):
            monkeypatch.setattr(fs, name, self._wrapped(getattr(fs, name)))
        runner.answers = {name: self._answer(answer) for name, answer in runner.answers.items()}

    def _step(self) -> None:
        self.seen += 1
        if self.seen - 1 == self.at:
            raise self.error

    def _wrapped(self, real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            self._step()
            real(*args)

        return call

    def _answer(self, answer: Any) -> Callable[[Call], Answer]:
        def call(one: Call) -> Answer:
            self._step()
            return answer(one)  # type: ignore[no-any-return]

        return call


@pytest.mark.parametrize(
    "error", [KdumpError("no room", hint="make some"), KeyboardInterrupt()], ids=["fault", "ctrl-c"]
)
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
def test_a_fault_at_every_step(
    ctx: Context, root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, error: BaseException, second: bool
) -> None:
    change = Change(paths.SYSCTL, None, b"x\n")
    if second:
        reserve(ctx, prepared(ctx, read_entries(ctx), units={}))
    first = contents(root)
    faults = Faults(monkeypatch, runner, error)
    done = False
    steps = 0
    while not done:
        plan = prepared(ctx, read_generating(ctx), sysctl=change)
        faults.seen, faults.at = 0, steps
        try:
            reserve(ctx, plan)
            done = True
        except KdumpError as raised:
            assert raised.message == "no room; nothing was changed"
            assert raised.hint == "make some"
        except KeyboardInterrupt:
            pass
        faults.at = -1
        if not done:
            assert contents(root) == first, steps
            steps += 1
    assert steps == 7  # record, file, program, sysctl (a new file: two calls), units, record


def test_what_did_not_come_through_is_taken_back(ctx: Context, root: Path, runner: FakeRunner) -> None:
    first = contents(root)
    runner.answers[MAKE[0]] = lambda call: (root / CONFIG[1:]).write_text("linux root=x rw\n") and 0
    with pytest.raises(KdumpError) as caught:
        reserve(ctx, prepared(ctx, read_generating(ctx)))
    said = f"crashkernel=256M did not come to the entry Arch Linux of {CONFIG}; nothing was changed"
    assert caught.value.message == said
    assert contents(root) == first


def test_a_program_that_fails_or_is_not_there(ctx: Context, root: Path, runner: FakeRunner) -> None:
    first = contents(root)
    runner.answers[MAKE[0]] = 1
    with pytest.raises(KdumpError, match=r"toy-mkconfig -o \S+ failed, exit code 1; nothing was changed"):
        reserve(ctx, prepared(ctx, read_generating(ctx)))
    del runner.answers[MAKE[0]]
    with pytest.raises(KdumpError, match="toy-mkconfig: not found; nothing was changed") as caught:
        reserve(ctx, prepared(ctx, read_generating(ctx)))
    assert caught.value.hint == "install it: pacman -S toy-mkconfig"
    assert contents(root) == first


def test_what_a_program_made_besides_goes(ctx: Context, root: Path, runner: FakeRunner) -> None:
    first = contents(root)

    def make(call: Call) -> Answer:
        (root / f"{ENTRIES[1:]}/new.conf").write_text("options rw\n")
        (root / f"{ENTRIES[1:]}/a.conf").unlink()
        (root / f"{ENTRIES[1:]}/.hidden.conf").write_text("")
        return 1

    runner.answers[MAKE[0]] = make
    loader = read_generating(ctx, results=(Result(ENTRIES, "entries"),))
    with pytest.raises(KdumpError):
        reserve(ctx, prepared(ctx, loader))
    (root / f"{ENTRIES[1:]}/.hidden.conf").unlink()
    assert contents(root) == first


def test_images_are_made_anew(ctx: Context, root: Path, runner: FakeRunner) -> None:
    """Their bytes aren't kept: they are large, and what makes them is there."""
    first = contents(root)

    def read(ctx: Context) -> Loader | None:
        return read_generating(ctx, kind="uki", name="uki")

    runner.answers["systemctl"] = 1
    with pytest.raises(KdumpError, match=r"systemctl .* failed, exit code 1.*nothing was changed"):
        reserve(ctx, prepared(ctx, read(ctx)))
    assert len(runner.lines(MAKE[0])) == 2
    made = {**first, CONFIG[1:]: b"# generated\nlinux root=x rw quiet\n"}
    assert contents(root) == made
    runner.answers["systemctl"] = systemctl(root)
    reserve(ctx, prepared(ctx, read(ctx)))
    undo(ctx, read)
    assert contents(root) == made


def test_what_can_not_be_put_back_is_said(ctx: Context, root: Path, runner: FakeRunner) -> None:
    runs: list[int] = []

    def make(call: Call) -> Answer:
        runs.append(generate(ctx))
        return len(runs) - 1

    runner.answers |= {MAKE[0]: make, "systemctl": 1}
    with pytest.raises(KdumpError) as caught:
        reserve(ctx, prepared(ctx, read_generating(ctx, kind="uki")))
    assert "the images could not be put back: toy-mkconfig" in caught.value.message
    assert "nothing was changed" not in caught.value.message
    assert caught.value.hint == stage.UNDO
    assert (root / paths.SETUP[1:]).exists()  # so that it can be undone


def test_changed_while_somebody_was_asked(ctx: Context, root: Path) -> None:
    plan = prepared(ctx, read_generating(ctx))
    (root / DEFAULTS[1:]).write_text("options mine\n")
    first = contents(root)
    with pytest.raises(KdumpError, match=f"{DEFAULTS} was changed meanwhile; nothing was done"):
        reserve(ctx, plan)
    assert contents(root) == first
    plan = prepared(ctx, read_generating(ctx))
    reserve(ctx, prepared(ctx, read_entries(ctx)))
    with pytest.raises(KdumpError, match=f"{paths.SETUP} was changed meanwhile"):
        reserve(ctx, plan)
    (root / DEFAULTS[1:]).unlink()
    with pytest.raises(KdumpError, match=f"{DEFAULTS} was changed meanwhile"):
        reserve(ctx, replace(plan, recorded=ctx.read_bytes(paths.SETUP)))


def test_a_file_that_the_user_changes_meanwhile_is_not_rolled_back(
    ctx: Context, root: Path, runner: FakeRunner
) -> None:
    def make(call: Call) -> Answer:
        (root / DEFAULTS[1:]).write_text("options theirs\n")
        return 1

    runner.answers[MAKE[0]] = make
    with pytest.raises(KdumpError):
        reserve(ctx, prepared(ctx, read_generating(ctx)))
    assert (root / DEFAULTS[1:]).read_text() == "options theirs\n"


@pytest.mark.parametrize("step", range(6))
def test_an_undo_that_fails_can_be_repeated(
    ctx: Context, root: Path, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    first = contents(root)
    reserve(ctx, prepared(ctx, read_generating(ctx)))
    reserve(ctx, prepared(ctx, read_entries(ctx)))
    faults = Faults(monkeypatch, runner, KdumpError("no room"))
    faults.at = step
    with pytest.raises(KdumpError, match="no room"):
        undo(ctx, read_generating, read_entries)
    faults.at = -1
    undo(ctx, read_generating, read_entries)
    assert contents(root) == first
    assert faults.seen > step


def test_unreadable(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc/directory": None})
    assert stage.read(ctx, "/etc/no") is None
    with pytest.raises(KdumpError, match="can't be read"):
        stage.read(ctx, "/etc/directory")


# --- the write ----------------------------------------------------------------------------------------------------


def test_rewrite_keeps_what_is_not_content(tmp_path: Path) -> None:
    make_tree(tmp_path, {"real": "old", "link": Link("real"), "d/loop": Link("loop")})
    (tmp_path / "real").chmod(0o640)
    fs.rewrite(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    fs.rewrite(tmp_path / "made" / "here", b"new")
    assert (tmp_path / "made" / "here").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "link", "made", "real"]
    with pytest.raises(KdumpError):
        fs.rewrite(tmp_path / "real" / "x", b"")


@dataclass(frozen=True)
class Facts:
    st_uid: int
    st_gid: int
    st_mode: int


def test_rewrite_gives_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where it differs: a file system without owners refuses."""
    given: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "fchown", lambda fd, uid, gid: given.append((uid, gid)))
    (tmp_path / "file").write_bytes(b"old")
    fs.rewrite(tmp_path / "file", b"new")
    assert given == []
    real = Path.stat
    owned = Facts(7, 8, 0o100600)
    monkeypatch.setattr(Path, "stat", lambda self, **k: owned if self.name == "file" else real(self, **k))
    fs.rewrite(tmp_path / "file", b"newer")
    assert given == [(7, 8)]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int], None]]:
    def fail(name: str, code: int) -> None:
        def call(*args: Any, **kwargs: Any) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, name, call)

    yield fail


@pytest.mark.parametrize("name", ["write", "fsync", "fchmod", "replace", "rename", "statvfs", "open"])
def test_rewrite_fails_whole(tmp_path: Path, failing: Callable[[str, int], None], name: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o644)
    failing(name, errno.ENOSPC)
    try:
        fs.rewrite(tmp_path / "file", b"new")
    except KdumpError as error:
        assert "free some space" in (error.hint or "")
    else:
        assert name in ("write", "replace", "rename")  # those that Python doesn't go through here
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_record_of_a_plan(ctx: Context) -> None:
    plan = prepared(ctx, read_generating(ctx))
    assert plan.record is not None
    assert load(dump(plan.record)) == plan.record
