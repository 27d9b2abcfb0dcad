"""Dumps that other programs have made: which names and files are theirs, and what those tell without a long look.

Names and files as these had them in autumn 2026: the ArchWiki's recipe, kdumpst, Debian's kdump-tools, Fedora's
kdump-utils, SUSE's kdump. Their times are local ones, but for kdumpst's.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kdump_pkg.facts import dumps
from kdump_pkg.model.dumps import Entry, Maker, State
from kdump_pkg.untrusted import number

KDUMPST = "/var/crash/kdumpst/crash"
HEAD = 1 << 15
"""Bytes of a vmcore that are read: VMCOREINFO stands in its first pages, whatever its format."""
LOG_HEAD = 1 << 13
README_HEAD = 1 << 12

STEM = r"[A-Za-z0-9][A-Za-z0-9.:_%-]{0,200}"
PACKED = r"(\.(gz|bz2|lz4|xz|zst))?"
MAGIC = (b"KDUMP   ", b"DISKDUMP", b"makedumpfile\0", b"\x7fELF")
NOTHING = re.compile(r"(?!)")
VMCOREINFO = re.compile(rb"(?:^|\n|\0)(OSRELEASE|BUILD-ID|CRASHTIME)=([\w.+-]{1,100})(?=\n)")


@dataclass(frozen=True)
class Now:
    """What was changed between these two moments may still be changing."""

    begin: float
    end: float

    def covers(self, mtime: float) -> bool:
        return self.begin < mtime < self.end


@dataclass(frozen=True)
class Layout:
    """What a maker's directory holds: the memory, the memory while it is written, the log, and other files."""

    maker: Maker
    core: re.Pattern[str]
    log: re.Pattern[str]
    begun: re.Pattern[str] = NOTHING
    other: re.Pattern[str] = NOTHING
    marked: bool = True
    """The memory gets its name when all of it is there, or another file says so."""

    def knows(self, name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in (self.core, self.log, self.begun, self.other))


FEDORA = Layout(
    "Fedora", re.compile(r"vmcore(\.flat)?"), re.compile(r"vmcore-dmesg(-incomplete)?\.txt"),
    re.compile(r"vmcore-incomplete"), re.compile(r"kexec-dmesg\.log"),
)  # fmt: skip
SUSE = Layout(
    "SUSE", re.compile(r"vmcore"), re.compile(r"dmesg(\.txt)?"),
    other=re.compile(r"README\.txt|(System\.map|vmlinu[xz]|Image)-[A-Za-z0-9._+-]{1,100}"),
)  # fmt: skip
DEBIAN = Layout(
    "Debian", re.compile(rf"(dump|vmcore)\.[0-9]{{12}}{PACKED}"), re.compile(r"dmesg\.[0-9]{12}"),
    re.compile(rf"(dump|vmcore)-incomplete{PACKED}"),
)  # fmt: skip
STEAM = Layout("kdumpst", re.compile(r"vmcore\.compressed"), re.compile(r"dmesg\.txt"), marked=False)
ANY = Layout(
    "unknown", re.compile(r"vmcore(\.flat|\.partial)?(\.age)?"), re.compile(r"dmesg\.txt(\.age)?"), marked=False
)  # fmt: skip
LAYOUTS = (STEAM, FEDORA, DEBIAN, SUSE, ANY)
SIGNS = (
    (re.compile(r"vmcore\.compressed"), STEAM),
    (re.compile(r"vmcore-dmesg(-incomplete)?\.txt|kexec-dmesg\.log|vmcore-incomplete"), FEDORA),
    (DEBIAN.core, DEBIAN),
    (DEBIAN.log, DEBIAN),
    (re.compile(r"README\.txt|dmesg"), SUSE),
)
"""Files that tell whose a directory with another name is."""

MINUTE = r"(?P<time>[0-9]{12})"
DIRECTORIES = (
    (re.compile(rf"({STEM}-)?{MINUTE}"), DEBIAN),
    (re.compile(rf"({STEM}-)?(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}})"), FEDORA),
    (re.compile(rf"({STEM}-)?(?P<time>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}-[0-9]{{2}}[-:][0-9]{{2}})"), SUSE),
)
DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([-_T][0-9]{2}[-:][0-9]{2}([-:][0-9]{2})?)?"
WIKI_FILE = re.compile(rf"crashdump-((?P<time>{DATE})|{STEM})")
STEAM_FILE = re.compile(rf"vmcore\.{MINUTE}")
"""What kdumpst makes of a directory once it has packed its log."""


def is_candidate(directory: str, name: str) -> bool:
    """Whether NAME in DIRECTORY is worth a look."""
    return _is_file(directory, name) or any(pattern.fullmatch(name) for pattern, _ in DIRECTORIES)


def read(base: int, directory: str, name: str, now: Now) -> Entry | None:
    """The dump NAME in DIRECTORY, which BASE is open on; None when it is none. Raises OSError."""
    if _is_file(directory, name):
        return read_file(base, directory, name, now)
    steam = directory == KDUMPST
    for pattern, layout in DIRECTORIES:
        match = pattern.fullmatch(name)
        if match is None or (steam and layout is not DEBIAN):
            continue
        fd = os.open(name, dumps.HERE | os.O_DIRECTORY, dir_fd=base)
        try:
            time = _moment(match["time"], utc=steam)
            return read_directory(fd, STEAM if steam else layout, f"{directory.rstrip('/')}/{name}", now, time)
        finally:
            os.close(fd)
    return None


def read_file(base: int, directory: str, name: str, now: Now, maker: Maker | None = None) -> Entry | None:
    """A dump that is one file, the memory alone; of MAKER where its name doesn't tell."""
    facts = os.stat(name, dir_fd=base, follow_symlinks=False)
    if not stat.S_ISREG(facts.st_mode):
        return None
    steam, wiki = STEAM_FILE.fullmatch(name), WIKI_FILE.fullmatch(name)
    text = steam["time"] if steam else (wiki["time"] or "") if wiki else ""
    head = _head(base, name)
    path = f"{directory.rstrip('/')}/{name}"
    found = Entry(
        id=name,
        path=path,
        maker=maker or ("kdumpst" if steam else "ArchWiki"),
        time=_moment(text, utc=steam is not None) or int(facts.st_mtime),
        state=_state_of(head, name, recent=now.covers(facts.st_mtime) and not maker),
        size=facts.st_blocks * 512,
        vmcore=path,
    )
    return _identified(found, head)


def read_directory(fd: int, layout: Layout, path: str, now: Now, time: int = 0) -> Entry | None:
    """What lies in the directory that FD is open on, which is PATH; None when nothing that LAYOUT knows does.

    TIME is that of its name, which is the time of its saving: what VMCOREINFO says counts more.
    """
    files = dumps.stats_of(fd, layout.knows)
    core = _first(layout.core, files) or _first(layout.begun, files)
    log = _first(layout.log, files)
    if not core and not log:
        return None
    own = os.fstat(fd)
    recent = now.covers(max(own.st_mtime, *(facts.st_mtime for facts in files.values())))
    head = _head(fd, core) if core else None
    state: State = "dmesg only"
    if core:
        whole = layout.core.fullmatch(core) is not None
        state = _state_of(head if whole else None, core, recent=recent and not (whole and layout.marked))
    found = Entry(
        id=path.rpartition("/")[2],
        path=path,
        maker=layout.maker,
        time=time or int(own.st_mtime),
        state=state,
        size=sum(facts.st_blocks * 512 for facts in (own, *files.values())),
        vmcore=f"{path}/{core}" if core else "",
        log=f"{path}/{log}" if log and not log.endswith(".age") else "",
        encrypted=any(name.endswith(".age") and name.removesuffix(".age") not in files for name in files),
    )
    found = _identified(found, head)
    if layout is SUSE:
        readme = dumps.head_of(fd, "README.txt", README_HEAD) or b""
        found = _explained(found, readme.decode("utf-8", "replace"), recent)
    if not found.release and found.log:
        found = replace(found, release=_release_in(dumps.head_of(fd, log, LOG_HEAD) or b""))
    return found


def read_any(fd: int, path: str, now: Now) -> Entry | None:
    """The directory that FD is open on, which is PATH and may have any name; None when there is no dump in it."""
    for pattern, layout in DIRECTORIES:
        match = pattern.fullmatch(path.rpartition("/")[2])
        found = read_directory(fd, layout, path, now, _moment(match["time"], utc=False)) if match else None
        if found is not None:
            return found
    names = dumps.stats_of(fd, lambda name: any(pattern.fullmatch(name) for pattern, _ in SIGNS))
    layouts = [layout for pattern, layout in SIGNS if any(pattern.fullmatch(name) for name in names)]
    return next(filter(None, (read_directory(fd, layout, path, now) for layout in (*layouts, ANY))), None)


def layout_of(maker: Maker) -> Layout:
    """What a dump of MAKER consists of."""
    return next((one for one in LAYOUTS if one.maker == maker), ANY)


def _is_file(directory: str, name: str) -> bool:
    if directory == KDUMPST:
        return STEAM_FILE.fullmatch(name) is not None
    return name.startswith("crashdump-") and WIKI_FILE.fullmatch(name) is not None


def _head(fd: int, name: str) -> bytes | None:
    """The beginning of a vmcore. Raises PermissionError: nothing can be said then of what may be whole."""
    data = dumps.head_of(fd, name, HEAD)
    if data is None:
        try:
            os.close(os.open(name, dumps.HERE | os.O_NONBLOCK, dir_fd=fd))
        except PermissionError:
            raise
        except OSError:
            pass
    return data


def _first(pattern: re.Pattern[str], names: Iterable[str]) -> str:
    return next((name for name in sorted(names) if pattern.fullmatch(name)), "")


def _state_of(head: bytes | None, name: str, *, recent: bool) -> State:
    """Of memory that begins with HEAD."""
    if recent:
        return "being written"
    if not head:
        return "incomplete"
    packed = name.endswith((".gz", ".bz2", ".lz4", ".xz", ".zst", ".age"))
    return "complete" if packed or head.startswith(MAGIC) else "damaged"


def _identified(entry: Entry, head: bytes | None) -> Entry:
    """With what VMCOREINFO says, of which the first is meant."""
    text = {key.decode(): value.decode() for key, value in reversed(VMCOREINFO.findall(head or b""))}
    time = number(text.get("CRASHTIME"))
    build_id = text.get("BUILD-ID", "").lower()
    return replace(
        entry,
        release=text.get("OSRELEASE", ""),
        build_id=build_id if re.fullmatch(r"[0-9a-f]{2,64}", build_id) else "",
        time=time or entry.time,
    )


def _explained(entry: Entry, readme: str, recent: bool) -> Entry:
    """With what SUSE's README.txt says."""
    release = re.search(r"^Kernel version: ([A-Za-z0-9._+-]{1,100})$", readme, re.MULTILINE)
    state = entry.state
    if "crash dump is likely incomplete" in readme:
        state = "being written" if recent else "incomplete"
    elif "vmcore status: " in readme and "vmcore status: saved successfully" not in readme:
        state = "incomplete" if entry.vmcore else "dmesg only"
    return replace(entry, state=state, release=entry.release or (release[1] if release else ""))


def _release_in(log: bytes) -> str:
    found = re.search(rb"Linux version ([A-Za-z0-9._+-]{1,100}) ", log)
    return found[1].decode() if found else ""


def _moment(text: str, *, utc: bool) -> int:
    """The time in a name; 0 where there is none, or no such day."""
    digits = re.sub(r"\D", "", text)
    try:
        moment = datetime.strptime(digits.ljust(14, "0"), "%Y%m%d%H%M%S")
        return max(0, int((moment.replace(tzinfo=UTC) if utc else moment).timestamp()))
    except (ValueError, OverflowError, OSError):
        return 0
