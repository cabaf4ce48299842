"""A worker in a process of its own, as in production: the demo's figures include no shared interpreter."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from akasha_stream.embedded.server import ServerProcess


class WorkerProcess(ServerProcess):
    """`akasha-stream worker`. Its shards and its log are in `data_dir`; it dies with the process that started it.

    `overrides`: settings by dotted key, over those of the file that `options` (--settings, --env) name.
    """

    name: ClassVar[str] = "worker"
    start_timeout_s: ClassVar[float] = 60.0
    stop_timeout_s: ClassVar[float] = 20.0

    def __init__(self, data_dir: Path, options: Sequence[str], overrides: Mapping[str, object]) -> None:
        super().__init__(data_dir)
        self._options = list(options)
        self._overrides = dict(overrides)

    @classmethod
    def start(cls, data_dir: Path, *, options: Sequence[str] = (), overrides: Mapping[str, object]) -> WorkerProcess:
        """Start and wait until its shards are open. Raises ServerStartError with the end of its log."""
        return cls(data_dir, options, overrides)._launch()

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "akasha_stream.cli", *self._options, "worker", "--port", str(self.port)]

    def environment(self) -> dict[str, str]:
        # Command lines are public on a machine, and redis.url may hold a password: the environment it is.
        ours = {f"AKASHA_{key.replace('.', '__')}".upper(): str(value) for key, value in self._overrides.items()}
        return {**os.environ, **ours}

    def answers(self) -> bool:
        import httpx

        try:
            return httpx.get(f"{self.url}/health/ready", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def complaints(self) -> list[str]:
        """Lines of its log so far: with logging.level warning, what it complained of."""
        try:
            return [line for line in self.log_file.read_text(errors="replace").splitlines() if '"level":' in line]
        except OSError:
            return []
