"""The dump level that a test on real kernels showed to be safe (vm-facts.md)."""

from __future__ import annotations

import pytest

from kdump_pkg.plan.level import choose


@pytest.mark.parametrize(
    ("wanted", "kernels", "makedumpfile", "value", "reason"),
    [
        ("auto", ("6.12.1-arch1-1",), "1.7.9-1", 31, None),
        ("auto", ("7.0.10-arch1-1",), "1.7.9-1", 31, None),
        ("auto", ("7.1.0-arch1-1",), "1.7.9-1", 23, "makedumpfile 1.7.9 damages"),
        ("auto", ("7.1-rc1",), "1.7.9-1", 23, "damages"),
        ("auto", ("7.2.13-cloud-amd64",), "1.7.8-1", 23, "makedumpfile 1.7.8 damages"),
        ("auto", ("7.2.13",), "1:1.7.9-3", 23, "makedumpfile 1.7.9 damages"),
        ("auto", ("10.0.1",), "1.7.9-1", 23, "damages"),
        ("auto", ("7.2.13",), "1.7.10-1", 31, None),
        ("auto", ("7.2.13",), "1.8.0-1", 31, None),
        ("auto", ("7.2.13",), "1.7.9.r3-1", 23, "damages"),
        ("auto", ("6.12.1", "7.2.13"), "1.7.9-1", 23, "damages"),
        ("auto", ("7.2.13",), None, 31, None),
        ("auto", (), "1.7.9-1", 31, None),
        ("auto", ("custom",), "1.7.9-1", 31, None),
        ("31", ("6.12.1",), "1.7.9-1", 31, None),
        ("23", ("7.2.13",), "1.7.9-1", 23, "dump_level = 23 in the configuration"),
        ("17", ("6.12.1",), "1.7.9-1", 17, "dump_level = 17 in the configuration"),
        ("31", ("7.2.13",), "1.7.9-1", 31, "dump_level = 31 although makedumpfile 1.7.9 damages"),
        ("1", ("7.2.13",), "1.7.9-1", 1, "dump_level = 1 in the configuration"),
        ("0", ("7.2.13",), "1.7.9-1", 0, "dump_level = 0 in the configuration"),
    ],
)
def test_level(wanted: str, kernels: tuple[str, ...], makedumpfile: str | None, value: int, reason: str | None) -> None:
    level = choose(wanted, kernels, makedumpfile)
    assert level.value == value
    if reason is None:
        assert level.reason is None
    else:
        assert reason in (level.reason or "")
