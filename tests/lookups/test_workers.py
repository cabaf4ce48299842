"""The worker registry on real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.errors import LookupUnavailable
from akasha_stream.lookups.tables import Keys
from akasha_stream.lookups.workers import Worker, WorkerRegistry
from tests.lookups.model import client_of, new_keys, until

pytestmark = pytest.mark.valkey
HEARTBEAT_S = 0.05


def worker(name: str) -> Worker:
    now = datetime.now(UTC)
    return Worker(name, "host", f"http://{name}:8470", 42, "0.1.0", started_at=now, heartbeat_at=now)


@asynccontextmanager
async def beating(client: Redis, keys: Keys, name: str, owned: list[int]) -> AsyncIterator[asyncio.Task[None]]:
    registry = WorkerRegistry(client, keys, HEARTBEAT_S, worker(name), lambda: owned)
    task = asyncio.create_task(registry.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def wait_for_ids(registry: WorkerRegistry, ids: list[str]) -> list[Worker]:
    async with asyncio.timeout(5):
        while True:
            found = await registry.list()
            if [each.id for each in found] == ids:
                return found
            await asyncio.sleep(0.01)


async def test_workers_are_listed_with_what_they_own(client: Redis) -> None:
    keys = new_keys()
    registry = WorkerRegistry(client, keys, HEARTBEAT_S)
    assert await registry.list() == []
    owned = [3, 1]
    async with beating(client, keys, "one", owned), beating(client, keys, "two", []):
        one, two = await wait_for_ids(registry, ["one", "two"])
        assert (one.partitions, two.partitions) == ((1, 3), ())
        assert (one.url, one.pid, one.version) == ("http://one:8470", 42, "0.1.0")
        assert one.heartbeat_at >= one.started_at
        owned.append(2)
        async with asyncio.timeout(5):
            while (await registry.list())[0].partitions != (1, 2, 3):
                await asyncio.sleep(0.01)
    assert await registry.list() == [], "both signed off"


async def test_a_worker_that_stops_beating_disappears(client: Redis) -> None:
    keys = new_keys()
    registry = WorkerRegistry(client, keys, HEARTBEAT_S, worker("gone"))
    await registry.beat()
    assert [each.id for each in await registry.list()] == ["gone"]
    await asyncio.sleep(HEARTBEAT_S * 2)
    assert [each.id for each in await registry.list()] == ["gone"]
    await wait_for_ids(registry, [])
    assert not await client.exists(keys.workers())


async def test_the_registry_survives_a_killed_redis(valkey_killable: ValkeyServer) -> None:
    client, keys = client_of(valkey_killable), new_keys()
    registry = WorkerRegistry(client, keys, HEARTBEAT_S)
    async with beating(client, keys, "one", [0]) as task:
        await wait_for_ids(registry, ["one"])
        valkey_killable.kill()
        with pytest.raises(LookupUnavailable):
            await registry.list()
        await asyncio.sleep(HEARTBEAT_S * 2)
        assert not task.done()
        valkey_killable.restart()
        await wait_for_ids(registry, ["one"])
        await until(lambda: not task.done())
        valkey_killable.kill()
    await client.aclose()


async def test_an_entry_of_another_version_is_left_out(client: Redis) -> None:
    keys = new_keys()
    await client.sadd(keys.workers(), "odd")
    await client.hset(keys.worker("odd"), "id", "odd")
    assert await WorkerRegistry(client, keys, HEARTBEAT_S).list() == []


async def test_listing_alone_never_beats(client: Redis) -> None:
    registry = WorkerRegistry(client, new_keys(), HEARTBEAT_S)
    await registry.run()
    await registry.beat()
    assert await registry.list() == []
