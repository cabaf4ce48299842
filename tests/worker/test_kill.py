"""A worker that is killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from akasha_stream.publish import EventPublisher
from tests.worker.model import Maker
from tests.worker.stage import Stage, assert_same

KILLS = 20
EVENTS = 30
"""Published ten times a second,"""
BUNDLES = 11
"""so often at most while a worker starts, and again once it is ready.

Without a limit a slow machine gets a longer log, and is slower still.
"""


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_twenty_times_during_ingest_every_event_is_stored_once(kafka: Broker, tmp_path: Path) -> None:
    """At each kill the shards are the log up to their next offset, and nothing else."""
    stage = await Stage.make(
        kafka, tmp_path, hot__seal_rows=300, ingest__batch_messages=4, publish__linger_ms=5, ingest__instance_id="w"
    )
    chance = random.Random(20)
    maker = Maker(20)
    before_ready = 0
    allowed = asyncio.Semaphore(0)
    async with EventPublisher(stage.settings) as publisher:

        def allow(bundles: int) -> None:
            for _ in range(bundles):
                allowed.release()

        async def produce() -> None:
            while True:
                await allowed.acquire()
                events = maker.mixed(EVENTS)
                # Publishing ends as a whole, so that the model has what the log has.
                publishing = asyncio.ensure_future(publisher.publish_many(events))
                try:
                    deliveries = await asyncio.shield(publishing)
                except asyncio.CancelledError:
                    stage.published(events, await publishing)
                    raise
                stage.published(events, deliveries)
                await asyncio.sleep(0.1)

        producing = asyncio.create_task(produce())
        for _ in range(KILLS):
            allow(BUNDLES)
            worker = stage.worker()
            worker.launch()
            if chance.random() < 0.25:
                before_ready += 1
                await asyncio.sleep(chance.uniform(0.8, 1.6))
            else:
                await worker.ready()
                allow(BUNDLES)
                await asyncio.sleep(chance.uniform(0.02, 1.2))
            worker.kill()
            reached = len(stage.model.log)
            found, offsets = await stage.stored(copied=True)
            # What was published meanwhile may not be in the model yet; what is stored has been for long.
            allow(1)
            while len(stage.model.log) < reached + EVENTS:
                await asyncio.sleep(0.01)
            for partition, offset in offsets.items():
                assert offset <= max(place[1] for place, _ in stage.model.log if place[0] == partition) + 1
            assert_same(found, stage.model.rows(offsets))
        producing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await producing
    assert 0 < before_ready < KILLS
    async with stage.worker() as worker:
        stage.token = ",".join(
            f"{partition}:{max(place[1] for place, _ in stage.model.log if place[0] == partition)}"
            for partition in {place[0] for place, _ in stage.model.log}
        )
        await stage.until_searchable(worker, 60)
        # Else no kill could hit a rewrite. Rewriting takes only what others leave: on a busy machine it comes late.
        async with asyncio.timeout(150):
            while not list(stage.data.glob("*/*/*.sealed.duckdb")):
                await asyncio.sleep(0.1)
        await worker.stop()
    await stage.assert_stored()
    assert (stage.data / stage.topic / "00000").exists()


@pytest.mark.slow
async def test_stopped_and_started_goes_on_where_it_was(broker: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(broker, tmp_path)
    maker = Maker(1)
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(300))
        await stage.until_searchable(worker)
        assert await worker.stop() < 5
    assert "destroyed but it is pending" not in worker.logged()
    await stage.assert_stored()
    await stage.publish(maker.mixed(300))
    async with stage.worker() as worker:
        await stage.until_searchable(worker)
        await worker.stop()
    await stage.assert_stored()
