"""What is said of linux-kdump: true at each moment, with the next thing to do; harmless whatever a build says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kdump_pkg import ui
from kdump_pkg.model import Config, Facts, Finding, Kernel, Loaded, VariantWish, Wanted
from kdump_pkg.model.variant import Built, Failure, Progress, Record, VariantState
from kdump_pkg.plan import variant, variant_text
from kdump_pkg.plan.rebuild import plan_rebuild
from kdump_pkg.plan.status import plan_status
from kdump_pkg.plan.variant_text import NONE, data, lines, span, summary
from tests.fakes import DEFAULTS, facts, kernel, target
from tests.unit.test_readme_dumps import shown as shown_in_readme

NOON = 1_795_420_014
MIB = 1 << 20
SLIM = "6.12.1-kdump"
DRIVERS = ("ext4", "virtio_blk", "virtio_pci")
STOCK = kernel(version="6.12.1.arch1-1", init_size=62 * MIB)
ABLE = kernel(
    SLIM, None, build_id="cd" * 20, package="linux-kdump", version="6.12.1-1", stamp="2400000:17",
    builtin=frozenset(DRIVERS), init_size=14 * MIB,
)  # fmt: skip
WANTED = Wanted("linux", "6.12.1.arch1-1", "6.12.1-arch1-1", (*DRIVERS[:1], *DRIVERS[1:]))
BUILT = Built(WANTED, SLIM, "cd" * 20, NOON, 540, 3100)
TRUSTED = {"cd" * 20: "rehearsed"}
CURRENT = Record(followed=True, wanted=WANTED, built=BUILT, trusted=TRUSTED)
NEWER = kernel("6.12.2-arch1-1", version="6.12.2.arch1-1", build_id="ef" * 20, init_size=62 * MIB)
NEXT = replace(WANTED, version="6.12.2.arch1-1", release="6.12.2-arch1-1")
LOADED = Loaded(SLIM, "1", "2", "3", "-s")
LOG = ("  CC      init/main.o", "\x1b[31mgcc\x1b[0m: fatal error: no input files\t!", "make: *** [Makefile:1] Error 1")
FAILED = Failure(NEXT, NOON + 9, "building", "makepkg failed, exit code 4", "", LOG)
BUILDING = Progress("building", "drivers/ata", NOON - 180, 1240, 3100)


def machine(*kernels: Kernel, record: Record = CURRENT, config: Config = DEFAULTS, **changes: Any) -> Facts:
    state = VariantState(record, changes.pop("running", False), changes.pop("progress", None), NOON)
    have = facts(kernels=kernels, variant=state, **changes)
    known = tuple(variant.wanted(config, have, k).drivers for k in kernels if not k.variant)
    record = replace(record, built=_of(record.built, known), wanted=_of(record.wanted, known))
    return variant.hold(config, replace(have, variant=replace(state, record=replace(record, failure=record.failure))))


def _of(what: Any, known: tuple[tuple[str, ...], ...]) -> Any:
    """The record of a build for the drivers that this machine wants."""
    if what is None or not known:
        return what
    if isinstance(what, Built):
        return replace(what, wanted=replace(what.wanted, drivers=known[0]))
    return replace(what, drivers=known[0])


def failing(have: Facts, failure: Failure = FAILED) -> Facts:
    """Where that very build has failed."""
    due = variant.out_of_date(DEFAULTS, have)
    wanted = due or have.variant.record.wanted or WANTED
    record = replace(have.variant.record, failure=replace(failure, wanted=wanted))
    return replace(have, variant=replace(have.variant, record=record))


ALL = frozenset(n.rstrip("?").replace("-", "_") for n in variant.wanted(DEFAULTS, facts(), STOCK).drivers)
GOOD = replace(ABLE, builtin=ALL)
OLD = machine(NEWER, GOOD, boot=replace(facts().boot, running="6.12.2-arch1-1"))
"""An upgrade of linux has come."""

CASES: dict[str, tuple[Facts, Config, str, str, str]] = {
    # name: facts, configuration, state, text, remedy
    "captures": (
        machine(STOCK, GOOD, loaded=LOADED), DEFAULTS, "ok",
        "6.12.1-kdump captures; it takes 14 MiB to start, linux 62", "",
    ),
    "not loaded yet": (machine(STOCK, GOOD), DEFAULTS, "ok", "6.12.1-kdump is to capture; it takes 14 MiB", ""),
    "installed by hand": (
        machine(STOCK, GOOD, record=Record(trusted=TRUSTED), loaded=LOADED), DEFAULTS, "ok", "6.12.1-kdump captures",
        "",
    ),
    "nobody knows its size": (
        machine(STOCK, replace(GOOD, init_size=None), loaded=LOADED), DEFAULTS, "ok", "6.12.1-kdump captures", ""
    ),
    "untried": (
        machine(STOCK, GOOD, record=replace(CURRENT, trusted={})), DEFAULTS, "note",
        "6.12.1-kdump doesn't capture: no rehearsal has shown yet that it captures", "kdump-pkg variant build",
    ),
    "lacks a driver": (
        machine(STOCK, replace(GOOD, builtin=ALL - {"ext4"}), record=Record(trusted=TRUSTED)), DEFAULTS, "note",
        "6.12.1-kdump doesn't capture: it has no ext4", "kdump-pkg variant build",
    ),
    "damaged": (
        machine(STOCK, replace(GOOD, problem="/v: not a bzImage"), record=Record()), DEFAULTS, "note",
        "6.12.1-kdump can't be used: /v: not a bzImage", "kdump-pkg variant build --force",
    ),
    "another one is wanted": (
        machine(STOCK, GOOD), Config(kernel="linux"), "note",
        "6.12.1-kdump doesn't capture, for the configuration has kernel = linux", "",
    ),
    "not built yet": (
        machine(STOCK, record=Record(followed=True)), DEFAULTS, "note",
        "a build is due: it has not been built yet; until then 6.12.1-arch1-1 captures", "kdump-pkg variant build",
    ),
    "out of date": (
        OLD, DEFAULTS, "note",
        "a build is due: linux is 6.12.2.arch1-1 now, ", "kdump-pkg variant build",
    ),
    "no kernel to follow": (
        machine(record=Record(followed=True)), DEFAULTS, "note", "none is installed", "kdump-pkg variant build"
    ),
    "building": (
        replace(OLD, variant=replace(OLD.variant, running=True, progress=BUILDING)), DEFAULTS, "note",
        "building, 40 %, 3 min (for linux 6.12.1.arch1-1); until then 6.12.1-kdump captures", "",
    ),
    "the first one": (
        machine(STOCK, record=Record(), running=True, progress=Progress("preparing")), DEFAULTS, "note",
        "preparing; until then 6.12.1-arch1-1 captures", "",
    ),
    "more files than before": (
        machine(STOCK, running=True, progress=replace(BUILDING, done=9999)), DEFAULTS, "note", "building, 99 %", ""
    ),
    "waiting": (
        machine(STOCK, running=True, progress=Progress("waiting", "on battery", NOON - 3900, 0, 0)), DEFAULTS, "note",
        "waiting, 1 h 5 min: on battery (for linux", "",
    ),
    "at work, nobody knows at what": (machine(STOCK, running=True), DEFAULTS, "note", "a build is at work (for", ""),
    "failed": (
        failing(OLD), DEFAULTS, "note",
        "the build for linux 6.12.2.arch1-1 failed on 2026-11-23 07:47:03 UTC: makepkg failed, exit code 4: make: ***"
        " [Makefile:1] Error 1; until then 6.12.1-kdump captures", "kdump-pkg variant build",
    ),
    "failed, with a hint": (
        failing(OLD, replace(FAILED, hint="install it: pacman -S bc", tail=())), DEFAULTS, "note", "exit code 4; until",
        "install it: pacman -S bc, then kdump-pkg variant build",
    ),
    "the first one failed": (
        failing(machine(STOCK, record=Record())), DEFAULTS, "note", "until then 6.12.1-arch1-1 captures",
        "kdump-pkg variant build",
    ),
    "failed its rehearsal": (
        failing(OLD, replace(FAILED, step="rehearsing", text="6.12.2-kdump failed its rehearsal: no disk", tail=())),
        DEFAULTS, "note",
        "what was built for linux 6.12.2.arch1-1 is not used: 6.12.2-kdump failed its rehearsal: no disk; until then"
        " 6.12.1-kdump captures", "kdump-pkg variant build",
    ),
    "by hand, failed": (
        failing(machine(STOCK, GOOD, loaded=LOADED)),
        DEFAULTS,
        "note",
        "the build for linux",
        "kdump-pkg variant build",
    ),
    "failed before the last upgrade": (
        machine(NEWER, GOOD, record=replace(CURRENT, failure=replace(FAILED, wanted=WANTED))), DEFAULTS, "note",
        "a build is due", "kdump-pkg variant build",
    ),
    "failed, and then succeeded": (
        machine(STOCK, GOOD, record=replace(CURRENT, failure=replace(FAILED, time=NOON - 9)), loaded=LOADED), DEFAULTS,
        "ok", "6.12.1-kdump captures", "",
    ),
}  # fmt: skip


def finding(have: Facts, config: Config) -> list[Finding]:
    return [f for f in plan_status(config, have, plan_rebuild(config, have)).findings if f.part == "variant"]


@pytest.mark.parametrize("name", CASES)
def test_status_has_one_line_of_it(name: str) -> None:
    have, config, state, text, remedy = CASES[name]
    (found,) = finding(have, config)
    assert (found.state, found.remedy or "") == (state, remedy)
    assert text in found.text and len(found.text.splitlines()) == 1


@pytest.mark.parametrize("name", CASES)
def test_all_of_it_begins_with_the_same_sentence(name: str) -> None:
    have, config, _, text, remedy = CASES[name]
    head, *rows = lines(config, have)
    assert head.startswith("linux-kdump: ") and text in head
    assert all(row.startswith("  ") and row.isprintable() for row in rows)
    assert not remedy or rows[-1].strip().partition("to do")[2].strip() == remedy
    told = json.loads(json.dumps(ui.plain(data(config, have))))
    assert text in told["text"] and told["running"] == have.variant.running
    capture = plan_rebuild(config, have).capture
    assert told["captures"] == (capture.kernel.release if capture else None)


def test_nothing_is_said_where_nobody_wants_one() -> None:
    have = machine(STOCK, record=Record())
    assert summary(DEFAULTS, have) is None and finding(have, DEFAULTS) == []
    assert lines(DEFAULTS, have) == [
        f"linux-kdump: {NONE}",
        "  follows  nothing, until somebody builds one",
        "  to do    kdump-pkg variant build makes one",
    ]
    assert data(DEFAULTS, have)["installed"] == []


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_stays_what_it_was(name: str) -> None:
    """That it is not the variant that captures is no reason to say that nothing does."""
    have, config, *_ = CASES[name]
    found = plan_status(config, have, plan_rebuild(config, have))
    assert not [f for f in found.findings if f.part == "variant" and f.state in ("todo", "bad")]
    assert "variant" not in found.verdict.partition(": ")[0]


def test_all_of_it() -> None:
    have = machine(STOCK, GOOD, loaded=LOADED, image=replace(facts().image, exists=True, readable=True, size=1_900_000))
    drivers = " ".join(variant.wanted(DEFAULTS, have, STOCK).drivers)
    assert lines(DEFAULTS, have) == [
        "linux-kdump: 6.12.1-kdump captures; it takes 14 MiB to start, linux 62",
        "  installed   6.12.1-kdump (linux-kdump 6.12.1-1)",
        "  built from  linux 6.12.1.arch1-1 on 2026-11-23 07:46:54 UTC, in 9 min",
        f"  drivers     {drivers}",
        "  trusted     rehearsed",
        "  size        vmlinuz 2.4 MB, image 1.9 MB",
        "  memory      takes 14 MiB to start, linux 62",
        "  follows     every upgrade of linux",
    ]
    told = data(DEFAULTS, have)
    (slim,) = told["installed"]
    assert told["built"]["objects"] == 3100
    assert (slim["captures"], slim["loaded"], slim["trusted"], slim["vmlinuz_bytes"]) == (
        True, True, "rehearsed", 2_400_000,
    )  # fmt: skip


def test_a_failed_build_is_shown_with_its_last_lines() -> None:
    told = "\n".join(lines(DEFAULTS, failing(OLD)))
    assert (
        "  failed      linux 6.12.2.arch1-1 on 2026-11-23 07:47:03 UTC, building: makepkg failed, exit code 4\n" in told
    )
    assert (
        "\n                CC      init/main.o\n              ?[31mgcc?[0m: fatal error: no input files       !\n"
        in told
    )
    assert data(DEFAULTS, failing(OLD))["failure"]["tail"][1] == "?[31mgcc?[0m: fatal error: no input files       !"


def test_words_of_a_build_are_harmless_and_bounded() -> None:
    evil = replace(
        FAILED, text="a\x1b]0;x\x07\n" + "b" * 9999, hint="c\nd" * 9999, step="\r", tail=("e\n\x1bf" * 9999,) * 9999
    )
    have = failing(OLD, evil)
    (found,) = finding(have, DEFAULTS)
    assert found.text.isprintable() and (found.remedy or "").isprintable()
    assert len(f"{found.text}{found.remedy}") < 3000
    told = lines(DEFAULTS, have)
    assert all(line.isprintable() for line in told) and len("".join(told)) < 9999
    running = replace(
        OLD, variant=replace(OLD.variant, running=True, progress=Progress("\x1b" * 999, "\n" * 999, 9, -1, -5))
    )
    assert all(line.isprintable() for line in lines(DEFAULTS, running))


def test_progress_is_shown_with_its_files() -> None:
    have = replace(OLD, variant=replace(OLD.variant, running=True, progress=BUILDING))
    told = lines(DEFAULTS, have)
    assert "  at work     building, 40 %, 3 min (1240 of about 3100 files)" in told
    assert "              drivers/ata" in told
    assert not [line for line in told if line.startswith("  to do")]


@pytest.mark.parametrize(
    ("follow", "text"), [("release", "every upgrade of linux"), ("series", "each new series of linux"), ("never", "no")]
)
def test_what_it_follows(follow: str, text: str) -> None:
    config = Config(variant=VariantWish(follow=follow))
    (row,) = [line for line in lines(config, machine(STOCK, GOOD)) if line.startswith("  follows")]
    assert text in row


def test_trust_without_a_rehearsal() -> None:
    config = Config(variant=VariantWish(trust=True))
    have = machine(STOCK, GOOD, record=replace(CURRENT, trusted={}), config=config, loaded=LOADED)
    assert "  trusted     because of trust = yes" in lines(config, have)
    assert "  trusted     no: no rehearsal has shown yet that it captures" in lines(
        DEFAULTS, machine(STOCK, GOOD, record=replace(CURRENT, trusted={}))
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "59 min"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_span(seconds: int, text: str) -> None:
    assert span(seconds) == text


def test_a_wish_is_no_reason() -> None:
    asked = replace(OLD.variant.record, wanted=replace(NEXT, reason="asked for"))
    assert "  asked for   linux 6.12.2.arch1-1" in lines(
        DEFAULTS, replace(OLD, variant=VariantState(asked, running=True))
    )


def test_a_damaged_one_is_built_anew_and_not_reinstalled() -> None:
    have = machine(STOCK, replace(GOOD, problem="/v: not a bzImage"))
    found = plan_status(DEFAULTS, have, plan_rebuild(DEFAULTS, have)).findings
    assert [f.remedy for f in found if f.text == "/v: not a bzImage"] == ["kdump-pkg variant build --force"]
    assert not [f for f in found if f.part == "problem" and "bzImage" in f.text]


def test_a_stamp_that_is_none() -> None:
    assert variant_text.vmlinuz_size(replace(GOOD, stamp="")) is None
    assert not [line for line in lines(DEFAULTS, machine(STOCK, replace(GOOD, stamp=""))) if "vmlinuz" in line]


def test_it_looks_as_in_the_readme() -> None:
    new = kernel("6.17.8-arch1-1", version="6.17.8.arch1-1", init_size=62 * MIB)
    drivers = ("ext4", "nvme")
    before = Wanted("linux", "6.17.7.arch1-2", "6.17.7-arch1-2", drivers)
    slim = replace(GOOD, release="6.17.7-kdump", version="6.17.7-1", builtin=ALL | {"nvme"})
    record = Record(True, before, Built(before, slim.release, "cd" * 20, NOON - 390_400, 540), trusted=TRUSTED)
    have = facts(
        kernels=(new, slim),
        boot=replace(facts().boot, running=new.release),
        targets=(target(drivers=("nvme",)),),
        variant=VariantState(record, running=True, progress=replace(BUILDING, text=""), now=NOON),
    )
    due = variant.out_of_date(DEFAULTS, have)
    assert due is not None
    asked = replace(due, drivers=drivers)
    have = replace(have, variant=replace(have.variant, record=replace(record, wanted=asked)))
    assert shown_in_readme("kdump-pkg variant status") == "\n".join(lines(DEFAULTS, variant.hold(DEFAULTS, have)))
