"""Events for these tests, and what a topic holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer

from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import Event
from akasha_stream.events.records import Decoded, Record
from akasha_stream.publish.delivery import Delivery
from akasha_stream.settings import BrokerSettings, PublishSettings, Settings, TopicNames

DIMENSIONS = 384
START = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def vectors(count: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    found = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def make_events(count: int, systems: int = 3, prefix: str = "e", content: str = "text") -> list[Event]:
    rows = vectors(count)
    return [
        Event(
            event_id=f"{prefix}{n}",
            source_system=f"system-{n % systems}",
            content=f"{content} {n}",
            embedding=rows[n],
            metadata={"n": n},
            created_at=START + timedelta(seconds=n),
        )
        for n in range(count)
    ]


def settings_for(servers: str, topic: str, **publish: object) -> Settings:
    return Settings(
        broker=BrokerSettings(bootstrap_servers=servers),
        topics=TopicNames(embeddings=topic),
        publish=PublishSettings.model_validate(publish),
    )


async def read_records(servers: str, topic: str, *, empty: bool = False) -> list[Record]:
    """All records of a topic, read with bare aiokafka until nothing more comes.

    empty: the topic is expected to hold nothing; else the first record is waited for.
    """
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest", max_poll_records=None
    )
    await consumer.start()
    try:
        records: list[Record] = []
        quiet = 0
        give_up = time.monotonic() + 20
        while quiet < 4:
            found = await consumer.getmany(timeout_ms=100)
            if found:
                quiet = 0
            elif records or empty or time.monotonic() > give_up:
                quiet += 1
            for part in found.values():
                records += [Record(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in part]
        return sorted(records, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


async def wait_for_events(servers: str, topic: str, count: int) -> None:
    """Until the topic holds that many events; others may go on publishing."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            seen = 0
            while seen < count:
                r = await consumer.getone()
                seen += len(decode([Record(r.partition, r.offset, r.timestamp, r.key, r.value, r.headers)]).batch)
    finally:
        await consumer.stop()


def decode(records: Sequence[Record], settings: Settings | None = None) -> Decoded:
    return Decoder((settings or Settings()).limits, None).decode(records)


async def read_ids(servers: str, topic: str, *, empty: bool = False) -> list[tuple[str, str]]:
    """(system, id) of all events in a topic, in the order of the log within a partition."""
    decoded = decode(await read_records(servers, topic, empty=empty))
    assert not decoded.dead, decoded.dead[0]
    batch = decoded.batch
    return list(zip(texts(batch.source_system), texts(batch.event_id), strict=True))


def texts(column: pa.StringArray) -> list[str]:
    return [str(value) for value in column.to_pylist()]


def by_system(ids: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for system, name in ids:
        found.setdefault(system, []).append(name)
    return found


def places(deliveries: Sequence[Delivery]) -> list[tuple[int, int, int]]:
    return [(delivery.partition, delivery.offset, delivery.index) for delivery in deliveries]
