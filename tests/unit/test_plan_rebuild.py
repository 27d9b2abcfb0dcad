"""The reconciler: what has to change, and that nothing has to when nothing does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.errors import KdumpError
from kdump_pkg.model import (
    Action,
    BuildImage,
    Capture,
    Config,
    DebugKernel,
    DropDebug,
    Facts,
    ImageState,
    Kernel,
    Layer,
    Load,
    Loaded,
    MakeRecord,
    OwnFile,
    Plan,
    QueueVariant,
    Remove,
    SaveDebug,
    SystemImages,
    TraceRecord,
    VariantWish,
    Wanted,
    WriteFile,
)
from kdump_pkg.model.variant import Built, Record, VariantState
from kdump_pkg.plan import variant
from kdump_pkg.plan.cmdline import LONGEST
from kdump_pkg.plan.rebuild import Scope, plan_load, plan_rebuild
from kdump_pkg.render import kernel_cache
from tests.fakes import BUILD_ID, DEFAULTS, MKINITCPIO_HOOKS, facts, kernel, live_boot, target

DERIVED = "/etc/mkinitcpio-kdump.conf"
PRESET = "/etc/mkinitcpio.d/kdump.preset"
IMAGE = "/boot/initramfs-linux-kdump.img"
ENV = "/var/lib/kdump-pkg/capture.env"
CACHE = "/var/lib/kdump-pkg/kernels.json"


PROGRAMS = dict.fromkeys(("mdadm", "lvm", "cryptsetup", "btrfs", "age"), "1:1")
LAYERED = replace(facts().modules, builtin=frozenset({"dm_mod", "dm_multipath", "md_mod", "dm_crypt", "sd_mod"}))


def designed(have: Facts, config: Config = DEFAULTS) -> Capture:
    capture = plan_rebuild(config, have).capture
    assert capture is not None
    return capture


def asked_for(have: Facts, config: Config) -> VariantState:
    """A build of the variant runs, where one was asked for."""
    asked = [a.wanted for a in plan_rebuild(config, have).actions if isinstance(a, QueueVariant)]
    state = have.variant
    return replace(state, record=replace(state.record, wanted=asked[0]), running=True) if asked else state


def done(have: Facts, config: Config = DEFAULTS) -> Facts:
    """The facts after the plan for HAVE was carried out."""
    capture = designed(have, config)
    keys = " ".join(volume.uuid for volume in capture.keys)
    loaded = Loaded(capture.kernel.release, capture.fingerprint, capture.cmdline, capture.image, "-s", keys, keys)
    armed = not have.boot.confined
    return replace(
        have,
        derived=OwnFile(DERIVED, capture.derived),
        preset=OwnFile(PRESET, capture.preset),
        capture_env=capture.env,
        kernel_cache=kernel_cache(have.kernels),
        image=ImageState(IMAGE, True, capture.fingerprint, 8_000_000),
        debug=tuple(
            DebugKernel(k.release, "/x", k.build_id, "BTF", sources=k.sources) for k in have.kernels if k.usable
        ),
        loaded=loaded if armed else None,
        variant=asked_for(have, config),
        boot=replace(have.boot, crash_loaded=True) if armed else have.boot,
    )


def told(plan: Plan) -> list[str]:
    """What a plan does, in order, in a word and a name each."""

    def word(action: Action) -> str:
        match action:
            case WriteFile() | Remove() | BuildImage():
                return f"{type(action).__name__} {action.path}"
            case SaveDebug() | DropDebug() | Load():
                return f"{type(action).__name__} {action.release}"
        return type(action).__name__

    return [word(a) for a in plan.actions]


def test_first_run_does_everything_in_order() -> None:
    release = kernel().release
    plan = plan_rebuild(Config(), facts())
    assert told(plan) == [
        f"WriteFile {ENV}",
        f"WriteFile {DERIVED}",
        f"WriteFile {PRESET}",
        f"WriteFile {CACHE}",
        f"BuildImage {IMAGE}",
        f"Load {release}",
        f"SaveDebug {release}",
    ]
    assert (plan.warnings, plan.fatal) == ((), False)
    assert all(getattr(a, "reason", "") for a in plan.actions)


@pytest.mark.parametrize("config", [Config(), Config(flavour="udev"), Config(flavour="systemd"), Config(keep_debug=0)])
@pytest.mark.parametrize(
    "have",
    [
        facts(),
        facts(boot=live_boot(confined="in a chroot")),
        facts(images=SystemImages("dracut", "112")),
        facts(kernels=(kernel(), kernel("6.6.30-1-lts", "linux-lts", build_id="ff" * 20))),
    ],
    ids=["live", "chroot", "dracut", "two kernels"],
)
def test_second_run_does_nothing(have: Facts, config: Config) -> None:
    plan = plan_rebuild(config, done(have, config))
    assert told(plan) == []
    assert not plan.warnings


def test_the_record_comes_before_the_plan_that_needs_its_place() -> None:
    plan = plan_rebuild(Config(), facts(record_missing=True))
    assert [type(a) for a in plan.prepare] == [MakeRecord]
    assert plan_rebuild(Config(), facts(record_missing=True), Scope(images=False)).prepare == ()
    record = TraceRecord("UUID=1", 4096, "ab" * 16)
    assert f"KDUMP_TRACE_RECORD='UUID=1 4096 {'ab' * 16}'".encode() in designed(facts(record=record)).env


def test_force_rebuilds_and_loads_what_is_current() -> None:
    plan = plan_rebuild(Config(), done(facts()), Scope(force=True))
    assert told(plan) == [f"BuildImage {IMAGE}", f"Load {kernel().release}"]
    assert all("--force" in getattr(a, "reason", "") for a in plan.actions)


def test_preset_scope_writes_texts_only() -> None:
    plan = plan_rebuild(Config(), facts(), Scope(images=False, load=False))
    assert {type(a) for a in plan.actions} == {WriteFile}
    assert f"WriteFile {PRESET}" in told(plan)


@pytest.mark.parametrize(
    ("change", "rebuilt"),
    [
        pytest.param({"tools": {"makedumpfile": "1.7.10-1", "kexec-tools": "2.0.32-1", "mkinitcpio": "41-1"}}, True),
        pytest.param({"tools": {"makedumpfile": "1.7.9-1", "kexec-tools": "2.0.33-1", "mkinitcpio": "41-1"}}, True),
        pytest.param({"tools": {"makedumpfile": "1.7.9-1", "kexec-tools": "2.0.32-1", "mkinitcpio": "42-1"}}, True),
        pytest.param({"parts_hash": "other"}, True, id="our own scripts"),
        pytest.param({"targets": (target(device="UUID=other"),)}, True, id="target moved"),
        pytest.param({"kernels": (kernel(build_id="ff" * 20),)}, True, id="kernel rebuilt"),
        pytest.param({"kernels": (kernel(stamp="2:2"),)}, True, id="kernel reinstalled"),
        pytest.param({"units": {"kdump.service": False}}, False, id="units are no input"),
        pytest.param({"dump_releases": frozenset({"1"})}, False, id="dumps are no input"),
    ],
)
def test_what_makes_the_image_stale(change: dict[str, object], rebuilt: bool) -> None:
    have = replace(done(facts()), **change)  # type: ignore[arg-type]
    plan = plan_rebuild(Config(), have)
    assert (f"BuildImage {IMAGE}" in told(plan)) is rebuilt
    assert (f"Load {kernel().release}" in told(plan)) is rebuilt  # a new image is loaded, too


def test_reasons_to_build() -> None:
    def reason(image: ImageState) -> str:
        plan = plan_rebuild(Config(), replace(done(facts()), image=image))
        return next(a.reason for a in plan.actions if isinstance(a, BuildImage))

    assert reason(ImageState(IMAGE, False)) == "not there yet"
    assert reason(ImageState(IMAGE, True, None)) == "it doesn't say what it was built from"
    assert reason(ImageState(IMAGE, True, "0" * 64)) == "something it is built from changed"


def test_upgrade() -> None:
    """The new release takes over; the old one's debug kernel stays for `keep_debug` releases."""
    new = kernel("6.13.0-arch1-1", build_id="aa" * 20)
    have = replace(done(facts()), kernels=(new,), modules=replace(facts().modules, release=new.release))
    plan = plan_rebuild(Config(), have)
    assert told(plan) == [
        f"WriteFile {ENV}",
        f"WriteFile {PRESET}",
        f"WriteFile {CACHE}",
        f"BuildImage {IMAGE}",
        f"Load {new.release}",
        f"SaveDebug {new.release}",
    ]
    preset = next(a.data for a in plan.actions if isinstance(a, WriteFile) and a.path == PRESET)
    assert f'kdump_kver="{new.release}"'.encode() in preset


def test_one_of_two_kernels_removed() -> None:
    lts = kernel("6.6.30-1-lts", "linux-lts", build_id="ff" * 20)
    have = replace(done(facts(kernels=(lts, kernel()))), kernels=(lts,))
    plan = plan_rebuild(Config(), have)
    assert f"Load {lts.release}" in told(plan)
    assert not any(isinstance(a, DropDebug) for a in plan.actions)


@pytest.mark.parametrize("path", [DERIVED, PRESET])
def test_user_owned_files_stay(path: str) -> None:
    mine = OwnFile(path, b"PRESETS=('kdump')\nkdump_kver=x\nkdump_image=/x\nHOOKS=(base udev kdump)\n", pristine=False)
    have = facts(**{"derived" if path == DERIVED else "preset": mine})
    assert f"WriteFile {path}" not in told(plan_rebuild(Config(), have))
    assert f"WriteFile {path}" in told(plan_rebuild(Config(), facts()))


def test_edit_of_the_derived_configuration_makes_the_image_stale_once() -> None:
    have = done(facts())
    edited = replace(have, derived=OwnFile(DERIVED, (have.derived.data or b"") + b"#\n", pristine=False))
    plan = plan_rebuild(Config(), edited)
    assert told(plan) == [f"WriteFile {ENV}", f"BuildImage {IMAGE}", f"Load {kernel().release}"]
    assert plan.capture is not None
    assert plan.capture.fingerprint != designed(have).fingerprint


def test_change_of_generator_takes_the_other_ones_files_away() -> None:
    have = replace(done(facts()), images=SystemImages("dracut", "112"))
    assert {f"Remove {DERIVED}", f"Remove {PRESET}"} <= set(told(plan_rebuild(Config(), have)))
    mine = replace(have, preset=replace(have.preset, pristine=False))
    assert f"Remove {PRESET}" not in told(plan_rebuild(Config(), mine))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"kernels": ()}, "no kernel that can capture is installed", id="no kernel"),
        pytest.param({"targets": (target(problem="no disk"),)}, "no disk", id="no target"),
        pytest.param({"images": SystemImages(None, problem="neither")}, "neither", id="no generator"),
        pytest.param({"images": SystemImages("mkinitcpio", problem="bash")}, "bash", id="broken mkinitcpio.conf"),
        pytest.param({"images": SystemImages(None)}, "no initramfs generator", id="none at all"),
        pytest.param({"tools": {}}, "makedumpfile is not installed (pacman -S makedumpfile)", id="no makedumpfile"),
        pytest.param({"targets": (target(drivers=("nvme",)),)}, "has no module nvme", id="driver missing"),
        pytest.param({"targets": ()}, "no target is configured", id="no target at all"),
        pytest.param({"targets": (target(layers=(Layer("md", "x"),)),)}, "pacman -S mdadm", id="no mdadm"),
        pytest.param({"targets": (target(path="/a'b"),)}, "character that can't be handed to the capture", id="quote"),
    ],
)
def test_what_prevents_it_is_one_line(change: dict[str, object], message: str) -> None:
    plan = plan_rebuild(Config(), facts(**change))
    assert plan.fatal
    assert plan.capture is None
    assert message in plan.warnings[0]
    assert "\n" not in plan.warnings[0]
    assert not any(
        isinstance(a, BuildImage | Load | WriteFile) and a.reason != "the kernels changed" for a in plan.actions
    )


def test_unusable_preset_goes_when_its_kernel_is_gone() -> None:
    """Else mkinitcpio's own `-P` would fail in every transaction to come."""
    have = done(facts())
    assert f"Remove {PRESET}" in told(plan_rebuild(Config(), replace(have, kernels=())))
    assert f"Remove {PRESET}" not in told(plan_rebuild(Config(), replace(have, targets=(target(problem="x"),))))
    mine = replace(have, kernels=(), preset=replace(have.preset, pristine=False))
    assert f"Remove {PRESET}" not in told(plan_rebuild(Config(), mine))


def test_what_is_armed_stays_when_nothing_can_be_designed() -> None:
    plan = plan_rebuild(Config(), replace(done(facts()), targets=(target(problem="no disk"),)))
    assert told(plan) == []


# --- loading ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        pytest.param({"crash_size": None}, "CONFIG_CRASH_DUMP", id="no crash support"),
        pytest.param({"crash_size": 0}, "reserved nothing", id="crashkernel= without effect"),
        pytest.param({"crash_size": 0, "cmdline": "quiet"}, "run kdump-pkg setup", id="no crashkernel="),
        pytest.param({"load_disabled": True}, "kexec_load_disabled is 1 until", id="disabled"),
        pytest.param({"load_disabled": True, "crash_loaded": True}, "what is loaded stays", id="disabled, loaded"),
    ],
)
def test_obstacles(changes: dict[str, object], warning: str) -> None:
    plan = plan_rebuild(Config(), facts(boot=live_boot(**changes)))
    assert warning in plan.warnings[0]
    assert not plan.fatal
    assert not any(isinstance(a, Load) for a in plan.actions)
    assert any(isinstance(a, BuildImage) for a in plan.actions)  # all but the load is done


@pytest.mark.parametrize("where", ["in a chroot", "in a container", "/mnt is not the running system"])
def test_nothing_is_ever_loaded_from_elsewhere(where: str) -> None:
    plan = plan_rebuild(Config(), facts(boot=live_boot(confined=where)), Scope(force=True))
    assert not any(isinstance(a, Load) for a in plan.actions)
    assert not plan.warnings


@pytest.mark.parametrize(
    ("lockdown", "methods"),
    [("none", ("-s", "-c")), (None, ("-s", "-c")), ("integrity", ("-s",)), ("confidentiality", ("-s",))],
)
def test_lockdown_allows_the_file_call_only(lockdown: str | None, methods: tuple[str, ...]) -> None:
    plan = plan_rebuild(Config(), facts(boot=live_boot(lockdown=lockdown)))
    assert next(a for a in plan.actions if isinstance(a, Load)).methods == methods


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loaded": None}, "what is loaded isn't ours"),
        ({"loaded": Loaded("1", "2", "3", "4", "-s")}, "what is loaded is of another state"),
        ({"boot": live_boot()}, "nothing is loaded"),
        ({"boot": live_boot(crash_loaded=True, cmdline="other")}, "what is loaded is of another state"),
    ],
)
def test_reasons_to_load(change: dict[str, object], reason: str) -> None:
    have = replace(done(facts()), **change)  # type: ignore[arg-type]
    load = next(a for a in plan_rebuild(Config(), have).actions if isinstance(a, Load))
    assert load.reason == reason


def test_too_long_a_command_line_is_not_loaded() -> None:
    have = facts(boot=live_boot(cmdline="crashkernel=1M " + "x" * LONGEST))
    plan = plan_rebuild(Config(), have)
    assert "shorten it with cmdline_remove" in plan.warnings[0]
    assert not any(isinstance(a, Load) for a in plan.actions)


def test_load_verb() -> None:
    have = replace(done(facts()), loaded=None, boot=live_boot())
    assert told(plan_load(Config(), have)) == [f"Load {kernel().release}"]
    assert told(plan_load(Config(), done(facts()))) == []


@pytest.mark.parametrize(
    ("have", "message"),
    [
        (facts(), "missing or stale"),
        (replace(done(facts()), parts_hash="new"), "missing or stale"),
        (replace(done(facts()), boot=live_boot(confined="in a chroot")), "host's capture kernel"),
        (replace(done(facts()), boot=live_boot(crash_size=0)), "reserved nothing"),
        (replace(done(facts()), kernels=()), "no kernel"),
    ],
)
def test_load_verb_refuses(have: Facts, message: str) -> None:
    with pytest.raises(KdumpError, match=message):
        plan_load(Config(), have)


# --- flavour and content ------------------------------------------------------------------------------------------


LVM, MD, MULTIPATH = Layer("lvm", "vg/lv"), Layer("md", "x"), Layer("multipath", "mpatha")


@pytest.mark.parametrize(
    ("wanted", "layers", "images", "flavour"),
    [
        ("auto", (), "systemd", "direct"),
        ("auto", (MD, LVM), "systemd", "direct"),
        ("auto", (MULTIPATH,), "systemd", "systemd"),
        ("auto", (MULTIPATH, LVM), "udev", "udev"),
        ("auto", (MULTIPATH,), None, "udev"),
        ("udev", (), "systemd", "udev"),
        ("systemd", (LVM,), "udev", "systemd"),
        ("direct", (LVM,), "systemd", "direct"),
    ],
)
def test_flavour(wanted: str, layers: tuple[Layer, ...], images: str | None, flavour: str) -> None:
    made = SystemImages("mkinitcpio", "41", images, MKINITCPIO_HOOKS)  # type: ignore[arg-type]
    have = facts(images=made, targets=(target(layers=layers),), programs=PROGRAMS, modules=LAYERED)
    assert designed(have, Config(flavour=wanted)).flavour == flavour


def test_direct_can_not_open_every_layer() -> None:
    plan = plan_rebuild(Config(flavour="direct"), facts(targets=(target(layers=(MD, MULTIPATH)),), programs=PROGRAMS))
    assert plan.fatal
    assert "flavour = direct can't open multipath" in plan.warnings[0]


@pytest.mark.parametrize(("images", "flavour"), [("udev", "udev"), ("systemd", "systemd")])
def test_the_whole_system_is_started_by_an_image_of_its_own_kind(images: str, flavour: str) -> None:
    made = SystemImages("mkinitcpio", "41", images, MKINITCPIO_HOOKS)  # type: ignore[arg-type]
    capture = designed(facts(images=made), Config(capture="system"))
    assert capture.flavour == flavour
    assert "systemd.unit=kdump-save.service" in capture.cmdline and "root=UUID=" in capture.cmdline
    hooks = next(line for line in (capture.derived or b"").decode().splitlines() if line.startswith("HOOKS="))
    assert " filesystems " in hooks and "kms" not in hooks


def test_dracut_needs_no_mkinitcpio_files() -> None:
    plan = plan_rebuild(Config(), facts(images=SystemImages("dracut", "112")))
    assert not {f"WriteFile {DERIVED}", f"WriteFile {PRESET}"} & set(told(plan))
    assert f"BuildImage {IMAGE}" in told(plan)
    layered = facts(images=SystemImages("dracut", "112"), targets=(target(layers=(MULTIPATH,)),), modules=LAYERED)
    assert designed(layered).flavour == "systemd"


def test_level_counts_every_kernel_that_may_crash() -> None:
    """The capture kernel saves whichever of the installed kernels crashed."""
    new = kernel("7.2.0-arch1-1", "linux-mainline", build_id="aa" * 20)
    capture = designed(facts(kernels=(kernel(), new), boot=live_boot(running=kernel().release)))
    assert (capture.kernel, capture.level) == (kernel(), 23)
    assert "damages" in (capture.level_reason or "")


def test_capture_file_is_private_and_the_rest_is_not() -> None:
    modes = {a.path: a.mode for a in plan_rebuild(Config(), facts()).actions if isinstance(a, WriteFile)}
    assert modes == {ENV: 0o600, DERIVED: 0o644, PRESET: 0o644, CACHE: 0o644}


def test_image_dir_and_leftovers() -> None:
    have = facts(leftovers=("/etc/.kdump-pkg-1-x",))
    plan = plan_rebuild(Config(image_dir="/efi/"), have)
    assert "BuildImage /efi/initramfs-linux-kdump.img" in told(plan)
    assert told(plan)[-1] == "Remove /etc/.kdump-pkg-1-x"


SLIM = kernel("6.12.1-kdump", None, build_id="ab" * 20, builtin=frozenset({"virtio_pci", "virtio_blk", "ext4"}))
BARE = replace(SLIM, release="6.12.0-kdump", build_id="cd" * 20, builtin=frozenset())
BUILT = Built(Wanted("linux", "0-1", "6.12.0-arch1-1", ()), SLIM.release, "ab" * 20, 1)


@given(
    kernels=st.lists(
        st.sampled_from([kernel(), kernel("7.2.0", "linux-mainline"), kernel("6.1", None), SLIM, BARE]), unique=True
    ),
    config=st.builds(
        Config,
        kernel=st.sampled_from(["auto", "linux", "linux-zen", "linux-kdump"]),
        flavour=st.sampled_from(["auto", "direct", "udev", "systemd"]),
        dump_level=st.sampled_from(["auto", "0", "31"]),
        compression=st.sampled_from(["zstd", "none"]),
        save_debug=st.booleans(),
        capture=st.sampled_from(["image", "system"]),
        variant=st.builds(VariantWish, follow=st.sampled_from(["release", "series", "never"]), trust=st.booleans()),
    ),
    record=st.builds(
        Record,
        followed=st.booleans(),
        built=st.sampled_from([None, BUILT]),
        trusted=st.sampled_from([{}, {"ab" * 20: "rehearsed"}]),
    ),
    layers=st.sampled_from([(), (Layer("crypt", "x"),), (LVM,), (MULTIPATH,)]),
    confined=st.sampled_from([None, "in a chroot"]),
    force=st.booleans(),
)
def test_property_never_raises_and_settles(
    kernels: list[Kernel],
    config: Config,
    record: Record,
    layers: tuple[Layer, ...],
    confined: str | None,
    force: bool,
) -> None:
    where = (target(layers=layers),)
    state = VariantState(record)
    boot = live_boot(confined=confined)
    have = facts(kernels=tuple(kernels), targets=where, boot=boot, programs=PROGRAMS, variant=state)
    have = variant.hold(config, have)
    plan = plan_rebuild(config, have)
    assert plan == plan_rebuild(config, have)
    asked = [a for a in plan.actions if isinstance(a, QueueVariant)]
    assert asked == [a for a in plan_rebuild(config, have, Scope(force=force)).actions if isinstance(a, QueueVariant)]
    if plan.capture is not None:
        assert plan.capture.kernel.held is None
        left = plan_rebuild(config, done(have, config)).actions
        assert not left or all(isinstance(a, DropDebug) for a in left)
    assert BUILD_ID  # the kernels above share it
