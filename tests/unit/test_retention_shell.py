"""The rule of the capture kernel, hooks/save/room.sh, chooses what plan/retention.py chooses."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdump_pkg.facts.dumps import is_known
from kdump_pkg.model import Dump, Retention, Space
from kdump_pkg.plan.retention import DAY, choose
from tests.tools import tool

NOW = 1_795_420_014
CASES = 300
SCRIPT = """
. hooks/save/room.sh
for work in "$1"/*; do
    . "$work/rules"
    choose "$incoming" "$need" "$now"
    echo "${work##*/}$doomed"
done
"""


def some_dumps(chance: random.Random) -> list[Dump]:
    times = sorted(chance.sample(range(NOW - 60 * DAY, NOW), chance.randint(0, 10)))
    names = [f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H-%M-%SZ}-6.12.1" for time in times]
    if chance.random() < 0.2:  # no time at all, so never too old
        names = sorted([*names, "2026-02-30T00-00-00Z-6.12.1", "2026-10-08T09-08-60Z-6.12.1"])
    return [Dump(n, chance.random() < 0.6, chance.random() < 0.2, chance.randint(0, 5000)) for n in names]


def a_limit(chance: random.Random) -> str:
    return chance.choice(["0", str(chance.randint(1, 20_000)), f"{chance.randint(0, 60)}%"])


Case = tuple[list[Dump], Retention, Space, int, int, int]
"""Dumps, rules, room, and what `choose` is told besides: incoming, need, now."""


def a_case(chance: random.Random) -> Case:
    dumps, total = some_dumps(chance), chance.randint(0, 50_000)
    keep, age = (chance.choice([0, chance.randint(1, most)]) for most in (10, 70))
    rules = Retention(keep, age, a_limit(chance), a_limit(chance))
    space = Space(total, chance.randint(0, total))
    return dumps, rules, space, chance.randint(0, 1), chance.choice([0, chance.randint(1, 8000)]), NOW


def a_corner(chance: random.Random) -> Case:
    """Of the calendar, of what a shell takes for octal, and of the limits."""
    limits = ["0", "1", "150", "4500", "0%", "5%", "100%"]
    rules = Retention(
        chance.choice([0, 1, 2, 4]), chance.choice([0, 1, 400]), chance.choice(limits), chance.choice(limits)
    )
    days = range(chance.choice([0, 1, 2, 5, 8]))
    dumps = sorted((a_corner_dump(chance, day) for day in days), key=lambda d: d.name)
    space = Space(chance.choice([1000, 100_000]), chance.choice([0, 90, 900]))
    return dumps, rules, space, chance.choice([0, 1]), chance.choice([0, 100, 5000]), chance.choice([NOW, 10**9])


def a_corner_dump(chance: random.Random, day: int) -> Dump:
    month, of_month = chance.choice([(1, 31), (2, 28), (2, 29), (2, 30), (9, 9), (11, day % 30 + 1), (12, 31), (13, 1)])
    time = f"{chance.choice([8, 9, 23, 24]):02}-{chance.choice([0, 9, 59]):02}-{chance.choice([0, 8, 60]):02}"
    name = f"{chance.choice([1970, 2000, 2024, 2026])}-{month:02}-{of_month:02}T{time}Z-6.12.{day}"
    return Dump(name, chance.random() < 0.5, chance.random() < 0.2, chance.choice([0, 1, 100, 4000]))


def write(where: Path, case: Case) -> None:
    dumps, rules, space, incoming, need, now = case
    where.mkdir(parents=True)
    (where / "space").write_text(f"{space.total} {space.free}\n")
    (where / "dumps").write_text("".join(f"{d.name} {d.kib} {d.complete:d} {d.pinned:d} 1\n" for d in dumps))
    (where / "rules").write_text(
        f"keep={rules.keep} max_age={rules.max_age} max_use={rules.max_use} keep_free={rules.keep_free}"
        f" incoming={incoming} need={need} now={now}\n"
    )


@pytest.mark.spawns
@pytest.mark.parametrize("make", [a_case, a_corner])
@pytest.mark.parametrize("shell", ["dash", "busybox ash"])
def test_both_choose_the_same(tmp_path: Path, shell: str, make: Callable[[random.Random], Case]) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    chance = random.Random(shell)
    wanted = []
    for number in range(CASES):
        case = dumps, rules, space, incoming, need, now = make(chance)
        write(tmp_path / "cases" / f"{number:03}", case)
        chosen = choose(dumps, rules, space, now, incoming=incoming, need=need)
        wanted.append(" ".join([f"{number:03}", *(r.dump.name for r in chosen)]))
    done = tool(*shell.split(), "-c", SCRIPT, "sh", str(tmp_path / "cases"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == wanted
    assert sum(len(line.split()) - 1 for line in wanted) > CASES / 2  # it is not all nothing
    assert sum(" " in line for line in wanted) > CASES / 3


NAMES = (
    "meta", "meta.new", "save.log", "dmesg.txt", "capture-dmesg.txt", "vmcore", "vmcore.incomplete", "vmcore.partial",
    "vmcore.flat", "report.html", "vmcore.age", "dmesg.txt.age", ".kdump-pkg-12-vmcore", "key.age", "notes.age",
    "notes", "vmcore.d", "dmesg.txt.old", ".age", "pinned",
)  # fmt: skip


@pytest.mark.spawns
@pytest.mark.parametrize("shell", ["dash", "busybox ash"])
def test_both_take_the_same_files_for_a_dumps_own(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    for name in NAMES:
        (tmp_path / name).touch()
    script = '. hooks/save/room.sh; for name; do ! is_part "$name" || echo "${name##*/}"; done'
    done = tool(*shell.split(), "-c", script, "sh", *(str(tmp_path / name) for name in NAMES))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [name for name in NAMES if is_known(name)]
    assert not {"key.age", "notes.age", "pinned"} & set(done.stdout.splitlines())
