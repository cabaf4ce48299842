"""Digests of closed windows on their topic, across a kill -9."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from tests.worker.stage import Stage

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SIZE_S, LATENESS_S, WINDOWS = 60, 10, 12
SYSTEMS = ("alpha", "beta", "gamma")


@pytest.mark.kafka
@pytest.mark.slow
async def test_closed_windows_arrive_with_the_models_counts_across_kills(kafka: Broker, tmp_path: Path) -> None:
    """Twice the same bytes is allowed, other bytes for the same window are not."""
    stage = await Stage.make(
        kafka,
        tmp_path,
        windows__size_s=SIZE_S,
        windows__allowed_lateness_s=LATENESS_S,
        hot__seal_rows=150,
        publish__linger_ms=1,
        ingest__instance_id="w",
    )
    log = events()
    expected = model(log)
    async with stage.worker() as worker:
        parts = [log[at : at + 90] for at in range(0, len(log), 90)]
        for number, part in enumerate(parts):
            await stage.publish(part)
            if number % 3 == 1:
                await asyncio.sleep(0.02 * number)
                worker.kill()
                await worker.start()
        await stage.until_searchable(worker, 60)
        found = await read_digests(kafka, f"{stage.topic}.digests", len(expected))
        await worker.stop()
    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert len(set(values)) == 1, f"{key}: {len(set(values))} different digests"
        digest = json.loads(values[0])
        counted = {**digest["events"], **digest["events"].pop("duplicates")}
        counted.pop("duplicates", None)
        assert counted == expected[key], key
        assert np.linalg.norm(digest["centroid"]) == pytest.approx(1, abs=1e-5)


def events() -> list[Event]:
    """Of each system in the order of time, so that none is late: new, updated, repeated, deleted."""
    rng = np.random.default_rng(8)
    made: list[Event] = []
    latest: dict[str, Event] = {}
    for step in range(WINDOWS * 20):
        at = START + timedelta(seconds=3 * step)
        for system in SYSTEMS:
            kind = rng.random()
            fresh = Event(
                event_id=f"{system}-{step}",
                source_system=system,
                content=f"{system} says {step}",
                embedding=rng.normal(size=384).astype(np.float32),
                created_at=at,
            )
            before = latest.get(system)
            if kind < 0.7 or before is None:
                made.append(fresh)
                latest[system] = fresh
            elif kind < 0.8:
                made.append(replace(fresh, event_id=before.event_id))
                latest[system] = made[-1]
            elif kind < 0.9:
                made.append(before)
            elif kind < 0.95:
                made.append(replace(fresh, content=before.content))
            else:
                made.append(Event.delete(system, before.event_id, created_at=at))
                del latest[system]
    return made


def model(log: list[Event]) -> dict[str, dict[str, int]]:
    """key → counts of each closed window. Only the last upsert of a system can be updated, repeated or deleted."""
    counts: dict[tuple[str, datetime], dict[str, int]] = {}
    stored: dict[tuple[str, str], Event] = {}
    watermark: dict[str, datetime] = {}
    for event in log:
        identity = (event.source_system, event.event_id)
        before = stored.get(identity)
        if event.op == "delete":
            outcome = "deleted"
            stored.pop(identity, None)
        elif before is not None:
            outcome = "exact" if before == event else "updated"
            stored[identity] = event
        elif any(each.content == event.content for (system, _), each in stored.items() if system == identity[0]):
            outcome = "content"
        else:
            outcome = "stored"
            stored[identity] = event
        start = START + (event.created_at - START) // timedelta(seconds=SIZE_S) * timedelta(seconds=SIZE_S)
        nothing = dict.fromkeys(("stored", "updated", "deleted", "exact", "content", "near", "late"), 0)
        # A repeat carries the time of the first: where its window is closed by then, it is late.
        seen = max(watermark.get(identity[0], event.created_at), event.created_at)
        watermark[identity[0]] = seen
        assert start + timedelta(seconds=SIZE_S + LATENESS_S) > seen, "the model knows no late events"
        counts.setdefault((identity[0], start), nothing)[outcome] += 1
    return {
        f"{system}|{start.strftime('%Y-%m-%dT%H:%M:%S.%f')}Z": found
        for (system, start), found in counts.items()
        if start + timedelta(seconds=SIZE_S + LATENESS_S) <= watermark[system]
    }


async def read_digests(kafka: Broker, topic: str, count: int) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        quiet = 0
        async with asyncio.timeout(30):
            while quiet < 4 or len(found) < count:
                batch = await consumer.getmany(timeout_ms=250)
                quiet = 0 if batch else quiet + 1
                for records in batch.values():
                    for record in records:
                        found[record.key.decode()].append(record.value)
    finally:
        await consumer.stop()
    return found
