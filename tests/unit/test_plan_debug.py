"""Which debug kernels are saved and which go."""

from __future__ import annotations

import pytest

from kdump_pkg.model import Config, DebugKernel, DropDebug, Facts, Kernel, SaveDebug
from kdump_pkg.plan.debug import plan_debug
from tests.fakes import BUILD_ID, facts, kernel, live_boot

NEW = kernel()


def debug(release: str = NEW.release, **changes: object) -> DebugKernel:
    values: dict[str, object] = {"build_id": BUILD_ID, "abilities": "BTF", "sources": NEW.sources}
    return DebugKernel(release, f"/usr/lib/debug/lib/modules/{release}/vmlinux", **(values | changes))  # type: ignore[arg-type]


def told(config: Config, have: Facts) -> list[str]:
    """`save RELEASE` and `drop RELEASE`, in order."""
    actions, warnings = plan_debug(config, have)
    assert not warnings
    words = {SaveDebug: "save", DropDebug: "drop"}
    return [f"{words[type(a)]} {a.release}" for a in actions if isinstance(a, SaveDebug | DropDebug)]


@pytest.mark.parametrize(
    ("installed", "kept", "expected"),
    [
        pytest.param(NEW, None, True, id="none yet"),
        pytest.param(NEW, debug(), False, id="current"),
        pytest.param(NEW, debug(build_id="ff" * 20), True, id="rebuilt under the same release"),
        pytest.param(NEW, debug(sources="other"), True, id="something better may have come"),
        pytest.param(NEW, debug(recorded=False, sources="", build_id=None), False, id="somebody else's file"),
        pytest.param(kernel(problem="broken"), None, False, id="broken kernel"),
        pytest.param(kernel(vmlinuz=None, build_id=None), None, False, id="left-over directory"),
        pytest.param(kernel(build_id=None), None, False, id="no build ID"),
    ],
)
def test_save(installed: Kernel, kept: DebugKernel | None, expected: bool) -> None:
    have = facts(kernels=(installed,), debug=(kept,) if kept else ())
    assert told(Config(), have) == ([f"save {installed.release}"] if expected else [])
    assert told(Config(save_debug=False), have) == []


def test_candidates_best_first_and_vmlinuz_last() -> None:
    one = kernel(vmlinux=("/usr/src/debug/linux/vmlinux", "/b/vmlinux"), system_map="/b/System.map")
    action = plan_debug(Config(), facts(kernels=(one,)))[0][0]
    assert isinstance(action, SaveDebug)
    assert action.sources == ("/usr/src/debug/linux/vmlinux", "/b/vmlinux", one.vmlinuz)
    assert (action.system_map, action.build_id, action.digest) == ("/b/System.map", BUILD_ID, one.sources)


GONE = tuple(debug(f"6.{minor}.0") for minor in (1, 2, 3, 10))


@pytest.mark.parametrize(
    ("keep", "dumps", "running", "dropped"),
    [
        (2, set(), None, ["6.1.0", "6.2.0"]),
        (0, set(), None, ["6.1.0", "6.2.0", "6.3.0", "6.10.0"]),
        (3, set(), None, ["6.1.0"]),
        (9, set(), None, []),
        (2, {"6.1.0"}, None, ["6.2.0"]),
        (0, {"6.1.0", "6.10.0"}, None, ["6.2.0", "6.3.0"]),
        (0, set(), "6.3.0", ["6.1.0", "6.2.0", "6.10.0"]),
    ],
)
def test_drop(keep: int, dumps: set[str], running: str | None, dropped: list[str]) -> None:
    """Kept: what is installed, what has a dump, what runs; then `keep_debug` more, the newest."""
    have = facts(debug=(*GONE, debug()), dump_releases=frozenset(dumps), boot=live_boot(running=running))
    assert told(Config(keep_debug=keep), have) == [f"drop {r}" for r in dropped]


def test_others_files_are_never_dropped() -> None:
    have = facts(debug=(debug("6.1.0", recorded=False), debug()))
    assert told(Config(keep_debug=0), have) == []


def test_damaged_kernel_keeps_its_debug_kernel() -> None:
    """It is still installed, and a reinstallation mends it."""
    have = facts(kernels=(kernel(problem="broken"),), debug=(debug(),), boot=live_boot(running=None))
    assert told(Config(keep_debug=0), have) == []


def test_deletions_come_last() -> None:
    have = facts(debug=(debug("6.1.0"),))
    assert told(Config(keep_debug=0), have) == [f"save {NEW.release}", "drop 6.1.0"]
