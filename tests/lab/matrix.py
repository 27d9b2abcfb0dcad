"""`make matrix`: every storage stack by every generator and flavour, each cell a real crash in a virtual machine.

A cell says how many seconds passed from panic to reboot and how many MiB were free at the least, at crashkernel=256M of
1 GiB; else why it can't be. With linux-kdump, every stack by every kind of disk instead, with as much reserved as
`estimate` says of it. Nothing is asserted here but by the exit code: 1 where a cell that should be green is not.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Flavour
from kdump_pkg.plan.rehearsal import Wish
from kdump_pkg.plan.verdict import Verdict

from . import crash, variant
from .common import LabError, say
from .fixtures import WITHOUT_MKINITCPIO
from .packages import Series
from .root import Generator, default_generator, mkinitcpio_prefix
from .stacks import STACKS, Stack

GENERATORS: tuple[Generator, ...] = ("mkinitcpio", "dracut")
FLAVOURS: tuple[Flavour, ...] = ("direct", "udev", "systemd")
BUSES = tuple(crash.BUSES)
SUPPORTED = tuple(stack for stack in STACKS if stack.supported)
NOT_RUN = "not run"
RESERVED = 256  # MiB
TIMEOUT = 600  # seconds; two machines on two busy cores


@dataclass(frozen=True)
class Cell:
    stack: Stack
    generator: Generator
    flavour: Flavour
    bus: crash.Bus = "virtio"
    slim: bool = False
    """With linux-kdump as the capture kernel."""

    @property
    def name(self) -> str:
        how = f"linux-kdump {self.bus}" if self.slim else f"{self.generator} {self.flavour}"
        return f"{self.stack.name} / {how}"

    @property
    def series(self) -> Series:
        """Of the kernel that crashes: Debian's have no driver for USB."""
        return "crypt" if self.bus == "USB" else self.stack.series

    @property
    def source(self) -> variant.Series:
        """Of linux-kdump, as of the kernel that crashes: an older one hands no keys over and can't open its arrays."""
        return "6.12" if self.series == "6.12" else "7.2"

    @property
    def package(self) -> Path | None:
        return variant.built(self.source, variant.ALL).package if self.slim else None


CELLS = (
    *(Cell(stack, g, f) for stack in STACKS for g in GENERATORS for f in FLAVOURS),
    *(Cell(stack, default_generator(), "direct", bus, slim=True) for stack in SUPPORTED for bus in BUSES),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a cell; also a line of the record."""

    captured: bool = False
    reason: str = NOT_RUN
    seconds: float | None = None
    """From the panic to the reboot."""
    least_mib: int | None = None
    packed: int = 0
    unpacked: int = 0
    modules: int = 0
    reserved_mib: int = RESERVED

    @property
    def text(self) -> str:
        if not self.captured:
            return f"no: {self.reason}"
        of = "" if self.reserved_mib == RESERVED else f" of {self.reserved_mib}"
        return f"{_or_unknown(self.seconds)} s, {_or_unknown(self.least_mib)}{of} MiB"


def main() -> int:
    args = _arguments()
    record = _record(args.output)
    outcomes = _known(record) if args.only or args.missing else {}
    todo = [cell for cell in CELLS if re.search(args.only or "", cell.name)]
    if args.missing:
        todo = [cell for cell in todo if not outcomes.get(cell.name, Outcome()).captured]
    # Cells of one root one after the other: the layers that they share are made once.
    todo.sort(key=lambda cell: (cell.slim, cell.source, cell.series, cell.generator))
    for number, (cell, outcome, took) in enumerate(_run(todo, args.jobs, args.keep), 1):
        outcomes[cell.name] = outcome
        say(f"[{number}/{len(todo)}] {cell.name}: {outcome.text} ({took:.0f} s)")
        if record:
            record.write_text(json.dumps({name: asdict(one) for name, one in outcomes.items()}, indent=1) + "\n")
        if args.output:
            args.output.write_text(table(outcomes))
    print(table(outcomes), end="")
    red = [cell for cell in todo if not outcomes[cell.name].captured and _should_be_green(cell)]
    return 1 if red else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="REGEX", help="cells whose `STACK / GENERATOR FLAVOUR` it fits; others stay")
    parser.add_argument("--missing", action="store_true", help="only cells that the record of --output has not green")
    parser.add_argument("--jobs", type=int, default=2, help="virtual machines at a time (2)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too, and FILE's .json")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the consoles of what was not captured")
    return parser.parse_args()


def _record(output: Path | None) -> Path | None:
    """The cells behind the table."""
    if output is None:
        return None
    output.parent.mkdir(parents=True, exist_ok=True)
    return output.with_suffix(".json")


def _should_be_green(cell: Cell) -> bool:
    return cell.stack.supported and not (cell.generator == "mkinitcpio" and mkinitcpio_prefix() is None)


def _known(record: Path | None) -> dict[str, Outcome]:
    if record is None or not record.exists():
        return {}
    found: dict[str, Any] = json.loads(record.read_text())
    return {name: Outcome(**values) for name, values in found.items()}


def _run(cells: Sequence[Cell], jobs: int, keep: Path | None) -> Iterator[tuple[Cell, Outcome, float]]:
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_timed, cell, keep): cell for cell in cells}
        for future in as_completed(futures):
            yield (futures[future], *future.result())


def _timed(cell: Cell, keep: Path | None) -> tuple[Outcome, float]:
    start = time.monotonic()
    try:
        outcome = _outcome(cell, keep)
    except (KdumpError, LabError, OSError) as error:  # one cell that can't be must not cost the others
        outcome = Outcome(reason=_one_line(str(error)))
    return outcome, time.monotonic() - start


def _outcome(cell: Cell, keep: Path | None) -> Outcome:
    if cell.generator == "mkinitcpio" and mkinitcpio_prefix() is None:
        return Outcome(reason=WITHOUT_MKINITCPIO)
    stack = cell.stack
    with crash.machine(cell.generator, cell.series, variant=cell.package, bus=cell.bus) as machine:
        config = f"flavour = {cell.flavour}\n{stack.config}"
        if not stack.supported:
            machine.configure(config, fstab=stack.fstab)
            said = [finding.text for finding in machine.status().findings if finding.state == "bad"]
            return Outcome(reason=_one_line(f"status says: {'; '.join(said)}"))
        machine.arm(config, fstab=stack.fstab, adjust=stack.adjust)
        cost, reserved = machine.cost(), machine.estimated() if cell.slim else RESERVED
        with _consoles(cell, keep) as logs:
            verdict = machine.crash(Wish(crashkernel=f"{reserved}M", timeout_s=TIMEOUT, keep=logs, **stack.wish))
        least = verdict.min_available_kib
        return Outcome(
            captured=verdict.captured and verdict.target_name == stack.saved_to,
            reason=_reason(verdict, stack),
            seconds=verdict.seconds_panic_to_reboot,
            least_mib=None if least is None else least >> 10,
            packed=cost.packed,
            unpacked=cost.unpacked,
            modules=cost.modules,
            reserved_mib=reserved,
        )


@contextmanager
def _consoles(cell: Cell, keep: Path | None) -> Iterator[Path | None]:
    """Where the rehearsal keeps what it has; the logs of it go to KEEP, the disks are too large."""
    if keep is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kdump-matrix-") as work:
        kept = Path(work) / "kept"
        try:
            yield kept
        finally:
            keep.mkdir(parents=True, exist_ok=True)
            for log in (path for path in kept.rglob("*.log") if not path.is_symlink()):
                shutil.copy(log, keep / f"{re.sub('[^A-Za-z0-9]+', '-', cell.name)}-{log.name}")


def _reason(verdict: Verdict, stack: Stack) -> str:
    if not verdict.captured:
        return _one_line(f"{verdict.reason}{f' ({verdict.console_line})' if verdict.console_line else ''}")
    elsewhere = f"saved to {verdict.target_name}, not to {stack.saved_to}"
    return "" if verdict.target_name == stack.saved_to else elsewhere


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:300]


def _or_unknown(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


# --- the tables -------------------------------------------------------------------------------------------------------


def table(outcomes: dict[str, Outcome]) -> str:
    """The tables as Markdown."""
    columns = [(g, f) for g in GENERATORS for f in FLAVOURS]
    lines = ["seconds from panic to reboot, least free memory at crashkernel=256M of 1 GiB", ""]
    lines += _head("stack", "kernel", *(f"{g} {f}" for g, f in columns))
    for stack in STACKS:
        found = [outcomes.get(Cell(stack, g, f).name, Outcome()) for g, f in columns]
        lines.append(_row(stack.name, stack.series, *_texts([one.text for one in found])))
    lines += ["", "flavour direct: the image, and its least free memory", ""]
    costs = [f"{g}: {what}" for g in GENERATORS for what in ("MB", "MiB unpacked", "modules", "MiB free")]
    lines += _head("stack", "kernel", *costs)
    for stack in SUPPORTED:
        direct = [outcomes.get(Cell(stack, g, "direct").name, Outcome()) for g in GENERATORS]
        lines.append(_row(stack.name, stack.series, *(word for one in direct for word in _costs(one))))
    return "\n".join([*lines, *_slim(outcomes), ""])


def _slim(outcomes: dict[str, Outcome]) -> list[str]:
    how = "reserved is what `estimate` says; on USB disks all is of 7.2"
    lines = ["", f"the same two figures with linux-kdump, by the disks; {how}", ""]
    lines += _head("stack", "kernel", *BUSES, "MB", "MiB unpacked", "modules")
    for stack in SUPPORTED:
        cells = [cell for cell in CELLS if cell.slim and cell.stack == stack]
        found = [outcomes.get(cell.name, Outcome()) for cell in cells]
        texts = _texts([one.text for one in found])
        lines.append(_row(stack.name, cells[0].source, *texts, *_costs(found[0])[:-1]))
    return lines


def _texts(texts: list[str]) -> list[str]:
    """What is the same in all cells stands in the first one."""
    same = len(set(texts)) == 1 and texts[0].startswith("no: ")
    return [texts[0], *["the same"] * (len(texts) - 1)] if same else texts


def _costs(one: Outcome) -> list[str]:
    if not one.packed:
        return ["?"] * 4
    return [f"{one.packed / 1e6:.1f}", f"{one.unpacked / (1 << 20):.1f}", str(one.modules), _or_unknown(one.least_mib)]


def _head(*names: str) -> list[str]:
    return [_row(*names), _row(*["---"] * len(names))]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
