"""The log of a crashed kernel, read: what happened, where, in whose name. Pure, and bounded whatever it is given."""

from __future__ import annotations

from kdump_pkg.crashlog import pstore, story
from kdump_pkg.crashlog.choice import choose
from kdump_pkg.crashlog.lines import split
from kdump_pkg.model.crash import Crash


def read(log: bytes) -> Crash:
    """What LOG tells of the crash in it, the last one where there are several. Never raises; unknown stays empty."""
    return story.tell(choose(pstore.ordered(split(log))))
