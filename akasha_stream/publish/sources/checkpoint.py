"""How far a source was published, in a file that survives a crash."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def state_dir() -> Path:
    """XDG_STATE_HOME/akasha-stream/publish."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "akasha-stream" / "publish"


def state_path(source: str, topic: str, cluster: str, suffix: str = ".json") -> Path:
    """One file for a source on its way to one topic of one cluster."""
    key = "\0".join((source, topic, cluster))
    return state_dir() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}{suffix}"


class Checkpoint:
    """A small JSON document, replaced as a whole: a reader sees the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> dict[str, Any] | None:
        """None when there is none, or it is damaged: the source is then published from its start."""
        try:
            document = json.loads(self.path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def save(self, document: dict[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.new")
        with fresh.open("wb") as file:
            file.write(json.dumps(document, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
