"""`make versus`: the stock kernel and linux-kdump, crashed in the same virtual machine, turn by turn.

The smallest reservation with which each captures; then, with the same reservation for both, the seconds from panic to
reboot and the least free memory, in A B A B … so that what else the host does hits both alike. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from kdump_pkg.plan import search
from kdump_pkg.plan.rehearsal import Wish

from . import crash, variant
from .common import LabError, say
from .least import LARGEST, STEP, Captures
from .root import default_generator
from .stacks import STACKS, Stack

Side = Literal["stock", "linux-kdump, all drivers", "linux-kdump, this machine's drivers"]
SIDES: Mapping[Side, tuple[str, ...]] = {
    "stock": (),
    "linux-kdump, all drivers": variant.ALL,
    "linux-kdump, this machine's drivers": variant.SMALL,
}
PANIC = "Kernel panic - not syncing: sysrq triggered crash"
TIMEOUT = 500


@dataclass
class Figures:
    """Of one side: sizes in bytes, memory in MiB, times in seconds."""

    kernel: int = 0
    image: int = 0
    unpacked: int = 0
    modules: int = 0
    least: int | None = None
    estimate: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the panic to the reboot."""
    until_saving: list[float] = field(default_factory=list)
    """From the panic to makedumpfile: what is left of it where a dump is large."""
    dumped: list[int] = field(default_factory=list)
    """Bytes: a system that has loaded a larger kernel has more in its memory that no filter takes for free."""
    free: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    """What else the host did: its load average, after each crash."""


def main() -> int:
    args = _arguments()
    sides = [side for side in SIDES if side == "stock" or args.only in side]
    stack = next(stack for stack in STACKS if stack.name == args.stack)
    found = {side: Figures() for side in sides}
    with _machines(args.series, stack, sides) as machines:
        for side, machine in machines.items():
            _measure_size(machine, found[side])
        for number in range(args.runs):
            for side, machine in machines.items():
                _time(machine, stack, args.crashkernel, found[side])
                say(f"[{number + 1}/{args.runs}] {side}: {found[side].seconds[-1]} s, {found[side].free[-1]:.0f} MiB")
            _write(args.output, args, found)
        for side, machine in machines.items():
            if not args.times:
                found[side].least = _least(machine, stack)
                say(f"{side}: {found[side].least} MiB")
            _write(args.output, args, found)
    print(table(args, found), end="")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", choices=list(variant.SUITES), default="6.12", help="of both kernels (6.12)")
    parser.add_argument("--stack", choices=[stack.name for stack in STACKS], default="ext4", help="of storage (ext4)")
    parser.add_argument("--crashkernel", default="128M", help="with what the time is taken (128M)")
    parser.add_argument("--runs", type=int, default=5, help="crashes of each side (5)")
    parser.add_argument("--only", metavar="TEXT", default="", help="of linux-kdump only what has TEXT in its name")
    parser.add_argument("--times", action="store_true", help="look for no smallest reservation")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the table there too, and FILE's .json")
    return parser.parse_args()


@contextmanager
def _machines(series: variant.Series, stack: Stack, sides: list[Side]) -> Iterator[dict[Side, crash.Machine]]:
    """Armed roots, one for each side."""
    with ExitStack() as roots:
        machines = {}
        for side in sides:
            package = variant.built(series, SIDES[side]).package if SIDES[side] else None
            machine = roots.enter_context(crash.machine(default_generator(), series, variant=package))
            machine.arm(f"flavour = direct\n{stack.config}", fstab=stack.fstab, adjust=stack.adjust)
            machines[side] = machine
        yield machines


def _measure_size(machine: crash.Machine, figures: Figures) -> None:
    cost, kernel = machine.cost(), machine.capture().kernel
    assert kernel.vmlinuz is not None
    figures.kernel = machine.ctx.path(kernel.vmlinuz).stat().st_size
    figures.image, figures.unpacked, figures.modules = cost.packed, cost.unpacked, cost.modules
    figures.estimate = machine.estimated()


def _time(machine: crash.Machine, stack: Stack, crashkernel: str, figures: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="kdump-versus-") as work:
        kept = Path(work) / "kept"
        verdict = machine.crash(Wish(crashkernel=crashkernel, timeout_s=TIMEOUT, keep=kept, **stack.wish))
        log = (kept / "console.log").read_text(encoding="utf-8")
    if not verdict.captured or verdict.seconds_panic_to_reboot is None:
        raise LabError(f"{verdict.release} with {crashkernel}: {verdict.reason}")
    figures.seconds.append(verdict.seconds_panic_to_reboot)
    figures.until_saving.append(_moment(log, "kdump-save: step vmcore begin") - _moment(log, PANIC))
    figures.dumped.append(next(file.size for file in verdict.dump if file.name == "vmcore"))
    figures.free.append((verdict.min_available_kib or 0) / 1024)
    figures.load.append(os.getloadavg()[0])


def _moment(log: str, text: str) -> float:
    """Seconds by the host's clock, of the first line with TEXT."""
    found = re.search(rf"^\[ *([\d.]+)\] .*{re.escape(text)}", log, re.MULTILINE)
    if found is None:
        raise LabError(f"the console has no line `{text}`")
    return float(found[1])


def _least(machine: crash.Machine, stack: Stack) -> int | None:
    floor = search.loadable(machine.facts(machine.config()), machine.capture()) or STEP
    return search.smallest(Captures(machine, stack), machine.estimated(), by=STEP, floor=floor, ceiling=LARGEST)


def _write(output: Path | None, args: argparse.Namespace, found: Mapping[Side, Figures]) -> None:
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        values = {side: asdict(figures) for side, figures in found.items()}
        output.with_suffix(".json").write_text(json.dumps(values, indent=1) + "\n")
        output.write_text(table(args, found))


def table(args: argparse.Namespace, found: Mapping[Side, Figures]) -> str:
    """As Markdown."""
    lines = [f"{args.stack}, Linux {args.series}; times and free memory at crashkernel={args.crashkernel} of 1 GiB", ""]
    lines += [_row("", *found), _row("---", *["---"] * len(found))]
    rows = {
        "vmlinuz, MB": [f"{one.kernel / 1e6:.2f}" for one in found.values()],
        "image, MB": [f"{one.image / 1e6:.2f}" for one in found.values()],
        "both, MB": [f"{(one.kernel + one.image) / 1e6:.2f}" for one in found.values()],
        "image unpacked, MiB": [f"{one.unpacked / search.MIB:.1f}" for one in found.values()],
        "modules in it": [str(one.modules) for one in found.values()],
        "smallest that captures, MiB": [str(one.least or "?") for one in found.values()],
        "estimate, MiB": [str(one.estimate) for one in found.values()],
        "panic to reboot, s, median": [_median(one.seconds) for one in found.values()],
        "every run": [_all(one.seconds) for one in found.values()],
        "panic to makedumpfile, s, median": [_median(one.until_saving) for one in found.values()],
        "every run of it": [_all(one.until_saving) for one in found.values()],
        "dumps, MB": [_all([size / 1e6 for size in one.dumped]) for one in found.values()],
        "least free, MiB, median": [_median(one.free) for one in found.values()],
        "load of the host after each": [_all(one.load) for one in found.values()],
    }
    return "\n".join([*lines, *(_row(name, *values) for name, values in rows.items()), ""])


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}" if values else "?"


def _all(values: list[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values) or "?"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
