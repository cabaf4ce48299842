"""A starting worker gives what was written locally to Kafka, where all else is.

Between the opening of the directory and the first record that is ingested:

1. What the local log says last about each identity is collected.
2. The partitions of its systems are read from where the directory's shards end. An identity of which Kafka has a later
   write keeps that one.
3. The rest is published, acknowledged by all replicas.
4. The local log is removed.

Killed at any step, the next worker (or LocalStore) finds the log as it was and begins anew; what the first one
published is then, to step 2, a later write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import batched

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from akasha_stream.connections.kafka import client_options
from akasha_stream.errors import BrokerError
from akasha_stream.events.decode import Decoder
from akasha_stream.events.records import Record
from akasha_stream.hot.durable import passed
from akasha_stream.hot.hashes import strings
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.local.log import Identity, LocalLog, Written, as_events
from akasha_stream.partitioner import partition_of
from akasha_stream.publish import EventPublisher
from akasha_stream.publish.delivery import Delivery
from akasha_stream.settings import Settings

log = structlog.get_logger(__name__)

AT_ONCE = 2_048
POLL_MS = 500
FETCH_WAIT_MS = 50


async def hand_over(settings: Settings, store: ShardStore, partitions: int, now: Incarnation) -> dict[int, int]:
    """{partition: offset} of the last record that was published for the local log.

    `store` holds the directory's lock, and no shard is open yet. `partitions`, `now`: of the topic.
    Raises BrokerError, PublishError; ValidationError where the limits are narrower than when the log was written.
    """
    local = await asyncio.to_thread(LocalLog, settings)
    try:
        writes = await asyncio.to_thread(local.last_writes)
        if writes:
            log.info("handing the local log over to Kafka", identities=len(writes))
        later = await _later(settings, store, writes, partitions, now) if writes else set()
        mine = [(identity, written) for identity, written in writes.items() if identity not in later]
        tops = await _publish(settings, mine)
        passed("handed over")
    except BaseException:
        await asyncio.to_thread(local.close)
        raise
    await asyncio.to_thread(local.discard)
    if writes:
        log.info("local log handed over", published=len(mine), superseded=len(later))
    return tops


async def _publish(settings: Settings, writes: list[tuple[Identity, Written]]) -> dict[int, int]:
    tops: dict[int, int] = {}
    if not writes:
        return tops
    async with EventPublisher(settings) as publisher:
        for some in batched(writes, AT_ONCE, strict=False):
            deliveries: list[Delivery] = await publisher.publish_many(list(as_events(some)))
            for delivery in deliveries:
                tops[delivery.partition] = max(delivery.offset, tops.get(delivery.partition, -1))
    return tops


async def _later(
    settings: Settings, store: ShardStore, writes: Mapping[Identity, Written], partitions: int, now: Incarnation
) -> set[Identity]:
    """Identities that Kafka has a later write of. By the record's timestamp: the broker's clock, or its producer's."""
    topic = settings.topics.embeddings
    by_partition = {
        TopicPartition(topic, number): await asyncio.to_thread(_next_offset, store, number, now)
        for number in sorted({partition_of(system, partitions) for system, _ in writes})
    }
    decoder = Decoder(settings.limits, None)
    later: set[Identity] = set()
    consumer = AIOKafkaConsumer(
        **client_options(settings.broker, "-hand-over"),
        isolation_level="read_committed",
        # A log that no longer has this offset is read from its start.
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    try:
        await consumer.start()
        consumer.assign(list(by_partition))
        for partition, offset in by_partition.items():
            consumer.seek(partition, offset)
        while [each for each in by_partition if not await _at_end(consumer, each)]:
            for partition, found in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                records = [Record(partition.partition, r.offset, r.timestamp, r.key, r.value, r.headers) for r in found]
                later |= await asyncio.to_thread(_later_of, decoder, records, writes)
    except (KafkaError, OSError) as exc:
        raise BrokerError(f"{topic} can't be read to hand the local log over: {exc!r}") from exc
    finally:
        await consumer.stop()
    return later


def _next_offset(store: ShardStore, partition: int, now: Incarnation) -> int:
    """Where the directory's shard of a partition ends: what lies before it was there before the local log."""
    if not (store.folder / f"{partition:05d}").is_dir():
        return 0
    shard = store.open(partition, now)
    offset = 0 if shard.incarnation.differs_from(now) else shard.next_offset
    store.close(partition)
    return offset


async def _at_end(consumer: AIOKafkaConsumer, partition: TopicPartition) -> bool:
    # Not end_offsets(): that counts records of transactions that are still open, and is wrong on Tansu.
    end = consumer.last_stable_offset(partition)
    return end is not None and await consumer.position(partition) >= end


def _later_of(decoder: Decoder, records: list[Record], writes: Mapping[Identity, Written]) -> set[Identity]:
    batch = decoder.decode(records).batch
    found: set[Identity] = set()
    for system, event_id, at in zip(
        strings(batch.source_system), strings(batch.event_id), (batch.appended_at // 1000).tolist(), strict=True
    ):
        written = writes.get((system, event_id))
        if written is not None and at > written.at_ms:
            found.add((system, event_id))
    return found
