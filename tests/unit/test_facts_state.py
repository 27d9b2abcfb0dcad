"""What we left on the machine ourselves, read back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg import paths, render
from kdump_pkg.context import Context, stamp
from kdump_pkg.facts import collect, state
from kdump_pkg.model import Config, Loaded
from tests.fakes import Entry, FakeRunner, Hole, Link, make_tree, system_runner, system_tree

MARK = "ab" * 32
GOOD = render.cpio_archive("kdump/fingerprint", f"{MARK}\n".encode())
IMAGE = "/boot/initramfs-linux-kdump.img"


# --- own files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "pristine"),
    [
        (render.own_file("# head\n", "body\n"), True),
        (render.own_file("", ""), True),
        (render.own_file("# ä\n", "ü\n"), True),
        (render.own_file("# head\n", "body\n") + b"\n", False),
        (render.own_file("# head\n", "body\n").replace(b"body", b"Body"), False),
        (render.own_file("# head\n", "body\n").replace(b"head", b"Head"), False),
        (render.own_file("# head\n", "body\n").replace(b"\n", b"\r\n"), False),
        (b"", False),
        (b"\xff\xfe\0", False),
        (b"# checksum: " + b"0" * 64 + b"\n", False),
        (b"# checksum: " + b"0" * 63 + b"\n", False),
        (b"# checksum: " + hashlib.sha256(b"").hexdigest().encode() + b"\n", True),
    ],
)
def test_own_file(ctx: Context, root: Path, data: bytes, pristine: bool) -> None:
    make_tree(root, {"/f": data})
    assert state.read_own_file(ctx, "/f").pristine is pristine
    assert state.read_own_file(ctx, "/f").data == data


@pytest.mark.parametrize("entry", [None, Link("/nowhere"), Link("/f")])
def test_own_file_that_can_not_be_read(ctx: Context, root: Path, entry: Entry) -> None:
    make_tree(root, {"/f": entry})
    assert state.read_own_file(ctx, "/f").data is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40), st.binary(max_size=10), st.data())
def test_property_every_edit_is_noticed(ctx: Context, root: Path, body: str, extra: bytes, data: st.DataObject) -> None:
    whole = render.own_file("# head\n", body)
    make_tree(root, {"/f": whole})
    assert state.read_own_file(ctx, "/f").pristine
    place = data.draw(st.integers(0, len(whole)))
    edited = whole[:place] + extra + whole[place:]
    make_tree(root, {"/f": edited})
    assert state.read_own_file(ctx, "/f").pristine is (edited == whole)


# --- the image ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mark"),
    [
        pytest.param(GOOD + b"\x1f\x8b rest", MARK, id="good"),
        pytest.param(GOOD, MARK, id="nothing behind it"),
        pytest.param(render.cpio_archive("early_cpio", b"") + GOOD, None, id="second archive"),
        pytest.param(GOOD[:200], None, id="truncated"),
        pytest.param(b"\x1f\x8b" + GOOD, None, id="compressed"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"070701", None, id="magic alone"),
        pytest.param(b"070701" + b"Z" * 200, None, id="no numbers"),
        pytest.param(b"070701" + b"F" * 300, None, id="huge numbers"),
        pytest.param(b"070701" + b"0" * 300, None, id="zeros in digits"),
        pytest.param(render.cpio_archive("kdump/fingerprint", b"short\n"), None, id="too short a mark"),
        pytest.param(render.cpio_archive("kdump/fingerprint", b"Z" * 64), None, id="no hexadecimal mark"),
        pytest.param(render.cpio_archive("kdump/other", f"{MARK}\n".encode()), None, id="another file"),
    ],
)
def test_fingerprint_in_the_image(ctx: Context, root: Path, data: bytes, mark: str | None) -> None:
    make_tree(root, {IMAGE: data})
    found = state.read_image(ctx, IMAGE)
    assert (found.exists, found.fingerprint, found.size) == (True, mark, len(data))


def test_files_before_it_in_the_archive(ctx: Context, root: Path) -> None:
    """mkinitcpio puts its own marker, early_cpio, first."""
    from kdump_pkg.cpio import File, archive

    data = archive([File("early_cpio", b"1\n"), File("kdump/fingerprint", f"{MARK}\n".encode())])
    make_tree(root, {IMAGE: data})
    assert state.read_image(ctx, IMAGE).fingerprint == MARK


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=5))
def test_property_damaged_images_never_surprise(ctx: Context, root: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in flips:
        data[place] = value
    make_tree(root, {IMAGE: bytes(data)})
    found = state.read_image(ctx, IMAGE).fingerprint
    assert found is None or len(found) == 64


def test_image_that_only_root_may_read(ctx: Context, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(self: Path, *args: object) -> None:
        raise PermissionError

    make_tree(root, {IMAGE: GOOD})
    monkeypatch.setattr(Path, "open", forbidden)
    found = state.read_image(ctx, IMAGE)
    assert (found.exists, found.readable) == (True, False)


def test_image_that_is_none(ctx: Context, root: Path) -> None:
    assert not state.read_image(ctx, IMAGE).exists
    make_tree(root, {IMAGE: None})
    assert state.read_image(ctx, IMAGE).fingerprint is None
    make_tree(root, {"/huge": Hole(1 << 30)})
    assert state.read_image(ctx, "/huge").fingerprint is None


# --- records ------------------------------------------------------------------------------------------------------

LOADED = Loaded("6.12", MARK, "quiet", IMAGE, "-s")


def test_loaded(ctx: Context, root: Path) -> None:
    assert state.read_loaded(ctx) is None
    make_tree(root, {paths.LOADED: json.dumps(asdict(LOADED))})
    assert state.read_loaded(ctx) == LOADED


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b"\xff",
        b'"text"',
        b'{"release": "6.12"}',
        json.dumps({**asdict(LOADED), "more": "1"}).encode(),
        json.dumps({**asdict(LOADED), "method": ["-s"]}).encode(),
        json.dumps({**asdict(LOADED), "release": None}).encode(),
        b"[" * 100_000,
    ],
    ids=lambda r: r[:12].decode("latin-1"),
)
def test_damaged_record_of_the_load(ctx: Context, root: Path, record: bytes) -> None:
    make_tree(root, {paths.LOADED: record})
    assert state.read_loaded(ctx) is None


def debug_tree(root: Path, releases: list[str], **record: object) -> None:
    for release in releases:
        make_tree(root, {f"{paths.DEBUG_MODULES}/{release}/vmlinux": "x"})
    if record:
        make_tree(root, {paths.DEBUG_RECORD: json.dumps(record)})


def test_debug_kernels_oldest_first(ctx: Context, root: Path) -> None:
    """The plan drops the oldest: 6.9 is older than 6.12."""
    debug_tree(root, ["6.12.1", "6.9.1", "6.10.0"])
    assert [d.release for d in state.read_debug(ctx)] == ["6.9.1", "6.10.0", "6.12.1"]


def test_debug_kernel_is_ours_by_the_record(ctx: Context, root: Path) -> None:
    debug_tree(root, ["1", "2", "3"])
    file = root / "usr/lib/debug/lib/modules/1/vmlinux"
    entry = {"stamp": stamp(file), "build_id": "ab", "abilities": "BTF", "origin": "/o", "sources": "s"}
    debug_tree(root, [], **{"1": entry, "2": {**entry, "stamp": "9:9"}, "gone": entry})
    ours, replaced, foreign = state.read_debug(ctx)
    assert (ours.recorded, ours.build_id, ours.abilities, ours.origin, ours.sources) == (True, "ab", "BTF", "/o", "s")
    assert (replaced.recorded, foreign.recorded) == (False, False)
    assert (replaced.build_id, replaced.abilities) == (None, "unknown")


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b'{"1": 5}', b'{"1": {"stamp": 7}}', b"\0\xff", b"[" * 100_000])
def test_damaged_record_of_debug_kernels(ctx: Context, root: Path, record: bytes) -> None:
    """Without a record a file counts as somebody else's, so it stays."""
    debug_tree(root, ["1"])
    make_tree(root, {paths.DEBUG_RECORD: record})
    (found,) = state.read_debug(ctx)
    assert not found.recorded


def test_releases_with_dumps(ctx: Context, root: Path) -> None:
    make_tree(
        root,
        {
            "/var/crash/a/meta": "format=1\nrelease=6.12\nresult=complete\n",
            "/var/crash/b/meta": "release=6.9\nrelease=6.9\n",
            "/var/crash/c/meta": b"\xff\0",
            "/var/crash/d": None,
            "/var/crash/file": "release=no\n",
            "/var/crash/e/meta": None,
        },
    )
    assert state.read_dump_releases(ctx, ("/var/crash", "/nowhere")) == {"6.12", "6.9"}
    assert state.read_dump_releases(ctx, ("/nowhere",)) == set()


def test_leftovers(ctx: Context, root: Path) -> None:
    names = [
        "/boot/.kdump-pkg-1-initramfs-linux-kdump.img", "/etc/.kdump-pkg-1-mkinitcpio-kdump.conf",
        "/etc/mkinitcpio.d/.kdump-pkg-1-kdump.preset", f"{paths.STATE}/.kdump-pkg-1-capture.env",
        f"{paths.LAST_GOOD}/.kdump-pkg-1-image", f"{paths.DEBUG_MODULES}/6.12/.kdump-pkg-1-vmlinux",
        f"{paths.DEBUG_BUILD_ID}/ab/.kdump-pkg-1-cd.debug", f"{paths.RUN}/.kdump-pkg-1-loaded.json",
    ]  # fmt: skip
    make_tree(root, dict.fromkeys([*names, "/boot/other", "/etc/kdump-pkg.conf"], ""))
    assert sorted(state.read_leftovers(ctx, IMAGE)) == sorted(names)


def test_parts(ctx: Context, root: Path) -> None:
    seen = {state.read_parts_hash(ctx)}
    for name in state.SCRIPTS:
        make_tree(root, {name: "x"})
        seen.add(state.read_parts_hash(ctx))
    make_tree(root, {state.SCRIPTS[0]: "y"})
    seen.add(state.read_parts_hash(ctx))
    assert len(seen) == len(state.SCRIPTS) + 2


@pytest.mark.parametrize(
    ("entries", "enabled"),
    [
        ({}, False),
        ({"/etc/systemd/system/multi-user.target.wants/kdump.service": Link("/x")}, True),
        ({"/etc/systemd/system/x.requires/kdump.service": Link("/x")}, True),
        ({"/etc/systemd/system/kdump.service": Link("/dev/null")}, False),
        ({"/etc/systemd/system/multi-user.target.wants": "a file"}, False),
    ],
)
def test_units(ctx: Context, entries: dict[str, Entry], enabled: bool) -> None:
    make_tree(ctx.root, entries)
    assert state.read_units(ctx)["kdump.service"] is enabled


def test_hooks_are_executable_files_with_plain_names(ctx: Context) -> None:
    names = ("pre.d/10-a", "pre.d/not-executable", "pre.d/.hidden", "pre.d/a b", "post.d/z")
    make_tree(ctx.root, {f"/etc/kdump-pkg/{name}": "#!/bin/sh\n" for name in names} | {"/etc/kdump-pkg/pre.d/d": None})
    for name in names:
        (ctx.root / "etc/kdump-pkg" / name).chmod(0o644 if "not" in name else 0o755)
    found = state.read_hooks(ctx)
    assert [name for name, _ in found] == ["/etc/kdump-pkg/pre.d/10-a", "/etc/kdump-pkg/post.d/z"]
    assert all(len(digest) == 64 for _, digest in found)
    (ctx.root / "etc/kdump-pkg/post.d/z").write_text("#!/bin/sh\necho\n")
    assert state.read_hooks(ctx)[1] != found[1]


# --- all together -------------------------------------------------------------------------------------------------


def test_collect(root: Path) -> None:
    make_tree(root, system_tree())
    found = collect(Context(root=root, runner=system_runner(root)), Config())
    assert [k.release for k in found.kernels] == ["6.12.1-arch1-1"]
    assert found.targets[0].problem is None
    assert found.images.problem is None
    assert found.tools["makedumpfile"] == "1.7.9-1"
    assert found.image.path == IMAGE
    assert found.boot.confined


@pytest.mark.parametrize(
    ("says", "version"),
    [("makedumpfile: version 1.7.9 (released on 1 Jan 2026)\n", "1.7.9"), ("nonsense", None), (3, None)],
)
def test_makedumpfile_without_a_package_is_asked(root: Path, says: str | int, version: str | None) -> None:
    make_tree(root, {"/usr/bin/makedumpfile": ""})
    runner = FakeRunner({"makedumpfile -v": says})
    assert collect(Context(root=root, runner=runner), Config()).tools["makedumpfile"] == version


def test_collect_of_an_empty_root(ctx: Context) -> None:
    found = collect(ctx, Config())
    assert found.kernels == ()
    assert found.targets[0].problem
    assert found.images.problem


# --- what is known of the image -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "unpacked", "least"),
    [
        ({"fingerprint": MARK, "unpacked": 7_290_880, "least_mib": 76}, 7_290_880, 76),
        ({"fingerprint": MARK, "unpacked": 7_290_880}, 7_290_880, None),
        ({"fingerprint": "cd" * 32, "unpacked": 7_290_880, "least_mib": 76}, None, None),
        ({"fingerprint": MARK, "unpacked": None, "least_mib": 0}, None, None),
        ({"fingerprint": MARK, "unpacked": True, "least_mib": "76"}, None, None),
        ({"fingerprint": MARK, "unpacked": -5, "least_mib": 7.5}, None, None),
        ([], None, None),
    ],
)
def test_what_was_measured_of_an_image(
    ctx: Context, root: Path, known: object, unpacked: int | None, least: int | None
) -> None:
    make_tree(root, {IMAGE: GOOD, paths.IMAGE_FACTS: json.dumps(known)})
    found = state.read_image(ctx, IMAGE)
    assert (found.unpacked, found.least_mib) == (unpacked, least)


def test_an_image_without_our_mark_is_not_the_one_that_was_measured(ctx: Context, root: Path) -> None:
    make_tree(root, {IMAGE: b"junk", paths.IMAGE_FACTS: json.dumps({"unpacked": 5})})
    assert state.read_image(ctx, IMAGE).unpacked is None
