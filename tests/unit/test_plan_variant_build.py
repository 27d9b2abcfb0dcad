"""What a build of linux-kdump is made from, and when it may begin."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import KdumpError
from kdump_pkg.facts.building import read_recipe
from kdump_pkg.model import Config, CryptVolume, Facts, Layer, Target, VariantWish, Watchdog
from kdump_pkg.model.building import Local, Power
from kdump_pkg.plan import variant, variant_build
from kdump_pkg.plan.variant_build import (
    KROAH_HARTMAN,
    LEVIN,
    POLYAK,
    STEFFENS,
    TORVALDS,
    Parts,
    Source,
    jobs,
    obstacle,
    parts,
    progress,
    resolve,
    settings,
)
from tests.fakes import facts, live_boot, make_tree, target

REPO = Path(__file__).resolve().parents[2]
ORG = "https://cdn.kernel.org/pub/linux/kernel/v6.x"
GITHUB = "https://github.com"
AUTO = VariantWish()
RELEASERS = (TORVALDS, KROAH_HARTMAN, LEVIN)

# --- the source ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "version", "release", "archive", "patch", "key"),
    [
        ("linux", "6.12.1.arch1-1", "6.12.1-arch1-1", "6.12.1",
         "/archlinux/linux/releases/download/v6.12.1-arch1/linux-v6.12.1-arch1.patch.zst", STEFFENS),
        ("linux", "6.13.arch1-1", "6.13.0-arch1-1", "6.13",
         "/archlinux/linux/releases/download/v6.13-arch1/linux-v6.13-arch1.patch.zst", STEFFENS),
        ("linux", "6.12.1.arch2-3", "6.12.1-arch2-3", "6.12.1",
         "/archlinux/linux/releases/download/v6.12.1-arch2/linux-v6.12.1-arch2.patch.zst", STEFFENS),
        ("linux", "1:6.12.1.arch1-1", "6.12.1-arch1-1", "6.12.1",
         "/archlinux/linux/releases/download/v6.12.1-arch1/linux-v6.12.1-arch1.patch.zst", STEFFENS),
        ("linux", "6.12.1-arch1-1", "6.12.1-arch1-1", "6.12.1",  # where no package says its version
         "/archlinux/linux/releases/download/v6.12.1-arch1/linux-v6.12.1-arch1.patch.zst", STEFFENS),
        ("linux-zen", "6.12.1.zen1-1", "6.12.1-zen1-1-zen", "6.12.1",
         "/zen-kernel/zen-kernel/releases/download/v6.12.1-zen1/linux-v6.12.1-zen1.patch.zst", STEFFENS),
        ("linux-hardened", "6.12.9.hardened1-1", "6.12.9-hardened1-1-hardened", "6.12.9",
         "/anthraxx/linux-hardened/releases/download/v6.12.9-hardened1/linux-hardened-v6.12.9-hardened1.patch", POLYAK),
        ("linux-lts", "6.12.60-1", "6.12.60-1-lts", "6.12.60", None, None),
        ("linux-cachyos", "6.12.1-2", "6.12.1-2-cachyos", "6.12.1", None, None),
        ("linux-cachyos", "6.13.0-1", "6.13.0-1-cachyos", "6.13", None, None),
        ("linux-rt", "6.11.rt7.arch1-1", "6.11.0-rt7-arch1-1-rt", "6.11", None, None),
        ("linux-xanmod", "6.12.1.xanmod1-1", "6.12.1-xanmod1-1", "6.12.1", None, None),
        ("linux", "6.12.1-1", "6.12.1", "6.12.1", None, None),
        ("linux", "6.12.1.arch1.mine-1", "6.12.1-arch1-mine", "6.12.1", None, None),
        ("linux", "6.12.1.arch1x-1", "6.12.1-arch1x", "6.12.1", None, None),
        ("linux", "6.12.10.arch1-1", "6.12.10-arch1-1", "6.12.10",
         "/archlinux/linux/releases/download/v6.12.10-arch1/linux-v6.12.10-arch1.patch.zst", STEFFENS),
        ("linux-custom", "6.12.1.arch1-1", "6.12.1-arch1-1-custom", "6.12.1", None, None),
        ("linux-odd", "2024-1", "6.12.1-odd", "6.12.1", None, None),
        ("linux612", "6.12.4-1", "6.12.4-1-MANJARO", "6.12.4", None, None),
    ],
)  # fmt: skip
def test_fetched(base: str, version: str, release: str, archive: str, patch: str | None, key: str | None) -> None:
    """As in the packages' own PKGBUILDs; of others the release that theirs rests on."""
    found = resolve(AUTO, base, version, release)
    own = (f"{ORG}/linux-{archive}.tar.xz", f"{ORG}/linux-{archive}.tar.sign")
    more = (f"{GITHUB}{patch}", f"{GITHUB}{patch}.sig") if patch else ()
    assert found.entries == (*own, *more)
    assert found.patches == ((patch.rsplit("/", 1)[1],) if patch else ())
    assert found.keys == ((*RELEASERS, key) if key else RELEASERS)
    assert found.sums == ("SKIP",) * len(found.entries)
    assert (found.kind, found.version, found.archive) == ("fetched", archive, f"linux-{archive}.tar.xz")
    assert (found.tree, found.links) == ("", ())


def test_where_other_series_lie() -> None:
    assert resolve(AUTO, "linux", "7.2.arch1-1", "").entries[0].endswith("/v7.x/linux-7.2.tar.xz")


def test_every_key_has_an_owner() -> None:
    assert (
        set(variant_build.KEY_OWNERS) == set(variant_build.SIGNERS) >= {p.key for p in variant_build.PATCHES.values()}
    )
    assert all(re.fullmatch("[0-9A-F]{40}", key) for key in variant_build.SIGNERS)


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("6.13rc1-1", "6.13.0-rc1-1-mainline"),
        ("6.13.rc1.arch1-1", "6.13.0-rc1-arch1-1"),
        ("6.13rc1.r45.gabcdef0-1", "6.13.0-rc1-00045-gabcdef0"),
        ("6.12.r123.g0123456789ab-1", ""),
        ("6.13.next20250101-1", ""),
        ("6.12.git-1", ""),
        ("nonsense", "nonsense"),
        ("", ""),
        ("6.12.1;rm -rf /", "x"),
        ("6.12.1\n", ""),
        ("\x1b[31m6.12.1", ""),
        ("../6.12.1", ""),
    ],
)
def test_what_was_never_released(version: str, release: str) -> None:
    with pytest.raises(KdumpError) as caught:
        resolve(AUTO, "linux-git", version, release)
    assert "can't be fetched" in caught.value.message
    assert caught.value.message.isprintable()
    assert "source =" in (caught.value.hint or "")


OWN_KEY = "F" * 40


@pytest.mark.parametrize(
    ("name", "local", "wish", "expected"),
    [
        pytest.param(
            "linux-source-6.12.tar.xz", Local("archive"), {},
            {"entries": ("linux-source-6.12.tar.xz",), "sums": ("SKIP",), "keys": ()}, id="nothing to check it by",
        ),
        pytest.param(
            "linux-6.12.tar.xz", Local("archive"), {"sha256": "ab" * 32},
            {"entries": ("linux-6.12.tar.xz",), "sums": ("ab" * 32,), "keys": ()}, id="its sum",
        ),
        pytest.param(
            "linux-6.12.tar.xz", Local("archive", "linux-6.12.tar.sign"), {},
            {"entries": ("linux-6.12.tar.xz", "linux-6.12.tar.sign"), "sums": ("SKIP", "SKIP"),
             "keys": (*RELEASERS, STEFFENS, POLYAK)}, id="a signature",
        ),
        pytest.param(
            "own.tar.gz", Local("archive", "own.tar.gz.asc", keys=(OWN_KEY,)),
            {"keys": "/etc/own.gpg", "sha256": "ab" * 32},
            {"entries": ("own.tar.gz", "own.tar.gz.asc"), "sums": ("ab" * 32, "SKIP"), "keys": (OWN_KEY,)},
            id="all of it",
        ),
    ],
)  # fmt: skip
def test_own_archive(name: str, local: Local, wish: dict[str, str], expected: dict[str, object]) -> None:
    found = resolve(VariantWish(source=f"/srv/{name}", **wish), "linux", "6.12.1.arch1-1", "", local)  # type: ignore[arg-type]
    assert {key: getattr(found, key) for key in expected} == expected
    assert (found.kind, found.archive, found.version, found.patches) == ("archive", name, "6.12.1", ())
    assert found.links == tuple((one, f"/srv/{one}") for one in found.entries)


def test_own_tree() -> None:
    found = resolve(VariantWish(source="/usr/src/linux"), "linux-git", "6.13rc1-1", "", Local("tree", version="6.13"))
    assert found == Source("tree", "6.13", tree="/usr/src/linux")
    unknown = resolve(VariantWish(source="/usr/src/linux"), "linux-git", "6.13rc1-1", "", Local("tree"))
    assert unknown.version == "0", "the recipe asks the tree itself"


def test_own_keys_for_what_is_fetched() -> None:
    found = resolve(VariantWish(keys="/etc/own.gpg"), "linux", "6.12.1.arch1-1", "", Local(keys=(OWN_KEY,)))
    assert found.keys == (OWN_KEY,)


@pytest.mark.parametrize(
    ("wish", "local", "message"),
    [
        ({"source": "/srv/gone.tar"}, Local(), "source = /srv/gone.tar: there is no archive and no tree of that name"),
        ({"source": "/srv/\x7f\x9b31m"}, Local(), "source = /srv/\\x7f\\x9b31m: there is no"),
        ({"source": "/srv/a b.tar.xz"}, Local("archive"), "not the name of an archive"),
        ({"source": "/srv/-rf.tar"}, Local("archive"), "not the name of an archive"),
        ({"source": "/srv/settings"}, Local("archive"), "not the name of an archive"),
        ({"source": "/srv/x.tar.xz::http"}, Local("archive"), "not the name of an archive"),
        ({"source": "/srv/$(id).tar.xz"}, Local("archive"), "not the name of an archive"),
        ({"source": "/srv/linux", "sha256": "ab" * 32}, Local("tree"), "sha256 = is of an archive, and source = /srv"),
        ({"sha256": "ab" * 32}, Local(), "sha256 = is of an archive of your own"),
        ({"keys": "/etc/x"}, Local(keys_problem="there is no such file"), "keys = /etc/x: there is no such file"),
        ({"keys": "/etc/x"}, Local(), "keys = /etc/x: no public key is in it"),
        (
            {"source": "/srv/x.tar", "keys": "/etc/x"}, Local("archive", keys=(OWN_KEY,)),
            "/srv/x.tar has no signature beside it, and keys = asks for one",
        ),
    ],
)  # fmt: skip
def test_source_that_will_not_do(wish: dict[str, str], local: Local, message: str) -> None:
    with pytest.raises(KdumpError) as caught:
        resolve(VariantWish(**wish), "linux", "6.12.1.arch1-1", "", local)  # type: ignore[arg-type]
    assert message in caught.value.message
    assert caught.value.message.isprintable()
    assert caught.value.hint


# --- the parts ----------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(root: Path) -> dict[str, tuple[str, ...]]:
    """The real one."""
    names = (REPO / "linux-kdump").glob("*.config")
    make_tree(root, {f"{paths.VARIANT_RECIPE}/{path.name}": path.read_bytes() for path in names})
    return read_recipe(Context(root=root))


def on(*layers: str, **changes: object) -> Target:
    return target(layers=tuple(Layer(kind, "x") for kind in layers), **changes)  # type: ignore[arg-type]


ALWAYS = {"base", "x86_64", "console", "watchdog", "efivarfs"}
LUKS = (CryptVolume("x", 2),)
ESP = target(name="esp", fstype="vfat", drivers=("nvme",))


@pytest.mark.parametrize(
    ("have", "fragments", "modules"),
    [
        pytest.param(facts(), {"virtio", "ext4", "crc"}, (), id="virtual machine"),
        pytest.param(
            facts(targets=(on("crypt", drivers=("vmd", "nvme"), fstype="btrfs"),)),
            {"nvme", "dm", "crypt", "btrfs", "crc"}, (), id="laptop",
        ),
        pytest.param(
            facts(targets=(on("crypt", drivers=("nvme",), crypt=LUKS),), esp=ESP),
            {"nvme", "dm", "crypt", "ext4", "vfat", "crc"}, (), id="laptop that falls back on the ESP",
        ),
        pytest.param(
            facts(targets=(on("md", "lvm", drivers=("megaraid_sas", "sd_mod", "md_mod", "raid1"), fstype="xfs"),)),
            {"sas", "scsi", "md", "dm", "xfs", "crc", "virtio"}, (), id="server; virtio for the rehearsal",
        ),
        pytest.param(
            facts(targets=(on(drivers=("xhci_pci", "usbcore", "usb_storage", "uas", "sd_mod")),)),
            {"usb", "scsi", "ext4", "crc", "virtio"}, (), id="USB disk",
        ),
        pytest.param(
            facts(targets=(on(drivers=("xhci_hcd?", "usb?", "usb_storage", "sd_mod")),)),
            {"usb", "scsi", "ext4", "crc", "virtio"}, (), id="USB disk, its controller built in",
        ),
        pytest.param(
            facts(targets=(on(drivers=("sdhci_pci", "mmc_block"), fstype="f2fs"),)),
            {"mmc", "f2fs", "crc", "virtio"}, (), id="eMMC",
        ),
        pytest.param(
            facts(targets=(on(drivers=("sdhci_brcmstb", "mmcblk?")),)),
            {"mmc", "ext4", "crc", "virtio"}, ("sdhci_brcmstb",), id="eMMC on a controller of its own",
        ),
        pytest.param(facts(targets=(on(drivers=("ahci", "sd_mod")),)), {"sata", "scsi", "ext4", "crc"}, (), id="SATA"),
        pytest.param(
            facts(targets=(on(drivers=("sata_nv", "sd_mod")),)),
            {"sata", "scsi", "ext4", "crc"}, ("sata_nv",), id="SATA on a controller of its own",
        ),
        pytest.param(
            facts(targets=(on(drivers=("pm80xx", "sd_mod")),)),
            {"scsi", "ext4", "crc", "virtio"}, ("pm80xx",), id="a controller that no part has",
        ),
        pytest.param(
            facts(targets=(on(drivers=("vmw_pvscsi", "sd_mod")),)),
            {"guest", "scsi", "ext4", "crc", "virtio"}, (), id="VMware",
        ),
        pytest.param(
            facts(targets=(on(drivers=("hv_vmbus", "hv_storvsc", "sd_mod")),)),
            {"guest", "scsi", "ext4", "crc", "virtio"}, (), id="Hyper-V",
        ),
        pytest.param(
            facts(targets=(on(drivers=("xen_blkfront",)),)), {"guest", "ext4", "crc", "virtio"}, (), id="Xen"
        ),
        pytest.param(
            facts(targets=(on("multipath", drivers=("mpt3sas", "sd_mod")),)),
            {"sas", "scsi", "dm", "multipath", "ext4", "crc", "virtio"}, (), id="multipath",
        ),
        pytest.param(
            facts(targets=(on("lvm", drivers=("nvme", "dm_thin_pool")),)),
            {"nvme", "dm", "lvm", "ext4", "crc"}, (), id="a thin volume",
        ),
        pytest.param(
            facts(targets=(on("lvm", drivers=("nvme", "dm_cache", "dm_cache_smq")),)),
            {"nvme", "dm", "ext4", "crc"}, ("dm_cache", "dm_cache_smq"), id="a cached volume",
        ),
        pytest.param(
            facts(targets=(target(fstype="jfs"),)), {"virtio"}, ("jfs",), id="a file system that no part has"
        ),
        pytest.param(facts(targets=(target(fstype="ext3"),)), {"virtio", "ext4", "crc"}, (), id="ext3"),
        pytest.param(facts(targets=(target(fstype="exfat"),)), {"virtio", "exfat"}, (), id="exfat"),
        pytest.param(
            facts(boot=live_boot(watchdog=Watchdog("/dev/watchdog0", "i6300esb"))),
            {"virtio", "ext4", "crc"}, (), id="a watchdog that is always in",
        ),
        pytest.param(
            facts(boot=live_boot(watchdog=Watchdog("/dev/watchdog0", "f71808e_wdt"))),
            {"virtio", "ext4", "crc"}, ("f71808e_wdt",), id="another watchdog",
        ),
        pytest.param(
            facts(targets=(target(problem="no disk"), on(drivers=("nvme",)))),
            {"nvme", "ext4", "crc"}, (), id="a target that can't be used",
        ),
        pytest.param(
            facts(targets=(target(drivers=None),)),
            {"virtio", "nvme", "sata", "scsi", "usb", "mmc", "sas", "guest", "ext4", "crc"}, (), id="unseen hardware",
        ),
        pytest.param(facts(targets=()), {"virtio"}, (), id="no target"),
    ],
)  # fmt: skip
def test_parts(recipe: dict[str, tuple[str, ...]], have: Facts, fragments: set[str], modules: tuple[str, ...]) -> None:
    found = parts(Config(), have, recipe, "x86_64", "direct")
    assert set(found.fragments) == ALWAYS | fragments
    assert found.modules == modules
    assert len(set(found.fragments)) == len(found.fragments)


def test_parts_by_configuration(recipe: dict[str, tuple[str, ...]]) -> None:
    def extra(config: Config, flavour: str = "direct") -> set[str]:
        return set(parts(config, facts(), recipe, "x86_64", flavour).fragments) - ALWAYS - {"virtio", "ext4", "crc"}

    everything = {name for name, listed in recipe.items() if listed} - {"network"}
    assert extra(Config(variant=VariantWish(network=True))) == {"network"}
    assert extra(Config(), "udev") == extra(Config(), "systemd") == {"udev"}
    assert extra(Config(drivers=("nvme",))) == {"nvme"}
    assert extra(Config(modules=("xfs", "odd?"))) == {"xfs"}
    assert parts(Config(modules=("bcache",)), facts(), recipe, "x86_64", "direct").modules == ("bcache",)
    assert extra(Config(variant=VariantWish(drivers="all"))) == everything - ALWAYS - {"virtio", "ext4", "crc"}
    assert {"aarch64"} < set(parts(Config(), facts(), recipe, "aarch64", "direct").fragments)
    assert "x86_64" not in parts(Config(), facts(), recipe, "aarch64", "direct").fragments


def test_all_has_the_odd_driver_of_this_machine_too(recipe: dict[str, tuple[str, ...]]) -> None:
    odd = facts(targets=(on(drivers=("pm80xx", "sd_mod")),))
    assert parts(Config(variant=VariantWish(drivers="all")), odd, recipe, "x86_64", "direct").modules == ("pm80xx",)


def test_shared_helpers_take_nothing() -> None:
    """Where two list it and neither begins with it, it says nothing of which; it is asked for by name then."""
    recipe = dict.fromkeys((*ALWAYS, "virtio"), ()) | {"a": ("one", "both"), "b": ("two", "both"), "c": ("both-not",)}
    found = parts(
        Config(modules=("both", "two"), drivers=("x?",)),
        facts(targets=(target(fstype=""),)),
        recipe,
        "x86_64",
        "direct",
    )
    assert set(found.fragments) == {*ALWAYS, "virtio", "b"}
    assert found.modules == ()
    alone = parts(
        Config(modules=("both",), drivers=("x?",)), facts(targets=(target(fstype=""),)), recipe, "x86_64", "direct"
    )
    assert (set(alone.fragments), alone.modules) == ({*ALWAYS, "virtio"}, ("both",))


@pytest.mark.parametrize(
    ("missing", "arch", "message"),
    [
        ("base", "x86_64", "has no base.config"),
        ("udev", "x86_64", "has no udev.config"),
        ("", "riscv64", "no configuration for riscv64, but for x86_64 and aarch64"),
        ("", "\x1b[31m", "no configuration for"),
    ],
)
def test_recipe_that_will_not_do(recipe: dict[str, tuple[str, ...]], missing: str, arch: str, message: str) -> None:
    recipe.pop(missing, None)
    with pytest.raises(KdumpError, match=message) as caught:
        parts(Config(), facts(), recipe, arch, "udev")
    assert caught.value.message.isprintable()


DRIVERS = st.lists(
    st.sampled_from(
        ["nvme", "ahci", "sd_mod", "odd", "odd?", "vmd", "xhci_hcd?", "virtio_blk", "megaraid_sas", "raid1"]
    )
)
TARGETS = st.builds(
    on,
    st.sampled_from(["md", "crypt", "lvm", "dm", "multipath"]),
    drivers=st.one_of(st.none(), st.builds(tuple, DRIVERS)),
    fstype=st.sampled_from(["ext4", "xfs", "btrfs", "vfat", "f2fs", "exfat", "jfs", ""]),
)
REAL = {path.stem: path.read_text() for path in sorted((REPO / "linux-kdump").glob("*.config"))}
RECIPE = {
    name: tuple(" ".join(re.findall("^# modules:(.*)$", text, re.MULTILINE)).split()) for name, text in REAL.items()
}


@given(targets=st.lists(TARGETS, max_size=3), everything=st.booleans(), flavour=st.sampled_from(["direct", "systemd"]))
def test_property_whatever_is_needed_is_built_in(targets: list[Target], everything: bool, flavour: str) -> None:
    """By a part that lists it or by its name: else the variant would be held once it is there."""
    config = Config(variant=VariantWish(drivers="all" if everything else "auto"))
    have = facts(targets=tuple(targets))
    found = parts(config, have, RECIPE, "x86_64", flavour)
    built_in = {module for name in found.fragments for module in RECIPE[name]} | set(found.modules)
    needed = variant.needs(config, have, have.targets)
    assert {name for name in needed if not name.endswith("?")} <= built_in
    assert set(found.fragments) >= ALWAYS
    assert not any(name.endswith("?") for name in found.modules)
    assert set(found.fragments) & set(variant_build.REHEARSED)
    assert settings(Source("tree", "6.12", tree="/x"), found, 2)


# --- settings -----------------------------------------------------------------------------------------------------

WHOLE = resolve(AUTO, "linux", "6.12.1.arch1-1", "6.12.1-arch1-1")


def test_settings() -> None:
    text = settings(WHOLE, Parts(("base", "x86_64"), ("pm80xx",)), 3)
    assert text == (
        "# shellcheck shell=bash disable=SC2034\n"
        "# Made by kdump-pkg variant build, which writes it anew each time.\n"
        "_version='6.12.1'\n"
        f"_source=('{ORG}/linux-6.12.1.tar.xz' '{ORG}/linux-6.12.1.tar.sign'"
        f" '{GITHUB}/archlinux/linux/releases/download/v6.12.1-arch1/linux-v6.12.1-arch1.patch.zst'"
        f" '{GITHUB}/archlinux/linux/releases/download/v6.12.1-arch1/linux-v6.12.1-arch1.patch.zst.sig')\n"
        "_sums=('SKIP' 'SKIP' 'SKIP' 'SKIP')\n"
        f"_keys=('{TORVALDS}' '{KROAH_HARTMAN}' '{LEVIN}' '{STEFFENS}')\n"
        "_archive=('linux-6.12.1.tar.xz')\n"
        "_tree=''\n"
        "_patches=('linux-v6.12.1-arch1.patch.zst')\n"
        "_fragments=('base' 'x86_64')\n"
        "_modules=('pm80xx')\n"
        "_jobs='3'\n"
    )
    tree = settings(Source("tree", "6.12", tree="/usr/src/my linux"), Parts(("base",)), 1)
    assert "_source=()\n_sums=()\n_keys=()\n_archive=()\n_tree='/usr/src/my linux'\n_patches=()\n" in tree


def test_settings_say_all_that_the_shipped_ones_say() -> None:
    def names(text: str) -> set[str]:
        return set(re.findall(r"^(_\w+)=", text, re.MULTILINE))

    assert names(settings(WHOLE, Parts(()), 1)) == names((REPO / "linux-kdump/settings").read_text())


BAD = ["a'b", "a\nb", "a\0b", "a\x1b[31mb", "a\x7fb", "a\x9bb", "a\udcffb", "a\u2028b"]


@pytest.mark.parametrize("bad", BAD, ids=ascii)
@pytest.mark.parametrize(
    "place", ["tree", "entries", "sums", "keys", "archive", "patches", "version", "fragments", "modules"]
)
def test_nothing_leaves_its_quotes(bad: str, place: str) -> None:
    whole = {"tree": bad, "archive": bad, "version": bad}
    source = Source("tree", "6.12")
    if place in ("fragments", "modules"):
        one = Parts((bad,)) if place == "fragments" else Parts((), (bad,))
    else:
        source, one = replace(source, **{place: whole.get(place, (bad,))}), Parts(())  # type: ignore[arg-type]
    with pytest.raises(KdumpError) as caught:
        settings(source, one, 1)
    assert caught.value.message.isprintable()


TEXT = st.text(max_size=30)


@given(tree=TEXT, names=st.lists(TEXT, max_size=3))
def test_property_bash_reads_what_was_meant(tree: str, names: list[str]) -> None:
    try:
        text = settings(Source("tree", "6.12", tuple(names), tree=tree), Parts(()), 1)
    except KdumpError:
        assert not all(variant_build.PLAIN.fullmatch(one) for one in (tree, *names))
        return
    lines = text.splitlines()
    assert shlex.split(next(line for line in lines if line.startswith("_tree="))) == [f"_tree={tree}"]
    array = next(line for line in lines if line.startswith("_source=("))
    assert shlex.split(array[len("_source=(") : -1]) == names


@pytest.mark.spawns
def test_bash_takes_nothing_in_it_for_a_command(tmp_path: Path) -> None:
    odd = ("$(touch pwned)", "`touch pwned`", "a;touch pwned", "${x:-y} * ~ !! \\", "-rf", "")
    file = tmp_path / "settings"
    file.write_text(settings(Source("tree", "6.12", odd, tree=odd[0]), Parts(()), 1))
    script = '. ./settings; printf "%s\\0" "$_tree" "${_source[@]}"'
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True, timeout=30)
    assert done.stdout.decode().split("\0")[:-1] == [odd[0], *odd]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings"]


# --- when, and how --------------------------------------------------------------------------------------------------

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cpus", "memory", "number"),
    [(1, GIB, 1), (2, 16 * GIB, 2), (4, 2 * GIB, 1), (4, 4 * GIB, 2), (16, 16 * GIB, 10), (64, 256 * GIB, 64),
     (8, 0, 1), (0, 16 * GIB, 1)],
)  # fmt: skip
def test_jobs(cpus: int, memory: int, number: int) -> None:
    assert jobs(cpus, memory) == number


@given(cpus=st.integers(0, 1024), memory=st.integers(0, 1 << 45))
def test_property_jobs_fit(cpus: int, memory: int) -> None:
    found = jobs(cpus, memory)
    assert 1 <= found <= max(1, cpus)
    assert found == 1 or found * variant_build.JOB <= memory // 4


MAINS, BATTERY, DESKTOP = Power(online=True), Power(discharging=True), Power()


@pytest.mark.parametrize(
    ("wish", "power", "load", "why"),
    [
        (AUTO, MAINS, 0.0, None),
        (AUTO, DESKTOP, 0.0, None),
        (AUTO, Power(online=True, discharging=True), 0.0, None),
        (AUTO, BATTERY, 0.0, "the machine runs on battery"),
        (VariantWish(power="any"), BATTERY, 0.0, None),
        (AUTO, MAINS, 2.0, None),
        (AUTO, MAINS, 2.1, "the processors are 52 % busy, 50 % are allowed (max_load)"),
        (AUTO, MAINS, 40.0, "the processors are 1000 % busy, 50 % are allowed (max_load)"),
        (VariantWish(max_load=100), MAINS, 4.0, None),
        (VariantWish(max_load=0), MAINS, 400.0, None),
        (VariantWish(power="any"), BATTERY, 4.0, "the processors are 100 % busy, 50 % are allowed (max_load)"),
    ],
)
def test_obstacle(wish: VariantWish, power: Power, load: float, why: str | None) -> None:
    assert obstacle(wish, power, load, 4) == why


def test_no_processor_is_seen() -> None:
    assert obstacle(AUTO, MAINS, 0.2, 0) is None


@pytest.mark.parametrize(
    ("done", "of", "text"),
    [(0, 0, "0 files"), (7, 0, "7 files"), (0, 1800, "0 of about 1800 files, 0 %"),
     (450, 1800, "450 of about 1800 files, 25 %"), (1900, 1800, "1900 of about 1900 files, 99 %")],
)  # fmt: skip
def test_progress(done: int, of: int, text: str) -> None:
    assert progress(done, of) == text
