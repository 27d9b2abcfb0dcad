"""linux-kdump as makepkg builds it, captures a crash of the stock kernel in 48 MiB; `make versus` has the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from kdump_pkg.plan.variant import UNTRIED
from tests.lab import crash, packages, variant
from tests.lab.crash import TRUST, TRUSTED, Machine
from tests.lab.root import default_generator

pytestmark = [pytest.mark.vm, pytest.mark.timeout(3600)]  # where the cache is empty, a kernel is built

CONFIG = "flavour = direct\n"
FSTAB = "UUID=11111111-2222-3333-4444-555555555555 / ext4 rw 0 1\n"
RESERVED = "48M"
MOST = 8_000_000
"""Bytes of kernel and image."""


@pytest.fixture(params=dict.fromkeys((default_generator(), "dracut")))
def machine(request: pytest.FixtureRequest, lab: None) -> Iterator[Machine]:
    """A stock kernel, and beside it linux-kdump with the drivers of this machine, installed by pacman and trusted."""
    with crash.machine(request.param, "6.12", variant=variant.built("6.12").package) as made:
        yield made


def captures(machine: Machine) -> str:
    """Release of the kernel that does."""
    return machine.capture().kernel.release


def test_it_captures_in_48_mib(machine: Machine) -> None:
    machine.arm(CONFIG, fstab=FSTAB)
    kernel = machine.capture().kernel
    assert kernel.release.endswith("-kdump") and kernel.pkgbase is None and kernel.vmlinuz is not None
    cost, size = machine.cost(), machine.ctx.path(kernel.vmlinuz).stat().st_size
    assert cost.modules == 0
    assert size + cost.packed <= MOST
    verdict = machine.crash(replace(crash.SMALL, crashkernel=RESERVED))
    assert verdict.captured and verdict.result == "complete", f"{verdict.reason} ({verdict.console_line})"
    assert (verdict.release, verdict.system_release) == (kernel.release, packages.release("6.12"))
    assert verdict.makedumpfile_readable and verdict.panic_line
    assert verdict.reserved_bytes == 48 << 20


def test_the_stock_kernel_takes_over_where_it_must_not(machine: Machine) -> None:
    """One that nobody has tried, and one that has no driver for these disks."""
    stock = packages.release("6.12")
    machine.arm(CONFIG, fstab=FSTAB)
    assert captures(machine) != stock
    machine.arm(CONFIG, fstab=FSTAB, files={TRUSTED: TRUST.replace("yes", "no")})
    assert captures(machine) == stock
    assert held(machine) == UNTRIED
    assert machine.cost().modules > 0
    machine.bus = "NVMe"
    machine.arm(CONFIG, fstab=FSTAB, files={TRUSTED: TRUST})
    assert captures(machine) == stock
    assert held(machine) == "it has no nvme"


def held(machine: Machine) -> str | None:
    """Why the variant doesn't."""
    return next(kernel.held for kernel in machine.facts(machine.config()).kernels if kernel.variant)
