"""What `status` says, that it says the right next thing, and that each of its checks can fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kdump_pkg.loaders.words import find
from kdump_pkg.model import Config, CryptVolume, DebugKernel, Facts, Finding, ImageState, Loaded, OwnFile, Space, Trace
from kdump_pkg.model.bootloader import (
    CommandLine,
    Firmware,
    Loader,
    Result,
    ResultLine,
    Stretch,
    Surroundings,
    TextFile,
)
from kdump_pkg.model.health import CrashTest, Health, LastDump, Rehearsed
from kdump_pkg.model.upload import Failure, Record, Sent
from kdump_pkg.model.variant import Progress, VariantState
from kdump_pkg.model.variant import Record as VariantRecord
from kdump_pkg.model.wishes import UploadWish
from kdump_pkg.plan.level import beyond
from kdump_pkg.plan.rebuild import plan_rebuild
from kdump_pkg.plan.status import Status, bad_config_status, plan_status
from tests.fakes import DEFAULTS, RELEASE, facts, kernel, live_boot, target
from tests.unit.test_plan_rebuild import LAYERED, PROGRAMS, done

MIB, GIB = 1 << 20, 1 << 30
NOON = 1_795_420_014


def lines(*values: str, foreign: str | None = None, **changes: Any) -> Loader:
    """A boot loader with an entry for each of these command lines."""
    data = "".join(f"options {value}\n" for value in values).encode()
    start, entries = 0, []
    for number, value in enumerate(values, 1):
        start += len("options ")
        place = Stretch("/boot/loader/entries/arch.conf", start, start + len(value), number)
        entries.append(CommandLine(f"arch {number}", (place,), foreign=foreign))
        start += len(value) + 1
    given: dict[str, Any] = {
        "name": "systemd-boot",
        "title": "systemd-boot",
        "evidence": "LoaderInfo says systemd-boot 257",
        "booted": True,
        "files": (TextFile("/boot/loader/entries/arch.conf", data),),
        "lines": tuple(entries),
    }
    return Loader(**(given | changes))


LOADER = lines("rw crashkernel=192M", "rw single crashkernel=192M")
OTHER = lines("rw quiet", name="grub", title="GRUB", evidence="/boot/grub is here", booted=False)
BOOT = live_boot(
    cmdline="root=/dev/vda2 rw crashkernel=192M", crash_size=192 * MIB, memory_total=GIB, crash_dm_crypt=True
)
GOOD = done(facts(boot=BOOT))
CAPTURE = plan_rebuild(DEFAULTS, GOOD).capture
assert CAPTURE is not None
REHEARSED = Rehearsed(NOON, CAPTURE.fingerprint, RELEASE, "192M", True, "", 192 * MIB, 90_000, 31.4)
OFF = {"panic_on_warn", "hung_task_panic", "panic_on_unrecovered_nmi", "unknown_nmi_panic"}
SYSCTLS = {f"kernel.{name}": "0" for name in OFF} | {
    "kernel.panic_on_oops": "1", "kernel.softlockup_panic": "1", "kernel.hardlockup_panic": "1", "kernel.sysrq": "24",
}  # fmt: skip
KCONFIG = dict.fromkeys(
    ("CRASH_DUMP", "PROC_VMCORE", "KEXEC", "KEXEC_FILE", "RELOCATABLE", "DEBUG_INFO", "DEBUG_INFO_BTF", "MAGIC_SYSRQ"),
    "y",
)
FIT = Health(
    boot_id="b007",
    kconfig={**KCONFIG, "KEXEC_SIG_FORCE": "n"},
    kconfig_source="/proc/config.gz",
    sysctls=SYSCTLS,
    placed=((0x2A000000, 0x35FFFFFF),),
    surroundings=Surroundings(live=True, firmware=Firmware(efi=True, secure_boot=False)),
    loaders=(LOADER,),
    rehearsed=REHEARSED,
    last_dump=LastDump(f"/var/crash/2026-11-23T07-46-54Z-{RELEASE}", NOON, RELEASE, "complete", 42),
    test=CrashTest("c0ffee00", "a007", NOON, RELEASE, "saved", "/var/crash/x", 42),
    spaces={"root": Space(100 << 20, 60 << 20)},
    debuggers={"crash": "9.0.2-1", "drgn": "0.3.0-1"},
)
"""A machine on which all was tried, and all went well."""


def status(have: Facts, config: Config = DEFAULTS, health: Health = FIT) -> Status:
    return plan_status(config, have, plan_rebuild(config, have), health)


def finding(have: Facts, part: str, health: Health = FIT) -> Finding:
    return next(f for f in status(have, health=health).findings if f.part == part)


def test_armed() -> None:
    """A healthy machine: nothing is to be done, and nothing is to be said."""
    found = status(GOOD)
    assert found.armed is True
    assert not found.todo
    assert found.verdict.startswith("armed: a crash now would be saved to /var/crash on UUID=")
    assert found.verdict.endswith(" in about 42 s")
    assert {(f.part, f.state) for f in found.findings if f.state != "ok"} == set()
    assert [f.part for f in found.findings] == [
        "boot loader", "kernel configuration", "reservation", "loading", "capture kernel", "target", "configuration",
        "preset", "image", "dump level", "debug kernel", "load", "kdump.service", "panic", "sysrq", "debuggers",
        "rehearsal", "last crash", "crash test",
    ]  # fmt: skip
    assert all(f.remedy is None for f in found.findings)


def test_evidence_is_a_place() -> None:
    said = {f.part: f.evidence for f in status(GOOD).findings}
    assert said["boot loader"] == "/boot/loader/entries/arch.conf:1"
    assert said["kernel configuration"] == "/proc/config.gz"
    assert said["reservation"] == "crash_size in /sys/kernel, /proc/iomem"
    assert said["target"] == "mounted on /"
    assert said["sysrq"] == "kernel.sysrq = 24"


def test_the_directory_is_that_of_this_system() -> None:
    have = replace(GOOD, targets=(target(mounted="/var/crash"),))
    assert status(have).verdict == "armed: a crash now would be saved to /var/crash in about 42 s"


@pytest.mark.parametrize(
    ("health", "ending"),
    [
        (FIT, " in about 42 s"),
        (replace(FIT, last_dump=None), " in about 31 s"),
        (replace(FIT, last_dump=LastDump("/x", NOON, RELEASE, "dmesg", 3)), " in about 31 s"),
        (replace(FIT, last_dump=None, rehearsed=replace(REHEARSED, fingerprint="other")), "(ext4)"),
        (replace(FIT, last_dump=None, rehearsed=replace(REHEARSED, seconds=None)), "(ext4)"),
        (Health(), "(ext4)"),
    ],
)
def test_how_long_it_takes_is_said_when_it_is_known(health: Health, ending: str) -> None:
    assert status(GOOD, health=health).verdict.endswith(ending)


# --- each check, in a machine where it fails -------------------------------------------------------------------------


def boot(**changes: object) -> Facts:
    return replace(GOOD, boot=replace(GOOD.boot, **changes))  # type: ignore[arg-type]


def unreserved(**changes: object) -> Facts:
    return boot(**({"crash_size": 0, "crash_loaded": False, "cmdline": "rw"} | changes))


def options(**changes: str) -> Health:
    return replace(FIT, kconfig={**(FIT.kconfig or {}), **changes})


def sysctl(**changes: str) -> Health:
    return replace(FIT, sysctls=SYSCTLS | {f"kernel.{name}": value for name, value in changes.items()})


def loaders(*found: Loader, **changes: object) -> Health:
    return replace(FIT, loaders=found, **changes)  # type: ignore[arg-type]


GRUB_CFG = Result("/boot/grub/grub.cfg", "grub.cfg")


def generated(cmdline: str) -> Health:
    """What GRUB really reads has this command line."""
    grub = lines("rw crashkernel=192M", name="grub", title="GRUB", results=(GRUB_CFG,))
    return loaders(grub, results={GRUB_CFG: (ResultLine("Arch Linux", cmdline),)})


def locked(**changes: object) -> Facts:
    """A machine with an encrypted target whose key is handed over."""
    volume = CryptVolume(**({"uuid": "aaaa", "key": "linked"} | changes))  # type: ignore[arg-type]
    return done(facts(boot=BOOT, targets=(target(crypt=(volume,)),), programs=PROGRAMS, modules=LAYERED))


SETUP, RUN = "kdump-pkg setup", "run it as root"
LOADED = GOOD.loaded
assert LOADED is not None
TIGHT = boot(crash_size=64 * MIB, cmdline="crashkernel=64M")
"""Far too little, as an image of which all is known says."""
KNOWN = replace(
    TIGHT,
    image=replace(GOOD.image, unpacked=20 * MIB),
    kernels=(kernel(init_size=60 * MIB),),
)
UNREHEARSED = replace(FIT, rehearsed=None)
NEWEST = facts(kernels=(kernel("7.2.0"),), boot=replace(BOOT, running="7.2.0"))

FAILURES: dict[str, tuple[Facts, Health, str, str, str, str]] = {
    # name: facts, health, part, state, text, remedy
    "not root": (GOOD, replace(FIT, privileged=False), "privileges", "unknown", "can't be seen", RUN),
    "no boot loader": (GOOD, loaders(), "boot loader", "note", "none that is known", "by hand"),
    "none seen": (GOOD, loaders(privileged=False), "boot loader", "unknown", "for root alone", RUN),
    "several": (
        GOOD, loaders(replace(LOADER, booted=False), OTHER), "boot loader", "note",
        "systemd-boot and GRUB are here, and nothing says which", f"{SETUP} --loader systemd-boot or grub",
    ),
    "several of which each has it": (
        GOOD, loaders(replace(LOADER, booted=False), replace(LOADER, booted=False, title="GRUB")), "boot loader", "ok",
        "systemd-boot and GRUB; each", "",
    ),
    "one of them booted": (GOOD, loaders(OTHER, LOADER), "boot loader", "ok", "systemd-boot, crashkernel=192M", ""),
    "not configured": (
        unreserved(), loaders(lines("rw")), "boot loader", "todo", "no crashkernel= in the configuration", SETUP
    ),
    "not rebooted": (
        unreserved(), FIT, "boot loader", "todo", "has crashkernel=192M, which this boot doesn't have yet", "reboot"
    ),
    "next boot": (GOOD, loaders(lines("rw")), "boot loader", "todo", "the next boot won't have it", SETUP),
    "next boot, perhaps": (
        GOOD, loaders(lines("rw", booted=False)), "boot loader", "note", "the next boot won't have it", SETUP
    ),
    "other value": (
        GOOD, loaders(lines("crashkernel=128M")), "boot loader", "note",
        "has crashkernel=128M, this boot has crashkernel=192M", "reboot",
    ),
    "not all entries": (
        GOOD, loaders(lines("rw crashkernel=192M", "rw")), "boot loader", "note",
        "1 of 2 entries lack crashkernel=: arch 2",
        SETUP,
    ),
    "problem": (
        unreserved(), loaders(lines(problem="/boot isn't mounted; mount /boot")), "boot loader", "todo",
        "systemd-boot: /boot isn't mounted", "mount /boot",
    ),
    "problem of an entry": (
        unreserved(), loaders(lines("rw", problem="grub.cfg was made by hand; change it")), "boot loader", "todo",
        "systemd-boot: grub.cfg was made by hand", "change it",
    ),
    "problem that is none": (
        GOOD, loaders(lines("crashkernel=192M", problem="/boot is read-only; remount it")), "boot loader", "ok",
        "systemd-boot, crashkernel=192M", "",
    ),
    "by hand": (
        unreserved(), loaders(lines("rw", manual=("efibootmgr {}",))), "boot loader", "todo", "no crashkernel= in",
        SETUP
    ),
    "not generated": (
        unreserved(), generated("rw"), "boot loader", "todo",
        "did not come to the entry Arch Linux of /boot/grub/grub.cfg", "kdump-pkg setup, which makes it anew",
    ),
    "not generated, but booted": (GOOD, generated("rw"), "boot loader", "note", "did not come to", SETUP),
    "generated": (GOOD, generated("rw crashkernel=192M"), "boot loader", "ok", "GRUB, crashkernel=192M", ""),
    "no entry": (
        GOOD, loaders(lines("rw", foreign="a snapshot")), "boot loader", "unknown", "no entry that starts this", ""
    ),
    "no configuration": (
        GOOD, replace(FIT, kconfig=None), "kernel configuration", "unknown", "can't be read", "modprobe"
    ),
    "CRASH_DUMP": (
        GOOD, options(CRASH_DUMP="n"), "kernel configuration", "bad", "CONFIG_CRASH_DUMP is off", "boot a kernel"
    ),
    "PROC_VMCORE": (
        GOOD, options(PROC_VMCORE="n"), "kernel configuration", "bad", "CONFIG_PROC_VMCORE", "boot a kernel"
    ),
    "RELOCATABLE": (
        GOOD, options(RELOCATABLE="n"), "kernel configuration", "bad", "CONFIG_RELOCATABLE", "boot a kernel"
    ),
    "KEXEC": (
        GOOD, options(KEXEC="n", KEXEC_FILE="n"), "kernel configuration", "bad",
        "CONFIG_KEXEC_FILE and CONFIG_KEXEC are off",
        "boot a kernel",
    ),
    "DEBUG_INFO": (GOOD, options(DEBUG_INFO="n"), "kernel configuration", "note", "CONFIG_DEBUG_INFO is off", ""),
    "BTF": (GOOD, options(DEBUG_INFO_BTF="n"), "kernel configuration", "note", "CONFIG_DEBUG_INFO_BTF is off", ""),
    "MAGIC_SYSRQ": (GOOD, options(MAGIC_SYSRQ="n"), "kernel configuration", "note", "CONFIG_MAGIC_SYSRQ is off", ""),
    "no memory": (unreserved(), loaders(lines("rw")), "reservation", "bad", "no memory is reserved", SETUP),
    "none yet": (unreserved(), FIT, "reservation", "todo", "none in this boot", "reboot"),
    "none, of several": (
        unreserved(), loaders(replace(LOADER, booted=False), OTHER), "reservation", "bad", "no memory",
        "--loader systemd"
    ),
    "refused": (
        unreserved(cmdline="crashkernel=192M"), FIT, "reservation", "bad", "reserved nothing: there was no free block",
        "kdump-pkg setup --crashkernel 1",
    ),
    "asks for nothing": (
        unreserved(cmdline="crashkernel=2G-:256M"), FIT, "reservation", "bad",
        "asks for nothing on a machine of 1024 MiB",
        "kdump-pkg setup --crashkernel",
    ),
    "nonsense": (
        unreserved(cmdline="crashkernel=much"), FIT, "reservation", "bad", "not a size that the kernel takes",
        "--crashkernel"
    ),
    "no crash_size": (
        boot(crash_size=None), FIT, "reservation", "bad", "this kernel can't be told to capture", "boot a"
    ),
    "too few": (
        KNOWN, UNREHEARSED, "reservation", "bad", "64 MiB are too few, about", "kdump-pkg setup --crashkernel 1"
    ),
    "perhaps too few": (TIGHT, UNREHEARSED, "reservation", "note", "64 MiB may be too few, about", "--crashkernel 1"),
    "few, but proven": (
        KNOWN, replace(FIT, rehearsed=replace(REHEARSED, reserved=64 * MIB)), "reservation", "ok", "64 MiB", ""
    ),
    "few, with CMA": (
        replace(KNOWN, boot=replace(KNOWN.boot, cmdline="crashkernel=64M crashkernel=96M,cma")), UNREHEARSED,
        "reservation", "ok", "64 MiB", "",
    ),
    "too many": (
        boot(crash_size=512 * MIB, cmdline="crashkernel=512M"), FIT, "reservation", "note", "would do",
        "kdump-pkg estimate --shrink",
    ),
    "shrunk": (
        boot(cmdline="crashkernel=256M"), FIT, "reservation", "note", "192 MiB of the 256 MiB that are asked for", ""
    ),
    "too high": (
        GOOD, replace(FIT, placed=((5 * GIB, 6 * GIB),)), "reservation", "note", "all of it lies above 4 GiB", "72M,low"
    ),
    "not placed": (GOOD, replace(FIT, placed=()), "reservation", "unknown", "where it lies can't be seen", ""),
    "load_disabled": (
        boot(load_disabled=True, crash_loaded=False), FIT, "loading", "bad", "kexec_load_disabled is 1", "reboot"
    ),
    "load_disabled, loaded": (boot(load_disabled=True), FIT, "loading", "note", "what is loaded stays", ""),
    "lockdown": (
        boot(lockdown="integrity", crash_loaded=False),
        replace(FIT, surroundings=Surroundings(firmware=Firmware(secure_boot=True))), "loading", "note",
        "locked down (integrity, as with Secure Boot): only a signed kernel", "sign the capture kernel",
    ),
    "lockdown, loaded": (boot(lockdown="integrity"), FIT, "loading", "ok", "took what is loaded", ""),
    "KEXEC_SIG_FORCE": (
        boot(crash_loaded=False), options(KEXEC_SIG_FORCE="y"), "loading", "note", "CONFIG_KEXEC_SIG_FORCE is on",
        "sign"
    ),
    "Secure Boot": (
        GOOD, replace(FIT, surroundings=Surroundings(firmware=Firmware(secure_boot=True))), "loading", "ok",
        "Secure Boot on", "",
    ),
    "broken kernel": (
        replace(GOOD, kernels=(*GOOD.kernels, kernel("9.9", problem="/v: not a bzImage"))), FIT, "kernel", "bad",
        "/v: not a bzImage", "reinstall linux",
    ),
    "no kernel": (replace(GOOD, kernels=()), FIT, "problem", "bad", "no kernel", ""),
    "no target": (replace(GOOD, targets=(target(problem="no disk"),)), FIT, "problem", "bad", "no disk", ""),
    "one target of two": (
        replace(GOOD, targets=(target(), target(problem="no disk; plug it in"))), FIT, "target", "bad", "no disk", ""
    ),
    "full": (
        GOOD, replace(FIT, spaces={"root": Space(100 << 20, 5 << 20)}), "target", "todo",
        "no room: 5120 MiB are free, and 5%",
        "free some space",
    ),
    "nearly full": (
        boot(memory_total=64 * GIB), replace(FIT, spaces={"root": Space(100 << 20, 6 << 20)}), "target", "note",
        "little room: 1024 MiB can be used, a dump may take 4096 MiB", "free some space",
    ),
    "key refused": (
        replace(locked(), loaded=replace(LOADED, keys="", wanted="aaaa")), FIT, "encryption", "todo",
        "could not be handed", "kdump-pkg rebuild --force",
    ),
    "passphrase": (locked(key="none"), FIT, "encryption", "note", "the passphrase of aaaa would be asked for", ""),
    "no CRASH_DM_CRYPT": (
        replace(locked(), boot=replace(BOOT, crash_dm_crypt=False)), FIT, "encryption", "note",
        "no CONFIG_CRASH_DM_CRYPT", "",
    ),
    "no derived configuration": (
        replace(GOOD, derived=OwnFile(GOOD.derived.path, None)), FIT, "configuration", "todo", "not there yet",
        "kdump-pkg rebuild",
    ),
    "no preset": (
        replace(GOOD, preset=OwnFile(GOOD.preset.path, None)), FIT, "preset", "todo", "not there yet",
        "kdump-pkg rebuild"
    ),
    "no image": (
        replace(GOOD, image=ImageState(GOOD.image.path, False)), FIT, "image", "todo", "not there yet",
        "kdump-pkg rebuild"
    ),
    "stale image": (replace(GOOD, parts_hash="x"), FIT, "image", "todo", "changed", "kdump-pkg rebuild"),
    "image of root": (
        replace(GOOD, image=ImageState(GOOD.image.path, True, readable=False)), FIT, "image", "unknown", "only root",
        RUN
    ),
    "level": (
        done(facts(kernels=(kernel("7.2.0"),), boot=replace(BOOT, running="7.2.0"))), FIT, "dump level", "note",
        "23:", ""
    ),
    "no debug kernel": (
        replace(GOOD, debug=()), FIT, "debug kernel", "todo", "no debug kernel of", "kdump-pkg rebuild"
    ),
    "nothing loaded": (boot(crash_loaded=False), FIT, "load", "todo", "nothing is loaded", "kdump-pkg rebuild"),
    "other load": (
        replace(GOOD, loaded=Loaded("1", "2", "3", "4", "-s")), FIT, "load", "todo", "another state",
        "kdump-pkg rebuild"
    ),
    "unit": (
        replace(GOOD, units={"kdump.service": False}), FIT, "kdump.service", "todo", "not enabled",
        "systemctl enable --now"
    ),
    "unit, before setup": (
        replace(unreserved(), units={"kdump.service": False}), loaders(lines("rw")), "kdump.service", "todo",
        "not enabled", SETUP,
    ),
    "oops": (GOOD, sysctl(panic_on_oops="0"), "panic", "note", "no crash on oops", "--panic-on-hang"),
    "hard lockup": (GOOD, sysctl(hardlockup_panic="0"), "panic", "note", "no crash on hard lockup", "--panic-on-hang"),
    "soft lockup": (GOOD, sysctl(softlockup_panic="0"), "panic", "note", "no crash on soft lockup", "--panic-on-hang"),
    "hung task": (GOOD, FIT, "panic", "ok", "not on hung task", ""),
    "hung task, too": (
        GOOD, sysctl(hung_task_panic="1"), "panic", "ok",
        "soft lockup; not on hardware NMI, unknown NMI", "",
    ),
    "NMI": (
        GOOD, sysctl(hung_task_panic="1", unknown_nmi_panic="1", panic_on_unrecovered_nmi="1"), "panic", "ok",
        "crash on oops, hard lockup, soft lockup", "",
    ),
    "SysRq": (GOOD, sysctl(sysrq="16"), "sysrq", "note", "Alt+SysRq+C does nothing", "--panic-on-hang"),
    "SysRq forbidden": (GOOD, sysctl(sysrq="0"), "sysrq", "note", "Alt+SysRq+C does nothing", ""),
    "all SysRq": (GOOD, sysctl(sysrq="1"), "sysrq", "ok", "Alt+SysRq+C crashes", ""),
    "never rehearsed": (GOOD, UNREHEARSED, "rehearsal", "note", "never", "kdump-pkg rehearse"),
    "of another image": (
        GOOD, replace(FIT, rehearsed=replace(REHEARSED, fingerprint="x")), "rehearsal", "note",
        "captured, was of another",
        "kdump-pkg rehearse",
    ),
    "of what is to be loaded": (
        replace(GOOD, loaded=Loaded("1", "2", "3", "4", "-s")), FIT, "rehearsal", "note", "another image",
        "kdump-pkg rehearse",
    ),
    "rehearsal failed": (
        GOOD, replace(FIT, rehearsed=replace(REHEARSED, captured=False, reason="no disk")), "rehearsal", "bad",
        "no disk",
        "kdump-pkg rehearse --keep",
    ),
    "rehearsal failed with less": (
        GOOD, replace(FIT, rehearsed=replace(REHEARSED, captured=False, reserved=64 * MIB)), "rehearsal", "note",
        "not captured", "kdump-pkg rehearse",
    ),
    "log alone": (
        GOOD, replace(FIT, last_dump=LastDump("/d", NOON, RELEASE, "dmesg")), "last crash", "note",
        "only its log: /d", ""
    ),
    "damaged": (
        GOOD, replace(FIT, last_dump=LastDump("/d", NOON, RELEASE, "complete", 5, damaged=True)), "last crash", "note",
        "saved, but it is damaged: /d, in 5 s", "kdump-pkg verify /d",
    ),
    "without meta": (
        GOOD, replace(FIT, last_dump=LastDump("/d", NOON, RELEASE, "")), "last crash", "note", "nobody knows", ""
    ),
    "trace": (
        replace(GOOD, traces=(Trace(NOON, RELEASE, "target: x", "record"),)), replace(FIT, last_dump=None),
        "last crash",
        "note", "on 2026-11-23 07:46:54 UTC could not be saved: target: x", "kdump-pkg rehearse --keep",
    ),
    "pending": (
        GOOD, replace(FIT, test=CrashTest("c0ffee00", "a007", NOON, RELEASE)), "crash test", "note",
        "nobody has looked",
        "kdump-pkg collect",
    ),
    "not crashed": (
        GOOD, replace(FIT, test=CrashTest("c0ffee00", "b007", NOON, RELEASE)), "crash test", "note",
        "has not crashed", ""
    ),
    "encrypted": (
        GOOD, replace(FIT, test=CrashTest("c0ffee00", "a", NOON, RELEASE, "saved", "/d", 9, False)), "crash test", "ok",
        "saved, in 9 s; by time and release", "",
    ),
    "lost": (
        GOOD, replace(FIT, test=CrashTest("c0ffee00", "a", NOON, RELEASE, "lost", reason="target: x")), "crash test",
        "bad",
        "c0ffee00 on 2026-11-23 07:46:54 UTC: lost: target: x", "kdump-pkg rehearse --keep",
    ),
    "lost, then rehearsed": (
        GOOD,
        replace(
            FIT, test=CrashTest("c0ffee00", "a", NOON, RELEASE, "lost"), rehearsed=replace(REHEARSED, time=NOON + 9)
        ),
        "crash test", "note", "lost: nothing says why", "kdump-pkg rehearse --keep",
    ),
    "lost, then saved": (
        GOOD,
        replace(
            FIT, test=CrashTest("c0ffee00", "a", NOON, RELEASE, "lost"),
            last_dump=LastDump("/d", NOON + 9, RELEASE, "complete"),
        ),
        "crash test", "note", "lost", "",
    ),
    "variant not built yet": (
        replace(GOOD, variant=VariantState(VariantRecord(followed=True))), FIT, "variant", "note",
        "a build is due: it has not been built yet; until then 6.12.1-arch1-1 captures", "kdump-pkg variant build",
    ),
    "variant in the making": (
        replace(GOOD, variant=VariantState(running=True, progress=Progress("rehearsing"))), FIT, "variant", "note",
        "rehearsing; until then 6.12.1-arch1-1 captures", "",
    ),
    "no debugger": (
        GOOD, replace(FIT, debuggers={}), "debuggers", "note", "neither crash nor drgn is installed", "pacman -S crash"
    ),
    "no debugger for a new kernel": (
        NEWEST, replace(FIT, debuggers={}), "debuggers", "note", "neither crash nor drgn", "pacman -S drgn"
    ),
    "a debugger that is too old": (
        NEWEST, replace(FIT, debuggers={"crash": "9.0.2-1"}), "debuggers", "note",
        "crash 9.0.2 can't open dumps of Linux 7.1 and later", "pacman -S drgn",
    ),
    "one debugger of two": (
        NEWEST, FIT, "debuggers", "ok", "open what is saved; but crash 9.0.2 can't open dumps of Linux 7.1", "",
    ),
    "a debugger that doesn't say its version": (
        NEWEST, replace(FIT, debuggers={"crash": ""}), "debuggers", "ok", "crash opens what is saved", "",
    ),
    "a debugger too old for one of two kernels": (
        facts(kernels=(kernel(), kernel("7.2.0")), boot=BOOT), replace(FIT, debuggers={"crash": "9.0.2-1"}),
        "debuggers", "note", "can't open dumps of Linux 7.1 and later", "pacman -S drgn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_check(name: str) -> None:
    have, health, part, state, text, remedy = FAILURES[name]
    told = status(have, health=health)
    found = [f for f in told.findings if f.part == part and text in f.text]
    assert found, [f"{f.part} {f.state}: {f.text}" for f in told.findings]
    assert [f.state for f in found] == [state]
    assert remedy in (found[0].remedy or "")
    assert state != "bad" or told.todo
    assert state != "todo" or told.todo


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_wrong_is_said_first(name: str) -> None:
    have, health, _, state, _, _ = FAILURES[name]
    told = status(have, health=health)
    if state in ("bad", "todo") and not told.verdict.startswith("armed"):
        first = next(f for f in told.findings if f.state in ("bad", "todo"))
        assert (first.remedy or first.text.splitlines()[0]) in told.verdict


def test_warning_makes_a_crash() -> None:
    found = [f for f in status(GOOD, health=sysctl(panic_on_warn="1")).findings if f.part == "panic"]
    assert [f.state for f in found] == ["ok", "note"]
    assert found[1].remedy == "sysctl kernel.panic_on_warn=0"


def test_kernel_without_a_setting() -> None:
    """A virtual machine has no hardlockup_panic; that is nobody's fault."""
    have = {name: value for name, value in SYSCTLS.items() if name != "kernel.hardlockup_panic"}
    found = finding(GOOD, "panic", replace(FIT, sysctls=have))
    assert (found.state, found.text.partition(";")[0]) == ("ok", "crash on oops, soft lockup")


def test_other_kernel_captures() -> None:
    """What the capture kernel needs for itself isn't asked of another one that happens to run."""
    have = replace(GOOD, boot=replace(BOOT, running="6.1.0"))
    found = finding(have, "kernel configuration", options(PROC_VMCORE="n"))
    assert found.state == "ok"


@pytest.mark.parametrize(
    ("release", "tool", "said"),
    [
        ("6.17.8-arch1-1", "1.7.8-1", None),
        ("6.18.0", "1:1.7.8-1", "makedumpfile 1.7.8 was made for Linux up to 6.17"),
        ("7.0.3", "1.7.9-1", None),
        ("7.1.0", "1.7.9-1", "up to 7.0"),
        ("9.0", "1.8.0-1", None),
        ("9.0", None, None),
    ],
)
def test_kernel_newer_than_makedumpfile_knows(release: str, tool: str | None, said: str | None) -> None:
    found = beyond(release, tool)
    assert (found is None) == (said is None)
    assert (said or "") in (found or "")


def test_newer_kernel_is_a_note() -> None:
    tools = facts().tools | {"makedumpfile": "1.7.8-1"}
    have = done(facts(kernels=(kernel("6.18.0"),), boot=replace(BOOT, running="6.18.0"), tools=tools))
    found = [f for f in status(have).findings if f.part == "dump level"]
    assert [(f.state, f.evidence) for f in found] == [("ok", ""), ("note", "makedumpfile 1.7.8-1")]
    assert found[1].remedy is not None


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "health", "verdict"),
    [
        pytest.param(
            replace(facts(), boot=unreserved().boot), loaders(lines("rw"), last_dump=None),
            "not armed: no crashkernel= in the configuration of systemd-boot, next: kdump-pkg setup", id="fresh",
        ),
        pytest.param(
            unreserved(), FIT,
            "not armed: systemd-boot has crashkernel=192M, which this boot doesn't have yet, next: reboot", id="reboot",
        ),
        pytest.param(
            facts(boot=BOOT), FIT,
            "not armed: /etc/mkinitcpio-kdump.conf: not there yet, next: kdump-pkg rebuild", id="nothing built",
        ),
        pytest.param(
            replace(GOOD, loaded=Loaded("1", "2", "3", "4", "-s")), FIT,
            "a capture kernel is loaded, but not the one asked for: what is loaded is of another state, "
            "next: kdump-pkg rebuild", id="other",
        ),
        pytest.param(
            GOOD, replace(FIT, rehearsed=replace(REHEARSED, captured=False, reason="no disk")),
            "loaded, but a crash now would hardly be saved: rehearsal: not captured on 2026-11-23 07:46:54 UTC: "
            "no disk, next: kdump-pkg rehearse --keep DIR, and read the console log in it", id="refuted",
        ),
    ],
)  # fmt: skip
def test_verdict(have: Facts, health: Health, verdict: str) -> None:
    found = status(have, health=health)
    assert (found.verdict, found.armed, found.todo) == (verdict, False, True)


def test_what_only_root_can_see_is_not_guessed() -> None:
    """The record of what is loaded may be for root alone: that is no reason to call for a rebuild."""
    found = status(replace(GOOD, loaded=None), health=replace(FIT, privileged=False))
    assert found.armed is None
    assert found.verdict == "a capture kernel is loaded; whether it is the right one, only root can see"
    assert [f.state for f in found.findings if f.part == "load"] == ["unknown"]
    assert not found.todo
    assert status(replace(GOOD, loaded=None)).verdict.endswith("what is loaded isn't ours, next: kdump-pkg rebuild")


@pytest.mark.parametrize("name", ["too few", "lost", "rehearsal failed"])
def test_what_would_fail_is_not_armed(name: str) -> None:
    have, health, *_ = FAILURES[name]
    found = status(have, health=health)
    assert found.armed is False
    assert found.verdict.startswith("loaded, but a crash now would hardly be saved: ")


@pytest.mark.parametrize("change", [lambda f: replace(f, kernels=()), lambda f: f], ids=["no kernel", "all"])
def test_nobody_has_looked(change: Callable[[Facts], Facts]) -> None:
    """Without a look at the machine's health nothing of it is invented."""
    found = status(change(GOOD), health=Health())
    assert {f.state for f in found.findings if f.part in ("reservation", "loading")} == {"ok"}
    assert not [f for f in found.findings if f.part in ("panic", "sysrq", "last crash", "crash test", "privileges")]


# --- what was so before ----------------------------------------------------------------------------------------------


def test_user_owned_file_shows_the_difference_and_is_no_todo() -> None:
    have = replace(GOOD, preset=OwnFile(GOOD.preset.path, b"PRESETS=('mine')\nkdump_kver=1\nkdump_image=/x\n", False))
    found = finding(have, "preset")
    assert found.state == "note"
    assert "is user-owned and differs" in found.text
    assert "-PRESETS=('mine')" in found.text
    assert "+PRESETS=('kdump')" in found.text
    assert not status(have).todo


def test_level_below_31_says_why() -> None:
    have = done(facts(kernels=(kernel("7.2.0"),), boot=replace(BOOT, running="7.2.0")))
    found = [f for f in status(have).findings if f.part == "dump level"]
    assert [(f.state, f.text[:3]) for f in found] == [("note", "23:")]
    assert "makedumpfile 1.7.9" in found[0].text


def test_problem_of_a_kernel_is_said_once() -> None:
    have = facts(kernels=(kernel(problem="/v: not a bzImage kernel"),))
    texts = [f.text for f in status(have).findings if "/v: not a bzImage kernel" in f.text]
    assert len(texts) == 1


def test_missing_reservation_is_said_once() -> None:
    found = status(unreserved(), health=loaders(lines("rw"))).findings
    assert [f.part for f in found if "no memory is reserved" in f.text] == ["reservation"]
    assert not [f for f in found if f.part == "problem"]


def test_confined_knows_nothing_of_the_load() -> None:
    have = done(facts(boot=live_boot(confined="in a chroot", crash_loaded=None, crash_size=None)))
    found = status(have, health=loaders(LOADER))
    assert found.armed is None
    assert not found.todo
    assert found.verdict == "everything is ready to be loaded (in a chroot, where nothing is ever loaded)"
    assert not {"reservation", "loading", "kernel configuration"} & {f.part for f in found.findings}


def test_confined_sees_the_boot_loader() -> None:
    have = done(facts(boot=live_boot(confined="in a chroot", crash_loaded=None, crash_size=None)))
    found = status(have, health=loaders(lines("rw")))
    assert found.verdict.startswith("not ready (in a chroot, where nothing is ever loaded), next: kdump-pkg setup")


def test_older_call_is_named() -> None:
    assert GOOD.loaded is not None
    have = replace(GOOD, loaded=replace(GOOD.loaded, method="-c"))
    assert finding(have, "load").text.endswith("by kexec_load")


def test_others_debug_kernel_is_named_as_such() -> None:
    have = replace(GOOD, debug=(DebugKernel(kernel().release, "/x", None, "unknown", recorded=False),))
    assert finding(have, "debug kernel").text.endswith("not ours")


def test_image_size() -> None:
    image = ImageState(GOOD.image.path, True, GOOD.image.fingerprint, 8_400_000)
    assert "8.4 MB, direct by mkinitcpio" in finding(replace(GOOD, image=image), "image").text


def test_bad_configuration() -> None:
    found = bad_config_status(("/etc/kdump-pkg.conf:1: a", "/etc/kdump-pkg.conf:2: b"))
    assert [f.text for f in found.findings] == ["/etc/kdump-pkg.conf:1: a", "/etc/kdump-pkg.conf:2: b"]
    assert found.todo
    assert found.armed is None


def test_the_loader_of_these_tests_is_read_as_a_real_one_would_be() -> None:
    places = [stretch for line in LOADER.lines for stretch in line.stretches]
    assert [one.value for place in places for one in find(LOADER.data(place.path), place)] == ["192M", "192M"]


def test_what_the_user_wrote_does_nothing_to_the_terminal() -> None:
    """The difference to a file that somebody edited is shown, whatever is in it."""
    edited = OwnFile(GOOD.derived.path, b"HOOKS=(base kdump)\n# \x1b[2J\n", pristine=False)
    said = finding(replace(GOOD, derived=edited), "configuration").text
    assert "-# \\x1b[2J" in said
    assert "\x1b" not in said


ARRIVED = Sent("crashes:b", "host/unknown/one", "/d/one", {}, "reports")
WANTED = replace(DEFAULTS, upload=UploadWish("crashes:b"))


@pytest.mark.parametrize(
    ("health", "state", "text", "remedy"),
    [
        (replace(FIT, dumps=("/d/one",), uploads=Record({"one": ARRIVED})), "ok", "all of 1 dumps have arrived", None),
        (
            replace(FIT, dumps=("/d/one", "/d/two"), uploads=Record({"one": ARRIVED})), "note",
            "1 of 2 dumps have not arrived yet", "kdump-pkg upload",
        ),
        (
            replace(FIT, dumps=("/d/two",), uploads=Record(failure=Failure(NOON, "no such bucket", "make it"))), "note",
            "1 of 1 dumps have not arrived yet: no such bucket", "make it",
        ),
    ],
)  # fmt: skip
def test_what_is_to_be_sent(health: Health, state: str, text: str, remedy: str | None) -> None:
    found = plan_status(WANTED, GOOD, plan_rebuild(WANTED, GOOD), health).findings
    assert [(f.state, f.text, f.remedy) for f in found if f.part == "upload"] == [(state, text, remedy)]
    assert not [f for f in status(GOOD, health=health).findings if f.part == "upload"]  # nothing is wanted there
