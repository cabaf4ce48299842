"""A worker in a process of its own: started, asked over HTTP, stopped in order or killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil

ROOT = Path(__file__).parents[2]


class WorkerApi:
    """What a worker at `url` answers."""

    url = ""

    async def get(self, path: str) -> httpx.Response:
        # verify=False: reading the system's certificates takes longer than most of these requests.
        async with httpx.AsyncClient(base_url=self.url, timeout=20, verify=False) as client:
            return await client.get(path)

    async def health(self) -> dict[str, Any]:
        """component → {"ok": …, "detail": …, "required": …}"""
        components: dict[str, Any] = (await self.get("/health/ready")).json()["components"]
        return components

    async def event(self, system: str, event_id: str) -> dict[str, Any] | None:
        response = await self.get(f"/v1/events/{system}/{event_id}")
        if response.status_code == 404:
            return None
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer

    async def search(self, **request: Any) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url, timeout=60, verify=False) as client:
            response = await client.post("/v1/search", json=request)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer


class WorkerProcess(WorkerApi):
    """`async with WorkerProcess(overrides, log) as worker:`; what still runs at the end is killed."""

    def __init__(self, overrides: Mapping[str, object], log: Path, variables: Mapping[str, str] | None = None) -> None:
        """`variables`: of its environment, besides ours."""
        self._variables = dict(variables or {})
        self.overrides = {"http.port": 0, "logging.format": "json", "embedder.kind": "none", **overrides}
        self.log = log
        self.ready_s = 0.0
        self._process: subprocess.Popen[str] | None = None

    def launch(self) -> None:
        """Start it, without waiting until it is ready."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.worker.run_worker", json.dumps(self.overrides)],
                cwd=ROOT,
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **self._variables},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    async def ready(self, timeout_s: float = 60.0) -> None:
        """Wait for its ready line."""
        process = self._running()
        assert process.stdout is not None
        # The thread that reads can't be cancelled: the end of the process is what ends it.
        late = asyncio.get_running_loop().call_later(timeout_s, process.kill)
        line = await asyncio.to_thread(process.stdout.readline)
        late.cancel()
        if not line:
            self.kill()
        assert line, f"the worker ended before it was ready:\n{self.logged()[-4000:]}"
        answer = json.loads(line)
        self.url, self.ready_s = answer["url"], answer["ready_s"]

    async def start(self) -> Self:
        self.launch()
        try:
            await self.ready()
        except BaseException:  # there is no __aexit__ of what has not been entered
            if self.running:
                self.kill()
            raise
        return self

    def kill(self) -> None:
        process = self._running()
        process.kill()
        process.wait(10)
        self._end()

    def memory_bytes(self) -> int:
        """Resident, mapped files left out."""
        found = psutil.Process(self._running().pid).memory_info()
        return int(found.rss - found.shared)

    def pause(self) -> None:
        os.kill(self._running().pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._running().pid, signal.SIGCONT)

    async def stop(self, timeout_s: float = 15.0) -> float:
        """SIGTERM; the seconds until it was gone. Fails where that takes longer, or it ends with an error."""
        process = self._running()
        started = time.monotonic()
        process.terminate()
        code = await asyncio.to_thread(process.wait, timeout_s)
        assert code == 0, f"exit code {code}:\n{self.logged()[-4000:]}"
        self._end()
        return time.monotonic() - started

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def logged(self) -> str:
        return self.log.read_text()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            self.kill()

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def _end(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None
