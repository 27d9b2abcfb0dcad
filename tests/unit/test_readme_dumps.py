"""What README shows of dumps and reports is what the program prints."""

from __future__ import annotations

import re
from pathlib import Path

from kdump_pkg import ui
from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan import listing
from tests import docs

README = (docs.REPO / "README.md").read_text(encoding="utf-8")
WHOLE_REPORT = (Path(__file__).parents[1] / "reports_made.txt").read_text(encoding="utf-8")

DUMPS = (
    Entry(
        "2026-11-21T22-03-12Z-6.17.7-arch1-2", "/var/crash/2026-11-21T22-03-12Z-6.17.7-arch1-2", "kdump-pkg",
        1_795_298_592, "6.17.7-arch1-2", "complete", pinned=True, size=41 << 20, what="a soft lockup of CPU 2 for 26 s",
        where="btrfs_search_slot [btrfs]",
    ),
    Entry(
        "2026-11-23T07-46-54Z-6.17.8-arch1-1", "/var/crash/2026-11-23T07-46-54Z-6.17.8-arch1-1", "kdump-pkg",
        1_795_420_014, "6.17.8-arch1-1", "complete", size=42_257_613, what="a null pointer access",
        where="nouveau_fence_update [nouveau]",
    ),
)  # fmt: skip


def shown(command: str) -> str:
    """What README shows below COMMAND, up to the next command or the end of the block."""
    found = re.search(rf"^    # {re.escape(command)}\n((?:(?:    (?!# ).*)?\n)+)", README, re.MULTILINE)
    assert found, command
    return "\n".join(line.removeprefix("    ") for line in found[1].splitlines()).strip("\n")


def test_list_looks_as_in_the_readme() -> None:
    assert shown("kdump-pkg list") == ui.table(listing.rows(DUMPS, lambda time: 0))


def test_report_looks_as_in_the_readme() -> None:
    """Whole pieces of the report that tests/unit/test_report_text.py makes, in its order."""
    rest = WHOLE_REPORT
    pieces = [piece.strip("\n") for piece in re.split(r"^ *…$", shown("kdump-pkg report"), flags=re.MULTILINE)]
    assert len([piece for piece in pieces if piece]) > 2
    for piece in filter(None, pieces):
        _, found, rest = rest.partition(piece)
        assert found, piece
