"""Which dumps a MATCH means, rule by rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdump_pkg.model.dumps import Entry
from kdump_pkg.plan.match import Offset, local, select

HOUR = 3600
UTC_7_46 = 1795420014  # 2026-11-23 07:46:54 UTC
NOW = UTC_7_46 + 86400  # the day after


def entry(name: str, time: int, release: str = "") -> Entry:
    return Entry(name, f"/var/crash/{name}", "kdump-pkg", time, release)


NEW = entry("2026-11-24T07-46-54Z-6.12.1-arch1-1", NOW, "6.12.1-arch1-1")
OLD = entry("2026-11-23T07-46-54Z-6.12.1-arch1-1", UTC_7_46, "6.12.1-arch1-1")
TWIN = entry("2026-11-23T07-46-54Z-6.12.1-arch1-1.2", UTC_7_46, "6.12.1-arch1-1")
LATE = entry("2026-11-22T23-30-00Z-7.1", UTC_7_46 - 29814, "7.1")
WIKI = entry("crashdump-2026-11-20-10:00:00", UTC_7_46 - 3 * 86400)
ALL = (NEW, TWIN, OLD, LATE, WIKI)


def utc(time: int) -> int:
    return 0


def berlin(time: int) -> int:
    return HOUR


def chatham(time: int) -> int:
    return 13 * HOUR + 45 * 60


@pytest.mark.parametrize(
    ("match", "found"),
    [
        (None, ALL),
        (OLD.id, (OLD,)),  # and not its twin, whose id begins so
        (TWIN.id, (TWIN,)),
        ("2026-11-23T07-46-54Z-6.12.1-arch1-1.", (TWIN,)),
        ("2026-11-23T07", (TWIN, OLD)),
        ("crashdump", (WIKI,)),
        ("crash", (WIKI,)),
        ("6.12.1-arch1-1", (NEW, TWIN, OLD)),
        ("7.1", (LATE,)),
        ("7", ()),  # of a release nothing less will do
        ("6.12.1", ()),
        ("2026-11-23", (TWIN, OLD)),
        ("2026-11-22", (LATE,)),
        ("2026-11-23 07", (TWIN, OLD)),
        ("2026-11-23 07:46", (TWIN, OLD)),
        ("2026-11-23T07:46", (TWIN, OLD)),
        ("2026-11-23 07:46:54", (TWIN, OLD)),
        ("2026-11-23 07:46:55", ()),
        ("2026-11-23 07:4", ()),
        ("2026-11-23  07:46", ()),
        ("2026-11-2", (NEW, TWIN, OLD, LATE)),  # no day, so the beginning of ids
        ("2026", (NEW, TWIN, OLD, LATE)),
        ("today", (NEW,)),
        ("yesterday", (TWIN, OLD)),
        ("Today", ()),
        ("07:46", (NEW,)),  # today's
        ("07:46:54", (NEW,)),
        ("07:47", ()),
        ("7:46", ()),
        ("07", ()),
        (f"@{UTC_7_46}", (TWIN, OLD)),
        (f"@{UTC_7_46 + 1}", ()),
        ("@", ()),
        ("@x", ()),
        ("", ()),
        (" ", ()),
        ("2026-13-45", ()),
        ("9999-99-99 99:99:99", ()),
        ("*", ()),
        ("2026-11-23\n", ()),
        ("２０２６-11-23", ()),
    ],
)
def test_what_is_meant(match: str | None, found: tuple[Entry, ...]) -> None:
    assert select(ALL, match, NOW, utc) == found


@pytest.mark.parametrize(
    ("match", "offset", "found"),
    [
        ("2026-11-23", berlin, (TWIN, OLD, LATE)),
        ("2026-11-22", berlin, (LATE,)),  # no crash on that day here, so the beginning of its id
        ("2026-11-23 00:30", berlin, (LATE,)),
        ("2026-11-23 07:46", berlin, ()),
        ("2026-11-23 08:46", berlin, (TWIN, OLD)),
        ("2026-11-23 21:31", chatham, (TWIN, OLD)),
        ("yesterday", chatham, (TWIN, OLD, LATE)),
        ("today", chatham, (NEW,)),
        ("21:31", chatham, (NEW,)),
        ("2026-11-22 15:30", lambda time: -8 * HOUR, (LATE,)),
        ("2026-11-22", lambda time: -8 * HOUR, (TWIN, OLD, LATE)),
    ],
)
def test_times_are_local(match: str, offset: Offset, found: tuple[Entry, ...]) -> None:
    assert select(ALL, match, NOW, offset) == found


def test_the_offset_is_that_of_the_moment() -> None:
    """The clocks go back between the two: 02:30 is there twice, and both are meant."""
    change = 1792890000  # 2026-10-25 01:00 UTC, in Berlin

    def offset(time: int) -> int:
        return 2 * HOUR if time < change else HOUR

    before, after = entry("a", change - 1800), entry("b", change + 1800)
    assert local(before.time, offset) == local(after.time, offset) == "2026-10-25 02:30:00"
    assert select((after, before), "2026-10-25 02:30", change, offset) == (after, before)
    assert select((after, before), f"@{before.time}", change, offset) == (before,)


def test_yesterday_is_a_day_of_the_calendar() -> None:
    """On a day of 25 hours too."""
    change = 1792890000
    morning = change + 12 * HOUR

    def offset(time: int) -> int:
        return 2 * HOUR if time < change else HOUR

    eve = entry("eve", change - 4 * HOUR)
    assert local(eve.time, offset) == "2026-10-24 23:00:00"
    assert select((eve,), "yesterday", morning, offset) == (eve,)


@pytest.mark.parametrize("time", [0, 1, 99_999_999_999, 10**15, -5])
def test_no_time_is_too_strange_to_be_shown(time: int) -> None:
    for offset in (utc, chatham, lambda time: -12 * HOUR):
        assert len(local(time, offset)) == 19


@given(st.text(), st.integers(0, 10**11), st.integers(-14 * HOUR, 14 * HOUR))
def test_whatever_is_typed(match: str, now: int, east: int) -> None:
    """Nothing raises; what is found is of what there is, in its order."""
    found = select(ALL, match, now, lambda time: east)
    assert [one for one in ALL if one in found] == list(found)


@given(st.lists(st.tuples(st.text("abc-", min_size=1, max_size=5), st.integers(0, 10**10)), unique_by=lambda t: t[0]))
def test_every_dump_can_be_named(pairs: list[tuple[str, int]]) -> None:
    """By its id, whatever the others are called; and by its time, perhaps among others."""
    entries = tuple(entry(name, time) for name, time in pairs)
    for one in entries:
        assert select(entries, one.id, NOW, berlin) == (one,)
        assert one in select(entries, local(one.time, berlin), NOW, berlin)
        assert one in select(entries, f"@{one.time}", NOW, berlin)
