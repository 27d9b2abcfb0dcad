"""What README, CONTRIBUTING and the package's data say is so: commands, output, messages, paths."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import pytest

from kdump_pkg import __version__, cli, debugging, paths, reconcile, verification
from kdump_pkg import config as configuration
from kdump_pkg.apply import images, kexec, package_build, vmlinux
from kdump_pkg.context import Context
from kdump_pkg.errors import BusyError, CommandError, ConfigError, KdumpError
from kdump_pkg.facts import health as health_facts
from kdump_pkg.facts.alpm import open_packages
from kdump_pkg.facts.generator import read_system_images
from kdump_pkg.facts.lookup import missing
from kdump_pkg.facts.storage import read_targets
from kdump_pkg.facts.upload import read_store
from kdump_pkg.fs import lock
from kdump_pkg.loaders import places
from kdump_pkg.model import (
    Boot,
    BuildImage,
    Config,
    CryptVolume,
    DebugKernel,
    Facts,
    ImageState,
    Kernel,
    Layer,
    Load,
    Loaded,
    ModuleIndex,
    OwnFile,
    SystemImages,
    Target,
    Trace,
)
from kdump_pkg.model.bootloader import Place, Result, ResultLine, Surroundings
from kdump_pkg.model.building import Power
from kdump_pkg.model.dumps import CoreInfo, Entry, Vmcore
from kdump_pkg.model.health import CrashTest, Health, LastDump, Rehearsed
from kdump_pkg.model.variant import Built, Failure, Progress, Record, VariantState
from kdump_pkg.model.wishes import UploadWish, VariantWish
from kdump_pkg.options import OPTIONS, VARIANT_OPTIONS
from kdump_pkg.plan import readers, variant
from kdump_pkg.plan.rebuild import plan_load, plan_rebuild
from kdump_pkg.plan.reservation import Amount, Here, choose, lacking, plan_setup
from kdump_pkg.plan.status import plan_status
from kdump_pkg.plan.variant_build import obstacle, resolve
from tests import docs
from tests.fakes import make_tree
from tests.tools import tool
from tests.unit.test_plan_status import FIT, OTHER, lines

README = (docs.REPO / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (docs.REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")

RELEASE = "6.17.8-arch1-1"
UUID = "UUID=0f0e0d0c-1111-2222-3333-444455556666"
KERNEL = Kernel(
    RELEASE, f"/usr/lib/modules/{RELEASE}/vmlinuz", "linux", "linux", "6.17.8.arch1-1", "ab" * 20, init_size=62 << 20
)
FRESH = Facts(
    kernels=(KERNEL,),
    boot=Boot(
        RELEASE,
        f"root={UUID} rw",
        crash_loaded=False,
        crash_size=0,
        load_disabled=False,
        lockdown="none",
        memory_total=16 << 30,
    ),
    targets=(Target(UUID, "ext4", "/var/crash", drivers=("nvme",), source="mounted on /", mounted="/var/crash"),),
    images=SystemImages("mkinitcpio", "41", "systemd", ("base", "systemd", "block"), sources=("/etc/mkinitcpio.conf",)),
    modules=ModuleIndex(RELEASE, {"nvme": "nvme.ko", "ext4": "ext4.ko"}, {"nvme.ko": (), "ext4.ko": ()}),
    tools={"makedumpfile": "1.7.8-1"},
    derived=OwnFile(paths.DERIVED_CONFIG, None),
    preset=OwnFile(paths.PRESET, None),
    image=ImageState(f"/boot/{paths.IMAGE_NAME}", False),
    units={"kdump.service": False, "kdump-pkg-collect.service": False},
)
"""Installed, and nothing else done yet."""
RESERVED = replace(FRESH.boot, cmdline=f"{FRESH.boot.cmdline} crashkernel=128M", crash_size=128 << 20)
SEEN = replace(
    FIT,
    loaders=(lines("rw crashkernel=128M"),),
    rehearsed=None,
    last_dump=LastDump(f"/var/crash/2026-11-23T07-46-54Z-{RELEASE}", 1_795_420_014, RELEASE, "complete", 41),
    test=None,
    debuggers={"crash": "9.0.2-1"},
)
"""What `status` looks at besides, once all is done."""


def armed_facts() -> Facts:
    """The machine of the README after all is done."""
    facts = replace(FRESH, boot=replace(RESERVED, crash_loaded=True), units=dict.fromkeys(FRESH.units, True))
    capture = plan_rebuild(Config(), facts).capture
    assert capture
    debug = DebugKernel(RELEASE, f"{paths.DEBUG_MODULES}/{RELEASE}/vmlinux", KERNEL.build_id, "BTF+symbols")
    return replace(
        facts,
        derived=OwnFile(paths.DERIVED_CONFIG, capture.derived),
        preset=OwnFile(paths.PRESET, capture.preset),
        capture_env=capture.env,
        image=ImageState(capture.image, True, capture.fingerprint, 9_400_000, unpacked=24 << 20),
        loaded=Loaded(RELEASE, capture.fingerprint, capture.cmdline, capture.image, "-s"),
        debug=(debug,),
    )


def blocks(text: str) -> list[str]:
    """The indented blocks of a Markdown text, without their indentation."""
    found = re.findall(r"(?:^(?: {4}.*)?\n)+", text, re.MULTILINE)
    return [re.sub(r"^ {4}", "", block, flags=re.MULTILINE).strip("\n") for block in found if block.strip()]


def test_status_looks_as_in_the_readme(
    ctx: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reconcile, "read_facts", lambda *_: armed_facts())
    monkeypatch.setattr(configuration, "load", lambda *_: Config())
    facts = armed_facts()
    assert facts.loaded
    known = Rehearsed(1_795_420_014, facts.loaded.fingerprint, RELEASE, "128M", True, "", 128 << 20, 30_000, 38.2)
    monkeypatch.setattr(health_facts, "read_health", lambda *_: replace(SEEN, rehearsed=known))
    assert cli.main(["status", "--root", str(ctx.root)]) == 0
    assert f"# kdump-pkg status\n{capsys.readouterr().out.rstrip()}" in blocks(README)


def test_commands_of_the_readme_are_accepted() -> None:
    lines = re.findall(r"^ *(?:# )?kdump-pkg ([a-z].*)$", README, re.MULTILINE)
    lines += re.findall(r"`kdump-pkg ([a-z][^`]*)`", README)
    parser = cli.build_parser()
    for line in lines:
        parser.parse_args(shlex.split(re.split(r"\s{2,}", line)[0]))
    assert {line.split()[0] for line in lines} >= {"status", "rebuild", "rehearse"}


def test_options_of_the_readme_are_good(ctx: Context) -> None:
    section = README[README.index("## Configure") : README.index("## When it is not armed")]
    rows = re.findall(r"^\| `(\w+ = [^`]+)` \|", section, re.MULTILINE)
    text = "\n".join(row.replace("age1…", f"age1{'q' * 58}").replace("…", "x") for row in rows)
    (ctx.root / "etc").mkdir()
    (ctx.root / "etc/kdump-pkg.conf").write_text(text)
    assert configuration.load(ctx).kernel == "linux-lts"
    named = set(re.findall(r"`(\w+) =[^=]*?`", README))
    assert named <= {option.name for option in (*OPTIONS, *VARIANT_OPTIONS)}


def test_options_of_the_variant_are_good(ctx: Context) -> None:
    section = README[README.index("## A slim capture kernel") : README.index("## Configure")]
    rows = re.findall(r"^\| `(\w+ = [^`]+)` \|", section, re.MULTILINE)
    make_tree(ctx.root, {paths.CONFIG: "\n".join(["[variant]", *rows, ""])})
    wish = configuration.load(ctx).variant
    assert (wish.drivers, wish.network, wish.trust) == ("all", True, True) and wish.source.startswith("/")


def test_meta_of_the_readme_has_the_keys_of_the_script() -> None:
    script = (docs.REPO / "hooks/save/core.sh").read_text(encoding="utf-8")
    body = script[script.index("store_meta()") :]
    meta = next(block for block in blocks(README) if block.startswith("format=1"))
    keys = [line.partition("=")[0] for line in meta.splitlines()]
    written = re.findall(r"\b([a-z_]+)=(?=[$1])", body[: body.index("} >")].partition("printf")[2])
    assert [key for key in keys if not key.startswith("step_")] == written
    steps = {key.removeprefix("step_") for key in keys if key.startswith("step_")}
    whole = script + (docs.REPO / "hooks/kdump-save").read_text(encoding="utf-8")
    assert steps and all(re.search(rf'\bstep "?{name}', whole) for name in steps)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (docs.REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake (demo|test-fast|test|lint)\b", README + CONTRIBUTING)) <= targets


def test_paths_of_the_map_exist() -> None:
    table = CONTRIBUTING[: CONTRIBUTING.index("## How the program")]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    named = {path.rstrip("/") for row in rows for path in re.findall(r"`([^`]+)`", row)}
    assert [path for path in sorted(named) if not (docs.REPO / path).exists()] == []
    top = {path.partition("/")[0] for path in named} | {"README.md", "CONTRIBUTING.md", "LICENSE"}
    sources = {path.name for path in docs.REPO.iterdir() if not path.name.startswith(".")} | {".SRCINFO"}
    ignored = {"build", "dist", "pkg", "src", "__pycache__"}  # what building leaves, see .gitignore
    assert {name for name in sources - top - ignored if "." not in name.removeprefix(".")} == set()


# The table of the README against what the program really says, both ways.


def _obstacle(boot: Boot) -> str:
    return plan_rebuild(Config(), replace(FRESH, boot=boot)).warnings[0]


def _warning(facts: Facts, config: Config | None = None) -> str:
    return plan_rebuild(config or Config(), facts).warnings[0]


def _error(action: Callable[[], object]) -> str:
    with pytest.raises(KdumpError) as caught:
        action()
    return caught.value.message


def _finding(facts: Facts, part: str) -> str:
    config = Config()
    return next(f.text for f in plan_status(config, facts, plan_rebuild(config, facts)).findings if f.part == part)


def _target(ctx: Context, fstab: str) -> str:
    (ctx.root / "etc").mkdir(exist_ok=True)
    (ctx.root / "etc/fstab").write_text(fstab)
    return read_targets(ctx, Config())[0].problem or ""


def _missing_target() -> str:
    target = Target("UUID=1", "", "/")
    return _warning(replace(FRESH, targets=(replace(target, problem=missing("UUID=1", "[target uuid=1]")),)))


def _with_target(**changes: object) -> Facts:
    return replace(FRESH, targets=(replace(FRESH.targets[0], **changes),))  # type: ignore[arg-type]


def _locked_target(key: str = "none") -> Facts:
    volume = CryptVolume("aaaa", 2, 1 << 20, key)  # type: ignore[arg-type]
    names = frozenset({"dm_mod", "dm_crypt"})
    return replace(
        _with_target(layers=(Layer("crypt", "aaaa"),), crypt=(volume,)),
        boot=replace(RESERVED, crash_dm_crypt=True),
        programs={"cryptsetup": "1"},
        modules=replace(FRESH.modules, builtin=names),
    )


def _config(ctx: Context, line: str) -> str:
    (ctx.root / "etc").mkdir(exist_ok=True)
    (ctx.root / "etc/kdump-pkg.conf").write_text(f"{line}\n")
    with pytest.raises(ConfigError) as caught:
        configuration.load(ctx)
    return caught.value.problems[0]


def _locked(ctx: Context) -> str:
    path = ctx.root / "lock"
    with lock(path), pytest.raises(BusyError) as caught, lock(path):
        pass
    return caught.value.message


def _failing(ctx: Context) -> Context:
    def runner(*_: object, **__: object) -> None:
        raise CommandError("no such luck")

    return replace(ctx, runner=runner)  # type: ignore[arg-type]


def _checked(part: str, **changes: object) -> str:
    """What `status` says of an armed machine in which one thing that it looks at is otherwise."""
    found = plan_status(Config(), armed_facts(), plan_rebuild(Config(), armed_facts()), replace(SEEN, **changes))  # type: ignore[arg-type]
    return next(f.text for f in found.findings if f.part == part and f.state != "ok")


def _fresh(part: str, boot: Boot = FRESH.boot, **changes: object) -> str:
    facts = replace(FRESH, boot=boot)
    found = plan_status(Config(), facts, plan_rebuild(Config(), facts), replace(SEEN, **changes))  # type: ignore[arg-type]
    return next(f.text for f in found.findings if f.part == part)


def _reserving(mib: int) -> str:
    facts = armed_facts()
    facts = replace(facts, boot=replace(facts.boot, crash_size=mib << 20))
    found = plan_status(Config(), facts, plan_rebuild(Config(), facts), SEEN)
    return next(f.text for f in found.findings if f.part == "reservation")


def _rehearsed(captured: bool, **changes: object) -> Rehearsed:
    loaded = armed_facts().loaded
    assert loaded
    first = Rehearsed(
        1_795_420_014, loaded.fingerprint, RELEASE, "128M", captured, "no memory", 128 << 20, 30_000, 38.2
    )
    return replace(first, **changes)  # type: ignore[arg-type]


def _place(**changes: object) -> str:
    place = Place("/boot", "esp", "/dev/vda1")
    around = Surroundings(places=(replace(place, **changes),))  # type: ignore[arg-type]
    return places.problem(around, ["/boot/loader/entries/arch.conf"]) or ""


def _uncertain() -> str:
    """In a chroot, where two entries name roots that /etc/fstab doesn't."""
    loader = lines("root=PARTUUID=1 rw", "root=PARTUUID=2 rw")
    amount = Amount(("128M",), False, ())
    return plan_setup(loader, Surroundings(), amount, Here()).notes[0]


GRUB_CFG = Result("/boot/grub/grub.cfg", "grub.cfg")
DUMP = Entry("2026-11-23T07-46-54Z-7.1.2", "/x/2026-11-23T07-46-54Z-7.1.2", "kdump-pkg", 0, "7.1.2", "dmesg only")


def _damaged(ctx: Context) -> str:
    make_tree(ctx.root, {f"{DUMP.path}/meta": "format=1\nrelease=7.1.2\nmakedumpfile=1.7.8\n"})
    return verification._blame(ctx, DUMP, Vmcore("kdump", "x86_64", CoreInfo(), level=31))


def _open_secrets(ctx: Context) -> str:
    make_tree(ctx.root, {"/etc/kdump-pkg/rclone.conf": "[crashes]\n"})
    return _error(lambda: read_store(ctx, UploadWish("crashes:b")))


def _unsent(ctx: Context) -> str:
    config, health = replace(Config(), upload=UploadWish("crashes:b")), Health(dumps=("/x/one",))
    return next(
        f.text for f in plan_status(config, FRESH, plan_rebuild(config, FRESH), health).findings if f.part == "upload"
    )


SLIM = Kernel(
    "6.17.8-kdump", "/usr/lib/modules/6.17.8-kdump/vmlinuz", None, paths.VARIANT, "6.17.8-1", "cd" * 20,
    builtin=frozenset({"nvme", "ext4", "crypto_crc32c"}),
)  # fmt: skip


def _slim(kernel: Kernel = SLIM, config: Config | None = None, **changes: object) -> Facts:
    """A machine on which linux-kdump was asked for, built and rehearsed."""
    config = config or Config()
    wanted = variant.wanted(config, FRESH, KERNEL)
    built = Built(wanted, SLIM.release, "cd" * 20, 1_795_420_014)
    record = replace(Record(True, wanted, built, trusted={"cd" * 20: "rehearsed"}), **changes)  # type: ignore[arg-type]
    facts = replace(FRESH, kernels=(KERNEL, kernel), variant=VariantState(record, now=1_795_420_074))
    return variant.hold(config, facts)


def _waiting(text: str) -> str:
    state = VariantState(running=True, progress=Progress("waiting", text, 1_795_420_014), now=1_795_420_074)
    return _finding(replace(FRESH, variant=state), "variant")


def _failed(step: str, text: str) -> str:
    wanted = variant.wanted(Config(), FRESH, KERNEL)
    record = Record(True, failure=Failure(wanted, 1_795_420_014, step, text))
    return _finding(replace(FRESH, variant=VariantState(record)), "variant")


def _captures_instead() -> str:
    config = Config(kernel=paths.VARIANT)
    return next(w for w in plan_rebuild(config, _slim(config=config, trusted={})).warnings if "instead" in w)


SPOKEN: dict[str, Callable[[Context], str]] = {
    "no reservation": lambda ctx: _obstacle(FRESH.boot),
    "too large": lambda ctx: _obstacle(replace(RESERVED, crash_size=0)),
    "no CONFIG_CRASH_DUMP": lambda ctx: _obstacle(replace(RESERVED, crash_size=None)),
    "locked": lambda ctx: _obstacle(replace(RESERVED, load_disabled=True)),
    "unit off": lambda ctx: _finding(FRESH, "kdump.service"),
    "stale": lambda ctx: _error(lambda: plan_load(Config(), replace(FRESH, boot=RESERVED))),
    "not built": lambda ctx: _error(
        lambda: images.build(_failing(ctx), BuildImage("/boot/x.img", "mkinitcpio", RELEASE, "0", "direct", ""))
    ),
    "refused": lambda ctx: _error(
        lambda: kexec.load(_failing(ctx), Load("/vmlinuz", "/image", "", RELEASE, "0", ("-s",), ""))
    ),
    "no kernel": lambda ctx: _warning(replace(FRESH, kernels=())),
    "other kernel": lambda ctx: _warning(FRESH, Config(kernel="linux-zen")),
    "no module": lambda ctx: _warning(FRESH, Config(modules=("nvmee",))),
    "no makedumpfile": lambda ctx: _warning(replace(FRESH, tools={})),
    "no generator": lambda ctx: read_system_images(ctx, open_packages(ctx), "auto").problem or "",
    "tmpfs": lambda ctx: _target(ctx, "tmpfs /var tmpfs defaults 0 0\n"),
    "device name": lambda ctx: _target(ctx, "/dev/sda2 / ext4 defaults 0 1\n"),
    "no fstab": lambda ctx: _target(ctx, ""),
    "unknown option": lambda ctx: _config(ctx, "kernl = linux"),
    "wrong value": lambda ctx: _config(ctx, "timeout = soon"),
    "edited": lambda ctx: _finding(
        replace(FRESH, derived=OwnFile(paths.DERIVED_CONFIG, b"HOOKS=(base kdump)\n", pristine=False)), "configuration"
    ).splitlines()[0],
    "old makedumpfile": lambda ctx: _finding(replace(FRESH, boot=replace(FRESH.boot, running="7.1.0")), "dump level"),
    "missing target": lambda ctx: _missing_target(),
    "no mdadm": lambda ctx: _warning(_with_target(layers=(Layer("md", "1:2"),))),
    "no key": lambda ctx: _finding(_locked_target(), "encryption"),
    "key refused": lambda ctx: _finding(
        replace(_locked_target("keyfile"), loaded=Loaded("1", "2", "3", "4", "-s", "", "aaaa")), "encryption"
    ),
    "argon2": lambda ctx: next(w for w in plan_rebuild(Config(), _locked_target()).warnings if "Argon2" in w),
    "trace": lambda ctx: _finding(replace(FRESH, traces=(Trace(0, RELEASE, "target: x", "record"),)), "last crash"),
    "chroot": lambda ctx: (
        plan_status(Config(), replace(FRESH, boot=Boot(confined="in a chroot")), plan_rebuild(Config(), FRESH)).verdict
    ),
    "busy": _locked,
    "no debugger": lambda ctx: _finding(FRESH, "debuggers"),
    "old crash": lambda ctx: readers.obstacle("crash", "9.0.2-1", "7.1.2-arch1-1"),
    "damaged": _damaged,
    "damaged on the disk": lambda ctx: _fresh(
        "last crash", last_dump=LastDump("/d", 0, RELEASE, "complete", damaged=True)
    ),
    "no vmlinux": lambda ctx: _error(lambda: vmlinux.ensure(ctx, RELEASE, "ab" * 20)),
    "encrypted dump": lambda ctx: _error(
        lambda: debugging._identify(ctx, replace(DUMP, vmcore="/x/vmcore.age"), force=False)
    ),
    "no vmcore": lambda ctx: _error(lambda: debugging._identify(ctx, DUMP, force=False)),
    "untried": lambda ctx: _finding(_slim(trusted={}), "variant"),
    "no driver in it": lambda ctx: _finding(_slim(replace(SLIM, builtin=frozenset()), followed=False), "variant"),
    "not the variant": lambda ctx: _captures_instead(),
    "build due": lambda ctx: _finding(replace(FRESH, variant=VariantState(Record(followed=True))), "variant"),
    "battery": lambda ctx: _waiting(obstacle(VariantWish(), Power(online=False, discharging=True), 0, 2) or ""),
    "busy machine": lambda ctx: _waiting(obstacle(VariantWish(), Power(online=True, discharging=False), 9, 2) or ""),
    "build failed": lambda ctx: _failed("preparing", "the archive of the source is damaged, or is none"),
    "rehearsal of the variant failed": lambda ctx: _failed("rehearsing", "6.17.8-kdump failed its rehearsal: no disk"),
    "no source": lambda ctx: _error(lambda: resolve(VariantWish(), "linux-git", "6.13rc1.r5.gabcdef1-1", "")),
    "no builder": lambda ctx: _error(lambda: package_build.builder(ctx)),
    "rclone's keys": _open_secrets,
    "not sent": _unsent,
    "not set up": lambda ctx: _fresh("boot loader", loaders=(lines("rw quiet"),)),
    "not rebooted": lambda ctx: _fresh("boot loader"),
    "typed at the menu": lambda ctx: _checked("boot loader", loaders=(lines("rw quiet"),)),
    "two loaders": lambda ctx: _fresh("boot loader", loaders=(lines("rw", booted=False), OTHER)),
    "not generated": lambda ctx: lacking({GRUB_CFG: (ResultLine("Arch Linux", "root=UUID=1 rw"),)}, (("128M",),)) or "",
    "which loader": lambda ctx: _error(lambda: choose((lines("rw", booted=False), OTHER), None)),
    "which root": lambda ctx: _uncertain(),
    "hidden": lambda ctx: _place(readable=False),
    "read-only": lambda ctx: _place(readonly=True),
    "not mounted": lambda ctx: _place(mounted=False),
    "too few": lambda ctx: _reserving(32),
    "too many": lambda ctx: _reserving(1024),
    "unsigned": lambda ctx: _fresh("loading", replace(RESERVED, lockdown="integrity")),
    "not captured": lambda ctx: _checked("rehearsal", rehearsed=_rehearsed(False)),
    "test lost": lambda ctx: _checked(
        "crash test", test=CrashTest("c0ffee00", "x", 1, RELEASE, "lost", reason="no target")
    ),
}


def _rows() -> list[re.Pattern[str]]:
    """First cells of the table of messages, `…` for anything."""
    table = README[README.index("## When it is not armed") : README.index("## What it doesn't do yet")]
    rows = re.findall(r"^\| (`.+?`) \|", table, re.MULTILINE)
    cells = [cell for row in rows for cell in re.findall(r"`([^`]+)`", row)]
    return [re.compile("".join(".*" if part == "…" else re.escape(part) for part in re.split("(…)", c))) for c in cells]


@pytest.mark.parametrize("case", SPOKEN)
def test_what_is_said_is_in_the_readme(case: str, ctx: Context) -> None:
    said = SPOKEN[case](ctx)
    assert [row.pattern for row in _rows() if row.fullmatch(said)], said


def test_every_row_of_the_readme_is_said(ctx: Context) -> None:
    said = [say(ctx) for say in SPOKEN.values()]
    assert [row.pattern for row in _rows() if not any(row.fullmatch(text) for text in said)] == []


# --- the package ---


@pytest.mark.spawns
def test_srcinfo_is_that_of_the_pkgbuild() -> None:
    script = '. ./PKGBUILD; for k in "$@"; do declare -n a=$k; for v in "${a[@]}"; do echo "$k = $v"; done; done'
    keys = [
        "pkgdesc", "pkgver", "pkgrel", "url", "install", "arch", "license", "checkdepends", "depends", "optdepends",
        "backup", "source", "sha256sums", "pkgname",
    ]  # fmt: skip
    wanted = tool("bash", "-c", script, "bash", *keys).stdout.splitlines()
    text = (docs.REPO / ".SRCINFO").read_text(encoding="utf-8")
    assert sorted(line.strip() for line in text.splitlines() if line.strip()) == sorted(
        [*wanted, "pkgbase = kdump-pkg"]
    )
    assert f"\tpkgver = {__version__}\n" in text


def test_license_is_the_one_that_is_named() -> None:
    text = " ".join((docs.REPO / "LICENSE").read_text(encoding="utf-8").split())
    assert text.startswith("GNU GENERAL PUBLIC LICENSE Version 2, June 1991")
    assert "END OF TERMS AND CONDITIONS" in text
    assert "license=('GPL-2.0-or-later')" in (docs.REPO / "PKGBUILD").read_text(encoding="utf-8")
