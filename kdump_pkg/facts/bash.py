"""What bash makes of files that are meant for it: a clean one, without start-up files and without our environment."""

from __future__ import annotations

from collections.abc import Sequence

from kdump_pkg.context import Context
from kdump_pkg.run import Result


def run(ctx: Context, script: str, files: Sequence[str]) -> Result:
    """SCRIPT with FILES as its arguments, in the root. Raises CommandError with bash's own words (file and line)."""
    return ctx.runner(
        ["/bin/bash", "--norc", "--noprofile", "-c", script, "kdump-pkg", *files],
        root=ctx.root, timeout=10, env={"PATH": "/usr/bin:/usr/sbin:/bin:/sbin"},
    )  # fmt: skip
