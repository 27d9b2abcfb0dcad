"""Removing a dump: only what is of it, and at every instant it is whole, or says that it isn't, or is gone."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import cli, dumps, fs, paths, reconcile
from kdump_pkg.apply.prune import remove_dump
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.dumps import Place, read_dumps
from kdump_pkg.model import Config, Retention, TargetWish
from kdump_pkg.run import SystemRunner
from tests.fakes import FakeRunner, Link, make_tree, snapshot, system_tree

HOME = "/var/crash"
META = "format=1\nrelease=6.12.1\nresult=complete\n"
FILES = ("save.log", "dmesg.txt", "capture-dmesg.txt", "vmcore", "dmesg.txt.age", "report.txt")


@pytest.fixture(autouse=True)
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's audit event of `open` leaves out the directory's descriptor: the guard takes the current one for it."""
    monkeypatch.chdir(root)


def name(day: int) -> str:
    return f"2026-11-{day:02}T00-00-00Z-6.12.1"


NAME = name(23)


def tree(day: int, result: str = "complete") -> dict[str, Any]:
    home = f"{HOME}/{name(day)}"
    return {
        f"{home}/meta": META.replace("complete", result),
        **{f"{home}/{file}": bytes(4096) for file in FILES},
    }


def remove(ctx: Context, dump: str = NAME) -> list[str]:
    said: list[str] = []
    remove_dump(ctx, HOME, dump, said.append)
    return said


def names(ctx: Context) -> list[str]:
    return [dump.name for dump in read_dumps(ctx, HOME)]


def test_all_of_it_goes_and_nothing_else(ctx: Context, root: Path) -> None:
    make_tree(root, tree(22) | {f"{HOME}/lost+found": None, f"{HOME}/{NAME}.txt": "mine"})
    before = snapshot(root)
    make_tree(root, tree(23) | {f"{HOME}/{NAME}/.kdump-pkg-77-vmcore": "x", f"{HOME}/{NAME}/meta.new": "x"})
    assert remove(ctx) == []
    assert snapshot(root) == before


def test_what_others_put_there_stays(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc/passwd": "root"} | tree(23))
    home = root / "var/crash" / NAME
    (home / "vmcore").unlink()
    mine = {"notes.txt": "mine", "vmcore": Link("/etc/passwd"), "dmesg.txt.age": Link("meta"), "a\nb": "x"}
    (home / "dmesg.txt.age").unlink()
    make_tree(home, mine | {"vmcore.partial/x": "directory"})  # type: ignore[arg-type]
    said = remove(ctx)
    assert sorted(p.name for p in home.iterdir()) == ["a\nb", "dmesg.txt.age", "notes.txt", "vmcore", "vmcore.partial"]
    assert (root / "etc/passwd").read_text() == "root"
    assert said == [f"{HOME}/{NAME} stays, with what is not of the dump: 'a\\nb', dmesg.txt.age, notes.txt …"]
    assert names(ctx) == []  # it is theirs now
    with pytest.raises(KdumpError, match="no dump of kdump-pkg"):
        remove(ctx)


@pytest.mark.parametrize("bad", ["..", ".", "", "../crash", f"{NAME}/", "/etc", f"{NAME}\n", "other"])
def test_other_names_are_refused(ctx: Context, root: Path, bad: str) -> None:
    make_tree(root, tree(23) | {f"{HOME}/other/meta": META, "/var/meta": META})
    before = snapshot(root)
    with pytest.raises(KdumpError, match="no dump of kdump-pkg"):
        remove(ctx, bad)
    assert snapshot(root) == before


def test_changed_meanwhile(ctx: Context, root: Path) -> None:
    """Between plan and removal: pinned, exchanged for a link, gone."""
    make_tree(root, tree(22) | tree(23) | {f"{HOME}/{NAME}/pinned": ""})
    before = snapshot(root)
    with pytest.raises(KdumpError, match="pinned, left alone"):
        remove(ctx)
    assert snapshot(root) == before
    make_tree(root, {f"{HOME}/{name(24)}": Link(name(22))})
    before = snapshot(root)
    for gone in (name(24), name(25)):
        with pytest.raises(KdumpError, match="no dump of kdump-pkg"):
            remove(ctx, gone)
    assert snapshot(root) == before
    with pytest.raises(KdumpError, match="No such file"):
        remove_dump(ctx, "/nowhere", NAME, print)


def test_a_second_name_of_meta_keeps_its_content(ctx: Context, root: Path) -> None:
    """A backup by hard links."""
    make_tree(root, tree(23) | {"/backup": None})
    os.link(root / "var/crash" / NAME / "meta", root / "backup/meta")
    remove(ctx)
    assert (root / "backup/meta").read_text() == META


class Killed(BaseException):
    """The power goes off."""


STEPS = ("unlink", "rename", "rmdir", "open", "ftruncate", "write")


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException) -> Callable[[], bool]:
    """Let the operation number AT fail; afterwards tells whether it came to that."""
    count = 0

    def wrap(original: Callable[..., Any], step: str) -> Callable[..., Any]:
        def replacement(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if step != "open" or args[1] & (os.O_WRONLY | os.O_CREAT):
                count += 1
                if count == at:
                    raise error
            return original(*args, **kwargs)

        return replacement

    for step in STEPS:
        monkeypatch.setattr(os, step, wrap(getattr(os, step), step))
    return lambda: count >= at


def check_half_way(ctx: Context, root: Path, whole: set[str], *, gone_too: bool) -> None:
    found = {dump.name: dump for dump in read_dumps(ctx, HOME)}
    assert found[name(22)].complete
    home = root / "var/crash" / NAME
    if NAME not in found:  # only an empty directory, or nothing at all
        assert gone_too and (not home.exists() or not any(home.iterdir()))
    elif found[NAME].complete:
        assert whole <= {p.name for p in home.iterdir()}


@pytest.mark.parametrize("error", [Killed(), OSError(errno.EIO, "I/O error")])
def test_killed_at_any_step(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    steps = 0
    while True:
        steps += 1
        make_tree(root, tree(22))
        make_tree(root, tree(23))
        (root / "var/crash" / NAME / "meta").write_text(META)
        whole = {p.name for p in (root / "var/crash" / NAME).iterdir()}
        with monkeypatch.context() as patch:
            reached = interrupted(patch, steps, error)
            try:
                remove(ctx)
            except (Killed, KdumpError):
                assert reached()
        check_half_way(ctx, root, whole, gone_too=True)
        if not reached():
            break
        if NAME in names(ctx):
            remove(ctx)  # the next run finishes it
    assert steps > len(FILES) + 3
    assert names(ctx) == [name(22)]


def test_a_full_disk_is_no_obstacle(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new `meta` has no room: the old one is cut off where it is."""
    make_tree(root, tree(22) | tree(23))
    cut: list[str] = []
    write, truncate = os.write, os.ftruncate

    def cut_off(fd: int, length: int) -> None:
        truncate(fd, length)
        cut.append((root / "var/crash" / NAME / "meta").read_text())

    monkeypatch.setattr(os, "ftruncate", cut_off)
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    remove(ctx)
    assert cut == ["format=1\nrelease=6.12.1\n"]
    assert names(ctx) == [name(22)]


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def system(root: Path, monkeypatch: pytest.MonkeyPatch, guard: object) -> Path:
    """Five dumps, the third incomplete, on a system that keeps three."""
    make_tree(root, system_tree() | {"/etc/kdump-pkg.conf": "keep = 3\nkeep_free = 0\n"})
    for day in (1, 2, 3, 4, 5):
        make_tree(root, tree(day, "incomplete" if day == 3 else "complete"))
    runner = FakeRunner()
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, *args, **kwargs: runner(*args, **kwargs))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return root


def test_prune(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(system)
    argv = ["prune", "--root", str(system)]
    assert cli.main([*argv, "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert snapshot(system) == before
    size = (read_dumps(Context(system), HOME)[0].kib) / 1024
    assert planned == [f"removing the dump {HOME}/{name(day)} ({size:.1f} MiB): more than 3 dumps" for day in (3, 1)]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.splitlines() == [f"==> {line}" for line in planned]
    assert names(Context(system)) == [name(day) for day in (2, 4, 5)]
    for again in (argv, [*argv, "--dry-run"]):
        assert cli.main(again) == 0
        assert capsys.readouterr().out == "nothing to prune\n"


def test_prune_as_json(system: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--dry-run"], []):
        assert cli.main(["prune", "--root", str(system), "--json", *more]) == 0
        said = json.loads(capsys.readouterr().out)
        assert [d["name"] for d in said["dumps"]] == [name(3), name(1)]
        assert (said["dumps"][0]["directory"], said["failures"]) == (HOME, [])
    assert len(names(Context(system))) == 3


def test_prune_that_fails(system: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    assert cli.main(["prune", "--root", str(system)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"==> ERROR: {HOME}/{name(day)}: not removed: Read-only file system" for day in (3, 1)
    ]
    assert len(names(Context(system))) == 5


def test_only_root_prunes(system: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["prune", "--root", str(system), "--dry-run"]) == 1
    assert "only root can do this" in capsys.readouterr().err


def test_busy(ctx: Context, system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "WAIT", 0)
    with fs.lock(ctx.path(paths.LOCK)), pytest.raises(KdumpError, match="another kdump-pkg is at work"):
        dumps.prune(ctx, dry_run=False, as_json=False)
    assert len(names(ctx)) == 5


def test_two_targets_in_one_directory_are_one(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{HOME}/x": None, "/var/link": Link("crash"), "/etc/fstab": ""})
    wishes = tuple(TargetWish("root", path, retention=Retention(keep=n)) for n, path in ((1, HOME), (2, "/var/link")))
    assert dumps.places(ctx, Config(targets=wishes)) == (Place(HOME, Retention(keep=1)),)


def test_a_target_without_directory_has_nothing_to_prune(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc/fstab": "", "/var": None})
    assert dumps.places(ctx, Config()) == ()
    assert dumps.plan_prune(ctx, Config()).actions == ()


def test_room_is_made_by_free_space(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc/fstab": ""})
    for day in (1, 2, 3):
        make_tree(root, tree(day))
    wish = TargetWish("root", HOME, retention=Retention(keep=0, keep_free="100%"))
    plan = dumps.plan_prune(ctx, Config(targets=(wish,)))
    assert [a.name for a in plan.actions] == [name(1), name(2)]  # type: ignore[union-attr]
    assert {a.reason for a in plan.actions} == {"less than 100% is free"}
