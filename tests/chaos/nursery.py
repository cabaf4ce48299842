"""Worker processes that start in half a second: forked from one that has imported everything.

    python -m tests.chaos.nursery     a line of JSON in for each worker; out: its pid, and when it ends, its code

With BROKEN=<name> the workers are broken on purpose (tests/chaos/broken.py).
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.chaos import control
from tests.worker.process import ROOT, WorkerApi

READY = "ready"
PR_SET_PDEATHSIG = 1
FATAL = "Fatal Python error"


class ForkedWorker(WorkerApi):
    """Alive until `ended`."""

    def __init__(self, pid: int, log: Path, folder: Path) -> None:
        self.pid = pid
        self.log = log
        self.folder = folder
        self.frozen = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        return not self.ended.done()

    @property
    def fired(self) -> bool:
        """Whether it came to the step that it was armed for."""
        return (self.folder / control.FIRED).exists()

    async def ready(self, timeout_s: float = 180.0) -> bool:
        """Wait until it says so; False where it ended instead, or does not come to it."""
        answer = self.folder / READY
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self.running and asyncio.get_running_loop().time() < deadline:
            if answer.exists() and (line := answer.read_text()).endswith("\n"):
                self.url = json.loads(line)["url"]
                return True
            await asyncio.sleep(0.05)
        return False

    async def kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self.ended

    async def stop(self, timeout_s: float = 90.0) -> int | None:
        """SIGTERM; its exit code, or None where it had to be killed."""
        self._signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(asyncio.shield(self.ended), timeout_s)
        except TimeoutError:
            await self.kill()
            return None

    def freeze(self) -> None:
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self._signal(signal.SIGCONT)

    def arm(self, how: str, step: str) -> None:
        """`how`: kill or freeze."""
        (self.folder / control.FIRED).unlink(missing_ok=True)
        (self.folder / control.ARMED).write_text(f"{how} {step}")

    def disarm(self) -> None:
        (self.folder / control.ARMED).unlink(missing_ok=True)

    def full(self, *, is_full: bool) -> None:
        """Every commit fails as on a full disk."""
        path = self.folder / control.FULL
        if is_full:
            path.touch()
        else:
            path.unlink(missing_ok=True)

    def clock(self, ahead_s: float) -> None:
        (self.folder / control.CLOCK).write_text(str(ahead_s))
        self._signal(signal.SIGUSR1)

    def logged(self, chars: int = 3_000) -> str:
        return self.log.read_text(errors="replace")[-chars:]

    @property
    def crashed(self) -> bool:
        """Whether it ended by a signal that nobody sends here: SIGSEGV, SIGABRT …"""
        sent = {-signal.SIGKILL, -signal.SIGTERM}  # the latter ends it before it is listened to
        return self.ended.done() and self.ended.result() < 0 and self.ended.result() not in sent

    def crash(self) -> str:
        """What Python's faulthandler wrote of all threads."""
        logged = self.log.read_text(errors="replace")
        return logged[max(0, logged.rfind(FATAL)) :][:20_000]

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)


class Nursery:
    """`async with Nursery() as nursery:`; its workers end with it."""

    def __init__(self, broken: str | None = None) -> None:
        self._broken = broken
        self._workers: dict[int, ForkedWorker] = {}
        self._starting: asyncio.Queue[int] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        variables = {**os.environ, "PYTHONFAULTHANDLER": "1", **({"BROKEN": self._broken} if self._broken else {})}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.chaos.nursery",
            cwd=ROOT,
            env=variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in list(self._workers.values()):
            await worker.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading

    async def launch(
        self, overrides: Mapping[str, object], log: Path, folder: Path, variables: Mapping[str, str]
    ) -> ForkedWorker:
        """Start a worker, without waiting until it is ready. `folder`: how it is controlled; a new one each time."""
        folder.mkdir(parents=True)
        whole = {"http.port": 0, "logging.format": "json", "embedder.kind": "none", **overrides}
        order = {"overrides": whole, "log": str(log), "folder": str(folder), "variables": dict(variables)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await self._starting.get()
        # Its end may have been told already.
        worker = self._workers.setdefault(pid, ForkedWorker(pid, log, folder))
        worker.log, worker.folder = log, folder
        if worker.ended.done():
            del self._workers[pid]
        return worker

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                self._starting.put_nowait(told["started"])
                continue
            pid = told["ended"]
            worker = self._workers.pop(pid, None)
            if worker is None:
                worker = self._workers[pid] = ForkedWorker(pid, Path(), Path())
            worker.ended.set_result(told["code"])


def serve() -> None:
    """The process that forks."""
    # Threads of the libraries' pools that an import leaves behind; none of them is in the middle of anything.
    warnings.simplefilter("ignore", DeprecationWarning)
    control.shift_clock()
    from tests.chaos import imported  # noqa: F401

    if broken := os.environ.get("BROKEN"):
        from tests.chaos.broken import BROKEN

        BROKEN[broken]()
    left = b""
    alive: set[int] = set()
    while True:
        readable, _, _ = select.select([0], [], [], 0.05)
        if readable:
            read = os.read(0, 65_536)
            if not read:
                break
            *lines, left = (left + read).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    _be_worker(json.loads(line))
                alive.add(pid)
                _tell(started=pid)
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                _tell(ended=pid, code=os.waitstatus_to_exitcode(status))
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _tell(**told: int) -> None:
    os.write(1, json.dumps(told).encode() + b"\n")


def _be_worker(order: dict[str, Any]) -> None:
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        folder = Path(order["folder"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["variables"])
        control.obey(folder)

        from akasha_stream.logs import configure
        from akasha_stream.settings import Settings
        from tests.worker import run_worker

        sys.argv = ["run_worker", json.dumps(order["overrides"])]
        sys.stdout = (folder / READY).open("w")
        configure(Settings.load(overrides=order["overrides"]).logging)
        asyncio.run(run_worker.main())
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
