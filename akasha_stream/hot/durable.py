"""Files that are either whole or not there."""

from __future__ import annotations

import os
import sys
import threading
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
    # With the process id: a builder that outlives its worker by an instant must not rename the next one's file. With
    # the thread's: two that write the same file at once each rename a whole one.
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    temporary.unlink(missing_ok=True)
    write(temporary)
    sync_file(temporary)
    temporary.replace(path)
    sync_folder(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Put a file there whole, or not at all. Raises OSError."""

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_whole(path, write)


def out_of_cache(path: Path) -> None:
    """Let go of the memory that the page cache has of a synced file; a reader takes it from the disk again.

    Does nothing where the file is not there, or the system has no such call. Raises OSError.
    """
    if sys.platform == "linux" and path.exists():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, if it is there."""
    if path.is_dir():
        for inner in path.iterdir():
            remove(inner)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


on_step: Callable[[str], None] | None = None
"""Called at the named steps of committing, sealing and rewriting. Tests kill the process there."""


def passed(step: str) -> None:
    if on_step is not None:
        on_step(step)
