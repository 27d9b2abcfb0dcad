"""The fragments of linux-kdump's configuration: well-formed, at odds with none, with all modules a plan may ask for."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path

import pytest

from kdump_pkg.plan import modules

RECIPE = Path(__file__).resolve().parents[2] / "linux-kdump"
FRAGMENTS = {path.stem: path.read_text(encoding="ascii") for path in sorted(RECIPE.glob("*.config"))}
LISTED = {name: re.findall(r"^# modules: (.*)$", text, re.MULTILINE) for name, text in FRAGMENTS.items()}
MODULES = {name: lines[0].split() if lines else [] for name, lines in LISTED.items()}
LINE = re.compile(r'(CONFIG_[A-Z0-9_]+)=(y|\d+|"[^"\\]*")|# (CONFIG_[A-Z0-9_]+) is not set|#( .*)?|')
WITHOUT = {"base", "x86_64", "aarch64", "console", "udev"}
"""Those that every machine gets, or that no module of a stock kernel stands for."""


def options(name: str, arch: str) -> list[tuple[str, str]]:
    """As `configure` reads it."""
    found, other = [], False
    for line in FRAGMENTS[name].splitlines():
        start = re.match(r"# (x86_64|aarch64)\b", line)
        other = bool(line) and (start[1] != arch if start else other)
        match = LINE.fullmatch(line)
        assert match
        if not other and (match[1] or match[3]):
            found.append((match[1] or match[3], match[2] or ""))
    return found


@pytest.mark.parametrize("name", FRAGMENTS)
def test_every_line_is_an_option_or_a_comment(name: str) -> None:
    lines = FRAGMENTS[name].split("\n")
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert lines[-1] == "" and lines[-2] != "" and "" not in [a or b for a, b in pairwise(lines)]
    assert FRAGMENTS[name].startswith("# "), "what it is for"
    assert len(options(name, "x86_64")) + len(options(name, "aarch64")) > 0


@pytest.mark.parametrize("name", FRAGMENTS)
@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_no_option_twice(name: str, arch: str) -> None:
    assert [option for option, times in Counter(o for o, _ in options(name, arch)).items() if times > 1] == []


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_no_two_ask_for_something_else(arch: str) -> None:
    """What one leaves out another may ask for; but no two may want another value."""
    names = [name for name in FRAGMENTS if name not in {"x86_64", "aarch64"} - {arch}]
    for one, other in combinations(names, 2):
        first, second = dict(options(one, arch)), dict(options(other, arch))
        both = {option for option in first.keys() & second.keys() if first[option] and second[option]}
        assert {o for o in both if first[o] != second[o]} == set(), f"{one} and {other}"


def test_each_module_is_in_one() -> None:
    """Else nobody could tell which part a driver asks for."""
    assert {name for name, lines in LISTED.items() if len(lines) > 1} == set()
    assert {name for name, listed in MODULES.items() if not listed} == WITHOUT
    times = Counter(module for listed in MODULES.values() for module in listed)
    assert [module for module, count in times.items() if count > 1] == []
    assert [module for module in times if not re.fullmatch(r"[A-Za-z0-9_]+", module)] == []


@pytest.mark.parametrize("table", [modules.FILE_SYSTEMS, modules.LAYERS, {"common": modules.COMMON_DRIVERS}])
def test_every_module_of_a_plan_is_in_one(table: dict[str, tuple[str, ...]]) -> None:
    have = {module for listed in MODULES.values() for module in listed}
    wanted = {name.rstrip("?").replace("-", "_") for names in table.values() for name in names}
    assert wanted - have == set()


@pytest.mark.parametrize("name", [name for name, listed in MODULES.items() if listed])
def test_first_is_what_it_is_for(name: str) -> None:
    """A fragment is found by it: see plan.variant_build."""
    assert MODULES[name][0] not in {m for other, listed in MODULES.items() if other != name for m in listed}
    assert LISTED[name] and FRAGMENTS[name].startswith("# modules: ")


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_what_a_capture_kernel_is(arch: str) -> None:
    have = dict(options("base", arch)) | dict(options(arch, arch))
    needed = ("CRASH_DUMP", "PROC_VMCORE", "RELOCATABLE", "BLK_DEV_INITRD", "DEVTMPFS", "EFI", "ACPI", "IOMMU_SUPPORT")
    assert [name for name in needed if have[f"CONFIG_{name}"] != "y"] == []
    assert have["CONFIG_LOCALVERSION"] == '"-kdump"', "releases of variants end so"
    assert not have["CONFIG_MODULES"] and not have["CONFIG_LOCALVERSION_AUTO"] and not have["CONFIG_SWAP"]
