"""What is shown of dumps: the table of `list`, all that `info` says, the word to go with an archive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kdump_pkg.model.dumps import Details, Entry
from kdump_pkg.plan.match import Offset, local
from kdump_pkg.untrusted import number

HEAD = ("TIME", "RELEASE", "WHAT", "WHERE", "SIZE", "STATE")
WIDEST = 48  # characters of a column
SIZE_DIGITS = 15  # of bytes; no disk has more
STEPS = {"target": "target", "dmesg": "log", "vmcore": "memory", "log": "own log"}
PACKED = {".gz": "gunzip", ".bz2": "bunzip2", ".lz4": "unlz4", ".xz": "unxz", ".zst": "unzstd"}


def rows(entries: Iterable[Entry], offset: Offset) -> tuple[tuple[str, ...], ...]:
    """For a table, its head first."""
    found = [
        (
            local(entry.time, offset), _cut(entry.release), _cut(entry.what), _cut(entry.where), size(entry.size),
            state(entry),
        )
        for entry in entries
    ]  # fmt: skip
    width = max((len(row[4]) for row in found), default=0)
    return (HEAD, *((*row[:4], row[4].rjust(width), row[5]) for row in found))


def _cut(text: str) -> str:
    return (text if len(text) <= WIDEST else text[: WIDEST - 1] + "…") or "-"


def state(entry: Entry) -> str:
    """`complete (pinned, encrypted)`"""
    marks = [word for word, is_so in (("pinned", entry.pinned), ("encrypted", entry.encrypted)) if is_so]
    marks += [entry.maker] if entry.foreign else []
    return f"{entry.state} ({', '.join(marks)})" if marks else entry.state


def size(count: int) -> str:
    """`53.6M`, as coredumpctl has it."""
    number, unit = float(count), ""
    for unit in ("B", "K", "M", "G", "T"):
        if number < 1024 or unit == "T":
            break
        number /= 1024
    return f"{count}B" if unit == "B" else f"{number:.1f}{unit}"


# --- info ---


def info(entry: Entry, details: Details, offset: Offset) -> str:
    """Labels and values, as `coredumpctl info` has them."""
    pairs = [pair for pair in _pairs(entry, details, offset) if pair[1]]
    width = max(len(label) for label, _ in pairs)
    return "\n".join(f"{label + ':' if label else '':>{width + 1}} {value}" for label, value in pairs)


def _pairs(entry: Entry, details: Details, offset: Offset) -> Iterator[tuple[str, str]]:
    yield "ID", entry.id
    yield "Time", f"{local(entry.time, offset)} {_zone(offset(entry.time))}"
    yield "Release", entry.release
    yield "Build ID", entry.build_id
    yield "What", entry.what
    yield "Where", entry.where
    yield "Signature", entry.signature
    yield "State", state(entry)
    yield "Made by", entry.maker if entry.foreign else ""
    yield "Path", entry.path
    yield from _saving(details, offset)
    yield from _listed("Files", (f"{name}  {size(count)}" for name, count in _aligned(details.files)))
    yield from _listed("Opened by", openers(entry))
    yield from _listed("Next", commands(entry))


def _saving(details: Details, offset: Offset) -> Iterator[tuple[str, str]]:
    """What `meta` tells of how it was saved."""
    saved, crashed = number(details.get("saved_time")), number(details.get("crash_time"))
    if saved is not None:
        late = saved - crashed if crashed is not None else -1
        yield "Saved", local(saved, offset) + (f", {late} s after the crash" if 0 <= late < 86400 else "")
    yield "Capture kernel", details.get("capture_release")
    yield "Command line", details.get("cmdline")
    yield "Target", f"{details.get('target')} ({details.get('target_name')})" if details.get("target") else ""
    yield "Dump level", details.get("level")
    row = number(details.get("in_a_row"))
    yield "In a row", f"crash number {row} in a short time" if row and row > 1 else ""
    least = number(details.get("min_available_kib"))
    yield "Memory left", f"{size(least * 1024)} at the least" if least is not None else ""
    yield from _listed("Steps", _steps(details))


def _steps(details: Details) -> Iterator[str]:
    """`step_vmcore=exit=0 seconds=4 bytes=56229581` as `memory: 4 s, 53.6M`."""
    for key, value in details.meta:
        if not key.startswith("step_"):
            continue
        facts = dict(part.partition("=")[::2] for part in value.split(" "))
        name, _, again = key.removeprefix("step_").partition("_")
        ended = "" if facts.get("exit") == "0" else f"failed ({facts.get('exit', '?')})"
        written = number(facts.get("bytes"), SIZE_DIGITS)
        parts = [ended, f"{facts.get('seconds', '?')} s", size(written) if written else ""]
        yield f"{STEPS.get(name, name)}{' ' + again if again else ''}: {', '.join(part for part in parts if part)}"


def _aligned(files: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    known = list(files)
    width = max((len(name) for name, _ in known), default=0)
    yield from ((name.ljust(width), count) for name, count in known)


def _listed(label: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    for count, value in enumerate(values):
        yield "" if count else label, value


def _zone(seconds: int) -> str:
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"UTC{sign}{minutes // 60:02}:{minutes % 60:02}" if seconds else "UTC"


def openers(entry: Entry) -> tuple[str, ...]:
    """What can be opened of it, and with what."""
    name = entry.vmcore.rpartition("/")[2]
    packed = next((tool for tail, tool in PACKED.items() if name.endswith(tail)), "")
    if entry.state == "being written":
        memory = "nothing yet: it is being written just now"
    elif not name:
        memory = "" if entry.log else "nothing: no memory and no log was saved"
    elif name.endswith(".age"):
        memory = f"{name}: age, with the private key; then as any other"
    elif packed:
        memory = f"{name}: {packed} first, then crash or drgn"
    elif entry.state in ("complete", "damaged"):
        memory = f"{name}: crash, drgn" + (" (it is damaged)" if entry.state == "damaged" else "")
    else:
        memory = f"{name}: crash, as far as it goes: its end is missing"
    log = f"{entry.log.rpartition('/')[2]}: any pager" if entry.log else ""
    return tuple(text for text in (memory, log) if text)


def commands(entry: Entry) -> tuple[str, ...]:
    """What to do next."""
    if entry.state == "being written":
        return ()
    name = entry.path if entry.maker == "unknown" else entry.id
    openable = entry.vmcore and not entry.vmcore.endswith((".age", *PACKED))
    wanted = (
        ("kdump-pkg decrypt {} --identity FILE", entry.encrypted),
        ("kdump-pkg report {}", entry.log or openable or entry.encrypted),
        ("kdump-pkg debug {}", openable),
        ("kdump-pkg verify {}", entry.vmcore),
    )
    return tuple(text.format(_quoted(name)) for text, is_so in wanted if is_so)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)


# --- export ---


def archive_text(entry: Entry, names: Iterable[str], sentence: str = "") -> str:
    """The file INFO of an archive: what it is, how to open it, and what is in it that nobody else may see.

    NAMES are those of the files in it, SENTENCE is its report's.
    """
    every = set(names)
    memory = entry.vmcore.rpartition("/")[2]
    kernel = "vmlinux" if "vmlinux" in every else "the vmlinux of that kernel (same build ID)"
    lines = [
        f"A crash of Linux {entry.release or '(release not known)'}, on {local(entry.time, lambda time: 0)} UTC.",
        f"{sentence[:1].upper()}{sentence[1:]}." if sentence else "",
        f"Build ID of the kernel: {entry.build_id}." if entry.build_id else "",
        f"Saved by {entry.maker if entry.maker != 'unknown' else 'a program that is not known'}; {entry.state}.",
        "",
        "THIS ARCHIVE HOLDS SECRETS. The memory of a machine has passwords, keys and documents in it, the log has",
        "addresses and serial numbers. Give it to nobody whom you wouldn't let sit at that machine, and remove it",
        "when it has done its work.",
        "",
        "report.txt   what happened, in words; report.json: the same for programs" if "report.txt" in every else "",
        f"{entry.log.rpartition('/')[2]}   the log of the crashed kernel" if entry.log else "",
        f"{memory}   the memory of the crashed kernel" if memory else "There is no memory in it, only the log.",
        "vmlinux   the kernel, with types and symbols: crash and drgn need it" if "vmlinux" in every else "",
        "report.sums   hashes of the files: sha256sum -c report.sums",
        "",
        *_opening(memory, kernel),
    ]
    return "\n".join(line for line, above in zip(lines, ["x", *lines], strict=False) if line or above) + "\n"


def _opening(memory: str, kernel: str) -> Iterator[str]:
    if not memory:
        return
    packed = next((tool for tail, tool in PACKED.items() if memory.endswith(tail)), "")
    if memory.endswith(".age"):
        yield f"The memory is encrypted: age --decrypt --identity KEY --output vmcore {memory}"
        yield "On a machine with kdump-pkg: kdump-pkg decrypt . --identity KEY"
    elif packed:
        yield f"Unpack the memory first: {packed} {memory}"
    plain = memory.removesuffix(".age")
    for tail in PACKED:
        plain = plain.removesuffix(tail)
    yield f"With {kernel}: crash vmlinux {plain}"
    yield f"or: drgn -c {plain} -s vmlinux"
    yield f"On a machine with kdump-pkg: kdump-pkg debug ./{plain}"
