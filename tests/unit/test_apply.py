"""The applier: order, failures, and that the last good thing outlives them."""

from __future__ import annotations

import gzip
import json
import os
import stat
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kdump_pkg import paths
from kdump_pkg.apply import debug, describe, execute, images, kexec
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError, KdumpError
from kdump_pkg.facts.state import read_debug, read_image, read_loaded
from kdump_pkg.model import (
    Action,
    BuildImage,
    DropDebug,
    Load,
    Loaded,
    Plan,
    Remove,
    SaveDebug,
    Unload,
    WriteFile,
)
from kdump_pkg.render import cpio_archive
from tests.fakes import (
    BUILD_ID,
    PACKERS,
    RELEASE,
    Answer,
    Call,
    FakeRunner,
    Link,
    bzimage,
    elf,
    failing,
    make_tree,
    snapshot,
)

MARK = "ab" * 32
IMAGE = "/boot/initramfs-linux-kdump.img"
VMLINUZ = f"/usr/lib/modules/{RELEASE}/vmlinuz"


def run(ctx: Context, *actions: Action) -> tuple[list[str], list[str]]:
    """What was reported, and what failed."""
    said: list[str] = []
    failed = execute(ctx, Plan(actions), said.append)
    return said, [f.message for f in failed]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- execute ------------------------------------------------------------------------------------------------------


def test_in_order_and_described(ctx: Context, root: Path) -> None:
    actions = (WriteFile("/etc/a", b"1", 0o600, "why a"), Remove("/etc/b", "why b"))
    make_tree(root, {"/etc/b": "x"})
    said, failed = run(ctx, *actions)
    assert said == ["writing /etc/a: why a", "removing /etc/b: why b"]
    assert not failed
    assert (root / "etc/a").read_bytes() == b"1"
    assert not (root / "etc/b").exists()


def test_every_action_has_a_line() -> None:
    actions: tuple[Action, ...] = (
        WriteFile("/a", b"", 0, "why"), Remove("/a", "why"), BuildImage("/a", "dracut", "1", MARK, "udev", "why"),
        SaveDebug("1", "b", (), None, "d", "why"), DropDebug("1", "why"),
        Load("k", "i", "c", "1", MARK, ("-s",), "why"), Unload("why"),
    )  # fmt: skip
    for action in actions:
        assert describe(action).endswith(": why")


def test_what_fails_does_not_stop_the_rest(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc": None, "/dir/x": "kept"})
    said, failed = run(ctx, WriteFile("/dir", b"", 0o644, "r"), WriteFile("/etc/b", b"2", 0o644, "r"))
    assert len(said) == 2
    assert len(failed) == 1
    assert "/dir" in failed[0]
    assert (root / "etc/b").read_bytes() == b"2"


def test_no_load_of_an_image_that_was_not_built(ctx: Context, runner: FakeRunner, root: Path) -> None:
    make_tree(root, {"/proc/self/mountinfo": "", "/boot": None})
    runner.answers["mkinitcpio"] = 1
    said, failed = run(ctx, build(), load())
    assert said[-1] == "what was loaded stays loaded"
    assert len(failed) == 1
    assert not runner.lines("kexec")


def test_links_are_replaced_not_followed(ctx: Context, root: Path) -> None:
    make_tree(root, {"/etc/a": Link("/etc/victim"), "/etc/victim": "kept", "/etc/b": Link("/etc/victim")})
    run(ctx, WriteFile("/etc/a", b"new", 0o644, "r"), Remove("/etc/b", "r"))
    assert (root / "etc/victim").read_text() == "kept"
    assert (root / "etc/a").read_bytes() == b"new"


def test_only_our_own_directories_are_removed_whole(ctx: Context, root: Path) -> None:
    make_tree(root, {f"{paths.STATE}/a/b": "x", f"{paths.RUN}/c": "x", "/etc/dir/x": "kept"})
    _, failed = run(ctx, Remove(paths.STATE, "r"), Remove(paths.RUN, "r"), Remove("/etc/dir", "r"))
    assert len(failed) == 1
    assert names(root / "var/lib") == []
    assert (root / "etc/dir/x").exists()


# --- images -------------------------------------------------------------------------------------------------------

OLD = cpio_archive("kdump/fingerprint", b"0" * 64) + b"old image"
NEW = cpio_archive("kdump/fingerprint", f"{MARK}\n".encode()) + b"new image"


def build(generator: str = "mkinitcpio", flavour: str = "direct") -> BuildImage:
    return BuildImage(IMAGE, generator, RELEASE, MARK, flavour, "why")  # type: ignore[arg-type]


def out(root: Path, call: Call) -> Path:
    """Where the generator is told to write."""
    return root / next(w for w in call.argv if ".kdump-pkg-" in w).lstrip("/")


@pytest.fixture
def boot(root: Path) -> Path:
    make_tree(root, {"/proc/self/mountinfo": "", IMAGE: OLD})
    return root / "boot"


def test_good_build(ctx: Context, runner: FakeRunner, root: Path, boot: Path) -> None:
    runner.answers["mkinitcpio"] = lambda call: out(root, call).write_bytes(NEW) * 0
    images.build(ctx, build())
    assert read_image(ctx, IMAGE).fingerprint == MARK
    assert stat.S_IMODE((boot / "initramfs-linux-kdump.img").stat().st_mode) == 0o600
    assert names(boot) == ["initramfs-linux-kdump.img"]
    (call,) = runner.calls
    assert call.argv[:6] == ("mkinitcpio", "-c", paths.DERIVED_CONFIG, "-k", RELEASE, "-g")
    assert (call.root, call.timeout) == (root, images.TIMEOUT)


@pytest.mark.parametrize("generator", ["mkinitcpio", "dracut"])
@pytest.mark.parametrize(
    ("leaves", "answer", "words"),
    [
        pytest.param(None, 1, "exit code 1", id="fails"),
        pytest.param(NEW, 1, "exit code 1", id="fails, leaving an image"),
        pytest.param(None, 0, "", id="exits 0 without an image"),
        pytest.param(NEW[:150], 137, "exit code 137", id="killed in the middle"),
        pytest.param(None, CommandError("x: not found"), "not found", id="not installed"),
        pytest.param(None, CommandError("x: not done after 1800 s, ended"), "not done", id="hangs"),
    ],
)
def test_a_failed_build_keeps_the_old_image(
    ctx: Context,
    runner: FakeRunner,
    root: Path,
    boot: Path,
    generator: str,
    leaves: bytes | None,
    answer: Answer,
    words: str,
) -> None:
    def act(call: Call) -> Answer:
        if leaves is not None:
            out(root, call).write_bytes(leaves)
        return answer

    runner.answers[generator] = act
    with pytest.raises(images.BuildError) as caught:
        images.build(ctx, build(generator))
    assert words in caught.value.message
    assert "what was there stays" in caught.value.message
    assert "\n" not in caught.value.message
    assert (boot / "initramfs-linux-kdump.img").read_bytes() == OLD
    assert names(boot) == ["initramfs-linux-kdump.img"]


@pytest.mark.parametrize("data", [b"", b"an image without our part", OLD, NEW[:100]])
def test_success_without_our_part_is_none(
    ctx: Context, runner: FakeRunner, root: Path, boot: Path, data: bytes
) -> None:
    """A generator whose hook was skipped exits 0 all the same; such an image would save nothing."""
    runner.answers["mkinitcpio"] = lambda call: out(root, call).write_bytes(data) * 0
    with pytest.raises(images.BuildError, match="without our part"):
        images.build(ctx, build())
    assert (boot / "initramfs-linux-kdump.img").read_bytes() == OLD
    assert names(boot) == ["initramfs-linux-kdump.img"]


@pytest.mark.parametrize("flavour", ["direct", "udev", "systemd"])
def test_dracut_gets_the_mark_put_before(
    ctx: Context, runner: FakeRunner, root: Path, boot: Path, flavour: str
) -> None:
    runner.answers["dracut"] = lambda call: out(root, call).write_bytes(b"\x1f\x8b its image") * 0
    images.build(ctx, build("dracut", flavour))
    data = (boot / "initramfs-linux-kdump.img").read_bytes()
    assert data.endswith(b"\x1f\x8b its image")
    assert read_image(ctx, IMAGE).fingerprint == MARK
    argv = runner.calls[0].argv
    assert argv[argv.index("--kver") + 1] == RELEASE
    assert "kdump-pkg" in " ".join(argv).split()


def test_dracut_makes_a_whole_system_s_image_as_the_user_has_it(
    ctx: Context, runner: FakeRunner, root: Path, boot: Path
) -> None:
    """Restricted to our module it could start no system; --no-hostonly is the user's to say."""
    runner.answers["dracut"] = lambda call: out(root, call).write_bytes(b"\x1f\x8b its image") * 0
    images.build(ctx, replace(build("dracut", "systemd"), system=True))
    argv = runner.calls[0].argv
    assert argv[argv.index("--add") + 1] == "kdump-pkg"
    assert not {"--modules", "--no-hostonly"} & set(argv)
    assert "--no-uefi" in argv, "kexec takes no unified kernel image"
    assert read_image(ctx, IMAGE).fingerprint == MARK


def test_no_image_yet(ctx: Context, runner: FakeRunner, root: Path) -> None:
    make_tree(root, {"/proc/self/mountinfo": ""})
    runner.answers["mkinitcpio"] = lambda call: out(root, call).write_bytes(NEW) * 0
    images.build(ctx, build())
    assert read_image(ctx, IMAGE).fingerprint == MARK


def test_full_disk_is_noticed_before(
    ctx: Context, runner: FakeRunner, boot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(boot)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*real[:4], 0, *real[5:])))
    with pytest.raises(images.BuildError, match="no room"):
        images.build(ctx, build())
    assert not runner.calls


def test_root_without_proc(ctx: Context, runner: FakeRunner, root: Path) -> None:
    with pytest.raises(images.BuildError, match="has no /proc"):
        images.build(ctx, build())
    assert not runner.calls


def test_what_a_build_measures(ctx: Context, runner: FakeRunner, root: Path, boot: Path) -> None:
    whole = cpio_archive("init", b"x" * 5000)
    runner.answers["dracut"] = lambda call: out(root, call).write_bytes(gzip.compress(whole)) * 0
    images.build(ctx, build("dracut"))
    found = read_image(ctx, IMAGE)
    assert found.unpacked is not None and len(whole) < found.unpacked < len(whole) + 1024
    images.remember(ctx, MARK, found.unpacked, 76)
    assert read_image(ctx, IMAGE).least_mib == 76
    images.build(ctx, build("dracut"))
    assert read_image(ctx, IMAGE).least_mib is None, "a new image is to be measured anew"


def test_an_image_that_can_not_be_measured_is_built_all_the_same(
    ctx: Context, runner: FakeRunner, root: Path, boot: Path
) -> None:
    runner.answers["mkinitcpio"] = lambda call: out(root, call).write_bytes(NEW) * 0
    make_tree(root, {paths.IMAGE_FACTS: json.dumps({"fingerprint": MARK, "unpacked": 7})})
    images.build(ctx, build())
    assert read_image(ctx, IMAGE).unpacked is None


def test_a_measure_that_can_not_be_kept_fails_no_build(
    ctx: Context, runner: FakeRunner, root: Path, boot: Path
) -> None:
    make_tree(root, {paths.STATE: "a file"})
    runner.answers["mkinitcpio"] = lambda call: out(root, call).write_bytes(NEW) * 0
    images.build(ctx, build())
    assert read_image(ctx, IMAGE).fingerprint == MARK


# --- kexec --------------------------------------------------------------------------------------------------------


def load(*methods: str) -> Load:
    return Load(VMLINUZ, IMAGE, "irqpoll panic=10", RELEASE, MARK, methods or ("-s", "-c"), "why")


def kexec_line(method: str, home: str | None = None, cmdline: str = "irqpoll panic=10") -> str:
    image, kernel = (f"{home}/image", f"{home}/vmlinuz") if home else (IMAGE, VMLINUZ)
    return f"kexec -p {method} --initrd={image} --command-line={cmdline} {kernel}"


@pytest.fixture
def armed(root: Path) -> Path:
    """Kernel and image are there, nothing was loaded yet."""
    make_tree(root, {VMLINUZ: "new kernel", IMAGE: "new image"})
    return root


def test_loaded_by_the_first_call(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    runner.answers["kexec"] = 0
    kexec.load(ctx, load())
    assert runner.lines() == [kexec_line("-s")]
    record = Loaded(RELEASE, MARK, "irqpoll panic=10", IMAGE, "-s")
    assert read_loaded(ctx) == record
    assert read_loaded(ctx, f"{paths.LAST_GOOD}/loaded.json") == record
    assert ctx.read_bytes(f"{paths.LAST_GOOD}/vmlinuz") == b"new kernel"
    assert ctx.read_bytes(f"{paths.LAST_GOOD}/image") == b"new image"
    for name in ("vmlinuz", "image", "loaded.json"):
        mode = stat.S_IMODE(ctx.path(f"{paths.LAST_GOOD}/{name}").stat().st_mode)
        assert mode == 0o600, name


def test_falls_back_to_the_older_call(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    runner.answers |= {"kexec": 0, "kexec -p -s": 1}
    kexec.load(ctx, load())
    assert runner.lines() == [kexec_line("-s"), kexec_line("-c")]
    found = read_loaded(ctx)
    assert found is not None
    assert found.method == "-c"


def test_no_fallback_that_was_not_asked_for(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    """Under lockdown the older call is refused anyway."""
    runner.answers |= {"kexec": 0, "kexec -p -s": 1}
    with pytest.raises(kexec.LoadError):
        kexec.load(ctx, load("-s"))
    assert runner.lines() == [kexec_line("-s")]


def good(root: Path, method: str = "-s") -> Loaded:
    """Something was loaded before and is kept as a spare."""
    record = Loaded("6.11.0", "cd" * 32, "old cmdline", IMAGE, method)
    home = paths.LAST_GOOD
    make_tree(root, {f"{home}/vmlinuz": "old kernel", f"{home}/image": "old image"})
    make_tree(root, {f"{home}/loaded.json": json.dumps(asdict(record)), paths.LOADED: json.dumps(asdict(record))})
    return record


@pytest.mark.parametrize("method", ["-s", "-c"])
def test_refused_puts_the_last_good_one_back(ctx: Context, runner: FakeRunner, armed: Path, method: str) -> None:
    record = good(armed, method)
    old = kexec_line(method, paths.LAST_GOOD, "old cmdline")
    runner.answers |= {"kexec": lambda call: failing(call.argv, 1, "syscall failed: Bad message"), old: 0}
    with pytest.raises(kexec.LoadError) as caught:
        kexec.load(ctx, load())
    assert runner.lines() == [kexec_line("-s"), kexec_line("-c"), old]
    assert "Bad message" in caught.value.message
    assert caught.value.message.endswith("the last good one is loaded again")
    assert read_loaded(ctx) == record
    assert ctx.read_bytes(f"{paths.LAST_GOOD}/vmlinuz") == b"old kernel"


def test_the_first_refusal_is_the_one_told(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    runner.answers |= {
        "kexec -p -s": lambda call: failing(call.argv, 1, "first words"),
        "kexec -p -c": lambda call: failing(call.argv, 1, "second words"),
    }
    with pytest.raises(kexec.LoadError, match="first words") as caught:
        kexec.load(ctx, load())
    assert "second words" not in caught.value.message
    assert caught.value.message.endswith("nothing is loaded now")


def test_refused_with_nothing_to_go_back_to(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    make_tree(armed, {paths.LOADED: json.dumps(asdict(Loaded("1", "2", "3", "4", "-s")))})
    runner.answers["kexec"] = 1
    with pytest.raises(kexec.LoadError, match="nothing is loaded now"):
        kexec.load(ctx, load())
    assert read_loaded(ctx) is None  # the record must not claim what the kernel has dropped


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"release": 1}'])
def test_damaged_spare_is_no_spare(ctx: Context, runner: FakeRunner, armed: Path, record: bytes) -> None:
    good(armed)
    make_tree(armed, {f"{paths.LAST_GOOD}/loaded.json": record})
    runner.answers["kexec"] = 1
    with pytest.raises(kexec.LoadError, match="nothing is loaded now"):
        kexec.load(ctx, load())


def test_spare_that_is_refused_too(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    good(armed)
    runner.answers["kexec"] = 1
    with pytest.raises(kexec.LoadError, match="nothing is loaded now"):
        kexec.load(ctx, load())
    assert read_loaded(ctx) is None


def test_kexec_is_not_installed(ctx: Context, armed: Path) -> None:
    with pytest.raises(kexec.LoadError, match="kexec: not found") as caught:
        kexec.load(ctx, load())
    assert caught.value.hint


def test_no_room_for_the_spare_is_armed_all_the_same(
    ctx: Context, runner: FakeRunner, armed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good(armed)
    runner.answers["kexec"] = 0

    def full(*args: object) -> None:
        raise KdumpError("no room")

    monkeypatch.setattr("kdump_pkg.fs.copy_atomic", full)
    kexec.load(ctx, load())
    found = read_loaded(ctx)
    assert found is not None
    assert found.release == RELEASE
    assert read_loaded(ctx, f"{paths.LAST_GOOD}/loaded.json") is None  # half a spare must not be taken for one


def test_same_load_again_copies_nothing(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    runner.answers["kexec"] = 0
    kexec.load(ctx, load())
    before = snapshot(armed / "var")
    kexec.load(ctx, load())
    assert snapshot(armed / "var") == before


def test_unload(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    good(armed)
    runner.answers["kexec"] = 0
    kexec.unload(ctx)
    assert runner.lines() == ["kexec -p -u"]
    assert read_loaded(ctx) is None


def test_failed_unload_keeps_the_record(ctx: Context, runner: FakeRunner, armed: Path) -> None:
    record = good(armed)
    runner.answers["kexec"] = 1
    with pytest.raises(KdumpError):
        kexec.unload(ctx)
    assert read_loaded(ctx) == record


# --- debug kernels ------------------------------------------------------------------------------------------------

HEADERS = f"/usr/lib/modules/{RELEASE}/build/vmlinux"
KEPT = f"{paths.DEBUG_MODULES}/{RELEASE}/vmlinux"
LINK = f"{paths.DEBUG_BUILD_ID}/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug"


def save(*sources: str, system_map: str | None = None) -> SaveDebug:
    return SaveDebug(RELEASE, BUILD_ID, (*sources, VMLINUZ), system_map, "digest", "why")


def test_best_candidate_is_copied(ctx: Context, root: Path) -> None:
    data = elf(sections=(".BTF", ".symtab"))
    make_tree(root, {HEADERS: data, VMLINUZ: bzimage(), "/m": "System.map"})
    debug.save(ctx, save(HEADERS, system_map="/m"))
    assert ctx.read_bytes(KEPT) == data
    assert ctx.read_text(f"{paths.DEBUG_MODULES}/{RELEASE}/System.map") == "System.map"
    (found,) = read_debug(ctx)
    assert (found.build_id, found.abilities, found.origin, found.sources) == (
        BUILD_ID,
        "BTF+symbols",
        HEADERS,
        "digest",
    )
    assert found.recorded


def test_link_by_build_id_leads_there(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage()})
    debug.save(ctx, save())
    assert (root / LINK.lstrip("/")).is_symlink()
    assert ctx.read_bytes(LINK) == ctx.read_bytes(KEPT)
    assert not (root / LINK.lstrip("/")).readlink().is_absolute()  # right from outside of a root, too


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(elf("ff" * 20, (".debug_info",)), id="another build"),
        pytest.param(elf(None, (".debug_info",)), id="no build ID"),
        pytest.param(elf(sections=(".debug_info",))[:150], id="truncated"),
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)) * 10, id="noise"),
        pytest.param(Link("/etc/passwd"), id="link to nowhere in the root"),
        pytest.param(None, id="directory"),
    ],
)
def test_wrong_candidate_is_told_and_the_next_one_kept(ctx: Context, root: Path, bad: bytes | Link | None) -> None:
    make_tree(root, {HEADERS: bad, VMLINUZ: bzimage(PACKERS["xz"](elf(sections=(".BTF",))))})
    with pytest.raises(KdumpError) as caught:
        debug.save(ctx, save(HEADERS))
    assert caught.value.message.startswith(f"{HEADERS}: ")
    assert len(caught.value.message.splitlines()) == 1
    (found,) = read_debug(ctx)
    assert (found.origin, found.abilities) == (VMLINUZ, "BTF")
    assert found.sources != "digest"  # so that it is looked at again, until it is mended
    before = snapshot(root)
    with pytest.raises(KdumpError, match="build/vmlinux: "):
        debug.save(ctx, save(HEADERS))
    assert snapshot(root) == before
    (root / HEADERS.lstrip("/")).rmdir() if bad is None else (root / HEADERS.lstrip("/")).unlink()
    make_tree(root, {HEADERS: elf(sections=(".debug_info",))})
    debug.save(ctx, save(HEADERS))
    assert read_debug(ctx)[0].sources == "digest"


def test_debug_package_of_another_release_is_nobodys_fault(ctx: Context, root: Path) -> None:
    """/usr/src/debug/linux/vmlinux has no release in its path and lags behind, or is ahead of, the kernel."""
    other = "/usr/src/debug/linux/vmlinux"
    make_tree(root, {other: elf("ff" * 20, (".debug_info",)), VMLINUZ: bzimage()})
    debug.save(ctx, save(other))
    assert read_debug(ctx)[0].origin == VMLINUZ


@pytest.mark.parametrize("data", [elf("ff" * 20, (".debug_info",)), elf(sections=(".debug_info",))[:150], b""])
def test_neither_is_the_variant_that_is_being_built(ctx: Context, root: Path, data: bytes) -> None:
    """A hook runs while it is linked, or before the new one is installed: the old one keeps what it has."""
    place = f"{paths.VARIANT_BUILD}/src/build/vmlinux"
    make_tree(root, {place: elf(sections=(".debug_info",)), VMLINUZ: bzimage()})
    debug.save(ctx, save(place))
    assert read_debug(ctx)[0].origin == place
    kept = ctx.read_bytes(KEPT)
    make_tree(root, {place: data})
    debug.save(ctx, SaveDebug(RELEASE, BUILD_ID, (place, VMLINUZ), None, "new", "why"))
    assert ctx.read_bytes(KEPT) == kept
    (found,) = read_debug(ctx)
    assert (found.abilities, found.sources) == ("DWARF", "new")


@pytest.mark.parametrize("change", ["removed", "worse", "damaged"])
def test_what_is_kept_is_never_made_worse(ctx: Context, root: Path, change: str) -> None:
    """The headers go before the kernel does: their vmlinux is just what was kept for this."""
    make_tree(root, {HEADERS: elf(sections=(".BTF", ".symtab")), VMLINUZ: bzimage()})
    debug.save(ctx, save(HEADERS))
    kept = ctx.read_bytes(KEPT)
    (root / HEADERS.lstrip("/")).unlink()
    if change != "removed":
        make_tree(root, {HEADERS: elf() if change == "worse" else b"noise"})
    again = SaveDebug(RELEASE, BUILD_ID, (VMLINUZ,) if change == "removed" else (HEADERS, VMLINUZ), None, "new", "why")
    if change == "damaged":
        with pytest.raises(KdumpError):
            debug.save(ctx, again)
    else:
        debug.save(ctx, again)
    assert ctx.read_bytes(KEPT) == kept
    (found,) = read_debug(ctx)
    assert (found.abilities, found.origin, found.recorded) == ("BTF+symbols", HEADERS, True)
    assert found.sources == ("digest" if change == "damaged" else "new")


@pytest.mark.parametrize("image", [bzimage(PACKERS["gzip"](elf("ff" * 20))), b"noise", bzimage()[:1200]])
def test_nothing_fits_changes_nothing(ctx: Context, root: Path, image: bytes) -> None:
    make_tree(root, {HEADERS: elf("ff" * 20), VMLINUZ: image})
    before = snapshot(root)
    with pytest.raises(KdumpError) as caught:
        debug.save(ctx, save(HEADERS))
    assert caught.value.message.startswith(f"no debug kernel for {RELEASE}: {HEADERS}: ")
    assert VMLINUZ in caught.value.message
    assert str(root) not in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert snapshot(root) == before


def test_better_candidate_replaces_the_kept_one(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage()})
    debug.save(ctx, save())
    make_tree(root, {HEADERS: elf(sections=(".debug_info",))})
    debug.save(ctx, save(HEADERS))
    (found,) = read_debug(ctx)
    assert (found.abilities, found.origin) == ("DWARF", HEADERS)


def test_drop_takes_all_of_ours(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage(), "/m": "map", "/usr/lib/other": "kept"})
    debug.save(ctx, save(system_map="/m"))
    debug.drop(ctx, RELEASE)
    assert read_debug(ctx) == ()
    assert names(root / "usr/lib") == ["modules", "other"]
    assert ctx.read_record(paths.DEBUG_RECORD) == {}


def test_drop_keeps_what_is_others(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage()})
    debug.save(ctx, save())
    other = {
        f"{paths.DEBUG_MODULES}/{RELEASE}/kernel/fs/ext4.ko.debug": "kept",
        f"{paths.DEBUG_MODULES}/9.9.9/vmlinux": "kept",
        f"{paths.DEBUG_BUILD_ID}/{BUILD_ID[:2]}/{'9' * 38}.debug": "kept",
    }
    make_tree(root, other)
    debug.drop(ctx, RELEASE)
    for name in other:
        assert ctx.read_text(name) == "kept"
    assert not ctx.is_file(KEPT)
    assert not (root / LINK.lstrip("/")).is_symlink()


def test_drop_keeps_a_link_of_somebody_else(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage()})
    debug.save(ctx, save())
    (root / LINK.lstrip("/")).unlink()
    make_tree(root, {LINK: Link("/usr/src/debug/linux/vmlinux")})
    debug.drop(ctx, RELEASE)
    assert (root / LINK.lstrip("/")).is_symlink()


def test_drop_of_one_of_two_with_the_same_build_id(ctx: Context, root: Path) -> None:
    make_tree(root, {VMLINUZ: bzimage()})
    debug.save(ctx, save())
    debug.save(ctx, SaveDebug("6.12.2", BUILD_ID, (VMLINUZ,), None, "d", "why"))
    debug.drop(ctx, RELEASE)
    assert ctx.read_bytes(LINK) == ctx.read_bytes(f"{paths.DEBUG_MODULES}/6.12.2/vmlinux")
    assert [d.release for d in read_debug(ctx)] == ["6.12.2"]


@pytest.mark.parametrize("record", [b"", b"[]", b"{", b'{"6.12.1-arch1-1": 7}', b'{"x": {"build_id": 7}}'])
def test_drop_with_a_damaged_record(ctx: Context, root: Path, record: bytes) -> None:
    make_tree(root, {paths.DEBUG_RECORD: record})
    debug.drop(ctx, RELEASE)
    assert RELEASE not in ctx.read_record(paths.DEBUG_RECORD)


def test_drop_never_leaves_the_directory(ctx: Context, root: Path) -> None:
    """The release comes from a directory's name, the build ID from our record: neither may lead elsewhere."""
    make_tree(root, {"/etc/passwd": "kept", paths.DEBUG_RECORD: json.dumps({"x": {"build_id": "../../../../etc/x"}})})
    debug.drop(ctx, "x")
    assert ctx.read_text("/etc/passwd") == "kept"
