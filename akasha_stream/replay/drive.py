"""A replay seen from outside: the workers that own the partitions are asked, or a directory without one is opened.

Where a partition moves meanwhile, or its worker is started again, the new owner is asked for the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import pyarrow as pa

from akasha_stream.client import checked, key_header
from akasha_stream.connections.tls import trusting
from akasha_stream.errors import ServiceUnreachable, ShardLocked, ShardMoved, UsageError
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.operations.workers import find_workers
from akasha_stream.replay.compare import live_rows, parse_rows
from akasha_stream.replay.job import ReplayRequest, ReplayState, parse, parse_all
from akasha_stream.replay.queue import Replays
from akasha_stream.settings import Settings

POLL_S = 0.3
TIMEOUT_S = 30.0
LOST_S = 60.0
"""How long no worker may own a partition until that is an error: longer than a rebalance."""

type Watch = Callable[[Sequence[ReplayState]], None]


class Owners(Protocol):
    """Whoever has the shards."""

    async def start(self, request: ReplayRequest) -> ReplayState: ...

    async def states(self) -> list[ReplayState]: ...

    async def act(self, partition: int, what: str) -> ReplayState:
        """`what`: pause, resume or cancel."""
        ...

    async def rows(self, partition: int) -> pa.Table:
        """compare.ROWS_SCHEMA"""
        ...


class ThroughWorkers:
    """Their HTTP API. Every call raises ServiceUnreachable where no worker owns the partition just now."""

    def __init__(self, settings: Settings, urls: Sequence[str], client: httpx.AsyncClient) -> None:
        self._settings = settings
        self._urls = urls
        self._client = client
        self._owner: dict[int, str] = {}

    async def look(self) -> bool:
        """Find out who owns what; whether any worker answers."""
        found = await find_workers(self._settings, self._urls)
        answering = [each for each in found.workers if each.error is None]
        self._owner = {partition: each.url for each in answering for partition in each.owned}
        return bool(answering)

    async def start(self, request: ReplayRequest) -> ReplayState:
        body = request.model_dump_json()
        return parse(await self._ask(request.partition, "POST", "/v1/replays", content=body))

    async def states(self) -> list[ReplayState]:
        found: list[ReplayState] = []
        for url in dict.fromkeys(self._owner.values()):
            response = await self._send("GET", f"{url}/v1/replays")
            found += parse_all(response.content)
        return found

    async def act(self, partition: int, what: str) -> ReplayState:
        return parse(await self._ask(partition, "POST", f"/v1/replays/{partition}/{what}"))

    async def rows(self, partition: int) -> pa.Table:
        return parse_rows(await self._ask(partition, "GET", f"/v1/partitions/{partition}/rows"))

    async def _ask(self, partition: int, method: str, path: str, **options: Any) -> bytes:
        if partition not in self._owner and not (await self.look() and partition in self._owner):
            raise ServiceUnreachable(f"no worker that answers owns partition {partition}; see: akasha-stream status")
        try:
            response = await self._send(method, self._owner[partition] + path, **options)
        except (ServiceUnreachable, ShardMoved):
            await self.look()
            raise
        return response.content

    async def _send(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            return checked(await self._client.request(method, url, **options))
        except httpx.TransportError as error:
            raise ServiceUnreachable(f"{url}: {error!r}") from error


class ThroughDirectory:
    """The files, while no worker has them."""

    def __init__(self, settings: Settings, store: ShardStore, incarnation: Incarnation) -> None:
        self._store = store
        self._incarnation = incarnation
        self._replays = Replays(settings, store, quietly=self._quietly)

    async def _quietly(self, _partition: int, call: Callable[[], Awaitable[None]]) -> None:
        await call()

    async def start(self, request: ReplayRequest) -> ReplayState:
        if not self._store.shard_folder(request.partition).is_dir():
            raise UsageError(f"{self._store.folder} has nothing of partition {request.partition}")
        shard = await asyncio.to_thread(self._store.open, request.partition, self._incarnation)
        if shard.incarnation.differs_from(self._incarnation):
            raise UsageError(
                f"{self._store.folder} holds another log than the topic is now: it was deleted and created again"
            )
        return self._replays.start(request)

    async def states(self) -> list[ReplayState]:
        for partition in self._store.stored():
            await asyncio.to_thread(self._store.open, partition, self._incarnation)
        return self._replays.states()

    async def act(self, partition: int, what: str) -> ReplayState:
        raise UsageError(f"no worker runs, so nothing is under way; run the replay again to go on with it ({what})")

    async def rows(self, partition: int) -> pa.Table:
        shard = await asyncio.to_thread(self._store.open, partition, self._incarnation)
        return await asyncio.to_thread(live_rows, shard)

    async def close(self) -> None:
        await self._replays.stop()
        await asyncio.to_thread(self._store.close_all)


@asynccontextmanager
async def owners(settings: Settings, urls: Sequence[str], incarnation: Incarnation) -> AsyncIterator[Owners]:
    """The workers, where any answers; else the data directory of the settings.

    Raises ServiceUnreachable where there is neither, ShardLocked, SegmentCorrupt; UsageError where segments of the
    directory are in the object store only.
    """
    headers, trusted = key_header(settings.auth.key), trusting(settings.http.tls_ca, "http.tls_ca")
    async with httpx.AsyncClient(timeout=TIMEOUT_S, verify=trusted, headers=headers) as client:
        workers = ThroughWorkers(settings, urls, client)
        if await workers.look():
            yield workers
            return
    folder = settings.hot.data_dir / settings.topics.embeddings
    if not folder.is_dir():
        raise ServiceUnreachable(f"no worker answers, and {folder} does not exist; see: akasha-stream status")
    try:
        store = await asyncio.to_thread(ShardStore, settings, settings.topics.embeddings)
    except ShardLocked as error:
        raise ShardLocked(f"{error}; or name the worker with --url") from error
    directory = ThroughDirectory(settings, store, incarnation)
    try:
        yield directory
    finally:
        await directory.close()


async def drive(found: Owners, requests: Sequence[ReplayRequest], watch: Watch) -> list[ReplayState]:
    """Have them all done; the last state of each. Cancelled: those under way are paused.

    Raises UsageError where one can't be begun; ServiceUnreachable where nobody owns a partition for LOST_S.
    """
    states: dict[int, ReplayState] = {}
    left = {request.partition: request for request in requests}
    heard = time.monotonic()
    try:
        while left:
            try:
                for partition, request in left.items():
                    if partition not in states:
                        states[partition] = await found.start(request)
                now = {state.partition: state for state in await found.states()}
                heard = time.monotonic()
            except (ServiceUnreachable, ShardMoved):
                if time.monotonic() - heard > LOST_S:
                    raise
                now = {}
            for partition in list(left):
                state = now.get(partition)
                if state is None:
                    if now:  # its owner has changed: ask the new one
                        states.pop(partition, None)
                    continue
                states[partition] = state
                if state.final:
                    del left[partition]
            watch(list(states.values()))
            if left:
                await asyncio.sleep(POLL_S)
    except asyncio.CancelledError:
        for partition in left.keys() & states.keys():
            try:
                await found.act(partition, "pause")
            except (ServiceUnreachable, ShardMoved, UsageError):
                continue
        raise
    return [states[request.partition] for request in requests]
