"""What EventPublisher does on Kafka when things break."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from akasha_stream.embedded import KafkaServer
from akasha_stream.errors import PublishError
from akasha_stream.publish import EventPublisher
from tests.publish.events import by_system, make_events, read_ids, read_records, settings_for
from tests.publish.test_tables import table_of

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker
    from akasha_stream.events.model import Event
    from akasha_stream.publish.delivery import Delivery
    from tests.servers.topics import MakeTopic

pytestmark = pytest.mark.kafka


@pytest.mark.slow
async def test_kafka_killed_and_restarted_while_publishing(kafka_restartable: Broker, make_topic: MakeTopic) -> None:
    """Every event is acknowledged, is in the log exactly once, and in the order of its system."""
    topic = await make_topic(kafka_restartable)
    events = make_events(40_000, systems=20)
    settings = settings_for(kafka_restartable.bootstrap_servers, topic, max_in_flight_events=4_000)
    async with EventPublisher(settings) as publisher:
        publishing = asyncio.create_task(publisher.publish_many(iter(events)))
        for _ in range(2):
            before = publisher.bundles
            while publisher.bundles < before + 150:
                await asyncio.sleep(0.005)
            assert publisher.in_flight > 0
            await asyncio.to_thread(kafka_restartable.kill)
            await asyncio.sleep(0.5)
            assert not publishing.done()
            await asyncio.to_thread(kafka_restartable.restart)
        deliveries = await publishing
    assert len(deliveries) == len(events)
    ids = await read_ids(kafka_restartable.bootstrap_servers, topic)
    assert max(Counter(ids).values()) == 1
    assert by_system(ids) == by_system([(event.source_system, event.event_id) for event in events])


async def test_a_bundle_that_the_topic_does_not_take_is_split(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(kafka, config={"max.message.bytes": "20000"})
    events = make_events(400, systems=3, content="x" * 500)
    async with EventPublisher(settings_for(kafka.bootstrap_servers, topic)) as publisher:
        first = await publisher.publish_many(events)
        second = await publisher.publish_table(table_of(make_events(300, systems=3, prefix="t")))
    assert len(first) == 400
    assert len(second) == 300
    ids = await read_ids(kafka.bootstrap_servers, topic)
    assert max(Counter(ids).values()) == 1
    wanted = [*events, *make_events(300, systems=3, prefix="t")]
    assert by_system(ids) == by_system([(event.source_system, event.event_id) for event in wanted])
    assert all(len(r.value or b"") < 20_000 for r in await read_records(kafka.bootstrap_servers, topic))


async def test_one_event_larger_than_the_topic_takes_fails_alone(kafka: Broker, make_topic: MakeTopic) -> None:
    topic = await make_topic(kafka, config={"max.message.bytes": "20000"})
    events = make_events(9, systems=1)
    events[4] = make_events(5, systems=1, content="x" * 30_000)[4]
    async with EventPublisher(settings_for(kafka.bootstrap_servers, topic)) as publisher:
        futures = [await publisher.publish(event) for event in events]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(result, PublishError) for result in results] == [n == 4 for n in range(9)]
        assert "max.message.bytes" in str(results[4])
        assert isinstance(results[4], PublishError)
        assert not results[4].retriable
        # The partition goes on after it, although the failed batch used up sequence numbers.
        await publisher.publish_many(make_events(5, systems=1, prefix="after"))
    names = [name for _, name in await read_ids(kafka.bootstrap_servers, topic)]
    assert names == [f"e{n}" for n in range(9) if n != 4] + [f"after{n}" for n in range(5)]


async def test_a_topic_that_goes_away_fails_its_events_in_the_delivery_time(
    kafka: Broker, make_topic: MakeTopic
) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    topic = await make_topic(kafka)
    settings = settings_for(kafka.bootstrap_servers, topic, delivery_timeout_s=2)
    async with EventPublisher(settings) as publisher:
        await publisher.publish_many(make_events(3, systems=1))
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        await admin.delete_topics([topic])
        await admin.close()
        start = time.monotonic()
        with pytest.raises(PublishError) as caught:
            await publisher.publish_many(make_events(3, systems=1))
        assert time.monotonic() - start < 12
        assert caught.value.retriable


@pytest.mark.slow
async def test_a_broker_that_stays_away_fails_every_event_and_close_returns(
    kafka_restartable: Broker, make_topic: MakeTopic
) -> None:
    topic = await make_topic(kafka_restartable)
    settings = settings_for(kafka_restartable.bootstrap_servers, topic, delivery_timeout_s=3)
    publisher = EventPublisher(settings)
    await publisher.start()
    await publisher.publish_many(make_events(8, systems=8))
    await asyncio.to_thread(kafka_restartable.kill)
    futures = [await publisher.publish(event) for event in make_events(200, systems=8)]
    start = time.monotonic()
    await publisher.close()
    results: list[Delivery | BaseException] = await asyncio.gather(*futures, return_exceptions=True)
    assert time.monotonic() - start < 40
    assert all(isinstance(result, PublishError) and result.retriable for result in results)


async def test_a_stalled_broker_is_waited_for(kafka_restartable: Broker, make_topic: MakeTopic) -> None:
    """SIGSTOP: connections stay open, and nothing answers."""
    topic = await make_topic(kafka_restartable)
    events: list[Event] = make_events(200, systems=4)
    async with EventPublisher(settings_for(kafka_restartable.bootstrap_servers, topic)) as publisher:
        await publisher.publish_many(events[:20])
        assert isinstance(kafka_restartable, KafkaServer), "a container can't be paused this way"
        kafka_restartable.pause()
        try:
            publishing = asyncio.create_task(publisher.publish_many(events[20:]))
            await asyncio.sleep(1)
            assert not publishing.done()
        finally:
            kafka_restartable.resume()
        assert len(await publishing) == 180
    ids = await read_ids(kafka_restartable.bootstrap_servers, topic)
    assert by_system(ids) == by_system([(event.source_system, event.event_id) for event in events])
