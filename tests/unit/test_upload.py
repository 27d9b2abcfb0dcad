"""What is sent, in which order, and what is said when it can't be; the real stores are in tests/upload."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import config, dumps, paths
from kdump_pkg.apply import upload as sending
from kdump_pkg.context import Context, stamp_of
from kdump_pkg.errors import BusyError, CommandError, KdumpError
from kdump_pkg.facts import upload as facts
from kdump_pkg.fs import lock
from kdump_pkg.model import RemoveDump, UploadWish
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.upload import Arrived, Candidate, Failure, LocalFile, Record, Sent, Store
from kdump_pkg.plan import upload as planning
from kdump_pkg.plan.upload import PART, SUMS, plan_upload
from kdump_pkg.run import Result
from kdump_pkg.upload import upload
from tests.fakes import Call, FakeRunner, Hole, Link, failing, make_tree
from tests.fakes import Entry as Content

REPO = Path(__file__).resolve().parents[2]
WISH = UploadWish("s3:crashes", "dumps")
ID = "2026-11-23T07-46-54Z-6.12.1-arch1-1"
SIGNATURE = "0123456789abcdef"
SMALL = ("dmesg.txt", "meta", "report.json", "report.sums", "report.txt", "save.log")


def candidate(*names: str, core: int = 0, number: int = 3, **changes: object) -> Candidate:
    name = ID.replace("-23T", f"-2{number}T")
    files = [LocalFile(n, 100, f"100:{n}") for n in names or SMALL]
    files += [LocalFile("vmcore", core, f"{core}:1")] if core else []
    values = {"id": name, "directory": f"/var/crash/{name}", "files": tuple(files), "signature": SIGNATURE}
    return Candidate(**(values | changes))  # type: ignore[arg-type]


def sent(wish: UploadWish, one: Candidate, *, but: int = 0, whole: str = "dumps") -> Record:
    """All of it has arrived, but for the last pieces."""
    pieces = [p for file in planning.wanted(wish, one) for p in planning.pieces_of(file)]
    kept = pieces[: len(pieces) - but] if but else pieces
    objects = {p.name: Arrived(p.size, p.stamp, hashlib.sha256(p.name.encode()).hexdigest()) for p in kept}
    record = Sent(wish.remote, f"host/{SIGNATURE}/{one.id}", one.directory, objects, whole)
    if not but:
        data = planning.sums(record, pieces)
        objects[SUMS] = Arrived(len(data), planning.stamp_of_sums(data), planning.stamp_of_sums(data))
    return Record({one.id: record})


def names(wish: UploadWish, *some: Candidate, record: Record | None = None) -> list[list[str]]:
    plan = plan_upload(wish, "host", some, record or Record())
    return [[f"{b.id[9]}:{p.name}" for p in b.pieces] or [f"{b.id[9]}:{SUMS}"] for b in plan.batches]


# --- the plan ---


def test_reports_of_all_come_before_any_memory() -> None:
    small = ["report.json", "report.txt", "dmesg.txt", "meta", "report.sums", "save.log"]
    assert names(WISH, candidate(core=5, number=4), candidate(core=5)) == [
        [f"4:{n}" for n in small], [f"3:{n}" for n in small],
        ["4:vmcore"], ["4:sent.sums"], ["3:vmcore"], ["3:sent.sums"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (1, [("vmcore", 0, 1)]),
        (PART, [("vmcore", 0, PART)]),
        (PART + 1, [("vmcore.part00001", 0, PART), ("vmcore.part00002", PART, 1)]),
        (2 * PART, [("vmcore.part00001", 0, PART), ("vmcore.part00002", PART, PART)]),
    ],
)
def test_large_files_go_in_parts(size: int, parts: list[tuple[str, int, int]]) -> None:
    found = list(planning.pieces_of(LocalFile("vmcore", size, "x")))
    assert [(p.name, p.offset, p.size) for p in found] == parts
    assert {(p.file, p.stamp) for p in found} == {("vmcore", "x")}


@given(size=st.integers(0, 1 << 44))
def test_parts_make_up_the_whole_and_sort_by_name(size: int) -> None:
    size = min(size, 40 * PART) if size % 2 else size % (40 * PART)
    found = list(planning.pieces_of(LocalFile("v", size, "x")))
    assert sum(p.size for p in found) == size
    assert [p.offset for p in found] == [n * PART for n in range(len(found))]
    assert sorted(p.name for p in found) == [p.name for p in found]


def test_reports_alone() -> None:
    wish = replace(WISH, what="reports")
    assert not any("vmcore" in n for batch in names(wish, candidate(core=5)) for n in batch)


@pytest.mark.parametrize("name", ["vmcore.incomplete", "meta.new", ".kdump-pkg-x", "report.html", "pinned", "mine"])
def test_what_is_no_use_there_stays_here(name: str) -> None:
    assert names(WISH, candidate("meta", name)) == [["3:meta"], ["3:sent.sums"]]


def test_what_has_arrived_is_not_sent_again() -> None:
    one = candidate(core=2 * PART + 5)
    assert names(WISH, one, record=sent(WISH, one)) == []
    assert names(WISH, one, record=sent(WISH, one, but=1)) == [["3:vmcore.part00003"], ["3:sent.sums"]]
    partly = sent(WISH, one, but=2, whole="")
    assert names(WISH, one, record=partly) == [["3:vmcore.part00002"], ["3:vmcore.part00003"], ["3:sent.sums"]]


def test_a_lost_list_is_sent_again_alone() -> None:
    one = candidate(core=5)
    record = sent(WISH, one)
    del record.dumps[one.id].objects[SUMS]
    assert names(WISH, one, record=record) == [["3:sent.sums"]]


def test_a_changed_file_is_sent_again_with_the_list() -> None:
    one = candidate(core=5)
    record = sent(WISH, one)
    files = tuple(replace(f, stamp="new") if f.name == "report.json" else f for f in one.files)
    assert names(WISH, replace(one, files=files), record=record) == [["3:report.json"], ["3:sent.sums"]]


def test_the_memory_follows_when_it_is_asked_for_later() -> None:
    one, reports = candidate(core=5), replace(WISH, what="reports")
    record = sent(reports, one, whole="reports")
    assert names(reports, one, record=record) == []
    assert names(WISH, one, record=record) == [["3:vmcore"], ["3:sent.sums"]]
    assert planning.unsent(reports, [one.directory], record) == frozenset()
    assert planning.unsent(WISH, [one.directory], record) == {one.directory}


def test_fewer_wishes_take_nothing_back() -> None:
    one = candidate(core=5)
    assert names(replace(WISH, what="reports"), one, record=sent(WISH, one)) == []


def test_another_remote_has_nothing_yet() -> None:
    one = candidate(core=5)
    elsewhere = replace(WISH, remote="sftp:x")
    assert names(elsewhere, one, record=sent(WISH, one)) == names(WISH, one)
    assert planning.unsent(elsewhere, [one.directory], sent(WISH, one)) == {one.directory}
    assert planning.unsent(UploadWish(), [one.directory], Record()) == frozenset()


def test_a_dump_keeps_the_place_that_it_has_got() -> None:
    """Its report may be made anew, with another signature."""
    one = candidate(core=5)
    later = replace(one, signature="fedcba9876543210")
    (batch, _) = plan_upload(WISH, "host", [later], sent(WISH, one, but=1)).batches
    assert batch.to == f"host/{SIGNATURE}/{one.id}"
    (first, *_) = plan_upload(WISH, "host", [later], Record()).batches
    assert first.to == f"host/fedcba9876543210/{one.id}"
    (first, *_) = plan_upload(WISH, "other", [one], sent(WISH, one, but=1)).batches
    assert first.to == f"other/{SIGNATURE}/{one.id}"


@pytest.mark.parametrize("signature", ["", "..", "../../../x", "0123456789ABCDEF", "0" * 17, "x\n"])
def test_without_a_signature(signature: str) -> None:
    (batch, *_) = plan_upload(WISH, "host", [candidate(signature=signature)], Record()).batches
    assert batch.to == f"host/unknown/{ID}"


ENCRYPTED = ("dmesg.txt.age", "meta", "report.json", "report.txt", "vmcore.age")


def test_encrypted_dumps_stay_encrypted() -> None:
    opened = candidate(*ENCRYPTED, "dmesg.txt", "vmcore", "capture-dmesg.txt", encrypted=True, open_report=True)
    assert names(WISH, opened) == [["3:dmesg.txt.age", "3:meta"], ["3:vmcore.age"], ["3:sent.sums"]]
    closed = candidate(*ENCRYPTED, encrypted=True)
    assert names(WISH, closed)[0] == ["3:report.json", "3:report.txt", "3:dmesg.txt.age", "3:meta"]
    assert plan_upload(WISH, "host", [closed], Record()).batches[0].to == f"host/unknown/{ID}"


def test_what_waits_is_not_sent() -> None:
    plan = plan_upload(WISH, "host", [candidate(waits="it is being written")], Record())
    assert (plan.batches, plan.waiting, plan.pending) == ((), ((ID, "it is being written"),), (ID,))


def test_the_list_names_all_and_sha256sum_reads_it() -> None:
    one = candidate("meta", "dmesg.txt", core=PART + 1)
    record = sent(WISH, one).dumps[ID]
    pieces = [p for file in planning.wanted(WISH, one) for p in planning.pieces_of(file)]
    lines = planning.sums(record, pieces).decode().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["dmesg.txt", "meta", "vmcore.part00001", "vmcore.part00002"]
    assert all(len(line.split("  ")[0]) == 64 for line in lines)
    del record.objects["meta"]
    assert planning.sums(record, pieces) == b""


# --- facts ---


def entry(**changes: object) -> Entry:
    values = {"id": ID, "path": f"/var/crash/{ID}", "maker": "kdump-pkg", "time": 0, "state": "complete"}
    return Entry(**(values | {"signature": SIGNATURE} | changes))  # type: ignore[arg-type]


def make_dump(root: Path, age: float = 0, **files: Content) -> Path:
    tree: dict[str, Content] = {"meta": "format=1\nresult=complete\n", "dmesg.txt": "log", "report.json": "{}"}
    tree |= {"vmcore": b"core"} | {name.replace("__", "."): data for name, data in files.items()}
    make_tree(root, {f"/var/crash/{ID}/{name}": data for name, data in tree.items() if data is not None})
    directory = root / "var/crash" / ID
    os.utime(directory, (1_795_420_014 - age,) * 2)
    return directory


def read(ctx: Context, one: Entry) -> Candidate:
    (found,) = facts.read_candidates(ctx, [one])
    return found


def test_a_dump_and_its_files(ctx: Context, root: Path) -> None:
    directory = make_dump(root, age=10, vmcore__incomplete=Link("/etc/shadow"), notes="mine")
    found = read(ctx, entry())
    assert [(f.name, f.size) for f in found.files] == [
        ("dmesg.txt", 3),
        ("meta", 25),
        ("report.json", 2),
        ("vmcore", 4),
    ]
    assert (found.waits, found.encrypted, found.signature) == ("", False, SIGNATURE)
    old = found.files[3].stamp
    (directory / "vmcore").write_bytes(b"cors")
    os.utime(directory / "vmcore", ns=(1, 1))
    assert read(ctx, entry()).files[3].stamp != old


def test_a_dump_waits_for_its_report_but_not_for_ever(ctx: Context, root: Path) -> None:
    make_dump(root, age=60, report__json=None)
    assert "no report yet" in read(ctx, entry()).waits
    make_dump(root, age=facts.WITHOUT_REPORT + 1, report__json=None)
    assert read(ctx, entry()).waits == ""
    make_dump(root, age=-86400, report__json=None)  # of a clock that was wrong
    assert read(ctx, entry()).waits == ""
    assert read(ctx, entry(state="being written")).waits == "it is being written"


def test_others_dumps_and_links_stay_here(ctx: Context, root: Path) -> None:
    make_dump(root)
    make_tree(root, {"/var/crash/link": Link(ID)})
    assert facts.read_candidates(ctx, [entry(maker="Fedora"), entry(path="/var/crash/gone")]) == ()
    assert facts.read_candidates(ctx, [entry(path="/var/crash/link")]) == ()


@pytest.mark.parametrize(
    ("report", "opened"),
    [
        ({"crash": {"release": "6.12"}}, False),
        ({"crash": {"lines": [], "trace": [], "words": ""}}, False),
        ({"crash": {"lines": ["Oops: 0002"]}}, True),
        ({"crash": {"trace": [{"function": "f"}]}}, True),
        ({"crash": 3}, True),
        ([], True),
        (None, True),
    ],
)
def test_a_report_of_what_was_decrypted(ctx: Context, root: Path, report: object, opened: bool) -> None:
    text = "not JSON" if report is None else json.dumps(report)
    make_dump(root, age=10, dmesg__txt__age="age", report__json=text)
    found = read(ctx, entry(encrypted=True))
    assert (found.encrypted, found.open_report) == (True, opened)


@pytest.mark.parametrize(
    ("tree", "host"),
    [
        ({"/etc/hostname": "db-1\n"}, "db-1"),
        ({"/proc/sys/kernel/hostname": "live\n", "/etc/hostname": "db-1\n"}, "live"),
        ({"/etc/hostname": "../a b/\x1b[31m\n"}, "a-b-31m"),
        ({"/etc/hostname": "x" * 300}, "x" * 48),
        ({}, "localhost"),
    ],
)
def test_host(ctx: Context, root: Path, tree: dict[str, Content], host: str) -> None:
    make_tree(root, tree)
    assert facts.read_host(ctx, WISH) == host
    assert facts.read_host(ctx, replace(WISH, host="own")) == "own"


@pytest.mark.parametrize("name", ["localhost", "archlinux", "LocalHost.localdomain"])
def test_a_name_that_many_have_gets_digits(ctx: Context, root: Path, name: str) -> None:
    make_tree(root, {"/etc/hostname": name, "/etc/machine-id": "a" * 32})
    first = facts.read_host(ctx, WISH)
    assert first.startswith(f"{name}-") and len(first) == len(name) + 9 and "aaaa" not in first
    (root / "etc/machine-id").write_text("b" * 32)
    assert facts.read_host(ctx, WISH) != first


CONF = """[s3]
type = s3
access_key_id = AKIAEXAMPLE
secret_access_key = very/secret+key
endpoint = https://127.0.0.1

[hidden]
type = crypt
remote = vault:x
password = obscured-word

[vault]
type = sftp
host = 127.0.0.1
key_file = /etc/kdump-pkg/key
"""


def private(root: Path, text: str | bytes = CONF, mode: int = 0o600) -> None:
    make_tree(root, {WISH.config: text})
    (root / WISH.config[1:]).chmod(mode)


def test_store(ctx: Context, root: Path) -> None:
    private(root)
    found = facts.read_store(ctx, replace(WISH, rate="1M"))
    stamp = stamp_of((root / WISH.config[1:]).stat())
    assert found == Store("s3:crashes", WISH.config, "1M", ("very/secret+key", "AKIAEXAMPLE"), stamp, CONF.encode())


@pytest.mark.parametrize(
    ("make", "remote", "words"),
    [
        (lambda root: None, "s3:x", ["not there", "rclone --config /etc/kdump-pkg/rclone.conf config"]),
        (lambda root: private(root, mode=0o640), "s3:x", ["others than root", "chmod 600"]),
        (lambda root: make_tree(root, {f"{WISH.config}/x": ""}), "s3:x", ["can't be read"]),
        (lambda root: private(root), "s4:x", ["no remote [s4]"]),
        (lambda root: private(root, "[s3\nvery/secret+key"), "s3:x", ["not what rclone config writes"]),
        (lambda root: private(root, b"\xff\xfe"), "s3:x", ["not what rclone config writes"]),
        (lambda root: private(root, "# x\nRCLONE_ENCRYPT_V0:\nabc"), "s3:x", ["encrypted", "encryption remove"]),
        (lambda root: private(root), "vault:x", ["[vault] takes any server", "known_hosts_file"]),
        (lambda root: private(root), "hidden:x", ["[vault] takes any server"]),
    ],
)
def test_a_store_that_is_none(
    ctx: Context, root: Path, make: Callable[[Path], None], remote: str, words: list[str]
) -> None:
    make(root)
    with pytest.raises(KdumpError) as caught:
        facts.read_store(ctx, replace(WISH, remote=remote))
    text = f"{caught.value.message} {caught.value.hint}"
    assert all(word in text for word in words) and "secret" not in text and "\n" not in text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_configuration(ctx: Context, root: Path) -> None:
    private(root)
    os.chown(root / WISH.config[1:], 12345, -1)
    with pytest.raises(KdumpError, match="others than root"):
        facts.read_store(ctx, WISH)


@pytest.mark.parametrize(
    "text", ["", "[", "3", "[]", '{"version": 2, "dumps": {}}', '{"version": 1, "dumps": 3}', "{" * 9999]
)
def test_a_damaged_record_knows_nothing(ctx: Context, root: Path, text: str) -> None:
    make_tree(root, {paths.UPLOADS: text})
    assert facts.read_record(ctx) == Record()


GOOD = {"remote": "s3:x", "to": f"h/{SIGNATURE}/{ID}", "path": "/p", "whole": "", "objects": {}}
ONE = {"size": 1, "stamp": "1:1", "sha256": "0" * 64}


@pytest.mark.parametrize(
    "bad",
    [
        3, {}, {**GOOD, "to": "../../x"}, {**GOOD, "to": 3}, {**GOOD, "objects": []}, {**GOOD, "objects": {"a": 1}},
        {**GOOD, "objects": {"a": {**ONE, "sha256": "x"}}}, {**GOOD, "objects": {"a": {**ONE, "size": True}}},
    ],
)  # fmt: skip
def test_what_is_damaged_of_a_record_is_left_out(ctx: Context, root: Path, bad: object) -> None:
    good = {**GOOD, "objects": {"a": ONE}}
    make_tree(root, {paths.UPLOADS: json.dumps({"version": 1, "dumps": {"bad": bad, "good": good}, "failure": [1]})})
    found = Sent("s3:x", f"h/{SIGNATURE}/{ID}", "/p", {"a": Arrived(1, "1:1", "0" * 64)})
    assert facts.read_record(ctx) == Record({"good": found})


def test_the_record_survives_writing(ctx: Context, root: Path) -> None:
    record = Record(
        {"x": Sent("s3:x", f"h/u/{ID}", "/p", {"a": Arrived(1, "1:1", "0" * 64)}, "dumps")}, Failure(1, "t", "h")
    )
    sending.write_record(ctx, record)
    assert facts.read_record(ctx) == record
    assert (root / paths.UPLOADS[1:]).stat().st_mode & 0o777 == 0o600


# --- rclone ---

STORE = Store("s3:crashes", WISH.config, secrets=("very/secret+key",))


class FakeStore:
    """An rclone with a memory; a real one is in tests/upload."""

    def __init__(self, root: Path, hashes: tuple[str, ...] = ("md5",)) -> None:
        self.root = root
        self.hashes = hashes
        self.objects: dict[str, bytes] = {}
        self.failures: dict[str, Result] = {}
        self.spoil = False
        self.written: list[str] = []

    def __call__(self, call: Call) -> Result | bytes:
        verb = call.argv[1]
        words = [word for word in call.argv[2:] if not word.startswith("--")]
        if verb in self.failures:
            return self.failures[verb]
        if verb == "copy":
            for path in Path(words[0]).iterdir():
                data = path.read_bytes()
                self.written.append(path.name)
                self.objects[f"{words[1]}{path.name}"] = data[:-1] + b"!" if self.spoil else data
            return b""
        if verb == "deletefile":
            del self.objects[words[0]]
            return b""
        listed = [w.partition("=")[2] for w in call.argv if w.startswith("--files-from-raw=")]
        wanted = Path(listed[0]).read_text().splitlines() if listed else None
        found = {
            name.removeprefix(words[-1]): data
            for name, data in self.objects.items()
            if name.startswith(words[-1]) and (wanted is None or name.removeprefix(words[-1]) in wanted)
        }
        if verb == "hashsum":
            return "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in found.items()).encode()
        assert verb == "lsjson"
        if not found:
            return failing(call.argv, 3, "2026/11/25 18:03:45 ERROR : error listing: directory not found")
        told = [
            {"Name": n, "Size": len(d), "Hashes": {h: hashlib.new(h, d).hexdigest() for h in self.hashes}}
            for n, d in found.items()
        ]
        return json.dumps(told).encode()

    def verbs(self, runner: FakeRunner) -> list[str]:
        return [call.argv[1] for call in runner.calls if call.argv[0] == "rclone"]


@pytest.fixture(params=[("md5",), ("sha1", "sha256"), ()], ids=["md5", "sha", "no hash"])
def store(request: pytest.FixtureRequest, root: Path, runner: FakeRunner) -> FakeStore:
    fake = FakeStore(root, request.param)
    runner.answers["rclone"] = fake
    return fake


def configured(root: Path, text: str = "remote = s3:crashes\nwhat = dumps\nhost = host\n") -> None:
    make_tree(root, {paths.CONFIG: f"[upload]\n{text}", "/proc/self/mountinfo": "", "/etc/fstab": ""})
    private(root)


def run(ctx: Context, **flags: bool) -> int:
    return upload(ctx, dry_run=flags.get("dry_run", False), as_json=flags.get("as_json", False))


TO = f"s3:crashes/host/unknown/{ID}"


def test_all_arrives_once(
    ctx: Context, root: Path, runner: FakeRunner, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root)
    make_dump(root, age=10)
    assert run(ctx) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"==> all of {ID} has arrived in {TO}"
    assert {name.removeprefix(f"{TO}/") for name in store.objects} == {
        "meta",
        "dmesg.txt",
        "report.json",
        "vmcore",
        SUMS,
    }
    sums = store.objects[f"{TO}/{SUMS}"].decode()
    assert f"{hashlib.sha256(b'core').hexdigest()}  vmcore\n" in sums
    assert ("hashsum" in store.verbs(runner)) == (not store.hashes)
    runner.calls.clear()
    assert run(ctx) == 0
    assert store.verbs(runner) == []
    assert capsys.readouterr().out == "nothing to send\n"
    assert not (root / paths.UPLOAD_STAGE[1:]).exists()


def test_nothing_secret_is_in_a_command(ctx: Context, root: Path, runner: FakeRunner, store: FakeStore) -> None:
    configured(root, "remote = s3:crashes\nwhat = dumps\nrate = 512K\nhost = host\n")
    make_dump(root, age=10)
    run(ctx)
    calls = [call for call in runner.calls if call.argv[0] == "rclone"]
    assert not any(secret in " ".join(call.argv) for call in calls for secret in ("very/secret+key", "AKIAEXAMPLE"))
    assert all("--bwlimit=512K" in call.argv and "--ask-password=false" in call.argv for call in calls)
    assert all(call.timeout for call in calls)


def test_what_is_there_and_not_written_down_is_not_sent(
    ctx: Context, root: Path, runner: FakeRunner, store: FakeStore
) -> None:
    configured(root)
    make_dump(root, age=10)
    run(ctx)
    (root / paths.UPLOADS[1:]).unlink()
    runner.calls.clear()
    assert run(ctx) == 0
    assert "copy" not in store.verbs(runner)
    assert facts.read_record(ctx).dumps[ID].whole == "dumps"


def test_what_is_damaged_there_is_sent_again(ctx: Context, root: Path, store: FakeStore) -> None:
    configured(root)
    make_dump(root, age=10)
    store.objects = {f"{TO}/vmcore": b"cor?", f"{TO}/meta.0a1b2c3d.partial": b"left", f"{TO}/theirs": b"x"}
    assert run(ctx) == 0
    assert store.objects[f"{TO}/vmcore"] == b"core"
    assert f"{TO}/meta.0a1b2c3d.partial" not in store.objects
    assert store.objects[f"{TO}/theirs"] == b"x"


def test_of_what_goes_together_only_what_is_missing_is_sent(ctx: Context, root: Path, store: FakeStore) -> None:
    configured(root)
    make_dump(root, age=10)
    store.objects = {f"{TO}/dmesg.txt": b"log", f"{TO}/meta": b"format=1\nresult=cut"}
    assert run(ctx) == 0
    assert sorted(store.written) == ["meta", "report.json", SUMS, "vmcore"]


def test_what_arrives_damaged_has_not_arrived(
    ctx: Context, root: Path, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root)
    make_dump(root, age=10)
    store.spoil = True
    assert run(ctx) == 1
    assert (
        f"{TO}/dmesg.txt: not there as it was sent (kdump-pkg-upload.timer tries it again)" in capsys.readouterr().err
    )
    assert facts.read_record(ctx).dumps == {}
    assert "not there as it was sent" in (facts.read_record(ctx).failure or Failure(0, "")).text
    store.spoil = False
    assert run(ctx) == 0
    assert facts.read_record(ctx).failure is None


def test_rclone_works_on_a_copy_of_its_own(ctx: Context, root: Path, runner: FakeRunner, store: FakeStore) -> None:
    configured(root)
    directory = make_dump(root, age=10)
    run(ctx)
    copy = root / paths.UPLOAD_CONFIG[1:]
    assert copy.read_text() == CONF
    assert (copy.stat().st_mode & 0o777, copy.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert all(f"--config={copy}" in call.argv for call in runner.calls if call.argv[0] == "rclone")
    copy.write_text(f"{CONF}token = renewed\n")
    os.utime(directory / "meta", ns=(1, 1))
    run(ctx)
    assert "renewed" in copy.read_text()
    private(root, f"{CONF}# changed\n")
    os.utime(directory / "meta", ns=(2, 2))
    run(ctx)
    assert copy.read_text() == f"{CONF}# changed\n"
    assert (root / WISH.config[1:]).read_text() == f"{CONF}# changed\n"


def test_a_failure_keeps_what_had_arrived(ctx: Context, root: Path, runner: FakeRunner, store: FakeStore) -> None:
    configured(root)
    make_dump(root, age=10)
    full = failing(("rclone",), 1, "2026/11/25 18:00:00 ERROR : vmcore: Failed to copy: QuotaExceeded")
    answers = iter([None, full])

    def answer(call: Call) -> Result | bytes:
        return (next(answers, full) if call.argv[1] == "copy" else None) or store(call)

    runner.answers["rclone"] = answer
    assert run(ctx) == 1
    assert set(facts.read_record(ctx).dumps[ID].objects) == {"meta", "dmesg.txt", "report.json"}
    assert f"{TO}/{SUMS}" not in store.objects
    assert planning.unsent(WISH, [f"/var/crash/{ID}"], facts.read_record(ctx)) == {f"/var/crash/{ID}"}


SAID = [
    ("ssh: handshake failed: knownhosts: key is unknown", "the server's key isn't known", "known_hosts_file"),
    ("ssh: handshake failed: knownhosts: key mismatch", "another key than it had", "find out why"),
    ("ssh: unable to authenticate, attempted methods [none]", "refused", "correct the keys in /etc/kdump-pkg"),
    ("StatusCode: 403, api error SignatureDoesNotMatch: very/secret+key", "refused", "correct the keys"),
    ("StatusCode: 404, api error NoSuchBucket: The specified bucket", "no such bucket", "mkdir s3:crashes"),
    ("dial tcp 127.0.0.1:1: connect: connection refused", "can't be reached", "timer tries it again"),
    ('Post "https://x/?X-Amz-Signature=abcdef&token=t0ken": EOF', "can't be reached", "timer tries it again"),
    ("write /x: no space left on device", "no room there", "what = reports"),
    ("some\x1b[31mthing <b>else</b>" + "x" * 9000, "thing <b>", "timer tries it again"),
    (
        'Failed to create file system for "s3:crashes/h": NewFs: lookup x: no such host',
        ": NewFs",
        "timer tries it again",
    ),
    ("", "exit code 1", "timer tries it again"),
]


@pytest.mark.parametrize(("said", "words", "remedy"), SAID)
def test_what_rclone_says_becomes_one_line(said: str, words: str, remedy: str) -> None:
    head = "2026/11/25 18:03:45"
    lines = f"{head} ERROR : a: {said}\n{head} NOTICE: Failed to copy with 2 errors: last error was: {said}\n"
    error = sending.explain(STORE, Result(("rclone",), 1, b"", lines.encode() if said else b""))
    assert error.message.startswith("s3:crashes: ") and error.message.isprintable() and len(error.message) < 300
    assert words in error.message and remedy in (error.hint or "")
    assert "Failed to" not in error.message
    assert not any(
        secret in error.message for secret in ("very/secret", "abcdef", "t0ken", "2026/11/25", "Failed to copy with")
    )


def test_rclone_is_missing_or_hangs(
    ctx: Context, root: Path, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root)
    make_dump(root, age=10)
    assert run(ctx) == 1
    assert "rclone: not found (install it: pacman -S rclone)" in capsys.readouterr().err
    runner.answers["rclone"] = CommandError("rclone lsjson --config=/x --y: not done after 21600 s, ended")
    assert run(ctx) == 1
    assert capsys.readouterr().err == (
        "==> ERROR: s3:crashes: rclone was not done after 21600 s (kdump-pkg-upload.timer tries it again)\n"
    )


@pytest.mark.parametrize("answer", ["", "[", "3", '[{"Name": 3, "Size": 1}]', '[{"Name": "x"}]', "null"])
def test_a_list_that_is_none(ctx: Context, runner: FakeRunner, root: Path, answer: str) -> None:
    private(root)
    runner.answers["rclone"] = answer
    if answer.startswith("[{") and "Size" in answer:
        assert sending.look(ctx, STORE, "x") == {}
        return
    with pytest.raises(KdumpError, match="no list of what is there"):
        sending.look(ctx, STORE, "x")


# --- what stays here meanwhile ---


def test_prune_leaves_alone_what_is_yet_to_be_sent(ctx: Context, root: Path) -> None:
    ids = [ID.replace("-23T", f"-{day}T") for day in (20, 21, 22, 23)]
    make_tree(root, {f"/var/crash/{one}/meta": "format=1\nresult=complete\n" for one in ids})

    def pruned() -> list[str]:
        return [
            action.name for action in dumps.plan_prune(ctx, config.load(ctx)).actions if isinstance(action, RemoveDump)
        ]

    make_tree(root, {paths.CONFIG: "keep = 1\nkeep_free = 0\n", "/proc/self/mountinfo": "", "/etc/fstab": ""})
    assert pruned() == ids[:3]
    make_tree(root, {paths.CONFIG: "keep = 1\nkeep_free = 0\n[upload]\nremote = s3:crashes\n"})
    assert pruned() == []
    arrived = {one: Sent("s3:crashes", f"h/u/{one}", f"/var/crash/{one}", {}, "reports") for one in ids[1:]}
    sending.write_record(ctx, Record(arrived))
    assert pruned() == ids[1:3]
    make_tree(root, {paths.CONFIG: "keep_free = 99%\n[upload]\nremote = s3:crashes\n"})
    assert pruned()[-1] == ids[0]


@pytest.mark.spawns
@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("[upload]\nremote = s3:x\n", True),
        ("[upload]\n\tremote=s3:x", True),
        ("#remote =\n#remote = s3:x\n", False),
        ("[upload]\nremote =\n", False),
        ("[upload]\nremote = # none yet\n", False),
        ("", False),
    ],
)
def test_the_unit_starts_where_there_is_a_remote(tmp_path: Path, text: str, starts: bool) -> None:
    unit = (REPO / "systemd/kdump-pkg-upload.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecCondition=(.*)$", unit, re.MULTILINE)
    for there in ("etc/kdump-pkg.conf", "etc/kdump-pkg.conf.d/x.conf"):
        make_tree(tmp_path / there.replace("/", "-"), {there: text})
        words = [word.replace("/etc/", f"{tmp_path / there.replace('/', '-')}/etc/") for word in shlex.split(line)]
        assert (subprocess.run(words, check=False, timeout=60).returncode == 0) == starts


# --- the verb ---


def test_without_a_remote_nothing_happens(ctx: Context, root: Path, runner: FakeRunner) -> None:
    make_tree(root, {paths.CONFIG: "[upload]\nwhat = dumps\n"})
    with pytest.raises(KdumpError, match="names no remote"):
        run(ctx)
    assert runner.calls == [] and not (root / "var").exists()


def test_not_from_a_capture(ctx: Context, root: Path, runner: FakeRunner) -> None:
    configured(root)
    make_tree(root, {"/proc/vmcore": ""})
    with pytest.raises(KdumpError, match="capture kernel"):
        run(ctx)
    assert runner.calls == []


def test_one_at_a_time_and_not_in_the_way_of_hooks(ctx: Context, root: Path, store: FakeStore) -> None:
    configured(root)
    make_dump(root, age=10)
    with lock(root / paths.LOCK[1:]):  # a hook is at work
        assert run(ctx) == 0
    with lock(root / paths.UPLOAD_LOCK[1:]), pytest.raises(BusyError, match="another upload"):
        run(ctx)


def test_dry_run_changes_nothing(
    ctx: Context, root: Path, runner: FakeRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root)
    make_dump(root, age=10, vmcore=Hole(PART + 1))
    assert run(ctx, dry_run=True) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == f"sending report.json, dmesg.txt, meta of {ID} (30B) to {TO}"
    assert "vmcore.part00002" in out
    assert run(ctx, dry_run=True, as_json=True) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["pending"] == [ID]
    assert value["objects"][-1] == {"dump": ID, "object": f"host/unknown/{ID}/vmcore.part00002", "bytes": 1}
    assert not any(call.argv[0] == "rclone" for call in runner.calls) and not (root / "var/lib").exists()


def test_json(ctx: Context, root: Path, store: FakeStore, capsys: pytest.CaptureFixture[str]) -> None:
    configured(root)
    make_dump(root, age=10)
    assert run(ctx, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"remote": "s3:crashes", "sent": [ID], "waiting": [], "failures": []}


def test_a_file_that_changes_meanwhile_waits_for_the_next_time(
    ctx: Context, root: Path, runner: FakeRunner, store: FakeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root)
    directory = make_dump(root, age=10)

    def answer(call: Call) -> Result | bytes:
        if call.argv[1] == "copy":
            (directory / "vmcore").write_bytes(b"other core")
        return store(call)

    runner.answers["rclone"] = answer
    assert run(ctx) == 1
    assert "vmcore has changed meanwhile" in capsys.readouterr().err
    runner.answers["rclone"] = store
    assert run(ctx) == 0
    assert store.objects[f"{TO}/vmcore"] == b"other core"


def test_no_room_for_a_part_here(ctx: Context, root: Path, store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(root)
    make_dump(root, age=10)

    def full(directory: Path, size: int) -> None:
        raise KdumpError("no room", hint="free some")

    monkeypatch.setattr("kdump_pkg.fs.check_space", full)
    with pytest.raises(KdumpError, match="no room"):
        run(ctx)  # not even the record can be written
    assert store.objects == {}
