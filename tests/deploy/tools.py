"""Programs that check what a machine without a container engine can't run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.servers.availability import unavailable

ROOT = Path(__file__).parents[2]


def program(name: str, wheel: str) -> str:
    """From this environment's wheels, else from the PATH; what is missing skips the test."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        unavailable(f"{name} is not installed (wheel {wheel})")
    return found
