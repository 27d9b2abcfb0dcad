"""Entry point: picks the hook's fast path before anything heavy is imported."""

from __future__ import annotations

import os
import sys


def run() -> int:
    """Console entry; the process's own arguments."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before we were started
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - pathlib costs 10 ms
        else:
            stream.reconfigure(errors="backslashreplace")  # an old locale can't hold every name there is
    if sys.argv[1:2] == ["hook"]:
        from kdump_pkg.hook import main as hook_main

        return hook_main(sys.argv[2:])
    if sys.argv[1:2] == ["vmcore"]:  # started by us, for what a dump may do to the process that reads it
        from kdump_pkg.vmcore import main as vmcore_main

        return vmcore_main(sys.argv[2:])
    from kdump_pkg.cli import main

    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
