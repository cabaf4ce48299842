"""A worker from its start to its end, for the commands `worker` and `up`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from akasha_stream.errors import BrokerError

if TYPE_CHECKING:
    from akasha_stream.cli.context import Output
    from akasha_stream.settings import Settings
    from akasha_stream.storage.settings import StorageSettings
    from akasha_stream.worker import Worker

log = structlog.get_logger(__name__)

PATIENCE_S = 30.0
"""How long partitions are waited for before each warning."""


async def serve_worker(
    settings: Settings, on_ready: Callable[[Worker], None], storage: StorageSettings | None = None
) -> None:
    """Run a worker until this task is cancelled; `on_ready` is called once its shards are open. `storage`: see Worker.

    Raises what the worker failed with: BrokerError (Kafka away at the start), UsageError (no such topic),
    ServerStartError (the HTTP port is taken), ShardLocked, …
    """
    from akasha_stream.worker import Worker

    async with Worker(settings, storage=storage) as worker:
        ready = asyncio.create_task(_until_ready(worker))
        try:
            await asyncio.wait([ready, worker.failed], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                on_ready(worker)
            # Shielded: stopping must not cancel the future that the worker's parts report to.
            await asyncio.shield(worker.failed)
        finally:
            ready.cancel()


async def _until_ready(worker: Worker) -> None:
    """A worker may wait long for partitions: its broker restarts, or a killed one's session has to end."""
    while True:
        try:
            await worker.ready(PATIENCE_S)
        except BrokerError as error:
            log.warning("still waiting for partitions", reason=str(error))
        else:
            return


def announce(out: Output, worker: Worker) -> None:
    """The one line (or JSON object) that scripts wait for."""
    partitions = worker.store.owned()
    out.line(f"ready: {worker.url}, {_named(partitions)} of {worker.settings.topics.embeddings}")
    if out.json:
        out.result({"event": "ready", "url": worker.url, "pid": os.getpid(), "partitions": partitions})
    else:
        out.console.file.flush()


def _named(partitions: list[int]) -> str:
    match len(partitions):
        case 0:
            return "no partition (other workers have them all)"
        case 1:
            return f"partition {partitions[0]}"
        case _:
            return f"partitions {', '.join(map(str, partitions))}"
