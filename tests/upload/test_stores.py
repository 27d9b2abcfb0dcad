"""Dumps sent to OpenStack Swift (S3) and OpenSSH (sftp), for real: interrupted at any moment, each arrives once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.common import run, say
from tests.lab.stores import ACCESS, S3, SECRET, SFTP, Dump, Machine, Stores, kill, spawn

pytestmark = pytest.mark.stores

SEED = int(os.environ.get("KDUMP_TEST_SEED", "20261125"))
KILLS = int(os.environ.get("KDUMP_TEST_KILLS", "20"))
PART = 1 << 20
BELOW = ("proxy", "object", "container", "account")


@dataclass
class Place:
    """One of the stores, as the tests use it."""

    servers: Stores
    remote: str
    conf: str
    processes: tuple[str, ...]

    def objects(self, *flags: str) -> dict[str, dict[str, object]]:
        """All that lies there."""
        found = json.loads(self.servers.rclone("lsjson", "-R", "--files-only", *flags, self.remote))
        return {str(one["Path"]): one for one in found}

    def versions(self) -> dict[str, object]:
        """What changes when an object is written once more."""
        if self.remote.startswith("s3"):
            return {name: one["ModTime"] for name, one in self.objects("--use-server-modtime").items()}
        top = self.servers.clone.path / "home/vault" / self.remote.partition(":")[2]
        files = [path for path in top.rglob("*") if path.is_file()]
        return {os.fspath(path.relative_to(top)): path.stat().st_ino for path in files}


@pytest.fixture(params=["s3", "sftp"])
def place(request: pytest.FixtureRequest, servers: Stores) -> Iterator[Place]:
    """An empty bucket, an empty directory."""
    conf = S3.format(access=ACCESS, secret=SECRET, port=servers.ports["proxy"]) + SFTP.format(
        port=servers.ports["sshd"]
    )
    servers.write("/etc/kdump-pkg/rclone.conf", conf, 0o600)
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    remote = f"{request.param}:{name}"
    servers.rclone("mkdir", remote)
    yield Place(servers, remote, conf, BELOW if request.param == "s3" else ("sshd",))
    servers.restart(*(name for name, server in servers.servers.items() if server.popen is None))
    servers.rclone("purge", remote, check=False)


@pytest.fixture
def machine(servers: Stores) -> Machine:
    return Machine(servers, PART)


@pytest.fixture
def dice() -> random.Random:
    say(f"KDUMP_TEST_SEED={SEED}")
    return random.Random(SEED)


def expected(dumps: list[Dump]) -> dict[str, bytes]:
    """What has to be there, by its name, but for the list of all."""
    found: dict[str, bytes] = {}
    for dump in dumps:
        for name, data in dump.files.items():
            pieces = [data[i : i + PART] for i in range(0, len(data), PART)]
            names = [name] if len(pieces) == 1 else [f"{name}.part{n:05}" for n in range(1, len(pieces) + 1)]
            found |= {f"machine-1/{dump.signature}/{dump.id}/{n}": p for n, p in zip(names, pieces, strict=True)}
    return found


def assert_all_there(place: Place, dumps: list[Dump], tmp_path: Path) -> None:
    """Each object once, nothing else, and all as it is here: read back, and by the lists that lie beside them."""
    want = expected(dumps)
    lists = {f"machine-1/{d.signature}/{d.id}/sent.sums" for d in dumps}
    assert set(place.objects()) == set(want) | lists
    back = place.servers.clone.path / "tmp/back"
    run(["rm", "-rf", back])
    place.servers.rclone("copy", place.remote, "/tmp/back")
    assert {name for name, data in want.items() if (back / name).read_bytes() != data} == set()
    for name in lists:
        directory = (back / name).parent
        run(["sha256sum", "--check", "--strict", "sent.sums"], cwd=directory)
        assert len((back / name).read_text().splitlines()) == len(list(directory.iterdir())) - 1
        run(["sh", "-c", "[ ! -e vmcore.part00001 ] || cat vmcore.part* >vmcore"], cwd=directory)
        run(["sha256sum", "--check", "--strict", "report.sums"], cwd=directory)  # parts make up the whole
    run(["rm", "-rf", back])


def kill_at_random(machine: Machine, dice: random.Random, log: Path) -> bool:
    """Start an upload and end it after some lines and some moments more; False where it was done before."""
    log.write_bytes(b"")
    process = spawn(machine.servers.clone, ["kdump-pkg", "upload"], log)
    lines, wait = dice.choice((0, 0, 1, 1, 2, 3)), dice.uniform(0, 0.6)
    until(lambda: log.read_bytes().count(b"\n") >= lines or process.poll() is not None)
    time.sleep(wait)
    running = process.poll() is None
    kill(process)
    return running


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def confirmed(machine: Machine) -> set[str]:
    return {f"{dump['to']}/{name}" for dump in machine.record()["dumps"].values() for name in dump["objects"]}


def test_interrupted_at_random_moments(place: Place, machine: Machine, dice: random.Random, tmp_path: Path) -> None:
    machine.configure(f"remote = {place.remote}\nwhat = dumps\nrate = 8M\n", place.conf)
    dumps = [machine.add(f"2026-11-2{n}T07-46-54Z-6.12.1-arch1-1", 20 * PART + 1234, dice) for n in (3, 4)]
    dumps.append(machine.add("2026-11-21T07-46-54Z-6.12.1-arch1-1", 1000, dice))
    seen: dict[str, object] = {}
    killed = 0
    while killed < KILLS and kill_at_random(machine, dice, tmp_path / "log"):
        killed += 1
        known, there = confirmed(machine), place.versions()
        assert known <= set(there), "taken for arrived, and isn't there"
        seen |= {name: there[name] for name in known if name not in seen}
    assert killed == KILLS, "not enough to send for so many interruptions"
    done = machine.upload()
    assert (done.returncode, done.stderr) == (0, "")
    there = place.versions()
    assert {name: there[name] for name in seen} == seen, "sent again, although it had arrived"
    assert_all_there(place, dumps, tmp_path)
    assert machine.upload().stdout == "nothing to send\n"
    say(f"{killed} interruptions, {len(seen)} objects had arrived before the last")


def test_a_lost_record_sends_nothing_again(place: Place, machine: Machine, dice: random.Random, tmp_path: Path) -> None:
    machine.configure(f"remote = {place.remote}\nwhat = dumps\n", place.conf)
    dumps = [machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", 2 * PART + 5, dice)]
    assert machine.upload().returncode == 0
    before = place.versions()
    (machine.root / "var/lib/kdump-pkg/uploads.json").write_text('{"version": 1, "dumps": {"x": 3')
    done = machine.upload("--json")
    assert (done.returncode, json.loads(done.stdout)["sent"]) == (0, [dumps[0].id])
    assert place.versions() == before
    assert_all_there(place, dumps, tmp_path)


def test_what_was_damaged_there_is_sent_again(
    place: Place, machine: Machine, dice: random.Random, tmp_path: Path
) -> None:
    """Half an object under its last name, as an old rclone leaves one."""
    machine.configure(f"remote = {place.remote}\nwhat = dumps\n", place.conf)
    dump = machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", PART + 5, dice)
    to = f"{place.remote}/machine-1/{dump.signature}/{dump.id}"
    half = bytes(PART - 1) + b"x"
    (machine.root / "tmp/half").write_bytes(half)
    place.servers.rclone("copyto", "/tmp/half", f"{to}/vmcore.part00001")
    place.servers.rclone("copyto", "/tmp/half", f"{to}/vmcore.part00002.1a2b3c4d.partial")
    assert machine.upload().returncode == 0
    assert_all_there(place, [dump], tmp_path)


def test_the_server_goes_and_comes(place: Place, machine: Machine, dice: random.Random, tmp_path: Path) -> None:
    machine.configure(f"remote = {place.remote}\nwhat = dumps\nrate = 2M\n", place.conf)
    dumps = [machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", 4 * PART, dice)]
    log = tmp_path / "log"
    process = spawn(place.servers.clone, ["kdump-pkg", "upload"], log)
    until(lambda: b"part00002" in log.read_bytes())
    for name in place.processes:
        place.servers.servers[name].stop()
    assert process.wait(120) == 1
    last = log.read_text().splitlines()[-1]
    assert last.startswith(f"==> ERROR: {place.remote}: can't be reached: ")
    assert last.endswith("(kdump-pkg-upload.timer tries it again)")
    assert machine.record()["failure"]["hint"] == "kdump-pkg-upload.timer tries it again"
    place.servers.restart(*place.processes)
    assert machine.upload().returncode == 0
    assert machine.record()["failure"] is None
    assert_all_there(place, dumps, tmp_path)


def test_a_full_store(place: Place, machine: Machine, dice: random.Random, tmp_path: Path) -> None:
    machine.configure(f"remote = {place.remote}\nwhat = dumps\n", place.conf)
    dumps = [machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", 3 * PART, dice)]
    bucket = place.remote.partition(":")[2]
    mounted = machine.root / "home/vault" / bucket
    s3 = place.remote.startswith("s3")
    if s3:
        place.servers.limit(bucket, PART + PART // 2)
    else:
        run(["mount", "-t", "tmpfs", "-o", f"size={PART + PART // 2},mode=777", "lab", mounted])
        place.servers.servers["sshd"].stop()  # its mounts are its own
        place.servers.restart("sshd")
    try:
        done = machine.upload()
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"==> ERROR: {place.remote}: no room there: ")
        assert "sent.sums" not in "".join(place.objects())
        if s3:
            place.servers.limit(bucket, 1 << 40)
        else:
            run(["mount", "-o", "remount,size=1G", mounted])
        assert machine.upload().returncode == 0
        assert_all_there(place, dumps, tmp_path)
    finally:
        if not s3:
            place.servers.servers["sshd"].stop()
            run(["umount", mounted])
            place.servers.restart("sshd")


def test_refused(place: Place, machine: Machine, dice: random.Random) -> None:
    """Wrong keys, and a server that isn't the one we know."""
    machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", 1000, dice)
    place.servers.write("/etc/kdump-pkg/none", "", 0o600)
    key = place.servers.write("/etc/kdump-pkg/other_key", (machine.root / "etc/ssh/lab_host").read_text(), 0o600)
    cases = {
        "s3": [(SECRET, "another-secret-of-somebody", "refused: ", "correct the keys in /etc/kdump-pkg/rclone.conf")],
        "sftp": [
            ("kdump-pkg/key", f"kdump-pkg/{key.name}", "refused: ", "correct the keys in /etc/kdump-pkg/rclone.conf"),
            ("kdump-pkg/known_hosts", "kdump-pkg/none", "the server's key isn't known: ", "compare its fingerprint"),
        ],
    }  # fmt: skip
    for old, new, words, remedy in cases[place.remote.partition(":")[0]]:
        machine.configure(f"remote = {place.remote}\n", place.conf.replace(old, new))
        done = machine.upload()
        (line,) = done.stderr.splitlines()
        assert done.returncode == 1
        assert line.startswith(f"==> ERROR: {place.remote}: {words}")
        assert f"({remedy}" in line
        assert not any(secret in done.stdout + done.stderr for secret in (new, ACCESS) if place.remote.startswith("s3"))
        assert hashlib.sha256(new.encode()).hexdigest() not in line
    place.servers.write("/etc/kdump-pkg/rclone.conf", place.conf, 0o600)
    assert place.objects() == {}


def test_reports_alone(place: Place, machine: Machine, dice: random.Random) -> None:
    machine.configure(f"remote = {place.remote}\n", place.conf)
    dump = machine.add("2026-11-23T07-46-54Z-6.12.1-arch1-1", PART, dice)
    told = machine.upload("--dry-run")
    assert told.returncode == 0 and "vmcore" not in told.stdout and "dmesg.txt" in told.stdout
    assert place.objects() == {} and not (machine.root / "var/lib/kdump-pkg/uploads.json").exists()
    assert machine.upload().returncode == 0
    assert {name.rpartition("/")[2] for name in place.objects()} == set(dump.files) - {"vmcore"} | {"sent.sums"}
