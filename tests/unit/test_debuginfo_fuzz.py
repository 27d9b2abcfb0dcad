"""The fuzzer's own inputs and what it found: each is read and written, or refused in one line."""

from __future__ import annotations

import pytest

from tests.fuzz.btf import one, seeds

SEEDS = seeds()
FOUND = {
    "markers without an end": b"\3"
    + b"\0" * 64
    + b"".join(b"%c\0" % n if n else b"x\0" for n in range(256))
    + b"\0" * 600,
    "a module with nothing in it": b"\2\xae\xae\xe7",
    "nothing": b"",
}


@pytest.mark.parametrize("name", SEEDS)
def test_seeds(name: str) -> None:
    one(SEEDS[name])


@pytest.mark.parametrize("name", FOUND)
def test_found(name: str) -> None:
    one(FOUND[name])
