"""Parameters put into files and taken out again, and whose an entry is: what the corpus can't show."""

from __future__ import annotations

import pytest

from kdump_pkg import parameters
from kdump_pkg.loaders import edit, ours, words
from kdump_pkg.model.bootloader import CommandLine, Edit, Insert, Loader, Stretch, Surroundings, TextFile

PATH, OTHER = "/boot/cfg", "/etc/cfg"
ROOT = "UUID=0f0e0d0c-1111-2222-3333-444455556666"


def loader(*texts: bytes | None) -> Loader:
    """A loader in whose files each line is a command line; one that isn't there gets a line."""
    files = tuple(TextFile(path, data) for path, data in zip((PATH, OTHER), texts, strict=False))
    return Loader("efistub", "Test", "", files=files, lines=tuple(line for file in files for line in lines(file)))


def lines(file: TextFile) -> list[CommandLine]:
    data = file.data
    if data is None:
        return [CommandLine("new", (), (Insert(file.path, 0, b"", b"\n"),))]
    found = [Stretch(file.path, start, end, n) for n, (start, end) in enumerate(words.lines(data), 1)]
    return [CommandLine(f"{file.path}:{one.line}", (one,), words.grow(data, one)) for one in found]


def edited(data: bytes | None, *values: str, replace: bool = False) -> Edit:
    (done,) = edit.reserve(loader(data), values or ("256M",), replace=replace)
    return done


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (b"a crashkernel=256M\nb crashkernel=256M\n", b"a\nb\n"),
        (b"b crashkernel=256M\na crashkernel=256M\n", b"b\na\n"),  # moved
        (b"a crashkernel=256M\r\nb crashkernel=256M\r\n", b"a\r\nb\r\n"),  # other line ends
        (b"a crashkernel=256M", b"a"),
        (b"new\na mine crashkernel=256M x\nb crashkernel=256M\n", b"new\na mine x\nb\n"),
        (b"a\nb crashkernel=256M\n", b"a\nb\n"),
        (b"a crashkernel=512M\nb crashkernel=256M\n", b"a crashkernel=512M\nb\n"),  # theirs now
        (b"a crashkernel=256M crashkernel=1G,cma\nb\n", b"a crashkernel=1G,cma\nb\n"),
        (b"a\nb\n", None),
        (b"a crashkernel=512M\nb\n", None),
        (b"", None),
    ],
)
def test_release_takes_our_words_and_no_others(now: bytes, left: bytes | None) -> None:
    assert edit.release(loader(now), edited(b"a\nb\n")) == left


def test_release_leaves_the_user_s_own_of_the_same_value() -> None:
    done = edited(b"a crashkernel=256M\nb\n")
    assert done.after == b"a crashkernel=256M\nb crashkernel=256M\n"
    assert (
        edit.release(loader(b"a crashkernel=256M\nb mine crashkernel=256M\n"), done) == b"a crashkernel=256M\nb mine\n"
    )


def test_release_of_several_words() -> None:
    done = edited(b"a\n", "96M", "512M,cma")
    assert done.after == b"a crashkernel=96M crashkernel=512M,cma\n"
    assert done.words == ("96M", "512M,cma")
    assert edit.release(loader(b"a crashkernel=96M crashkernel=512M,cma x\n"), done) == b"a x\n"
    assert edit.release(loader(b"crashkernel=96M crashkernel=512M,cma a\n"), done) == b"a\n"
    assert edit.release(loader(b"x crashkernel=96M a crashkernel=512M,cma\n"), done) == b"x a\n"
    assert edit.release(loader(b"a crashkernel=96M\n"), done) is None


def test_release_brings_back_what_was_replaced() -> None:
    before = b"crashkernel=64M a crashkernel=1G,high b\n"
    done = edited(before, replace=True)
    assert done.after == b"crashkernel=256M a b\n"
    assert done.replaced == {f"{PATH}:1": ("64M", "1G,high")}
    assert edit.release(loader(done.after), done) == before
    assert edit.release(loader(b"mine\n" + done.after), done) == b"mine\n" + before
    # In a line that was changed since, all of them come to the place of ours.
    assert edit.release(loader(b"crashkernel=256M a b c\n"), done) == b"crashkernel=64M crashkernel=1G,high a b c\n"


def test_without_replace_other_values_stay() -> None:
    assert edit.reserve(loader(b"a crashkernel=64M\n"), ("256M",)) == ()


def test_a_file_that_we_made_is_empty_without_ours() -> None:
    done = edited(None)
    assert (done.before, done.after, done.lines) == (None, b"crashkernel=256M\n", (b"crashkernel=256M\n",))
    assert edit.release(loader(done.after), done) == b""
    assert edit.release(loader(b"# mine\ncrashkernel=256M\n"), done) == b"# mine\n"
    assert edit.release(loader(b"crashkernel=256M quiet\n"), done) == b"quiet\n"


def test_the_line_that_we_made_goes_wherever_it_is_now() -> None:
    one = CommandLine("new", (), (Insert(PATH, 6, b"options ", b"\n"),))
    before = Loader("efistub", "Test", "", files=(TextFile(PATH, b"title\nx\n"),), lines=(one,))
    (done,) = edit.reserve(before, ("256M",))
    assert done.after == b"title\noptions crashkernel=256M\nx\n"
    assert edit.release(loader(b"y\nx\ntitle\noptions crashkernel=256M\n"), done) == b"y\nx\ntitle\n"


def test_one_place_that_entries_share_grows_once() -> None:
    found = loader(b"a\n")
    (line,) = found.lines
    twice = Loader("efistub", "Test", "", files=found.files, lines=(line, CommandLine("b", line.stretches, line.grow)))
    (done,) = edit.reserve(twice, ("256M",))
    assert done.after == b"a crashkernel=256M\n"
    assert edit.reserve(Loader("efistub", "T", "", files=found.files, lines=twice.lines, problem="no"), ("1M",)) == ()


def test_words_of_one_line_in_two_files() -> None:
    files = (TextFile(PATH, b"a crashkernel=64M\n"), TextFile(OTHER, b"crashkernel=96M b\n"))
    line = CommandLine("both", (Stretch(PATH, 0, 17, 1), Stretch(OTHER, 0, 17, 1)))
    both = Loader("efistub", "Test", "", files=files, lines=(line,))
    assert edit.present(both, line) == ("64M", "96M")
    first, second = edit.reserve(both, ("256M",), replace=True)
    assert (first.after, second.after) == (b"a crashkernel=256M\n", b"b\n")
    assert edit.release(loader(first.after, second.after), first) == files[0].data
    assert edit.release(loader(first.after, second.after), second) == files[1].data


@pytest.mark.parametrize(
    ("content", "after"),
    [
        (b"", b"N"), (b"  ", b"N  "), (b"a", b"a N"), (b"a  ", b"a N  "), (b"-- x", b"N -- x"),
        (b"a -- x", b"a N -- x"),
        (b'a="b -- c"', b'a="b -- c" N'), (b"a --b", b"a --b N"), (b"a \\\n", b"a N \\\n"), (b"\\\n", b"N \\\n"),
        (b"a \\\n -- b", b"a N \\\n -- b"), (b"a --", b"a N --"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("quote", [b"", b'"'])
def test_grow(content: bytes, after: bytes, quote: bytes) -> None:
    inserts = words.grow(content, Stretch(PATH, 0, len(content), 1), quote)
    line = CommandLine("x", (), inserts)
    (done,) = edit.reserve(Loader("efistub", "T", "", files=(TextFile(PATH, content),), lines=(line,)), ("1",))
    assert done.after == quote + after.replace(b"N", b"crashkernel=1") + quote


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"crashkernel=1M", ["1M"]), (b"a\tcrashkernel=1M b", ["1M"]), (b'"crashkernel=1M"', ["1M"]),
        (b"xcrashkernel=1M crashkernel crashkernel.x=1", []),
        (b"crashkernel=1M,high crashkernel=2M,low", ["1M,high", "2M,low"]),
        (b"crashkernel=", [""]), (b"crashkernel=1M\\\n", ["1M"]),
    ],
)  # fmt: skip
def test_find(text: bytes, values: list[str]) -> None:
    data = b"NAME=" + text  # what stands before a stretch is no part of its words
    assert [one.value for one in words.find(data, Stretch(PATH, 5, len(data), 1))] == values


# --- whose entry it is --------------------------------------------------------------------------------------------

HERE = Surroundings(roots=frozenset({ROOT, "/dev/mapper/root", "LABEL=Arch"}), machine_id="0123456789abcdef")
LIVE = Surroundings(live=True, cmdline=f"root={ROOT} rootflags=subvol=@/.snapshots/1/snapshot", roots=HERE.roots)


@pytest.mark.parametrize(
    ("around", "cmdline", "reason"),
    [
        (HERE, f"root={ROOT} rw", None),
        (HERE, f"root={ROOT.upper()} rw", None),
        (HERE, "root=/dev/disk/by-uuid/0f0e0d0c-1111-2222-3333-444455556666", None),
        (HERE, "root=/dev/disk/by-label/Arch", None),
        (HERE, 'root="LABEL=Arch"', None),
        (HERE, "root=LABEL=arch", "its root is another one, root=LABEL=arch"),
        (HERE, "cryptdevice=UUID=aa:root root=/dev/mapper/root", None),
        (HERE, "root=/dev/sdz1 rw", "its root is another one"),
        (HERE, f"root=/dev/sdz1 root={ROOT}", None),
        (HERE, "rw quiet", None),
        (LIVE, "rw quiet", "it names no root"),
        (Surroundings(live=True, cmdline="rw"), "rw quiet", None),
        (Surroundings(), "root=/dev/sdz1", None),
        (HERE, f"root={ROOT} rootflags=subvol=@", None),
        (HERE, f"root={ROOT} rootflags=rw,subvol=/@/.snapshots/12/snapshot", "it starts a snapshot"),
        (HERE, f"root={ROOT} rootflags=subvol=@snapshots/12/snapshot", "it starts a snapshot"),
        (HERE, f"root={ROOT} rootflags=subvol=timeshift-btrfs/snapshots/2026-01-01/@", "it starts a snapshot"),
        (LIVE, f"root={ROOT} rootflags=subvol=@/.snapshots/1/snapshot", None),
        (LIVE, f"root={ROOT} rootflags=subvol=@/.snapshots/2/snapshot", "it starts a snapshot"),
        (HERE, "archisobasedir=arch archisolabel=ARCH", "it starts an installation image"),
    ],
)
def test_foreign(around: Surroundings, cmdline: str, reason: str | None) -> None:
    found = ours.foreign(around, cmdline)
    assert found is None if reason is None else reason in (found or "")


def test_foreign_by_machine_and_kernel() -> None:
    assert ours.foreign(HERE, "", machine_id="0123456789abcdef") is None
    assert ours.foreign(HERE, "", machine_id="ffff") == "it starts another system"
    assert ours.foreign(Surroundings(), "", machine_id="ffff") is None
    assert ours.foreign(HERE, "", kernel="/Memtest86+/memtest.efi") == "it starts no Linux"


def test_parameters() -> None:
    assert parameters.by_name('a b=1 b=2 c="d e" "f=g h" i=') == {"a": "", "b": "2", "c": "d e", "f": "g h", "i": ""}
