"""The record over the whole corpus: two runs of `setup` with two values, the user's edit in between, and back."""

from __future__ import annotations

import pytest

from kdump_pkg.loaders.all import ALL
from kdump_pkg.model.bootloader import Loader
from kdump_pkg.model.setup import Change, Record, SetupPlan, dump, load, settled
from kdump_pkg.plan.reservation import Amount, Here, plan_setup
from kdump_pkg.plan.undo import Now, plan_undo
from tests import corpus

FIRST = Amount(("256M",), False, ())
SECOND = Amount(("300M,high", "64M,low"), True, ())
Contents = dict[str, bytes]


def can_be_set_up(name: str) -> bool:
    return not {"problem", "manual"} & set(corpus.load(name).expect)


CASES = [name for name in corpus.CASES if can_be_set_up(name)]


def read(case: corpus.Case, content: Contents) -> Loader:
    look = corpus.Files(content)
    return next(one for reader in ALL if (one := reader(look, case.around)) and one.name == case.loader)


def changed(content: Contents, changes: tuple[Change, ...]) -> Contents:
    for change in changes:
        assert content.get(change.path) == change.before
    done = content | {change.path: change.after for change in changes if change.after is not None}
    return {path: data for path, data in done.items() if path not in {c.path for c in changes if c.after is None}}


def run(case: corpus.Case, content: Contents, amount: Amount, record: Record | None) -> tuple[Contents, Record | None]:
    plan = plan_setup(read(case, content), case.around, amount, Here(record=record))
    kept = load(dump(settled(plan.record))) if plan.record else record
    return changed(content, plan.changes), kept


def undo(case: corpus.Case, content: Contents, record: Record) -> SetupPlan:
    files = {file.path: content.get(file.path) for file in record.files}
    return plan_undo(record, (read(case, content),), Now(dump(record), files))


@pytest.mark.parametrize("name", CASES)
def test_two_values_and_back(name: str) -> None:
    case = corpus.load(name)
    first = dict(case.files.content)
    once, record = run(case, first, FIRST, None)
    killed = plan_setup(read(case, once), case.around, SECOND, Here(record=record)).record
    assert killed is not None
    assert changed(once, undo(case, once, killed).changes) == first
    twice, record = run(case, once, SECOND, record)
    assert record is not None
    assert run(case, twice, SECOND, record)[0] == twice
    assert changed(twice, undo(case, twice, record).changes) == first


@pytest.mark.parametrize("name", CASES)
def test_edited_in_between(name: str) -> None:
    case = corpus.load(name)
    first = dict(case.files.content)
    once, record = run(case, first, FIRST, None)
    edited = [path for path in once if path in first and once[path] != first[path]]

    def by_the_user(content: Contents) -> Contents:
        return content | {path: b"# mine\n" + content[path] for path in edited}

    twice, record = run(case, by_the_user(once), SECOND, record)
    assert record is not None
    assert changed(twice, undo(case, twice, record).changes) == by_the_user(first)
