"""A machine with dumps, and the servers that it sends them to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.fixtures import lab
from tests.lab.stores import Stores, stores

__all__ = ["lab", "servers"]


@pytest.fixture(scope="session")
def servers(lab: None) -> Iterator[Stores]:
    with stores() as one:
        yield one
