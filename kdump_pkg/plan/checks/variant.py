"""Whether linux-kdump captures, where somebody wants it to; and if not, why, and what is being done about it."""

from __future__ import annotations

from kdump_pkg.model import Finding
from kdump_pkg.plan import variant_text
from kdump_pkg.plan.checks import Case

PART = "variant"


def check(case: Case) -> list[Finding]:
    """One finding at the most; never more than a note, for another kernel captures then."""
    found = variant_text.summary(case.config, case.facts)
    return [] if found is None else [Finding(PART, found.state, found.text, found.remedy, found.evidence)]
