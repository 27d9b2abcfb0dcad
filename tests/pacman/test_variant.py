"""linux-kdump from `kdump-pkg variant build` to its removal: real pacman, makepkg and image, a stand-in for the source.

What stands in is named: the source (tests/lab/variant_source.py), and systemctl, which writes down how it was called.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import paths
from tests.lab import packages, variant_source
from tests.lab.fixtures import WITHOUT_MKINITCPIO
from tests.lab.root import Generator, default_generator, mkinitcpio_prefix
from tests.lab.variant_root import GO, IMAGE, SAID, Step, VariantRoot, followed, stock, version
from tests.lab.variant_source import Twist
from tests.pacman.test_images import unpack

pytestmark = pytest.mark.pacman

START = "start --no-block kdump-pkg-variant.service"
OLD, NEW = f"{version('6.12')}-kdump", f"{version('7.2')}-kdump"
STATUS = "kdump-pkg variant status --json"


@pytest.fixture(params=[default_generator()])
def built(request: pytest.FixtureRequest, package: Path) -> Iterator[VariantRoot]:
    """A root whose variant was built for the older kernel."""
    generator: Generator = request.param
    with followed(generator, package) as root:
        yield root


@pytest.fixture
def plain(package: Path) -> Iterator[VariantRoot]:
    """One in which nobody has ever asked for a variant."""
    with stock(default_generator(), package) as root:
        yield root


def variant(root: VariantRoot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(root.root.run(STATUS.split()).stdout)
    return found


def parsed(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(step.text)
    return found


def finding(step: Step) -> str:
    """What `status --json` says of the variant."""
    (one,) = (f["text"] for f in parsed(step)["findings"] if f["part"] == "variant")
    return str(one)


@pytest.mark.parametrize(
    "built",
    [
        pytest.param("mkinitcpio", marks=pytest.mark.skipif(mkinitcpio_prefix() is None, reason=WITHOUT_MKINITCPIO)),
        "dracut",
    ],
    indirect=True,
)
def test_built_by_an_ordinary_user_installed_and_armed(built: VariantRoot, tmp_path: Path) -> None:
    said = (built.path / SAID).read_text()
    assert built.armed().release == OLD, said
    assert built.root.versions()["linux-kdump"].startswith(f"{version('6.12')}-")
    tree = built.path / f"{paths.VARIANT_BUILD}/src/build/vmlinux".lstrip("/")
    users = (built.path / "etc/passwd").read_text()
    (uid,) = re.findall(rf"^{paths.VARIANT_USER}:[^:]*:(\d+):", users, re.MULTILINE)
    assert tree.stat().st_uid == int(uid) != 0
    found = variant(built)
    assert [(k["release"], k["captures"], k["why_not"]) for k in found["installed"]] == [(OLD, True, None)]
    assert (found["followed"], found["running"], found["due"], found["failure"]) == (True, False, None, None)
    assert found["built"]["wanted"]["base"] == "linux"
    check_only_a_capture_kernel(built, tmp_path)


def check_only_a_capture_kernel(built: VariantRoot, work: Path) -> None:
    """Nothing that makes images or boot entries takes it for a kernel to boot; its own image needs no module."""
    home = built.path / f"usr/lib/modules/{OLD}"
    assert {p.name for p in home.iterdir()} >= {"vmlinuz", "config", "modules.builtin"}
    assert not (home / "pkgbase").exists()
    boot = {p.name for p in (built.path / "boot").iterdir()}
    assert [name for name in boot if "kdump" in name] == [Path(IMAGE).name], boot
    presets = {p.name for p in (built.path / "etc/mkinitcpio.d").glob("*.preset")}
    assert presets <= {"linux.preset", "kdump.preset"}, presets
    unpack((built.path / IMAGE).read_bytes(), work / "image")
    assert not list((work / "image").rglob("*.ko*"))
    assert list((work / "image").rglob("makedumpfile"))
    assert (built.path / f"usr/lib/debug/lib/modules/{OLD}/vmlinux").is_file()


def test_nothing_is_built_unasked(plain: VariantRoot) -> None:
    plain.upgrade("-U", packages.kernel("7.2"))
    assert plain.started() == []
    found = variant(plain)
    assert (found["followed"], found["due"], found["wanted"]) == (False, None, None)
    status = json.loads(plain.root.run(["kdump-pkg", "status", "--json"], check=False).stdout)
    assert "variant" not in {f["part"] for f in status["findings"]}


def test_what_is_current_is_not_built_again(built: VariantRoot) -> None:
    before = built.armed()
    for start in (built.build, built.unit):
        done = start()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "makepkg" not in done.stdout and built.armed() == before
    done = built.root.run(["kdump-pkg", "rebuild"])
    assert "building" not in done.stdout


def test_upgrade_asks_for_it_and_the_unit_does_it(built: VariantRoot) -> None:
    before = built.armed()
    built.source(version("7.2"))
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == [START]
    now = built.armed()
    assert now.release == before.release, "what there is captures meanwhile"
    found = variant(built)
    assert found["wanted"]["version"] == built.root.versions()["linux"]
    assert found["due"]["version"] == built.root.versions()["linux"]
    assert not found["running"]
    done = built.unit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert built.armed().release == NEW
    found = variant(built)
    assert [k["release"] for k in found["installed"]] == [NEW]
    assert (found["due"], found["failure"]) == (None, None)
    assert found["built"]["seconds"] >= 0 and found["built"]["objects"] > 0
    assert built.started() == [START], "the transaction that installs it asks for no other one"


def test_what_is_said_at_each_moment(built: VariantRoot) -> None:
    built.source(version("7.2"), Twist(waits=GO))
    kernel = built.root.bring(packages.kernel("7.2"))
    steps = built.together(f"""
        step before {STATUS}
        step upgrade pacman --noconfirm -U {kernel}
        step queued {STATUS}
        step told kdump-pkg status --json
        unit >/root/said 2>&1 </dev/null & build=$!
        step lingers lingers
        step building {STATUS}
        step meanwhile kdump-pkg status --json
        step hook /usr/share/libalpm/scripts/kdump-pkg rebuild
        step second kdump-pkg variant build
        go
        step build wait $build
        step said cat /root/said
        step installed {STATUS}
        step after kdump-pkg status --json
    """)
    assert (steps["lingers"].code, steps["build"].code) == (0, 0), steps["said"].text
    check_moments({name: parsed(steps[name]) for name in ("before", "queued", "building", "installed")})
    assert "a build is due" in finding(steps["told"])
    assert re.search(rf"building.*; until then {re.escape(OLD)} captures", finding(steps["meanwhile"]))
    assert NEW in finding(steps["after"])
    assert (steps["second"].code, steps["hook"].code) == (1, 0)
    assert built.started() == [START], "one that runs needs no second start"


def check_moments(at: dict[str, dict[str, Any]]) -> None:
    assert [at[name]["running"] for name in at] == [False, False, True, False]
    assert [at[name]["captures"] for name in at] == [OLD, OLD, OLD, NEW]
    assert [at[name]["due"] is not None for name in at] == [False, True, True, False]
    assert at["building"]["progress"]["step"] == "building"
    assert 0 < at["building"]["progress"]["done"] < at["building"]["progress"]["of"]


def test_follow_decides_when(built: VariantRoot) -> None:
    point = packages.kernel("6.12", pkgver="6.12.999-1")
    built.configure(variant="follow = series\n")
    built.upgrade("-U", point)
    assert built.started() == []
    assert variant(built)["due"] is None
    built.configure(variant="follow = never\n")
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == []
    assert built.armed().release == OLD
    built.configure(variant="follow = series\n")
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == [START]


def test_downgrade_of_the_kernel_needs_no_build(built: VariantRoot) -> None:
    """Of what was asked for meanwhile nothing is left to do."""
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == [START]
    built.upgrade("-U", packages.kernel("6.12"))
    assert variant(built)["due"] is None
    done = built.unit()
    assert done.returncode == 0, done.stdout + done.stderr
    assert built.armed().release == OLD
    assert built.started() == [START]


def test_downgrade_of_the_variant(built: VariantRoot) -> None:
    """pacman puts the older package back: it captures, and nothing is built by itself until the next upgrade."""
    old = built.keep_package()
    built.source(version("7.2"))
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.unit().returncode == 0
    assert built.armed().release == NEW
    built.upgrade("-U", old)
    assert built.armed().release == OLD
    assert variant(built)["due"] is None
    assert built.started() == [START]
    assert built.build().returncode == 0, "by hand it is"
    assert built.armed().release == NEW


def test_removal_arms_the_stock_kernel_again(built: VariantRoot) -> None:
    done = built.root.run(["kdump-pkg", "variant", "remove", "--yes"], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert built.armed().release == packages.release("6.12")
    assert "linux-kdump" not in built.root.versions()
    assert not (built.path / f"usr/lib/modules/{OLD}").exists()
    assert not variant(built)["followed"]
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == []


def test_removal_of_kdump_pkg_itself(built: VariantRoot) -> None:
    built.upgrade("-R", "kdump-pkg")
    assert not (built.path / paths.STATE.lstrip("/")).exists()
    assert not (built.path / IMAGE).exists()
    assert not (built.path / "usr/lib/debug").exists()


def trust_none(root: VariantRoot) -> None:
    conf = root.path / paths.CONFIG.lstrip("/")
    conf.write_text(conf.read_text().replace("trust = yes\n", ""))


def test_rehearsed_it_is_trusted_and_armed(plain: VariantRoot) -> None:
    """The same kernel is only installed once it has captured a crash, with the host's QEMU."""
    if not variant_source.can_capture():
        pytest.skip("no linux-kdump in the cache of the lab, which tests/vm/test_variant.py puts there")
    trust_none(plain)
    done = plain.build_from_outside()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "it captured with" in done.stdout + done.stderr, done.stdout + done.stderr
    assert plain.armed().release == OLD
    (one,) = variant(plain)["installed"]
    assert (one["trusted"], one["captures"]) == ("rehearsed", True)


def test_without_a_rehearsal_it_is_only_reported(plain: VariantRoot) -> None:
    """No QEMU in there, and nobody has said trust = yes: the package is kept and named, the stock kernel armed."""
    trust_none(plain)
    before = plain.armed()
    done = plain.build()
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    (named,) = set(re.findall(r"/\S+/linux-kdump-\S+\.pkg\.tar\.zst", said))
    assert (plain.path / named.lstrip("/")).is_file()
    assert plain.armed() == before
    assert "linux-kdump" not in plain.root.versions()
    plain.upgrade("-U", named)
    assert plain.armed() == before, "installed by hand it isn't trusted either"
    assert [k["captures"] for k in variant(plain)["installed"]] == [False]
