"""How many threads ingest takes: the machine's cores, shared out among its workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.workers import WorkerRegistry

MOST_THREADS = 2
"""More only wait for each other: half of what a batch costs is Python's, which runs one thread at a time."""
CHECK_S = 2.0


def share_of_cores(workers: int) -> int:
    """Threads for each of so many workers on this machine.

    Two workers with two threads each, on two cores, store 5 % less than with one each: a thread that the kernel puts
    aside keeps the GIL from its neighbour (benchmarks.scale).
    """
    return max(1, min(MOST_THREADS, (os.process_cpu_count() or 1) // max(workers, 1)))


async def share_cores(registry: WorkerRegistry, use_threads: Callable[[int], None], check_s: float = CHECK_S) -> None:
    """Say this worker's share as other workers of this machine come and go, until cancelled."""
    host = socket.gethostname()
    while True:
        with contextlib.suppress(LookupUnavailable):  # the registry's own heartbeat tells of it
            use_threads(share_of_cores(sum(each.host == host for each in await registry.list())))
        await asyncio.sleep(check_s)
