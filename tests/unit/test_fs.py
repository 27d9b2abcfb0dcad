"""Writes that are whole or not at all: each system call fails once, and what is left is the old file or the new one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import fs
from kdump_pkg.errors import BusyError, KdumpError
from tests.fakes import make_tree

OLD = b"old content"
NEW = b"new content, and longer"

Write = Callable[[Path, Path], None]


def write(directory: Path, target: Path) -> None:
    fs.write_atomic(target, NEW)


def copy(directory: Path, target: Path) -> None:
    source = directory / "source"
    fs.copy_atomic(source, target)


def sparse(directory: Path, target: Path) -> None:
    fs.write_sparse(target, [(0, NEW[:5]), (5, memoryview(NEW)[5:])], len(NEW))


def commit(directory: Path, target: Path) -> None:
    tmp = fs.temporary(target)
    try:
        tmp.write_bytes(NEW)
        fs.commit(tmp, target)
    except OSError as error:
        raise KdumpError(str(error)) from None
    finally:
        tmp.unlink(missing_ok=True)


WRITERS: dict[str, Write] = {"write": write, "copy": copy, "sparse": sparse, "commit": commit}


class Faults:
    """Counts the calls that can fail, and lets the one at `fail_at` fail."""

    NAMES = ("open", "fsync", "fchmod", "ftruncate", "replace", "rename", "pwrite", "mkdir")

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
        self.code = code
        self.fail_at = -1
        self.seen: list[str] = []
        for name in self.NAMES:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        self._statvfs = os.statvfs

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.seen.append(name)
            if len(self.seen) - 1 == self.fail_at:
                raise OSError(self.code, os.strerror(self.code))
            return real(*args, **kwargs)

        return call


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "place"
    make_tree(directory, {"target": OLD, "source": NEW})
    return directory


def steps(writer: Write, place: Path, faults: Faults) -> int:
    """How many calls a run without a fault makes; everything is as before afterwards."""
    writer(place, place / "target")
    assert (place / "target").read_bytes() == NEW
    count = len(faults.seen)
    (place / "target").write_bytes(OLD)
    return count


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_fault_at_every_step(name: str, code: int, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults(monkeypatch, code)
    count = steps(WRITERS[name], place, faults)
    assert count >= 4
    outcomes = set()
    for step in range(count):
        (place / "target").write_bytes(OLD)
        faults.seen.clear()
        faults.fail_at = step
        try:
            WRITERS[name](place, place / "target")
        except KdumpError as error:
            assert "\n" not in error.message
            if code == errno.ENOSPC:
                assert "space" in (error.hint or "") or name == "commit" or "No space" in error.message
        faults.fail_at = -1
        content = (place / "target").read_bytes()
        assert content in (OLD, NEW)
        assert sorted(p.name for p in place.iterdir()) == ["source", "target"], faults.seen
        outcomes.add(content)
    assert outcomes == {OLD, NEW}  # both happen: the test did reach both sides of the rename


@pytest.mark.parametrize("name", WRITERS)
def test_killed_at_every_step(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL runs no `finally`: what a BaseException stops must be whole even with the temporary file left."""

    class Killed(BaseException):
        pass

    faults = Faults(monkeypatch, 0)
    count = steps(WRITERS[name], place, faults)
    for step in range(count):
        faults.seen.clear()
        with monkeypatch.context() as patch:

            def die(*args: Any, patch: pytest.MonkeyPatch = patch) -> Any:
                patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
                raise Killed

            patch.setattr(os, "strerror", die)  # called by the fault itself
            faults.fail_at = step
            with pytest.raises(Killed):
                WRITERS[name](place, place / "target")
        faults.fail_at = -1
        assert (place / "target").read_bytes() in (OLD, NEW)
        for tmp in place.glob(f"{fs.TEMPORARY}*"):
            tmp.unlink()


@pytest.mark.parametrize("name", WRITERS)
def test_synced_before_and_after_the_rename(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut may leave the new name on an empty file, or neither (ext4 with delayed allocation)."""
    faults = Faults(monkeypatch, 0)
    WRITERS[name](place, place / "target")
    calls = [c for c in faults.seen if c in ("fsync", "replace", "rename")]
    assert calls in (["fsync", "replace", "fsync"], ["fsync", "rename", "fsync"])


def test_new_file_in_a_new_directory(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    fs.write_atomic(path, NEW, 0o600)
    assert path.read_bytes() == NEW
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mask", [0o000, 0o077])
def test_mode_is_the_one_asked_for(place: Path, mask: int) -> None:
    old = os.umask(mask)
    try:
        fs.write_atomic(place / "w", NEW, 0o640)
        fs.copy_atomic(place / "source", place / "c", 0o604)
    finally:
        os.umask(old)
    assert [stat.S_IMODE((place / n).stat().st_mode) for n in ("w", "c")] == [0o640, 0o604]


def test_a_link_is_replaced_not_followed(place: Path) -> None:
    (place / "link").symlink_to("target")
    fs.write_atomic(place / "link", NEW)
    assert not (place / "link").is_symlink()
    assert (place / "target").read_bytes() == OLD


def test_a_left_over_temporary_is_no_obstacle(place: Path) -> None:
    """A killed run with the same process id may have left one, or somebody put a link there."""
    victim = place / "victim"
    victim.write_bytes(OLD)
    for writer in (write, copy):
        fs.temporary(place / "target").symlink_to(victim)
        writer(place, place / "target")
        assert victim.read_bytes() == OLD
        assert (place / "target").read_bytes() == NEW
        (place / "target").write_bytes(OLD)


def test_directory_in_place_of_the_file(place: Path) -> None:
    (place / "dir").mkdir()
    (place / "dir" / "x").write_text("kept")
    for writer in (write, copy):
        with pytest.raises(KdumpError, match="dir: "):
            writer(place, place / "dir")
    assert (place / "dir" / "x").read_text() == "kept"
    assert not list(place.glob(f"{fs.TEMPORARY}*"))


def test_file_in_place_of_the_directory(place: Path) -> None:
    with pytest.raises(KdumpError, match="target"):
        fs.write_atomic(place / "target" / "below", NEW)
    assert (place / "target").read_bytes() == OLD


def test_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.statvfs(place)
    full = os.statvfs_result((*real[:4], 3, *real[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    for writer in (write, copy):
        with pytest.raises(KdumpError, match="no room for") as caught:
            writer(place, place / "target")
        assert caught.value.hint == "free some space and run it again"
    assert (place / "target").read_bytes() == OLD
    assert sorted(p.name for p in place.iterdir()) == ["source", "target"]


def test_read_only(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KdumpError, match="target: Read-only file system") as caught:
        fs.rewrite(place / "target", NEW)
    assert caught.value.hint == "mount it read-write and run it again"


def test_copy_keeps_holes(place: Path) -> None:
    size = 64 << 20
    with (place / "sparse").open("wb") as file:
        file.write(b"head")
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    fs.copy_atomic(place / "sparse", place / "copy")
    made = (place / "copy").stat()
    assert made.st_size == size
    assert made.st_blocks * 512 < 1 << 20
    with (place / "copy").open("rb") as file:
        assert file.read(5) == b"head\0"
        file.seek(size // 2 - 1)
        assert file.read(8) == b"\0middle\0"


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 5000, bytes(range(256)) * 9000])
def test_copy_is_the_same(place: Path, content: bytes) -> None:
    (place / "source").write_bytes(content)
    fs.copy_atomic(place / "source", place / "target")
    assert (place / "target").read_bytes() == content


def test_copy_of_what_is_not_there(place: Path) -> None:
    with pytest.raises(KdumpError):
        fs.copy_atomic(place / "missing", place / "target")
    assert (place / "target").read_bytes() == OLD


def test_symlink(place: Path) -> None:
    fs.symlink_atomic("../a", place / "new" / "link")
    assert os.readlink(place / "new" / "link") == "../a"  # noqa: PTH115
    fs.symlink_atomic("other", place / "target")
    assert os.readlink(place / "target") == "other"  # noqa: PTH115
    assert not list(place.glob(f"{fs.TEMPORARY}*"))


def test_remove(place: Path) -> None:
    (place / "link").symlink_to("target")
    fs.remove(place / "link")
    assert (place / "target").exists()
    fs.remove(place / "target")
    fs.remove(place / "target")
    fs.remove(place / "no" / "where")
    (place / "dir").mkdir()
    with pytest.raises(KdumpError, match="dir"):
        fs.remove(place / "dir")


def test_remove_empty_parents(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/debug/lib/modules/1").mkdir(parents=True)
    (tmp_path / "usr/lib/keep").mkdir()
    fs.remove_empty_parents(tmp_path / "usr/lib/debug/lib/modules/1/vmlinux", tmp_path / "usr/lib")
    assert sorted(p.name for p in (tmp_path / "usr/lib").iterdir()) == ["keep"]
    fs.remove_empty_parents(tmp_path / "usr/lib/keep/x", tmp_path / "usr/lib/keep")
    assert (tmp_path / "usr/lib/keep").is_dir()
    fs.remove_empty_parents(tmp_path / "elsewhere/x", tmp_path / "usr/lib")


def test_remove_tree_does_not_follow(tmp_path: Path) -> None:
    make_tree(tmp_path, {"tree/a/b": "x", "other/f": "x"})
    (tmp_path / "link").symlink_to("other")
    (tmp_path / "tree/out").symlink_to("../other")
    fs.remove_tree(tmp_path / "link")
    fs.remove_tree(tmp_path / "tree")
    fs.remove_tree(tmp_path / "missing")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "other"]
    assert (tmp_path / "other/f").exists()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only moves by waiting."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr("kdump_pkg.fs.time.monotonic", lambda: now[0])
    monkeypatch.setattr("kdump_pkg.fs.time.sleep", sleep)
    yield now


def test_lock(tmp_path: Path, clock: list[float]) -> None:
    path = tmp_path / "run" / "lock"
    with fs.lock(path):
        for wait in (0, 5):
            clock[0] = 0
            with pytest.raises(BusyError) as caught, fs.lock(path, wait=wait):
                pytest.fail("both hold it")
            assert caught.value.hint
            assert wait <= clock[0] < wait + 1
    with fs.lock(path), pytest.raises(RuntimeError):
        raise RuntimeError  # holding it over an error of our own
    with pytest.raises(RuntimeError), fs.lock(path):
        raise RuntimeError
    with fs.lock(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lock_is_had_as_soon_as_it_is_free(tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    holder = fs.lock(path)
    holder.__enter__()

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] > 2:
            holder.__exit__(None, None, None)

    monkeypatch.setattr("kdump_pkg.fs.time.sleep", sleep)
    with fs.lock(path, wait=60):
        assert clock[0] < 3


def test_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KdumpError), fs.lock(tmp_path / "file" / "lock"):
        pytest.fail("no lock there")
    (tmp_path / "dir").mkdir()
    with pytest.raises(KdumpError), fs.lock(tmp_path / "dir"):
        pytest.fail("no lock there")


def test_sparse_files_have_holes(tmp_path: Path) -> None:
    target = tmp_path / "file"
    fs.write_sparse(target, [(0, b"head"), (1 << 24, b"tail")], (1 << 24) + 100, 0o640)
    facts = target.stat()
    assert (facts.st_size, facts.st_mode & 0o777) == ((1 << 24) + 100, 0o640)
    assert facts.st_blocks * 512 < 1 << 20
    data = target.read_bytes()
    assert data.replace(b"\0", b"") == b"headtail"
    assert data[1 << 24 :][:4] == b"tail"
