"""Whether what is saved could be opened here: said before the crash, for afterwards nobody wants to learn it."""

from __future__ import annotations

from kdump_pkg.model import Finding
from kdump_pkg.plan import readers
from kdump_pkg.plan.checks import Case

PART = "debuggers"


def check(case: Case) -> list[Finding]:
    """One finding; none where there is no kernel to crash."""
    kernels = [k.release for k in case.facts.kernels if k.usable and not k.variant]
    releases = list(dict.fromkeys([*kernels, *filter(None, [case.facts.boot.running])]))
    if not releases:
        return []
    installed = case.health.debuggers
    remedy = f"pacman -S {readers.best(releases)}"
    if not installed:
        return [Finding(PART, "note", "neither crash nor drgn is installed: dumps can't be opened here", remedy)]
    reasons = {
        release: [readers.obstacle(tool, version, release) for tool, version in installed.items()]
        for release in releases
    }
    closed = [release for release, why in reasons.items() if all(why)]
    if closed:
        return [Finding(PART, "note", "; ".join(reasons[closed[0]]), remedy, f"installed: {', '.join(closed)}")]
    against = list(dict.fromkeys(text for why in reasons.values() for text in why if text))
    names = " and ".join(f"{tool} {version}".rstrip() for tool, version in installed.items())
    text = f"{names} {'open' if len(installed) > 1 else 'opens'} what is saved"
    return [Finding(PART, "ok", f"{text}; but {'; '.join(against)}" if against else text)]
