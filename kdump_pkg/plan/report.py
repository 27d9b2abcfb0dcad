"""A report, from a log that was read and what the machine knows besides it. Pure: the same facts, the same report."""

from __future__ import annotations

from kdump_pkg import __version__
from kdump_pkg.model.crash import Crash, Report, Verification, VmcoreFacts
from kdump_pkg.model.dumps import Entry
from kdump_pkg.model.evidence import Evidence
from kdump_pkg.plan import advice, origin, sentence, taint

SEEN = 100
"""Other dumps of the same crash that are named."""


def make(
    entry: Entry,
    crash: Crash,
    evidence: Evidence,
    verification: Verification | None = None,
    vmcore: VmcoreFacts | None = None,
) -> Report:
    """ENTRY is the dump that CRASH was read from; what the log doesn't say of the release, the dump's name does."""
    encrypted = entry.encrypted and not evidence.has_log
    found = origin.owners(crash, entry.time, evidence)
    latest = origin.upgrades(found, evidence.changes)
    others = [other for other in evidence.others if other.id != entry.id]
    same = [other for other in others if crash.signature and other.signature == crash.signature]
    # The same crash before the upgrade: whoever did it, the upgrade didn't.
    known = any(other.time < change.time for other in same for change in latest)
    first = "" if known else origin.first_since(latest, entry.time, [other.time for other in others])
    report = Report(
        id=entry.id,
        time=entry.time,
        sentence=sentence.tell(crash, encrypted=encrypted, has_log=evidence.has_log),
        crash=crash,
        taints=taint.spell_out(crash),
        owners=found,
        first_since=first,
        seen=tuple(other.id for other in same[:SEEN]),
        verification=verification,
        vmcore=vmcore,
        machine=evidence.machine,
        encrypted=encrypted,
        has_log=evidence.has_log,
        made_by=__version__,
    )
    return advice.add(report, evidence, entry, latest if first else ())
