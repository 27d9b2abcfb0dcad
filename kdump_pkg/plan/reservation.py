"""What `setup` does, pure: which boot loader, how much, which bytes, and whether it came through to what boots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from kdump_pkg import crashkernel, parameters
from kdump_pkg.errors import KdumpError
from kdump_pkg.loaders import edit, words
from kdump_pkg.model.bootloader import Edit, Loader, Result, ResultLine, Surroundings
from kdump_pkg.model.estimate import Estimate
from kdump_pkg.model.setup import Change, Contents, Record, Recorded, SetupPlan, Version, with_generated

Values = tuple[str, ...]
Results = Mapping[Result, tuple[ResultLine, ...] | None]
"""What results hold; None for one that can't be read."""
WHATEVER = 1 << 40
"""Bytes of memory to read a value with where nobody knows how many there are."""
CHANGE = "kdump-pkg setup --crashkernel"
LEAST = 1 << 20
"""Bytes; who asks for less has forgotten the unit."""


@dataclass(frozen=True)
class Amount:
    """What the command line is to have."""

    values: Values
    replace: bool
    """Whether another value that is there has to go."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Here:
    """What `setup` found besides the boot loader."""

    results: Results = field(default_factory=dict)
    generated: Contents = field(default_factory=dict)
    """Files that programs made."""
    record: Record | None = None
    recorded: bytes | None = None
    units: Mapping[str, bool | None] = field(default_factory=dict)
    sysctl: Change | None = None
    """The file in /etc/sysctl.d that was asked for, where it isn't there yet."""
    notes: tuple[str, ...] = ()


# --- which boot loader ----------------------------------------------------------------------------------------------


def candidates(loaders: Sequence[Loader]) -> tuple[Loader, ...]:
    """Those that may boot this machine: what booted it now, else all that are here."""
    return tuple(loader for loader in loaders if loader.booted) or tuple(loaders)


def choose(loaders: Sequence[Loader], wanted: str | None) -> Loader:
    """The one to set up. Raises KdumpError where it would have to be guessed."""
    found = [loader for loader in loaders if loader.name == wanted] if wanted else candidates(loaders)
    if len(found) == 1:
        return found[0]
    names = ", ".join(loader.name for loader in loaders)
    if wanted:
        raise KdumpError(f"{wanted} isn't here", hint=f"here is {names}" if names else _by_hand())
    if not found:
        raise KdumpError("no boot loader was found that boots this system", hint=_by_hand())
    several = ", ".join(f"{loader.name} ({loader.evidence})" for loader in found)
    which = " or ".join(f"--loader {loader.name}" for loader in found)
    raise KdumpError(f"any of these may boot this machine: {several}", hint=f"say which: kdump-pkg setup {which}")


def _by_hand() -> str:
    return "run it as root, mount /boot or the ESP, or add crashkernel= to the kernel command line by hand"


def _refuse(loader: Loader) -> None:
    if loader.problem:
        raise KdumpError(f"{loader.title}: {loader.problem}")
    if not edit.own_lines(loader):
        reasons = dict.fromkeys(f"{line.entry}: {line.foreign}" for line in loader.lines)
        said = f" ({'; '.join(reasons)})" if reasons else ""
        raise KdumpError(f"{loader.title}: none of its entries starts this system{said}", hint=_by_hand())


# --- how much -------------------------------------------------------------------------------------------------------


def check(values: Values, memory: int | None) -> crashkernel.Request:
    """What these values reserve. Raises KdumpError for what the kernel wouldn't take, or couldn't give."""
    request = crashkernel.parse(values, memory or WHATEVER)
    if 0 < request.cost < LEAST:
        raise KdumpError(
            f"{crashkernel.text(values)} is less than 1 MiB: a number alone is bytes", hint=f"{CHANGE} 256M"
        )
    if not request.cost:
        raise KdumpError(f"{crashkernel.text(values)} reserves nothing on this machine", hint=f"{CHANGE} 256M")
    if memory and request.cost >= memory:
        raise KdumpError(
            f"{crashkernel.text(values)}: this machine has {memory >> 20} MiB in all", hint="kdump-pkg estimate"
        )
    return request


def decide(loader: Loader, wished: Values, sum_: Estimate, memory: int | None) -> Amount:
    """What was asked for; else what is there and can be used; else the estimate."""
    there = present(loader)
    if wished:
        wished = crashkernel.ordered(wished)
        check(wished, memory)
        return Amount(wished, True, _enough(wished, sum_, memory, f"{crashkernel.text(wished)}, as asked for"))
    for values in there:
        try:
            crashkernel.parse(values, memory or WHATEVER)
        except KdumpError as error:
            raise KdumpError(f"{loader.title}: {error.message}", hint=f"{CHANGE} {' '.join(sum_.values)}") from None
        notes = _enough(values, sum_, memory, f"{crashkernel.text(values)} is there already and stays")
        if len(there) > 1:
            others = ", ".join(crashkernel.text(one) for one in there[1:])
            notes = (*notes, f"other entries have {others}; {CHANGE} SIZE gives all the same")
        return Amount(values, False, notes)
    said = f"{crashkernel.text(sum_.values)}, by the estimate (kdump-pkg estimate shows the sum)"
    return Amount(sum_.values, False, (said,))


def present(loader: Loader) -> tuple[Values, ...]:
    """The different values that entries of this system have now."""
    found = [edit.present(loader, line) for line in edit.own_lines(loader)]
    return tuple(dict.fromkeys(values for values in found if values))


def _enough(values: Values, sum_: Estimate, memory: int | None, said: str) -> tuple[str, ...]:
    """What is said of a value that isn't ours: whether it is enough."""
    if memory is None and any(":" in value for value in values):
        return (f"{said}; how much that is depends on the machine's memory, which can't be seen from here",)
    request = crashkernel.parse(values, memory or WHATEVER)
    size = (request.size + request.cma) >> 20
    if size >= sum_.need_mib:
        return (f"{said}: {size} MiB, where the estimate is {sum_.need_mib} MiB",)
    less = f"{said}: {size} MiB are less than the {sum_.need_mib} MiB of the estimate"
    return (f"{less}; to change it: {CHANGE} {' '.join(sum_.values)}",)


# --- what is done ---------------------------------------------------------------------------------------------------


def plan_setup(loader: Loader, around: Surroundings, amount: Amount, here: Here) -> SetupPlan:
    """The edits, the programs after them, the units. Raises KdumpError where the boot loader can't be set up."""
    _refuse(loader)
    edits = edit.reserve(loader, amount.values, replace=amount.replace)
    wanted = accepted(loader, amount)
    stale = lacking({r: lines for r, lines in here.results.items() if lines is not None}, wanted)
    enable = tuple(unit for unit, on in here.units.items() if on is False)
    plan = SetupPlan(
        changes=tuple(Change(one.path, one.before, one.after) for one in edits),
        commands=loader.regenerate if edits or stale else (),
        sysctl=here.sysctl,
        enable=enable,
        recorded=here.recorded,
        loader=loader,
        values=amount.values,
        manual=_manual(loader, amount),
        notes=(*_foreign(loader), *_different(loader, around), *here.notes),
        reboot=_reboot(around, amount.values),
    )
    return plan if plan.empty else replace(plan, record=_record(loader, amount, here, edits, plan))


def accepted(loader: Loader, amount: Amount) -> tuple[Values, ...]:
    """The values that any entry of this system may have afterwards."""
    return tuple(dict.fromkeys((amount.values, *(() if amount.replace else present(loader)))))


def _foreign(loader: Loader) -> tuple[str, ...]:
    return tuple(f"{line.entry} is left alone: {line.foreign}" for line in loader.lines if line.foreign)


def _different(loader: Loader, around: Surroundings) -> tuple[str, ...]:
    """Of another root or a chroot, /etc/fstab may name the root in another way than the entries do."""
    texts = [words.text(loader.data(one.path), [one]) for line in edit.own_lines(loader) for one in line.stretches]
    roots = dict.fromkeys(root for text in texts if (root := parameters.by_name(text).get("root")))
    unknown = [root for root in roots if root not in around.roots]
    if around.live or len(unknown) < 2:
        return ()
    return (
        f"which of {', '.join(f'root={root}' for root in unknown)} is this system can't be seen from here: all get it",
    )


def _manual(loader: Loader, amount: Amount) -> tuple[str, ...]:
    there = present(loader)
    if there and (not amount.replace or there == (amount.values,)):
        return ()
    return tuple(command.replace("{}", crashkernel.text(amount.values)) for command in loader.manual)


def _reboot(around: Surroundings, values: Values) -> bool:
    return around.live and not set(values) <= set(crashkernel.values(around.cmdline or ""))


def _record(loader: Loader, amount: Amount, here: Here, edits: Sequence[Edit], plan: SetupPlan) -> Record:
    old = here.record or Record(loader.name, amount.values)
    files = {(one.loader, one.path): one for one in old.files}
    for one in edits:
        key = (loader.name, one.path)
        files[key] = _recorded(loader, one, files.get(key), amount.values)
    record = Record(
        loader=loader.name,
        values=amount.values,
        files=tuple(files.values()),
        generated=old.generated,
        units=tuple(dict.fromkeys((*old.units, *plan.enable))),
        sysctl=old.sysctl or plan.sysctl is not None,
    )
    return with_generated(record, loader.name, here.generated) if plan.commands else record


def _recorded(loader: Loader, done: Edit, earlier: Recorded | None, values: Values) -> Recorded:
    """What to keep of an edit; of a file that we edited before, how it was before the first time."""
    version = Version(done.after, done.words)
    if earlier is None:
        return Recorded(done.path, loader.name, done.before, (version,), done.lines, done.replaced)
    old = [one.words for one in earlier.ours if one.words]
    lines = [line.replace(words.joined(had), words.joined(values)) for line in earlier.lines for had in old]
    first = {entry: earlier.replaced.get(entry, ()) if had in old else had for entry, had in done.replaced.items()}
    return Recorded(
        path=done.path,
        loader=loader.name,
        original=_base(loader, done.before, earlier),
        ours=(*earlier.ours, replace(version, words=done.words or values)),
        lines=tuple(dict.fromkeys((*earlier.lines, *lines, *done.lines))),
        replaced={**earlier.replaced, **first},
    )


def _base(loader: Loader, now: bytes | None, earlier: Recorded) -> bytes | None:
    """The file without what is ours: as it was first, or what its owner has made of it since."""
    if now == earlier.original or any(now == version.data for version in earlier.ours):
        return earlier.original
    rest = released(loader, earlier)
    return now if rest is None else rest


def released(loader: Loader, file: Recorded) -> bytes | None:
    """A file as it is now without what we put in; None where nothing of that is left."""
    for version in file.ours[::-1]:
        done = Edit(file.path, file.original, version.data, version.words, file.lines, file.replaced)
        rest = edit.release(loader, done)
        if rest is not None:
            return rest
    return None


# --- whether it came through ----------------------------------------------------------------------------------------


def lacking(results: Results, wanted: Iterable[Values]) -> str | None:
    """What is wrong with what was generated, in one line: an entry of this system without the parameter, or none."""
    given = tuple(wanted)
    for result, lines in results.items():
        own = [line for line in lines or () if line.foreign is None]
        if not own:
            return f"{result.path} has no entry that starts this system"
        for line in own:
            found = crashkernel.values(line.text)
            if not any(set(values) <= set(found) for values in given):
                return f"{crashkernel.text(given[0])} did not come to the entry {line.entry} of {result.path}"
    return None
