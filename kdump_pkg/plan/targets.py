"""Which of the targets a capture can use, how it opens the encrypted ones, and what stands in for those."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdump_pkg.model import Config, CryptVolume, Facts, Target
from kdump_pkg.packages import package_of
from kdump_pkg.plan.tools import programs


@dataclass(frozen=True)
class Choice:
    targets: tuple[Target, ...]
    """In the order in which they are tried."""
    problems: tuple[str, ...]
    """Why the others can't be used, a line each."""


def choose(config: Config, facts: Facts) -> Choice:
    """Those of the configured targets that can be used, and the ESP for the log where nothing else is sure."""
    usable: list[Target] = []
    problems: list[str] = []
    for target in facts.targets:
        problem = target.problem or _obstacle(config, facts, target)
        if problem:
            problems.append(problem)
        else:
            usable.append(target)
    if usable and facts.esp and not any(sure(facts, t) or t.name == "esp" for t in usable):
        usable.append(replace(facts.esp, path=config.path, save="dmesg"))
    return Choice(tuple(usable), tuple(problems))


def _obstacle(config: Config, facts: Facts, target: Target) -> str | None:
    missing = [name for name in programs(target) if name not in facts.programs]
    if missing:
        packages = " ".join(package_of(name) for name in missing)
        return f"{text(target)} can't be reached without {', '.join(missing)}; pacman -S {packages}"
    if config.capture == "system":
        return None
    locked = [v for v in target.crypt if way(facts, v) == "asked for"]
    if locked and config.passphrase_timeout == 0:
        why = locked[0].problem or "its key can't be handed to the capture kernel"
        return f"{text(target)} is encrypted and nobody is asked for a passphrase (passphrase_timeout = 0): {why}"
    return None


def way(facts: Facts, volume: CryptVolume) -> str:
    """How the capture opens it: `handed over` by the kernel, or `asked for` on the console."""
    return "handed over" if facts.boot.crash_dm_crypt and volume.key != "none" else "asked for"


def sure(facts: Facts, target: Target) -> bool:
    """Whether nobody has to be there for it."""
    return all(way(facts, volume) == "handed over" for volume in target.crypt)


def keys(facts: Facts, targets: tuple[Target, ...]) -> tuple[CryptVolume, ...]:
    """The volumes whose keys are handed over when the capture kernel is loaded, each once."""
    volumes = (v for t in targets for v in t.crypt if way(facts, v) == "handed over")
    return tuple({v.uuid: v for v in volumes}.values())


def argon2_kib(facts: Facts, targets: tuple[Target, ...]) -> int:
    """Memory that it takes to check a typed passphrase, in KiB; 0 where none is asked for."""
    return max((v.argon2_kib for t in targets for v in t.crypt if way(facts, v) == "asked for"), default=0)


def text(target: Target) -> str:
    """`/var/crash on UUID=… (ext4)`, with what lies below it."""
    below = f" on {' on '.join(layer.kind for layer in reversed(target.layers))}" if target.layers else ""
    return f"{target.path} on {target.device or target.name} ({target.fstype or 'unknown'}{below})"
