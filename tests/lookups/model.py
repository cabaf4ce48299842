"""A shard as a plain model: what the tables must equal, and the source that repairs read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

from pydantic import SecretStr
from redis.asyncio import Redis

from akasha_stream.embedded import ValkeyServer
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.tables import Keys, Watermark
from akasha_stream.lookups.updates import Located, LookupUpdate
from akasha_stream.lookups.writer import LookupWriter
from akasha_stream.settings import RedisSettings

BATCH = 7


@dataclass
class ModelShard:
    table: str
    position: int = 0
    live: dict[tuple[str, str], int] = field(default_factory=dict)
    deleted: dict[tuple[str, str], int] = field(default_factory=dict)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    forgets_deletes: bool = False

    @property
    def watermark(self) -> Watermark:
        return Watermark(self.table, self.position)


class Model:
    """Shards with a table id each; a RepairSource."""

    def __init__(self, partitions: int = 2) -> None:
        self.shards = {partition: ModelShard(table=f"store-{partition}") for partition in range(partitions)}
        self.repairs_read = 0
        self.on_read: Callable[[], None] = lambda: None

    def commit(
        self,
        partition: int,
        upserts: Mapping[str, list[str]] | None = None,
        deletes: Mapping[str, list[str]] | None = None,
    ) -> LookupUpdate:
        """Apply a batch to the model; returns what the shard would offer."""
        shard = self.shards[partition]
        previous = shard.watermark
        located: dict[str, Located] = {}
        changed: set[str] = set()
        for system, event_ids in (upserts or {}).items():
            positions = []
            for event_id in event_ids:
                positions.append(shard.position)
                shard.live[system, event_id] = shard.position
                shard.deleted.pop((system, event_id), None)
                shard.position += 1
            located[system] = Located(event_ids, positions)
            self._count(shard, system, "stored", len(event_ids))
            changed.add(system)
        for system, event_ids in (deletes or {}).items():
            for event_id in event_ids:
                if shard.live.pop((system, event_id), None) is not None:
                    shard.deleted[system, event_id] = shard.position
                shard.position += 1
            self._count(shard, system, "deleted", len(event_ids))
            changed.add(system)
        return LookupUpdate(
            partition=partition,
            previous=previous,
            watermark=shard.watermark,
            upserts=located,
            deletes=deletes or {},
            counters={system: dict(shard.counters[system]) for system in changed},
        )

    def forget(self, partition: int, system: str) -> LookupUpdate:
        """A batch that has nothing but the control message of a system."""
        shard = self.shards[partition]
        previous = shard.watermark
        shard.live = {key: at for key, at in shard.live.items() if key[0] != system}
        shard.counters.pop(system, None)
        shard.position += 1
        shard.forgets_deletes = True  # a table that is behind this must be built anew
        return LookupUpdate(partition, previous, shard.watermark, forgotten=[system])

    @staticmethod
    def _count(shard: ModelShard, system: str, name: str, n: int) -> None:
        values = shard.counters.setdefault(system, {})
        values[name] = values.get(name, 0) + n
        values["last_seen"] = shard.position

    def identities_since(self, partition: int, position: int) -> Iterator[list[tuple[str, str, int]]]:
        rows = [(*key, at) for key, at in list(self.shards[partition].live.items()) if at >= position]
        for first in range(0, len(rows), BATCH):
            self.repairs_read += 1
            self.on_read()
            yield rows[first : first + BATCH]

    def deleted_since(self, partition: int, position: int) -> Iterator[list[tuple[str, str]]] | None:
        shard = self.shards[partition]
        if shard.forgets_deletes:
            return None
        return iter([[key for key, at in list(shard.deleted.items()) if at >= position]])

    def counters(self, partition: int) -> Mapping[str, Mapping[str, int]]:
        return self.shards[partition].counters


def new_keys() -> Keys:
    """Tables that no other test has."""
    return Keys(f"test-{uuid4().hex[:12]}", "events")


def client_of(server: ValkeyServer, timeout_s: float = 0.5) -> Redis:
    return connect(RedisSettings(url=SecretStr(server.url), timeout_s=timeout_s))


async def hash_of(client: Redis, name: str) -> dict[bytes, bytes]:
    async with client.pipeline(transaction=False) as pipeline:
        pipeline.hgetall(name)
        found: list[dict[bytes, bytes]] = await pipeline.execute()
    return found[0]


async def table_of(client: Redis, keys: Keys, partition: int) -> ModelShard | None:
    """What Redis holds of a shard, as the model writes it; None where it is not complete."""
    watermark = Watermark.parse(await client.get(keys.upto(partition)))
    if watermark is None:
        return None
    shard = ModelShard(table=watermark.table, position=watermark.position)
    async for key in client.scan_iter(match=keys.shard_pattern(partition), count=1_000):
        name = key.decode()
        for kind, start in (("ids", keys.ids(partition, "")), ("counters", keys.counters(partition, ""))):
            if name.startswith(start):
                values = {raw.decode(): int(value) for raw, value in (await hash_of(client, name)).items()}
                if kind == "ids":
                    shard.live |= {(name.removeprefix(start), event_id): at for event_id, at in values.items()}
                else:
                    shard.counters[name.removeprefix(start)] = values
    return shard


async def assert_equal(client: Redis, keys: Keys, model: Model) -> None:
    for partition, shard in model.shards.items():
        table = await table_of(client, keys, partition)
        assert table is not None, f"partition {partition} is not complete"
        assert table.watermark == shard.watermark
        assert table.live == shard.live
        assert table.counters == shard.counters
        systems = await client.smembers(keys.systems(partition))
        assert systems == {system.encode() for system in shard.counters}


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    client: Redis, keys: Keys, model: Model, *, queue_events: int = 10_000, check_interval_s: float = 0.05
) -> AsyncIterator[LookupWriter]:
    """A writer with all shards of the model attached, as a worker runs it."""
    writer = LookupWriter(client, keys, model, queue_events=queue_events, check_interval_s=check_interval_s)
    for partition, shard in model.shards.items():
        writer.attach(partition, shard.watermark)
    task = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def settled(writer: LookupWriter, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        await writer.settled()
