"""Kafka itself killed and restarted under a worker and a publisher."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from akasha_stream.publish import EventPublisher
from tests.worker.model import Maker
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.timeout(240)
async def test_kafka_killed_and_restarted_no_acknowledged_event_is_lost(
    kafka_restartable: Broker, tmp_path: Path
) -> None:
    """The worker recovers without a hand, and searches are answered while the broker is away."""
    stage = await Stage.make(kafka_restartable, tmp_path, hot__seal_rows=500, publish__linger_ms=5)
    maker = Maker(2)
    async with stage.worker() as worker:
        async with EventPublisher(stage.settings) as publisher:

            async def produce() -> None:
                for _ in range(150):
                    events = maker.mixed(30)
                    stage.published(events, await publisher.publish_many(events))
                    await asyncio.sleep(0.05)

            producing = asyncio.create_task(produce())
            for _ in range(2):
                await asyncio.sleep(1.5)
                assert not producing.done()
                await asyncio.to_thread(kafka_restartable.kill)
                await asyncio.sleep(1.0)
                answer = await worker.search(vector=[1.0] * 384, k=3)
                assert len(answer["hits"]) == 3
                await asyncio.to_thread(kafka_restartable.restart)
            await producing
        tops: dict[int, int] = {}
        for (partition, offset, _), _ in stage.model.log:
            tops[partition] = max(offset, tops.get(partition, 0))
        stage.token = ",".join(f"{partition}:{offset}" for partition, offset in tops.items())
        await stage.until_searchable(worker, 60)
        assert (await worker.get("/health/ready")).status_code == 200
        await worker.stop()
    await stage.assert_stored()


@pytest.mark.timeout(240)
async def test_kafka_away_for_longer_and_the_worker_is_stopped_meanwhile(
    kafka_restartable: Broker, tmp_path: Path
) -> None:
    stage = await Stage.make(kafka_restartable, tmp_path)
    maker = Maker(3)
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(200))
        await stage.until_searchable(worker)
        await asyncio.to_thread(kafka_restartable.kill)
        await asyncio.sleep(8)
        answer = await worker.search(vector=[1.0] * 384, k=3)
        assert len(answer["hits"]) == 3
        assert await worker.stop(30) < 15
        await asyncio.to_thread(kafka_restartable.restart)
        await stage.publish(maker.mixed(200))
        await worker.start()
        await stage.until_searchable(worker)
        await worker.stop()
    await stage.assert_stored()
