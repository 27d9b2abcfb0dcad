"""Which debug kernels to save and which to let go."""

from __future__ import annotations

from kdump_pkg.model import Action, Config, DebugKernel, DropDebug, Facts, Kernel, SaveDebug


def plan_debug(config: Config, facts: Facts) -> tuple[list[Action], list[str]]:
    """Actions for the debug kernels, deletions last, and what can't be done."""
    have = {d.release: d for d in facts.debug}
    saves: list[Action] = []
    warnings: list[str] = []
    for kernel in facts.kernels if config.save_debug else ():
        if not kernel.usable or kernel.vmlinuz is None or kernel.build_id is None:
            continue
        kept = have.get(kernel.release)
        if kept is not None and not kept.recorded:
            continue  # somebody else's file: theirs to keep
        reason = _reason(kernel, kept)
        if reason:
            sources = (*kernel.vmlinux, kernel.vmlinuz)
            saves.append(SaveDebug(kernel.release, kernel.build_id, sources, kernel.system_map, kernel.sources, reason))
    return [*saves, *_drops(config, facts)], warnings


def _reason(kernel: Kernel, kept: DebugKernel | None) -> str | None:
    if kept is None:
        return f"no debug kernel of {kernel.release} yet"
    if kept.build_id != kernel.build_id:
        return f"{kernel.release} was rebuilt: another build ID"
    if kept.sources != kernel.sources:
        return f"what {kernel.release} can be debugged with has changed"
    return None


def _drops(config: Config, facts: Facts) -> list[Action]:
    """Kept as long as the kernel is installed or there is a dump of it, then for `keep_debug` releases more."""
    installed = {k.release for k in facts.kernels if k.vmlinuz}
    needed = installed | facts.dump_releases | {facts.boot.running}
    spare = [d.release for d in facts.debug if d.recorded and d.release not in needed]  # sorted by the reader
    surplus = spare[: len(spare) - config.keep_debug] if len(spare) > config.keep_debug else []
    return [DropDebug(r, f"{r} is gone and no dump of it is left (keep_debug = {config.keep_debug})") for r in surplus]
