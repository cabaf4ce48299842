"""What the demo does with a running worker, step by step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from akasha_stream.client import AkashaClient
from akasha_stream.demo.figures import Figures, Found
from akasha_stream.demo.sample import events, sample
from akasha_stream.errors import AkashaError, EmbedderMissing
from akasha_stream.events.model import Event
from akasha_stream.search.query import SearchResponse

if TYPE_CHECKING:
    from akasha_stream.publish.publisher import EventPublisher
    from akasha_stream.settings import Settings

SENT_AGAIN = 40
"""Events that are published a second time, as a producer's retry does."""
SAME_TEXT = 20
"""Events that carry a text which their system has published already, under another id."""
MALFORMED = b'{"event_id": "demo-broken", "source_system": "session-buddy-000", "content": "cut off he'
PACED = 400
PACED_PER_S = 200
SAMPLED_EVERY = 4
SEARCHES = 200
WAIT_S = 20.0

QUESTIONS = ("a chess engine", "encrypt a hard disk", "medical pictures")
PYTHON_ONLY = "parse a file format"


@dataclass(slots=True)
class Step:
    name: str
    total: int


type Report = Callable[[Step, int], None]


async def run(settings: Settings, url: str, *, count: int | None, report: Report) -> Figures:
    """Publish, wait, search, count. The worker at `url` must be ready and its topic empty.

    `report(step, done)` is called as it goes. Raises BrokerError, PublishError, ServiceUnreachable, SearchError.
    """
    from akasha_stream.publish.publisher import EventPublisher

    table = sample(count)
    paced = min(PACED, len(table) // 2)
    figures = Figures(burst=len(table) - paced)
    async with EventPublisher(settings) as publisher, AkashaClient(url, key=settings.auth.key) as client:
        step = Step("publish at full speed", len(table) - paced)
        report(step, 0)
        began = time.perf_counter()
        delivery = await publisher.publish_table(table.slice(0, len(table) - paced))
        report(step, len(delivery))
        await _searchable(client, table, delivery.token)
        figures.events_per_s = len(delivery) / (time.perf_counter() - began)
        figures.published += len(delivery)

        await _paced(publisher, client, events(table.slice(len(table) - paced)), figures, report)
        await _trouble(settings, publisher, client, table, figures)
        await _search_at_length(client, table, figures, report)
        await _ask(client, table, figures, report)
        await _count(settings, client, table, figures, report)
    return figures


async def _searchable(client: AkashaClient, table: Any, token: str) -> None:
    """Wait until all records up to the token can be found. Raises AkashaError after 20 s."""
    vector = table["embedding"][0].as_py()
    found = await client.search(vector=vector, k=1, after=token, after_timeout_s=WAIT_S, fields=["event_id"])
    if not found.complete:
        raise AkashaError(f"not searchable within {WAIT_S:g} s: {found.incomplete[0].detail}")


async def _paced(
    publisher: EventPublisher, client: AkashaClient, rest: Sequence[Event], figures: Figures, report: Report
) -> None:
    """Publish one event at a time at an even pace, and follow every fourth until a search has it."""
    step = Step("publish one by one", len(rest))
    followed: list[asyncio.Task[float]] = []
    deliveries = []
    began = time.perf_counter()
    for place, event in enumerate(rest):
        await asyncio.sleep(began + place / PACED_PER_S - time.perf_counter())
        sent = time.perf_counter()
        delivery = await publisher.publish(event)
        deliveries.append(delivery)
        if place % SAMPLED_EVERY == 0:
            followed.append(asyncio.create_task(_follow(client, event, delivery, sent)))
        report(step, place + 1)
    figures.searchable_ms = list(await asyncio.gather(*followed))
    figures.published += len(await asyncio.gather(*deliveries))


async def _follow(client: AkashaClient, event: Event, delivery: asyncio.Future[Any], sent: float) -> float:
    """Milliseconds from the send until the answer that has the event."""
    token = (await delivery).token
    while True:
        found = await client.search(
            vector=event.embedding, k=10, after=token, after_timeout_s=WAIT_S, fields=["event_id"]
        )
        if any(hit.event_id == event.event_id for hit in found.hits):
            return (time.perf_counter() - sent) * 1000
        if time.perf_counter() - sent > WAIT_S:
            raise AkashaError(f"{event.source_system}/{event.event_id} was published and is not found")


async def _trouble(
    settings: Settings, publisher: EventPublisher, client: AkashaClient, table: Any, figures: Figures
) -> None:
    """What a real system sees as well: retries, the same text again, and a producer that sends garbage."""
    from dataclasses import replace

    from aiokafka import AIOKafkaProducer

    from akasha_stream.connections.kafka import client_options

    first = events(table.slice(0, SENT_AGAIN))
    again = await publisher.publish_many(first)
    same = await publisher.publish_many(
        [replace(event, event_id=f"{event.event_id}-other") for event in first[:SAME_TEXT]]
    )
    figures.sent_again, figures.same_text = len(again), len(same)
    figures.published += len(again) + len(same)
    producer = AIOKafkaProducer(**client_options(settings.broker))
    await producer.start()
    try:
        sent = await producer.send_and_wait(settings.topics.embeddings, MALFORMED, key=b"session-buddy-000")
    finally:
        await producer.stop()
    figures.malformed = 1
    tokens = [f"{sent.partition}:{sent.offset}", *(delivery.token for delivery in again + same)]
    await _searchable(client, table, ",".join(sorted(set(tokens))))


async def _search_at_length(client: AkashaClient, table: Any, figures: Figures, report: Report) -> None:
    """The time of a search: 10 hits with their content, vectors from all over the sample."""
    step = Step("search", SEARCHES)
    stride = max(len(table) // SEARCHES, 1)
    for number in range(SEARCHES):
        vector = table["embedding"][number * stride % len(table)].as_py()
        began = time.perf_counter()
        await client.search(vector=vector, k=10)
        figures.search_ms.append((time.perf_counter() - began) * 1000)
        report(step, number + 1)


async def _ask(client: AkashaClient, table: Any, figures: Figures, report: Report) -> None:
    """A few searches as a person makes them: by text, or "more like this" where the worker has no embedder."""
    from akasha_stream.search.query import Filters

    step = Step("ask", len(QUESTIONS) + 2)
    since = table["created_at"][len(table) - 1].as_py() - timedelta(minutes=30)
    python = Filters(metadata={"section": "python"})
    event = events(table.slice(len(table) // 2, 1))[0]
    like = (event.source_system, event.event_id)
    try:
        await client.search(text="warm up", k=1)  # loads the model, some 0.5 s once
        for question in QUESTIONS:
            figures.searches.append(_found(f'"{question}"', await client.search(text=question, k=3)))
            report(step, len(figures.searches))
        found = await client.search(text=PYTHON_ONLY, k=3, filters=python)
        figures.searches.append(_found(f'"{PYTHON_ONLY}", only section = python', found))
    except EmbedderMissing:
        found = await client.search(like=like, k=3, filters=python)
        figures.searches.append(_found(f'more like "{event.content}", only section = python', found))
    found = await client.search(like=like, k=3, filters=Filters(created_after=since))
    figures.searches.append(_found(f'more like "{event.content}", of the last 30 minutes', found))
    report(step, step.total)


def _found(asked: str, response: SearchResponse) -> Found:
    hits = [(hit.similarity, hit.source_system, hit.content or "") for hit in response.hits]
    return Found(asked, hits, response.took_ms)


async def _count(settings: Settings, client: AkashaClient, table: Any, figures: Figures, report: Report) -> None:
    """Ask the search, the Redis tables and the dead-letter topic what is there."""
    wanted: dict[str, set[str]] = {}
    for system, event_id in zip(table["source_system"].to_pylist(), table["event_id"].to_pylist(), strict=True):
        wanted.setdefault(system, set()).add(event_id)
    vector = table["embedding"][0].as_py()
    most = settings.search.max_k
    step = Step("check that all is there", len(wanted))
    for place, (system, ids) in enumerate(wanted.items(), 1):
        response = await client.search(
            vector=vector, k=min(len(ids) + SAME_TEXT + 1, most), filters={"systems": [system]}, fields=["event_id"]
        )
        found = {hit.event_id for hit in response.hits}
        figures.stored += len(response.hits)
        figures.missing += len(ids - found)
        report(step, place)
    figures.duplicates = await _duplicates(settings, list(wanted), figures.sent_again + figures.same_text)
    figures.dead_letters = await _dead_letters(settings, figures.malformed)


async def _duplicates(settings: Settings, systems: list[str], expected: int) -> int:
    """The worker's counters; they reach Redis after the commit, so a lower figure is asked again for 2 s."""
    from akasha_stream.lookups.connection import connect
    from akasha_stream.lookups.reader import Lookups
    from akasha_stream.lookups.tables import Keys
    from akasha_stream.topics.definition import definitions

    partitions = next(each.partitions for each in definitions(settings) if each.name == settings.topics.embeddings)
    redis = connect(settings.redis)
    try:
        lookups = Lookups(redis, Keys(settings.redis.prefix, settings.topics.embeddings), lambda: partitions)
        deadline = time.monotonic() + 2.0
        while True:
            total = 0
            for system in systems:
                counters = await lookups.counters(system)
                total += sum(value for name, value in counters.items() if name.startswith("duplicate_"))
            if total >= expected or time.monotonic() > deadline:
                return total
            await asyncio.sleep(0.05)
    finally:
        await redis.aclose()


async def _dead_letters(settings: Settings, expected: int) -> int:
    """Records in the dead-letter topic; one more than expected is waited for a moment as well."""
    from aiokafka import AIOKafkaConsumer

    from akasha_stream.connections.kafka import client_options

    consumer = AIOKafkaConsumer(
        settings.topics.dead_letters, **client_options(settings.broker), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        total, deadline = 0, time.monotonic() + 3.0
        while True:
            got = await consumer.getmany(timeout_ms=250)
            total += sum(map(len, got.values()))
            if (not got and total >= expected) or time.monotonic() > deadline:
                return total
    finally:
        await consumer.stop()
