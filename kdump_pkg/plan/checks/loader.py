"""Which boot loader starts the machine, and whether the next boot will have `crashkernel=`."""

from __future__ import annotations

from kdump_pkg import crashkernel
from kdump_pkg.loaders import edit
from kdump_pkg.loaders.edit import own_lines
from kdump_pkg.model import Finding
from kdump_pkg.model.bootloader import Loader
from kdump_pkg.plan.checks import SETUP, Case, State
from kdump_pkg.plan.reservation import candidates, lacking, present

PART = "boot loader"


def check(case: Case) -> list[Finding]:
    loaders = candidates(case.health.loaders)
    if not loaders:
        return [_none(case)]
    if len(loaders) == 1:
        loader = loaders[0]
        useless = loader.problem and (_missing(loader) or (case.live and not asked_now(case)))
        return [_configured(case, loader) if own_lines(loader) and not useless else _problem(case, loader)]
    titles = " and ".join(one.title for one in loaders)
    evidence = "; ".join(one.evidence for one in loaders)
    if all(own_lines(one) and not _missing(one) for one in loaders):
        return [Finding(PART, "ok", f"{titles}; each of them has crashkernel=", evidence=evidence)]
    text = f"{titles} are here, and nothing says which of them starts this machine"
    return [Finding(PART, "note", text, command(case), evidence)]


def command(case: Case) -> str:
    """What sets the machine up."""
    loaders = candidates(case.health.loaders)
    return f"{SETUP} --loader {' or '.join(one.name for one in loaders)}" if len(loaders) > 1 else SETUP


def comes(case: Case) -> bool:
    """Whether the next boot will have `crashkernel=`, as far as that can be told."""
    loaders = candidates(case.health.loaders)
    return len(loaders) == 1 and bool(present(loaders[0])) and not _missing(loaders[0])


def asked_now(case: Case) -> tuple[str, ...]:
    """What this boot's command line asks for."""
    return crashkernel.values(case.facts.boot.cmdline or "") if case.live else ()


def _none(case: Case) -> Finding:
    if not case.health.privileged:
        return Finding(PART, "unknown", "none is seen; the files of most are for root alone", "run it as root")
    return Finding(PART, "note", "none that is known is here", "add crashkernel= to the kernel command line by hand")


def _missing(loader: Loader) -> list[str]:
    """Entries of this system that reserve nothing."""
    return [line.entry for line in own_lines(loader) if not edit.present(loader, line)]


def _problem(case: Case, loader: Loader) -> Finding:
    """No command line of this system was found in its files, or nothing can be changed there that has to be."""
    state: State = "note" if asked_now(case) else "todo"
    if loader.problem:
        text, _, remedy = loader.problem.partition("; ")
        return Finding(PART, state, f"{loader.title}: {text}", remedy or None, loader.evidence)
    return Finding(PART, "unknown", f"{loader.title}, with no entry that starts this system", None, loader.evidence)


def _configured(case: Case, loader: Loader) -> Finding:
    lines, missing, now = own_lines(loader), _missing(loader), asked_now(case)
    source = next((f"{s.path}:{s.line}" for line in lines for s in line.stretches), loader.evidence)
    if not missing:
        return _everywhere(case, loader, source)
    if len(missing) < len(lines):
        text = f"{loader.title}: {len(missing)} of {len(lines)} entries lack crashkernel=: {', '.join(missing)}"
        return Finding(PART, "note", text, SETUP, source)
    if now:
        text = f"crashkernel= is not in the configuration of {loader.title}: the next boot won't have it"
        return Finding(PART, "todo" if loader.booted else "note", text, SETUP, source)
    return Finding(PART, "todo", f"no crashkernel= in the configuration of {loader.title}", SETUP, source)


def _everywhere(case: Case, loader: Loader, source: str) -> Finding:
    """Each entry has it; does this boot?"""
    values, now = present(loader)[0], asked_now(case)
    words = crashkernel.text(values)
    results = {result: case.health.results[result] for result in loader.results if result in case.health.results}
    stale = lacking(results, present(loader))
    if stale:
        return Finding(
            PART, "note" if now else "todo", f"{loader.title}: {stale}", f"{SETUP}, which makes it anew", source
        )
    if case.live and not now:
        return Finding(PART, "todo", f"{loader.title} has {words}, which this boot doesn't have yet", "reboot", source)
    if case.live and now != values:
        text = f"{loader.title} has {words}, this boot has {crashkernel.text(now)}"
        return Finding(PART, "note", text, "reboot", source)
    return Finding(PART, "ok", f"{loader.title}, {words}", evidence=source)
