"""The corpus of boot-loader configurations, set, set again, undone; and the same on files that chance makes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdump_pkg.loaders import Look, edit, words
from kdump_pkg.loaders.all import ALL
from kdump_pkg.model.bootloader import CommandLine, Edit, Loader, Surroundings
from tests import bootloader_files, corpus

WANTED = "256M"
OTHER = "64M-2G:96M,2G-:512M"


def read(name: str, look: Look, around: Surroundings) -> Loader:
    """The loader of that name; others may be there beside it."""
    found = {loader.name: loader for reader in ALL if (loader := reader(look, around))}
    assert name in found, f"only found {sorted(found)}"
    return found[name]


def texts(loader: Loader, line: CommandLine) -> list[list[bytes]]:
    """The words of each stretch of a command line; a backslash before a blank is the shell's."""
    parts = (loader.data(one.path)[one.start : one.end] for one in line.stretches)
    return [re.sub(rb"\\(?=\s|\Z)", b"", part).split() for part in parts]


def flat(parts: list[list[bytes]]) -> list[bytes]:
    return [word for part in parts for word in part]


def sound(loader: Loader) -> None:
    """What holds for whatever `read` gives."""
    known = {file.path for file in loader.files}
    for line in loader.lines:
        for one in line.stretches:
            assert one.path in known
            assert 0 <= one.start <= one.end <= len(loader.data(one.path))
            assert one.line == words.line_of(loader.data(one.path), one.start)
        for insert in line.grow:
            assert insert.path in known
            assert 0 <= insert.at <= len(loader.data(insert.path))
        assert sum(insert.words for insert in line.grow) == 1 or loader.problem or loader.manual or line.foreign


def released(name: str, look: corpus.Files, around: Surroundings, edits: tuple[Edit, ...]) -> corpus.Files:
    """After `release` of all edits; files that were made by them are taken away when nothing is left in them."""
    content = dict(look.content)
    loader = read(name, look, around)
    for done in edits:
        data = edit.release(loader, done)
        assert data is not None, f"nothing to release in {done.path}"
        if done.before is None and not data:
            del content[done.path]
        else:
            content[done.path] = data
    return corpus.Files(content)


def round_trip(name: str, look: corpus.Files, around: Surroundings, *, replace: bool = False) -> tuple[Edit, ...]:
    """Set, set again, undo; the edits of the first."""
    loader = read(name, look, around)
    sound(loader)
    edits = edit.reserve(loader, (WANTED,), replace=replace)
    if loader.problem:
        assert edits == ()
        return ()
    assert len({one.path for one in edits}) == len(edits)
    for one in edits:
        assert one.before == look.read_bytes(one.path)
        assert one.after != (one.before or b"")
    changed = look.with_edits(edits)
    again = read(name, changed, around)
    sound(again)
    assert edit.reserve(again, (WANTED,), replace=replace) == ()
    own_lines_got_it(loader, again, replace=replace)
    assert released(name, changed, around, edits).content == look.content
    return edits


def own_lines_got_it(loader: Loader, again: Loader, *, replace: bool) -> None:
    parameter = f"crashkernel={WANTED}".encode()
    before, after = (edit.own_lines(one) for one in (loader, again))
    for old, new in zip(before, after, strict=True):
        had = edit.present(loader, old)
        now = flat(texts(again, new))
        if loader.problem or loader.manual or (had and not replace):
            assert now == flat(texts(loader, old))
        else:
            assert edit.present(again, new) == (WANTED,)
            now.remove(parameter)
            assert now == [word for word in flat(texts(loader, old)) if not word.startswith(b"crashkernel=")]
    foreign = [[texts(one, line) for line in one.lines if line.foreign] for one in (loader, again)]
    assert foreign[0] == foreign[1]


@pytest.mark.parametrize("name", corpus.CASES)
def test_case(name: str) -> None:
    case = corpus.load(name)
    assert name.startswith(f"{case.loader}-")
    loader = read(case.loader, case.files, case.around)
    assert sum(line.foreign is not None for line in loader.lines) == case.expect.get("foreign", 0)
    for key, said in (("problem", loader.problem or ""), ("manual", "\n".join(loader.manual))):
        assert case.expect.get(key, "") in said
        assert bool(said) == (key in case.expect), said
    edits = round_trip(case.loader, case.files, case.around)
    assert {one.path: one.after for one in edits} == case.after
    if case.replaced:
        edits = round_trip(case.loader, case.files, case.around, replace=True)
        assert {one.path: one.after for one in edits} == case.replaced


@pytest.mark.parametrize("name", corpus.CASES)
def test_what_the_user_changed_since_stays(name: str) -> None:
    """A line of the user's own at the end and at the start of each file that was edited."""
    case = corpus.load(name)
    edits = edit.reserve(read(case.loader, case.files, case.around), (WANTED,))
    for one in edits:
        if one.before is None:
            continue
        for front, back in ((b"", b"\n# mine\n"), (b"# mine\n", b"")):
            now = corpus.Files(case.files.with_edits(edits).content | {one.path: front + one.after + back})
            data = edit.release(read(case.loader, now, case.around), one)
            assert data == front + one.before + back


# --- files that chance makes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bootloader_files.FORMATS)
@settings(max_examples=40)
@given(data=st.data(), replace=st.booleans())
def test_round_trip(name: str, data: st.DataObject, replace: bool) -> None:
    one = bootloader_files.FORMATS[name]
    round_trip(one.loader, data.draw(bootloader_files.files(one)), one.around, replace=replace)


@pytest.mark.parametrize("name", bootloader_files.FORMATS)
@settings(max_examples=25)
@given(data=st.data())
def test_what_the_user_wrote_beside_ours_stays(name: str, data: st.DataObject) -> None:
    """In the very lines that we changed: our word goes, all others stay in their order."""
    one = bootloader_files.FORMATS[name]
    look = data.draw(bootloader_files.files(one))
    parameter = f"crashkernel={WANTED}".encode()
    edits = edit.reserve(read(one.loader, look, one.around), (WANTED,))
    theirs = {done.path: done.after.replace(parameter, b"before " + parameter + b" behind") for done in edits}
    now = read(one.loader, corpus.Files(look.content | theirs), one.around)
    for done in edits:
        assert edit.release(now, done) == theirs[done.path].replace(b" " + parameter, b"")
