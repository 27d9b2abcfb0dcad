"""The fake machine, once for each shell that the capture scripts must run under."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shell.machine import RELEASE, SHELLS, UUID, Machine, vmcore_bytes


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine whose kernel has crashed and whose target is there."""
    need(SHELLS[request.param][0])
    root = Path(tempfile.mkdtemp(prefix="kdump-shell-"))  # not tmp_path: nobody must get there
    root.chmod(0o755)
    fake = Machine(root, request.param)
    fake.write("proc/vmcore", vmcore_bytes())
    fake.write("proc/uptime", "100.00 90.00\n")
    fake.write("proc/meminfo", "MemTotal:      98304 kB\nMemFree:       30000 kB\nMemAvailable:  25000 kB\n")
    fake.write("proc/cmdline", "root=UUID=abc irqpoll nr_cpus=1 reset_devices panic=10\n")
    fake.write("proc/sys/kernel/osrelease", f"{RELEASE}\n")
    fake.write("proc/sysrq-trigger", "")
    fake.write(f"dev/disk/by-uuid/{UUID}", "")
    fake.write("dev/console", "")
    yield fake
    shutil.rmtree(root)


def need(tool: str) -> None:
    """Skip where a tool is missing, fail in CI: there it must be installed."""
    if shutil.which(tool) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{tool} is missing")
        pytest.skip(f"{tool} is missing")
