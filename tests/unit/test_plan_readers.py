"""Which debugger is taken for which kernel, and what is said where none will do."""

from __future__ import annotations

import pytest

from kdump_pkg.errors import KdumpError
from kdump_pkg.plan.readers import best, choose, obstacle

BOTH = {"crash": "9.0.2-1", "drgn": "0.3.0-1"}


@pytest.mark.parametrize(
    ("tool", "version", "release", "can"),
    [
        ("crash", "9.0.2-1", "6.12.117+deb13-cloud-amd64", True),
        ("crash", "9.0.2-1", "7.0.10-arch1-1", True),
        ("crash", "9.0.2-1", "7.1.0-arch1-1", False),
        ("crash", "9.0.2-1", "7.2.13+deb14-cloud-amd64", False),
        ("crash", "9.0.3-1", "7.2.13-arch1-1", True),
        ("crash", "10.0.0-1", "7.2.13-arch1-1", True),
        ("crash", "8.0.2-1", "6.12.1-arch1-1", False),
        ("crash", "8.0.3-1", "6.4.0-arch1-1", False),
        ("crash", "8.0.4-1", "6.4.0-arch1-1", True),
        ("crash", "8.0.2-1", "6.3.9-arch1-1", True),
        ("crash", "1:8.0.2-1", "6.12.1", False),
        ("crash", "", "7.2.0", True),
        ("drgn", "0.3.0-1", "7.2.0", True),
        ("drgn", "0.3.0-1", "6.12.0", True),
    ],
)
def test_obstacle(tool: str, version: str, release: str, can: bool) -> None:
    said = obstacle(tool, version, release)
    assert (not said) == can, said
    assert can or said.startswith(f"{tool} ")


def test_what_is_said_names_the_versions() -> None:
    said = obstacle("crash", "9.0.1-2", "7.2.0-arch1-1")
    assert said == "crash 9.0.1 can't open dumps of Linux 7.1 and later; one after 9.0.2 can"


@pytest.mark.parametrize(
    ("release", "installed", "wanted", "tool", "reason"),
    [
        ("6.12.1", BOTH, None, "crash", ""),
        ("6.12.1", BOTH, "drgn", "drgn", ""),
        ("6.12.1", {"drgn": "0.3.0-1"}, None, "drgn", ""),
        ("7.2.0", BOTH, None, "drgn", "crash 9.0.2 can't"),
        ("7.2.0", BOTH, "drgn", "drgn", ""),
        ("7.2.0", {"crash": ""}, None, "crash", ""),
    ],
)
def test_choice(release: str, installed: dict[str, str], wanted: str | None, tool: str, reason: str) -> None:
    found = choose(release, installed, wanted)
    assert found.tool == tool
    assert found.reason.startswith(reason) and bool(found.reason) == bool(reason)


@pytest.mark.parametrize(
    ("release", "installed", "wanted", "text", "hint"),
    [
        ("6.12.1", {}, None, "neither crash nor drgn is installed", "pacman -S crash"),
        ("7.2.0", {}, None, "neither crash nor drgn is installed", "pacman -S drgn"),
        ("7.2.0", {"crash": "9.0.2-1"}, None, "crash 9.0.2 can't open", "pacman -S drgn"),
        ("7.2.0", BOTH, "crash", "crash 9.0.2 can't open", "--tool drgn, or --force"),
        ("7.2.0", {"crash": "9.0.2-1"}, "crash", "crash 9.0.2 can't open", "pacman -S drgn, or --force"),
        ("6.12.1", {"crash": "9.0.2-1"}, "drgn", "drgn is not installed", "pacman -S drgn"),
    ],
)
def test_refusal(release: str, installed: dict[str, str], wanted: str | None, text: str, hint: str) -> None:
    with pytest.raises(KdumpError) as caught:
        choose(release, installed, wanted)
    assert caught.value.message.startswith(text)
    assert caught.value.hint == hint


@pytest.mark.parametrize("wanted", [None, "crash"])
def test_force_takes_what_is_there(wanted: str | None) -> None:
    found = choose("7.2.0", {"crash": "9.0.2-1"}, wanted, force=True)
    assert (found.tool, found.reason[:11]) == ("crash", "crash 9.0.2")


def test_force_can_not_start_what_is_not_there() -> None:
    with pytest.raises(KdumpError):
        choose("7.2.0", {}, force=True)


@pytest.mark.parametrize(
    ("releases", "tool"), [(["6.12.1"], "crash"), (["6.12.1", "7.2.0"], "drgn"), ([], "crash"), (["odd name"], "crash")]
)
def test_what_to_install(releases: list[str], tool: str) -> None:
    assert best(releases) == tool
