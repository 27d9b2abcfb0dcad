"""What a build of a kernel finds on the machine; no hook asks, so that none has to import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Local:
    """What lies at the path that `source =` names, and in the file of `keys =`."""

    kind: Literal["archive", "tree", "none"] = "none"
    """none: nothing is there, or source = auto."""
    signature: str = ""
    """Name of the signature beside the archive; empty where there is none."""
    version: str = ""
    """Of the kernel, as the Makefile of a tree says it."""
    keys: tuple[str, ...] = ()
    """Fingerprints of the public keys in the file; none where there is no such file."""
    keys_problem: str = ""
    """Why that file can't be used, in a few words."""


@dataclass(frozen=True)
class Power:
    """Where the machine's current comes from."""

    online: bool = False
    """From the mains, as a supply says."""
    discharging: bool = False
    """A battery of the machine's own is."""

    @property
    def mains(self) -> bool:
        """As systemd's ConditionACPower= has it: where nothing discharges and nothing says so, it is a desktop."""
        return self.online or not self.discharging
