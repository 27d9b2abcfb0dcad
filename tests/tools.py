"""Programs that some machines have and others don't: a test that needs a missing one is skipped and says which."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


def tool(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository; the calling test carries the marker `spawns`."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd=REPO)
