"""What is read of linux-kdump: its records, the recipe, the source, power and load, a kernel that was just built."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import fs, paths
from kdump_pkg.apply import queue
from kdump_pkg.context import Context
from kdump_pkg.errors import BadImageError, CommandError
from kdump_pkg.facts import building, variant
from kdump_pkg.model import VariantWish, Wanted
from kdump_pkg.model.building import Local, Power
from kdump_pkg.model.variant import Built, Failure, Progress, Record, VariantState
from kdump_pkg.run import SystemRunner
from tests.fakes import BUILD_ID, PACKERS, FakeRunner, Hole, Link, LiveContext, bzimage, elf, make_tree

RELEASE = "6.12.1-kdump"
NOW = 1_795_420_014
WANTED = Wanted("linux", "6.12.1.arch1-1", "6.12.1-arch1-1", ("nvme", "xfs"), "asked for")
BUILT = Built(WANTED, RELEASE, BUILD_ID, 1_795_000_000, 600, 1800)
FAILURE = Failure(WANTED, 1_795_000_001, "building", "no compiler", "pacman -S gcc", ("one", "two"))
WHOLE = Record(True, WANTED, BUILT, FAILURE, {BUILD_ID: "rehearsal"})


def put(root: Path, value: object, name: str = paths.VARIANT_RECORD) -> None:
    make_tree(root, {name: value if isinstance(value, bytes) else json.dumps(value)})


def plain(record: Record) -> dict[str, Any]:
    """As it is written."""
    return json.loads(json.dumps(asdict(record)))  # type: ignore[no-any-return]


# --- the record -----------------------------------------------------------------------------------------------------


def test_what_was_written_is_read(ctx: Context, root: Path) -> None:
    put(root, plain(WHOLE))
    assert variant.read_record(ctx) == WHOLE
    assert variant.read_state(ctx) == VariantState(WHOLE, now=NOW)
    put(root, plain(Record()))
    assert variant.read_record(ctx) == Record()


def test_what_is_asked_for_is_read_back(ctx: Context, root: Path) -> None:
    """With all else that is remembered left as it was."""
    make_tree(root, {paths.STATE: None})
    put(root, plain(Record(followed=True, built=BUILT, failure=FAILURE, trusted={"x": "y"})))
    queue.ask(ctx, WANTED)
    assert variant.read_record(ctx) == Record(True, WANTED, BUILT, FAILURE, {"x": "y"})


def test_none(ctx: Context) -> None:
    assert variant.read_state(ctx) == VariantState(now=NOW)


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{", b"null", b"\xff\xfe", b"[" * 100_000, b'{"wanted": [], "built": 3, "trusted": [1]}', b'"text"'],
    ids=lambda r: r[:20].decode("latin-1"),
)
def test_a_damaged_record_is_none(ctx: Context, root: Path, record: bytes) -> None:
    put(root, record)
    assert variant.read_record(ctx) == Record()


@pytest.mark.parametrize("value", [None, 1, 1.5, True, [], ["x", 1], {}, {"a": 1}], ids=repr)
@pytest.mark.parametrize(
    ("where", "lost"),
    [
        (("wanted", "version"), "wanted"), (("wanted", "drivers"), "wanted"), (("wanted",), "wanted"),
        (("built", "time"), "built"), (("built", "release"), "built"), (("built", "wanted"), "built"),
        (("failure", "step"), "failure"), (("failure", "wanted", "base"), "failure"), (("built",), "built"),
    ],
)  # fmt: skip
def test_one_wrong_value_costs_what_holds_it_and_no_more(
    ctx: Context, root: Path, where: tuple[str, ...], lost: str, value: object
) -> None:
    record = plain(WHOLE)
    inner = record
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    put(root, record)
    found = variant.read_record(ctx)
    if where[-1] == "drivers" and value == []:
        assert found.wanted == Wanted(WANTED.base, WANTED.version, WANTED.release, (), WANTED.reason)
    elif where[-1] == "time" and type(value) is int:
        assert found == Record(True, WANTED, Built(WANTED, RELEASE, BUILD_ID, 1, 600, 1800), FAILURE, WHOLE.trusted)
    else:
        assert getattr(found, lost) is None
        assert [name for name in ("wanted", "built", "failure") if getattr(found, name) is None] == [lost]
    assert (found.followed, found.trusted) == (True, WHOLE.trusted)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"followed": "yes"}, Record(False, WANTED, BUILT, FAILURE, WHOLE.trusted)),
        ({"followed": 1}, Record(False, WANTED, BUILT, FAILURE, WHOLE.trusted)),
        ({"trusted": {"a": "b", "c": 1}}, Record(True, WANTED, BUILT, FAILURE, {"a": "b"})),
        ({"trusted": ["a"]}, Record(True, WANTED, BUILT, FAILURE)),
        ({"unknown": 1}, WHOLE),
    ],
)
def test_wrong_values(ctx: Context, root: Path, change: dict[str, object], expected: Record) -> None:
    put(root, plain(WHOLE) | change)
    assert variant.read_record(ctx) == expected


def test_a_failure_with_odd_last_lines(ctx: Context, root: Path) -> None:
    for tail, expected in (([], ()), (["x", 1], ()), ("text", ()), (None, ())):
        record = plain(WHOLE)
        record["failure"]["tail"] = tail
        put(root, record)
        found = variant.read_record(ctx).failure
        assert found is not None
        assert found.tail == expected
    del record["failure"]["tail"]
    record["built"]["more"] = 1
    put(root, record)
    found = variant.read_record(ctx).failure
    assert found is not None and found.tail == ()
    assert variant.read_record(ctx).built is None, "a name that it doesn't have"


@dataclass(frozen=True)
class Recorded(Context):
    """A root in which every file has the same content."""

    content: bytes = b""

    def __init__(self, content: bytes) -> None:
        super().__init__(root=Path("/nowhere"))
        object.__setattr__(self, "content", content)

    def read_bytes(self, name: str) -> bytes:
        return self.content


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["wanted", "built", "failure", "trusted", "drivers", "base", "tail"]), inner)
    ),
    max_leaves=10,
)


@given(value=VALUES)
def test_property_whatever_json(value: object) -> None:
    found = variant.read_state(Recorded(json.dumps(value).encode()))
    hash((found.record.wanted, found.record.built, found.record.failure))


# --- the lock -------------------------------------------------------------------------------------------------------


def locks(root: Path, *, inode: int = 0, kind: str = "FLOCK", device: str = "") -> None:
    found = (root / paths.VARIANT_LOCK.lstrip("/")).stat()
    place = device or f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    line = f"2: {kind}  ADVISORY  WRITE 12 {place}:{inode or found.st_ino} 0 EOF\n"
    make_tree(root, {"/proc/locks": f"1: POSIX  ADVISORY  READ 7 00:01:1 0 EOF\nodd\n\n{line}2: -> {line[3:]}"})


def test_a_lock_that_is_held(ctx: Context, root: Path) -> None:
    make_tree(root, {paths.VARIANT_LOCK: ""})
    assert not variant.is_running(ctx), "no /proc/locks"
    locks(root)
    assert variant.is_running(ctx)
    for inode, kind, device in ((1, "FLOCK", ""), (0, "POSIX", ""), (0, "FLOCK", "ff:ff")):
        locks(root, inode=inode, kind=kind, device=device)
        assert not variant.is_running(ctx), (inode, kind, device)


@pytest.mark.spawns
def test_a_real_lock(tmp_path: Path) -> None:
    """As the kernel tells it, whoever asks."""
    make_tree(tmp_path, {"/run": None, "/proc": None})
    here = Context(root=tmp_path)
    lock = here.path(paths.VARIANT_LOCK)
    with fs.lock(lock):
        make_tree(tmp_path, {"/proc/locks": Path("/proc/locks").read_bytes()})
        assert variant.is_running(here)
    make_tree(tmp_path, {"/proc/locks": Path("/proc/locks").read_bytes()})
    assert not variant.is_running(here)


def test_progress_is_of_the_build_that_runs(ctx: Context, root: Path) -> None:
    make_tree(root, {paths.VARIANT_LOCK: ""})
    put(root, {"step": "building", "text": "x", "since": 7, "done": 1, "of": 2}, paths.VARIANT_PROGRESS)
    assert variant.read_state(ctx) == VariantState(now=NOW)
    locks(root)
    assert variant.read_state(ctx) == VariantState(Record(), True, Progress("building", "x", 7, 1, 2), NOW)
    for bad in ({}, {"step": 1}, {"step": "x", "done": "2"}, {"step": "x", "done": True}, {"step": "x", "odd": 1}):
        put(root, bad, paths.VARIANT_PROGRESS)
        assert variant.read_state(ctx) == VariantState(running=True, now=NOW)


# --- the recipe -----------------------------------------------------------------------------------------------------


def test_recipe(ctx: Context, root: Path) -> None:
    assert building.read_recipe(ctx) == {}
    home = paths.VARIANT_RECIPE
    make_tree(root, {
        f"{home}/base.config": "CONFIG_A=y\n",
        f"{home}/nvme.config": "# modules: nvme nvme-core vmd\nCONFIG_B=y\n",
        f"{home}/crypt.config": "# modules: dm_crypt  xts\n# modules: algif_hash\n# words\n#modules: no\n",
        f"{home}/odd.config": b"\xff\xfe# modules: x\n# modules:\n",
        f"{home}/directory.config": None,
        f"{home}/PKGBUILD": "# modules: x\n",
    })  # fmt: skip
    assert building.read_recipe(ctx) == {
        "base": (), "nvme": ("nvme", "nvme_core", "vmd"), "crypt": ("dm_crypt", "xts", "algif_hash"), "odd": (),
        "directory": (),
    }  # fmt: skip


# --- the source -----------------------------------------------------------------------------------------------------

FPR, SUB = "A" * 40, "B" * 40
LISTED = f"""\
tru::1:1795000000:0:3:1:5
pub:-:4096:1:38DBBDC86092693E:1316554898:::-:::scSC::::::23::0:
fpr:::::::::{FPR}:
uid:-::::1316554898::X::Somebody <x@example.org>::::::::::0:
sub:-:4096:1:F38153E276D54749:1316554898::::::e::::::23:
fpr:::::::::{SUB}:
pub:-:255:22:1:1316554898:::-:::scSC::::::23::0:
fpr:::::::::{"C" * 40}:
"""


def local(ctx: Context, **wish: str) -> Local:
    return building.read_local(ctx, VariantWish(**wish))  # type: ignore[arg-type]


def test_nothing_of_ones_own(ctx: Context, runner: FakeRunner) -> None:
    assert local(ctx) == Local()
    assert runner.calls == []


@pytest.mark.parametrize(
    ("beside", "signature"),
    [
        ((), ""),
        (("x.tar.xz.sig",), "x.tar.xz.sig"),
        (("x.tar.xz.asc",), "x.tar.xz.asc"),
        (("x.tar.sign",), "x.tar.sign"),
        (("x.tar.sign", "x.tar.xz.sign"), "x.tar.xz.sign"),
        (("x.sign", "y.tar.sign"), ""),
    ],
)
def test_archive(ctx: Context, root: Path, beside: tuple[str, ...], signature: str) -> None:
    make_tree(root, {"/srv/x.tar.xz": "", **{f"/srv/{name}": "" for name in beside}})
    assert local(ctx, source="/srv/x.tar.xz") == Local("archive", signature)


def test_archive_behind_a_link(ctx: Context, root: Path) -> None:
    make_tree(root, {"/srv/real.tar": "", "/srv/x.tar": Link("real.tar"), "/srv/gone.tar": Link("nowhere")})
    assert local(ctx, source="/srv/x.tar").kind == "archive"
    assert local(ctx, source="/srv/gone.tar").kind == "none"


@pytest.mark.parametrize(
    ("head", "version"),
    [
        ("# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 9\nEXTRAVERSION =\n", "6.12.9"),
        ("VERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc1\n", "6.13"),
        ("VERSION = 6\nPATCHLEVEL = 12\n", ""),
        ("VERSION = $(shell id)\nPATCHLEVEL = 1\nSUBLEVEL = 2\n", ""),
        ("", ""),
    ],
)
def test_tree(ctx: Context, root: Path, head: str, version: str) -> None:
    make_tree(root, {"/usr/src/linux/Makefile": head})
    assert local(ctx, source="/usr/src/linux") == Local("tree", version=version)


def test_no_source(ctx: Context, root: Path) -> None:
    make_tree(root, {"/usr/src/empty": None})
    for name in ("/usr/src/empty", "/usr/src/gone", "/"):
        assert local(ctx, source=name) == Local()


def test_keys(ctx: Context, root: Path, runner: FakeRunner) -> None:
    """Of the keys themselves: makepkg knows none by a part of it."""
    make_tree(root, {"/etc/own.gpg": b"\x99key"})
    runner.answers["gpg"] = LISTED
    assert local(ctx, keys="/etc/own.gpg") == Local(keys=(FPR, "C" * 40))
    assert runner.calls[0].stdin == b"\x99key"


KEY = """\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawddARYJKwYBBAHaRw8BAQdA9zGWHuxK2r9GUAMIro5ThK9f7GXJRyNA165A
9Djwp0y0F1Rlc3QgPHRlc3RAZXhhbXBsZS5vcmc+iJAEExYIADgWIQSUAx/1YrbU
jUFBw7m7mDpcxbTTagUCawddAQIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAK
CRC7mDpcxbTTakrRAQCEaPJrsGujO3t0hdxcUXmmcTqPjdDPxT9QKo8GNcL7zAD+
Jx8N+K19uE7n6CTi6KsT/1QRFICrJ/1spxNUlk2gPgi4OARrB10BEgorBgEEAZdV
AQUBAQdAnmEpAu6mOOm4zGBhtDJSio2hRsi8Ady5Hgf9KguwDTQDAQgHiHgEGBYI
ACAWIQSUAx/1YrbUjUFBw7m7mDpcxbTTagUCawddAQIbDAAKCRC7mDpcxbTTag+5
AP9SWCTPMmu+4PXiJ6DU9Xj41byE8Y2jQhZhpXXdH4rOxQD+LGTh9+AtX8h6256T
W5/ioVX7ssOkjbcwF7YYk0CM4gU=
=+GXY
-----END PGP PUBLIC KEY BLOCK-----
"""
"""Somebody's, with a key of his for encryption."""


@pytest.mark.spawns
@pytest.mark.parametrize(("data", "keys"), [(KEY, ("94031FF562B6D48D4141C3B9BB983A5CC5B4D36A",)), ("noise", ())])
def test_keys_as_gpg_lists_them(root: Path, data: str, keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a unit starts it: there is no home, or none that gpg has seen."""
    if shutil.which("gpg") is None:
        pytest.skip("gpg is not installed")
    monkeypatch.setenv("HOME", "/nowhere")
    make_tree(root, {"/etc/own.gpg": data})
    found = local(Context(root=root, runner=SystemRunner()), keys="/etc/own.gpg")
    assert found.keys == keys
    assert bool(found.keys_problem) is not bool(keys), found


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", ""),
        ("fpr:::::::::" + FPR + ":\n", ""),
        ("pub:\nfpr:::::::::$(id):\nfpr:x\n", ""),
        (2, "gpg --batch"),
        (CommandError("gpg: not found"), "gpg: not found"),
    ],
)
def test_keys_that_are_none(
    ctx: Context, root: Path, runner: FakeRunner, answer: str | int | CommandError, problem: str
) -> None:
    make_tree(root, {"/etc/own.gpg": "noise"})
    runner.answers["gpg"] = answer
    found = local(ctx, keys="/etc/own.gpg")
    assert found.keys == ()
    assert found.keys_problem.startswith(problem)


def test_keys_that_are_not_there(ctx: Context, root: Path, runner: FakeRunner) -> None:
    make_tree(root, {"/etc/dir": None, "/etc/huge": Hole(1 << 30)})
    assert local(ctx, keys="/etc/gone").keys_problem == "there is no such file"
    assert local(ctx, keys="/etc/dir").keys_problem == "it can't be read"
    assert local(ctx, keys="/etc/huge").keys_problem == "it can't be read"
    assert runner.calls == []


# --- power and load -------------------------------------------------------------------------------------------------


def supply(name: str, **values: str) -> dict[str, str]:
    return {f"/sys/class/power_supply/{name}/{key}": f"{value}\n" for key, value in values.items()}


AC_ON, AC_OFF = supply("AC", type="Mains", online="1"), supply("AC", type="Mains", online="0")
FULL, EMPTYING = (supply("BAT0", type="Battery", present="1", status=s) for s in ("Full", "Discharging"))


@pytest.mark.parametrize(
    ("tree", "power", "mains"),
    [
        pytest.param({}, Power(), True, id="a desktop"),
        pytest.param(AC_ON | FULL, Power(online=True), True, id="a laptop on mains"),
        pytest.param(AC_OFF | EMPTYING, Power(discharging=True), False, id="a laptop on battery"),
        pytest.param(AC_OFF | FULL, Power(), True, id="its supply says nothing, and nothing discharges"),
        pytest.param(EMPTYING, Power(discharging=True), False, id="a battery alone"),
        pytest.param(FULL, Power(), True, id="a battery that is full"),
        pytest.param(AC_ON | EMPTYING, Power(True, True), True, id="a weak supply"),
        pytest.param(AC_OFF | EMPTYING | supply("ucsi0", type="USB", online="1"), Power(True, True), True, id="by USB"),
        pytest.param(supply("ucsi0", type="USB", online="0"), Power(), True, id="a socket with nothing in it"),
        pytest.param(supply("hid", type="Battery", scope="Device", status="Discharging"), Power(), True, id="a mouse"),
        pytest.param(
            supply("pen", type="USB", scope="Device", online="1") | EMPTYING, Power(discharging=True), False, id="a pen"
        ),
        pytest.param(
            supply("BAT1", type="Battery", present="0", status="Discharging"), Power(), True, id="a bay without battery"
        ),
        pytest.param(supply("BAT1", type="Battery", status="Discharging"), Power(discharging=True), False, id="older"),
        pytest.param(supply("odd", type="Wireless", online="1"), Power(), True, id="another kind"),
    ],
)
def test_power(ctx: Context, root: Path, tree: dict[str, str], power: Power, mains: bool) -> None:
    make_tree(root, tree)
    assert building.read_power(ctx) == power
    assert power.mains is mains


@pytest.mark.parametrize(
    ("text", "load"),
    [("0.52 0.58 0.59 1/467 12345\n", 0.52), ("12.00 1 1", 12.0), ("", 0.0), ("nan 1", 0.0), ("-1.0 2", 0.0)],
)
def test_load(ctx: Context, root: Path, text: str, load: float) -> None:
    make_tree(root, {"/proc/loadavg": text})
    assert building.read_load(ctx) == load


def test_processors(ctx: Context, root: Path) -> None:
    assert building.read_cpus(ctx) == 1
    make_tree(root, {"/proc/cpuinfo": "processor\t: 0\nmodel\t: processor : x\nprocessor\t: 1\n"})
    assert building.read_cpus(ctx) == 2


# --- kernels --------------------------------------------------------------------------------------------------------


CONFIG = b"#\n# Linux\nCONFIG_X=y\n"
HOME = f"{paths.MODULES}/6.12.1-arch1-1"


@pytest.mark.parametrize(
    "name", [f"{HOME}/build/.config", f"{HOME}/config", "/boot/config-6.12.1-arch1-1"], ids=lambda n: n[-14:]
)
def test_configuration_beside_a_kernel(ctx: Context, root: Path, name: str) -> None:
    assert building.read_kernel_config(ctx, "6.12.1-arch1-1") is None
    make_tree(root, {"/proc/config.gz": gzip.compress(b"CONFIG_OTHER=y\n"), name: CONFIG})
    make_tree(root, {"/proc/sys/kernel/osrelease": "6.12.1-arch1-1\n"})  # of another machine's root
    assert building.read_kernel_config(ctx, "6.12.1-arch1-1") == CONFIG
    make_tree(root, {name: "noise"})
    assert building.read_kernel_config(ctx, "6.12.1-arch1-1") is None


def test_configuration_of_the_running_kernel(root: Path) -> None:
    live = LiveContext(root=root)
    make_tree(root, {"/proc/config.gz": gzip.compress(CONFIG), "/proc/sys/kernel/osrelease": "6.12.1-arch1-1\n"})
    assert building.read_kernel_config(live, "6.12.1-arch1-1") == CONFIG
    assert building.read_kernel_config(live, "6.6.30-1-lts") is None, "of another kernel it says nothing"
    assert building.read_kernel_config(live, "") is None


@pytest.mark.parametrize(
    "packed",
    [b"", b"noise", gzip.compress(CONFIG)[:-12], gzip.compress(b"no options"), gzip.compress(b"CONFIG_" * (1 << 22))],
    ids=["empty", "noise", "cut", "other", "bomb"],
)
def test_configuration_that_is_damaged(root: Path, packed: bytes) -> None:
    live = LiveContext(root=root)
    make_tree(root, {"/proc/config.gz": packed, "/proc/sys/kernel/osrelease": "6.12.1-arch1-1\n"})
    assert building.read_kernel_config(live, "6.12.1-arch1-1") is None
    make_tree(root, {f"{HOME}/build/.config": CONFIG})
    assert building.read_kernel_config(live, "6.12.1-arch1-1") == CONFIG


STAGED = f"{paths.VARIANT_STAGE}{paths.MODULES}/{RELEASE}"


def test_kernel_that_was_built(ctx: Context, root: Path) -> None:
    builtin = "kernel/drivers/nvme/host/nvme.ko\nkernel/drivers/md/dm-mod.ko\n"
    make_tree(root, {f"{STAGED}/vmlinuz": bzimage(release=RELEASE), f"{STAGED}/modules.builtin": builtin})
    found = building.read_unpacked(ctx, paths.VARIANT_STAGE, RELEASE)
    assert (found.release, found.build_id, found.vmlinuz) == (RELEASE, BUILD_ID, f"{STAGED}/vmlinuz")
    assert found.builtin == frozenset({"nvme", "dm_mod"})
    assert found.variant and found.usable


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (None, "not there"),
        (b"noise", "not a bzImage kernel"),
        (bzimage(release="6.12.1-arch1-1"), "says that it is of 6.12.1-arch1-1, not of 6.12.1-kdump"),
        (bzimage(PACKERS["gzip"](elf(None)), release=RELEASE), "has no build ID"),
        (bzimage(release=RELEASE)[:-200], "truncated"),
    ],
)
def test_kernel_that_was_not_built_well(ctx: Context, root: Path, image: bytes | None, problem: str) -> None:
    make_tree(root, {f"{STAGED}/vmlinuz": image})
    with pytest.raises(BadImageError, match=problem):
        building.read_unpacked(ctx, paths.VARIANT_STAGE, RELEASE)
