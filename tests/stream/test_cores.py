"""Ingest takes this worker's share of the machine's cores, as other workers on it come and go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event, Semaphore
from typing import Any, cast

import pytest

from akasha_stream.embedded import ValkeyServer
from akasha_stream.lookups.workers import Worker, WorkerRegistry
from akasha_stream.stream.cores import share_cores, share_of_cores
from akasha_stream.stream.ingest import Ingest
from tests.lookups.model import client_of, new_keys


@pytest.mark.parametrize(
    ("cores", "workers", "threads"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (2, 5, 1), (4, 2, 2), (16, 1, 2), (2, 0, 2)]
)
def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: cores)
    assert share_of_cores(workers) == threads


async def test_fewer_threads_finish_what_has_begun() -> None:
    nothing = cast("Any", None)
    taking = Ingest(nothing, nothing, nothing, on_applied=nothing, on_replaced=nothing, retry_max_s=1.0, threads=2)
    done: list[int] = []
    running, go_on = Semaphore(0), Event()

    def work() -> int:
        running.release()
        go_on.wait(10)
        done.append(1)
        return len(done)

    def run() -> asyncio.Future[int]:
        return asyncio.get_running_loop().run_in_executor(taking._threads, work)

    try:
        begun = [run(), run()]
        for _ in begun:
            assert await asyncio.to_thread(running.acquire, timeout=10)
        taking.use_threads(1)
        following = [run(), run()]
        assert await asyncio.to_thread(running.acquire, timeout=10)
        assert not running.acquire(timeout=0.1)  # the second waits for the first
        go_on.set()
        assert sorted(await asyncio.gather(*begun, *following)) == [1, 2, 3, 4]
    finally:
        taking.close()


async def test_workers_of_this_machine_count_and_others_do_not(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2)
    client, keys = client_of(valkey), new_keys()
    now, here = datetime.now(UTC), socket.gethostname()
    entry = Worker("one", here, "http://127.0.0.1:1", 1, "0", now, now)
    await WorkerRegistry(client, keys, 60.0, entry).beat()
    await WorkerRegistry(client, keys, 60.0, replace(entry, id="elsewhere", host=f"not-{here}")).beat()
    said: asyncio.Queue[int] = asyncio.Queue()
    following = asyncio.create_task(share_cores(WorkerRegistry(client, keys, 60.0), said.put_nowait, 0.01))
    try:
        assert await asyncio.wait_for(said.get(), 5) == 2
        neighbour = asyncio.create_task(WorkerRegistry(client, keys, 60.0, replace(entry, id="two")).run())
        await until(said, 1)
        neighbour.cancel()  # it signs off
        with contextlib.suppress(asyncio.CancelledError):
            await neighbour
        await until(said, 2)
    finally:
        following.cancel()
        await client.aclose()


async def until(said: asyncio.Queue[int], threads: int) -> None:
    async with asyncio.timeout(5):
        while await said.get() != threads:
            pass
