from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from akasha_stream.errors import BrokerError, PublisherClosed, ValidationError
from akasha_stream.publish import SyncPublisher, merge_tokens
from tests.publish.events import make_events, read_ids, settings_for

if TYPE_CHECKING:
    from akasha_stream.embedded import Broker


async def test_events_of_many_threads_arrive_once(tansu: Broker, tansu_topic: str) -> None:
    parts = [make_events(200, prefix=f"{n}-") for n in range(4)]

    def work() -> list[str]:
        settings = settings_for(tansu.bootstrap_servers, tansu_topic, linger_ms=2, max_in_flight_events=100)
        with SyncPublisher(settings) as publisher, ThreadPoolExecutor(4) as pool:
            return [merge_tokens(deliveries) for deliveries in pool.map(publisher.publish_many, parts)]

    with ThreadPoolExecutor(1) as pool:
        tokens = pool.submit(work).result(60)
    assert all(tokens)
    ids = await read_ids(tansu.bootstrap_servers, tansu_topic)
    assert sorted(ids) == sorted((event.source_system, event.event_id) for part in parts for event in part)


async def test_closing_flushes_and_ends_the_thread(tansu: Broker, tansu_topic: str) -> None:
    before = threading.active_count()
    publisher = SyncPublisher(settings_for(tansu.bootstrap_servers, tansu_topic, linger_ms=60_000))
    publisher.start()
    futures = [publisher.publish(event) for event in make_events(30)]
    publisher.flush()
    assert all(future.done() for future in futures)
    more = publisher.publish(make_events(1, prefix="more")[0])
    publisher.close()
    assert more.result(0).topic == tansu_topic
    assert threading.active_count() == before
    with pytest.raises(PublisherClosed):
        publisher.publish(make_events(1)[0])
    assert len(await read_ids(tansu.bootstrap_servers, tansu_topic)) == 31


def test_an_invalid_event_is_refused_at_once(tansu: Broker) -> None:
    publisher = SyncPublisher(settings_for("127.0.0.1:1", "topic"))
    with pytest.raises(BrokerError):
        publisher.start()
    with pytest.raises(PublisherClosed):
        publisher.publish(make_events(1)[0])


async def test_a_refused_event_names_itself(tansu: Broker, tansu_topic: str) -> None:
    with SyncPublisher(settings_for(tansu.bootstrap_servers, tansu_topic)) as publisher:
        with pytest.raises(ValidationError, match="system-0/e0"):
            publisher.publish(replace(make_events(1)[0], content="\0"))
        future = publisher.publish(make_events(1)[0])
        assert future.result(10).index == 0
