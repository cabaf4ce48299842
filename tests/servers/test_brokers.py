"""What holds on the embedded broker and on Kafka alike."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker
    from tests.servers.topics import MakeTopic


async def send(bootstrap_servers: str, topic: str, values: list[bytes], partition: int = 0) -> list[int]:
    """Offsets of the values."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers)
    await producer.start()
    try:
        sent = [await producer.send(topic, value, key=b"k", partition=partition) for value in values]
        return [(await each).offset for each in sent]
    finally:
        await producer.stop()


async def read(bootstrap_servers: str, topic: str, count: int, group: str | None = None) -> list[bytes]:
    """The first `count` values."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # Tansu holds a join for about the session timeout: two joins take 23 s with aiokafka's 10 s.
        session_timeout_ms=1_000,
        heartbeat_interval_ms=300,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(60):
            values = [(await consumer.getone()).value for _ in range(count)]
        if group:
            await consumer.commit()
        return values
    finally:
        await consumer.stop()


async def test_what_is_produced_is_consumed(broker: Broker, topic: str) -> None:
    values = [b"value %d" % n for n in range(500)]
    assert await send(broker.bootstrap_servers, topic, values) == list(range(500))
    assert await read(broker.bootstrap_servers, topic, 500) == values


async def test_a_group_goes_on_where_it_committed(broker: Broker, topic: str) -> None:
    await send(broker.bootstrap_servers, topic, [b"1", b"2", b"3"])
    assert await read(broker.bootstrap_servers, topic, 2, group=f"group-{topic}") == [b"1", b"2"]
    assert await read(broker.bootstrap_servers, topic, 1, group=f"group-{topic}") == [b"3"]


async def test_a_record_carries_headers_key_and_timestamp(broker: Broker, topic: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=broker.bootstrap_servers, auto_offset_reset="earliest")
    await producer.start()
    await consumer.start()
    try:
        sent = await producer.send_and_wait(topic, b"v", key=b"k", headers=[("ce_id", b"\xff\x00"), ("ce_id", b"2")])
        async with asyncio.timeout(30):
            got = await consumer.getone()
        assert (got.key, got.value, list(got.headers)) == (b"k", b"v", [("ce_id", b"\xff\x00"), ("ce_id", b"2")])
        assert (got.partition, got.offset) == (sent.partition, sent.offset)
        assert got.timestamp > 1_600_000_000_000
    finally:
        await consumer.stop()
        await producer.stop()


async def test_a_topic_has_the_partitions_it_was_made_with(broker: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(broker, partitions=7)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
        assert sorted(part["partition"] for part in described["partitions"]) == list(range(7))
    finally:
        await admin.close()
