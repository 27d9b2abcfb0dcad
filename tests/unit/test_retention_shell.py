"""The rule of the capture kernel, hooks/save/room.sh, chooses what plan/retention.py chooses."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kdump_pkg.model import Dump, Retention, Space
from kdump_pkg.plan.retention import DAY, choose
from tests.tools import tool

NOW = 1_795_420_014
CASES = 300
SCRIPT = """
. hooks/save/room.sh
for work in "$1"/*; do
    . "$work/rules"
    choose "$incoming" "$need" "$2"
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


def write(where: Path, dumps: list[Dump], rules: Retention, space: Space, incoming: int, need: int) -> None:
    where.mkdir(parents=True)
    (where / "space").write_text(f"{space.total} {space.free}\n")
    (where / "dumps").write_text("".join(f"{d.name} {d.kib} {d.complete:d} {d.pinned:d} 1\n" for d in dumps))
    (where / "rules").write_text(
        f"keep={rules.keep} max_age={rules.max_age} max_use={rules.max_use} keep_free={rules.keep_free}"
        f" incoming={incoming} need={need}\n"
    )


@pytest.mark.spawns
@pytest.mark.parametrize("shell", ["dash", "busybox ash"])
def test_both_choose_the_same(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"{shell} is not installed")
    chance = random.Random(shell)
    wanted = []
    for number in range(CASES):
        dumps, total = some_dumps(chance), chance.randint(0, 50_000)
        keep, age = (chance.choice([0, chance.randint(1, most)]) for most in (10, 70))
        rules = Retention(keep, age, a_limit(chance), a_limit(chance))
        space = Space(total, chance.randint(0, total))
        incoming, need = chance.randint(0, 1), chance.choice([0, chance.randint(1, 8000)])
        write(tmp_path / "cases" / f"{number:03}", dumps, rules, space, incoming, need)
        chosen = choose(dumps, rules, space, NOW, incoming=incoming, need=need)
        wanted.append(" ".join([f"{number:03}", *(r.dump.name for r in chosen)]))
    done = tool(*shell.split(), "-c", SCRIPT, "sh", str(tmp_path / "cases"), str(NOW))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == wanted
    assert sum(len(line.split()) - 1 for line in wanted) > CASES / 2  # it is not all nothing
