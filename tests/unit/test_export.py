"""One archive of a dump: all of it, with its holes, the same each time, and nothing left where that fails."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kdump_pkg import __version__, config, exporting, fs, reports, run
from kdump_pkg.apply import export as archives
from kdump_pkg.apply.export import Archive
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, TargetWish
from kdump_pkg.model.crash import Crash, Report
from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan import listing
from tests import fakes
from tests.fakes import Hole, Link, make_tree, snapshot

pytestmark = pytest.mark.spawns

REPO = Path(__file__).resolve().parents[2]
RELEASE = "6.17.8-arch1-1"
NAME = f"2026-11-23T07-46-54Z-{RELEASE}"
HOME = f"/var/crash/{NAME}"
CRASHED = 1795420014
META = f"format=1\nrelease={RELEASE}\nbuild_id=00aabb\ncrash_time={CRASHED}\nresult=complete\n"
CORE = os.urandom(300_000)
FILES: dict[str, fakes.Entry] = {"meta": META, "vmcore": CORE, "dmesg.txt": "panic\n", "save.log": "saved\n"}
REPORT = Report(NAME, CRASHED, "it died of a null pointer access", Crash("oops", "a null pointer access"))


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path) -> Iterator[None]:
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed (package zstd)")
    monkeypatch.setattr(config, "load", lambda ctx: Config(targets=(TargetWish(),)))
    monkeypatch.setattr(reports, "load", lambda ctx, entry: None)
    monkeypatch.setattr(reports, "make", lambda ctx, entry, *_, **__: REPORT)
    make_tree(root, {"/etc/fstab": ""})
    monkeypatch.chdir(tmp_path)
    yield


def put(root: Path, tree: dict[str, fakes.Entry] | None = None) -> Path:
    home = root / HOME[1:]
    make_tree(home, FILES if tree is None else tree)
    for path in home.iterdir():
        os.utime(path, (CRASHED + 5,) * 2, follow_symlinks=False)
    return home


def export(ctx: Context, file: Path | str, match: str = "2026", *, debug_kernel: bool = False) -> int:
    return exporting.export(ctx, match, os.fspath(file), debug_kernel=debug_kernel)


def unpacked(file: Path, *, top: str = NAME) -> dict[str, bytes]:
    """Content by name, as Python reads it."""
    plain = subprocess.run(["zstd", "-dc", file], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        members = tar.getmembers()
        assert members[0].name == top and members[0].isdir()
        assert all(m.name.startswith(f"{top}/") and m.isfile() for m in members[1:])
        assert {m.mode for m in members[1:]} == {0o600} and {(m.uid, m.gid, m.uname) for m in members} == {
            (0, 0, "root")
        }
        return {m.name.removeprefix(f"{top}/"): tar.extractfile(m).read() for m in members[1:]}  # type: ignore[union-attr]


def test_all_of_it(ctx: Context, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = put(root) and snapshot(root)
    file = tmp_path / "crash.tar.zst"
    assert export(ctx, file) == 0
    assert capsys.readouterr().out.startswith(f"==> {file}: 2")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert snapshot(root) == before
    got = unpacked(file)
    assert list(got) == ["INFO", "report.json", "report.txt", "dmesg.txt", "meta", "save.log", "vmcore", "report.sums"]
    assert (got["vmcore"], got["meta"], got["dmesg.txt"]) == (CORE, META.encode(), b"panic\n")
    assert json.loads(got["report.json"])["version"] == 1
    assert b"null pointer access" in got["report.txt"]
    lines = [line.split("  ") for line in got["report.sums"].decode().splitlines()]
    assert [(hashlib.sha256(got[name]).hexdigest(), name) for _, name in lines] == [tuple(line) for line in lines]
    assert {name for _, name in lines} == set(got) - {"report.sums"}


def test_the_sums_are_those_of_sha256sum(ctx: Context, root: Path, tmp_path: Path) -> None:
    put(root, {**FILES, "vmcore": Hole(3 << 20)})
    export(ctx, tmp_path / "x")
    subprocess.run(["tar", "-xf", "x", "--zstd"], check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "report.sums"], cwd=tmp_path / NAME, check=True)


def test_what_is_kept_beside_it_is_taken(
    ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, fakes.Entry] = {"report.json": "{}", "report.txt": "words", "report.sums": "sums\n"}
    others: dict[str, fakes.Entry] = {"notes": "x", "pinned": "", ".kdump-pkg-1-vmcore": "x", "meta.new": "x"}
    put(root, {**FILES, **kept, **others, "capture-dmesg.txt": Link("/etc/passwd")})
    known = replace(REPORT, made_by=__version__, sentence="it was kept")
    monkeypatch.setattr(reports, "load", lambda ctx, entry: known)
    export(ctx, tmp_path / "x")
    got = unpacked(tmp_path / "x")
    assert set(got) == {"INFO", *FILES, *kept}
    assert {name: got[name].decode() for name in kept} == kept
    assert b"It was kept.\n" in got["INFO"]


def test_what_an_older_version_kept_is_made_anew(
    ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, {**FILES, "report.json": "{}", "report.txt": "old"})
    monkeypatch.setattr(reports, "load", lambda ctx, entry: replace(REPORT, made_by="0.0.1", sentence="it was kept"))
    export(ctx, tmp_path / "x")
    assert b"It died of a null pointer access.\n" in unpacked(tmp_path / "x")["INFO"]


def test_what_is_in_it_is_said(ctx: Context, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = put(root)
    export(ctx, tmp_path / "x")
    assert "the machine's memory is in it" in capsys.readouterr().out
    (home / "vmcore").unlink()
    export(ctx, tmp_path / "y")
    assert "memory" not in capsys.readouterr().out


def test_a_report_of_before_the_log_was_decrypted_is_made_anew(
    ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = put(root, {**FILES, "report.json": "{}", "report.txt": "old"})
    monkeypatch.setattr(reports, "load", lambda ctx, entry: replace(REPORT, has_log=False, sentence="No log."))
    export(ctx, tmp_path / "x")
    got = unpacked(tmp_path / "x")
    assert b"null pointer access" in got["report.txt"] and b"null pointer access" in got["INFO"]
    assert (home / "report.txt").read_text() == "old"


def test_the_same_each_time(ctx: Context, root: Path, tmp_path: Path) -> None:
    home = put(root)
    export(ctx, tmp_path / "one")
    for path in home.iterdir():
        path.chmod(0o644)
        os.utime(path, (1, CRASHED + 5))
    export(ctx, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_without_a_report(
    ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(ctx: Context, entry: Entry, **_: object) -> NoReturn:
        raise KdumpError("its log can't be\x1b[31m read")

    put(root)
    monkeypatch.setattr(reports, "make", make)
    assert export(ctx, tmp_path / "x") == 0
    assert capsys.readouterr().err == "==> WARNING: without a report: its log can't be\\x1b[31m read\n"
    assert set(unpacked(tmp_path / "x")) == {"INFO", *FILES, "report.sums"}


def test_encrypted(ctx: Context, root: Path, tmp_path: Path) -> None:
    tree: dict[str, fakes.Entry] = {"meta": META, "vmcore.age": "secret", "dmesg.txt.age": "secret"}
    home = put(root, tree)
    export(ctx, tmp_path / "x")
    got = unpacked(tmp_path / "x")
    assert {"vmcore.age", "dmesg.txt.age"} < set(got) and b"age --decrypt" in got["INFO"]
    (home / "vmcore").write_bytes(CORE)  # decrypted since: nobody wants both
    (home / "report.sums").write_text(f"{'0' * 64}  vmcore.age\n")
    export(ctx, tmp_path / "y")
    assert "vmcore.age" not in unpacked(tmp_path / "y") and unpacked(tmp_path / "y")["vmcore"] == CORE
    assert b"vmcore.age" not in unpacked(tmp_path / "y")["report.sums"]


@pytest.mark.parametrize("maker", ["ArchWiki", "Fedora", "unknown"])
def test_foreign(ctx: Context, root: Path, tmp_path: Path, maker: str) -> None:
    core = b"KDUMP   " + CORE
    places = {
        "ArchWiki": "/var/crash/crashdump-2026-11-23-07:46:54",
        "Fedora": "/var/crash/127.0.0.1-2026-11-23-07:46:54/vmcore",
        "unknown": "/home/me/vmcore.1",
    }
    path = places[maker]
    make_tree(root, {path: core, "/var/crash/127.0.0.1-2026-11-23-07:46:54/vmcore-dmesg.txt": "log"})
    home, _, name = path.rpartition("/")
    identity = home.rpartition("/")[2] if maker == "Fedora" else name
    make_tree(root, {f"{home}/others": "x"})
    for one in root.rglob("*"):
        os.utime(one, (CRASHED - 1000,) * 2)
    assert export(ctx, tmp_path / "x", path) == 0
    got = unpacked(tmp_path / "x", top=identity)
    more = {"vmcore-dmesg.txt"} if maker == "Fedora" else set()
    assert set(got) == {"INFO", "report.json", "report.txt", name, "report.sums"} | more
    assert got[name] == core


# --- holes ------------------------------------------------------------------------------------------------------------


def holed(path: Path, size: int, pieces: dict[int, bytes]) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in pieces.items():
            file.seek(offset)
            file.write(data)


LAYOUTS: dict[str, tuple[int, dict[int, bytes]]] = {
    "nothing but a hole": (50 << 20, {}),
    "data at both ends": (50 << 20, {0: b"a" * 5000, (50 << 20) - 5000: b"z" * 5000}),
    "a hole at both ends": (50 << 20, {20 << 20: os.urandom(2 << 20)}),
    "many": (20 << 20, {n << 16: b"x" * 100 for n in range(0, 300, 3)}),
    "no hole": (1 << 20, {0: b"x" * (1 << 20)}),
    "empty": (0, {}),
    "odd": ((8 << 20) + 13, {1 << 20: b"x", (8 << 20) + 12: b"y"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("program", ["python", "tar", "bsdtar"])
def test_holes_stay_holes(ctx: Context, root: Path, tmp_path: Path, layout: str, program: str) -> None:
    size, pieces = LAYOUTS[layout]
    home = put(root)
    holed(home / "vmcore", size, pieces)
    export(ctx, tmp_path / "x")
    where = tmp_path / NAME / "vmcore"
    if program == "python":
        where.parent.mkdir()
        where.write_bytes(unpacked(tmp_path / "x")["vmcore"])
    elif shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    else:
        subprocess.run([program, "-xf", "x", *(["--zstd"] if program == "tar" else [])], check=True)
    assert where.read_bytes() == (home / "vmcore").read_bytes()
    if program != "python" and size >= 8 << 20 and layout != "many":
        assert where.stat().st_blocks * 512 < size // 2
        assert (tmp_path / "x").stat().st_size < (3 << 20)


def test_too_many_holes_are_zeros(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_PIECES", 5)
    home = put(root)
    holed(home / "vmcore", *LAYOUTS["many"])
    export(ctx, tmp_path / "x")
    assert unpacked(tmp_path / "x")["vmcore"] == (home / "vmcore").read_bytes()


# --- the kernel, standard output --------------------------------------------------------------------------------------


def vmlinux(monkeypatch: pytest.MonkeyPatch, answer: Path | KdumpError) -> list[tuple[str, str]]:
    asked: list[tuple[str, str]] = []

    def kernel(ctx: Context, entry: Entry) -> Path:
        asked.append((entry.release, entry.build_id))
        if isinstance(answer, KdumpError):
            raise answer
        return answer

    monkeypatch.setattr(exporting, "_kernel", kernel)
    return asked


def test_with_its_kernel(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    holed(tmp_path / "made", 30 << 20, {0: b"\x7fELF"})
    (tmp_path / "link").symlink_to("made")
    asked = vmlinux(monkeypatch, tmp_path / "link")
    assert export(ctx, tmp_path / "x", debug_kernel=True) == 0
    got = unpacked(tmp_path / "x")
    assert asked == [(RELEASE, "00aabb")]
    assert got["vmlinux"] == (tmp_path / "made").read_bytes() and list(got)[-2:] == ["vmlinux", "report.sums"]
    assert b"vmlinux   the kernel" in got["INFO"]


def test_no_kernel_to_be_had(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    vmlinux(monkeypatch, KdumpError("no kernel of that build ID"))
    with pytest.raises(KdumpError, match="no kernel of that build ID"):
        export(ctx, tmp_path / "x", debug_kernel=True)
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


def test_a_kernel_that_is_not_known(ctx: Context, root: Path, tmp_path: Path) -> None:
    put(root, {"meta": "format=1\nresult=complete\n", "vmcore": CORE})
    with pytest.raises(KdumpError, match="the release of its kernel is not known") as error:
        export(ctx, tmp_path / "x", debug_kernel=True)
    assert error.value.hint == "export it without --debug-kernel"


def test_to_standard_output(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    export(ctx, tmp_path / "x")
    saved = os.dup(1)
    with (tmp_path / "y").open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            assert export(ctx, "-") == 0
        finally:
            os.dup2(saved, 1)
            os.close(saved)
    assert (tmp_path / "y").read_bytes() == (tmp_path / "x").read_bytes()
    monkeypatch.setattr(os, "isatty", lambda fd: True)
    with pytest.raises(KdumpError, match="standard output is a terminal"):
        export(ctx, "-")


# --- what goes wrong --------------------------------------------------------------------------------------------------


def failing(ctx: Context, root: Path, file: Path, words: str, **more: Any) -> KdumpError:
    """A run that fails in one harmless line, and leaves nothing behind nor changes anything."""
    before = snapshot(file.parent)
    with pytest.raises(KdumpError, match=words) as error:
        export(ctx, file, **more)
    assert "\n" not in error.value.message and error.value.message.isprintable()
    assert snapshot(file.parent) == before
    return error.value


def test_never_over_a_file(ctx: Context, root: Path, tmp_path: Path) -> None:
    put(root)
    make_tree(tmp_path, {"file": "mine", "link": Link("nowhere"), "directory": None})
    for name in ("file", "link"):
        failing(ctx, root, tmp_path / name, "there already, left alone")
    failing(ctx, root, tmp_path / "directory", "there already")
    failing(ctx, root, tmp_path / "root" / ".." / "file", "there already")


def test_never_over_a_file_that_appears_meanwhile(
    ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root)
    link, unlinkable = os.link, [False]
    pack = archives.pack

    def slow(archive: Archive, output: int) -> None:
        pack(archive, output)
        (tmp_path / "x").write_text("mine")

    def no_links(*args: Any, **kwargs: Any) -> None:
        if unlinkable[0]:
            raise OSError(errno.EPERM, "Operation not permitted")  # FAT
        link(*args, **kwargs)

    monkeypatch.setattr(archives, "pack", slow)
    monkeypatch.setattr(os, "link", no_links)
    for unlinkable[0] in (False, True):
        with pytest.raises(KdumpError, match="appeared meanwhile, left alone"):
            export(ctx, tmp_path / "x")
        assert (tmp_path / "x").read_text() == "mine"
        assert {path.name for path in tmp_path.iterdir()} == {"root", "x"}
        (tmp_path / "x").unlink()
    monkeypatch.setattr(archives, "pack", pack)
    export(ctx, tmp_path / "x")  # where there are no second names, it is renamed
    assert unpacked(tmp_path / "x")["vmcore"] == CORE


@pytest.mark.parametrize("place", ["nowhere/x", "root/etc/fstab/x"])
def test_no_such_place(ctx: Context, root: Path, tmp_path: Path, place: str) -> None:
    put(root)
    with pytest.raises(KdumpError, match=place):
        export(ctx, tmp_path / place)
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


def shim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """Another zstd, or none."""
    path = tmp_path / "bin"
    path.mkdir()
    if script is not None:
        (path / "zstd").write_text(f"#!/bin/sh\n{script}\n")
        (path / "zstd").chmod(0o755)
    for tool in ("sh", "head", "sleep", "cat", "kill"):
        (path / tool).symlink_to(shutil.which(tool) or "/bin/sh")
    monkeypatch.setenv("PATH", os.fspath(path))


def test_without_zstd(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    shim(tmp_path, monkeypatch, None)
    assert failing(ctx, root, tmp_path / "x", "zstd: not found").hint == "install it: pacman -S zstd"


SCRIPTS = {
    "full at once": "echo 'zstd: error 70 : Write error : cannot write block : No space left on device' >&2; exit 70",
    "full later": "head -c 200000 >/dev/null; echo 'zstd: No space left on device' >&2; exit 70",
    "full at the end": "cat >/dev/null; echo 'zstd: No space left on device' >&2; exit 70",
    "killed": "head -c 10000; kill -9 $$",
    "killed at the end": "cat; kill -9 $$",
    "its words": "cat >/dev/null; printf 'zstd: \\033[31mbad\\n\\n' >&2; exit 1",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_zstd_fails(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    put(root, {**FILES, "vmcore": os.urandom(3 << 20)})
    shim(tmp_path, monkeypatch, SCRIPTS[script])
    words = "No space left" if "full" in script else "killed by SIGKILL" if "killed" in script else "bad"
    error = failing(ctx, root, tmp_path / "x", f"x: zstd .* failed, .*{words}")
    assert error.hint == ("free some space" if "full" in script else None)


def test_a_limit_of_the_system(ctx: Context, root: Path, tmp_path: Path) -> None:
    """The real zstd is ended by the kernel in the midst of its output, as on a full disk."""
    put(root)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(KdumpError, match=r"zstd .* failed"):
            export(ctx, tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


@pytest.mark.parametrize("call", ["open", "fstat", "pread", "link"])
def test_each_call_fails(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whichever it is: one line and nothing left, or all of it."""
    put(root)
    entry = Entry(NAME, HOME, "kdump-pkg", CRASHED, RELEASE, "complete", vmcore=f"{HOME}/vmcore")
    archive = exporting._archive(ctx, entry, debug_kernel=False)
    original = getattr(os, call)
    calls, fail = [0], [0]

    def broken(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == fail[0]:
            raise OSError(errno.EIO, "Input/output error")
        return original(*args, **kwargs)

    failed = 0
    for number in range(1, 9):
        calls[0], fail[0] = 0, number
        with monkeypatch.context() as patch:
            patch.setattr(os, call, broken)
            try:
                archives.write(archive, tmp_path / "x")
            except KdumpError as error:
                assert "Input/output error" in error.message and "\n" not in error.message
                failed += 1
                assert {path.name for path in tmp_path.iterdir()} == {"root"}
                continue
        assert unpacked(tmp_path / "x")["vmcore"] == CORE
        (tmp_path / "x").unlink()
    assert failed or call == "link"


def test_interrupted(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root)
    add = archives._add

    def stop(tar: Any, home: str, name: str, fd: int) -> str:
        if name == "vmcore":
            raise KeyboardInterrupt
        return add(tar, home, name, fd)

    monkeypatch.setattr(archives, "_add", stop)
    with pytest.raises(KeyboardInterrupt):
        export(ctx, tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


CHILD = """
import sys
from pathlib import Path
from kdump_pkg.apply.export import Archive, write
write(Archive("d", 5, Path(sys.argv[1]), ("vmcore",)), Path(sys.argv[2]))
"""


def test_killed(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no archive then, and the next run takes away what was begun."""
    home = put(root, {**FILES, "vmcore": os.urandom(3 << 20)})
    path = os.environ["PATH"]
    shim(tmp_path, monkeypatch, "head -c 1000000; sleep 60")
    child = subprocess.Popen([sys.executable, "-c", CHILD, home, tmp_path / "x"], cwd=REPO, start_new_session=True)
    try:
        begun = tmp_path / f"{fs.TEMPORARY}{child.pid}-x"
        for _ in range(600):
            if begun.exists() and begun.stat().st_size:
                break
            time.sleep(0.1)
        assert child.poll() is None
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert begun.stat().st_size and not (tmp_path / "x").exists()
    monkeypatch.setenv("PATH", path)
    export(ctx, tmp_path / "x")
    assert {one.name for one in tmp_path.iterdir()} == {"root", "bin", "x"}


def test_a_dump_that_changes(ctx: Context, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = put(root)
    original, changes = os.pread, [lambda: os.truncate(home / "vmcore", 100)]

    def pread(*args: Any) -> bytes:
        if changes:
            changes.pop()()
        return original(*args)

    # meta, dmesg.txt and save.log are read before
    monkeypatch.setattr(os, "pread", pread)
    with pytest.raises(KdumpError, match="vmcore: became shorter while it was read"):
        archives.write(Archive("d", 5, home, ("vmcore",)), tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


@pytest.mark.parametrize("what", ["gone", "a link", "a fifo", "a directory"])
def test_a_file_that_becomes_something_else(tmp_path: Path, root: Path, what: str) -> None:
    home = put(root)
    (home / "vmcore").rename(root / "elsewhere")
    if what == "a link":
        (home / "vmcore").symlink_to(root / "elsewhere")
    elif what == "a fifo":
        os.mkfifo(home / "vmcore")
    elif what == "a directory":
        (home / "vmcore").mkdir()
    with pytest.raises(KdumpError):
        archives.write(Archive("d", 5, home, ("vmcore",)), tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


def test_not_while_it_is_written(ctx: Context, root: Path, tmp_path: Path) -> None:
    home = put(root, {"meta": "format=1\nresult=started\n", "vmcore.incomplete": "x"})
    for path in (*home.iterdir(), home):
        os.utime(path, (CRASHED - 3,) * 2)
    assert failing(ctx, root, tmp_path / "x", "being written just now").hint == "wait until it is done"


# --- INFO -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "names", "there", "missing"),
    [
        (
            Entry("d", "/d", "kdump-pkg", CRASHED, RELEASE, "complete", vmcore="/d/vmcore", log="/d/dmesg.txt",
                  build_id="00aa"),
            ("vmlinux",),
            ("Linux 6.17.8-arch1-1, on 2026-11-23 07:46:54 UTC", "HOLDS SECRETS",
             "crash vmlinux vmcore", "drgn -c vmcore", "sha256sum -c", "Build ID of the kernel: 00aa", "With vmlinux:"),
            ("age",),
        ),
        (
            Entry("d", "/d", "Debian", 5, vmcore="/d/dump.1.gz"), (),
            ("release not known", "gunzip dump.1.gz", "crash vmlinux dump.1\n", "same build ID"), ("What happened",),
        ),
        (Entry("d", "/d", "kdump-pkg", 5, vmcore="/d/vmcore.age"), (), ("age --decrypt", "kdump-pkg decrypt ."), ()),
        (Entry("d", "/d", "kdump-pkg", 5, log="/d/dmesg.txt"), (), ("no memory in it",), ("crash vmlinux", "drgn")),
        (Entry("d", "/d", "unknown", 5, vmcore="/d/x"), (), ("a program that is not known",), ()),
    ],
)  # fmt: skip
def test_info(entry: Entry, names: tuple[str, ...], there: tuple[str, ...], missing: tuple[str, ...]) -> None:
    text = listing.archive_text(entry, names)
    for words in there:
        assert words in text
    for words in missing:
        assert words not in text
    assert "\n\n\n" not in text and max(map(len, text.splitlines())) <= 120


def test_feeding_one_that_does_not_read(tmp_path: Path) -> None:
    """A program that ends without reading is no hang and no traceback."""
    with (
        (tmp_path / "out").open("wb") as file,
        run.feeding(["true"], stdout=file.fileno()) as sink,
        pytest.raises(KdumpError, match="true failed, exit code 0"),
    ):
        for _ in range(100):
            sink.write(bytes(1 << 20))
