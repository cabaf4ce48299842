"""Offsets with gaps: what foreign producers' transactions leave in a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from akasha_stream.embedded import Broker
from akasha_stream.events.bundles import encode_bundle, headers
from akasha_stream.events.model import Event
from akasha_stream.publish.delivery import Delivery
from tests.worker.model import Maker
from tests.worker.stage import Stage

pytestmark = pytest.mark.kafka


@pytest.mark.slow
async def test_committed_transactions_are_stored_and_aborted_ones_are_not(kafka: Broker, tmp_path: Path) -> None:
    """Control records and aborted messages are gaps: ranges tile by next-offset, not by counting records."""
    stage = await Stage.make(kafka, tmp_path, partitions=1, hot__seal_rows=100)
    maker = Maker(10)
    aborted: list[Event] = []
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=stage.topic)
    await producer.start()
    try:
        async with stage.worker() as worker:
            for round_ in range(12):
                await producer.begin_transaction()
                events = maker.new(20)
                deliveries = [await send(producer, stage.topic, event) for event in events]
                if round_ % 3 == 1:
                    await producer.abort_transaction()
                    aborted += events
                    continue
                await producer.commit_transaction()
                stage.published(events, deliveries)
            await stage.until_searchable(worker)
            for event in aborted[::10]:
                assert await worker.event(event.source_system, event.event_id) is None
            # Killed here, it goes on after the gaps.
            worker.kill()
            found, offsets = await stage.stored(copied=True)
            assert found == stage.model.rows()
            assert offsets[0] <= await log_end(kafka, stage.topic)
            await producer.begin_transaction()
            await send(producer, stage.topic, maker.new(1)[0])
            await producer.abort_transaction()
            await stage.publish(maker.new(50))
            await worker.start()
            await stage.until_searchable(worker)
            await worker.stop()
    finally:
        await producer.stop()
    await stage.assert_stored()


async def test_an_open_transaction_is_not_stored_before_it_commits(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    event = Maker(11).new(1)[0]
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=stage.topic)
    await producer.start()
    try:
        async with stage.worker() as worker:
            await producer.begin_transaction()
            delivery = await send(producer, stage.topic, event)
            answer = await worker.search(vector=event.embedding.tolist(), after=delivery.token, after_timeout_s=1)
            assert [each["reason"] for each in answer["incomplete"]] == ["freshness_timeout"]
            assert answer["hits"] == []
            await producer.commit_transaction()
            stage.published([event], [delivery])
            await stage.until_searchable(worker)
            await worker.stop()
    finally:
        await producer.stop()
    await stage.assert_stored()


async def send(producer: AIOKafkaProducer, topic: str, event: Event) -> Delivery:
    sent = await producer.send_and_wait(
        topic,
        encode_bundle([event]),
        key=event.source_system.encode(),
        headers=headers("arrow", event.source_system, event.event_id),
    )
    return Delivery(topic, sent.partition, sent.offset, 0)


async def log_end(kafka: Broker, topic: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers)
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(topic, 0)])
        return int(next(iter(found.values())))
    finally:
        await consumer.stop()
