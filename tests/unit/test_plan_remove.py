"""The plan for the removal of the package."""

from __future__ import annotations

from dataclasses import replace

from kdump_pkg import paths
from kdump_pkg.model import DebugKernel, DropDebug, ImageState, Loaded, OwnFile, Remove, Unload
from kdump_pkg.model.setup import Record, Recorded, Version
from kdump_pkg.plan.remove import plan_remove
from tests.fakes import facts, kernel, live_boot

DERIVED = OwnFile("/etc/mkinitcpio-kdump.conf", b"x")
PRESET = OwnFile("/etc/mkinitcpio.d/kdump.preset", b"x")
FULL = facts(
    derived=DERIVED,
    preset=PRESET,
    image=ImageState("/boot/initramfs-linux-kdump.img", True),
    debug=(DebugKernel("6.1", "/x", None, "BTF"), DebugKernel("6.2", "/y", None, "BTF", recorded=False)),
    boot=live_boot(crash_loaded=True),
    loaded=Loaded("6.1", "f", "c", "i", "-s"),
    leftovers=("/boot/.kdump-pkg-1-x",),
)


def test_takes_away_what_is_ours_unloading_first() -> None:
    plan = plan_remove(FULL)
    assert isinstance(plan.actions[0], Unload)
    assert [a.path for a in plan.actions if isinstance(a, Remove)] == [
        "/etc/mkinitcpio.d/kdump.preset",
        "/etc/mkinitcpio-kdump.conf",
        "/boot/initramfs-linux-kdump.img",
        "/boot/.kdump-pkg-1-x",
        "/var/cache/kdump-pkg",
        "/var/lib/kdump-pkg",
        "/run/kdump-pkg",
    ]
    assert [a.release for a in plan.actions if isinstance(a, DropDebug)] == ["6.1"]
    assert not plan.warnings


def test_edited_files_stay_and_are_named() -> None:
    plan = plan_remove(replace(FULL, preset=replace(PRESET, pristine=False)))
    assert plan.warnings == ("/etc/mkinitcpio.d/kdump.preset was edited and stays",)
    assert PRESET.path not in [a.path for a in plan.actions if isinstance(a, Remove)]


def test_the_variant_is_pacmans_to_remove() -> None:
    slim = kernel("6.12.1-kdump", None, package="linux-kdump")
    assert plan_remove(replace(FULL, kernels=(kernel(), slim))).warnings == (
        "linux-kdump stays: pacman -R linux-kdump",
    )
    left = kernel("6.12.1-kdump", None, package=None, vmlinuz=None)
    assert not plan_remove(replace(FULL, kernels=(kernel(), left))).warnings


def test_never_unloads_what_is_not_ours() -> None:
    for changes in ({"confined": "in a chroot"}, {"crash_loaded": False}):
        plan = plan_remove(replace(FULL, boot=live_boot(**{"crash_loaded": True, **changes})))
        assert not any(isinstance(a, Unload) for a in plan.actions)
    assert not any(isinstance(a, Unload) for a in plan_remove(replace(FULL, loaded=None)).actions)


SYSCTL = OwnFile("/etc/sysctl.d/99-kdump-pkg.conf", b"x")


def test_what_setup_did() -> None:
    """Panics are no use without a capture kernel; boot loaders are left to their owner, who is told."""
    plan = plan_remove(FULL, SYSCTL)
    assert SYSCTL.path in [a.path for a in plan.actions if isinstance(a, Remove)]
    plan = plan_remove(FULL, replace(SYSCTL, pristine=False))
    assert plan.warnings == (f"{SYSCTL.path} was edited and stays",)
    file = Recorded("/etc/default/grub", "grub", b"", (Version(b"x"),))
    plan = plan_remove(FULL, setup=Record("grub", ("256M",), (file, replace(file, path="/b"))))
    (warning,) = plan.warnings
    assert warning.startswith("crashkernel= stays in /etc/default/grub, /b: take it out by hand")
    assert paths.SETUP not in [a.path for a in plan.actions if isinstance(a, Remove)]
    plan = plan_remove(FULL, setup=Record("grub", ("256M",), units=("kdump.service",)))
    assert not plan.warnings
    removed = [a.path for a in plan.actions if isinstance(a, Remove)]
    assert removed.index(paths.SETUP) < removed.index(paths.STATE)


def test_dumps_stay() -> None:
    assert not any("/var/crash" in str(a) for a in plan_remove(FULL).actions)
