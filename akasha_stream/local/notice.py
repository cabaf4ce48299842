"""The file by which a running worker tells other processes on its machine where it answers.

It means something only while the directory's lock is held: a worker that was killed leaves it behind, and whoever
takes the lock next removes it.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from akasha_stream.hot.durable import write_bytes

FILE = "worker.json"


class WorkerNotice(BaseModel):
    model_config = ConfigDict(frozen=True)

    url: str
    """Of its HTTP API."""
    bootstrap_servers: str
    pid: int


def leave(folder: Path, *, url: str, bootstrap_servers: str) -> None:
    """Write it, whole or not at all. `folder`: the topic's, in the data directory."""
    notice = WorkerNotice(url=url, bootstrap_servers=bootstrap_servers, pid=os.getpid())
    write_bytes(folder / FILE, notice.model_dump_json().encode())


def read(folder: Path) -> WorkerNotice | None:
    """None where there is none, or what is there is none."""
    try:
        return WorkerNotice.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def remove(folder: Path) -> None:
    (folder / FILE).unlink(missing_ok=True)
