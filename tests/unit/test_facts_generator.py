"""What made the system's images, with bash really evaluating the user's configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kdump_pkg import paths
from kdump_pkg.context import Context
from kdump_pkg.errors import CommandError
from kdump_pkg.facts import generator
from kdump_pkg.facts.alpm import open_packages
from kdump_pkg.model import SystemImages
from kdump_pkg.run import Result, SystemRunner
from tests.fakes import MKINITCPIO_HOOKS, Entry, FakeRunner, Link, bash_arrays, make_tree, pacman_db

MAIN = paths.MKINITCPIO_CONFIG
DROPINS = f"{MAIN}.d"


@dataclass
class HostBash:
    """Runs this machine's bash on the files of a root, without the privilege that chroot(2) wants."""

    timeout: float = 5
    asked: list[float | None] = field(default_factory=list)

    def __call__(
        self,
        argv: Sequence[str],
        *,
        root: Path | None = None,
        stdin: bytes | None = None,
        check: bool = True,
        capture: bool = True,
        timeout: float | None = 300,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        self.asked.append(timeout)
        files = [f"{root}{word}" for word in argv[6:]]
        return SystemRunner()([*argv[:6], *files], check=check, timeout=self.timeout, env=env)


def images(root: Path, entries: Mapping[str, Entry], *, timeout: float = 5, wanted: str = "auto") -> SystemImages:
    make_tree(root, {"/usr/bin/mkinitcpio": "", **entries})
    ctx = Context(root=root, runner=HostBash(timeout))
    return generator.read_system_images(ctx, open_packages(ctx), wanted)


bash = pytest.mark.spawns


@bash
@pytest.mark.parametrize(
    ("entries", "hooks", "modules"),
    [
        pytest.param({MAIN: "HOOKS=(base udev block)\nMODULES=(a b)"}, "base udev block", "a b", id="arrays"),
        pytest.param({MAIN: 'HOOKS="base udev"\nMODULES="a  b\tc"'}, "base udev", "a b c", id="strings"),
        pytest.param({MAIN: "HOOKS='base udev'\nMODULES=a"}, "base udev", "a", id="a bare word"),
        pytest.param({MAIN: ""}, "", "", id="empty"),
        pytest.param({MAIN: "# HOOKS=(x)\n\n"}, "", "", id="comments"),
        pytest.param(
            {MAIN: "HOOKS=(base)", f"{DROPINS}/10-a.conf": "HOOKS+=(b)\nMODULES+=(x)"}, "base b", "x", id="drop-in"
        ),
        pytest.param(
            {MAIN: "HOOKS=(base)", f"{DROPINS}/10.conf": "HOOKS+=(ten)", f"{DROPINS}/9.conf": "HOOKS+=(nine)"},
            "base nine ten", "", id="version order",
        ),
        pytest.param(
            {MAIN: "HOOKS=(base)", f"{DROPINS}/x.conf.pacnew": "HOOKS=(no)", f"{DROPINS}/d.conf": None}, "base", "",
            id="others in the directory",
        ),
        pytest.param({MAIN: "X=1\nif [[ $X ]]; then HOOKS=(yes); else HOOKS=(no); fi"}, "yes", "", id="conditional"),
        pytest.param({MAIN: "a=(b c)\nHOOKS=(base \"${a[@]}\" $(echo d))"}, "base b c d", "", id="expansion"),
        pytest.param({MAIN: "HOOKS=(base)\n[[ -e /nowhere ]] && HOOKS+=(x)\ntrue"}, "base", "", id="false in between"),
        pytest.param(
            {MAIN: "HOOKS=(base)\n[[ -e /nowhere ]] && HOOKS+=(x)", f"{DROPINS}/a.conf": "MODULES=(m)"}, "base", "m",
            id="false at the end of the first file",
        ),
        pytest.param({MAIN: "HOOKS=(base\n# comment inside\n  udev\n)"}, "base udev", "", id="over several lines"),
        pytest.param({MAIN: "echo hello\necho bad >&2\nHOOKS=(base)"}, "base", "", id="it prints"),
        pytest.param({MAIN: "HOOKS=('a b' \"c'd\")"}, None, "", id="odd words"),
        pytest.param({MAIN: "declare -a HOOKS=(base)\nreadonly MODULES=(r)"}, "base", "r", id="declared"),
        pytest.param({MAIN: "HOOKS=(base)\nreturn 0\nHOOKS=(late)"}, "base", "", id="return"),
        pytest.param({MAIN: "set -u\nHOOKS=(base)"}, "base", "", id="set -u"),
        pytest.param({MAIN: "unset HOOKS\nMODULES=()"}, "", "", id="unset"),
        pytest.param({MAIN: "read -r x\nHOOKS=(base)"}, "base", "", id="it reads"),
        pytest.param({MAIN: "set -eu\nIFS=:\nMODULES='a b'"}, "", "a b", id="odd shell settings"),
    ],
)  # fmt: skip
def test_evaluated(root: Path, entries: dict[str, Entry], hooks: str | None, modules: str) -> None:
    found = images(root, entries)
    assert found.problem is None
    if hooks is None:
        assert found.hooks == ("a b", "c'd")
    else:
        assert found.hooks == tuple(hooks.split())
    assert found.modules == tuple(modules.split())


@bash
def test_all_arrays_and_sources(root: Path) -> None:
    entries: dict[str, Entry] = {MAIN: "BINARIES=(/usr/bin/x)\nFILES=(/etc/a '/etc/b c')", f"{DROPINS}/z.conf": ""}
    found = images(root, {**entries, **pacman_db({"mkinitcpio": ("41-1", [])})})
    assert (found.binaries, found.files) == (("/usr/bin/x",), ("/etc/a", "/etc/b c"))
    assert found.sources == (MAIN, f"{DROPINS}/z.conf")
    assert (found.generator, found.version) == ("mkinitcpio", "41-1")


@bash
@pytest.mark.parametrize(("hooks", "flavour"), [("base systemd block", "systemd"), ("base udev", "udev"), ("", "udev")])
def test_flavour(root: Path, hooks: str, flavour: str) -> None:
    assert images(root, {MAIN: f"HOOKS=({hooks})"}).flavour == flavour


@bash
def test_globs_are_expanded_as_mkinitcpio_does(root: Path, tmp_path: Path) -> None:
    make_tree(tmp_path, {"keys/a": "", "keys/b": ""})
    found = images(root, {MAIN: f"FILES=({tmp_path}/keys/*)"})
    assert found.files == (f"{tmp_path}/keys/a", f"{tmp_path}/keys/b")


@bash
def test_nothing_of_our_environment_gets_in(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKS", "stolen")
    monkeypatch.setenv("BASH_ENV", "/nowhere")
    monkeypatch.setenv("SECRET", "x")
    assert images(root, {MAIN: "HOOKS=(${HOOKS-base} ${SECRET-clean})"}).hooks == ("base", "clean")


@bash
@pytest.mark.parametrize(
    ("entries", "words"),
    [
        pytest.param({MAIN: "HOOKS=(base\n"}, "mkinitcpio.conf: line", id="never closed"),
        pytest.param({MAIN: "if true; then\nHOOKS=(x)\n"}, "mkinitcpio.conf: line", id="if without fi"),
        pytest.param({MAIN: "HOOKS=(base))\n"}, "syntax error", id="too many brackets"),
        pytest.param(
            {MAIN: "HOOKS=(a)\nfi\n", f"{DROPINS}/a.conf": "MODULES=(x)"}, "syntax error", id="in the first file"
        ),
        pytest.param({MAIN: "HOOKS=(a)", f"{DROPINS}/a.conf": "'"}, "a.conf: line", id="in a drop-in"),
        pytest.param({MAIN: "HOOKS=(a)\nfalse"}, "exit code 1", id="fails at the end"),
        pytest.param({MAIN: "exit 0"}, "it ends the shell", id="exit"),
        pytest.param({MAIN: "exit 3"}, "exit code 3", id="exit with a code"),
        pytest.param({MAIN: "kill -9 $$"}, "SIGKILL", id="killed"),
        pytest.param({MAIN: bytes(range(1, 256))}, "mkinitcpio.conf", id="binary noise"),
    ],
)
def test_problems(root: Path, entries: dict[str, Entry], words: str) -> None:
    found = images(root, entries)
    assert found.problem is not None
    assert found.problem.startswith(f"{MAIN}: bash can't read it: ")
    assert words in found.problem
    assert len(found.problem.splitlines()) == 1
    assert "for name in" not in found.problem  # our own script is nobody's business
    assert found.generator == "mkinitcpio"


@bash
@pytest.mark.parametrize("text", ["while :; do :; done", "sleep 60", "f() { f; }; f", "exec cat <(sleep 60)"])
def test_endless_is_bounded(root: Path, text: str) -> None:
    found = images(root, {MAIN: text}, timeout=0.3)
    assert found.problem is not None
    assert "for name in" not in found.problem


def test_its_time_limit_is_short(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = HostBash()
    monkeypatch.setattr(SystemRunner, "__call__", lambda self, argv, **k: Result(tuple(argv), 0, bash_arrays(), b""))
    generator.evaluate(Context(root=root, runner=runner), [MAIN])
    assert runner.asked[0] is not None
    assert runner.asked[0] <= 10


def test_answers_that_are_cut_short(root: Path) -> None:
    whole = bash_arrays()
    for end in range(0, len(whole) - 1, 5):
        ctx = Context(root=root, runner=FakeRunner({"/bin/bash": whole[:end]}))
        with pytest.raises(CommandError, match="ends the shell"):
            generator.evaluate(ctx, [MAIN])


def test_no_bash(root: Path) -> None:
    make_tree(root, {"/usr/bin/mkinitcpio": "", MAIN: "HOOKS=()"})
    ctx = Context(root=root, runner=FakeRunner())
    problem = generator.read_system_images(ctx, open_packages(ctx), "auto").problem
    assert "/bin/bash: not found" in (problem or "")


# --- which generator ----------------------------------------------------------------------------------------------

BOTH: dict[str, Entry] = {"/usr/bin/mkinitcpio": "", "/usr/bin/dracut": "", MAIN: "HOOKS=(base)"}


@pytest.mark.parametrize(
    ("entries", "wanted", "chosen", "problem"),
    [
        ({}, "auto", None, "neither mkinitcpio nor dracut is installed"),
        ({"/usr/bin/dracut": ""}, "auto", "dracut", None),
        ({"/usr/bin/mkinitcpio": "", MAIN: ""}, "auto", "mkinitcpio", None),
        (BOTH, "auto", "mkinitcpio", None),
        (BOTH, "dracut", "dracut", None),
        (BOTH | {"/usr/share/libalpm/hooks/90-dracut-install.hook": ""}, "auto", "dracut", None),
        (
            BOTH | {"/usr/share/libalpm/hooks/90-dracut-install.hook": "", "/etc/mkinitcpio.d/linux.preset": ""},
            "auto", "mkinitcpio", None,
        ),
        (
            BOTH | {"/usr/share/libalpm/hooks/90-dracut-install.hook": "", "/etc/mkinitcpio.d/kdump.preset": ""},
            "auto", "dracut", None,
        ),
        ({"/usr/bin/dracut": ""}, "mkinitcpio", None, "mkinitcpio is not installed; install it: pacman -S mkinitcpio"),
        ({"/usr/bin/mkinitcpio": "", MAIN: ""}, "dracut", None, "dracut is not installed"),
        ({"/usr/bin/mkinitcpio": ""}, "auto", "mkinitcpio", f"{MAIN} is missing"),
        ({"/usr/bin/mkinitcpio": "", MAIN: None}, "auto", "mkinitcpio", f"{MAIN} is missing"),
        ({"/usr/bin/mkinitcpio": "", MAIN: Link("/nowhere")}, "auto", "mkinitcpio", f"{MAIN} is missing"),
        ({"/usr/bin/mkinitcpio": None}, "auto", None, "neither"),
    ],
)  # fmt: skip
def test_choice(root: Path, entries: dict[str, Entry], wanted: str, chosen: str | None, problem: str | None) -> None:
    make_tree(root, entries)
    ctx = Context(root=root, runner=FakeRunner({"/bin/bash": bash_arrays()}))
    found = generator.read_system_images(ctx, open_packages(ctx), wanted)
    assert found.generator == chosen
    assert (problem is None) == (found.problem is None)
    assert (problem or "") in (found.problem or "")
    if chosen == "mkinitcpio" and problem is None:
        assert found.hooks == MKINITCPIO_HOOKS


def test_development_version_of_the_generator(root: Path) -> None:
    make_tree(root, {"/usr/bin/dracut": "", **pacman_db({"dracut-git": ("112.r1-1", [])})})
    ctx = Context(root=root, runner=FakeRunner())
    assert generator.read_system_images(ctx, open_packages(ctx), "auto").version == "112.r1-1"
    assert os.environ  # imported for the environment test above
