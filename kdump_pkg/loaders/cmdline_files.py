"""Files that hold nothing but a kernel command line: /etc/kernel/cmdline, and the parts in /etc/cmdline.d."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kdump_pkg import crashkernel, parameters
from kdump_pkg.loaders import Look, new_line, text_files, words
from kdump_pkg.model.bootloader import Insert, Stretch, Surroundings, TextFile

ETC = "/etc/kernel/cmdline"
USR = "/usr/lib/kernel/cmdline"
"""What the system takes where the other one isn't there (kernel-install(8), mkinitcpio(8))."""


def base(look: Look) -> list[TextFile]:
    """The one of the two that counts, if any."""
    return text_files(look, (ETC, USR))[:1]


def stretches(files: Iterable[TextFile]) -> tuple[Stretch, ...]:
    """All lines that aren't comments; a comment has its `#` in the first column."""
    return tuple(
        Stretch(file.path, start, end, number)
        for file in files
        for number, (start, end) in enumerate(words.lines(file.data or b""), 1)
        if (file.data or b"")[start:end].strip() and not (file.data or b"").startswith(b"#", start)
    )


def grow(files: Sequence[TextFile], found: Iterable[Stretch], path: str) -> tuple[Insert, ...]:
    """How a new word comes to the end of what PATH has of a command line, and before a `--` that is in any of them."""
    data = {file.path: file.data or b"" for file in files}
    place = None
    for one in found:
        if b"--" in data[one.path][one.start : one.end].split():
            return words.grow(data[one.path], one)
        if one.path == path:
            place = one
    return words.grow(data[path], place) if place else (new_line.insert(path, data[path]),)


def around_new_word(text: str) -> tuple[bytes, bytes]:
    """What comes before a new word of a whole command line, and behind it."""
    data = " ".join(text.split()).encode("utf-8", "surrogateescape")
    (word,) = words.grow(data, Stretch("", 0, len(data), 1))
    return data[: word.at] + word.before, word.after + data[word.at :]


def copy(text: str) -> tuple[TextFile, tuple[Insert, ...]]:
    """/etc/kernel/cmdline as it has to be made: it takes the place of all of TEXT, so it has that, and the new word."""
    before, after = around_new_word(text)
    return TextFile(ETC, None), (Insert(ETC, 0, before, after + b"\n"),)


def running(around: Surroundings, *, started: bool) -> tuple[str, str | None]:
    """The running command line, as a file may have it; else why it can't be taken.

    STARTED: whether the loader in question gave it to the kernel, so that what it says is meant for it.
    """
    given = around.cmdline or ""
    if not (around.live and started and given):
        return "", "what would be booted with is not known: write the whole command line there"
    if crashkernel.values(given):
        return "", "it is made from the running one, which has crashkernel= already: write the whole command line there"
    kept = (word for word in parameters.split(given) if not word.startswith(("BOOT_IMAGE=", "initrd=")))
    return " ".join(kept), None
