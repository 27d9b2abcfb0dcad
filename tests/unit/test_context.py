"""Every path goes through `ctx.path`: no link, however it is made, leads out of the root."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdump_pkg.context import LARGEST, Context, stamp
from kdump_pkg.errors import KdumpError
from tests.fakes import Hole, Link, make_tree


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("/", ""),
        ("/etc/x", "etc/x"),
        ("//etc/./x/", "etc/x"),
        ("/../../etc", "etc"),
        ("/etc/../../../usr/lib", "usr/lib"),
        ("/absolute/x", "real/x"),
        ("/relative", "real"),
        ("/up/x", "x"),
        ("/deep/link/x", "real/x"),
        ("/chain", "real/file"),
        ("/missing/../etc", "etc"),
        ("/dangling", "nowhere/at/all"),
        ("/slash", ""),
        ("/self/self/self/f", "f"),
    ],
)
def test_resolves_inside(ctx: Context, root: Path, name: str, where: str) -> None:
    make_tree(
        root,
        {
            "real/file": "x",
            "absolute": Link("/real"),
            "relative": Link("real"),
            "up": Link("../../../../.."),
            "deep/link": Link("../absolute"),
            "chain": Link("deep/link/file"),
            "dangling": Link("/nowhere/at/all"),
            "slash": Link("/"),
            "self": Link("."),
        },
    )
    assert ctx.path(name) == (root / where if where else root)


def test_last_link_itself(ctx: Context, root: Path) -> None:
    make_tree(root, {"dir": Link("/real"), "real/l": Link("/etc/passwd")})
    assert ctx.path("/dir/l", follow=False) == root / "real/l"
    assert ctx.path("/dir/l") == root / "etc/passwd"


@pytest.mark.parametrize(
    "links",
    [
        {"a": "a"},
        {"a": "b", "b": "a"},
        {"a": "/b/x", "b": "a"},
        {f"l{n}": f"l{n + 1}" for n in range(60)} | {"a": "l0"},
    ],
)
def test_loops_end(ctx: Context, root: Path, links: dict[str, str]) -> None:
    make_tree(root, {name: Link(target) for name, target in links.items()})
    with pytest.raises(KdumpError, match=r"^/a: too many levels"):
        ctx.path("/a")
    assert ctx.read_text("/a") is None
    assert ctx.read_bytes("/a") is None
    assert ctx.names("/a") == []
    assert not ctx.is_file("/a")


@pytest.mark.parametrize("name", ["", "etc", "./etc", "../etc"])
def test_relative_names_are_refused(ctx: Context, name: str) -> None:
    with pytest.raises(KdumpError, match="not an absolute path"):
        ctx.path(name)


def test_live_root_leaves_names_to_the_kernel() -> None:
    assert Context().live
    assert Context().path("/a/../b") == Path("/a/../b")


SEGMENT = st.sampled_from(["a", "b", "c", "..", ".", ""])
TARGET = st.tuples(st.sampled_from(["", "/"]), st.lists(SEGMENT, min_size=1, max_size=5)).map(
    lambda t: t[0] + "/".join(t[1])
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "a/a", "a/b", "b/a", "b/c", "c/a"]), TARGET, max_size=6),
    names=st.lists(st.lists(SEGMENT, max_size=6).map(lambda parts: "/" + "/".join(parts)), min_size=1, max_size=4),
)
def test_property_never_leaves_the_root(links: dict[str, str], names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made).resolve() / "root"
        root.mkdir()
        for link, target in sorted(links.items()):
            path = root / link
            if target and not path.parent.is_symlink() and not path.is_symlink():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(target)
        for name in names:
            try:
                found = Context(root=root).path(name)
            except KdumpError:
                continue
            assert found == root or root in found.parents
            assert ".." not in found.parts
            # Nothing on the way is a link any more, so what the kernel resolves is the same place.
            assert os.path.realpath(found) == os.fspath(found)


def test_reading(ctx: Context, root: Path) -> None:
    make_tree(root, {"f": " text\n", "raw": b"\xff\n", "dir": None, "hole": Hole(LARGEST + 1), "l": Link("/f")})
    assert ctx.read_text("/f") == ctx.read_text("/l") == "text"
    assert ctx.read_bytes("/f") == b" text\n"
    assert ctx.read_text("/raw") == "\udcff"
    assert ctx.names("/") == ["dir", "f", "hole", "l", "raw"]
    assert (ctx.is_file("/f"), ctx.is_file("/dir"), ctx.is_file("/x"), ctx.is_file("/l")) == (True, False, False, True)
    for name in ("/dir", "/x", "/f/below", "/hole"):
        assert ctx.read_text(name) is None
        assert ctx.read_bytes(name) is None
    assert ctx.names("/f") == ctx.names("/x") == []


def test_files_that_refuse_a_read_of_megabytes() -> None:
    """/proc/sys does, from 4 MiB on."""
    assert Context().read_text("/proc/sys/kernel/osrelease") == os.uname().release


def test_a_fifo_does_not_hang_us(ctx: Context, root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert not ctx.read_text("/fifo")
    assert not ctx.is_file("/fifo")
    writer = os.open(root / "fifo", os.O_RDWR)
    try:
        assert ctx.read_text("/fifo") is None  # somebody has it open and writes nothing
    finally:
        os.close(writer)


def test_stamp(root: Path) -> None:
    file = root / "f"
    assert stamp(file) == ""
    file.write_bytes(b"123")
    os.utime(file, ns=(5, 7))
    assert stamp(file) == "3:7"
