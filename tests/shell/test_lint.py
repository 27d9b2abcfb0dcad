"""Every shell script parses in the shells it must run under, and shellcheck and systemd have nothing against them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import REPO, SHELLS

PARTS = sorted(str(path.relative_to(REPO)) for path in (REPO / "hooks/save").glob("*.sh"))
POSIX = [*PARTS, "hooks/kdump", "hooks/kdump-init", "hooks/kdump-save", "hooks/alpm/kdump-pkg", "hooks/dracut/kdump.sh",
         "hooks/dracut/kdump-root.sh", "hooks/notify"]  # fmt: skip
BASH = ["install/kdump", "install/sd-kdump", "hooks/dracut/module-setup.sh"]
RUN_DIRECTLY = ["hooks/kdump-init", "hooks/kdump-save", "hooks/alpm/kdump-pkg", "hooks/dracut/kdump.sh",
                "hooks/dracut/kdump-root.sh", "hooks/dracut/module-setup.sh", "hooks/notify"]  # fmt: skip
UNITS = sorted((REPO / "systemd").glob("*.service"))


def test_nothing_is_forgotten() -> None:
    here = {str(path.relative_to(REPO)) for top in ("hooks", "install") for path in (REPO / top).rglob("*")
            if path.is_file() and path.suffix != ".hook"}  # fmt: skip
    assert here == {*POSIX, *BASH}


@pytest.mark.parametrize("script", [*POSIX, *BASH])
def test_shellcheck(script: str) -> None:
    need("shellcheck")
    dialect = "bash" if script in BASH else "sh"
    done = subprocess.run(
        ["shellcheck", "--external-sources", f"--shell={dialect}", script],
        cwd=REPO, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("script", POSIX)
def test_parses(script: str, shell: str) -> None:
    need(SHELLS[shell][0])
    subprocess.run([*SHELLS[shell], "-n", str(REPO / script)], check=True)


@pytest.mark.parametrize("script", RUN_DIRECTLY)
def test_executable(script: str) -> None:
    assert (REPO / script).stat().st_mode & 0o111


@pytest.mark.parametrize("script", PARTS)
def test_what_is_sourced_is_not_run(script: str) -> None:
    assert not (REPO / script).stat().st_mode & 0o111
    assert not (REPO / script).read_text().startswith("#!")


def settings_of(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_unit_is_verified_by_systemd(unit: Path) -> None:
    need("systemd-analyze")
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line and "is not executable" not in line]
    assert [line for line in complaints if "man" not in line] == []


@pytest.mark.parametrize("name", ["kdump-capture", "kdump-save"])
def test_a_capture_unit_never_hangs_and_never_runs_without_a_crash(name: str) -> None:
    unit = settings_of(REPO / f"systemd/{name}.service")
    assert unit["ConditionPathExists"] == ["/proc/vmcore"]
    assert unit["FailureAction"] == ["reboot-force"] and unit["JobTimeoutAction"] == ["reboot-force"]
    assert unit["JobTimeoutSec"], "what comes before it may hang"
    assert unit["IgnoreOnIsolate"] == ["yes"], "or emergency.target would end the capture"
    assert not [key for key in unit if key.startswith("Assert")], "an assertion that fails is no failure: no reboot"


def test_kdump_save_keeps_the_configured_limit_itself() -> None:
    capture, system = (settings_of(REPO / f"systemd/{name}.service") for name in ("kdump-capture", "kdump-save"))
    assert (capture["Type"], capture["TimeoutStartSec"]) == (["oneshot"], ["infinity"])
    assert system["Type"] == ["exec"], "its job is done as soon as it runs, and with it the job's limit"
    assert "RuntimeMaxSec" not in system


def test_arming_unit() -> None:
    unit = settings_of(REPO / "systemd/kdump.service")
    assert unit["ExecStart"] == ["/usr/bin/kdump-pkg rebuild"] and unit["ExecStop"] == ["/usr/bin/kdump-pkg unload"]
    assert unit["ConditionVirtualization"] == ["!container"]
    assert unit["ConditionKernelCommandLine"] == ["crashkernel"]
    assert unit["KeyringMode"] == ["shared"], "the kernel looks for volume keys in root's user keyring"
    assert not {"ProtectKernelTunables", "PrivateDevices", "RestrictAddressFamilies"} & set(unit), (
        "configfs, cryptsetup"
    )
    assert unit["ProtectHome"] == ["read-only"], "key files and what an image holds may lie in /root"
