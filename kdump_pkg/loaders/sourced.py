"""What the value of a variable is made of, in files that a shell sources one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdump_pkg.loaders import shell, words
from kdump_pkg.model.bootloader import Stretch, TextFile


@dataclass(frozen=True)
class Sourced:
    """All assignments, in the order in which the shell comes by."""

    found: tuple[shell.Assignment, ...]
    data: dict[str, bytes]

    def counting(self, name: str, before: int | None = None) -> Iterator[shell.Assignment]:
        """The last assignment, those that it adds to, and those of the variables in them: all that a shell has come by.

        Of a variable, that is what was assigned before it was used.
        """
        chosen: list[tuple[int, shell.Assignment]] = []
        for at, one in enumerate(self.found[:before]):
            if one.name == name:
                again = one.adds or name in one.variables(self.data[one.path])
                chosen = [*chosen, (at, one)] if again else [(at, one)]
        for at, one in chosen:
            for other in one.variables(self.data[one.path]):
                if other != name:
                    yield from self.counting(other, at)
            yield one

    def stretches(self, name: str) -> tuple[Stretch, ...]:
        counting = dict.fromkeys(self.counting(name))
        return tuple(stretch for one in counting for stretch in one.stretches(self.data[one.path]))

    def last(self, name: str) -> shell.Assignment | None:
        return next((one for one in reversed(self.found) if one.name == name), None)

    def value(self, name: str) -> str:
        """Without quotes, nothing expanded."""
        one = self.last(name)
        return one.value(self.data[one.path]).decode("utf-8", "replace") if one else ""


def read(files: Sequence[TextFile]) -> tuple[Sourced, str | None]:
    """And what is wrong with them."""
    found: list[shell.Assignment] = []
    data = {file.path: file.data or b"" for file in files}
    for path, content in data.items():
        try:
            found += shell.assignments(path, content)
        except shell.Unreadable as error:
            where = f"{path}:{words.line_of(content, error.args[0])}"
            return Sourced((), data), f"{where}: a quote or bracket that nothing closes: correct it"
    return Sourced(tuple(found), data), None
