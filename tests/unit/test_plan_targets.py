"""Which targets a capture can use, how it opens encrypted ones, and what stands in for those."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdump_pkg.model import Config, CryptVolume, Facts, Layer, Target
from kdump_pkg.plan import targets
from kdump_pkg.plan.rebuild import plan_rebuild
from kdump_pkg.plan.status import plan_status
from tests.fakes import DEFAULTS, facts, live_boot, module_index, target
from tests.unit.test_plan_rebuild import done

PROGRAMS = dict.fromkeys(("mdadm", "lvm", "cryptsetup", "btrfs", "age"), "1:1")
MODULES = replace(module_index(), builtin=frozenset({"sd_mod", "dm_mod", "dm_crypt", "vfat", "md_mod"}))
CRYPT = Layer("crypt", "aaaa")
ESP = target(name="esp", device="PARTUUID=1", fstype="vfat", path="/", source="mounted on /efi")


def locked(key: str = "linked", **changes: object) -> Target:
    """A target on a LUKS volume whose key can be had from KEY."""
    volume = CryptVolume("aaaa", 2, 1 << 20, key, problem=None if key != "none" else "no key")  # type: ignore[arg-type]
    return target(**{"layers": (CRYPT,), "crypt": (volume,), **changes})


def machine(*wanted: Target, hands_over: bool | None = True, esp: Target | None = None, mib: int = 256) -> Facts:
    boot = live_boot(crash_dm_crypt=hands_over, crash_size=mib << 20)
    return facts(targets=wanted, boot=boot, programs=dict(PROGRAMS, findfs="1"), modules=MODULES, esp=esp)


def names(have: Facts, config: Config = DEFAULTS) -> list[str]:
    return [f"{t.name} {t.save}" for t in targets.choose(config, have).targets]


BAD = target(name="uuid=1", problem="no file system UUID=1")


@pytest.mark.parametrize(
    ("have", "config", "used", "problem"),
    [
        pytest.param(machine(target()), DEFAULTS, ["root all"], "", id="plain"),
        pytest.param(machine(BAD, target()), DEFAULTS, ["root all"], "no file system UUID=1", id="one is bad"),
        pytest.param(machine(BAD), DEFAULTS, [], "no file system", id="the only one is bad"),
        pytest.param(machine(BAD, esp=ESP), DEFAULTS, [], "no file system", id="the ESP is no target of its own"),
        pytest.param(machine(target(), esp=ESP), DEFAULTS, ["root all"], "", id="the ESP isn't needed"),
        pytest.param(machine(locked(), esp=ESP), DEFAULTS, ["root all"], "", id="handed over"),
        pytest.param(machine(locked("none"), esp=ESP), DEFAULTS, ["root all", "esp dmesg"], "", id="no key"),
        pytest.param(machine(locked(), hands_over=False, esp=ESP), DEFAULTS, ["root all", "esp dmesg"], "", id="old"),
        pytest.param(machine(locked("none"), ESP, esp=ESP), DEFAULTS, ["root all", "esp all"], "", id="ESP named"),
        pytest.param(
            machine(locked("none"), target(name="label=x"), esp=ESP), DEFAULTS, ["root all", "label=x all"], "",
            id="a fallback that is sure",
        ),
        pytest.param(
            machine(locked("none")), Config(passphrase_timeout=0), [], "passphrase_timeout = 0): no key",
            id="never asks",
        ),
        pytest.param(machine(locked()), Config(passphrase_timeout=0), ["root all"], "", id="needn't ask"),
        pytest.param(
            machine(locked("none")), Config(passphrase_timeout=0, capture="system"), ["root all"], "",
            id="the system opens it itself",
        ),
        pytest.param(
            replace(machine(locked()), programs={}), DEFAULTS, [], "without cryptsetup; pacman -S cryptsetup", id="tool"
        ),
        pytest.param(
            replace(machine(target(devices=2, fstype="btrfs")), programs={}), DEFAULTS, [], "pacman -S btrfs-progs",
            id="btrfs of two",
        ),
    ],
)  # fmt: skip
def test_choice(have: Facts, config: Config, used: list[str], problem: str) -> None:
    assert names(have, config) == used
    said = targets.choose(config, have).problems
    assert bool(said) == bool(problem)
    assert all(problem in line and "\n" not in line for line in said)


def test_the_log_on_the_esp_lies_where_the_dumps_would() -> None:
    chosen = targets.choose(Config(path="/srv/crash"), machine(locked("none"), esp=ESP)).targets
    assert (chosen[1].path, chosen[1].device) == ("/srv/crash", "PARTUUID=1")


def test_keys_are_handed_over_once() -> None:
    have = machine(locked(), locked(name="label=x"), target())
    capture = plan_rebuild(DEFAULTS, have).capture
    assert capture is not None
    assert [volume.uuid for volume in capture.keys] == ["aaaa"]
    assert b"KDUMP_TARGET_1_LAYERS='crypt:aaaa'\n" in capture.env
    assert b"KDUMP_BINARIES='makedumpfile cryptsetup'\n" in capture.env


def test_a_key_that_can_not_be_had_is_said_and_not_tried_for_ever() -> None:
    have = done(machine(locked()))
    assert have.loaded is not None and plan_rebuild(DEFAULTS, have).actions == ()
    failed = replace(have, loaded=replace(have.loaded, keys=""))
    assert plan_rebuild(DEFAULTS, failed).actions == ()
    assert "todo: the key of aaaa could not be handed to the capture kernel (linked)" in told(failed)


def told(have: Facts, config: Config = DEFAULTS) -> str:
    """The lines of `status` on targets and encryption."""
    found = plan_status(config, have, plan_rebuild(config, have)).findings
    return "\n".join(f"{f.state}: {f.text}" for f in found if f.part.startswith(("target", "encryption")))


def test_status_says_which_way_is_used() -> None:
    assert "ok: the key of aaaa is handed to the capture kernel (linked)" in told(machine(locked()))
    asked = told(machine(locked("none")))
    assert "note: the passphrase of aaaa would be asked for, 60 s long; Argon2 takes 1024 MiB" in asked
    assert asked.endswith(": no key")
    assert "no CONFIG_CRASH_DM_CRYPT" in told(machine(locked(), hands_over=False))
    assert "(ext4 on crypt)" in asked


def test_status_names_every_target() -> None:
    said = told(machine(BAD, locked("none"), esp=ESP))
    assert "bad: no file system UUID=1" in said
    assert "PARTUUID=1 (vfat), its log alone" in said


@pytest.mark.parametrize(
    ("have", "warned"),
    [
        (machine(locked("none")), True),
        (machine(locked("none"), mib=1200), False),
        (machine(locked()), False),
        (machine(target()), False),
    ],
)
def test_argon2_is_accounted_for_before_it_is_needed(have: Facts, warned: bool) -> None:
    said = [line for line in plan_rebuild(DEFAULTS, have).warnings if "Argon2" in line]
    assert bool(said) is warned
    assert all("crashkernel=1200M" in line for line in said)


def test_encryption_needs_age() -> None:
    config = Config(encrypt_to=(f"age1{'q' * 58}",))
    have = replace(machine(target()), programs={})
    assert "age is not installed" in plan_rebuild(config, have).warnings[0]
    capture = plan_rebuild(config, machine(target())).capture
    assert capture is not None
    assert b"KDUMP_BINARIES='makedumpfile age'\n" in capture.env


def test_other_keys_are_a_reason_to_load_but_not_to_build() -> None:
    before, after = (plan_rebuild(DEFAULTS, machine(locked(key))).capture for key in ("none", "linked"))
    assert before is not None and after is not None
    assert before.fingerprint == after.fingerprint
    assert (before.keys, len(after.keys)) == ((), 1)
