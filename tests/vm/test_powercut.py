"""The power fails while a dump is saved: nothing that is half there looks whole, and what was there before still is."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.plan.console import Line
from tests.lab import crash
from tests.lab.crash import SMALL, Machine
from tests.lab.root import default_generator
from tests.lab.snapshot import carry_on, freeze, read_partition
from tests.lab.stacks import FS

pytestmark = pytest.mark.vm

CUTS = int(os.environ.get("KDUMP_TEST_CUTS", "20"))
"""How many, in two halves that run side by side."""
CRASH = b"Kernel panic - not syncing: sysrq triggered crash"
BEGIN = "kdump-save: start"
NEVER = ("kdump-save: nobody says this", 0.0)
Files = dict[Path, bytes]


@pytest.fixture
def machine(lab: None) -> Iterator[Machine]:
    with crash.machine(default_generator(), "6.12") as one:
        one.arm("", fstab=f"UUID={FS} / ext4 rw 0 1\n")
        yield one


@pytest.mark.parametrize("half", [1, 2])
def test_the_power_is_cut_at_any_moment(machine: Machine, tmp_path: Path, half: int) -> None:
    """Each cut is one of the same crash, which was stopped as it began to be saved."""
    seed = f"20261125-{half}"
    print(f"seed {seed}")  # noqa: T201 - for who has to repeat it
    dice = random.Random(seed)
    frozen = freeze(machine, replace(SMALL, break_target=("dumps:1:2",)), tmp_path / "frozen", BEGIN)
    before = contents(read_partition(frozen.disk, tmp_path / "before", "/var/crash"))
    assert len({path.parts[0] for path in before}) == 2
    seconds = 0.0
    steps = [NEVER]
    unfinished = 0
    for number in range(CUTS // 2 + 1):  # the first is none: it shows what there is to cut
        moment = choose(dice, number, steps, seconds)
        home = tmp_path / "cut"
        home.mkdir()
        said = carry_on(frozen, home / "disk.img", moment)
        text = "\n".join(line.text for line in said)
        try:
            after = contents(read_partition(home / "disk.img", home / "read", "/var/crash"))
            complete = check(machine, before, after, text)
        except Exception as error:
            raise AssertionError(f"cut {number}, {moment}: {error}\n{text[-3000:]}") from error
        print(moment, *sorted(path.name for path in after.keys() - before.keys()))  # noqa: T201
        seconds = duration(said) or seconds
        if number == 0:
            assert complete, text[-3000:]
            steps = [(line.text, 0.3) for line in said if re.match(r"kdump-save: (step \w+ begin|saved)", line.text)]
        unfinished += not complete
        shutil.rmtree(home)
    assert unfinished, "no cut came before the end: the moments were chosen badly"


def choose(dice: random.Random, number: int, steps: list[tuple[str, float]], seconds: float) -> tuple[str, float]:
    """A line that the uncut run said, and seconds after it: the core takes longest, so every second cut is in there."""
    if number % 2:
        return "kdump-save: step vmcore begin", dice.uniform(0, seconds)
    said, most = dice.choice(steps)
    return re.escape(re.sub(r" (result=|/).*", "", said)), dice.uniform(0, most)


def duration(said: tuple[Line, ...]) -> float:
    """Seconds that the core took; 0 where its end was not to be seen."""
    begin = next((line.seconds for line in said if "step vmcore begin" in line.text), 0.0)
    return next((line.seconds - begin for line in said if "step vmcore ok" in line.text), 0.0)


def check(machine: Machine, before: Files, after: Files, said: str) -> bool:
    """Whether there is a complete dump; and that nothing on the disk is wrong."""
    assert {path: after.get(path) for path in before} == before, "an older dump has changed"
    new = {path: data for path, data in after.items() if path not in before}
    homes = {path.parts[0] for path in new}
    assert len(homes) <= 1
    files = {path.name: data for path, data in new.items()}
    logged = re.search(r"kdump-save: step dmesg ok .*bytes=(\d+)", said)
    if logged:
        assert len(files["dmesg.txt"]) == int(logged[1])
        assert CRASH in files["dmesg.txt"]
    complete = b"\nresult=complete\n" in files.get("meta", b"")
    assert not complete or {"vmcore", "dmesg.txt"} <= files.keys()
    if "vmcore" in files:
        (machine.root.path / "root/core").write_bytes(files["vmcore"])
        again = machine.root.run(["makedumpfile", "-z", "-d", "31", "-f", "/root/core", "/root/again"], check=False)
        assert again.returncode == 0, f"the core can't be read to its end: {again.stdout}{again.stderr}"
    return complete


def contents(home: Path) -> Files:
    """Every file below, by its path there."""
    return {path.relative_to(home): path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file()}
