"""A real pacman in a private root for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import packages
from tests.lab.base import layer
from tests.lab.common import digest, once, run
from tests.lab.fixtures import WITHOUT_MKINITCPIO, arch_root, lab
from tests.lab.root import ArchRoot, Generator, default_generator, open_root

__all__ = ["arch_root", "armed", "lab", "package", "with_mkinitcpio"]

REPO = Path(__file__).resolve().parents[2]
CONFIG = "drivers = virtio_pci, virtio_blk\n"


@pytest.fixture(scope="session")
def package(lab: None) -> Path:
    return packages.kdump_pkg(REPO)


@pytest.fixture(params=[default_generator()])
def armed(request: pytest.FixtureRequest, package: Path) -> Iterator[ArchRoot]:
    """A root in which the older kernel and kdump-pkg were installed in one transaction."""
    generator: Generator = request.param
    with open_root(generator=generator, above=[armed_layer(generator, package)]) as root:
        yield root


@pytest.fixture
def with_mkinitcpio(armed: ArchRoot) -> ArchRoot:
    if armed.generator != "mkinitcpio":
        pytest.skip(WITHOUT_MKINITCPIO)
    return armed


def armed_layer(generator: Generator, package: Path) -> Path:
    """What that transaction wrote, kept for as long as neither the lab nor our package changes."""
    kernel = packages.kernel("6.12")

    def make(dest: Path) -> None:
        with open_root(generator=generator) as root:
            (root.path / "etc/kdump-pkg.conf").write_text(CONFIG)
            done = root.pacman("-U", kernel, package)
            output = done.stdout + done.stderr
            assert "command failed to execute correctly" not in output, output
            run(["cp", "-a", root.detach(), dest])

    return once(f"armed/{generator}-{digest(layer(generator).name, kernel.parent.name, package.parent.name)}", make)
