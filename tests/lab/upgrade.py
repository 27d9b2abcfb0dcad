"""`make variant`: linux-kdump through upgrades and bad input, where that takes more than a test may take.

times  seconds of a transaction that upgrades the kernel, with and without a followed variant; nothing is asserted
vm     an upgrade on a machine whose PID 1 is systemd, up to a crash that the new variant captures
bad    what can't be built, with the real source and the real compiler: what is said, what is armed before and after
build  a real build that is interrupted twice, and then finished
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from . import packages, upgrade_bad, upgrade_vm
from .common import LabError, say
from .root import Generator, default_generator
from .variant_root import VariantRoot, followed, stock, version

REPO = Path(__file__).resolve().parents[2]
PARTS = ("times", "vm", "bad", "build")
TIMES = 3
Opener = Callable[[Generator, Path], AbstractContextManager[VariantRoot]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--output", type=Path, default=Path("build/variant.md"), help="where the tables go")
    args = parser.parse_args()
    package = packages.kdump_pkg(REPO)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    text, wrong = "", []
    for part in args.parts:
        try:
            lines, faults = {"times": _times, "vm": _vm, "bad": _bad, "build": _build}[part](package, args.output)
        except LabError as error:
            lines, faults = [], [str(error)]
        text += "\n".join([f"## {part}", "", *lines, "", *(f"- wrong: {fault}" for fault in faults), ""])
        wrong += faults
        args.output.write_text(text)
    sys.stdout.write(text)
    return 1 if wrong else 0


def _times(package: Path, output: Path) -> tuple[list[str], list[str]]:
    """By turns, so that whatever else this machine does meets both."""
    openers: dict[str, Opener] = {"without": stock, "with": followed}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in openers}
    for _ in range(TIMES):
        for name, opener in openers.items():
            with opener(default_generator(), package) as root:
                root.source(version("7.2"))
                found[name].append(_transaction(root))
                say(f"upgrade {name} a followed variant: {found[name][-1]}, started: {root.started()}")
    lines = ["| followed variant | seconds of the transaction | median | of CPU | median |", "| --- " * 5 + "|"]
    for name, pairs in found.items():
        cells = [name]
        for values in zip(*pairs, strict=True):
            cells += [", ".join(f"{value:.1f}" for value in values), f"{statistics.median(values):.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines, []


def _transaction(root: VariantRoot) -> tuple[float, float]:
    """Seconds of an upgrade of the kernel by the clock, and of its CPU."""
    kernel = root.root.bring(packages.kernel("7.2"))
    script = 'mkdir -p /run/systemd/system; TIMEFORMAT="%R %U %S"; time pacman --noconfirm -U "$@" >/dev/null 2>&1'
    done = root.root.run(["bash", "-c", script, "timed", kernel], timeout=900)
    real, user, system = (float(word) for word in done.stderr.split()[-3:])
    return real, user + system


def _vm(package: Path, output: Path) -> tuple[list[str], list[str]]:
    story = upgrade_vm.run_story(package, output.with_suffix(".console"))
    lines = []
    for name in ("upgrade", "started", "now", "ended", "journal", "packages", "loaded"):
        lines += [f"### {name}", "", "```", *story.said(name).splitlines(), "```", ""]
    return [*lines, "### meta", "", "```", *story.meta.splitlines(), "```"], upgrade_vm.check(story)


def _bad(package: Path, output: Path) -> tuple[list[str], list[str]]:
    return upgrade_bad.table(package)


def _build(package: Path, output: Path) -> tuple[list[str], list[str]]:
    return upgrade_bad.interrupted(package)


if __name__ == "__main__":
    sys.exit(main())
