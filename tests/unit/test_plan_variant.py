"""linux-kdump, as every run has to see it: whether it captures, what it lacks, when another one is due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Boot,
    Config,
    CryptVolume,
    Facts,
    Kernel,
    Layer,
    Load,
    QueueVariant,
    Target,
    VariantWish,
    Wanted,
    Watchdog,
)
from kdump_pkg.model.variant import Built, Failure, Record, VariantState
from kdump_pkg.plan import variant
from kdump_pkg.plan.kernel import choose
from kdump_pkg.plan.rebuild import Scope, plan_rebuild
from tests.fakes import facts, kernel, live_boot, module_index, target

ID = "ab" * 20
OTHER_ID = "cd" * 20
STOCK = kernel("6.12.1-arch1-1", version="6.12.1.arch1-1")
NEWER = kernel("6.12.2-arch1-1", version="6.12.2.arch1-1")
SERIES = kernel("6.13.0-arch1-1", version="6.13.arch1-1")
LTS = kernel("6.6.30-1-lts", "linux-lts", version="6.6.30-1")
DWARF = kernel("6.12.1-arch1-1-dwarf", "linux-dwarf", version="6.12.1.arch1-1")
BUILTIN = frozenset({"virtio_pci", "virtio_blk", "ext4", "sd_mod", "i6300esb"})
VARIANT = kernel("6.12.1-kdump", None, build_id=ID, builtin=BUILTIN, package="linux-kdump", version="6.12.1-1")
OLDER = kernel("6.12.0-kdump", None, build_id=OTHER_ID, builtin=BUILTIN)
LEFTOVER = kernel("6.12.1-kdump", None, vmlinuz=None, build_id=None)
BROKEN = kernel("6.12.1-kdump", None, build_id=None, problem="/usr/lib/modules/6.12.1-kdump/vmlinuz: truncated")
TRUSTED = Record(trusted={ID: "rehearsal"})
DRIVERS = ("ext4", "virtio_blk", "virtio_pci")
ASKED = Wanted("linux", "6.12.1.arch1-1", "6.12.1-arch1-1", DRIVERS)
BUILT = Built(ASKED, VARIANT.release, ID, 1_795_000_000)
FOLLOWED = Record(followed=True, built=BUILT, trusted={ID: "rehearsal"})
AUTO = Config()


def have(*kernels: Kernel, record: Record = TRUSTED, running: bool = False, **changes: object) -> Facts:
    values: dict[str, object] = {"kernels": kernels, "targets": (target(fstype="ext4"),), "boot": live_boot()}
    return facts(**(values | changes), variant=VariantState(record, running))


def held(found: Facts, config: Config = AUTO) -> dict[str, str | None]:
    return {k.release: k.held for k in variant.hold(config, found).kernels if k.variant}


def chosen(found: Facts, config: Config = AUTO) -> str:
    return choose(config, variant.hold(config, found).kernels, found.boot.running).release


# --- whether it captures ------------------------------------------------------------------------------------------

LUKS = CryptVolume("1", 2, key="linked")
NVME = target(drivers=("vmd", "nvme"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({}, None, id="tried and good"),
        pytest.param({"record": Record()}, variant.UNTRIED, id="never tried"),
        pytest.param({"record": Record(trusted={OTHER_ID: "rehearsal"})}, variant.UNTRIED, id="another one was tried"),
        pytest.param({"targets": (NVME,)}, "it has no vmd and no nvme", id="disk moved to NVMe"),
        pytest.param({"targets": (target(fstype="xfs"),)}, "it has no xfs", id="another file system"),
        pytest.param(
            {"targets": (target(layers=(Layer("crypt", "x"),), crypt=(LUKS,)),), "programs": {"cryptsetup": "1"}},
            "it has no dm_mod and no dm_crypt",
            id="LUKS added",
        ),
        pytest.param(
            {"targets": (target(layers=(Layer("crypt", "x"),)),)}, None, id="a target that can't be used needs nothing"
        ),
        pytest.param({"targets": (target(problem="no disk"),)}, None, id="nor does one that isn't there"),
        pytest.param({"targets": (target(drivers=None),)}, None, id="hardware that isn't seen"),
        pytest.param({"targets": (target(drivers=("virtio-pci", "virtio_blk")),)}, None, id="a dash in a name"),
        pytest.param({"targets": (target(drivers=("nvme?",)),)}, "it has no nvme", id="built in elsewhere"),
        pytest.param({"targets": (target(drivers=("xhci_hcd?", "sd_mod")),)}, "it has no xhci_pci", id="a USB disk"),
        pytest.param({"targets": (target(drivers=("usb?", "odd?")),)}, None, id="driver of whatever module"),
        pytest.param(
            {"boot": live_boot(watchdog=Watchdog("/dev/watchdog0", "i6300esb"))}, None, id="a watchdog that it feeds"
        ),
        pytest.param(
            {"boot": live_boot(watchdog=Watchdog("/dev/watchdog0", "wdat_wdt"))},
            "it has no wdat_wdt",
            id="a watchdog that would end the saving",
        ),
        pytest.param(
            {"boot": live_boot(watchdog=Watchdog("/dev/watchdog0", ""))}, None, id="a watchdog of unknown driver"
        ),
    ],
)
def test_hold(change: dict[str, object], why: str | None) -> None:
    found = have(STOCK, VARIANT, **change)  # type: ignore[arg-type]
    assert held(found) == {VARIANT.release: why}
    assert chosen(found) == (STOCK.release if why else VARIANT.release)


def test_the_last_resort_counts_too() -> None:
    """The ESP takes the log where the only target may stay locked: `vfat` is needed then, or nothing is designed."""
    locked = target(layers=(Layer("crypt", "1"),), crypt=(CryptVolume("1", 2),))
    esp = target(name="esp", fstype="vfat")
    whole = kernel("6.12.1-kdump", None, build_id=ID, builtin=BUILTIN | {"dm_mod", "dm_crypt"})
    found = have(STOCK, whole, targets=(locked,), esp=esp, programs={"cryptsetup": "1"})
    assert held(found) == {whole.release: "it has no vfat"}
    assert "vfat" in variant.wanted(AUTO, found, STOCK).drivers
    assert held(replace(found, esp=None)) == {whole.release: None}
    open_ = replace(found, targets=(target(),))
    assert "vfat" not in variant.wanted(AUTO, open_, STOCK).drivers
    assert variant.build_targets(replace(found, targets=(locked, esp))) == (locked, esp), "each once"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (Config(variant=VariantWish(trust=True)), None),
        (Config(capture="system", variant=VariantWish(trust=True)), variant.TOO_SMALL),
        (Config(drivers=("nvme",), variant=VariantWish(trust=True)), "it has no nvme"),
        (Config(drivers=("common",), variant=VariantWish(trust=True)), None),
        (Config(modules=("bcache", "odd?"), variant=VariantWish(trust=True)), "it has no bcache"),
    ],
)
def test_configuration_decides_too(config: Config, why: str | None) -> None:
    assert held(have(STOCK, VARIANT, record=Record()), config) == {VARIANT.release: why}


@pytest.mark.parametrize(
    ("kernel_name", "kernels", "record", "captures"),
    [
        pytest.param("auto", (STOCK, VARIANT), TRUSTED, VARIANT, id="trusted"),
        pytest.param("auto", (STOCK, VARIANT), Record(), STOCK, id="untrusted"),
        pytest.param("auto", (VARIANT,), TRUSTED, VARIANT, id="nothing but the variant"),
        pytest.param("auto", (STOCK, OLDER, VARIANT), TRUSTED, VARIANT, id="newest of two"),
        pytest.param(
            "auto", (STOCK, OLDER, VARIANT), Record(trusted={OTHER_ID: "x"}), OLDER, id="newest of two that may"
        ),
        pytest.param("auto", (STOCK, OLDER, LEFTOVER), Record(trusted={OTHER_ID: "x"}), OLDER, id="empty directory"),
        pytest.param("auto", (STOCK, LEFTOVER), TRUSTED, STOCK, id="nothing but an empty directory"),
        pytest.param("auto", (STOCK, BROKEN), TRUSTED, STOCK, id="damaged"),
        pytest.param("linux-kdump", (STOCK, VARIANT), TRUSTED, VARIANT, id="by name"),
        pytest.param("linux-kdump", (STOCK, VARIANT), Record(), STOCK, id="by name, untrusted"),
        pytest.param("linux-kdump", (LTS, STOCK, BROKEN), TRUSTED, STOCK, id="by name, damaged"),
        pytest.param(
            "linux-kdump", (STOCK, OLDER, VARIANT), Record(trusted={OTHER_ID: "x"}), OLDER, id="by name, older"
        ),
        pytest.param("linux-lts", (LTS, STOCK, VARIANT), TRUSTED, LTS, id="another one by name"),
    ],
)
def test_choice(kernel_name: str, kernels: tuple[Kernel, ...], record: Record, captures: Kernel) -> None:
    assert chosen(have(*kernels, record=record), Config(kernel=kernel_name)) == captures.release


def test_nothing_left_that_may() -> None:
    found = variant.hold(AUTO, have(VARIANT, record=Record()))
    for name in ("auto", "linux-kdump"):
        with pytest.raises(KdumpError) as caught:
            choose(Config(kernel=name), found.kernels, None)
        assert f"6.12.1-kdump: {variant.UNTRIED}" in caught.value.message
    with pytest.raises(KdumpError) as caught:
        choose(Config(kernel="linux-kdump"), (STOCK, LEFTOVER), None)
    assert caught.value.hint == "kdump-pkg variant build"


def test_others_are_never_held() -> None:
    plain = have(STOCK, LTS, record=Record())
    assert variant.hold(AUTO, plain) is plain
    assert all(k.held is None for k in variant.hold(AUTO, have(STOCK, VARIANT, record=Record())).kernels if k.pkgbase)
    assert held(have(STOCK, BROKEN, record=Record())) == {BROKEN.release: None}, "that has a problem of another kind"
    assert held(have(STOCK, LEFTOVER, record=Record())) == {LEFTOVER.release: None}


def test_the_stock_kernel_is_armed_in_its_place() -> None:
    """Also where the user has asked for the variant by name: a warning says so."""
    found = variant.hold(AUTO, have(STOCK, VARIANT, record=Record(), modules=module_index()))
    for name in ("auto", "linux-kdump"):
        plan = plan_rebuild(Config(kernel=name), found)
        assert [a.release for a in plan.actions if isinstance(a, Load)] == [STOCK.release]
        warned = [w for w in plan.warnings if "instead of linux-kdump" in w]
        assert len(warned) == (name == "linux-kdump")
        assert all(variant.UNTRIED in w and "kdump-pkg variant build" in w for w in warned)
    assert not variant.warnings(AUTO, found, STOCK)


# --- whose source -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernels", "running", "base"),
    [
        pytest.param("auto", (STOCK,), STOCK.release, STOCK, id="the only one"),
        pytest.param("auto", (LTS, STOCK, VARIANT), LTS.release, LTS, id="the one that runs"),
        pytest.param("linux-kdump", (LTS, STOCK, VARIANT), LTS.release, LTS, id="with the variant by name"),
        pytest.param("linux", (LTS, STOCK, VARIANT), LTS.release, STOCK, id="by name"),
        pytest.param("auto", (VARIANT,), None, None, id="nothing but the variant"),
        pytest.param("linux-zen", (STOCK,), None, None, id="named and not there"),
        pytest.param("auto", (STOCK, DWARF), DWARF.release, STOCK, id="its twin with debug information runs"),
        pytest.param("auto", (LTS, STOCK, DWARF), DWARF.release, STOCK, id="so and another one"),
        pytest.param("auto", (LTS, DWARF), DWARF.release, LTS, id="the twin alone is left"),
        pytest.param("auto", (STOCK, DWARF), "5.0-gone", STOCK, id="the twin is never followed"),
        pytest.param("auto", (DWARF,), DWARF.release, None, id="even where it is the only one"),
    ],
)
def test_followed(name: str, kernels: tuple[Kernel, ...], running: str | None, base: Kernel | None) -> None:
    found = have(*kernels, boot=live_boot(running=running))
    assert variant.followed(Config(kernel=name), found) == base


def test_what_is_wanted() -> None:
    wanted = variant.wanted(AUTO, have(STOCK), STOCK, "so")
    assert wanted == Wanted("linux", "6.12.1.arch1-1", "6.12.1-arch1-1", ("crypto_crc32c", *DRIVERS), "so")
    unknown = kernel("6.12.1-custom", "linux", version=None)
    assert variant.wanted(AUTO, have(unknown), unknown).version == "6.12.1-custom"
    assert variant.wanted(Config(variant=VariantWish(drivers="all")), have(STOCK), STOCK).drivers == ("all",)
    assert replace(wanted, reason="other", release="other").key == wanted.key


# --- when ---------------------------------------------------------------------------------------------------------

RELEASE, BY_SERIES, NEVER = (Config(variant=VariantWish(follow=f)) for f in ("release", "series", "never"))
NOW = variant.wanted(AUTO, have(STOCK), STOCK)


@pytest.mark.parametrize(
    ("kernels", "record", "release", "by_series"),
    [
        pytest.param((STOCK, VARIANT), FOLLOWED, None, None, id="current"),
        pytest.param((NEWER, VARIANT), FOLLOWED, "linux is 6.12.2.arch1-1 now", None, id="point release"),
        pytest.param((SERIES, VARIANT), FOLLOWED, "linux is 6.13.arch1-1 now", "linux is 6.13.arch1-1", id="series"),
        pytest.param(
            (kernel("6.11.9-arch1-1", version="6.11.9.arch1-1"), VARIANT), FOLLOWED,
            "linux is 6.11.9.arch1-1 now, the variant is of linux 6.12.1.arch1-1", "6.11.9", id="downgrade",
        ),
        pytest.param((STOCK,), Record(followed=True), "not been built yet", "not been built yet", id="first"),
        pytest.param((STOCK,), Record(), None, None, id="nobody has asked"),
        pytest.param((NEWER, VARIANT), replace(FOLLOWED, followed=False), None, None, id="nobody wants it any more"),
        pytest.param((NEWER,), FOLLOWED, None, None, id="removed by hand with pacman -R"),
        pytest.param((NEWER, LEFTOVER), FOLLOWED, None, None, id="removed, with its directory left behind"),
        pytest.param((STOCK, BROKEN), FOLLOWED, "truncated", "truncated", id="damaged"),
        pytest.param((VARIANT,), FOLLOWED, None, None, id="no system kernel left"),
        pytest.param((LTS, STOCK, VARIANT), FOLLOWED, None, None, id="another one runs"),
        pytest.param((LTS, VARIANT), FOLLOWED, "linux-lts is 6.6.30-1 now", "linux-lts", id="its base was removed"),
        pytest.param((STOCK, DWARF, VARIANT), FOLLOWED, None, None, id="its twin runs"),
        pytest.param((STOCK, NEWER, VARIANT), FOLLOWED, "linux is 6.12.2", None, id="the old directory is still there"),
        pytest.param(
            (STOCK, replace(NEWER, version=None), VARIANT), FOLLOWED, None, None, id="downgraded, left behind"
        ),
        pytest.param(
            (STOCK, VARIANT), Record(followed=True), None, None, id="somebody else has built it, of this source"
        ),
        pytest.param(
            (NEWER, VARIANT), Record(followed=True), "the variant is of 6.12.1-kdump", None, id="somebody else, older"
        ),
        pytest.param(
            (kernel("6.13.0-arch1-1", version="6.13.arch1-1"), kernel("6.13.0-kdump", None, builtin=BUILTIN)),
            Record(followed=True), None, None, id="somebody else, the first of a series",
        ),
    ],
)  # fmt: skip
def test_out_of_date(kernels: tuple[Kernel, ...], record: Record, release: str | None, by_series: str | None) -> None:
    found = have(*kernels, record=record, boot=live_boot(running=kernels[-2].release if len(kernels) > 1 else None))
    for config, reason in ((RELEASE, release), (BY_SERIES, by_series), (NEVER, None)):
        want = variant.out_of_date(config, found)
        assert (want is None) == (reason is None), (config.variant.follow, want)
        assert reason is None or (want is not None and reason in want.reason)
        queued = variant.queue(config, found)
        assert queued == ([QueueVariant(want, want.reason)] if want else [])


def test_to_boot_another_kernel_is_no_upgrade() -> None:
    """What was built from the one that is still installed goes on following that one; only by hand another is built."""
    found = have(LTS, STOCK, VARIANT, record=FOLLOWED, boot=live_boot(running=LTS.release))
    assert variant.followed(AUTO, found) == LTS
    assert variant.out_of_date(AUTO, found) is None
    upgraded = variant.out_of_date(AUTO, replace(found, kernels=(LTS, NEWER, VARIANT)))
    assert upgraded is not None
    assert (upgraded.base, upgraded.version) == ("linux", "6.12.2.arch1-1")


@pytest.mark.parametrize("name", ["linux", "linux-lts"])
def test_a_kernel_by_name_needs_no_variant(name: str) -> None:
    found = have(LTS, NEWER, VARIANT, record=FOLLOWED)
    assert variant.out_of_date(Config(kernel=name), found) is None
    assert variant.out_of_date(Config(capture="system"), found) is None
    assert variant.out_of_date(Config(kernel="linux-kdump"), found) is not None


def test_a_driver_that_it_lacks_is_a_reason_but_not_twice() -> None:
    """What was built of the same source for the same drivers and lacks one all the same, will lack it again."""
    moved = have(STOCK, VARIANT, record=FOLLOWED, targets=(NVME,))
    want = variant.out_of_date(BY_SERIES, moved)
    assert want is not None
    assert want.reason == "6.12.1-kdump has no vmd and no nvme"
    assert "nvme" in want.drivers
    again = replace(moved, variant=VariantState(replace(FOLLOWED, built=replace(BUILT, wanted=want))))
    assert variant.out_of_date(BY_SERIES, again) is None
    other = replace(again, kernels=(STOCK, replace(VARIANT, build_id=OTHER_ID)))
    assert variant.out_of_date(BY_SERIES, other) == want, "this is not what was built"


def test_a_failure_is_not_tried_again_before_something_changes() -> None:
    def queued(found: Facts) -> list[str]:
        return [action.wanted.version for action in variant.queue(AUTO, found) if isinstance(action, QueueVariant)]

    upgraded = have(NEWER, VARIANT, record=FOLLOWED)
    want = variant.out_of_date(AUTO, upgraded)
    assert want is not None
    failed = replace(FOLLOWED, failure=Failure(replace(want, reason="old"), 1, "building", "no compiler"), wanted=want)
    assert queued(have(NEWER, VARIANT, record=failed)) == []
    assert queued(have(SERIES, VARIANT, record=failed)) == ["6.13.arch1-1"], "the next upgrade tries again"
    moved = have(NEWER, VARIANT, record=failed, targets=(NVME,))
    assert queued(moved) == ["6.12.2.arch1-1"], "so does another disk"


def test_two_upgrades_during_one_build() -> None:
    """The second is written down although a build runs, which sees it and begins anew; then there is no third."""
    first = variant.out_of_date(AUTO, have(NEWER, VARIANT, record=FOLLOWED))
    building = replace(FOLLOWED, wanted=first)
    assert variant.queue(AUTO, have(NEWER, VARIANT, record=building, running=True)) == []
    second = have(SERIES, VARIANT, record=building, running=True)
    (action,) = variant.queue(AUTO, second)
    assert isinstance(action, QueueVariant)
    assert action.wanted.version == "6.13.arch1-1"
    told = replace(building, wanted=action.wanted)
    assert variant.queue(AUTO, have(SERIES, VARIANT, record=told, running=True)) == []
    back = have(NEWER, VARIANT, record=told, running=True)
    assert [a.wanted.version for a in variant.queue(AUTO, back) if isinstance(a, QueueVariant)] == ["6.12.2.arch1-1"]


@pytest.mark.parametrize(
    ("confined", "running", "asked", "starts"),
    [
        pytest.param(None, False, False, True, id="nobody has asked yet"),
        pytest.param(None, True, False, True, id="another build runs"),
        pytest.param(None, True, True, False, id="it is being built"),
        pytest.param(None, False, True, True, id="it was interrupted: the machine was switched off"),
        pytest.param("in a chroot", False, False, True, id="in a chroot it is written down"),
        pytest.param("in a chroot", False, True, False, id="and once is enough"),
    ],
)
def test_who_starts_it(confined: str | None, running: bool, asked: bool, starts: bool) -> None:
    boot = live_boot(confined=confined)
    want = variant.out_of_date(AUTO, have(NEWER, VARIANT, record=FOLLOWED, boot=boot))
    record = replace(FOLLOWED, wanted=want if asked else ASKED)
    assert bool(variant.queue(AUTO, have(NEWER, VARIANT, record=record, running=running, boot=boot))) is starts


def test_force_builds_the_image_anew_and_no_kernel() -> None:
    found = variant.hold(AUTO, have(STOCK, VARIANT, record=FOLLOWED))
    assert not any(isinstance(a, QueueVariant) for a in plan_rebuild(AUTO, found, Scope(force=True)).actions)
    assert not any(isinstance(a, QueueVariant) for a in plan_rebuild(AUTO, found).actions)


def test_the_first_hook_writes_texts_only() -> None:
    found = variant.hold(AUTO, have(NEWER, VARIANT, record=FOLLOWED))
    assert any(isinstance(a, QueueVariant) for a in plan_rebuild(AUTO, found).actions)
    assert not any(isinstance(a, QueueVariant) for a in plan_rebuild(AUTO, found, Scope(images=False)).actions)


@pytest.mark.parametrize(
    ("version", "series", "numbers"),
    [
        ("6.12.1.arch1-1", "6.12", "6.12.1"), ("6.13.arch1-1", "6.13", "6.13"), ("6.6.30-1", "6.6", "6.6.30"),
        ("1:6.12.1-2", "6.12", "6.12.1"), ("6.13.0-arch1-1", "6.13", "6.13"), ("6.12.1-kdump", "6.12", "6.12.1"),
        ("6.13rc1-1", "6.13", "6.13"), ("nonsense", "nonsense", "nonsense"), ("", "", ""), ("6.10.0-1", "6.10", "6.10"),
    ],
)  # fmt: skip
def test_series(version: str, series: str, numbers: str) -> None:
    assert (variant.series(version), variant.numbers(version)) == (series, numbers)


KERNELS = st.lists(
    st.sampled_from([STOCK, NEWER, SERIES, LTS, DWARF, VARIANT, OLDER, LEFTOVER, BROKEN]), unique_by=lambda k: k.release
)
RECORDS = st.builds(
    Record,
    followed=st.booleans(),
    wanted=st.sampled_from([None, ASKED, NOW]),
    built=st.sampled_from([None, BUILT]),
    failure=st.sampled_from([None, Failure(NOW, 1, "building", "x")]),
    trusted=st.sampled_from([{}, {ID: "rehearsal"}, {ID: "x", OTHER_ID: "y"}]),
)
CONFIGS = st.builds(
    Config,
    kernel=st.sampled_from(["auto", "linux-kdump", "linux", "linux-lts"]),
    capture=st.sampled_from(["image", "system"]),
    drivers=st.sampled_from([("auto",), ("common",), ("nvme",)]),
    variant=st.builds(
        VariantWish,
        follow=st.sampled_from(["release", "series", "never"]),
        drivers=st.sampled_from(["auto", "all"]),
        trust=st.booleans(),
    ),
)
TARGETS: st.SearchStrategy[tuple[Target, ...]] = st.sampled_from([(), (target(),), (NVME,), (target(drivers=None),)])


@given(kernels=KERNELS, record=RECORDS, config=CONFIGS, targets=TARGETS, running=st.booleans(), confined=st.booleans())
def test_property_it_settles_and_leaves_something_armed(
    kernels: list[Kernel], record: Record, config: Config, targets: tuple[Target, ...], running: bool, confined: bool
) -> None:
    """Asked for once and being built, it isn't asked for again; a stock kernel stands in for each that is held."""
    boot: Boot = live_boot(confined="in a chroot" if confined else None)
    found = variant.hold(config, have(*kernels, record=record, running=running, targets=targets, boot=boot))
    actions = variant.queue(config, found)
    for action in actions:
        assert isinstance(action, QueueVariant)
        assert record.followed and config.variant.follow != "never" and config.capture != "system"
        assert action.reason
        asked = VariantState(replace(record, wanted=action.wanted), running=True)
        assert variant.queue(config, replace(found, variant=asked)) == []
        failed = replace(record, wanted=action.wanted, failure=Failure(action.wanted, 2, "building", "x"))
        assert variant.queue(config, replace(found, variant=VariantState(failed))) == []
    stock = [k for k in found.kernels if k.pkgbase]
    if stock and config.kernel in ("auto", "linux-kdump") and any(k.variant and k.vmlinuz for k in found.kernels):
        captures = choose(config, found.kernels, boot.running)
        assert not captures.held and captures.usable
