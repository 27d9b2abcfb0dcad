"""Facts of the running kernel, and when they are nobody's business."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.facts import boot
from kdump_pkg.facts.boot import read_boot
from kdump_pkg.model import Boot, Watchdog
from tests.fakes import Entry, FakeRunner, Link, LiveContext, make_tree

OLD_NAMES = {"/sys/kernel/kexec_crash_loaded": "1\n", "/sys/kernel/kexec_crash_size": "268435456\n"}
NEW_NAMES = {"/sys/kernel/kexec/crash_loaded": "1\n", "/sys/kernel/kexec/crash_size": "268435456\n"}
LOCKDOWN = "/sys/kernel/security/lockdown"


@pytest.fixture
def live(root: Path, monkeypatch: pytest.MonkeyPatch) -> LiveContext:
    """A root that looks like the running system."""
    make_tree(
        root,
        {
            "/proc/1/root": Link("/"),
            "/proc/1/environ": "HOME=/\0TERM=linux\0",
            "/proc/self/ns/pid": "",
            "/proc/sys/kernel/osrelease": "6.12.1-arch1-1\n",
            "/proc/cmdline": "root=/dev/sda1 crashkernel=256M\n",
            "/proc/meminfo": "MemTotal:        1012345 kB\nMemFree: 1 kB\n",
            "/sys/kernel": None,
        },
    )
    monkeypatch.setattr(boot, "INITIAL_PID_NAMESPACE", (root / "proc/self/ns/pid").stat().st_ino)
    return LiveContext(root=root, runner=FakeRunner())


def read(live: LiveContext, entries: dict[str, Entry] | dict[str, str]) -> Boot:
    make_tree(live.root, dict(entries))
    return read_boot(live)


def test_what_every_kernel_tells(live: LiveContext) -> None:
    found = read_boot(live)
    assert found == Boot(
        running="6.12.1-arch1-1", cmdline="root=/dev/sda1 crashkernel=256M", memory_total=1012345 * 1024, efi=False
    )


CRYPT = b"CONFIG_X=y\nCONFIG_CRASH_DM_CRYPT=y\n"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param({}, None, id="nothing says it"),
        pytest.param({"/sys/kernel/config/crash_dm_crypt_keys": None}, True, id="configfs"),
        pytest.param({"/proc/config.gz": gzip.compress(CRYPT)}, True, id="built with it"),
        pytest.param({"/proc/config.gz": gzip.compress(b"\n# CONFIG_CRASH_DM_CRYPT is not set\n")}, False, id="off"),
        pytest.param({"/proc/config.gz": gzip.compress(CRYPT)[:-9]}, None, id="cut short"),
        pytest.param({"/proc/config.gz": b"nonsense"}, None, id="no gzip"),
        pytest.param({"/boot/config-6.12.1-arch1-1": CRYPT}, True, id="beside the kernel"),
    ],
)
def test_whether_keys_are_handed_over(live: LiveContext, entries: dict[str, Entry], expected: bool | None) -> None:
    assert read(live, entries).crash_dm_crypt is expected


def test_efi(live: LiveContext) -> None:
    variables: dict[str, Entry] = {"/sys/firmware/efi/efivars": None}
    assert read(live, variables).efi


DOG = "/sys/class/watchdog/watchdog1"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({f"{DOG}/state": "inactive", f"{DOG}/device": None}, None, id="not running"),
        pytest.param({f"{DOG}/state": "active"}, None, id="software"),
        pytest.param(
            {
                f"{DOG}/state": "active", f"{DOG}/timeout": "30",
                f"{DOG}/device/driver/module": Link("/sys/module/iTCO-wdt"), "/sys/module/iTCO-wdt": None,
            },
            Watchdog("/dev/watchdog1", "iTCO_wdt", 30), id="running",
        ),
        pytest.param(
            {f"{DOG}/state": "active", f"{DOG}/timeout": "x", f"{DOG}/device/driver": None},
            Watchdog("/dev/watchdog1", "", 0), id="built in",
        ),
    ],
)  # fmt: skip
def test_watchdog(live: LiveContext, entries: dict[str, Entry], expected: Watchdog | None) -> None:
    assert read(live, entries).watchdog == expected


@pytest.mark.parametrize("names", [OLD_NAMES, NEW_NAMES, OLD_NAMES | NEW_NAMES], ids=["old", "new", "both"])
def test_both_generations_of_sysfs(live: LiveContext, names: dict[str, str]) -> None:
    found = read(live, names)
    assert (found.crash_loaded, found.crash_size) == (True, 256 << 20)


def test_the_new_name_counts_more(live: LiveContext) -> None:
    assert read(live, OLD_NAMES | {"/sys/kernel/kexec/crash_loaded": "0"}).crash_loaded is False


@pytest.mark.parametrize("text", ["", "yes", "-1", "0x10", "\xff"])
def test_nonsense_in_sysfs_is_unknown(live: LiveContext, text: str) -> None:
    found = read(live, dict.fromkeys(NEW_NAMES, text))
    assert (found.crash_loaded, found.crash_size) == (None, None)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("[none] integrity confidentiality", "none"),
        ("none [integrity] confidentiality", "integrity"),
        ("none integrity [confidentiality]", "confidentiality"),
        ("", None),
    ],
)
def test_lockdown(live: LiveContext, text: str, state: str | None) -> None:
    assert read(live, {LOCKDOWN: text}).lockdown == state


@pytest.mark.parametrize(("text", "state"), [("0\n", False), ("1\n", True), ("2\n", None), ("", None)])
def test_load_disabled(live: LiveContext, text: str, state: bool | None) -> None:
    assert read(live, {"/proc/sys/kernel/kexec_load_disabled": text}).load_disabled is state


def test_another_root_is_not_the_running_system(ctx: Context, root: Path) -> None:
    make_tree(root, {**NEW_NAMES, "/proc/cmdline": "host", "/proc/sys/kernel/osrelease": "host"})
    found = read_boot(ctx)
    assert found == Boot(confined=f"{root} is not the running system")


def chroot(live: LiveContext) -> None:
    (live.root / "proc/1/root").unlink()
    make_tree(live.root, {"/elsewhere": None, "/proc/1/root": Link("/elsewhere")})


def no_proc(live: LiveContext) -> None:
    (live.root / "proc/1/root").unlink()


def namespace(live: LiveContext) -> None:
    boot.INITIAL_PID_NAMESPACE += 1  # put back by the fixture's monkeypatch


def marked(name: str, text: str) -> object:
    return lambda live: make_tree(live.root, {name: text})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(chroot, "in a chroot", id="chroot"),
        pytest.param(no_proc, "in a chroot without /proc", id="no proc"),
        pytest.param(namespace, "container", id="PID namespace"),
        pytest.param(marked("/run/systemd/container", "lxc"), "in a container", id="systemd"),
        pytest.param(marked("/run/host/container-manager", "x"), "in a container", id="manager"),
        pytest.param(marked("/proc/1/environ", "container=podman\0A=b\0"), "in a container", id="environment"),
        pytest.param(marked("/proc/1/environ", "A=b\0container=x\0"), "in a container", id="environment, second"),
    ],
)
def test_confined(live: LiveContext, change: object, reason: str) -> None:
    assert read_boot(live).confined is None
    assert callable(change)
    change(live)
    found = read(live, NEW_NAMES)
    assert reason in (found.confined or "")
    assert (found.crash_loaded, found.crash_size, found.running) == (None, None, None)


def test_no_container_of_a_similar_name(live: LiveContext) -> None:
    assert read(live, {"/proc/1/environ": "mycontainer=1\0X=container=2\0"}).confined is None


@pytest.mark.parametrize(("user", "confined"), [(1000, False), (0, True)])
def test_who_can_not_look(live: LiveContext, monkeypatch: pytest.MonkeyPatch, user: int, confined: bool) -> None:
    """/proc/1/root is root's: an ordinary user can't load either; root that can't look there is not the host's."""
    real, forbidden = Path.stat, live.path("/proc/1/root/.")
    assert forbidden == live.root  # where the link leads

    def stat(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self == forbidden and follow_symlinks:
            raise PermissionError
        return real(self, follow_symlinks=follow_symlinks)

    make_tree(live.root, NEW_NAMES)
    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert (read_boot(live).confined is not None) is confined


@pytest.mark.parametrize(
    ("entries", "cmdline"),
    [
        ({}, None),
        ({"/etc/kernel/cmdline": "root=UUID=1 rw\n"}, "root=UUID=1 rw"),
        ({"/etc/kernel/cmdline": "# why\nroot=1\nrw\n", "/usr/lib/kernel/cmdline": "x"}, "root=1 rw"),
        ({"/usr/lib/kernel/cmdline": "vendor"}, "vendor"),
        ({"/etc/kernel/cmdline": "", "/usr/lib/kernel/cmdline": "vendor"}, "vendor"),
    ],
)
def test_command_line_of_a_root_that_does_not_run(ctx: Context, entries: dict[str, Entry], cmdline: str | None) -> None:
    make_tree(ctx.root, entries)
    assert read_boot(ctx).cmdline == cmdline
