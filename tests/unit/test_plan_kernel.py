"""Which kernel captures."""

from __future__ import annotations

import pytest

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Kernel
from kdump_pkg.plan.kernel import choose
from tests.fakes import kernel

OLD = kernel("6.9.1-arch1-1")
NEW = kernel("6.12.1-arch1-1")
LTS = kernel("6.6.30-1-lts", "linux-lts")
VARIANT = kernel("6.12.1-1-kdump", None)
LEFTOVER = kernel("6.8.0-arch1-1", None, vmlinuz=None)
NO_BASE = kernel("6.12.3-custom", None)
HELD = kernel("6.12.1-kdump", None, held="no rehearsal has shown yet that it captures")
SPOILT = kernel("6.12.1-kdump", None, problem="/usr/lib/modules/6.12.1-kdump/vmlinuz: truncated")
EMPTY = kernel("6.12.1-kdump", None, vmlinuz=None)
BROKEN = kernel("6.13.1-arch1-1", problem="/usr/lib/modules/6.13.1-arch1-1/vmlinuz: not a bzImage kernel")


@pytest.mark.parametrize(
    ("wanted", "kernels", "running", "chosen"),
    [
        pytest.param("auto", (NEW,), None, NEW, id="the only one"),
        pytest.param("auto", (LTS, OLD, NEW), None, NEW, id="newest"),
        pytest.param("auto", (LTS, OLD, NEW), OLD.release, OLD, id="running"),
        pytest.param("auto", (LTS, NEW), LTS.release, LTS, id="running, not newest"),
        pytest.param("auto", (LTS, NEW, VARIANT), NEW.release, VARIANT, id="variant before running"),
        pytest.param("auto", (LTS, NEW), "5.0.0-gone", NEW, id="running package removed"),
        pytest.param("auto", (LTS, NEW, NO_BASE), None, NEW, id="no package's kernel is no choice"),
        pytest.param("auto", (LTS, NEW, NO_BASE), NO_BASE.release, NEW, id="running one without package"),
        pytest.param("auto", (LEFTOVER, LTS), LEFTOVER.release, LTS, id="left-over directory"),
        pytest.param("auto", (LTS, BROKEN), BROKEN.release, LTS, id="broken beside good"),
        pytest.param("linux-lts", (LTS, NEW), NEW.release, LTS, id="by name"),
        pytest.param("linux", (LTS, OLD, NEW), OLD.release, NEW, id="by name, newest of it"),
        pytest.param("linux-kdump", (LTS, NEW, VARIANT), NEW.release, VARIANT, id="variant by name"),
        pytest.param("auto", (LTS, NEW, HELD), NEW.release, NEW, id="variant that must not"),
        pytest.param("auto", (LTS, NEW, HELD, VARIANT), NEW.release, VARIANT, id="one that must not, one that may"),
        pytest.param("linux-kdump", (LTS, NEW, HELD), LTS.release, LTS, id="variant by name that must not"),
        pytest.param("linux-kdump", (LTS, NEW, SPOILT), LTS.release, LTS, id="variant by name that can't"),
        pytest.param("linux-kdump", (NEW, HELD, VARIANT), NEW.release, VARIANT, id="variant by name, one of two"),
    ],
)
def test_choice(wanted: str, kernels: tuple[Kernel, ...], running: str | None, chosen: Kernel) -> None:
    assert choose(Config(kernel=wanted), kernels, running) is chosen


def test_upgraded_while_running_keeps_to_its_package() -> None:
    gone = kernel("6.6.1-1-lts", "linux-lts", vmlinuz=None)  # modules kept by a hook, image gone
    assert choose(Config(), (gone, LTS, NEW), gone.release) is LTS


@pytest.mark.parametrize(
    ("wanted", "kernels", "message", "hint"),
    [
        ("auto", (), "no kernel that can capture is installed", "pacman -S linux"),
        ("auto", (LEFTOVER,), "no kernel that can capture is installed", "pacman -S linux"),
        ("auto", (BROKEN,), "installed: /usr/lib/modules/6.13.1-arch1-1/vmlinuz: not a bzImage", "pacman -S linux"),
        (
            "linux-zen",
            (LTS, NEW),
            "kernel = linux-zen: no such kernel is installed; installed: linux, linux-lts",
            "zen",
        ),
        ("linux-zen", (), "installed: none", "zen"),
        ("linux", (LTS, BROKEN), "kernel = linux can't capture: /usr/lib/modules/6.13.1", "reinstall"),
        ("linux-kdump", (NEW,), "no such kernel", "kdump-pkg variant build"),
        ("linux-kdump", (NEW, EMPTY), "no such kernel", "kdump-pkg variant build"),
        ("linux-kdump", (HELD,), "6.12.1-kdump: no rehearsal has shown", "pacman -S linux"),
        ("auto", (HELD,), "6.12.1-kdump: no rehearsal has shown", "pacman -S linux"),
        ("auto", (SPOILT,), "vmlinuz: truncated", "pacman -S linux"),
    ],
)
def test_refusal(wanted: str, kernels: tuple[Kernel, ...], message: str, hint: str) -> None:
    with pytest.raises(KdumpError) as caught:
        choose(Config(kernel=wanted), kernels, None)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in caught.value.message
