"""What a report reads of the machine: pacman's log, the packages of modules, the files of a dump."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg.context import Context
from kdump_pkg.facts import alpm, crashed, owners, pacman_log
from kdump_pkg.model.evidence import Change, Source
from tests.fakes import RELEASE, FakeRunner, Hole, Link, kernel_tree, make_tree, pacman_db
from tests.reports_made import ENTRY

FAR = 1 << 40
LOG = b"""\
[2011-01-02 03:04] installed old (1.0-1)
[2019-01-02 03:04] [ALPM] upgraded linux (4.19.1.arch1-1 -> 4.20.0.arch1-1)
[2019-01-02 03:04] [PACMAN] Running 'pacman -Syu'
[2025-11-20T07:00:00+0100] [ALPM] upgraded linux (6.17.7.arch1-2 -> 6.17.8.arch1-1)
[2025-11-20T07:00:01+0100] [ALPM] reinstalled mesa (1:25.2.7-1)
[2025-11-20T07:00:02+0100] [ALPM-SCRIPTLET] upgraded linux (1-1 -> 2-1)
[2025-11-20T07:00:03+0100] [ALPM] downgraded gtk4 (1:4.20-1 -> 1:4.18-1)\r
[2025-11-20T07:00:04+0100] [ALPM] removed nano (8.7-1)
[2025-11-20T07:00:05+0100] [ALPM] warning: /etc/x installed as /etc/x.pacnew
[2025-13-20T07:00:05+0100] [ALPM] installed never (1-1)
[2025-11-21T07:00:05+0000] [ALPM] installed later (1-1)"""


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def changes(root: Path, log: bytes | Link | Hole | None, before: int = FAR) -> tuple[Change, ...]:
    make_tree(root, {"/var/log/pacman.log": log} if log is not None else {})
    return pacman_log.read_changes(Context(root=root), before)


def test_pacmans_log(root: Path, utc: None) -> None:
    at = 1_763_618_400
    assert changes(root, LOG) == (
        Change("later", "installed", "1-1", "", 1_763_708_405),
        Change("nano", "removed", "8.7-1", "", at + 4),
        Change("gtk4", "downgraded", "1:4.18-1", "1:4.20-1", at + 3),
        Change("mesa", "reinstalled", "1:25.2.7-1", "", at + 1),
        Change("linux", "upgraded", "6.17.8.arch1-1", "6.17.7.arch1-2", at),
        Change("linux", "upgraded", "4.20.0.arch1-1", "4.19.1.arch1-1", 1_546_398_240),
        Change("old", "installed", "1.0-1", "", 1_293_937_440),
    )


def test_what_came_after_the_crash_is_not_seen(root: Path, utc: None) -> None:
    assert changes(root, LOG, 1_763_618_400)[0].package == "linux"
    assert changes(root, LOG, 1_763_618_399)[0].version == "4.20.0.arch1-1"


@pytest.mark.parametrize("size", [1, 7, 64, 100, 4096])
def test_the_pieces_it_is_read_in_make_no_difference(root: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    whole = changes(root, LOG)
    monkeypatch.setattr(pacman_log, "PIECE", size)
    found = pacman_log.read_changes(Context(root=root), FAR)
    assert found == (whole if size >= 100 else found)  # a line longer than a piece may be lost, and nothing made up
    assert set(found) <= set(whole)


def test_only_the_end_of_a_large_log_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacman_log, "LARGEST", 400)
    assert [c.package for c in changes(root, LOG)] == ["later", "nano", "gtk4"]


def test_a_log_elsewhere(root: Path) -> None:
    make_tree(root, {"/etc/pacman.conf": "[options]\n#LogFile = /no\nLogFile = /srv/log\n", "/srv/log": LOG})
    assert len(changes(root, None)) == 7


@pytest.mark.parametrize(
    "log",
    [None, b"", b"\n\n", b"\xff\x00" * 4096, b"[" * 100_000, Link("/dev/zero"), Link("pacman.log"), Hole(1 << 31)],
)
def test_a_log_that_is_none(root: Path, log: bytes | Link | Hole | None) -> None:
    assert changes(root, log) == ()


def test_a_log_that_is_a_pipe(root: Path) -> None:
    make_tree(root, {"/var/log": None})
    os.mkfifo(root / "var/log/pacman.log")
    assert changes(root, None) == ()


def test_the_number_of_changes_is_bounded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacman_log, "MOST", 3)
    assert len(changes(root, LOG)) == 3


# --- packages ---

HOME = f"/usr/lib/modules/{RELEASE}"
DKMS_CONF = 'PACKAGE_NAME="nvidia"\nBUILT_MODULE_NAME[0]="nvidia"\nBUILT_MODULE_NAME[1]=\'nvidia-drm\'\n'


def system(root: Path) -> Context:
    tree = kernel_tree()
    tree[f"{HOME}/modules.dep"] = (
        "kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst:\nupdates/dkms/nvidia-drm.ko.zst:\nextramodules/vboxdrv.ko.zst:\n"
    )
    tree[f"{HOME}/updates/fresh-one.ko"] = b""
    tree["/usr/src/nvidia-580/dkms.conf"] = DKMS_CONF
    tree["/usr/src/other-1/dkms.conf"] = b"\xff\xfe"
    packages = {
        "linux": ("6.12.1.arch1-1", (f"{HOME}/vmlinuz", f"{HOME}/kernel/drivers/gpu/drm/nouveau/nouveau.ko.zst")),
        "nvidia-dkms": ("580-1", ("/usr/src/nvidia-580/", "/usr/src/nvidia-580/dkms.conf")),
        "virtualbox-modules": ("7.2-3", (f"{HOME}/extramodules/vboxdrv.ko.zst",)),
        "broadcom-wl": ("6.30-9", ("/usr/lib/modules/6.12.2-arch1-1/extramodules/wl.ko.zst",)),
    }
    make_tree(root, {**tree, **pacman_db(packages)})
    return Context(root=root, runner=FakeRunner())


def broken(ctx: Context) -> object:
    raise ImportError("no pyalpm")


@pytest.fixture(params=["pyalpm", "files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pyalpm":
        pytest.importorskip("pyalpm", reason="pyalpm is not installed")
    else:
        monkeypatch.setattr(alpm, "_Alpm", broken)
    return str(request.param)


MODULES = ("nouveau", "nvidia_drm", "vboxdrv", "wl", "nobodys", "fresh_one")


def test_sources(root: Path, way: str) -> None:
    assert owners.read_sources(system(root), RELEASE, MODULES, ("nvidia_drm", "wl")) == {
        "": Source("linux", "6.12.1.arch1-1"),
        "nouveau": Source("linux", "6.12.1.arch1-1"),
        "nvidia_drm": Source("nvidia-dkms", "580-1", out_of_tree=True),
        "vboxdrv": Source("virtualbox-modules", "7.2-3", out_of_tree=True),
        "wl": Source("broadcom-wl", "6.30-9", out_of_tree=True),
    }


def test_a_name_that_is_no_utf8(root: Path, way: str) -> None:
    ctx = system(root)
    make_tree(root, pacman_db({"odd": ("1-1", ("/usr/share/\udcff\udcfe",))}))
    assert owners.read_sources(ctx, RELEASE, MODULES, ())["nouveau"] == Source("linux", "6.12.1.arch1-1")


def test_a_walk_that_pyalpm_breaks_off(root: Path) -> None:
    """What its files say is said all the same."""
    pytest.importorskip("pyalpm", reason="pyalpm is not installed")
    packages = alpm.open_packages(system(root))
    assert isinstance(packages, alpm._Alpm)
    packages._db = None
    image = f"{HOME}/vmlinuz"
    assert packages.owners(lambda path: path == image) == {image: "linux"}


def test_a_release_that_is_gone(root: Path, way: str) -> None:
    """Only modules from elsewhere can be found then: those of the kernel were in the package that is gone."""
    assert owners.read_sources(system(root), "6.12.0-arch1-1", MODULES, ("nvidia_drm", "wl")) == {
        "nvidia_drm": Source("nvidia-dkms", "580-1", out_of_tree=True),
        "wl": Source("broadcom-wl", "6.30-9", out_of_tree=True),
    }


@pytest.mark.parametrize("release", ["", "..", "../../../etc", "6.1\n", "x" * 500, "a/b"])
def test_a_release_that_is_none(root: Path, release: str) -> None:
    assert owners.read_sources(system(root), release, MODULES, ()) == {}


def test_names_of_modules_are_not_believed(root: Path) -> None:
    assert set(owners.read_sources(system(root), RELEASE, ("../x", "a b", "\n", "nouveau", ""), ("../x",))) == {
        "",
        "nouveau",
    }


def test_without_a_database(root: Path) -> None:
    make_tree(root, kernel_tree())
    assert owners.read_sources(Context(root=root), RELEASE, MODULES, ("wl",)) == {}


# --- the files of a dump ---

HERE = f"/var/crash/{ENTRY.id}"


def test_log_and_report_are_read_as_files_only(root: Path) -> None:
    ctx = Context(root=root)
    make_tree(root, {f"{HERE}/dmesg.txt": b"words", f"{HERE}/report.json": b"{}"})
    assert crashed.read_log(ctx, ENTRY) == b"words"
    assert crashed.read_report(ctx, ENTRY) == b"{}"
    assert crashed.read_report(ctx, replace(ENTRY, maker="Debian")) is None
    assert crashed.read_log(ctx, replace(ENTRY, log="")) is None
    assert crashed.read_log(ctx, replace(ENTRY, log=f"{HERE}/gone")) is None
    assert crashed.read_log(ctx, replace(ENTRY, log="not absolute")) is None


def test_a_link_is_not_followed_and_a_pipe_is_not_waited_for(root: Path) -> None:
    make_tree(root, {"/etc/shadow": b"secret", f"{HERE}/dmesg.txt": Link("/etc/shadow")})
    os.mkfifo(root / HERE[1:] / "report.json")
    ctx = Context(root=root)
    assert crashed.read_log(ctx, ENTRY) is None
    assert crashed.read_report(ctx, ENTRY) is None


def test_sizes_are_bounded(root: Path) -> None:
    make_tree(root, {f"{HERE}/dmesg.txt": Hole(1 << 34), f"{HERE}/report.json": Hole(1 << 34)})
    ctx = Context(root=root)
    log = crashed.read_log(ctx, ENTRY)
    assert log is not None and len(log) == crashed.LOG_TAIL
    assert crashed.read_report(ctx, ENTRY) is None


def test_meta(root: Path) -> None:
    ctx = Context(root=root)
    assert crashed.read_meta(ctx, ENTRY) == {}
    make_tree(root, {f"{HERE}/meta": "format=1\nin_a_row=3\n"})
    assert crashed.read_meta(ctx, ENTRY)["in_a_row"] == "3"
    assert crashed.read_meta(ctx, replace(ENTRY, maker="Fedora")) == {}


def test_the_cache(root: Path) -> None:
    names = (
        "linux-6.1-1-x86_64.pkg.tar.zst",
        "linux-lts-6.1-1-x86_64.pkg.tar.zst",
        "linux-6.1-1-x86_64.pkg.tar.zst.sig",
    )
    make_tree(root, {f"/var/cache/pacman/pkg/{name}": b"" for name in (*names, "download-x", "-")})
    assert crashed.read_cached(Context(root=root), {"linux"}) == (f"/var/cache/pacman/pkg/{names[0]}",)


def test_the_machine(root: Path) -> None:
    dmi = "/sys/class/dmi/id"
    tree = {f"{dmi}/sys_vendor": "LENOVO\n", f"{dmi}/product_name": "21CB\n", f"{dmi}/bios_version": "1.47\n"}
    make_tree(
        root, {**tree, "/proc/cpuinfo": "processor\t: 0\nmodel name\t: A CPU\nmicrocode\t: 0x1\n\nprocessor\t: 1\n"}
    )
    assert crashed.read_machine(Context(root=root)) == (
        ("machine", "LENOVO 21CB"), ("firmware", "1.47"), ("processor", "A CPU"), ("microcode", "0x1"),
    )  # fmt: skip
    assert crashed.read_machine(Context(root=root / "nowhere")) == ()


def test_the_log_out_of_the_memory(root: Path, tmp_path: Path) -> None:
    make_tree(root, {f"{HERE}/vmcore": b"KDUMP"})

    def dumping(call: object) -> int:
        (tmp_path / "dmesg.txt").write_bytes(b"words")
        return 0

    runner = FakeRunner({"prlimit": dumping})
    ctx = Context(root=root, runner=runner)
    assert crashed.make_dmesg(ctx, ENTRY, tmp_path) == b"words"
    assert runner.calls[0].argv[-4:] == (
        "makedumpfile",
        "--dump-dmesg",
        str(root / HERE[1:] / "vmcore"),
        f"{tmp_path}/dmesg.txt",
    )
    (tmp_path / "dmesg.txt").unlink()
    assert crashed.make_dmesg(replace(ctx, runner=FakeRunner({"prlimit": 1})), ENTRY, tmp_path) is None
    assert crashed.make_dmesg(replace(ctx, runner=FakeRunner()), ENTRY, tmp_path) is None
    assert crashed.make_dmesg(ctx, replace(ENTRY, vmcore=f"{HERE}/none"), tmp_path) is None
