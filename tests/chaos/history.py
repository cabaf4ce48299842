"""The events of a schedule, and what the log says about them afterwards, read by a bare client."""

from __future__ import annotations

import hashlib
import json
import random
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from akasha_stream.events.model import Event
from tests.chaos.model import Entry, Forget, Upsert

SYSTEMS = 6
DIMENSIONS = 384
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

type Raw = tuple[bytes | None, bytes | None]
"""(key, value) of a record"""


class Maker:
    """Seeded events: new, replaced, repeated, with a text that another has, deleted; now and then late."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._vectors = np.random.default_rng(seed)
        self._made: list[Event] = []
        self._at = START

    def system(self) -> str:
        return f"system-{self.chance.randrange(SYSTEMS)}"

    def mixed(self, count: int) -> list[Event]:
        return [self._one() for _ in range(count)]

    def _one(self) -> Event:
        self._at += timedelta(seconds=self.chance.choice([0, 0, 1, 2]))
        kind = self.chance.random()
        fresh = self._new()
        if kind < 0.55 or not self._made:
            made = fresh
        else:
            before = self.chance.choice(self._made)
            if kind < 0.7:
                made = replace(fresh, event_id=before.event_id, source_system=before.source_system)
            elif kind < 0.8:
                return before
            elif kind < 0.87:
                made = replace(fresh, content=before.content, source_system=before.source_system)
            else:
                return Event.delete(before.source_system, before.event_id, created_at=self._at)
        self._made.append(made)
        return made

    def _new(self) -> Event:
        number = self.chance.getrandbits(40)
        late = timedelta(seconds=self.chance.choice([0] * 9 + [120]))
        return Event(
            event_id=f"e{number:x}",
            source_system=self.system(),
            content=f"text {number:x} of an event",
            embedding=self._vectors.normal(size=DIMENSIONS).astype(np.float32),
            created_at=self._at - late,
        )


def as_upsert(event: Event) -> Upsert:
    created = (event.created_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    if event.op == "delete":
        return Upsert(event.source_system, event.event_id, None, b"", created, "{}", "")
    metadata = json.dumps(event.metadata, sort_keys=True, separators=(",", ":"))
    vector = np.asarray(event.embedding, np.float32).tobytes()
    return Upsert(event.source_system, event.event_id, event.content, vector, created, metadata, event.model)


async def read_records(bootstrap_servers: str, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All that the topic has now, each partition in its order."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, enable_auto_commit=False, max_partition_fetch_bytes=20_000_000
    )
    await consumer.start()
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(place) < ends[place] for place in places]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    finally:
        await consumer.stop()
    return found


def entries(records: list[ConsumerRecord], epoch: int, malformed: Collection[Raw]) -> dict[int, list[Entry]]:
    """Partition → its events and control messages, in log order."""
    log: dict[int, list[Entry]] = defaultdict(list)
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        if (record.key, record.value) in malformed:
            continue
        for index, entry in enumerate(_of_record(record)):
            log[record.partition].append(((record.partition, epoch, record.offset, index), entry))
    return log


def _of_record(record: ConsumerRecord) -> Iterator[Upsert | Forget]:
    headers = dict(record.headers)
    assert record.value is not None
    if headers.get("ce_type") == b"akasha.forget":
        yield Forget(json.loads(record.value)["system_sha256"])
    elif b"arrow" in headers["content-type"]:
        for row in pa.ipc.open_stream(record.value).read_all().to_pylist():
            yield _upsert(row, row["created_at"])
    else:
        found = json.loads(record.value)
        for row in found if isinstance(found, list) else [found]:
            yield _upsert(row, datetime.fromisoformat(row["created_at"]))


def _upsert(row: dict[str, object], created_at: datetime) -> Upsert:
    metadata = row.get("metadata") or {}
    event = Event(
        event_id=str(row["event_id"]),
        source_system=str(row["source_system"]),
        content=str(row.get("content") or ""),
        embedding=np.asarray(row.get("embedding") or [], np.float32),
        model=str(row.get("model") or ""),
        metadata=json.loads(metadata) if isinstance(metadata, str) else metadata,  # type: ignore[arg-type]
        created_at=created_at,
        op=str(row.get("op") or "upsert"),  # type: ignore[arg-type]
    )
    return as_upsert(event)


def sha256(system: str) -> str:
    return hashlib.sha256(system.encode()).hexdigest()
