"""Builds of linux-kdump that come to nothing: one line each, exit 1, and what is armed is the same as before."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kdump_pkg import paths
from tests.lab import packages
from tests.lab.root import default_generator
from tests.lab.variant_root import GO, SOURCE, VariantRoot, followed, version
from tests.lab.variant_source import Signer, Twist

pytestmark = pytest.mark.pacman

OLD, NEW = f"{version('6.12')}-kdump", f"{version('7.2')}-kdump"
STATUS = "kdump-pkg variant status --json"
CACHE = Path(paths.VARIANT_BUILD).parent
BUILD = ("kdump-pkg", "variant", "build", "--force")


@pytest.fixture
def built(package: Path) -> Iterator[VariantRoot]:
    with followed(default_generator(), package) as root:
        yield root


def variant(root: VariantRoot) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(root.root.run(STATUS.split()).stdout)
    return found


def no_source(root: VariantRoot) -> None:
    (root.path / SOURCE.lstrip("/")).unlink()


def no_archive(root: VariantRoot) -> None:
    (root.path / SOURCE.lstrip("/")).write_bytes(b"this is no archive\n" * 1000)


def wrong_hash(root: VariantRoot) -> None:
    root.configure(variant=f"sha256 = {'0' * 64}\n")


def signed(root: VariantRoot, by: Signer, trusted: Signer) -> None:
    by.sign(SOURCE, f"{SOURCE}.sig")
    root.configure(variant=f"keys = {trusted.export('/srv/keys.gpg')}\n")


def wrong_signature(root: VariantRoot) -> None:
    signer = Signer(root.root)
    signed(root, signer, signer)
    with (root.path / SOURCE.lstrip("/")).open("ab") as file:
        file.write(b"\0" * 512)


def unknown_key(root: VariantRoot) -> None:
    signed(root, Signer(root.root, "signer"), Signer(root.root, "trusted"))


def no_compiler(root: VariantRoot) -> None:
    root.root.pacman("-Rdd", "gcc")


def twisted(twist: Twist, release: str = version("6.12")) -> Callable[[VariantRoot], None]:
    return lambda root: root.source(release, twist)


@dataclass(frozen=True)
class Case:
    spoil: Callable[[VariantRoot], None]
    says: str
    """What the line says."""


CASES = {
    "no source": Case(no_source, rf"{SOURCE}"),
    "no archive": Case(no_archive, r"archive|format|unpack"),
    "wrong hash": Case(wrong_hash, r"sha256|hash|sum"),
    "wrong signature": Case(wrong_signature, r"signature"),
    "unknown key": Case(unknown_key, r"key|signature"),
    "compiler missing": Case(no_compiler, r"gcc"),
    "compiler too new": Case(twisted(Twist(error="'bool' is a keyword with '-std=c23'")), r"kernel/kexec.c:2:2: error"),
    "option can't be set": Case(twisted(Twist(loses=("CONFIG_EXT4_FS",))), r"CONFIG_EXT4_FS can't be set"),
    "option has vanished": Case(twisted(Twist(lacks=("CONFIG_PROC_VMCORE",))), r"CONFIG_PROC_VMCORE is not in this"),
    "source too old": Case(twisted(Twist(), "5.15.3"), r"5\.15\.3 is older"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input(built: VariantRoot, case: Case) -> None:
    before = built.armed()
    case.spoil(built)
    done = built.root.run(BUILD, check=False)
    check_failed(built, done.returncode, done.stdout + done.stderr, case.says)
    assert built.armed() == before
    assert built.root.versions()["linux-kdump"].startswith(version("6.12"))


def check_failed(root: VariantRoot, code: int, said: str, says: str) -> None:
    """One line that says it, here and in what is remembered."""
    print(said[-1500:])  # noqa: T201 - for -s
    assert code == 1, said
    errors = [line for line in said.splitlines() if line.startswith("==> ERROR")]
    assert len(errors) == 1 and re.search(says, errors[0]), said
    assert "Traceback" not in said
    failure = variant(root)["failure"]
    assert failure is not None and re.search(says, f"{failure['text']} {failure['tail']}"), failure


def test_a_failed_one_is_not_tried_again_by_itself(built: VariantRoot) -> None:
    """Neither by the hook nor by the unit, before the next upgrade; by hand it is."""
    built.source(version("7.2"), Twist(error="no such thing"))
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.unit().returncode == 1
    started = built.started()
    built.upgrade("-U", packages.kernel("7.2"))
    assert built.started() == started
    assert built.unit().returncode == 0
    assert built.armed().release == OLD
    built.source(version("7.2"))
    assert built.build().returncode == 0
    assert built.armed().release == NEW
    assert variant(built)["failure"] is None


def test_disk_too_small_for_a_build(built: VariantRoot) -> None:
    before = built.armed()
    steps = built.together(f"""
        mount -t tmpfs -o size=100m small {CACHE}
        step build {" ".join(BUILD)}
    """)
    check_failed(built, steps["build"].code, steps["build"].text, r"free|room|space")
    assert built.armed() == before


def test_disk_full_in_the_build(built: VariantRoot) -> None:
    """There is as much room as is asked for in a tree that is there, and the build takes more."""
    before = built.armed()
    built.source(version("6.12"), Twist(fills=True))
    steps = built.together(f"""
        mount -t tmpfs -o size=1100m small {CACHE}
        install -d -o {paths.VARIANT_USER} {paths.VARIANT_BUILD} {paths.VARIANT_BUILD}/src{{,/build}}
        step build {" ".join(BUILD)}
    """)
    check_failed(built, steps["build"].code, steps["build"].text, r"the disk is full")
    assert built.armed() == before


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_interrupted_at_any_moment(built: VariantRoot, signal: str) -> None:
    dice = random.Random(f"20261125{signal}")
    start = time.monotonic()
    assert built.root.run(BUILD).returncode == 0
    whole = time.monotonic() - start
    before = built.armed()
    for _ in range(2):
        built.source(version("6.12"), Twist())
        instant = dice.uniform(0.05, whole * 0.8)
        done = built.root.run(["timeout", f"--signal={signal}", f"{instant:.3f}", *BUILD], check=False)
        assert "Traceback" not in done.stdout + done.stderr, done.stderr
        assert built.armed() == before, f"after {instant:.3f} of {whole:.1f} s"
        assert not variant(built)["running"]
    assert built.root.run(BUILD, check=False).returncode == 0
    assert built.armed().release == OLD


def test_stopped_it_leaves_no_compiler_behind(built: VariantRoot) -> None:
    before = built.armed()
    built.source(version("6.12"), Twist(waits=GO))
    steps = built.together(f"""
        {" ".join(BUILD)} >/root/said 2>&1 </dev/null & build=$!
        step lingers lingers
        kill -TERM $build
        step build wait $build
        sleep 1
        step left ps -u {paths.VARIANT_USER} -o pid=,args=
        step status {STATUS}
    """)
    assert steps["lingers"].code == 0
    assert steps["build"].code != 0
    assert steps["left"].text == ""
    assert not json.loads(steps["status"].text)["running"]
    assert built.armed() == before


def test_base_kernel_removed_while_building(built: VariantRoot) -> None:
    built.source(version("6.12"), Twist(waits=GO))
    before = built.armed()
    steps = built.together(f"""
        {" ".join(BUILD)} >/root/said 2>&1 </dev/null & build=$!
        step lingers lingers
        step remove pacman --noconfirm -R linux
        step build wait $build
        step said cat /root/said
    """)
    assert (steps["lingers"].code, steps["remove"].code) == (0, 0)
    check_failed(built, steps["build"].code, steps["said"].text, r"linux.*(gone|no longer|removed)")
    now = built.armed()
    assert (now.release, now.image) == (before.release, before.image)


def test_two_upgrades_during_one_build(built: VariantRoot) -> None:
    """It begins anew for the newest, once, and that is what is installed."""
    built.source(version("7.2"), Twist(waits=GO))
    kernels = [built.root.bring(packages.kernel("7.2", pkgver=f"{version('7.2')}-{number}")) for number in (2, 3, 4)]
    steps = built.together(f"""
        step first pacman --noconfirm -U {kernels[0]}
        unit >/root/said 2>&1 </dev/null & build=$!
        step lingers lingers
        step second pacman --noconfirm -U {kernels[1]}
        step third pacman --noconfirm -U {kernels[2]}
        go
        step build wait $build
        step said cat /root/said
        step status {STATUS}
    """)
    assert (steps["lingers"].code, steps["build"].code) == (0, 0), steps["said"].text
    status = json.loads(steps["status"].text)
    assert status["built"]["wanted"]["version"] == f"{version('7.2')}-4"
    assert (status["due"], status["failure"]) == (None, None)
    assert built.armed().release == NEW
