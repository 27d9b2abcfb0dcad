"""What the real drgn does with dumps that are damaged on purpose; and that `status` has warned of one that will be.

That all of it works after a real crash is in test_crash_on_purpose, which has the boots for it.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdump_pkg import verification
from kdump_pkg.apply import vmlinux
from kdump_pkg.context import Context
from kdump_pkg.errors import BadDumpError
from kdump_pkg.facts import diskdump
from kdump_pkg.model.crash import VmcoreFacts
from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan.level import FULL, damages
from tests.lab import crash, debuggers, packages
from tests.vmcores import flattened

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(importlib.util.find_spec("drgn") is None, reason="drgn is not installed: pip install drgn"),
]
SERIES: packages.Series = "7.2"
TIMES = 20


class Bench:
    """A good dump, and a place for bad ones made of it."""

    def __init__(self, root: Path) -> None:
        self.data = (debuggers.dump(SERIES) / "vmcore").read_bytes()
        self.ctx = Context(root)
        self.vmcore = root / "vmcore"
        self.entry = Entry("vmcore", "/vmcore", "unknown", 0, vmcore="/vmcore")
        modules = root / f"usr/lib/modules/{packages.release(SERIES)}"
        modules.mkdir(parents=True)
        self.vmcore.write_bytes(self.data)
        (modules / "vmlinuz").write_bytes(packages.vmlinuz(SERIES).read_bytes())
        build_id = diskdump.read(self.vmcore).info.build_id
        self.vmlinux = vmlinux.ensure(self.ctx, packages.release(SERIES), build_id)

    def read(self, data: bytes, *, types: bool) -> VmcoreFacts:
        """An answer, whatever it is: one line of what is wrong, or tasks."""
        self.vmcore.write_bytes(data)
        facts = verification.read_vmcore(self.ctx, self.entry, self.vmlinux if types else None)
        assert facts.tasks or facts.fault or facts.missing
        assert all(text.isprintable() and len(text) <= 400 for text in (facts.fault, facts.missing))
        assert "not done after" not in facts.missing
        return facts

    def structure(self) -> str:
        try:
            diskdump.examine(self.vmcore)
        except BadDumpError as error:
            assert error.message.isprintable()
            return error.message
        return ""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield Bench(tmp_path_factory.mktemp("hostile"))


def test_a_good_one(bench: Bench) -> None:
    """With types and without, and as a stream: what the others are held against."""
    with_types, without = (bench.read(bench.data, types=types) for types in (True, False))
    assert with_types.fault == without.fault == bench.structure() == ""
    assert with_types.tasks == without.tasks > 60
    assert {task.cpu for task in with_types.running} == {0, 1}
    assert any("sysrq_handle_crash" in task.trace for task in with_types.running)
    assert dict(with_types.memory)["MemTotal"] == dict(without.memory)["MemTotal"] > 1 << 18
    stream = bench.read(flattened(bench.data, 1 << 20), types=False)
    assert stream.tasks == without.tasks and bench.structure() == ""


def test_truncated_at_twenty_places(bench: Bench) -> None:
    dice = random.Random(1)
    for length in [1, 4096, 70000, *(dice.randrange(1, len(bench.data)) for _ in range(TIMES - 3))]:
        bench.read(bench.data[:length], types=dice.random() < 0.5)
        assert bench.structure(), f"cut at {length}"


def test_bits_that_have_flipped(bench: Bench) -> None:
    """In headers, tables, and pages; of a compressed page drgn says that it can't unpack it."""
    dice = random.Random(2)
    for number in range(TIMES):
        data = bytearray(bench.data)
        zone = (8192, 1 << 18, len(data))[number % 3]
        for _ in range(dice.choice((1, 30, 1000))):
            data[dice.randrange(zone)] ^= 1 << dice.randrange(8)
        bench.read(bytes(data), types=dice.random() < 0.5)
        bench.structure()


def test_numbers_that_are_huge(bench: Bench) -> None:
    """As a header asks for terabytes: block size, sub-header, bitmap, pages, VMCOREINFO, notes."""
    for place in (428, 432, 436, 440, 460, 4096 + 32, 4096 + 40, 4096 + 48, 4096 + 56, 4096 + 96):
        data = bytearray(bench.data)
        data[place : place + 4] = b"\xff\xff\xff\x7f"
        bench.read(bytes(data), types=False)
        bench.structure()


def test_status_has_warned_of_the_pair() -> None:
    """Before the crash: of a level that this makedumpfile damages dumps of this kernel at."""
    with crash.machine("dracut", SERIES) as machine:
        version = machine.root.versions()["makedumpfile"]
        if not damages(packages.release(SERIES), version, FULL):
            pytest.skip(f"makedumpfile {version} is mended: there is nothing to warn of")
        machine.configure(f"dump_level = {FULL}\n")
        findings = machine.status().findings
        assert any("damages dumps of Linux 7.1" in one.text for one in findings if one.state != "ok"), findings
