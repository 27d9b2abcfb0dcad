"""`make least`: the smallest reservation that captures, looked for with real crashes, beside what `estimate` says.

Each cell is a stack, a kernel or the linux-kdump of that series, a generator and a flavour. The sizes are multiples of
4 MiB. Nothing is asserted here but by the exit code: 1 where the estimate is too small, or more than a quarter too
large, or a cell can't be.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Flavour
from kdump_pkg.plan import search
from kdump_pkg.plan.rehearsal import Wish

from . import crash, variant
from .common import LabError, say
from .packages import Series
from .root import Generator
from .stacks import STACKS, Stack

STEP = 4
LARGEST = 512  # MiB, half of the machine
ALLOWED = 1.25
TIMEOUT = 500  # seconds; two machines on two busy cores
BY_NAME = {stack.name: stack for stack in STACKS}
FLAVOURS: tuple[Flavour, ...] = ("direct", "udev", "systemd")
Slim = Literal["", "small", "all"]
FRAGMENTS: Mapping[Slim, Sequence[str]] = {"small": variant.SMALL, "all": variant.ALL}
HANDED_OVER, TYPED = "LUKS, key handed over", "LUKS, passphrase typed (Argon2id, 64 MiB)"
BTRFS = "btrfs, /var/crash a subvolume, compressed"


@dataclass(frozen=True)
class Cell:
    stack: str
    series: Series
    generator: Generator
    flavour: Flavour
    slim: Slim = ""
    """Which linux-kdump captures: none, one with the drivers of this machine alone, one with all."""

    @property
    def kernel(self) -> str:
        return f"linux-kdump {self.source}, {self.slim}" if self.slim else self.series

    @property
    def source(self) -> variant.Series:
        return "6.12" if self.series == "6.12" else "7.2"

    @property
    def name(self) -> str:
        return f"{self.stack} / {self.kernel} {self.generator} {self.flavour}"

    @property
    def package(self) -> Path | None:
        return variant.built(self.source, FRAGMENTS[self.slim]).package if self.slim else None


def _flavours(stack: str, series: Series, generator: Generator) -> list[Cell]:
    return [Cell(stack, series, generator, flavour) for flavour in FLAVOURS]


CELLS: tuple[Cell, ...] = (
    *_flavours("ext4", "6.12", "mkinitcpio"),
    *_flavours("ext4", "7.2", "mkinitcpio"),
    *_flavours("ext4", "6.12", "dracut"),
    *_flavours("ext4", "7.2", "dracut"),
    *_flavours(HANDED_OVER, "crypt", "mkinitcpio"),
    *_flavours(TYPED, "6.12", "mkinitcpio"),
    Cell("xfs", "6.12", "mkinitcpio", "direct"),
    Cell("LVM, xfs", "6.12", "mkinitcpio", "direct"),
    Cell(BTRFS, "6.12", "mkinitcpio", "direct"),
    Cell("ext4", "6.12", "mkinitcpio", "direct", "small"),
    Cell("ext4", "6.12", "dracut", "direct", "small"),
    Cell("ext4", "6.12", "mkinitcpio", "direct", "all"),
    Cell("ext4", "7.2", "mkinitcpio", "direct", "all"),
    Cell("LVM, xfs", "6.12", "mkinitcpio", "direct", "all"),
    Cell(BTRFS, "6.12", "mkinitcpio", "direct", "all"),
    Cell(HANDED_OVER, "crypt", "mkinitcpio", "direct", "all"),
    Cell(TYPED, "6.12", "mkinitcpio", "direct", "all"),
)


@dataclass(frozen=True)
class Found:
    """What came of a cell; also a line of the record. All in MiB."""

    least: int | None = None
    estimate: int | None = None
    packed: float = 0
    unpacked: float = 0
    reason: str = "not run"

    @property
    def ratio(self) -> float | None:
        return self.estimate / self.least if self.estimate and self.least else None

    @property
    def good(self) -> bool:
        return self.ratio is not None and 1 <= self.ratio <= ALLOWED


def main() -> int:
    args = _arguments()
    record = args.output.with_suffix(".json") if args.output else None
    found = _known(record) if args.only else {}
    todo = [cell for cell in CELLS if re.search(args.only or "", cell.name)]
    for number, (cell, one, took) in enumerate(_run(todo, args.jobs), 1):
        found[cell.name] = one
        say(f"[{number}/{len(todo)}] {cell.name}: {one.least or one.reason} ({took:.0f} s)")
        if args.output and record:
            args.output.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps({name: asdict(one) for name, one in found.items()}, indent=1) + "\n")
            args.output.write_text(table(found))
    print(table(found), end="")
    return 0 if all(found[cell.name].good for cell in todo) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", help="cells whose `STACK / KERNEL GENERATOR FLAVOUR` it fits")
    parser.add_argument("--jobs", type=int, default=2, help="virtual machines at a time (2)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too, and FILE's .json")
    return parser.parse_args()


def _known(record: Path | None) -> dict[str, Found]:
    if record is None or not record.exists():
        return {}
    known: dict[str, Any] = json.loads(record.read_text())
    return {name: Found(**values) for name, values in known.items()}


def _run(cells: Sequence[Cell], jobs: int) -> Iterator[tuple[Cell, Found, float]]:
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_timed, cell): cell for cell in cells}
        for future in as_completed(futures):
            yield (futures[future], *future.result())


def _timed(cell: Cell) -> tuple[Found, float]:
    start = time.monotonic()
    try:
        found = _look(cell)
    except (KdumpError, LabError, OSError) as error:  # one cell that can't be must not cost the others
        found = Found(reason=" ".join(str(error).replace("|", "/").split())[:300])
    return found, time.monotonic() - start


def _look(cell: Cell) -> Found:
    stack = BY_NAME[cell.stack]
    with crash.machine(cell.generator, cell.series, variant=cell.package) as machine:
        machine.arm(f"flavour = {cell.flavour}\n{stack.config}", fstab=stack.fstab, adjust=stack.adjust)
        facts, said = machine.facts(machine.config()), machine.estimated()
        floor = search.loadable(facts, machine.capture()) or STEP
        captures = Captures(machine, stack)
        least = search.smallest(captures, said, by=STEP, floor=floor, ceiling=LARGEST)
        packed, unpacked = facts.image.size / search.MIB, (facts.image.unpacked or 0) / search.MIB
    return Found(least, said, packed, unpacked, "" if least else f"{LARGEST} MiB don't do")


class Captures:
    """Whether a size does; a failure for another reason than memory ends the cell."""

    def __init__(self, machine: crash.Machine, stack: Stack) -> None:
        self.machine = machine
        self.stack = stack
        self.seen = False

    def __call__(self, mib: int) -> bool:
        wish = Wish(crashkernel=f"{mib}M", timeout_s=TIMEOUT, **self.stack.wish)
        verdict = self.machine.crash(wish)
        if not verdict.captured:
            search.check(verdict.reason, seen=self.seen)
        self.seen = self.seen or verdict.captured
        return verdict.captured


def table(found: dict[str, Found]) -> str:
    """As Markdown."""
    head = ("stack", "kernel", "generator", "flavour", "image", "unpacked", "smallest", "estimate", "ratio")
    lines = ["all in MiB", "", _row(*head), _row(*["---"] * len(head))]
    for cell in CELLS:
        one = found.get(cell.name, Found())
        sizes = (f"{one.packed:.1f}", f"{one.unpacked:.1f}") if one.packed else ("?", "?")
        ratio = "?" if one.ratio is None else f"{one.ratio:.2f}{'' if one.good else ' !'}"
        figures = (*sizes, str(one.least or one.reason), str(one.estimate or "?"), ratio)
        lines.append(_row(cell.stack, cell.kernel, cell.generator, cell.flavour, *figures))
    return "\n".join([*lines, ""])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
