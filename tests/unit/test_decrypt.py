"""`decrypt` with the real age: whole and private, or one line and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import catalogue, cli, config, fs
from kdump_pkg.apply import decrypt as opening
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, TargetWish
from tests.fakes import make_tree, snapshot

pytestmark = pytest.mark.spawns

META = "format=1\nresult=complete\nencrypted=yes\n"
LOG = b"[    1.0] Kernel panic - not syncing: sysrq triggered crash\n" * 50
NAME = "2026-11-23T21-36-54Z-6.12.1"
HOME = f"/var/crash/{NAME}"


def vmcore(size: int = 300_000) -> bytes:
    return os.urandom(16) + b"KDUMP   " + os.urandom(size)


def flattened(data: bytes) -> bytes:
    """DATA as `makedumpfile -F` writes it, its second half first."""
    half = len(data) // 2
    pieces = [(half, data[half:]), (0, data[:half])]
    head = struct.pack(">16sqq", b"makedumpfile", 1, 1).ljust(4096, b"\0")
    return head + b"".join(struct.pack(">qq", at, len(p)) + p for at, p in pieces) + struct.pack(">qq", -1, -1)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but age."""
    age = shutil.which("age")
    keygen = shutil.which("age-keygen")
    if age is None or keygen is None:
        pytest.skip("age is not installed (package age)")
    path = tmp_path / "bin"
    path.mkdir()
    (path / "age").symlink_to(age)
    (path / "age-keygen").symlink_to(keygen)
    monkeypatch.setenv("PATH", os.fspath(path))
    return path


def make_key(where: Path) -> str:
    """A new key; returns its public half."""
    subprocess.run(["age-keygen", "-o", where], check=True, capture_output=True)
    return subprocess.run(["age-keygen", "-y", where], check=True, capture_output=True, text=True).stdout.strip()


def encrypt(recipient: str, data: bytes) -> bytes:
    return subprocess.run(["age", "-r", recipient], input=data, check=True, capture_output=True).stdout


class Case:
    """A dump encrypted for one of two keys."""

    def __init__(self, top: Path, programs: Path) -> None:
        self.root, self.programs = top / "root", programs
        self.key, self.other = top / "key.txt", top / "other key.txt"
        self.public = make_key(self.key)
        make_key(self.other)
        self.core = vmcore()
        self.home = self.root / HOME[1:]
        make_tree(
            self.root,
            {
                f"{HOME}/meta": META,
                f"{HOME}/save.log": "saved\n",
                f"{HOME}/dmesg.txt.age": encrypt(self.public, LOG),
                f"{HOME}/vmcore.age": encrypt(self.public, flattened(self.core)),
            },
        )

    def run(self, *more: str, key: Path | None = None) -> int:
        return cli.main(["decrypt", f"{self.home}/", "--identity", os.fspath(key or self.key), *more])


@pytest.fixture
def case(tmp_path: Path, root: Path, programs: Path, guard: object) -> Case:
    return Case(tmp_path, programs)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_decrypted_beside(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(case.home)
    umask = os.umask(0)
    try:
        assert case.run() == 0
    finally:
        os.umask(umask)
    assert capsys.readouterr().out.splitlines() == [
        f"==> decrypted {case.home}/{name}" for name in ("dmesg.txt", "vmcore")
    ]
    assert (case.home / "dmesg.txt").read_bytes() == LOG
    assert (case.home / "vmcore").read_bytes() == case.core
    assert mode(case.home / "dmesg.txt") == mode(case.home / "vmcore") == 0o600
    after = snapshot(case.home)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"dmesg.txt", "vmcore"}
    assert case.run() == 1  # a second time
    assert "decrypted already, left alone" in capsys.readouterr().err
    assert snapshot(case.home) == after


def test_output_takes_the_vmcore_alone(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(case.home)
    out = tmp_path / "core"
    assert case.run("--output", str(out)) == 0
    assert (out.read_bytes(), mode(out)) == (case.core, 0o600)
    assert snapshot(case.home) == before
    capsys.readouterr()
    assert case.run("--output", str(out)) == 1
    assert (
        capsys.readouterr().err == f"==> ERROR: {out}: there already, left alone (--output FILE writes it elsewhere)\n"
    )
    (case.home / "vmcore.age").unlink()
    assert case.run("--output", str(tmp_path / "log")) == 0
    assert (tmp_path / "log").read_bytes() == LOG
    assert case.run("--output", str(tmp_path / "nowhere/log")) == 1
    assert "nowhere" in capsys.readouterr().err


def test_what_is_not_flattened_is_taken_as_it_is(case: Case) -> None:
    raw = b"\x7fELF" + os.urandom(200_000)
    (case.home / "vmcore.age").write_bytes(encrypt(case.public, raw))
    assert case.run() == 0
    assert (case.home / "vmcore").read_bytes() == raw
    assert mode(case.home / "vmcore") == 0o600


def failing(case: Case, capsys: pytest.CaptureFixture[str], *more: str, key: Path | None = None) -> str:
    """The one line of a run that fails and leaves all as it was."""
    before = snapshot(case.root)
    capsys.readouterr()
    assert case.run(*more, key=key) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert snapshot(case.root) == before
    return line.removeprefix("==> ERROR: ")


def test_wrong_key(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    line = failing(case, capsys, key=case.other)
    remedy = "take the private key of a recipient in encrypt_to"
    assert line == f"{case.home}/dmesg.txt.age: age: not encrypted for this key ({remedy})"


@pytest.mark.parametrize("words", ["", "no key\n", "AGE-SECRET-KEY-1QQQQ\n", "\0\xff\x1b[31m"])
def test_no_key_in_the_file(case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path, words: str) -> None:
    bad = tmp_path / "bad"
    bad.write_text(words)
    line = failing(case, capsys, key=bad)
    assert line.startswith(f"{case.home}/dmesg.txt.age: age: ") and str(bad) in line
    assert line.isprintable() and len(line) < 500 and "report unexpected" not in line


def test_no_such_key(case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for bad in (tmp_path / "missing", tmp_path, Path("-")):
        assert failing(case, capsys, key=bad) == (
            f"{bad}: no such file (--identity takes the file with the private key)"
        )


@pytest.mark.parametrize("where", [100, 150_000, -1])
def test_cut_off(case: Case, capsys: pytest.CaptureFixture[str], where: int) -> None:
    (case.home / "dmesg.txt.age").unlink()
    path = case.home / "vmcore.age"
    path.write_bytes(path.read_bytes()[:where])
    line = failing(case, capsys)
    assert line.startswith(f"{path}: age: damaged or cut off (")


def test_cut_off_at_a_chunk(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is there is genuine; only age can know that it isn't all."""
    (case.home / "dmesg.txt.age").unlink()
    path = case.home / "vmcore.age"
    head = path.read_bytes().index(b"\n---") + 1
    start = path.read_bytes().index(b"\n", head) + 1 + 16
    path.write_bytes(path.read_bytes()[: start + 2 * (65536 + 16)])
    assert failing(case, capsys).startswith(f"{path}: age: damaged or cut off (")


def test_one_bit(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    (case.home / "dmesg.txt.age").unlink()
    data = bytearray((case.home / "vmcore.age").read_bytes())
    data[200_000] ^= 1
    (case.home / "vmcore.age").write_bytes(data)
    assert failing(case, capsys).startswith(f"{case.home}/vmcore.age: age: damaged or cut off (")


@pytest.mark.parametrize("data", [b"", LOG, b"\0" * 4096])
def test_no_file_of_age(case: Case, capsys: pytest.CaptureFixture[str], data: bytes) -> None:
    (case.home / "dmesg.txt.age").write_bytes(data)
    line = failing(case, capsys)
    assert line == f"{case.home}/dmesg.txt.age: not a file that age made, or damaged at its beginning"


def test_links_are_not_followed(case: Case, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (case.home / "dmesg.txt.age").rename(tmp_path / "elsewhere.age")
    (case.home / "dmesg.txt.age").symlink_to(tmp_path / "elsewhere.age")
    assert "can't be read" in failing(case, capsys)


def test_without_age(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    (case.programs / "age").unlink()
    assert failing(case, capsys) == "age: not found (install it: pacman -S age)"


def test_not_encrypted(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dmesg.txt.age", "vmcore.age"):
        (case.home / name).unlink()
    assert failing(case, capsys) == (f"{case.home}: nothing in it is encrypted (its vmcore can be opened as it is)")


def test_no_room_before(case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    facts = list(os.statvfs(case.home))
    facts[4] = 10  # f_bavail
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(facts))
    assert "no room for" in failing(case, capsys)


def test_no_room_meanwhile(case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (case.home / "dmesg.txt.age").unlink()
    pwrite = os.pwrite

    def full(fd: int, data: bytes, offset: int) -> int:
        if offset > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[:5000], offset)

    monkeypatch.setattr(os, "pwrite", full)
    assert failing(case, capsys) == f"{case.home}/vmcore: No space left on device"


def test_short_writes(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:4097], offset))
    assert case.run() == 0
    assert (case.home / "vmcore").read_bytes() == case.core


@pytest.mark.parametrize(
    "damage",
    [
        lambda flat: flat[:-16],
        lambda flat: flat[:-1],
        lambda flat: flat[:100_000],
        lambda flat: flat[:4096],
        lambda flat: flat[:20],
        lambda flat: flat + b"more",
        lambda flat: flat[:4096] + struct.pack(">qq", 0, -5) + flat[4096:],
        lambda flat: flat[:4096] + struct.pack(">qq", 0, 1 << 62) + flat[4096:],
    ],
)
def test_makedumpfile_was_killed_but_age_was_not(
    case: Case, capsys: pytest.CaptureFixture[str], damage: Callable[[bytes], bytes]
) -> None:
    (case.home / "dmesg.txt.age").unlink()
    (case.home / "vmcore.age").write_bytes(encrypt(case.public, damage(flattened(case.core))))
    assert failing(case, capsys).endswith("vmcore.age: what is encrypted in it was cut off when it was made")


def test_one_that_appears_meanwhile_is_left_alone(
    case: Case, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save = opening._save
    target = case.home / "dmesg.txt"

    def slow(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        target.write_text("somebody else's")

    monkeypatch.setattr(opening, "_save", slow)
    assert case.run() == 1
    assert "appeared meanwhile" in capsys.readouterr().err
    assert target.read_text() == "somebody else's"
    assert not [p for p in case.home.iterdir() if p.name.startswith(fs.TEMPORARY)]


def test_leftovers_of_killed_runs_go(case: Case) -> None:
    alive = f".kdump-pkg-{os.getppid()}-vmcore"
    stay = {alive, ".kdump-pkg-999999999-other", ".kdump-pkg-x-vmcore", "x.kdump-pkg-999999999-vmcore"}
    make_tree(case.home, dict.fromkeys((*stay, ".kdump-pkg-999999999-vmcore"), "x"))
    assert case.run() == 0
    rest = {path.name for path in case.home.iterdir()}
    assert rest == stay | {"meta", "save.log", "dmesg.txt", "vmcore", "dmesg.txt.age", "vmcore.age"}


def test_interrupted(case: Case, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    (case.home / "dmesg.txt.age").unlink()
    before = snapshot(case.home)
    monkeypatch.setattr(opening, "_check", stop)
    assert case.run() == 1
    assert "interrupted" in capsys.readouterr().err
    assert snapshot(case.home) == before


def test_only_age_reads_the_key(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = os.open

    def note(path: str, *args: Any, **kwargs: Any) -> int:
        opened.append(os.fspath(path))
        return original(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", note)
    assert case.run() == 0
    assert opened and os.fspath(case.key) not in opened


# --- which dump -------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    """Two encrypted dumps, a plain one after them, and two of the same second."""
    make_tree(root, {"/etc/fstab": ""})
    for name, encrypted in (
        ("2026-11-21T00-00-00Z-6.12.1", True),
        ("2026-11-22T00-00-00Z-6.12.1", True),
        ("2026-11-22T00-00-00Z-6.12.1.2", False),
        ("2026-11-23T00-00-00Z-6.12.1", False),
    ):
        make_tree(root, {f"/var/crash/{name}/meta": META, f"/var/crash/{name}/vmcore{'.age' * encrypted}": "x"})
    monkeypatch.setattr(config, "load", lambda ctx: Config(targets=(TargetWish(),)))
    return ctx


def find(ctx: Context, match: str | None) -> str:
    """The path of the one that `decrypt` takes."""
    return catalogue.find(ctx, config.load(ctx), match, sole=True, encrypted=True).path


@pytest.mark.parametrize(
    ("match", "name"),
    [
        (None, "2026-11-22T00-00-00Z-6.12.1"),
        ("2026-11-21", "2026-11-21T00-00-00Z-6.12.1"),
        ("2026-11-22T00-00-00Z-6.12.1", "2026-11-22T00-00-00Z-6.12.1"),
        ("2026-11-22T00-00-00Z-6.12.1.2", "2026-11-22T00-00-00Z-6.12.1.2"),
        ("2026-11-23", "2026-11-23T00-00-00Z-6.12.1"),
    ],
)
def test_which_dump(several: Context, match: str | None, name: str) -> None:
    assert find(several, match) == f"/var/crash/{name}"


@pytest.mark.parametrize("path", ["x/y", "./x", "x/", ".", ".."])
def test_a_path(case: Case, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """As the shell means it, also of a directory that nothing but the files tell of."""
    here = case.home.parent / "copied"
    (case.home).rename(here)
    (here / "meta").unlink()
    (here / "x").mkdir()
    (here / "x/y").symlink_to(here)
    for name in ("dmesg.txt.age", "vmcore.age"):
        (here / "x" / name).symlink_to(here / name)
    monkeypatch.chdir(here / ("x" if path == ".." else "."))
    expected = {"x/y": "copied/x/y", ".": "copied", "..": "copied"}.get(path)
    argv = ["decrypt", path, "--identity", os.fspath(case.key)]
    assert cli.main(argv) == (0 if expected else 1)  # links are no files of a dump
    assert (here / "vmcore").exists() is (expected is not None)


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ("2026-11-2", "4 dumps match 2026-11-2: .* …; say more of it"),
        ("2025", "no dump matches 2025"),
        ("vmcore", "no dump matches vmcore"),
    ],
)
def test_no_single_dump(several: Context, match: str, words: str) -> None:
    with pytest.raises(KdumpError, match=words):
        find(several, match)


def test_none_is_encrypted(several: Context) -> None:
    for path in (several.root / "var/crash").glob("*/vmcore.age"):
        path.unlink()
    with pytest.raises(KdumpError, match="no encrypted dumps"):
        find(several, None)


def test_what_was_decrypted_beside_is_not_the_newest_encrypted(several: Context) -> None:
    make_tree(several.root, {"/var/crash/2026-11-22T00-00-00Z-6.12.1/vmcore": "x"})
    assert find(several, None) == "/var/crash/2026-11-21T00-00-00Z-6.12.1"


def test_one_file_alone(case: Case, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    (case.home / "vmcore.age").rename(alone / "core.age")
    (case.home / "dmesg.txt.age").rename(alone / "log.age")
    assert cli.main(["decrypt", os.fspath(alone / "core.age"), "--identity", os.fspath(case.key)]) == 0
    assert (alone / "core").read_bytes() == case.core
    assert not (alone / "log").exists()


def test_a_path_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch()
    for bad in (tmp_path / "nowhere", key):
        assert cli.main(["decrypt", str(bad), "--identity", str(key)]) == 1
        assert f"{bad}: can't be read: " in capsys.readouterr().err
