"""A private Arch-like root with a real pacman in it, ready in milliseconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from .base import base, layer, mkinitcpio_prefix
from .chroot import Clone
from .common import LabError, Text, locked
from .recipe import ROOT_UUID

__all__ = ["ROOT_UUID", "ArchRoot", "Generator", "default_generator", "mkinitcpio_prefix", "open_root"]

Generator = Literal["mkinitcpio", "dracut"]
STOCK = "var/cache/pacman/pkg"
# After what makes the machine ready, and after what looks at the last crash, which waits for multi-user.target.
AT_BOOT = """[Unit]
After=multi-user.target kdump.service kdump-pkg-collect.service
[Service]
Type=oneshot
ExecStart=/usr/local/bin/at-boot
[Install]
WantedBy=multi-user.target
"""


IDLE = (
    "blk-availability.service", "dev-hugepages.mount", "dev-mqueue.mount", "e2scrub_reap.service",
    "getty-static.service", "getty@tty1.service", "lvm2-monitor.service", "serial-getty@ttyS0.service",
    "systemd-binfmt.service", "systemd-fsck-root.service", "systemd-logind.service", "systemd-user-sessions.service",
    "xfs_healer_start.service",
)  # fmt: skip
"""Units that no test is about: they cost an emulated machine seconds, and a login hangs up our terminal."""


class ArchRoot(Clone):
    """A root to install, upgrade and break things in; see `chroot` for what a command in it can't reach."""

    def __init__(self, generator: Generator, above: Sequence[Path] = ()) -> None:
        super().__init__([*above, layer(generator), base() / "root"])
        self.generator = generator

    def pacman(self, *args: str | Path, check: bool = True, echo: bool = False, timeout: float = 900) -> Text:
        """pacman, asking nothing and in no colours; a Path is a package of the host and is brought in first."""
        words = [self.bring(arg) if isinstance(arg, Path) else arg for arg in args]
        argv = ["pacman", "--noconfirm", "--color=never", *words]
        return self.run(argv, check=check, echo=echo, timeout=timeout)

    def bring(self, package: Path) -> str:
        """Put a file of the host into pacman's cache of this root; the answer is its path inside."""
        shutil.copy(package, self.path / STOCK)
        return f"/{STOCK}/{package.name}"

    def run_at_boot(self, script: str, *, arm: bool = True) -> None:
        """Let a script run in every boot, once the machine has armed itself and looked at what the last one left.

        Without `arm` it does neither: that is the script's.
        """
        path = self.path / "usr/local/bin/at-boot"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
        (self.path / "etc/systemd/system/at-boot.service").write_text(AT_BOOT)
        self.run(["systemctl", "enable", "at-boot.service", *(["kdump.service"] if arm else [])])
        self.run(["systemctl", "mask", *IDLE])

    def versions(self) -> dict[str, str]:
        """What pacman says is installed."""
        return dict(line.split(" ", 1) for line in self.run(["pacman", "-Q"]).stdout.splitlines())


def default_generator() -> Generator:
    """mkinitcpio where there is one, else dracut."""
    return "mkinitcpio" if mkinitcpio_prefix() else "dracut"


@contextmanager
def open_root(*, generator: Generator = "mkinitcpio", above: Sequence[Path] = ()) -> Iterator[ArchRoot]:
    """A clone of the root whose images this generator builds, with layers `above` it; gone when the block ends."""
    if generator == "mkinitcpio" and mkinitcpio_prefix() is None:
        raise LabError(
            "no mkinitcpio on this machine: set KDUMP_TEST_MKINITCPIO to where one is installed, or use dracut"
        )
    with locked("root"):
        base()
        layer(generator)
    root = ArchRoot(generator, above)
    try:
        yield root
    finally:
        root.close()
