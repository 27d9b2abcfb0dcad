"""What is written for users agrees with the program: manual pages, completions, sample file, README, package data."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from kdump_pkg import __version__, cli, paths, render
from kdump_pkg import config as configuration
from kdump_pkg.apply import queue
from kdump_pkg.cli.variant import ACTIONS, BELONGS
from kdump_pkg.context import Context
from kdump_pkg.model import (
    Config,
)
from kdump_pkg.options import OPTIONS, TARGET, TARGET_OPTIONS, UPLOAD_OPTIONS, VARIANT_OPTIONS, Option
from tests import docs
from tests.docs import flags, verbs
from tests.tools import tool

MANUAL = (docs.REPO / "man/kdump-pkg.8").read_text(encoding="utf-8")
CONF_MANUAL = (docs.REPO / docs.MANUAL).read_text(encoding="utf-8")
MANUALS = ("man/kdump-pkg.8", docs.MANUAL)


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
    keys = section(CONF_MANUAL, "TARGETS").partition("Keys of a section")[2].partition(".SS ")[0]
    assert list(entries(keys)) == [option.name for option in TARGET_OPTIONS]
    keys = section(CONF_MANUAL, "UPLOAD").partition("Keys of the section")[2].partition(".SS ")[0]
    assert list(entries(keys)) == [option.name for option in UPLOAD_OPTIONS]
    keys = section(CONF_MANUAL, "VARIANT").partition("Keys of the section")[2].partition(".SS ")[0]
    assert list(entries(keys)) == [option.name for option in VARIANT_OPTIONS]


def test_targets_of_the_manual_are_the_ones_that_are_taken() -> None:
    named = re.findall(r"\[(target [^]]+)\]", plain(section(CONF_MANUAL, "TARGETS").partition("Keys of")[0]))
    assert {name.partition("=")[0] for name in named} == {
        "target root", "target esp", "target uuid", "target partuuid", "target label", "target partlabel",
    }  # fmt: skip
    for name in named:
        assert TARGET.fullmatch(name.replace("UUID", "AB-12").replace("NAME", "x").replace("SUBVOLUME", "/@x")), name


def test_a_changed_option_changes_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    new = Option("colour", "string", "", "any-thing", "Starts well.\n.so would be a request; a \\ is an escape.")
    monkeypatch.setattr(docs, "OPTIONS", (*OPTIONS, new))
    made = docs.with_options(CONF_MANUAL)
    assert made != CONF_MANUAL
    assert "\n.B colour\n" in made
    assert "Default: none." in made and "any\\-thing" in made
    assert made.count(docs.BEGIN.format("options")) == made.count(docs.END.format("options")) == 1


@pytest.mark.parametrize("text", [".so x", "'br", "a\n.so x"])
def test_no_text_becomes_a_request(text: str) -> None:
    assert not re.search(r"^[.']", docs.roff(text), re.MULTILINE)


@pytest.mark.parametrize("marker", [mark.format(name) for mark in (docs.BEGIN, docs.END) for name in docs.sections()])
def test_a_lost_marker_is_an_error(marker: str) -> None:
    with pytest.raises(ValueError, match="marker"):
        docs.with_options(CONF_MANUAL.replace(marker, ""))


def test_main_writes_both_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "man").mkdir()
    parts = docs.sections()
    marks = {name: (docs.BEGIN.format(name), docs.END.format(name)) for name in parts}
    old = "".join(f"before\n{begin}old\n{end}after\n" for begin, end in marks.values())
    (tmp_path / docs.MANUAL).write_text(old, encoding="utf-8")
    monkeypatch.setattr(docs, "REPO", tmp_path)
    docs.main()
    text = (tmp_path / docs.MANUAL).read_text(encoding="utf-8")
    assert text == "".join(f"before\n{begin}{parts[name]}{end}after\n" for name, (begin, end) in marks.items())
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
    found: dict[str, set[str]] = {}
    for part in section(MANUAL, "SYNOPSIS").split(".SY ")[1:]:
        head, _, rest = part.replace("\\-", "-").partition("\n")
        verb = head.strip('"').removeprefix("kdump-pkg ")
        optional = {line.removeprefix(".OP ") for line in rest.splitlines() if line.startswith(".OP ")}
        required = {" ".join(plain(line).split()) for line in rest.splitlines() if line.startswith(".BI ")}
        operands = {plain(line).strip() for line in rest.splitlines() if line.startswith(".RI ")}
        found.setdefault(verb.partition(" ")[0], set()).update(optional | required | operands)
    assert found == {verb: _usage(parser) for verb, parser in verbs().items()}


def _usage(parser: argparse.ArgumentParser) -> set[str]:
    """`--root DIR`, `--json` …, `[ DUMP ]`, but for those that every verb has."""
    common = ("--help", "--debug")
    options = [a for a in parser._actions if a.option_strings and a.option_strings[-1] not in common]
    operands = {f"[ {a.metavar} ]" for a in parser._actions if not a.option_strings and a.nargs == "?"}
    return operands | {f"{a.option_strings[-1]} {a.metavar or ''}".strip() for a in options}


def test_synopsis_has_the_flags_of_every_action() -> None:
    found = {}
    for part in section(MANUAL, "SYNOPSIS").replace("\\-", "-").split('.SY "kdump-pkg variant ')[1:]:
        found[part.partition('"')[0]] = set(re.findall(r"^\.OP (--\S+)", part.partition(".YS")[0], re.MULTILINE))
    assert found == {action: {flag for flag, its in BELONGS.items() if its == action} for action in ACTIONS}
    told = entries(section(MANUAL, "VERBS"))["variant"]
    assert [action for action in ACTIONS if f"variant {action}" not in told] == []


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
    assert all(name in text for name in (paths.VARIANT_RECIPE, paths.VARIANT_BUILD.rpartition("/")[0], "variant.json"))
    assert all(name in text for name in ("dmesg.txt", "vmcore.incomplete", "meta", "save.log"))


def test_examples_of_the_conf_manual_are_good(ctx: Context) -> None:
    examples = re.findall(r"^\.nf\n(.*?)^\.fi", CONF_MANUAL, re.MULTILINE | re.DOTALL)
    assert len(examples) == 3
    for number, example in enumerate(examples):
        (ctx.root / "etc").mkdir(exist_ok=True)
        (ctx.root / "etc/kdump-pkg.conf").write_text(plain(example) if not number else example.replace("\\-", "-"))
        assert configuration.load(ctx) != Config()


@pytest.mark.spawns
@pytest.mark.parametrize("manual", MANUALS)
@pytest.mark.parametrize(
    "linter", [["groff", "-ww", "-man", "-Tutf8", "-z"], ["man", "--warnings", "-E", "UTF-8", "-l"]]
)
def test_manual_is_clean(linter: list[str], manual: str) -> None:
    done = tool(*linter, manual)
    assert (done.returncode, done.stderr) == (0, "")


# --- the unit that builds, and who builds ---


def test_the_unit_builds_and_nobody_waits_for_it() -> None:
    text = (docs.REPO / f"systemd/{queue.UNIT}").read_text(encoding="utf-8")
    lines = set(text.splitlines())
    (start,) = re.findall(r"^ExecStart=/usr/bin/kdump-pkg (.*)$", text, re.MULTILINE)
    args = cli.build_parser().parse_args(start.split())
    assert (args.action, args.automatic, args.force) == ("build", True, False)
    assert {"Type=oneshot", "TimeoutStartSec=infinity", "ConditionPathExists=!/proc/vmcore"} <= lines
    assert "OOMPolicy=continue" in lines, "or nobody would write down that a compiler was killed"
    assert "RestrictNamespaces=pid" in lines, "makepkg gets a PID namespace"
    assert not lines & {"[Install]"} and "Before=" not in text and "ConditionACPower=" not in text
    assert not re.search(r"^UMask=", text, re.MULTILINE), "pacman's hooks make files for everybody"


def test_the_builder_is_who_the_program_takes() -> None:
    text = (docs.REPO / "systemd/kdump-pkg.sysusers").read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    assert shlex.split(line) == ["u", paths.VARIANT_USER, "-", "Builds linux-kdump", paths.VARIANT_BUILD]
    pkgbuild = (docs.REPO / "PKGBUILD").read_text(encoding="utf-8")
    assert f'"$pkgdir{paths.VARIANT_RECIPE}"' in pkgbuild
    assert 'systemd/kdump-pkg.sysusers "$pkgdir/usr/lib/sysusers.d/kdump-pkg.conf"' in pkgbuild


def test_what_it_is_built_with_is_named_by_the_package() -> None:
    """What base-devel has needs no word of its own; pacman and the kernel's flags ask for the rest."""
    recipe = (docs.REPO / "linux-kdump/PKGBUILD").read_text(encoding="utf-8")
    found = re.search(r"^makedepends=\((.*)\)$", recipe, re.MULTILINE)
    assert found
    text = (docs.REPO / "PKGBUILD").read_text(encoding="utf-8")
    told = {*re.findall(r"^ +'([a-z0-9-]+): .*variant build", text, re.MULTILINE)}
    told |= set(re.findall(r"'([a-z0-9-]+)'", text.partition("depends=(")[2].partition(")")[0]))
    base_devel = {"bison", "fakeroot", "flex", "gcc", "gzip", "make", "patch", "sed", "tar", "texinfo"}
    assert set(found[1].split()) - base_devel <= told
