"""mountinfo and fstab as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.facts.mounts import (
    Mount,
    entry_for,
    holding,
    inner_path,
    parse_fstab,
    parse_mountinfo,
    place_of,
    unescape,
)

ROOT = "21 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw"


def test_mountinfo() -> None:
    other = r"30 21 0:31 /@\040x /my\040disk ro master:1 propagate_from:2 - btrfs /dev/sda\0403 rw,subvol=/@\040x"
    assert parse_mountinfo(f"{ROOT}\n{other}") == (
        Mount("8:2", "/", "/", "ext4", "/dev/sda2", "rw,relatime,rw", "21", "1"),
        Mount("0:31", "/@ x", "/my disk", "btrfs", "/dev/sda 3", "ro,rw,subvol=/@ x", "30", "21"),
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-",
        " - ",
        "x",
        "21 1 8:2 / / rw",
        "21 1 8:2 / / - ext4",
        "21 1 8:2 / / rw - ext4 /dev/x",
        "1 2 3 4 x 6 - a b c",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    assert parse_mountinfo(line) == ()


@pytest.mark.parametrize(
    ("lines", "path", "expected"),
    [
        pytest.param([ROOT], "/var/crash", "21", id="root"),
        pytest.param([ROOT, "30 21 8:3 / /var rw - xfs x rw"], "/var/crash", "30", id="above"),
        pytest.param([ROOT, "30 21 8:3 / /va rw - xfs x rw"], "/var/crash", "21", id="prefix of a name"),
        pytest.param(
            [ROOT, "30 21 8:3 / /var rw - xfs x rw", "31 30 8:4 / /var rw - xfs y rw"], "/var", "31", id="over",
        ),
        pytest.param(
            [ROOT, "30 21 8:3 / /var/crash rw - xfs x rw", "31 21 8:4 / /var rw - xfs y rw"],
            "/var/crash", "31", id="covered by a later one above it",
        ),
        pytest.param(
            [ROOT, "31 21 8:4 / /var rw - xfs y rw", "30 31 8:3 / /var/crash rw - xfs x rw"],
            "/var/crash", "30", id="the same two, the other way round",
        ),
        pytest.param(["5 5 8:2 / / rw - ext4 x rw", "6 5 8:3 / /var rw - xfs y rw"], "/var", "6", id="own parent"),
        pytest.param(["6 5 8:3 / /var rw - xfs y rw"], "/var/crash", "6", id="chroot in no mount"),
        pytest.param(["6 5 8:3 / /var rw - xfs y rw"], "/srv", None, id="nothing holds it"),
        pytest.param(["6 7 8:3 / / rw - xfs y rw", "7 6 8:3 / / rw - xfs y rw"], "/srv", None, id="circle"),
        pytest.param([ROOT, ROOT, ROOT], "/srv", "21", id="the same thrice"),
    ],
)  # fmt: skip
def test_holding(lines: list[str], path: str, expected: str | None) -> None:
    found = holding(path, parse_mountinfo("\n".join(lines)))
    assert (found.ident if found else None) == expected


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("1 0 8:2 / /var rw - ext4 x rw", "/var/crash", ("/crash", "")),
        ("1 0 8:2 / /var rw - ext4 x rw", "/var", ("/", "")),
        ("1 0 8:2 /srv/dumps /var/crash rw - ext4 x rw", "/var/crash", ("/srv/dumps", "")),
        ("1 0 8:2 /srv /var rw - xfs x rw", "/var/crash", ("/srv/crash", "")),
        ("1 0 0:9 / / rw - btrfs x rw,subvolid=5,subvol=/", "/var/crash", ("/var/crash", "subvol=/")),
        ("1 0 0:9 /@ / rw - btrfs x rw,subvolid=256,subvol=/@", "/var/crash", ("/var/crash", "subvol=/@")),
        ("1 0 0:9 /@crash /var/crash rw - btrfs x rw,subvol=/@crash", "/var/crash", ("/", "subvol=/@crash")),
        ("1 0 0:9 /@/srv /var rw - btrfs x rw,subvol=/@", "/var/crash", ("/srv/crash", "subvol=/@")),
        ("1 0 0:9 /@home /h rw - btrfs x rw,subvol=/@", "/h/x", ("/x", "subvol=/@")),
        ("1 0 0:9 /a/b /h rw - btrfs x rw,subvol=/a/b,ssd", "/h/x", ("/x", "subvol=/a/b")),
        ("1 0 8:9 /x /h rw - ext4 x rw,subvol=/x", "/h/x", ("/x/x", "")),
    ],
)
def test_inner_path(line: str, path: str, expected: tuple[str, str]) -> None:
    (mount,) = parse_mountinfo(line)
    assert inner_path(mount, path) == expected


@pytest.mark.parametrize(
    ("lines", "inner", "place"),
    [
        (["1 0 0:9 / /mnt rw - btrfs x rw"], "/@/crash", "/mnt/@/crash"),
        (["1 0 0:9 /@ / rw - btrfs x rw", "2 1 0:9 /@/a /b rw - btrfs x rw"], "/@/a/c", "/b/c"),
        (["1 0 0:9 /@ / ro - btrfs x rw", "2 1 0:9 / /top rw - btrfs x rw"], "/@/c", "/top/@/c"),
        (["1 0 0:9 /@ / rw - btrfs x rw"], "/@crash", ""),
        ([], "/c", ""),
    ],
)
def test_place_of(lines: list[str], inner: str, place: str) -> None:
    assert place_of(inner, parse_mountinfo("\n".join(lines))) == place


def test_fstab() -> None:
    entries = parse_fstab(
        '# x\n\nUUID="1"  /  ext4\nLABEL=a\\040b /mnt/a\\040b/ btrfs subvol=@x,rw 0 0\nswap none swap\n'
        "/x / xfs rw,nofail\n"
    )
    assert [(e.device, e.point, e.fstype, e.options, e.line) for e in entries] == [
        ("UUID=1", "/", "ext4", "", 3),
        ("LABEL=a b", "/mnt/a b", "btrfs", "subvol=@x,rw", 4),
        ("/x", "/", "xfs", "rw,nofail", 6),
    ]
    assert entries[1].where == "/etc/fstab:4"
    assert [entries[1].option(name) for name in ("subvol", "rw", "ro", "sub")] == ["@x", "", None, None]
    found = entry_for("/var", entries)
    assert found is not None
    assert found.line == 6  # the last of two
    assert entry_for("/mnt/a b/c", entries) == entries[1]


def test_unescape() -> None:
    assert unescape(r"a\040b\134040\011\x\9") == "a b\\040\t\\x\\9"


@given(st.text(max_size=200), st.text(max_size=20))
def test_property_noise(text: str, path: str) -> None:
    mounts = parse_mountinfo(text)
    for mount in mounts:
        inner_path(mount, mount.point)
    holding(f"/{path}", mounts)
    entry_for(f"/{path}", parse_fstab(text))


NUMBER = st.integers(0, 4).map(str)
POINT = st.sampled_from(["/", "/var", "/var/crash", "/srv"])


@given(st.lists(st.tuples(NUMBER, NUMBER, POINT), max_size=8), POINT)
def test_property_the_walk_ends_on_what_holds(rows: list[tuple[str, str, str]], path: str) -> None:
    mounts = parse_mountinfo("\n".join(f"{a} {b} 8:1 / {point} rw - ext4 /dev/x rw" for a, b, point in rows))
    found = holding(path, mounts)
    assert found is None or path == found.point or path.startswith(found.point.rstrip("/") + "/")
