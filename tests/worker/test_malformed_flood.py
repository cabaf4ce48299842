"""Ten thousand bad messages among good ones, through Kafka and a worker."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from akasha_stream.embedded import Broker
from akasha_stream.events import dead_letters
from akasha_stream.events.bundles import Format, encode_bundle, headers
from akasha_stream.events.model import Event
from akasha_stream.publish.delivery import Delivery, join_token
from tests.events.malformed import BIG_BYTES, malformed_records, reasons
from tests.servers.topics import create_topic
from tests.worker.model import Maker
from tests.worker.stage import Stage

BAD = 10_000
FORMATS: list[Format] = ["arrow", "json"]
SMALL_BYTES = 100_000
KINDS = 20
"""At least; there are some 70."""

type Origin = tuple[int, int]
"""(partition, offset) of the message that was refused"""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_malformed_messages_are_dead_letters_and_every_good_event_is_stored(
    kafka: Broker, tmp_path: Path
) -> None:
    stage = await Stage.make(kafka, tmp_path, hot__seal_rows=1_000)
    sent: dict[Origin, tuple[str, bytes | None, str]] = {}
    largest = 0
    async with stage.worker() as worker:
        tops: dict[int, int] = defaultdict(int)
        producer = AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers, max_request_size=16_000_000, linger_ms=20
        )
        await producer.start()
        try:
            chance, maker, pending, goods = random.Random(5), Maker(5), [], []
            for kind, key, value, head in malformed_records(5, BAD):
                largest = max(largest, len(value or b""))
                at = await producer.send(stage.topic, value=value, key=key, headers=head)
                pending.append((kind, key, digest(value), at))
                if chance.random() < 0.2:
                    event = maker.new(1)[0]
                    goods.append((event, await send_good(producer, stage.topic, event, chance.choice(FORMATS))))
            for kind, key, fingerprint, at in pending:
                record = await at
                sent[record.partition, record.offset] = (kind, key, fingerprint)
                tops[record.partition] = max(tops[record.partition], record.offset)
            deliveries = []
            for event, at in goods:
                record = await at
                deliveries.append((event, Delivery(stage.topic, record.partition, record.offset, 0)))
                tops[record.partition] = max(tops[record.partition], record.offset)
        finally:
            await producer.stop()
        stage.published([event for event, _ in deliveries], [delivery for _, delivery in deliveries])
        stage.token = join_token(tops)
        await stage.until_searchable(worker, 120)
        assert (await worker.get("/health/ready")).status_code == 200
        await worker.stop()
    await stage.assert_stored()
    assert len(stage.model.rows()) == len(goods) > 1_000
    assert largest > BIG_BYTES - 1_000
    assert len({kind for kind, _, _ in sent.values()}) >= KINDS

    letters = await read_letters(kafka, f"{stage.topic}.dlq", set(sent))
    assert letters.keys() == sent.keys(), "a letter for each bad message, and for no good one"
    words: Counter[str] = Counter()
    for origin, (kind, key, fingerprint) in sent.items():
        for letter in letters[origin]:
            assert letter.reason in reasons(kind), (kind, letter)
            assert letter.topic == stage.topic
            assert letter.key == key
            if letter.index is None:
                assert letter.fingerprint == fingerprint, f"{kind}: its bytes are others"
            else:
                assert letter.value, f"{kind}: event {letter.index} alone"
                assert len(letters[origin]) == len({each.index for each in letters[origin]})
            assert letter.detail
            words[letter.reason] += 1
    assert len(words) >= 20, words


async def send_good(producer: AIOKafkaProducer, topic: str, event: Event, kind: Format) -> asyncio.Future[Any]:
    sent: asyncio.Future[Any] = await producer.send(
        topic,
        encode_bundle([event], kind),
        key=event.source_system.encode(),
        headers=headers(kind, event.source_system, event.event_id),
    )
    return sent


def digest(value: bytes | None) -> str:
    return "null" if value is None else hashlib.blake2b(value).hexdigest()


class Letter:
    def __init__(self, key: bytes | None, value: bytes | None, head: dict[str, bytes]) -> None:
        self.key = key
        self.fingerprint = digest(value)
        self.value = value if len(value or b"") < SMALL_BYTES else None
        self.index = int(head[dead_letters.INDEX]) if dead_letters.INDEX in head else None
        self.reason = head[dead_letters.REASON].decode()
        self.detail = head[dead_letters.DETAIL].decode()
        self.topic = head[dead_letters.TOPIC].decode()
        self.left_out = int(head.get(dead_letters.LEFT_OUT, b"0"))
        self.origin = (int(head[dead_letters.PARTITION]), int(head[dead_letters.OFFSET]))


async def read_letters(kafka: Broker, topic: str, expected: set[Origin]) -> dict[Origin, list[Letter]]:
    """All letters, with bare aiokafka, until those expected are there and no more come."""
    found: dict[Origin, list[Letter]] = defaultdict(list)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=20_000_000,
    )
    await consumer.start()
    try:
        quiet = 0
        while quiet < 3:
            batch = await consumer.getmany(timeout_ms=300)
            quiet = 0 if batch else quiet + 1
            for records in batch.values():
                for record in records:
                    letter = Letter(record.key, record.value, dict(record.headers))
                    found[letter.origin].append(letter)
    finally:
        await consumer.stop()
    assert expected <= found.keys(), f"{len(expected - found.keys())} letters are missing"
    return found


@pytest.mark.kafka
async def test_a_message_larger_than_the_dead_letters_topic_stops_nothing(kafka: Broker, tmp_path: Path) -> None:
    """Its letter says why and where it is, and how many bytes were left out."""
    stage = await Stage.make(kafka, tmp_path, partitions=1, topics__dead_letters=f"{tmp_path.name}-small")
    await create_topic(
        kafka.bootstrap_servers, f"{tmp_path.name}-small", partitions=1, config={"max.message.bytes": "10000"}
    )
    body = b"{" * 50_000
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        bad = await producer.send_and_wait(stage.topic, value=body, key=b"system-1", partition=0)
    async with stage.worker() as worker:
        await stage.publish(Maker(6).new(10))
        await stage.until_searchable(worker)
        await worker.stop()
    await stage.assert_stored()
    (letters,) = (await read_letters(kafka, f"{tmp_path.name}-small", {(0, bad.offset)})).values()
    (letter,) = letters
    assert letter.fingerprint == "null"
    assert letter.left_out == len(body)
    assert letter.reason == "json_invalid"
