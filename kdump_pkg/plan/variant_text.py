"""What is said of linux-kdump, pure: whether it captures, what is being done about it, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kdump_pkg import paths
from kdump_pkg.errors import KdumpError
from kdump_pkg.model import Config, Facts, Kernel, Wanted
from kdump_pkg.model.variant import Failure
from kdump_pkg.plan import variant
from kdump_pkg.plan.checks import moment
from kdump_pkg.plan.kernel import choose
from kdump_pkg.untrusted import masked, number, one_line

BUILD = "kdump-pkg variant build"
NONE = "there is none, and nobody has asked for one"
LOG = f"{paths.VARIANT_BUILD}/build.log"
MIB = 1 << 20
LONGEST, LONGEST_LINE = 1000, 200
"""Characters of what is shown in one piece; of a sentence in `status`, and of a line that a build has said."""
BY_HAND = "asked for"
"""The reason of a build that nothing but somebody's wish is the reason for."""
TAIL = 8
"""Lines of a failed build."""
FOLLOW = {"release": "every upgrade of {}", "series": "each new series of {}", "never": "no upgrade of {}"}


@dataclass(frozen=True)
class Summary:
    """The one sentence of `kdump-pkg status`."""

    state: Literal["ok", "note"]
    """Never more than a note: another kernel captures then."""
    text: str
    remedy: str | None = None
    evidence: str = ""


def summary(config: Config, facts: Facts) -> Summary | None:
    """What is to be known first; None where there is none, and nobody has asked for one."""
    state = facts.variant
    kernel = shown(config, facts)
    if not state.running and kernel is None and not state.record.followed and state.record.failure is None:
        return None
    due = variant.out_of_date(config, facts)
    failure = _failure(facts, due)
    if state.running:
        asked = f" (for {_name(state.record.wanted)})" if state.record.wanted else ""
        return _meanwhile(config, facts, f"{_progress(facts)}{asked}")
    if failure:
        return _meanwhile(config, facts, _failed(failure), _remedy(failure), LOG if failure.tail else "")
    if due:
        return _meanwhile(config, facts, f"a build is due: {due.reason}", BUILD)
    if kernel is None:
        return Summary("note", "none is installed", BUILD)
    return _installed(config, facts, kernel)


def chosen(config: Config, facts: Facts) -> Kernel | None:
    """What captures, by the rules."""
    try:
        return choose(config, facts.kernels, facts.boot.running)
    except KdumpError:
        return None


def shown(config: Config, facts: Facts) -> Kernel | None:
    """The variant that captures, else the newest one."""
    found, captures = [k for k in facts.kernels if k.variant], chosen(config, facts)
    return captures if captures and captures.variant else found[-1] if found else None


def _meanwhile(config: Config, facts: Facts, text: str, remedy: str | None = None, evidence: str = "") -> Summary:
    captures = chosen(config, facts)
    until = f"; until then {_short(captures.release)} captures" if captures else ""
    return Summary("note", f"{one_line(text, LONGEST)}{until}", remedy, evidence)


def _installed(config: Config, facts: Facts, kernel: Kernel) -> Summary:
    release = _short(kernel.release)
    if kernel.problem:
        return Summary("note", f"{release} can't be used: {_short(kernel.problem)}", f"{BUILD} --force")
    if kernel.held:
        return Summary("note", f"{release} doesn't capture: {_short(kernel.held)}", BUILD)
    if chosen(config, facts) != kernel:
        return Summary("note", f"{release} doesn't capture, for the configuration has kernel = {config.kernel}")
    loaded = facts.loaded is not None and facts.loaded.release == kernel.release
    saves = _memory(config, facts, kernel)
    return Summary("ok", f"{release} {'captures' if loaded else 'is to capture'}{'; it ' if saves else ''}{saves}")


# --- pieces -----------------------------------------------------------------------------------------------------------


def _failure(facts: Facts, due: Wanted | None) -> Failure | None:
    """What became of the last build, if that is why there is no other; an older one says nothing of what is due."""
    failure, built = facts.variant.record.failure, facts.variant.record.built
    if failure is None or (due is not None and failure.wanted.key != due.key):
        return None
    return failure if due is not None or built is None or failure.time > built.time else None


def _failed(failure: Failure) -> str:
    """With its last words, unless the sentence has them."""
    text = _short(failure.text)
    last = _short(failure.tail[-1]) if failure.tail else ""
    words = f": {last}" if last and last not in text else ""
    if failure.step == "rehearsing":
        return f"what was built for {_name(failure.wanted)} is not used: {text}{words}"
    return f"the build for {_name(failure.wanted)} failed on {moment(failure.time)}: {text}{words}"


def _remedy(failure: Failure) -> str:
    hint = one_line(failure.hint, LONGEST)
    return BUILD if not hint else hint if BUILD in hint else f"{hint}, then {BUILD}"


def _progress(facts: Facts) -> str:
    """`building, 40 %, 3 min`"""
    now = facts.variant.progress
    if now is None:
        return "a build is at work"
    why = f": {one_line(now.text, LONGEST_LINE)}" if now.step == "waiting" and now.text else ""
    share = f", {min(100 * now.done // now.of, 99)} %" if now.of > 0 and now.done >= 0 else ""
    since = f", {span(facts.variant.now - now.since)}" if 0 < now.since <= facts.variant.now else ""
    return f"{one_line(now.step, LONGEST_LINE)}{share if now.step == 'building' else ''}{since}{why}"


def _memory(config: Config, facts: Facts, kernel: Kernel) -> str:
    """What it takes, beside the kernel that would capture without it."""
    stock = variant.followed(config, facts)
    if not kernel.init_size:
        return ""
    takes = f"takes {kernel.init_size // MIB} MiB to start"
    return f"{takes}, {stock.pkgbase} {stock.init_size // MIB}" if stock and stock.init_size else takes


def _name(wanted: Wanted) -> str:
    return _short(f"{wanted.base} {wanted.version}")


def _short(text: str) -> str:
    return one_line(text, LONGEST_LINE)


def span(seconds: int) -> str:
    """A time that something takes: `40 s`, `3 min`, `1 h 5 min`."""
    if seconds < 60:
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# --- variant status ---------------------------------------------------------------------------------------------------


def lines(config: Config, facts: Facts) -> list[str]:
    """All that is known of it, for people."""
    found = summary(config, facts)
    rows = [(name, _cell(name, text)) for name, text in _rows(config, facts, found) if text]
    width = max((len(name) for name, _ in rows), default=0)
    head = found.text if found else NONE
    return [f"{paths.VARIANT}: {head}", *(f"  {name.ljust(width)}  {text}" for name, text in rows)]


def _cell(name: str, text: str) -> str:
    """What stands below another row keeps its columns."""
    return one_line(text, LONGEST) if name else masked(text[:LONGEST])


def _rows(config: Config, facts: Facts, found: Summary | None) -> Iterator[tuple[str, str]]:
    record, kernel = facts.variant.record, shown(config, facts)
    if kernel is not None:
        yield from _kernel_rows(config, facts, kernel)
    yield "follows", _follows(config, facts)
    if record.wanted is not None and (facts.variant.running or found is None or found.state != "ok"):
        reason = record.wanted.reason
        yield "asked for", f"{_name(record.wanted)}{f': {reason}' if reason not in ('', BY_HAND) else ''}"
    yield from _work_rows(facts)
    if record.failure is not None and (record.built is None or record.failure.time > record.built.time):
        yield from _failure_rows(record.failure)
    yield "to do", (found.remedy or "") if found else f"{BUILD} makes one"


def _kernel_rows(config: Config, facts: Facts, kernel: Kernel) -> Iterator[tuple[str, str]]:
    package = f" ({kernel.package} {kernel.version or ''}".rstrip() + ")" if kernel.package else ""
    yield "installed", f"{kernel.release}{package}"
    built = facts.variant.record.built
    if built is not None and built.release == kernel.release:
        took = f", in {span(built.seconds)}" if built.seconds > 0 else ""
        yield "built from", f"{_name(built.wanted)} on {moment(built.time)}{took}"
        yield "drivers", " ".join(built.wanted.drivers)
    yield "trusted", _trust(config, facts, kernel)
    yield "size", ", ".join(_sizes(config, facts, kernel))
    yield "memory", _memory(config, facts, kernel)


def _trust(config: Config, facts: Facts, kernel: Kernel) -> str:
    warrant = facts.variant.record.trusted.get(kernel.build_id or "")
    return warrant or ("because of trust = yes" if config.variant.trust else f"no: {variant.UNTRIED}")


def _sizes(config: Config, facts: Facts, kernel: Kernel) -> Iterator[str]:
    size = vmlinuz_size(kernel)
    if size is not None:
        yield f"vmlinuz {size / 1e6:.1f} MB"
    if facts.image.exists and facts.image.readable and chosen(config, facts) == kernel and _loaded(facts, kernel):
        yield f"image {facts.image.size / 1e6:.1f} MB"


def _loaded(facts: Facts, kernel: Kernel) -> bool:
    return facts.loaded is not None and facts.loaded.release == kernel.release


def vmlinuz_size(kernel: Kernel) -> int | None:
    """Bytes, which the stamp begins with."""
    return number(kernel.stamp.partition(":")[0])


def _follows(config: Config, facts: Facts) -> str:
    system = variant.tracked(config, facts)
    if not facts.variant.record.followed:
        return "nothing, until somebody builds one"
    return FOLLOW.get(config.variant.follow, "{}").format(system.pkgbase if system else "the system's kernel")


def _work_rows(facts: Facts) -> Iterator[tuple[str, str]]:
    now = facts.variant.progress
    if facts.variant.running:
        files = f" ({now.done} of about {now.of} files)" if now and now.of > 0 and now.step == "building" else ""
        yield "at work", f"{_progress(facts)}{files}"
        yield "", now.text if now and now.step != "waiting" else ""


def _failure_rows(failure: Failure) -> Iterator[tuple[str, str]]:
    yield "failed", f"{_name(failure.wanted)} on {moment(failure.time)}, {failure.step}: {failure.text}"
    yield from (("", line) for line in last_lines(failure))


def last_lines(failure: Failure) -> Iterable[str]:
    """What a build said last, as it may be shown."""
    return [masked(line[:LONGEST_LINE].expandtabs()).rstrip() for line in failure.tail[-TAIL:]]


def data(config: Config, facts: Facts) -> dict[str, Any]:
    """The same for programs: what `variant status --json` prints."""
    found, record, state = summary(config, facts), facts.variant.record, facts.variant
    captures = chosen(config, facts)
    due = variant.out_of_date(config, facts)
    return {
        "version": 1,
        "text": found.text if found else NONE,
        "remedy": found.remedy if found else BUILD,
        "captures": captures.release if captures else None,
        "installed": [_kernel_data(config, facts, k) for k in facts.kernels if k.variant],
        "followed": record.followed,
        "follow": config.variant.follow,
        "due": asdict(due) if due else None,
        "wanted": asdict(record.wanted) if record.wanted else None,
        "built": asdict(record.built) if record.built else None,
        "failure": {**asdict(record.failure), "tail": last_lines(record.failure)} if record.failure else None,
        "running": state.running,
        "progress": asdict(state.progress) if state.progress else None,
    }


def _kernel_data(config: Config, facts: Facts, kernel: Kernel) -> dict[str, Any]:
    return {
        "release": kernel.release,
        "version": kernel.version,
        "build_id": kernel.build_id,
        "captures": chosen(config, facts) == kernel,
        "loaded": _loaded(facts, kernel),
        "why_not": kernel.problem or kernel.held,
        "trusted": facts.variant.record.trusted.get(kernel.build_id or ""),
        "builtin": sorted(kernel.builtin or ()),
        "vmlinuz_bytes": vmlinuz_size(kernel),
        "init_bytes": kernel.init_size,
    }
