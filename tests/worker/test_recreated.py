"""A topic that is deleted and made again under its name: another log, with the old offsets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from tests.servers.topics import create_topic
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("longer", [False, True], ids=["shorter log", "longer log"])
@pytest.mark.parametrize("running", [False, True], ids=["worker down", "worker running"])
async def test_topic_deleted_and_recreated_its_new_events_are_stored(
    kafka: Broker, tmp_path: Path, *, running: bool, longer: bool
) -> None:
    """Old rows stay searchable. A new log that is already longer than the stored offset is read from its start."""
    stage = await Stage.make(kafka, tmp_path, partitions=2, publish__bundle_events=4)
    maker = Maker(6)
    old = maker.new(200)
    async with stage.worker() as worker:
        await stage.publish(old)
        await stage.until_searchable(worker)
        if not running:
            await worker.stop()
        await recreate(kafka, stage)
        new = maker.new(800 if longer else 40)
        await stage.publish(new)
        if not running:
            await worker.start()
        await until_stored(worker, old + new)
        for event in (old[0], old[-1], new[0], new[-1]):
            answer = await worker.search(vector=event.embedding.tolist(), k=1)
            assert [hit["event_id"] for hit in answer["hits"]] == [event.event_id]
        # And it goes on with the new log, through a restart too.
        more = maker.new(50)
        await stage.publish(more)
        await until_stored(worker, old + new + more)
        await worker.stop()
        await worker.start()
        last = maker.new(50)
        await stage.publish(last)
        await until_stored(worker, old + new + more + last)
        await worker.stop()
    found, _ = await stage.stored()
    assert found.keys() == {(event.source_system, event.event_id) for event in [*old, *new, *more, *last]}


async def recreate(kafka: Broker, stage: Stage) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([stage.topic])
        async with asyncio.timeout(20):
            while stage.topic in await admin.list_topics():
                await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await create_topic(kafka.bootstrap_servers, stage.topic, partitions=stage.partitions)


async def until_stored(worker: WorkerProcess, everything: list[Event], timeout_s: float = 40.0) -> None:
    """Until all these are stored, and nothing else is."""
    deadline = time.monotonic() + timeout_s
    while (rows := (await worker.get("/v1/stats")).json()["live_rows"]) != len(everything):
        assert worker.running, worker.logged()[-4000:]
        assert time.monotonic() < deadline, f"{rows} of {len(everything)} events\n{worker.logged()[-4000:]}"
        await asyncio.sleep(0.1)
    for event in everything[:: max(1, len(everything) // 20)]:
        assert await worker.event(event.source_system, event.event_id) is not None
