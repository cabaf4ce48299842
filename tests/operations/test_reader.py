"""Reading a topic as a bystander, on both brokers."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from akasha_stream.embedded import Broker
from akasha_stream.errors import BrokerError, UsageError
from akasha_stream.settings import BrokerSettings
from akasha_stream.topics.reader import committed_offsets, reading


def settings_of(broker: Broker) -> BrokerSettings:
    return BrokerSettings(bootstrap_servers=broker.bootstrap_servers)


async def write(broker: Broker, topic: str, count: int, partition: int = 0) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    await producer.start()
    sent = [await producer.send(topic, b"%d" % number, partition=partition) for number in range(count)]
    await asyncio.gather(*sent)
    await producer.stop()


async def test_between_ends_at_the_end_and_reads_each_record_once(broker: Broker, topic: str) -> None:
    await write(broker, topic, 50)
    await write(broker, topic, 3, partition=2)
    async with reading(settings_of(broker), topic) as reader:
        assert reader.partitions == [0, 1, 2, 3]
        firsts, ends = await reader.beginnings(), await reader.ends()
        assert ends == {0: 50, 1: 0, 2: 3, 3: 0}
        found = [record async for records in reader.between(firsts, ends) for record in records]
        assert sorted((each.partition, each.offset) for each in found) == [
            *((0, offset) for offset in range(50)),
            *((2, offset) for offset in range(3)),
        ]
        few = [record async for records in reader.between(firsts, ends, most_per_partition=2) for record in records]
        assert sorted((each.partition, each.offset) for each in few) == [(0, 0), (0, 1), (2, 0), (2, 1)]


async def test_one_record_by_its_place(broker: Broker, topic: str) -> None:
    await write(broker, topic, 3)
    async with reading(settings_of(broker), topic) as reader:
        found = await reader.one(0, 2)
        assert found is not None
        assert found.value == b"2"
        assert await reader.one(0, 3) is None
        assert await reader.one(9, 0) is None


async def test_by_time(broker: Broker, topic: str) -> None:
    await write(broker, topic, 2)
    time.sleep(0.02)
    between_ms = int(time.time() * 1000)
    time.sleep(0.02)
    await write(broker, topic, 2)
    async with reading(settings_of(broker), topic) as reader:
        assert (await reader.at_time(between_ms))[0] == 2
        assert (await reader.at_time(0))[0] == 0
        assert await reader.at_time(between_ms + 3_600_000) == await reader.ends()


async def test_what_a_group_has_committed_is_told_without_joining_it(broker: Broker, topic: str) -> None:
    await write(broker, topic, 5)
    group = f"group-of-{topic}"
    assert await committed_offsets(settings_of(broker), group, topic) == {}
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    await consumer.commit({TopicPartition(topic, 0): 4})
    await consumer.stop()
    assert await committed_offsets(settings_of(broker), group, topic) == {0: 4}


@pytest.mark.kafka
async def test_the_end_is_reached_over_the_markers_of_transactions(kafka: Broker, kafka_topic: str) -> None:
    for committed in (True, False):
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=f"reader-{kafka_topic}")
        await producer.start()
        await producer.begin_transaction()
        await (await producer.send(kafka_topic, b"committed" if committed else b"aborted", partition=0))
        await (producer.commit_transaction() if committed else producer.abort_transaction())
        await producer.stop()
    async with reading(settings_of(kafka), kafka_topic) as reader:
        ends = await reader.ends()
        assert ends[0] == 4
        starts = await reader.beginnings()
        found = [record.value async for records in reader.between(starts, ends) for record in records]
        assert found == [b"committed"]


async def test_a_missing_topic_and_a_missing_broker_are_told(broker: Broker) -> None:
    with pytest.raises(UsageError, match=r"no topic nowhere .* topics apply"):
        async with reading(settings_of(broker), "nowhere"):
            pass
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: can't be reached"):
        async with reading(BrokerSettings(bootstrap_servers="127.0.0.1:1"), "nowhere"):
            pass
