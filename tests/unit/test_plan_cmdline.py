"""The capture kernel's command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.model import Config, Flavour
from kdump_pkg.plan.cmdline import ADDED, ADDED_FOR, REMOVED, capture_cmdline
from tests.fakes import DEFAULTS


def kept(system: str | None, flavour: Flavour = "direct", config: Config = DEFAULTS) -> str:
    """What is left of the system's own, without what every capture gets."""
    line = capture_cmdline(system, flavour, config)
    ours = " ".join([*ADDED, *ADDED_FOR[flavour]])
    assert line == ours or line.endswith(f" {ours}")
    return line.removesuffix(ours).strip()


@pytest.mark.parametrize(
    ("system", "left"),
    [
        (None, ""),
        ("", ""),
        ("console=ttyS0 root=UUID=1 rw quiet", "console=ttyS0"),
        ("BOOT_IMAGE=/v initrd=/i.img crashkernel=256M@16M console=tty0 console=ttyS0", "console=tty0 console=ttyS0"),
        ("amd_iommu=on iommu=pt", "amd_iommu=on iommu=pt"),
        ("rd.luks.name=1=root rd.luks.options=discard", "rd.luks.name=1=root rd.luks.options=discard"),
        ("plymouth.enable=0 plymouth.x", ""),
        ("zswap.enabled=1 zswapx", "zswapx"),
        ("kasan.fault=panic kasan", ""),
        ("ro root=/dev/sda init=/bin/sh systemd.unit=rescue.target single", ""),
        ("rootwait rootx=1", "rootwait rootx=1"),
        ("nr_cpus=4 maxcpus=2 panic=0 irqpoll", ""),
        ("nr-cpus=4 crash-kexec-post-notifiers", ""),
        ("mem=4G memmap=1G$2G memtest=1", "memtest=1"),
        ('dyndbg="file a.c +p" x', 'dyndbg="file a.c +p" x'),
        ('a="b crashkernel=1 c" y', 'a="b crashkernel=1 c" y'),
        ('"crash kernel" y', '"crash kernel" y'),
        ('open="never closed', 'open="never closed'),
        ("keep -- single user", "keep"),
        ("  many   blanks\tand\ttabs ", "many blanks and tabs"),
        ("cma=64M hugetlb_cma=1G mce=2", ""),
        ("numa=fake=4 transparent_hugepage=always", ""),
    ],
)  # fmt: skip
def test_kept(system: str | None, left: str) -> None:
    assert kept(system) == left


def test_flavours_add_their_own() -> None:
    assert "rd.systemd.gpt_auto=no" in capture_cmdline("", "systemd", Config())
    assert "rd.systemd.gpt_auto" not in capture_cmdline("", "udev", Config())
    assert "udev.children-max=2" in capture_cmdline("", "udev", Config())
    assert "udev." not in capture_cmdline("", "direct", Config())
    assert kept("udev.children_max=8 x", "udev") == "x"


@pytest.mark.parametrize(
    ("add", "remove", "there", "absent"),
    [
        (("earlycon",), (), ["earlycon"], []),
        (("panic=3",), (), ["panic=3"], []),
        ((), ("irqpoll",), [], ["irqpoll"]),
        ((), ("console",), [], ["console=tty0", "console=ttyS0"]),
        ((), ("console=tty0",), ["console=ttyS0"], ["console=tty0"]),
        ((), ("acpi-no-memhotplug",), [], ["acpi_no_memhotplug"]),
        (("crashkernel=1M",), (), ["crashkernel=1M"], []),
        (("console=ttyS1",), (), ["console=ttyS1"], ["console=tty0"]),
    ],
)
def test_edited_by_the_user(add: tuple[str, ...], remove: tuple[str, ...], there: list[str], absent: list[str]) -> None:
    config = Config(cmdline_add=add, cmdline_remove=remove)
    words = capture_cmdline("console=tty0 console=ttyS0 crashkernel=512M", "direct", config).split()
    assert set(there) <= set(words)
    assert not set(absent) & set(words)


def test_what_the_user_adds_counts_more_than_ours() -> None:
    """The kernel takes the last of several."""
    words = capture_cmdline("", "direct", Config(cmdline_add=("panic=3",))).split()
    assert [w for w in words if w.startswith("panic=")][-1] == "panic=3"


def test_every_parameter_has_its_reason() -> None:
    for table in (REMOVED, ADDED, *ADDED_FOR.values()):
        for name, reason in table.items():
            assert len(reason) > 10, name
            assert " " not in name


WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"'), min_size=1, max_size=12)


@given(st.lists(WORD, max_size=8))
def test_property_idempotent_and_nothing_of_the_table_left(words: list[str]) -> None:
    once = capture_cmdline(" ".join(words), "direct", Config())
    assert capture_cmdline(once, "direct", Config()) == once
    names = {w.split("=")[0].replace("-", "_") for w in once.split()}
    assert not names & {n for n in REMOVED if not n.endswith((".", "*"))} - {a.split("=")[0] for a in ADDED}


def test_the_whole_system_keeps_its_root_and_gets_its_unit() -> None:
    system = "BOOT_IMAGE=/vmlinuz root=UUID=abc rw rootflags=subvol=@ quiet crashkernel=256M systemd.unit=x.target"
    words = capture_cmdline(system, "systemd", Config(capture="system")).split()
    assert {"root=UUID=abc", "rw", "rootflags=subvol=@", "systemd.unit=kdump-save.service"} <= set(words)
    assert not {"quiet", "crashkernel=256M", "systemd.unit=x.target", "rd.systemd.gpt_auto=no"} & set(words)
