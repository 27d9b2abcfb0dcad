"""sdboot-manage of CachyOS: it writes systemd-boot's entries anew from variables of /etc/sdboot-manage.conf."""

from __future__ import annotations

from kdump_pkg.loaders import Look, bls, new_line, places, shell, sourced, text_files, words
from kdump_pkg.model.bootloader import CommandLine, Insert, Loader, Result, Surroundings, TextFile

MAIN = "/etc/sdboot-manage.conf"
SHIPPED = "/usr/lib/sdboot-manage.conf.d"
DROP_INS = "/etc/sdboot-manage.conf.d"
OUR_DROP_IN = f"{DROP_INS}/kdump-pkg.conf"
VARIABLES = ("LINUX_OPTIONS", "LINUX_FALLBACK_OPTIONS")
"""Of the usual entries, and of those of the fallback images; root= it finds out itself."""


def at_home(look: Look, around: Surroundings) -> bool:
    """Whether it writes the entries here: not where its user has told its hooks not to."""
    if "sdboot-manage" not in around.programs or not _entries(look, around):
        return False
    values, _ = sourced.read(_files(look))
    return values.value("NO_AUTOGEN").lower() != "yes"


def read(look: Look, around: Surroundings) -> Loader | None:
    if not at_home(look, around):
        return None
    files = _files(look)
    values, broken = sourced.read(files)
    new = [TextFile(path, None) for path in (MAIN, OUR_DROP_IN) if path not in values.data]
    started = bls.started(around, bls.files(look, around))
    where = _entries(look, around)
    return Loader(
        "sdboot-manage",
        "systemd-boot, by sdboot-manage",
        started or f"sdboot-manage is installed and there is {where[0]}",
        booted=bool(started),
        files=(*files, *new),
        lines=tuple(_line(values, name) for name in VARIABLES),
        regenerate=(("sdboot-manage", "gen"),),
        results=tuple(Result(path, "entries") for path in where),
        problem=broken or _keeps(values) or places.problem(around, where),
    )


def _entries(look: Look, around: Surroundings) -> list[str]:
    """It does nothing without loader.conf."""
    homes = [path.removesuffix("/entries") for path in bls.directories(around)]
    return [f"{home}/entries" for home in homes if look.is_file(f"{home}/loader.conf")]


def _files(look: Look) -> list[TextFile]:
    drop_ins = (f"{home}/{name}" for home in (SHIPPED, DROP_INS) for name in look.names(home) if name.endswith(".conf"))
    return text_files(look, (MAIN, *drop_ins))


def _keeps(values: sourced.Sourced) -> str | None:
    """Without one of the two, it leaves the entries that are there as they are."""
    removes = values.last("REMOVE_EXISTING") is None or values.value("REMOVE_EXISTING").lower() == "yes"
    if removes or values.value("OVERWRITE_EXISTING").lower() == "yes":
        return None
    return f'sdboot-manage keeps the entries that are there; set OVERWRITE_EXISTING="yes" in {MAIN}'


def _line(values: sourced.Sourced, name: str) -> CommandLine:
    """Where the value takes in the other variable's, the word comes with that."""
    taken = next((one for one in VARIABLES if one != name and _takes_in(values, name, one)), name)
    return CommandLine(name, values.stretches(name), _grow(values, taken))


def _takes_in(values: sourced.Sourced, name: str, other: str) -> bool:
    """One that has no value yet gets it in the main file, so only what stands elsewhere would take that in."""
    counting = list(values.counting(name))
    if last := values.last(other):
        return last in counting and not last.path.startswith(f"{SHIPPED}/")
    return any(other in one.variables(values.data[one.path]) and one.path != MAIN for one in counting)


def _grow(values: sourced.Sourced, name: str) -> tuple[Insert, ...]:
    """In the last assignment; where a package owns that one, behind it in a file of our own."""
    last = values.last(name)
    if last is None:
        return (_own_line(MAIN, values, f'{name}="'),)
    if last.path.startswith(f"{SHIPPED}/"):
        return (_own_line(OUR_DROP_IN, values, f'{name}+=" '),)
    return shell.grow(values.data[last.path], last)


def _own_line(path: str, values: sourced.Sourced, start: str) -> Insert:
    """What ends with a backslash goes on in the next line, which must not be ours."""
    data = values.data.get(path, b"")
    gap = words.newline(data) if data.rstrip(b"\r\n").endswith(b"\\") else b""
    return new_line.insert(path, data, gap + start.encode(), b'"')
