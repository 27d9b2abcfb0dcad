"""The completions offer what the parser takes: asked for real in bash and fish, in zsh up to its completion system."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from kdump_pkg import cli
from kdump_pkg.cli.variant import ACTIONS, BELONGS
from kdump_pkg.model.wishes import LoaderName
from tests import docs
from tests.docs import flags, verbs
from tests.tools import tool

VERBS = tuple(verbs())
DIRECTORIES = {"--root", "--keep"}
WORDS = ("", "re", "--", "nonsense ", "rehearse --ro", *(f"{verb} --" for verb in VERBS))
LINES = [f"kdump-pkg {words}" for words in WORDS]


def expected(line: str) -> set[str]:
    """What ought to be offered for the last word of LINE, from the parser itself."""
    *before, last = line.split(" ")
    verb = before[1] if len(before) > 1 else None
    if verb is not None:
        offered = flags(verbs()[verb]) if verb in VERBS else set()
    else:
        offered = flags(cli.build_parser()) if last.startswith("-") else set(VERBS)
    return {word for word in offered if word.startswith(last) and (last or not word.startswith("-"))}


BASH = """
. shell/kdump-pkg.bash
[[ $(complete -p kdump-pkg) == *"-F _kdump_pkg kdump-pkg" ]] || exit 9
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_kdump_pkg
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _bash(*words: str) -> set[str]:
    done = tool("bash", "--norc", "--noprofile", "-c", BASH, "bash", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


@pytest.mark.spawns
@pytest.mark.parametrize("line", LINES)
def test_bash_completes(line: str) -> None:
    offered = _bash(*line.split(" "))
    wanted = expected(line)
    if line == "kdump-pkg ":  # nothing typed yet: bash shows what else there is
        wanted |= flags(cli.build_parser())
    assert offered == wanted


@pytest.mark.spawns
@pytest.mark.parametrize(
    "words", [("status", "--root", "{}/d"), ("rehearse", "--keep", "{}/d"), ("status", "--root", "=", "{}/d")]
)
def test_bash_completes_directories_only(words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "data").touch()
    assert _bash("kdump-pkg", *(word.format(tmp_path) for word in words)) == {f"{tmp_path}/directory"}


ACTION_LINES = (
    "variant ",
    "variant b",
    *(f"variant {action} --" for action in ACTIONS),
    *(f"variant {a} " for a in ACTIONS),
)


def _of_action(line: str) -> set[str]:
    """What ought to be offered for a line that begins with `variant`: its actions, or the flags that go with one."""
    _, *before, last = line.split(" ")
    if not before:
        return {action for action in ACTIONS if action.startswith(last)}
    common = flags(verbs()["variant"]) - set(BELONGS)
    return common | {flag for flag, action in BELONGS.items() if action == before[0]} if last else set()


@pytest.mark.spawns
@pytest.mark.parametrize("line", ACTION_LINES)
def test_all_shells_complete_the_actions_of_variant(line: str) -> None:
    wanted = _of_action(line)
    offered = _bash("kdump-pkg", *line.split(" "))
    assert offered == wanted if wanted else all(word.startswith("-") for word in offered)
    assert _fish(f"kdump-pkg {line}") == wanted
    spec = next(spec for spec in _zsh("argument", "variant") if spec.startswith("1:action:"))
    assert set(spec.partition("(")[2].rstrip(")").split()) == set(ACTIONS)


@pytest.mark.spawns
@pytest.mark.parametrize("flag", ["--memory", "--crashkernel", "--timeout"])
def test_bash_offers_no_flag_for_a_value(flag: str) -> None:
    assert _bash("kdump-pkg", "rehearse", flag, "") == set()


LOADERS = set(get_args(LoaderName))


@pytest.mark.spawns
def test_all_shells_complete_the_boot_loaders() -> None:
    assert _bash("kdump-pkg", "setup", "--loader", "") == LOADERS
    assert _fish("kdump-pkg setup --loader ") == LOADERS
    spec = next(spec for spec in _zsh("argument", "setup") if spec.startswith("--loader="))
    assert set(spec.partition("(")[2].rstrip(")").split()) == LOADERS


# zsh's completion system needs a terminal, so its two functions are replaced: they print what they are asked to offer.
ZSH = """
want=$1 verb=$2
_describe() { print -rl -- ${verbs%%:*} }
_arguments() {
    if [[ $1 == -C ]]; then
        shift
        state=$want words=($verb)
        [[ $want == top ]] || return
    fi
    print -rl -- "$@"
}
complete_it() { . shell/_kdump-pkg }
complete_it
"""


def _zsh(want: str, verb: str = "") -> list[str]:
    done = tool("zsh", "-f", "-c", ZSH, "zsh", want, verb)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.spawns
def test_zsh_completes_verbs() -> None:
    assert _zsh("verb") == list(VERBS)
    assert (docs.REPO / "shell/_kdump-pkg").read_text(encoding="utf-8").startswith("#compdef kdump-pkg\n")


@pytest.mark.spawns
@pytest.mark.parametrize("verb", VERBS)
def test_zsh_completes_flags(verb: str) -> None:
    specs = _zsh("argument", verb)
    found = {match[1]: spec for spec in specs if (match := re.search(r"(?:^\*?|\))(--[a-z-]+)", spec))}
    parser = verbs()[verb]
    assert set(found) == flags(parser)
    for action in (a for a in parser._actions if a.option_strings):
        flag = action.option_strings[-1]
        assert (f"{flag}=[" in found[flag]) == (action.nargs != 0), "takes a value or doesn't"
        assert found[flag].endswith(":_files -/") == (flag in DIRECTORIES)


@pytest.mark.spawns
def test_zsh_completes_flags_of_the_program() -> None:
    found = {match[1] for spec in _zsh("top") if (match := re.search(r"(--[a-z-]+)", spec))}
    assert found == flags(cli.build_parser())


def _fish(line: str) -> set[str]:
    script = "source shell/kdump-pkg.fish; complete -C $argv[1]"
    done = tool("fish", "--no-config", "-c", script, line)
    assert (done.returncode, done.stderr) == (0, "")
    return {offer.split("\t")[0] for offer in done.stdout.splitlines()}


@pytest.mark.spawns
@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str) -> None:
    offered = _fish(line)
    wanted = expected(line)
    if "nonsense" in line:  # what follows an unknown verb is unknown: fish still offers the verbs
        wanted = set(VERBS)
    assert offered == wanted


@pytest.mark.spawns
@pytest.mark.parametrize("line", ["status --root ", "status --root=", "rehearse --keep "])
def test_fish_completes_directories_only(line: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "data").touch()
    offered = _fish(f"kdump-pkg {line}{tmp_path}/d")
    assert {offer.removeprefix("--root=") for offer in offered} == {f"{tmp_path}/directory/"}
