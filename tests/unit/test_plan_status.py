"""What `status` says, and that it says the right next thing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdump_pkg.model import Config, DebugKernel, Facts, Finding, ImageState, Loaded, OwnFile
from kdump_pkg.plan.rebuild import plan_rebuild
from kdump_pkg.plan.status import Status, bad_config_status, plan_status
from tests.fakes import DEFAULTS, facts, kernel, live_boot, target
from tests.unit.test_plan_rebuild import done


def status(have: Facts, config: Config = DEFAULTS) -> Status:
    return plan_status(config, have, plan_rebuild(config, have))


def finding(have: Facts, part: str) -> Finding:
    return next(f for f in status(have).findings if f.part == part)


GOOD = done(facts())


def test_armed() -> None:
    found = status(GOOD)
    assert found.armed is True
    assert not found.todo
    assert found.verdict.startswith("armed: a crash now would be saved to /var/crash on UUID=")
    assert {f.state for f in found.findings} == {"ok"}
    assert [f.part for f in found.findings] == [
        "capture kernel", "target", "configuration", "preset", "image", "dump level", "debug kernel", "reservation",
        "load", "kdump.service",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("have", "part", "state", "text", "remedy"),
    [
        pytest.param(facts(), "configuration", "todo", "not there yet", "kdump-pkg rebuild"),
        pytest.param(facts(), "image", "todo", "not there yet", "kdump-pkg rebuild"),
        pytest.param(facts(), "load", "todo", "nothing is loaded", "kdump-pkg rebuild"),
        pytest.param(facts(), "debug kernel", "todo", "no debug kernel of", "kdump-pkg rebuild"),
        pytest.param(replace(GOOD, parts_hash="x"), "image", "todo", "changed", "kdump-pkg rebuild", id="stale"),
        pytest.param(
            replace(GOOD, boot=live_boot(crash_size=0, cmdline="")), "reservation", "bad", "no memory", "crashkernel="
        ),
        pytest.param(replace(GOOD, boot=live_boot(load_disabled=True)), "loading", "bad", "kexec_load_disabled", None),
        pytest.param(
            replace(GOOD, units={"kdump.service": False}), "kdump.service", "todo", "not enabled", "systemctl enable"
        ),
        pytest.param(replace(GOOD, targets=(target(problem="no disk"),)), "problem", "bad", "no disk", None),
        pytest.param(replace(GOOD, kernels=()), "problem", "bad", "no kernel", None),
        pytest.param(
            replace(GOOD, kernels=(*GOOD.kernels, kernel("9.9", problem="/v: not a bzImage"))),
            "kernel", "bad", "/v: not a bzImage", "reinstall linux",
        ),
    ],
)  # fmt: skip
def test_todo(have: Facts, part: str, state: str, text: str, remedy: str | None) -> None:
    found = finding(have, part)
    assert (found.state, text in found.text) == (state, True)
    assert (remedy or "") in (found.remedy or "")
    assert status(have).todo


def test_user_owned_file_shows_the_difference_and_is_no_todo() -> None:
    have = replace(GOOD, preset=OwnFile(GOOD.preset.path, b"PRESETS=('mine')\nkdump_kver=1\nkdump_image=/x\n", False))
    found = finding(have, "preset")
    assert found.state == "note"
    assert "is user-owned and differs" in found.text
    assert "-PRESETS=('mine')" in found.text
    assert "+PRESETS=('kdump')" in found.text
    assert not status(have).todo


def test_level_below_31_says_why() -> None:
    have = done(facts(tools={**facts().tools}, kernels=(kernel("7.2.0"),), boot=live_boot(running="7.2.0")))
    found = finding(have, "dump level")
    assert (found.state, found.text[:3]) == ("note", "23:")
    assert "makedumpfile 1.7.9" in found.text


def test_problem_of_a_kernel_is_said_once() -> None:
    have = facts(kernels=(kernel(problem="/v: not a bzImage kernel"),))
    texts = [f.text for f in status(have).findings if "/v: not a bzImage kernel" in f.text]
    assert len(texts) == 1


def test_missing_reservation_is_said_once() -> None:
    have = replace(GOOD, boot=live_boot(crash_size=0, cmdline=""))
    assert [f.part for f in status(have).findings if "no memory is reserved" in f.text] == ["reservation"]


def test_confined_knows_nothing_of_the_load() -> None:
    have = done(facts(boot=live_boot(confined="in a chroot", crash_loaded=None, crash_size=None)))
    found = status(have)
    assert found.armed is None
    assert not found.todo
    assert found.verdict == "everything is ready to be loaded (in a chroot, where nothing is ever loaded)"
    assert "reservation" not in [f.part for f in found.findings]


def test_loaded_but_not_the_one_asked_for() -> None:
    have = replace(GOOD, loaded=Loaded("1", "2", "3", "4", "-s"))
    found = status(have)
    assert found.armed is False
    assert found.verdict == "a capture kernel is loaded, but not the one asked for, next: kdump-pkg rebuild"


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


def test_image_that_only_root_can_read() -> None:
    """An ordinary user's status says so instead of asking for a rebuild."""
    have = replace(GOOD, image=ImageState(GOOD.image.path, True, readable=False))
    assert "only root" in finding(have, "image").text
    assert not status(have).todo


def test_bad_configuration() -> None:
    found = bad_config_status(("/etc/kdump-pkg.conf:1: a", "/etc/kdump-pkg.conf:2: b"))
    assert [f.text for f in found.findings] == ["/etc/kdump-pkg.conf:1: a", "/etc/kdump-pkg.conf:2: b"]
    assert found.todo
    assert found.armed is None
