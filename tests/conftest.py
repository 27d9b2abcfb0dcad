"""What every test gets: a root to work on, and a guard that keeps it away from this machine (style.md, rule 24)."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from kdump_pkg.context import Context
from kdump_pkg.run import SystemRunner
from tests.fakes import FakeRunner
from tests.guard import Forbidden, Guard, guarded, install, release

# Before Hypothesis is imported: it keeps its tables beside the sources otherwise.
TABLES = os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", f"{tempfile.gettempdir()}/hypothesis-{os.getuid()}")
REPO = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    install()
    config.addinivalue_line("markers", "spawns: starts programs for real; what Python itself writes is still guarded")
    from hypothesis import settings

    settings.register_profile("kdump-pkg", database=None, deadline=None, max_examples=100)
    settings.load_profile("kdump-pkg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if (REPO / "tests" / "shell") in item.path.parents:
            item.add_marker("spawns")  # scripts are what is tested there


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end: the garbage collector need not walk over all of them again and again."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    try:
        return (yield)
    finally:
        release()


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[Guard | None]:
    """Fails a test that starts a program, or writes anything outside of its temporary directory."""
    node = request.node
    if any(node.get_closest_marker(name) for name in ("pacman", "vm", "stores")):
        yield None
        return
    spawns = node.get_closest_marker("spawns") is not None
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda fd: None)  # no test outlives a power cut, and the disk is slow
    if not spawns:
        patch.setattr(SystemRunner, "__call__", _no_programs)
    allowed = (os.fspath(request.getfixturevalue("tmp_path")), TABLES)
    with guarded(Guard(*allowed, spawns=spawns)) as one:
        yield one
    patch.undo()
    assert not one.caught, f"swallowed by the code under test: {one.caught}"


def _no_programs(self: SystemRunner, argv: Any, **_: Any) -> NoReturn:
    raise Forbidden(f"a real program from a unit test: {argv}; give the context a FakeRunner")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root file system."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def ctx(root: Path, runner: FakeRunner) -> Context:
    """A context on `root` whose programs are those of `runner`."""
    return Context(root=root, runner=runner, clock=lambda: 1_795_420_014.0)
