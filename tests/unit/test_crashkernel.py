"""What the kernel makes of crashkernel= (kernel/crash_reserve.c, parse_crashkernel)."""

from __future__ import annotations

import pytest

from kdump_pkg import crashkernel
from kdump_pkg.crashkernel import DEFAULT_LOW, Request
from kdump_pkg.errors import KdumpError

M, G = 1 << 20, 1 << 30
LADDER = "1G-4G:192M,4G-64G:256M,64G-:512M"


@pytest.mark.parametrize(
    ("values", "memory", "request_"),
    [
        ((), 8 * G, Request()),
        (("256M",), 8 * G, Request(256 * M)),
        (("256m",), 8 * G, Request(256 * M)),
        (("262144K",), 8 * G, Request(256 * M)),
        (("1G",), 8 * G, Request(G)),
        (("0x10000000",), 8 * G, Request(256 * M)),
        (("0X10M",), 8 * G, Request(16 * M)),
        (("010M",), 8 * G, Request(8 * M)),
        (("268435456",), 8 * G, Request(256 * M)),
        (("256M@16M",), 8 * G, Request(256 * M, offset=16 * M)),
        (("256M@0",), 8 * G, Request(256 * M)),
        (("0M",), 8 * G, Request()),
        ((LADDER,), 512 * M, Request()),
        ((LADDER,), 1 * G, Request(192 * M)),
        ((LADDER,), 2 * G, Request(192 * M)),
        ((LADDER,), 4 * G, Request(256 * M)),
        ((LADDER,), 64 * G, Request(512 * M)),
        ((LADDER + "@1G",), 8 * G, Request(256 * M, offset=G)),
        ((LADDER,), 1 * G - 60 * M, Request(192 * M)),  # rounded up to 128 MiB
        (("128M", "256M"), 8 * G, Request(256 * M)),
        (("512M,high",), 16 * G, Request(512 * M, high=True, low=DEFAULT_LOW)),
        (("512M,high", "72M,low"), 16 * G, Request(512 * M, high=True, low=72 * M)),
        (("72M,low", "512M,high"), 16 * G, Request(512 * M, high=True, low=72 * M)),
        (("512M,high", "0,low"), 16 * G, Request(512 * M, high=True)),
        (("512M,high", "128M"), 16 * G, Request(128 * M)),
        (("512M,high", LADDER), 512 * M, Request()),  # a plain one that gives nothing is no reason to look further
        (("72M,low",), 16 * G, Request()),
        (("96M", "512M,cma"), 8 * G, Request(96 * M, cma=512 * M)),
        (("256M,high", "512M,cma"), 8 * G, Request(256 * M, high=True, low=DEFAULT_LOW, cma=512 * M)),
        (("512M,cma",), 8 * G, Request()),
        ((LADDER, "512M,cma"), 512 * M, Request()),
        (("100M", "64M,cma", "512M,cma"), 8 * G, Request(100 * M, cma=512 * M)),
    ],
)
def test_parse(values: tuple[str, ...], memory: int, request_: Request) -> None:
    assert crashkernel.parse(values, memory) == request_


@pytest.mark.parametrize(
    "value",
    [
        "", "auto", "M", "256MB", "256 M", "256M,", "256M,middle", "256M@", "256M@x", "1G-:", "1G:256M", "1G-2G",
        ":256M", "1G-2G:256M,", "2G-1G:64M", "256M,high,low", "-5M", "1G-2G:64M@", "²M",
    ],
)  # fmt: skip
def test_what_the_kernel_refuses(value: str) -> None:
    with pytest.raises(KdumpError, match="crashkernel=") as raised:
        crashkernel.parse((value,), 8 * G)
    assert raised.value.hint


def test_cost_is_what_the_system_goes_without() -> None:
    assert crashkernel.parse(("96M", "512M,cma"), 8 * G).cost == 96 * M
    assert crashkernel.parse(("512M,high",), 8 * G).cost == 768 * M


@pytest.mark.parametrize(
    ("cmdline", "values"),
    [
        ("", ()),
        ("root=/dev/vda2 quiet", ()),
        ("crashkernel=256M", ("256M",)),
        ("quiet crashkernel=256M,high crashkernel=72M,low rw", ("256M,high", "72M,low")),
        ("quiet\tcrashkernel=1G-:64M@0x100\n", ("1G-:64M@0x100",)),
        ('"crashkernel=64M"', ("64M",)),
        ("rd.crashkernel=64M nocrashkernel=1", ()),
        ("crashkernel=", ("",)),
    ],
)
def test_values(cmdline: str, values: tuple[str, ...]) -> None:
    assert crashkernel.values(cmdline) == values


def test_text_and_values_are_each_others_opposite() -> None:
    assert crashkernel.text(("96M", "512M,cma")) == "crashkernel=96M crashkernel=512M,cma"
    assert crashkernel.values(crashkernel.text(("96M", "512M,cma"))) == ("96M", "512M,cma")


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        (("88M", "128M,cma"), ("128M,cma", "88M")),
        (("128M,cma", "88M"), ("128M,cma", "88M")),
        (("1G,high", "128M,low"), ("1G,high", "128M,low")),
        (("2G-4G:128M,4G-:192M", "64M,cma"), ("64M,cma", "2G-4G:128M,4G-:192M")),
    ],
)
def test_the_plain_one_comes_last(given: tuple[str, ...], ordered: tuple[str, ...]) -> None:
    """Tried: 6.12 reserves nothing for `crashkernel=76M crashkernel=64M,cma`, and 76 MiB the other way round."""
    assert crashkernel.ordered(given) == ordered
