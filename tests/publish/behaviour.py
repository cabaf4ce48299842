"""What EventPublisher does on every broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from akasha_stream.errors import BrokerError, PublisherClosed, PublishError, ValidationError
from akasha_stream.events.model import Event
from akasha_stream.partitioner import partition_of
from akasha_stream.publish import EventPublisher, merge_tokens
from tests.publish.events import (
    by_system,
    decode,
    make_events,
    places,
    read_ids,
    read_records,
    settings_for,
    texts,
)
from tests.publish.test_tables import table_of
from tests.servers.topics import PARTITIONS

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker


class PublisherBehaviour:
    """Inherit, and give a fixture `broker`."""

    idempotent: bool

    async def test_each_event_is_in_the_log_where_its_delivery_says(self, broker: Broker, topic: str) -> None:
        events = make_events(500, systems=7)
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            assert publisher.idempotent is self.idempotent
            futures = [await publisher.publish(event) for event in events]
            deliveries = [await future for future in futures]
        batch = decode(records := await read_records(broker.bootstrap_servers, topic)).batch
        partitions = {record.offset: record.partition for record in records}
        found = {}
        for record in records:
            one = decode([record]).batch
            for index, name in enumerate(one.event_id.to_pylist()):
                found[name] = (record.partition, record.offset, index)
        assert len(batch) == 500
        assert partitions
        assert [found[event.event_id] for event in events] == places(deliveries)
        assert {d.topic for d in deliveries} == {topic}
        assert deliveries[0].token == f"{deliveries[0].partition}:{deliveries[0].offset}"

    async def test_records_carry_the_key_the_headers_and_the_time_of_publishing(
        self, broker: Broker, topic: str
    ) -> None:
        event = make_events(1)[0]
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            (delivery,) = await publisher.publish_many([event])
        (record,) = await read_records(broker.bootstrap_servers, topic)
        assert record.key == b"system-0"
        assert record.partition == delivery.partition == partition_of("system-0", PARTITIONS)
        headers = dict(record.headers)
        assert headers["content-type"] == b"application/vnd.apache.arrow.stream"
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_id"]
        # created_at is in January 2026; the record's own time is now, else retention would delete it at once.
        assert abs(record.timestamp_ms / 1000 - time.time()) < 60

    async def test_a_bundle_holds_one_system_and_keeps_its_limits(self, broker: Broker, topic: str) -> None:
        limits = {"bundle_events": 16, "bundle_bytes": 30_000}
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, **limits)) as publisher:
            await publisher.publish_many(make_events(300, systems=4, content="x" * 700))
        for record in await read_records(broker.bootstrap_servers, topic):
            batch = decode([record]).batch
            assert len(batch) <= 16
            assert len(record.value or b"") <= 30_000
            assert {(record.key or b"").decode()} == set(batch.source_system.to_pylist())

    async def test_json_bundles_hold_the_same(self, broker: Broker, topic: str) -> None:
        events = make_events(50)
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic), form="json") as publisher:
            await publisher.publish_many(events)
            await publisher.publish_table(table_of(events))
        records = await read_records(broker.bootstrap_servers, topic)
        assert {dict(record.headers)["content-type"] for record in records} == {b"application/json"}
        decoded = decode(records)
        assert not decoded.dead
        assert len(decoded.batch) == 100
        wanted = {event.event_id: event.embedding for event in events}
        for name, vector in zip(texts(decoded.batch.event_id), decoded.batch.embedding, strict=True):
            np.testing.assert_array_equal(vector, wanted[name])

    async def test_events_of_one_system_keep_their_order(self, broker: Broker, topic: str) -> None:
        events = make_events(2_000, systems=5)
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=1)) as publisher:
            for event in events[:700]:
                await publisher.publish(event)
            table = asyncio.ensure_future(publisher.publish_table(table_of(events[700:1400])))
            await asyncio.sleep(0)
            await publisher.publish_many(events[1400:])
            await table
        found = by_system(await read_ids(broker.bootstrap_servers, topic))
        assert found == by_system([(event.source_system, event.event_id) for event in events])

    async def test_a_lone_event_leaves_after_its_linger(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=50)) as publisher:
            await publisher.publish_many(make_events(1))
            future = await publisher.publish(make_events(1, prefix="second")[0])
            assert not future.done()
            async with asyncio.timeout(30):  # without a flush
                await future

    async def test_flush_does_not_wait_for_the_linger(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=60_000)) as publisher:
            future = await publisher.publish(make_events(1)[0])
            await publisher.flush()
            assert future.done()
            assert publisher.in_flight == 0

    async def test_publish_waits_while_too_many_events_are_unacknowledged(self, broker: Broker, topic: str) -> None:
        events = make_events(11, systems=1)
        settings = settings_for(broker.bootstrap_servers, topic, linger_ms=60_000, max_in_flight_events=10)
        async with EventPublisher(settings) as publisher:
            for event in events[:10]:
                await publisher.publish(event)
            eleventh = asyncio.create_task(publisher.publish(events[10]))
            await asyncio.sleep(0.05)
            assert not eleventh.done()
            assert publisher.in_flight == 10
            await publisher.flush()  # the acknowledgements let it in
            sent = await eleventh
            await publisher.flush()
            await sent
        assert len(await read_ids(broker.bootstrap_servers, topic)) == 11

    async def test_many_publish_at_once_under_back_pressure(self, broker: Broker, topic: str) -> None:
        settings = settings_for(broker.bootstrap_servers, topic, linger_ms=1, max_in_flight_events=50)
        async with EventPublisher(settings) as publisher:
            parts = [make_events(200, systems=3, prefix=f"{n}-") for n in range(5)]
            done = await asyncio.gather(*(publisher.publish_many(part) for part in parts))
        assert [len(part) for part in done] == [200] * 5
        ids = await read_ids(broker.bootstrap_servers, topic)
        assert sorted(ids) == sorted((event.source_system, event.event_id) for part in parts for event in part)

    async def test_an_invalid_event_is_refused_before_anything_is_sent(self, broker: Broker, topic: str) -> None:
        events = make_events(10)
        events[7] = replace(events[7], embedding=np.full(384, np.nan, np.float32))
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            with pytest.raises(ValidationError, match="system-1/e7") as caught:
                await publisher.publish_many(events)
            assert caught.value.reason == "vector_not_finite"
            with pytest.raises(ValidationError, match="e7"):
                await publisher.publish(events[7])
            with pytest.raises(ValidationError, match="row 7"):
                await publisher.publish_table(table_of(events))
        assert await read_ids(broker.bootstrap_servers, topic, empty=True) == []

    async def test_streams_of_events(self, broker: Broker, topic: str) -> None:
        events = make_events(100)

        def plain() -> Iterator[Event]:
            yield from events[:50]

        async def asynchronous() -> AsyncIterator[Event]:
            for event in events[50:]:
                await asyncio.sleep(0)
                yield event

        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            first = await publisher.publish_many(plain())
            second = await publisher.publish_many(asynchronous())
        assert len(first) == len(second) == 50
        assert len(await read_ids(broker.bootstrap_servers, topic)) == 100

    async def test_an_event_that_fits_no_record_fails_alone(self, broker: Broker, topic: str) -> None:
        """Metadata that JSON can't hold shows up when it is written; its neighbours are published."""
        events = make_events(9, systems=1)
        changed: dict[str, object] = {"n": 1}
        events[4] = replace(events[4], metadata=changed)  # type: ignore[arg-type]
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=50)) as publisher:
            futures = [await publisher.publish(event) for event in events]
            changed["n"] = object()
            results = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(result, PublishError) for result in results] == [n == 4 for n in range(9)]
        assert isinstance(results[4], PublishError)
        assert not results[4].retriable
        assert "system-0/e4" in str(results[4])
        assert len(await read_ids(broker.bootstrap_servers, topic)) == 8

    async def test_deletes_travel_too(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            await publisher.publish_many([*make_events(1), Event.delete("system-0", "e0")])
        batch = decode(await read_records(broker.bootstrap_servers, topic)).batch
        assert batch.delete.tolist() == [False, True]

    async def test_a_table_is_delivered_row_by_row(self, broker: Broker, topic: str) -> None:
        events = make_events(1_000, systems=9)
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            delivery = await publisher.publish_table(table_of(events))
        found = {}
        for record in await read_records(broker.bootstrap_servers, topic):
            for index, name in enumerate(decode([record]).batch.event_id.to_pylist()):
                found[name] = (record.partition, record.offset, index)
        told = zip(delivery.partition.tolist(), delivery.offset.tolist(), delivery.index.tolist(), strict=True)
        assert list(told) == [found[event.event_id] for event in events]
        tops = {p: max(o for q, o, _ in found.values() if q == p) for p, _, _ in found.values()}
        assert delivery.token == ",".join(f"{p}:{o}" for p, o in sorted(tops.items()))
        # 111 or 112 events a system: two bundles each, of even size.
        assert delivery.bundles == 18

    async def test_an_empty_table_and_no_events(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic)) as publisher:
            assert len(await publisher.publish_table(table_of(make_events(1)).slice(1))) == 0
            assert await publisher.publish_many([]) == []

    async def test_tokens_are_merged_to_the_highest_offset_of_each_partition(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, bundle_events=2)) as publisher:
            deliveries = await publisher.publish_many(make_events(40, systems=6))
        tops: dict[int, int] = {}
        for delivery in deliveries:
            tops[delivery.partition] = max(delivery.offset, tops.get(delivery.partition, 0))
        assert merge_tokens(deliveries) == ",".join(f"{p}:{tops[p]}" for p in sorted(tops))

    async def test_close_flushes_and_refuses_late_callers(self, broker: Broker, topic: str) -> None:
        publisher = EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=60_000))
        await publisher.start()
        futures = [await publisher.publish(event) for event in make_events(20)]
        await publisher.close()
        assert all(future.done() and future.exception() is None for future in futures)
        with pytest.raises(PublisherClosed):
            await publisher.publish(make_events(1)[0])
        with pytest.raises(PublisherClosed):
            await publisher.publish_many(make_events(1))
        await publisher.close()
        assert len(await read_ids(broker.bootstrap_servers, topic)) == 20

    async def test_a_cancelled_caller_takes_no_other_event_with_it(self, broker: Broker, topic: str) -> None:
        settings = settings_for(broker.bootstrap_servers, topic, linger_ms=200, max_in_flight_events=30)
        async with EventPublisher(settings) as publisher:
            events = make_events(60, systems=2)
            first = asyncio.create_task(publisher.publish_many(events[:40]))
            await asyncio.sleep(0.02)
            second = asyncio.create_task(publisher.publish_many(events[40:]))
            await asyncio.sleep(0.02)
            first.cancel()
            assert len(await second) == 20
            with pytest.raises(asyncio.CancelledError):
                await first
            futures = [await publisher.publish(event) for event in make_events(4, prefix="f")]
            futures[1].cancel()
            await asyncio.gather(*futures, return_exceptions=True)
        ids = {name for _, name in await read_ids(broker.bootstrap_servers, topic)}
        assert {event.event_id for event in events[40:]} <= ids
        assert {f"f{n}" for n in range(4)} <= ids

    async def test_a_topic_that_does_not_exist_is_named_and_not_created(self, broker: Broker) -> None:
        publisher = EventPublisher(settings_for(broker.bootstrap_servers, "no-such-topic"))
        for _ in range(2):
            with pytest.raises(BrokerError, match=r"no-such-topic.*topics apply"):
                await publisher.start()
        await publisher.close()

    async def test_abandoning_fails_what_is_not_acknowledged(self, broker: Broker, topic: str) -> None:
        async with EventPublisher(settings_for(broker.bootstrap_servers, topic, linger_ms=60_000)) as publisher:
            futures = [await publisher.publish(event) for event in make_events(5)]
            publisher.abandon()
            results = await asyncio.gather(*futures, return_exceptions=True)
            assert all(isinstance(result, PublishError) for result in results)
            with pytest.raises(PublisherClosed):
                await publisher.publish(make_events(1)[0])
