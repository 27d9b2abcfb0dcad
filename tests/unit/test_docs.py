"""What is written for users agrees with the program: manual pages, completions, sample file, README, package data."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kdump_pkg import __version__, cli, paths, reconcile, render
from kdump_pkg import config as configuration
from kdump_pkg.apply import images, kexec
from kdump_pkg.context import Context
from kdump_pkg.errors import BusyError, CommandError, ConfigError, KdumpError
from kdump_pkg.facts.alpm import open_packages
from kdump_pkg.facts.generator import read_system_images
from kdump_pkg.facts.storage import read_target
from kdump_pkg.fs import lock
from kdump_pkg.model import (
    Boot,
    BuildImage,
    Config,
    DebugKernel,
    Facts,
    ImageState,
    Kernel,
    Load,
    Loaded,
    ModuleIndex,
    OwnFile,
    SystemImages,
    Target,
)
from kdump_pkg.options import OPTIONS, Option
from kdump_pkg.plan.rebuild import plan_load, plan_rebuild
from kdump_pkg.plan.status import plan_status
from tests import docs

README = (docs.REPO / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (docs.REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
MANUAL = (docs.REPO / "man/kdump-pkg.8").read_text(encoding="utf-8")
CONF_MANUAL = (docs.REPO / docs.MANUAL).read_text(encoding="utf-8")
MANUALS = ("man/kdump-pkg.8", docs.MANUAL)
DIRECTORIES = {"--root", "--keep"}


def verbs() -> dict[str, argparse.ArgumentParser]:
    """Each verb's own parser."""
    action = next(a for a in cli.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """Its long options."""
    return {s for a in parser._actions for s in a.option_strings if s.startswith("--")}


VERBS = tuple(verbs())


def plain(roff: str) -> str:
    """Manual page source as the words that a reader sees, roughly."""
    return re.sub(r'\\f[A-Z]|\\&|^\.[A-Z]{1,2} ?|"', "", roff.replace("\\-", "-"), flags=re.MULTILINE)


def section(manual: str, name: str) -> str:
    found = re.search(rf'^\.SH "?{name}"?\n(.*?)(?=^\.SH |\Z)', manual, re.MULTILINE | re.DOTALL)
    assert found, f"no section {name}"
    return found[1]


def entries(text: str) -> dict[str, str]:
    """The .TP paragraphs of a section: first line (plain) to the rest."""
    parts = (part.partition("\n") for part in re.split(r"^\.TP.*\n", text, flags=re.MULTILINE)[1:])
    return {re.sub(r"\s+", " ", plain(head)).strip(): plain(body) for head, _, body in parts}


# --- generated parts ---


def test_sample_is_made_from_the_options() -> None:
    assert (docs.REPO / docs.SAMPLE).read_text(encoding="utf-8") == render.sample_config(), "run python -m tests.docs"


def test_option_list_of_the_manual_is_made_from_the_options() -> None:
    assert docs.with_options(CONF_MANUAL) == CONF_MANUAL, "run python -m tests.docs"
    assert list(entries(section(CONF_MANUAL, "OPTIONS"))) == [option.name for option in OPTIONS]


def test_a_changed_option_changes_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Option("colour", "string", "", "any-thing", "Starts well.\n.so would be a request; a \\ is an escape.")
    monkeypatch.setattr(docs, "OPTIONS", (*OPTIONS, new))
    made = docs.with_options(CONF_MANUAL)
    assert made != CONF_MANUAL
    assert "\n.B colour\n" in made
    assert "Default: none." in made and "any\\-thing" in made
    assert made.count(docs.BEGIN) == made.count(docs.END) == 1


@pytest.mark.parametrize("text", [".so x", "'br", "a\n.so x"])
def test_no_text_becomes_a_request(text: str) -> None:
    assert not re.search(r"^[.']", docs.roff(text), re.MULTILINE)


@pytest.mark.parametrize("marker", [docs.BEGIN, docs.END])
def test_a_lost_marker_is_an_error(marker: str) -> None:
    with pytest.raises(ValueError, match="marker"):
        docs.with_options(CONF_MANUAL.replace(marker, ""))


def test_main_writes_both_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "man").mkdir()
    (tmp_path / docs.MANUAL).write_text(f"before\n{docs.BEGIN}old\n{docs.END}after\n", encoding="utf-8")
    monkeypatch.setattr(docs, "REPO", tmp_path)
    docs.main()
    text = (tmp_path / docs.MANUAL).read_text(encoding="utf-8")
    assert text == f"before\n{docs.BEGIN}{docs.options_section()}{docs.END}after\n"
    assert (tmp_path / docs.SAMPLE).read_text(encoding="utf-8") == render.sample_config()


# --- --help ---


def test_help_names_verbs_and_options() -> None:
    text = cli.build_parser().format_help()
    assert all(re.search(rf"^    {verb} +\w", text, re.MULTILINE) for verb in VERBS)
    assert all(str(code) in text for code in cli.EXIT_CODES)
    rebuild = verbs()["rebuild"].format_help()
    assert all(f"\n  {o.name} = {o.default or '(none)'}\n" in f"{rebuild}\n" for o in OPTIONS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_has_a_help_text(verb: str) -> None:
    assert not [a.dest for a in verbs()[verb]._actions if not a.help]


# --- manual pages ---


@pytest.mark.parametrize("manual", MANUALS)
def test_manual_has_its_sections_and_the_version(manual: str) -> None:
    text = (docs.REPO / manual).read_text(encoding="utf-8")
    wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "FILES", "SEE ALSO"]
    found = [name.strip('"') for name in re.findall(r"^\.SH (.*)$", text, re.MULTILINE)]
    assert [name for name in found if name in wanted] == wanted
    name = Path(manual).stem
    assert text.startswith(f".TH {name.upper().replace('-', chr(92) + '-')} {manual[-1]} ")
    assert f'"kdump\\-pkg {__version__}"' in text.splitlines()[0]


def test_synopsis_has_the_flags_of_every_verb() -> None:
    found = {}
    for part in section(MANUAL, "SYNOPSIS").split(".SY ")[1:]:
        head, _, rest = part.replace("\\-", "-").partition("\n")
        verb = head.strip('"').removeprefix("kdump-pkg ")
        found[verb] = {line.removeprefix(".OP ") for line in rest.splitlines() if line.startswith(".OP ")}
    assert found == {verb: _usage(parser) for verb, parser in verbs().items()}


def _usage(parser: argparse.ArgumentParser) -> set[str]:
    """`--root DIR`, `--json` …, but for those that every verb has."""
    common = ("--help", "--debug")
    actions = [a for a in parser._actions if a.option_strings[-1] not in common]
    return {f"{a.option_strings[-1]} {a.metavar or ''}".strip() for a in actions}


def test_manual_explains_every_verb_and_every_flag() -> None:
    assert tuple(entries(section(MANUAL, "VERBS"))) == VERBS
    explained = re.findall(r"--[a-z-]+", " ".join(entries(section(MANUAL, "OPTIONS"))))
    parser = cli.build_parser()
    assert set(explained) == flags(parser).union(*(flags(p) for p in verbs().values()))
    assert len(explained) == len(set(explained))


def test_manual_gives_the_defaults() -> None:
    told = entries(section(MANUAL, "OPTIONS"))
    for action in verbs()["rehearse"]._actions:
        if action.default not in (None, False, argparse.SUPPRESS):
            assert str(action.default) in told[f"{action.option_strings[-1]} {action.metavar}"]


def test_manual_gives_the_exit_codes() -> None:
    told = entries(section(MANUAL, "EXIT STATUS"))
    assert list(told) == [str(code) for code in cli.EXIT_CODES]
    assert all(text.split()[0].strip("`").lower() in told[str(code)].lower() for code, text in cli.EXIT_CODES.items())


def test_manual_names_the_files() -> None:
    text = plain(section(MANUAL, "FILES"))
    image = f"{Config().image_dir}/{paths.IMAGE_NAME}"
    files = (paths.CONFIG, paths.DERIVED_CONFIG, paths.PRESET, image, Config().path, paths.STATE, paths.RUN)
    assert [name for name in (*files, paths.DEBUG_MODULES) if name not in text] == []
    assert all(name in text for name in ("dmesg.txt", "vmcore.incomplete", "meta", "save.log"))


def test_examples_of_the_conf_manual_are_good(ctx: Context) -> None:
    examples = re.findall(r"^\.nf\n(.*?)^\.fi", CONF_MANUAL, re.MULTILINE | re.DOTALL)
    assert len(examples) == 2
    for number, example in enumerate(examples):
        (ctx.root / "etc").mkdir(exist_ok=True)
        (ctx.root / "etc/kdump-pkg.conf").write_text(plain(example) if not number else example.replace("\\-", "-"))
        assert configuration.load(ctx) != Config()


@pytest.mark.spawns
@pytest.mark.parametrize("manual", MANUALS)
@pytest.mark.parametrize("linter", [["groff", "-ww", "-man", "-Tutf8", "-z"], ["man", "--warnings", "-E", "UTF-8", "-l"]])
def test_manual_is_clean(linter: list[str], manual: str) -> None:
    _need(linter[0])
    done = _run([*linter, str(docs.REPO / manual)])
    assert (done.returncode, done.stderr) == (0, "")


# --- completions ---

LINES = [
    "kdump-pkg ", "kdump-pkg re", "kdump-pkg nonsense ", *(f"kdump-pkg {v} --" for v in VERBS), "kdump-pkg rehearse --ro",
    "kdump-pkg --",
]  # fmt: skip


def expected(line: str) -> set[str]:
    """What ought to be offered for the last word of LINE, from the parser itself."""
    *before, last = line.split(" ")
    verb = before[1] if len(before) > 1 else None
    if verb is not None:
        offered = flags(verbs()[verb]) if verb in VERBS else set()
    else:
        offered = flags(cli.build_parser()) if last.startswith("-") else set(VERBS)
    return {word for word in offered if word.startswith(last) and (last or not word.startswith("-"))}


def _need(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=docs.REPO)


BASH = """
. shell/kdump-pkg.bash
[[ $(complete -p kdump-pkg) == *"-F _kdump_pkg kdump-pkg" ]] || exit 9
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_kdump_pkg
printf '%s\\n' "${COMPREPLY[@]}"
"""


def _bash(*words: str) -> set[str]:
    _need("bash")
    done = _run(["bash", "--norc", "--noprofile", "-c", BASH, "bash", *words])
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


@pytest.mark.spawns
@pytest.mark.parametrize("flag", ["--memory", "--crashkernel", "--timeout"])
def test_bash_offers_no_flag_for_a_value(flag: str) -> None:
    assert _bash("kdump-pkg", "rehearse", flag, "") == set()


# zsh's completion system needs a terminal, so its two functions are replaced: they print what they are asked to offer.
ZSH = """
_describe() { print -rl -- ${verbs%%:*} }
_arguments() {
    if [[ $1 == -C ]]; then
        shift
        state=$WANT words=($VERB)
        [[ $WANT == top ]] || return
    fi
    print -rl -- "$@"
}
complete_it() { . shell/_kdump-pkg }
complete_it
"""


def _zsh(want: str, verb: str = "") -> list[str]:
    _need("zsh")
    done = _run(["env", f"WANT={want}", f"VERB={verb}", "zsh", "-f", "-c", ZSH])
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
    found = {match[1]: spec for spec in specs if (match := re.search(r"(?:^|\))(--[a-z-]+)", spec))}
    parser = verbs()[verb]
    assert set(found) == flags(parser)
    for action in parser._actions:
        flag = action.option_strings[-1]
        assert (f"{flag}=[" in found[flag]) == (action.nargs != 0), "takes a value or doesn't"
        assert found[flag].endswith(":_files -/") == (flag in DIRECTORIES)


@pytest.mark.spawns
def test_zsh_completes_flags_of_the_program() -> None:
    found = {match[1] for spec in _zsh("top") if (match := re.search(r"(--[a-z-]+)", spec))}
    assert found == flags(cli.build_parser())


def _fish(line: str, tmp_path: Path) -> set[str]:
    _need("fish")
    script = "source shell/kdump-pkg.fish; complete -C $argv[1]"
    done = _run(["env", f"HOME={tmp_path}", "fish", "--no-config", "-c", script, line])
    assert (done.returncode, done.stderr) == (0, "")
    return {offer.split("\t")[0] for offer in done.stdout.splitlines()}


@pytest.mark.spawns
@pytest.mark.parametrize("line", LINES)
def test_fish_completes(line: str, tmp_path: Path) -> None:
    offered = _fish(line, tmp_path)
    wanted = expected(line)
    if "nonsense" in line:  # what follows an unknown verb is unknown: fish still offers the verbs
        wanted = set(VERBS)
    assert offered == wanted


@pytest.mark.spawns
@pytest.mark.parametrize("line", ["status --root ", "status --root=", "rehearse --keep "])
def test_fish_completes_directories_only(line: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "data").touch()
    offered = _fish(f"kdump-pkg {line}{tmp_path}/d", tmp_path)
    assert {offer.removeprefix("--root=") for offer in offered} == {f"{tmp_path}/directory/"}
