"""linux-kdump/configure, on a STAND-IN for the source of Linux: a few options, and make that settles
them as Kconfig does. That real sources are configured and built is for tests/lab/variant.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.shell.conftest import need
from tests.shell.machine import REPO

RECIPE = REPO / "linux-kdump"
KCONFIG = """\
config EXPERT
\tbool "Expert"

config BLOCK
\tbool "Block"

menuconfig SCSI
\ttristate "SCSI"
\tdepends on BLOCK

config BLK_DEV_SD
\ttristate "Disks"
\tdepends on SCSI

config NOISE
\tbool "Noise"
\tdefault y

config FORCED
\tdef_bool y

config LOCALVERSION
\tstring "Local version"

config SMALL
\tint
\tdefault 1

config OTHER_ARCH
\tbool "For aarch64"
"""
DRIVERS = "obj-$(CONFIG_SCSI) := scsi_mod.o\nobj-$(CONFIG_BLK_DEV_SD)\t+= sd_mod.o other-1.o\n"
MAKEFILE = """\
kernelversion:
\t@[ -n '$(KERNEL)' ] && echo $(KERNEL)
tinyconfig:
\t@echo tinyconfig >>calls
\t@: >$(KCONFIG_CONFIG)
olddefconfig:
\t@echo olddefconfig $(ARCH) >>calls
\t@sh scripts/kconfig/conf $(KCONFIG_CONFIG)
"""
CONF = """\
# As Kconfig: what isn't known is dropped, what depends on something unset as well, defaults come by themselves.
{ cat "$1"
  grep -q 'CONFIG_NOISE' "$1" || echo CONFIG_NOISE=y
  echo CONFIG_FORCED=y
  echo CONFIG_SMALL=1
} | awk '
    FNR == NR && /config / { name = "CONFIG_" $2; known[name] = 1; order[n++] = name }
    FNR == NR { if (/depends on/) needs[name] = $3; next }
    { name = $0; sub(/^# /, "", name); sub(/[= ].*/, "", name) }
    !(name in known) { next }
    name != "CONFIG_SMALL" || /=1$/ { line[name] = $0 }
    END { for (i = 0; i < n; i++) {
        need = needs[order[i]]
        if (need != "" && line["CONFIG_" need] !~ /=y$/) line[order[i]] = ""
        if (line[order[i]] != "") print line[order[i]]
    } }' drivers/Kconfig - >"$1.new" && mv "$1.new" "$1"
"""
MERGE = """\
#!/bin/sh
# -m -O DIRECTORY BASE FRAGMENT…: as the kernel's, the last one to name an option wins; and it writes where it stands.
: >"tmp.$$"
[ "$1 $2" = '-m -O' ] || exit 1
to=$3; shift 3
awk '{ name = $0; sub(/^# /, "", name); sub(/[= ].*/, "", name) }
     name ~ /^CONFIG_/ { line[name] = $0 } END { for (name in line) print line[name] }' "$@" >"$to/.config"
"""


@dataclass
class Recipe:
    """A copy of `configure`, with fragments of the test's own, and a source."""

    top: Path
    fragments: dict[str, str] = field(default_factory=dict)
    kernel: str = "6.12.1"

    def __post_init__(self) -> None:
        self.source, self.build, self.home = (self.top / name for name in ("source", "build", "recipe"))
        self.home.mkdir()
        shutil.copy(RECIPE / "configure", self.home)
        for name, text in {
            "Makefile": MAKEFILE, "drivers/Kconfig": KCONFIG, "drivers/scsi/Makefile": DRIVERS,
            "scripts/kconfig/conf": CONF, "scripts/kconfig/merge_config.sh": MERGE,
        }.items():  # fmt: skip
            path = self.source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.source / "scripts/kconfig/merge_config.sh").chmod(0o755)

    def write(self, **fragments: str) -> None:
        self.fragments.update(fragments)
        for name, text in fragments.items():
            (self.home / f"{name}.config").write_text(textwrap.dedent(text))

    def run(self, *modules: str, arch: str = "x86_64", source: Path | None = None) -> tuple[int, str]:
        """Its exit status, and the last line that it says."""
        argv: list[str | Path] = [
            self.home / "configure",
            source or self.source,
            self.build,
            arch,
            *self.fragments,
            "--",
            *modules,
        ]
        env = {**os.environ, "KERNEL": self.kernel, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=60)
        said = done.stderr.strip().splitlines()
        assert not said or "line " not in said[-1], done.stderr
        return done.returncode, said[-1] if said else ""

    @property
    def config(self) -> set[str]:
        return set((self.build / ".config").read_text().splitlines())

    @property
    def calls(self) -> list[str]:
        path = self.source / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    for tool in ("make", "gcc", "awk"):
        need(tool)
    return Recipe(tmp_path)


def test_fragments_are_merged_and_hold(recipe: Recipe) -> None:
    recipe.write(
        base='CONFIG_LOCALVERSION="-kdump"\nCONFIG_EXPERT=y\n# CONFIG_NOISE is not set\n', disk="CONFIG_BLOCK=y\n"
    )
    assert recipe.run() == (0, "")
    assert {
        'CONFIG_LOCALVERSION="-kdump"',
        "CONFIG_EXPERT=y",
        "CONFIG_BLOCK=y",
        "# CONFIG_NOISE is not set",
    } <= recipe.config
    assert recipe.calls == ["tinyconfig", "olddefconfig x86_64"]


def test_what_does_not_stick_is_named_with_its_fragment(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n# CONFIG_FORCED is not set\n", disk="CONFIG_SCSI=y\nCONFIG_BLK_DEV_SD=y\n")
    status, said = recipe.run()
    assert status == 1
    assert said == (
        "linux-kdump: Linux 6.12.1: base.config: CONFIG_FORCED can't be left out; "
        "disk.config: CONFIG_SCSI can't be set; disk.config: CONFIG_BLK_DEV_SD can't be set"
    )


def test_what_the_source_does_not_have_is_named(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\nCONFIG_GONE=y\nCONFIG_EXPERT_GONE=y\n# CONFIG_NEVER is not set\n")
    assert recipe.run() == (
        1,
        "linux-kdump: Linux 6.12.1: base.config: CONFIG_GONE is not in this source; "
        "base.config: CONFIG_EXPERT_GONE is not in this source",
    )


def test_somebody_elses_source_is_only_read(recipe: Recipe) -> None:
    """`source =` may be a tree that the user who builds can't write to."""
    recipe.write(base="CONFIG_EXPERT=y\n")
    before = {path for path in recipe.source.rglob("*") if path.name != "calls"}
    assert recipe.run() == (0, "")
    assert {path for path in recipe.source.rglob("*") if path.name != "calls"} == before


def test_what_is_not_in_every_kernel_may_be_unknown_but_not_refused(recipe: Recipe) -> None:
    recipe.write(base="# Not in every kernel:\nCONFIG_GONE=y\n# Once a number:\nCONFIG_SMALL=y\n\nCONFIG_EXPERT=y\n")
    assert recipe.run() == (0, "")
    recipe.write(disk="# Not in every kernel, as it were:\nCONFIG_SCSI=y\n")
    assert recipe.run() == (1, "linux-kdump: Linux 6.12.1: disk.config: CONFIG_SCSI can't be set")


def test_an_empty_line_ends_what_may_be_unknown(recipe: Recipe) -> None:
    recipe.write(base="# Not in every kernel:\nCONFIG_GONE=y\n\nCONFIG_GONE_TOO=y\n")
    assert recipe.run() == (1, "linux-kdump: Linux 6.12.1: base.config: CONFIG_GONE_TOO is not in this source")


@pytest.mark.parametrize(("arch", "make"), [("x86_64", "x86_64"), ("aarch64", "arm64")])
def test_groups_of_an_architecture(recipe: Recipe, arch: str, make: str) -> None:
    recipe.write(
        base="CONFIG_EXPERT=y\n\n# aarch64: say\nCONFIG_OTHER_ARCH=y\n\n# x86_64\nCONFIG_BLOCK=y\n\nCONFIG_SMALL=1\n"
    )
    assert recipe.run(arch=arch) == (0, "")
    assert ("CONFIG_OTHER_ARCH=y" in recipe.config) == (arch == "aarch64")
    assert ("CONFIG_BLOCK=y" in recipe.config) == (arch == "x86_64")
    assert recipe.calls[-1] == f"olddefconfig {make}"


def test_one_that_is_not_built_for(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    assert recipe.run(arch="riscv64") == (1, "linux-kdump: there is no configuration for riscv64")


def test_what_one_leaves_out_another_may_ask_for(recipe: Recipe) -> None:
    recipe.write(keys="CONFIG_NOISE=y\n", rest="# CONFIG_NOISE is not set\n")
    assert recipe.run() == (0, "")
    assert "CONFIG_NOISE=y" in recipe.config


def test_drivers_by_the_names_of_their_modules(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_BLOCK=y\nCONFIG_SCSI=y\n")
    assert recipe.run("other_1") == (0, "")
    assert "CONFIG_BLK_DEV_SD=y" in recipe.config


def test_a_driver_of_a_makefile_that_has_no_more(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_BLOCK=y\n")
    assert recipe.run("scsi_mod") == (0, "")
    assert "CONFIG_SCSI=y" in recipe.config


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("nonsense", "Linux 6.12.1 has no driver nonsense"),
        ("mod", "Linux 6.12.1 has no driver mod"),
        (".*", ".*: no name of a module"),
        ("sd_mod", "Linux 6.12.1: modules.config: CONFIG_BLK_DEV_SD can't be set"),
    ],
)
def test_a_driver_that_is_not_to_be_had(recipe: Recipe, module: str, said: str) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    assert recipe.run(module) == (1, f"linux-kdump: {said}")


@pytest.mark.parametrize(
    ("version", "ok"), [("6.5.19", False), ("5.15", False), ("6.6", True), ("6.6.1", True), ("10.0", True)]
)
def test_a_source_that_is_too_old(recipe: Recipe, version: str, ok: bool) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    recipe.kernel = version
    said = f"linux-kdump: Linux {version} is older than this configuration, which is for 6.6 and later"
    assert recipe.run() == ((0, "") if ok else (1, said))


def test_what_is_no_source(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    assert recipe.run(source=recipe.home) == (1, f"linux-kdump: {recipe.home}: no source of a kernel")
    recipe.kernel = ""
    assert recipe.run() == (1, f"linux-kdump: {recipe.source}: make doesn't say which kernel this is")


def test_a_tree_that_was_built_in(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    (recipe.source / ".config").touch()
    status, said = recipe.run()
    assert status == 1 and "a kernel has been built in it" in said


def test_a_fragment_that_is_not_there(recipe: Recipe) -> None:
    recipe.fragments["gone"] = ""
    assert recipe.run() == (1, "linux-kdump: there is no fragment gone.config")


def test_no_compiler(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("env", "bash", "realpath"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    monkeypatch.setenv("PATH", str(tools))
    assert recipe.run() == (1, "linux-kdump: there is no gcc to build with")


def test_make_that_fails(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    (recipe.source / "scripts/kconfig/conf").write_text("exit 1\n")
    assert recipe.run() == (1, "linux-kdump: Linux 6.12.1: make olddefconfig failed")
    (recipe.source / "scripts/kconfig/conf").write_text("echo gcc: not found >&2\nexit 1\n")
    assert recipe.run() == (1, "linux-kdump: Linux 6.12.1: make olddefconfig failed: gcc: not found")
    (recipe.source / "scripts/kconfig/merge_config.sh").write_text("#!/bin/sh\necho no awk >&2\nexit 1\n")
    assert recipe.run() == (1, "linux-kdump: merge_config.sh: no awk")


# --- once more --------------------------------------------------------------------------------------------------------


def test_nothing_is_done_again(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    assert recipe.run() == (0, "")
    before, calls = (recipe.build / ".config").stat(), recipe.calls
    assert recipe.run() == (0, "")
    assert (recipe.build / ".config").stat().st_mtime_ns == before.st_mtime_ns and recipe.calls == calls


def edit_fragment(recipe: Recipe) -> Sequence[str]:
    recipe.write(base="CONFIG_EXPERT=y\nCONFIG_BLOCK=y\nCONFIG_SCSI=y\n")
    return ()


def add_driver(recipe: Recipe) -> Sequence[str]:
    return ("sd_mod",)


def edit_result(recipe: Recipe) -> Sequence[str]:
    (recipe.build / ".config").write_text("CONFIG_NOTHING=y\n")
    return ()


def edit_source(recipe: Recipe) -> Sequence[str]:
    path, made = recipe.source / "drivers/Kconfig", (recipe.build / ".configured").stat().st_mtime
    os.utime(path, (made + 1, made + 1))
    return ()


def newer_source(recipe: Recipe) -> Sequence[str]:
    recipe.kernel = "6.12.2"
    return ()


def newer_recipe(recipe: Recipe) -> Sequence[str]:
    with (recipe.home / "configure").open("a") as file:
        file.write("# newer\n")
    return ()


CHANGES = (edit_fragment, add_driver, edit_result, edit_source, newer_source, newer_recipe)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_has_changed_is_configured_anew(recipe: Recipe, change: Callable[[Recipe], Sequence[str]]) -> None:
    recipe.write(base="CONFIG_EXPERT=y\nCONFIG_BLOCK=y\n", disk="CONFIG_SCSI=y\n")
    assert recipe.run() == (0, "")
    calls = recipe.calls
    assert recipe.run(*change(recipe)) == (0, "")
    assert len(recipe.calls) > len(calls)
    assert "CONFIG_EXPERT=y" in recipe.config


def test_the_same_result_stays_the_same_file(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\n")
    assert recipe.run() == (0, "")
    before = (recipe.build / ".config").stat().st_mtime_ns
    recipe.write(base="# A comment\nCONFIG_EXPERT=y\n")
    assert recipe.run() == (0, "")
    assert (recipe.build / ".config").stat().st_mtime_ns == before, "or make would build all of it again"


def test_what_failed_is_tried_again(recipe: Recipe) -> None:
    recipe.write(base="CONFIG_EXPERT=y\nCONFIG_SCSI=y\n")
    for _ in range(2):
        assert recipe.run() == (1, "linux-kdump: Linux 6.12.1: base.config: CONFIG_SCSI can't be set")
