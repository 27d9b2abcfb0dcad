"""What `verify` says of a dump: whole, changed, cut off, of another kernel, with pages left out, encrypted, foreign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import verification
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.model.crash import Check, Verification, VmcoreFacts
from kdump_pkg.model.dumps import Entry
from kdump_pkg.run import Result, SystemRunner
from tests import fakes
from tests.fakes import Answer, Call, FakeRunner, make_tree, pacman_db
from tests.vmcores import BUILD_ID, INCOMPLETE, INFO, RELEASE, ZLIB, Kdump, flattened

NAME = f"2026-11-23T07-46-54Z-{RELEASE}"
HOME = f"/var/crash/{NAME}"
LOG = "[    1.000000] one\n[    2.000000] Kernel panic - not syncing: sysrq\n[    2.000001] rest\n"
META = f"format=1\nrelease={RELEASE}\nbuild_id={BUILD_ID}\nlevel=31\nmakedumpfile=1.7.9-1\nresult=complete\n"
FACTS = VmcoreFacts(tasks=97)
FAULT = "stack of task 1 (init): could not read memory: Excluded page: 0xffffc90000000000"
NEW = "7.2.13-arch1-1"


def answers(log: str = LOG, facts: object = None) -> dict[str, Answer]:
    """makedumpfile that finds this log, and a reader that finds these facts."""

    def dump(call: Call) -> Answer:
        Path(call.argv[-1]).write_text(log)
        return 0

    return {"prlimit": dump, sys.executable: json.dumps({"tasks": 97} if facts is None else facts)}


class Dump:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / HOME[1:]
        self.runner = FakeRunner(answers())
        self.entry = Entry(
            NAME, HOME, "kdump-pkg", 1795420014, RELEASE, "complete", vmcore=f"{HOME}/vmcore", log=f"{HOME}/dmesg.txt",
            build_id=BUILD_ID,
        )  # fmt: skip
        make_tree(root, {f"{HOME}/meta": META, f"{HOME}/dmesg.txt": LOG, f"{HOME}/vmcore": Kdump().build()})

    @property
    def ctx(self) -> Context:
        return Context(self.root, self.runner, lambda: 1795500000.0)

    def write(self, kdump: Kdump | bytes) -> None:
        (self.home / "vmcore").write_bytes(kdump if isinstance(kdump, bytes) else kdump.build())

    def verify(self, facts: VmcoreFacts | None = None) -> dict[str, Check]:
        found = verification.verify(self.ctx, self.entry, facts)
        assert found.time == 1795500000
        assert all(check.text and check.text.isprintable() for check in found.checks)
        return {check.name: check for check in found.checks}


@pytest.fixture
def dump(root: Path) -> Dump:
    return Dump(root)


def test_a_whole_one(dump: Dump) -> None:
    verification.write_sums(dump.ctx, dump.entry)
    found = dump.verify()
    assert {name: check.state for name, check in found.items()} == dict.fromkeys(
        ("sums", "structure", "log", "kernel", "tasks"), "ok"
    )
    assert found["structure"].text == "29 pages, level 31, zlib, all inside the file"
    assert found["log"].text == "makedumpfile reads it, the same 2 lines as in dmesg.txt"
    assert found["kernel"].text == f"release {RELEASE} and build ID {BUILD_ID}"
    assert found["tasks"].text == "97 tasks can be read"


def test_good_is_without_anything_bad() -> None:
    skipped, bad = Check("log", "skipped", "x"), Check("log", "bad", "x")
    assert Verification((skipped,)).good
    assert not Verification((skipped, bad)).good


# --- sums -------------------------------------------------------------------------------------------------------------


def test_sums_are_those_of_sha256sum(dump: Dump) -> None:
    make_tree(dump.root, {f"{HOME}/report.txt": "x", f"{HOME}/notes": "mine", f"{HOME}/.kdump-pkg-1-x": "x"})
    said = verification.write_sums(dump.ctx, dump.entry)
    assert (said.state, said.text) == ("ok", "3 files, summed up now")
    text = (dump.home / "report.sums").read_text()
    assert [line.split("  ")[1] for line in text.splitlines()] == ["dmesg.txt", "meta", "vmcore"]
    assert (dump.home / "report.sums").stat().st_mode & 0o777 == 0o600


@pytest.mark.spawns
def test_sha256sum_takes_them(dump: Dump) -> None:
    verification.write_sums(dump.ctx, dump.entry)
    argv = ["sha256sum", "--check", "--strict", "--quiet", "report.sums"]
    assert subprocess.run(argv, cwd=dump.home, capture_output=True, check=True).stdout == b""


def test_what_has_changed_is_named(dump: Dump) -> None:
    verification.write_sums(dump.ctx, dump.entry)
    make_tree(dump.root, {f"{HOME}/dmesg.txt": LOG + "x", f"{HOME}/report.json": "{}", f"{HOME}/pinned": ""})
    (dump.home / "meta").unlink()
    found = dump.verify()["sums"]
    assert (found.state, found.text) == ("bad", "since the report was made, dmesg.txt has changed, meta is gone")


def test_who_has_decrypted_may_remove_what_was_encrypted(dump: Dump) -> None:
    make_tree(dump.root, {f"{HOME}/vmcore.age": "age-encryption.org/v1\n", f"{HOME}/save.log.age": "x"})
    verification.write_sums(dump.ctx, dump.entry)
    (dump.home / "vmcore.age").unlink()
    assert dump.verify()["sums"].state == "ok"
    (dump.home / "save.log.age").unlink()
    assert dump.verify()["sums"].text == "since the report was made, save.log.age is gone"


def test_sums_that_are_there_stay(dump: Dump) -> None:
    """A second run must not bless what has changed since the first."""
    verification.write_sums(dump.ctx, dump.entry)
    before = (dump.home / "report.sums").read_bytes()
    make_tree(dump.root, {f"{HOME}/dmesg.txt": "changed\n"})
    assert verification.write_sums(dump.ctx, dump.entry).state == "bad"
    assert (dump.home / "report.sums").read_bytes() == before


@pytest.mark.parametrize("sums", ["", "rubbish\n", "x  meta\n", f"{'0' * 64}  ../../etc/passwd\n", b"\xff\xfe\0"])
def test_sums_that_are_none(dump: Dump, sums: str | bytes) -> None:
    make_tree(dump.root, {f"{HOME}/report.sums": sums})
    assert dump.verify()["sums"].state == "skipped"


def test_a_link_for_a_file_is_not_followed(dump: Dump) -> None:
    verification.write_sums(dump.ctx, dump.entry)
    (dump.home / "meta").unlink()
    make_tree(dump.root, {"/etc/shadow": META, f"{HOME}/meta": fakes.Link("/etc/shadow")})
    assert "meta is gone" in dump.verify()["sums"].text


# --- structure --------------------------------------------------------------------------------------------------------


def test_truncated(dump: Dump) -> None:
    dump.write(Kdump().build()[:-100])
    found = dump.verify()
    assert found["structure"].state == "bad"
    assert "truncated: it has" in found["structure"].text
    assert found["kernel"].state == "ok"  # the headers are there


def test_no_dump_at_all(dump: Dump) -> None:
    dump.write(b"")
    found = dump.verify()
    assert list(found) == ["sums", "structure"]
    assert found["structure"].text == f"{dump.home}/vmcore: empty: nothing was written"


def test_its_own_mark(dump: Dump) -> None:
    dump.write(Kdump(status=ZLIB | INCOMPLETE))
    assert dump.verify()["structure"].text == "makedumpfile says that it could not write all of it"


@pytest.mark.parametrize(("state", "result"), [("dmesg only", "skipped"), ("failed", "bad"), ("incomplete", "bad")])
def test_without_a_vmcore(dump: Dump, state: str, result: str) -> None:
    entry = Entry(NAME, HOME, "kdump-pkg", 0, RELEASE, state, log=f"{HOME}/dmesg.txt")  # type: ignore[arg-type]
    checks = verification.verify(dump.ctx, entry).checks
    assert [(check.name, check.state) for check in checks] == [("sums", "skipped"), ("structure", result)]


def test_encrypted(dump: Dump) -> None:
    for name in ("vmcore", "dmesg.txt"):
        (dump.home / name).unlink()
    make_tree(dump.root, {f"{HOME}/{name}.age": "age-encryption.org/v1\nx" for name in ("vmcore", "dmesg.txt")})
    dump.entry = Entry(NAME, HOME, "kdump-pkg", 0, RELEASE, "complete", encrypted=True, vmcore=f"{HOME}/vmcore.age")
    verification.write_sums(dump.ctx, dump.entry)
    found = dump.verify()
    assert found["sums"].state == "ok"
    assert "without the key" in found["structure"].text
    assert verification.read_vmcore(dump.ctx, dump.entry, None).missing == "encrypted: kdump-pkg decrypt"
    make_tree(dump.root, {f"{HOME}/vmcore.age": ""})
    found = dump.verify()
    assert found["sums"].text == "since the report was made, vmcore.age has changed"
    assert found["structure"].text == "vmcore.age is not what age writes: empty"
    assert dump.runner.calls == []


def test_encrypted_and_alone(dump: Dump) -> None:
    """A file that was named by its path, wherever it lies."""
    file = "/home/me/vmcore.age"
    dump.entry = Entry("vmcore.age", file, "unknown", 0, state="complete", encrypted=True, vmcore=file)
    make_tree(dump.root, {file: "age-encryption.org/v1\nx", "/home/me/dmesg.txt.age": "another one's"})
    assert "without the key" in dump.verify()["structure"].text
    make_tree(dump.root, {file: "age"})
    assert dump.verify()["structure"].text == "vmcore.age is not what age writes: damaged"


def test_a_stream(dump: Dump) -> None:
    """makedumpfile itself refuses it: `Can't get valid ehdr`."""
    dump.write(flattened(Kdump().build()))
    found = dump.verify()
    assert found["structure"].text == "29 pages, level 31, zlib, all inside the file"
    assert found["log"].state == "skipped" and "makedumpfile -R" in found["log"].text
    assert found["tasks"].state == "ok"
    assert not any(call.argv[0] == "prlimit" for call in dump.runner.calls)


def test_foreign(dump: Dump) -> None:
    """One file of somebody else's, without a log beside it."""
    make_tree(dump.root, {"/var/crash/crashdump-2026-11-23": Kdump().build()})
    path = "/var/crash/crashdump-2026-11-23"
    dump.entry = Entry("crashdump-2026-11-23", path, "ArchWiki", 0, vmcore=path)
    found = dump.verify()
    assert (found["sums"].state, found["sums"].text) == ("skipped", "ArchWiki makes none")
    assert found["log"].text == "makedumpfile reads it, 3 lines"
    assert found["kernel"].state == "skipped"
    assert found["tasks"].state == "ok"


# --- its log ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "state", "text"),
    [
        (LOG + "more\n", "ok", "the same 2 lines"),
        (LOG.replace("rest", "another end"), "ok", "the same 2 lines"),
        (LOG.replace("one", "eins"), "bad", "another log than dmesg.txt has, from line 1 on"),
        (LOG.replace("sysrq", "x"), "bad", "another log than dmesg.txt has, from line 2 on"),
        (LOG.splitlines()[0] + "\n", "bad", "another log than dmesg.txt has, from line 2 on"),
        ("", "bad", "makedumpfile can't read it: it found none"),
    ],
)
def test_log(dump: Dump, log: str, state: str, text: str) -> None:
    dump.runner = FakeRunner(answers(log))
    found = dump.verify()["log"]
    assert found.state == state
    assert text in found.text


def test_makedumpfile_is_limited(dump: Dump) -> None:
    dump.verify()
    call = next(call for call in dump.runner.calls if call.argv[0] == "prlimit")
    assert call.timeout and "--core=0" in call.argv and any(word.startswith("--as=") for word in call.argv)
    assert call.argv[-4:-1] == ("makedumpfile", "--dump-dmesg", f"{dump.home}/vmcore")
    assert not Path(call.argv[-1]).parent.exists()  # private, and gone


@pytest.mark.parametrize(
    ("answer", "state", "text"),
    [
        (
            CommandError("prlimit: not found", hint="install it: pacman -S util-linux"),
            "skipped",
            "pacman -S util-linux",
        ),
        (127, "skipped", "pacman -S makedumpfile"),
        (
            Result((), 1, b"", b"The kernel version is not supported.\ncheck_release: bad \x1b[31mrelease\n"),
            "bad",
            "bad [31mrelease",
        ),
        (Result((), -11, b"", b""), "bad", "makedumpfile can't read it"),
        (CommandError("makedumpfile: not done after 120 s, ended"), "skipped", "not done after 120 s"),
    ],
)
def test_makedumpfile_has_no_answer(dump: Dump, answer: Answer, state: str, text: str) -> None:
    dump.runner = FakeRunner(answers() | {"prlimit": answer})
    found = dump.verify()["log"]
    assert (found.state, text in found.text) == (state, True), found


# --- its kernel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (INFO.replace(RELEASE, NEW), f"the memory is of release {NEW}, the dump of {RELEASE}"),
        (
            INFO.replace("BUILD-ID=00", "BUILD-ID=ff"),
            f"the memory is of build ID ff{BUILD_ID[2:]}, the dump of {BUILD_ID}",
        ),
    ],
)
def test_of_another_kernel(dump: Dump, info: str, text: str) -> None:
    dump.write(Kdump(info=info))
    found = dump.verify()["kernel"]
    assert (found.state, found.text) == ("bad", text)


# --- its tasks --------------------------------------------------------------------------------------------------------


def test_known_facts_are_not_read_again(dump: Dump) -> None:
    assert dump.verify(FACTS)["tasks"].text == "97 tasks can be read"
    assert all(call.argv[0] == "prlimit" for call in dump.runner.calls)


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (VmcoreFacts(missing="drgn is not installed: pacman -S drgn"), "skipped"),
        (VmcoreFacts(missing="its tasks can't be found without a vmlinux with DWARF: x"), "skipped"),
        (VmcoreFacts(missing="could not be read: drgn died of it (signal 11)"), "bad"),
        (VmcoreFacts(fault=FAULT), "bad"),
    ],
)
def test_tasks(dump: Dump, facts: VmcoreFacts, state: str) -> None:
    found = dump.verify(facts)["tasks"]
    assert found.state == state
    assert (facts.missing or facts.fault) in found.text


def test_damaged_by_makedumpfile_is_named_as_such(dump: Dump) -> None:
    make_tree(dump.root, {f"{HOME}/meta": META.replace(RELEASE, NEW)})
    dump.write(Kdump(info=INFO.replace(RELEASE, NEW)))
    dump.entry = Entry(NAME, HOME, "kdump-pkg", 0, NEW, "complete", vmcore=f"{HOME}/vmcore")
    text = dump.verify(VmcoreFacts(tasks=3, fault=FAULT))["tasks"].text
    assert text.startswith(f"damaged by makedumpfile 1.7.9: of Linux 7.1 and later, as {NEW},")
    assert "at level 31" in text and text.endswith(FAULT)


def test_of_a_dump_that_does_not_say_the_installed_one_is_taken(dump: Dump) -> None:
    make_tree(dump.root, pacman_db({"makedumpfile": ("1:1.7.8-2", ())}))
    make_tree(dump.root, {f"{HOME}/meta": "format=1\nresult=complete\n"})
    dump.write(Kdump(info=INFO.replace(RELEASE, NEW)))
    dump.entry = Entry(NAME, HOME, "kdump-pkg", 0, "", "complete", vmcore=f"{HOME}/vmcore")
    text = dump.verify(VmcoreFacts(fault=FAULT))["tasks"].text
    assert text.startswith("damaged by makedumpfile 1.7.8 (if it was the one that is installed)")


@pytest.mark.parametrize(
    ("release", "makedumpfile", "level"), [("7.0.9", "1.7.9-1", 31), (NEW, "1.7.10-1", 31), (NEW, "1.7.9-1", 23)]
)
def test_what_did_no_harm_is_not_blamed(dump: Dump, release: str, makedumpfile: str, level: int) -> None:
    meta = META.replace("1.7.9-1", makedumpfile).replace(RELEASE, release)
    make_tree(dump.root, {f"{HOME}/meta": meta})
    dump.write(Kdump(info=INFO.replace(RELEASE, release), level=level))
    dump.entry = Entry(NAME, HOME, "kdump-pkg", 0, release, "complete", vmcore=f"{HOME}/vmcore")
    assert dump.verify(VmcoreFacts(fault=FAULT))["tasks"].text == FAULT


def test_what_is_cut_off_is_not_blamed_either(dump: Dump) -> None:
    make_tree(dump.root, {f"{HOME}/meta": META.replace(RELEASE, NEW)})
    dump.write(Kdump(info=INFO.replace(RELEASE, NEW)))
    dump.entry = Entry(NAME, HOME, "kdump-pkg", 0, NEW, "complete", vmcore=f"{HOME}/vmcore")
    fault = FAULT.replace("Excluded page", "Cannot read page data")
    assert dump.verify(VmcoreFacts(fault=fault))["tasks"].text == fault


# --- the program that reads the memory --------------------------------------------------------------------------------


def test_it_is_started_apart(dump: Dump) -> None:
    assert verification.read_vmcore(dump.ctx, dump.entry, Path("/usr/lib/debug/x")) == FACTS
    argv = dump.runner.calls[0].argv
    assert argv[:3] == (sys.executable, "-I", "-B")
    assert argv[-3:] == ("vmcore", f"{dump.home}/vmcore", "/usr/lib/debug/x")
    assert dump.runner.calls[0].timeout == verification.READING


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (Result((), -11, b"", b""), "could not be read: drgn died of it (signal 11)"),
        (CommandError("python3: not done after 300 s, ended"), "could not be read: drgn was not done after 300 s"),
        (CommandError("python3: not found"), "python3: not found"),
        ("", "could not be read: drgn gave no answer"),
        ("[]", "could not be read: drgn gave no answer"),
        ("[" * 100000, "could not be read: drgn gave no answer"),
        (b"\xff\xfe", "could not be read: drgn gave no answer"),
    ],
)
def test_it_fails(dump: Dump, answer: Answer, missing: str) -> None:
    dump.runner = FakeRunner({sys.executable: answer})
    assert verification.read_vmcore(dump.ctx, dump.entry, None).missing == missing


def test_nothing_of_its_answer_is_believed() -> None:
    hostile = {
        "tasks": -1, "running": [{"pid": "x", "name": "a\nb\x1b[31m" + "c" * 9999, "state": "DD", "cpu": True}, 7],
        "blocked": "none", "memory": [["MemTotal", 5], ["x", "y"], ["z"], [None, 1]], "fault": ["x"], "missing": "a\0b",
        "more": 1,
    }  # fmt: skip
    facts = verification.parse_facts(json.dumps(hostile).encode())
    assert facts is not None
    (task,) = facts.running
    assert task.name.startswith("a b [31mccc") and len(task.name) <= 320
    assert (task.pid, task.cpu, task.state) == (0, 0, "D")
    assert facts == VmcoreFacts(running=(task,), memory=(("MemTotal", 5), ("", 1)), missing="a b")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["tasks", "running", "memory", "fault", "pid", "name", "state", "cpu", "trace"]),
            inner,
            max_size=5,
        )
    ),
)


@given(json_values)
def test_property_any_answer(value: object) -> None:
    facts = verification.parse_facts(json.dumps(value).encode())
    assert facts is None or all(word.isprintable() for word in (facts.fault, facts.missing))


@pytest.mark.spawns
@pytest.mark.parametrize("by_verb", [True, False])
def test_the_program_itself_on_what_is_no_dump(dump: Dump, by_verb: bool) -> None:
    """Also by the way that the package's own launcher would take."""
    dump.write(b"no dump at all")
    ctx = Context(dump.root, SystemRunner())
    if by_verb:
        facts = verification.read_vmcore(ctx, dump.entry, None)
    else:
        argv = [sys.executable, "-m", "kdump_pkg", "vmcore", os.fspath(dump.home / "vmcore")]
        done = subprocess.run(argv, cwd=fakes.__file__.rsplit("/", 2)[0], capture_output=True, check=True)
        facts = verification.parse_facts(done.stdout) or VmcoreFacts()
    assert facts.missing.startswith(("could not be read: ", "drgn is not installed"))
    assert facts.tasks == 0
