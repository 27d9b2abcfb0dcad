"""What is said of a crash to others: the fields of its journal entry, and the notice for whoever sits there."""

from __future__ import annotations

from kdump_pkg.model.crash import Report
from kdump_pkg.model.dumps import Entry
from kdump_pkg.untrusted import one_line

MESSAGE_ID = "51f81c65055148c29964d3c6ee8a5b5a"
"""Of the entry's text in systemd/kdump-pkg.catalog; never to change, for others filter by it."""
LONGEST = 400
"""Characters of a value; its end has to be the only end of a line in it, for that begins the next field."""


def fields(entry: Entry, report: Report) -> tuple[tuple[str, str], ...]:
    """Names and values of a journal entry, as systemd.journal-fields(7) has them.

    Empty ones are among them: of one that isn't there `journalctl -x` shows the name in the catalog's text.
    """
    crash, checked = report.crash, report.verification
    where = crash.where
    bad = [check for check in checked.checks if check.state == "bad"] if checked else []
    values = {
        "MESSAGE": report.sentence or f"a kernel crash was saved as {entry.id}",
        "MESSAGE_ID": MESSAGE_ID,
        "PRIORITY": "2",
        "SYSLOG_IDENTIFIER": "kdump-pkg",
        "KDUMP_DUMP": entry.id,
        "KDUMP_PATH": entry.path,
        "KDUMP_TIME": str(report.time),
        "KDUMP_RELEASE": crash.release or entry.release,
        "KDUMP_KIND": crash.kind,
        "KDUMP_CAUSE": crash.cause,
        "KDUMP_FUNCTION": where.function if where else "",
        "KDUMP_MODULE": where.module if where else "",
        "KDUMP_PROCESS": crash.process,
        "KDUMP_TAINT": crash.taint,
        "KDUMP_SIGNATURE": crash.signature,
        "KDUMP_SEEN": str(len(report.seen)),
        "KDUMP_STATE": "damaged" if bad else entry.state,
        "KDUMP_DAMAGE": "; ".join(f"{check.name}: {check.text}" for check in bad),
    }
    return tuple((name, one_line(value, LONGEST)) for name, value in values.items())


def as_lines(values: tuple[tuple[str, str], ...]) -> bytes:
    """What `logger --journald` takes."""
    return "".join(f"{name}={value}\n" for name, value in values).encode("utf-8", "replace")


def notice(identity: str, sentence: str) -> bytes:
    """Two lines that hooks/notify reads: the dump, if there is one, and what to say."""
    return f"{one_line(identity, LONGEST)}\n{one_line(sentence, LONGEST)}\n".encode("utf-8", "replace")
