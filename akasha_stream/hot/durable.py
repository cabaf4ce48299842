"""Files that are either whole or not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make renames and creations in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it and rename it: readers see all of it or nothing."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    write(temporary)
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


on_step: Callable[[str], None] | None = None
"""Called at the named steps of committing, sealing and rewriting. Tests kill the process there."""


def passed(step: str) -> None:
    if on_step is not None:
        on_step(step)
