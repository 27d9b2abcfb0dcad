"""The rule of what may stay: tables for what it says, properties for what it must never do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.model import Dump, Retention, Space
from kdump_pkg.plan.retention import DAY, candidates, choose, kib

NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()
ANY = Retention(keep=0, max_age=0, max_use="0", keep_free="0")
ROOMY = Space(total=1_000_000, free=900_000)


def dump(day: int, flags: str = "c", size: int = 100) -> Dump:
    """A dump of a day in November; c: complete, p: pinned."""
    return Dump(f"2026-11-{day:02}T00-00-00Z-6.12.1", "c" in flags, "p" in flags, size)


def days(dumps: list[Dump], rules: Retention, space: Space = ROOMY, incoming: int = 0, need: int = 0) -> list[int]:
    """What is removed, in order, by the day in its name."""
    chosen = choose(dumps, rules, space, NOW, incoming=incoming, need=need)
    return [int(r.dump.name[8:10]) for r in chosen]


def unsent(*some: int) -> list[Dump]:
    """Five dumps, of which these are yet to be sent."""
    return [replace(one, unsent=int(one.name[8:10]) in some) for one in FIVE]


FIVE = [dump(day) for day in (1, 2, 3, 4, 5)]
MIXED = [dump(1), dump(2, ""), dump(3), dump(4, ""), dump(5)]


@pytest.mark.parametrize(
    ("dumps", "rules", "removed"),
    [
        ([], replace(ANY, keep=1), []),
        (FIVE, ANY, []),
        (FIVE, replace(ANY, keep=5), []),
        (FIVE, replace(ANY, keep=3), [1, 2]),
        (FIVE, replace(ANY, keep=1), [1, 2, 3, 4]),
        (MIXED, replace(ANY, keep=4), [2]),
        (MIXED, replace(ANY, keep=2), [2, 4, 1]),
        (MIXED, replace(ANY, keep=1), [2, 4, 1, 3]),
        ([dump(1), dump(2, ""), dump(3, "")], replace(ANY, keep=1), [2]),  # the only complete one outlives younger ones
        ([dump(1, "p"), dump(2, "cp"), dump(3), dump(4)], replace(ANY, keep=1), [3]),
        ([dump(1), dump(2), dump(3, "p")], replace(ANY, keep=1), [1]),  # pinned, newest; and 2 is the newest complete
        (list(reversed(FIVE)), replace(ANY, keep=3), [1, 2]),
        (FIVE, replace(ANY, max_age=22), [1, 2]),
        (FIVE, replace(ANY, max_age=1), [1, 2, 3, 4]),
        (MIXED, replace(ANY, max_age=21), [2, 1, 3]),
        (FIVE, replace(ANY, max_use="300"), [1, 2]),
        (FIVE, replace(ANY, max_use="499"), [1]),
        (FIVE, replace(ANY, max_use="500"), []),
        (FIVE, replace(ANY, max_use="1"), [1, 2, 3, 4]),
        (FIVE, replace(ANY, keep_free="900000"), []),
        (FIVE, replace(ANY, keep_free="900150"), [1, 2]),
        (FIVE, replace(ANY, keep_free="91%"), [1, 2, 3, 4]),
        (MIXED, Retention(keep=4, max_age=22, max_use="300", keep_free="0"), [2, 1]),
    ],
)
def test_what_is_removed(dumps: list[Dump], rules: Retention, removed: list[int]) -> None:
    assert days(dumps, rules) == removed


@pytest.mark.parametrize(
    ("rules", "need", "removed"),
    [
        (ANY, 0, []),
        (ANY, 900_000, []),
        (ANY, 900_001, [1]),
        (ANY, 900_300, [1, 2, 3]),
        (replace(ANY, keep=5), 0, [1]),
        (replace(ANY, max_use="650"), 100, []),
        (replace(ANY, max_use="650"), 200, [1]),
        (replace(ANY, keep_free="50%"), 400_000, []),
        (replace(ANY, keep_free="50%"), 400_001, [1]),
    ],
)
def test_room_for_a_dump_that_is_coming(rules: Retention, need: int, removed: list[int]) -> None:
    assert days(FIVE, rules, incoming=1, need=need) == removed


def test_age_of_what_has_no_real_time() -> None:
    odd = Dump("2026-99-99T00-00-00Z-6.12.1", False, False, 1)
    future = Dump("2027-01-01T00-00-00Z-6.12.1", True, False, 1)
    assert choose([odd, future, dump(1)], replace(ANY, max_age=1), ROOMY, NOW) == choose(
        [dump(1), odd, future], replace(ANY, max_age=1), ROOMY, NOW
    )
    assert days([odd, future, dump(1)], replace(ANY, max_age=1)) == [1]


@pytest.mark.parametrize(
    ("text", "expected"), [("0", 0), ("7", 7), ("10%", 100), ("100%", 1000), ("0%", 0), ("", 0), ("x%", 0), ("²", 0)]
)
def test_limits_as_kib(text: str, expected: int) -> None:
    assert kib(text, 1000) == expected


def test_every_removal_says_why() -> None:
    reasons = [
        choose(FIVE, rules, ROOMY, NOW, incoming=1, need=need)[0].reason
        for rules, need in (
            (replace(ANY, keep=1), 0),
            (replace(ANY, keep=2), 0),
            (replace(ANY, max_age=1), 0),
            (replace(ANY, max_age=22), 0),
            (replace(ANY, max_use="10240"), 20000),
            (replace(ANY, max_use="0"), 990_000),
        )
    ]
    assert reasons == [
        "more than 1 dump", "more than 2 dumps", "older than 1 day", "older than 22 days",
        "the dumps take more than 10 MiB", "room for the next dump",
    ]  # fmt: skip
    assert choose(FIVE, replace(ANY, keep_free="95%"), ROOMY, NOW)[0].reason == "less than 95% is free"


# --- properties -------------------------------------------------------------------------------------------------------

TIMES = st.integers(min_value=int(NOW) - 60 * DAY, max_value=int(NOW))


@st.composite
def several(draw: st.DrawFn) -> tuple[Dump, ...]:
    times = draw(st.lists(TIMES, unique=True, max_size=12))
    return tuple(
        Dump(
            f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H-%M-%SZ}-6.12.1",
            draw(st.booleans()),
            draw(st.booleans()),
            draw(st.integers(0, 5000)),
        )
        for time in times
    )


OFF = st.just("0")
MOST = OFF | st.integers(0, 40_000).map(str) | st.integers(0, 100).map(lambda share: f"{share}%")
LEAST = OFF | st.integers(0, 20_000).map(str) | st.integers(0, 50).map(lambda share: f"{share}%")
COUNTS, AGES = st.just(0) | st.integers(1, 12), st.just(0) | st.integers(1, 70)
RULES = st.builds(Retention, keep=COUNTS, max_age=AGES, max_use=MOST, keep_free=LEAST)
SPACES = st.integers(0, 50_000).flatmap(lambda total: st.builds(Space, st.just(total), st.integers(0, total)))
INCOMING, NEED = st.integers(0, 1), st.just(0) | st.integers(0, 10_000)


def after(dumps: tuple[Dump, ...], gone: tuple[Dump, ...], space: Space) -> tuple[tuple[Dump, ...], Space]:
    rest = tuple(d for d in dumps if d not in gone)
    return rest, replace(space, free=space.free + sum(d.kib for d in gone))


def run(dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int = 0, need: int = 0) -> tuple[Dump, ...]:
    return tuple(r.dump for r in choose(dumps, rules, space, NOW, incoming=incoming, need=need))


@given(several(), RULES, SPACES, INCOMING, NEED)
def test_the_protected_stay(dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int, need: int) -> None:
    gone = run(dumps, rules, space, incoming, need)
    assert len(gone) == len(set(gone)) and set(gone) <= set(dumps)
    assert not any(d.pinned for d in gone)
    complete = [d for d in dumps if d.complete]
    for kept in (dumps, complete):
        assert not kept or max(kept, key=lambda d: d.name) not in gone


@given(several(), RULES, SPACES, INCOMING, NEED)
def test_no_rule_stays_broken_that_could_be_kept(
    dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int, need: int
) -> None:
    """Above all: less free than promised only when nothing is left that may be removed."""
    rest, left = after(dumps, run(dumps, rules, space, incoming, need), space)
    if not candidates(rest):
        return
    assert left.free >= kib(rules.keep_free, space.total) + need
    assert rules.keep == 0 or len(rest) + incoming <= rules.keep
    most = kib(rules.max_use, space.total)
    assert most == 0 or sum(d.kib for d in rest) + need <= most
    made = [datetime.strptime(d.name[:20], "%Y-%m-%dT%H-%M-%SZ").replace(tzinfo=UTC) for d in candidates(rest)]
    assert rules.max_age == 0 or all(NOW - m.timestamp() <= rules.max_age * DAY for m in made)


@given(several(), RULES, SPACES, INCOMING, NEED)
def test_a_second_run_removes_nothing(
    dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int, need: int
) -> None:
    rest, left = after(dumps, run(dumps, rules, space, incoming, need), space)
    assert run(rest, rules, left, incoming, need) == ()


@given(several(), RULES, SPACES, INCOMING, NEED)
def test_no_more_than_needed(dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int, need: int) -> None:
    """Without the last removal some rule would be broken."""
    gone = run(dumps, rules, space, incoming, need)
    for kept in gone[-1:]:
        rest, left = after(dumps, gone[:-1], space)
        assert run(rest, rules, left, incoming, need) == (kept,)


@given(several(), RULES, SPACES, INCOMING, NEED)
def test_incomplete_go_first_and_old_ones_before_young(
    dumps: tuple[Dump, ...], rules: Retention, space: Space, incoming: int, need: int
) -> None:
    young = replace(rules, max_age=0)
    gone = run(dumps, young, space, incoming, need)
    assert gone == candidates(dumps)[: len(gone)]
    assert list(gone) == sorted(gone, key=lambda d: (d.complete, d.name))


@given(several(), RULES, SPACES, st.integers(0, 12), NEED, NEED)
def test_stricter_rules_remove_no_less(
    dumps: tuple[Dump, ...], rules: Retention, space: Space, keep: int, need: int, more: int
) -> None:
    gone = set(run(dumps, rules, space, 0, need))
    stricter = replace(rules, keep=min(keep or 12, rules.keep or 12))
    assert gone <= set(run(dumps, stricter, space, 0, need))
    assert gone <= set(run(dumps, rules, space, 1, need + more))
    assert gone <= set(run(dumps, rules, replace(space, free=space.free // 2), 0, need))


@given(several(), RULES, SPACES, st.randoms())
def test_order_of_the_input_is_nothing(dumps: tuple[Dump, ...], rules: Retention, space: Space, random: object) -> None:
    mixed = list(dumps)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert run(tuple(mixed), rules, space) == run(dumps, rules, space)


@pytest.mark.parametrize(
    ("dumps", "rules", "removed"),
    [
        (unsent(1, 2), replace(ANY, keep=3), [3, 4]),
        (unsent(1, 2, 3, 4), replace(ANY, keep=1), []),
        (unsent(1), replace(ANY, max_age=1), [2, 3, 4]),
        (unsent(1, 2, 3), replace(ANY, max_use="1"), [4]),
        (unsent(1, 2), replace(ANY, keep_free="900150"), [3, 4]),
        (unsent(1, 2, 3, 4), replace(ANY, keep_free="900150"), [1, 2]),
        (unsent(1, 2, 3, 4), replace(ANY, keep=1, keep_free="900150"), [1, 2]),
        (unsent(3), replace(ANY, keep=1, keep_free="91%"), [1, 2, 4, 3]),
    ],
)
def test_what_is_yet_to_be_sent_goes_for_want_of_room_alone(
    dumps: list[Dump], rules: Retention, removed: list[int]
) -> None:
    assert days(dumps, rules) == removed
