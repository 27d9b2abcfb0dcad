"""The sum: against what real captures needed, part by part, and what is said where something isn't known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Capture, Config, CryptVolume, Facts, Flavour, ImageState, Layer
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.model.health import Rehearsed
from kdump_pkg.plan import search
from kdump_pkg.plan.capture import design_capture
from kdump_pkg.plan.estimate import estimate, measured_margin
from tests import fakes

GIB = 1 << 30
IMAGE = "/boot/initramfs-linux-kdump.img"
LUKS = Layer("crypt", "44444444-5555-6666-7777-888888888888")
DEBIAN_6_12, DEBIAN_7_2, SLIM = 58_580_992, 63_156_224, 22_016_000
"""What the kernels of the laboratory ask for: Debian's for the cloud, and one of our own without modules."""

# `make least` on 25 November 2026: smallest reservation in MiB, kernel, flavour, bytes packed and unpacked, KiB that
# Argon2 takes (None: not encrypted).
MEASURED: tuple[tuple[str, int, int, Flavour, int, int, int | None], ...] = (
    ("ext4, 6.12, mkinitcpio, direct", 76, DEBIAN_6_12, "direct", 3_341_937, 7_290_880, None),
    ("ext4, 6.12, mkinitcpio, udev", 104, DEBIAN_6_12, "udev", 11_698_604, 29_204_480, None),
    ("ext4, 6.12, mkinitcpio, systemd", 112, DEBIAN_6_12, "systemd", 13_842_659, 35_174_400, None),
    ("ext4, 7.2, mkinitcpio, direct", 88, DEBIAN_7_2, "direct", 3_349_398, 7_331_840, None),
    ("ext4, 7.2, mkinitcpio, udev", 120, DEBIAN_7_2, "udev", 11_763_230, 29_429_760, None),
    ("ext4, 7.2, mkinitcpio, systemd", 128, DEBIAN_7_2, "systemd", 13_894_371, 35_348_480, None),
    ("LUKS, key, crypt, mkinitcpio, direct", 56, SLIM, "direct", 7_805_383, 18_421_760, 0),
    ("LUKS, key, crypt, mkinitcpio, udev", 72, SLIM, "udev", 11_804_020, 28_241_920, 0),
    ("LUKS, key, crypt, mkinitcpio, systemd", 80, SLIM, "systemd", 13_934_515, 34_160_640, 0),
    ("LUKS, passphrase, 6.12, mkinitcpio, direct", 152, DEBIAN_6_12, "direct", 8_144_818, 19_865_600, 64 << 10),
    ("LUKS, passphrase, 6.12, mkinitcpio, udev", 168, DEBIAN_6_12, "udev", 12_857_367, 32_593_920, 64 << 10),
    ("LUKS, passphrase, 6.12, mkinitcpio, systemd", 180, DEBIAN_6_12, "systemd", 15_005_834, 38_563_840, 64 << 10),
    ("LVM, xfs, 6.12, mkinitcpio, direct", 92, DEBIAN_6_12, "direct", 7_982_922, 21_821_440, None),
    ("btrfs, 6.12, mkinitcpio, direct", 84, DEBIAN_6_12, "direct", 4_584_566, 12_492_800, None),
    ("xfs, 6.12, mkinitcpio, direct", 84, DEBIAN_6_12, "direct", 4_474_413, 12_892_160, None),
    ("ext4, 6.12, dracut, direct", 76, DEBIAN_6_12, "direct", 3_485_773, 7_604_736, None),
    ("ext4, 6.12, dracut, udev", 100, DEBIAN_6_12, "udev", 11_567_817, 27_338_752, None),
    ("ext4, 6.12, dracut, systemd", 108, DEBIAN_6_12, "systemd", 13_451_842, 32_314_880, None),
    ("ext4, 7.2, dracut, direct", 92, DEBIAN_7_2, "direct", 3_498_635, 7_684_096, None),
    ("ext4, 7.2, dracut, udev", 120, DEBIAN_7_2, "udev", 11_580_404, 27_423_744, None),
    ("ext4, 7.2, dracut, systemd", 128, DEBIAN_7_2, "systemd", 13_478_854, 32_399_360, None),
)

# The same with linux-kdump, by what it has built in: bytes that it asks for, number of its drivers and file systems.
MEASURED_SLIM: tuple[tuple[str, int, int, int, int, int], ...] = (
    ("ext4, virtio, this machine's drivers", 32, 12_861_440, 92, 3_311_720, 7_178_240),
    ("ext4, virtio, all drivers", 44, 19_582_976, 218, 3_311_738, 7_179_292),
    ("md RAID 1, ext4, AHCI, all drivers", 52, 19_582_976, 218, 4_388_270, 9_288_732),
    ("LVM, xfs, AHCI, all drivers", 60, 19_582_976, 218, 6_693_643, 15_576_092),
)


def design(facts: Facts, config: Config = Config()) -> Capture:  # noqa: B008 - frozen
    return design_capture(config, facts)


def machine(
    *, init_size: int | None = DEBIAN_7_2, flavour: Flavour = "direct", argon2: int | None = None, **boot: Any
) -> tuple[Facts, Capture]:
    """A machine whose image is current, and its capture."""
    crypt = () if argon2 is None else (CryptVolume(LUKS.name, 2, argon2),)
    target = fakes.target(crypt=crypt, layers=(LUKS,) if crypt else ())
    facts = fakes.facts(
        kernels=(fakes.kernel(init_size=init_size),),
        targets=(target,),
        programs={"cryptsetup": "1"},
        boot=fakes.live_boot(**boot),
        modules=replace(fakes.module_index(), builtin=frozenset({"sd_mod", "dm_mod", "dm_crypt"})),
    )
    capture = design(facts, Config(flavour=flavour))
    image = ImageState(IMAGE, True, capture.fingerprint, 3_349_398, unpacked=7_331_840)
    return replace(facts, image=image), capture


def part(found: Estimate, name: str) -> float:
    return sum(p.mib for p in found.parts if p.name == name)


# --- against real captures ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least", "init_size", "flavour", "packed", "unpacked", "argon2"), MEASURED, ids=[m[0] for m in MEASURED]
)
def test_never_too_little_and_never_a_quarter_too_much(
    name: str, least: int, init_size: int, flavour: Flavour, packed: int, unpacked: int, argon2: int | None
) -> None:
    facts, capture = machine(init_size=init_size, flavour=flavour, argon2=argon2)
    image = replace(facts.image, size=packed, unpacked=unpacked)
    found = estimate(replace(facts, image=image), capture, None)
    assert found.certain
    assert least <= found.need_mib <= 1.25 * least, found
    assert found.need_mib >= least + 4, "never at the very edge either"


@pytest.mark.parametrize(
    ("name", "least", "init_size", "drivers", "packed", "unpacked"), MEASURED_SLIM, ids=[m[0] for m in MEASURED_SLIM]
)
def test_the_drivers_of_linux_kdump_count(
    name: str, least: int, init_size: int, drivers: int, packed: int, unpacked: int
) -> None:
    facts, capture = machine(init_size=init_size)
    kernel = replace(capture.kernel, builtin=frozenset(map(str, range(drivers))))
    image = replace(facts.image, size=packed, unpacked=unpacked)
    found = estimate(replace(facts, image=image), replace(capture, kernel=kernel), None)
    assert found.certain
    assert least + 4 <= found.need_mib <= 1.25 * least, found
    assert f"what its {drivers} drivers" in next(part.source for part in found.parts if part.name == "its tables")


@pytest.mark.parametrize(
    ("name", "least", "init_size", "flavour", "packed", "unpacked", "argon2"), MEASURED, ids=[m[0] for m in MEASURED]
)
def test_a_guess_is_never_too_little(
    name: str, least: int, init_size: int, flavour: Flavour, packed: int, unpacked: int, argon2: int | None
) -> None:
    """Before `estimate` has looked into an image that somebody else built, and before there is one."""
    facts, capture = machine(init_size=init_size, flavour=flavour, argon2=argon2)
    image = replace(facts.image, size=packed, unpacked=None)
    found = estimate(replace(facts, image=image), capture, None)
    assert not found.certain and least <= found.need_mib <= 1.35 * least
    none = estimate(replace(facts, image=ImageState(IMAGE, False)), capture, None)
    assert not none.certain and least <= none.need_mib


# --- its parts ----------------------------------------------------------------------------------------------------


@given(
    st.integers(10 << 20, 200 << 20),
    st.integers(1 << 20, 100 << 20),
    st.floats(1, 4),
    st.sampled_from(["direct", "udev", "systemd"]),
    st.one_of(st.none(), st.integers(0, 1 << 20)),
    st.integers(1 << 28, 1 << 42),
)
def test_property_the_parts_add_up(
    init_size: int, packed: int, ratio: float, flavour: Flavour, argon2: int | None, memory: int
) -> None:
    facts, capture = machine(init_size=init_size, flavour=flavour, argon2=argon2, memory_total=memory)
    image = replace(facts.image, size=packed, unpacked=int(packed * ratio))
    found = estimate(replace(facts, image=image), capture, None)
    total = sum(p.mib for p in found.parts)
    assert total - 0.01 <= found.need_mib < total + 4.01
    assert found.need_mib % 4 == 0
    assert found.values == (f"{found.need_mib}M",)
    assert all(p.mib >= 0 and p.source for p in found.parts)
    assert found.need_mib << 20 > init_size + packed + int(packed * ratio)


def test_memory_of_the_machine_is_in_the_bitmap() -> None:
    small = estimate(*machine(memory_total=GIB), None)
    huge = estimate(*machine(memory_total=1024 * GIB), None)
    assert part(small, "bitmap") == 0, "it fits where the packed image was"
    assert 60 < huge.need_mib - small.need_mib < 75, "64 KiB for each GiB"


def test_argon2_only_where_a_passphrase_is_typed() -> None:
    facts, capture = machine(argon2=256 << 10, crash_dm_crypt=False)
    assert 250 < part(estimate(facts, capture, None), "Argon2") <= 256
    volume = replace(capture.targets[0].crypt[0], key="linked")
    handed = replace(capture, targets=(replace(capture.targets[0], crypt=(volume,)),))
    known = replace(facts, boot=replace(facts.boot, crash_dm_crypt=True))
    assert part(estimate(known, handed, None), "Argon2") == 0


def test_the_room_of_the_packed_image_is_used_again() -> None:
    facts, capture = machine(flavour="systemd")
    large = replace(facts, image=replace(facts.image, size=60 << 20))
    assert part(estimate(large, capture, None), "user land") == 0
    assert part(estimate(facts, capture, None), "user land") > 0


def test_a_whole_system_is_a_guess() -> None:
    facts, capture = machine(flavour="systemd")
    found = estimate(facts, replace(capture, system=True), None)
    assert not found.certain
    assert part(found, "whole system") > 0
    assert found.text.startswith("about ")


@pytest.mark.parametrize(
    "change",
    [
        lambda f, c: (f, replace(c, kernel=replace(c.kernel, init_size=None))),
        lambda f, c: (replace(f, image=replace(f.image, unpacked=None)), c),
        lambda f, c: (replace(f, image=replace(f.image, fingerprint="x")), c),
        lambda f, c: (replace(f, image=replace(f.image, fingerprint=None)), c),
        lambda f, c: (replace(f, image=ImageState(IMAGE, True, readable=False)), c),
        lambda f, c: (replace(f, boot=replace(f.boot, memory_total=None)), c),
    ],
)
def test_what_is_guessed_is_said(change: Callable[[Facts, Capture], tuple[Facts, Capture]]) -> None:
    found = estimate(*change(*machine()), None)
    assert not found.certain
    assert found.text.startswith("about ")
    assert 80 <= found.need_mib <= 128


def test_without_a_capture() -> None:
    found = estimate(fakes.facts(), None, None)
    assert (found.parts, found.need_mib, found.values, found.certain) == ((), 256, ("256M",), False)


# --- compared -----------------------------------------------------------------------------------------------------


def rehearsed(capture: Capture, mib: int, **changes: Any) -> Rehearsed:
    values: dict[str, Any] = {
        "time": 1, "fingerprint": capture.fingerprint, "release": "", "crashkernel": f"{mib}M", "captured": True,
        "reserved": mib << 20, "least_kib": 10 << 10,
    }  # fmt: skip
    return Rehearsed(**(values | changes))


NEED = estimate(*machine(), None).need_mib


@pytest.mark.parametrize(
    ("size", "enough", "words"),
    [
        (256 << 20, True, "; 256 MiB are reserved: enough, {more} MiB more than that"),
        (NEED << 20, True, f"; {NEED} MiB are reserved: enough"),
        ((NEED - 4) << 20, False, f"; only {NEED - 4} MiB are reserved"),
        (0, False, ", nothing is reserved"),
        (None, None, ""),
    ],
)
def test_what_is_reserved_now(size: int | None, enough: bool | None, words: str) -> None:
    found = estimate(*machine(crash_size=size), None)
    assert found.enough is enough
    assert found.text == f"{NEED} MiB are needed{words.format(more=256 - NEED)}"
    assert found.reserved_mib == (None if size is None else size >> 20)


def test_elsewhere_nothing_is_compared() -> None:
    assert estimate(*machine(confined="in a chroot"), None).enough is None


@pytest.mark.parametrize(
    ("changes", "enough", "used"),
    [
        ({}, True, 78.0),
        ({"reserved": 89 << 20}, False, 79.0),
        ({"captured": False}, False, None),
        ({"fingerprint": "x"}, False, None),
        ({"least_kib": None}, True, None),
        ({"reserved": 0}, False, None),
        ({"crashkernel": "88M 64M,cma"}, False, None),
    ],
)
def test_a_rehearsal_with_less_proves_it(changes: dict[str, Any], enough: bool, used: float | None) -> None:
    facts, capture = machine(crash_size=88 << 20)
    found = estimate(facts, capture, rehearsed(capture, 88, **changes))
    assert found.enough is enough
    assert found.used_mib == used
    assert ("a rehearsal captured with it" in found.text) is enough
    assert found.need_mib == NEED, "what is proposed has its margin all the same"


def test_what_was_measured_counts() -> None:
    facts, capture = machine()
    found = estimate(replace(facts, image=replace(facts.image, least_mib=100)), capture, None)
    assert (found.need_mib, found.certain, found.measured) == (112, True, True)
    assert [p.name for p in found.parts] == ["measured", "margin"]
    other = replace(facts.image, least_mib=100, fingerprint="x")
    assert not estimate(replace(facts, image=other), capture, None).measured


def test_what_was_measured_in_a_small_machine_misses_the_bitmap_of_a_large_one() -> None:
    facts, capture = machine(memory_total=512 * GIB)
    found = estimate(replace(facts, image=replace(facts.image, least_mib=80)), capture, None)
    assert found.need_mib == 120


@pytest.mark.parametrize(("least", "margin"), [(40, 8), (80, 8), (100, 10), (300, 30)])
def test_the_margin_on_what_was_measured(least: int, margin: int) -> None:
    assert measured_margin(least) == margin


# --- the search ---------------------------------------------------------------------------------------------------


@given(st.integers(1, 600), st.integers(1, 100), st.sampled_from([4, 8]), st.integers(4, 128), st.integers(256, 1024))
def test_property_the_smallest_is_found(least: int, start: int, by: int, floor: int, ceiling: int) -> None:
    tried: list[int] = []

    def captures(mib: int) -> bool:
        tried.append(mib)
        return mib >= least

    found = search.smallest(captures, start * 4, by=by, floor=floor, ceiling=ceiling)
    assert len(tried) == len(set(tried)) <= 40
    assert all(floor <= mib <= ceiling for mib in tried)
    if found is None:
        assert least > ceiling
    else:
        assert found >= least and found in tried
        assert found == floor or found - by < least


def test_it_begins_with_the_estimate_and_does_not_take_long() -> None:
    tried: list[int] = []
    search.smallest(lambda mib: tried.append(mib) or mib >= 84, 96, by=4, floor=64, ceiling=512)  # type: ignore[func-returns-value]
    assert tried[0] == 96
    assert len(tried) <= 5


@pytest.mark.parametrize(
    ("reason", "seen", "fine"),
    [
        ("the capture ran out of memory; reserve more", False, True),
        ("crashkernel=64M has no place for the capture kernel; reserve more", False, True),
        ("there is no dump on the disk", False, False),
        ("there is no dump on the disk", True, True),
        (None, False, False),
    ],
)
def test_which_failures_end_it(reason: str | None, seen: bool, fine: bool) -> None:
    if fine:
        search.check(reason, seen=seen)
    else:
        with pytest.raises(KdumpError, match="another reason"):
            search.check(reason, seen=seen)


def test_what_loading_alone_takes() -> None:
    """60.2 and 3.2 MiB: 64 MiB had no place for them, 72 had."""
    facts, capture = machine()
    assert search.loadable(facts, capture) == 68
    assert search.loadable(replace(facts, image=ImageState(IMAGE, False)), capture) is None


def test_the_machine_to_look_in() -> None:
    assert search.memory_mib(*machine(), 96) == 1024
    assert search.memory_mib(*machine(), 300) == 1200
    assert search.memory_mib(*machine(argon2=1 << 20), 300) == 4096
