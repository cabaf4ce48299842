"""The Redis tables are derived: losing them stops nothing, and they come back by themselves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from akasha_stream.embedded import Broker, ValkeyServer
from akasha_stream.hot.position import unpack
from akasha_stream.lookups.connection import connect
from akasha_stream.lookups.reader import Lookups
from akasha_stream.lookups.tables import Keys
from akasha_stream.settings import RedisSettings
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.valkey]


@pytest.mark.slow
async def test_valkey_killed_and_back_and_flushed(kafka: Broker, valkey_killable: ValkeyServer, tmp_path: Path) -> None:
    """Ingest and searches go on, GET answers from the shard meanwhile, the tables equal the shards afterwards."""
    stage = await Stage.make(kafka, tmp_path, valkey=valkey_killable.url, redis__timeout_s=0.5)
    maker = Maker(3)
    redis = connect(RedisSettings(url=SecretStr(valkey_killable.url)))
    async with stage.worker() as worker:
        await stage.publish(maker.mixed(400))
        await stage.until_searchable(worker)
        await until_answered_from(worker, stage, "lookups")
        await assert_tables_equal_the_model(redis, stage)

        valkey_killable.kill()
        events = maker.new(200)
        await stage.publish(events)
        await stage.until_searchable(worker)
        answer = await worker.search(vector=events[0].embedding.tolist(), k=1)
        assert answer["hits"][0]["event_id"] == events[0].event_id
        found = await worker.event(events[0].source_system, events[0].event_id)
        assert found is not None
        assert found["answered_from"] == "shard"
        async with asyncio.timeout(5):  # the next transaction notices
            while True:
                ready = await worker.get("/health/ready")
                assert ready.status_code == 200, "the tables are no reason to take a worker out of service"
                lookups = ready.json()["components"]["lookups"]
                if not lookups["ok"]:
                    break
                await asyncio.sleep(0.05)
        assert lookups["detail"]

        valkey_killable.restart()
        await until_answered_from(worker, stage, "lookups")
        await assert_tables_equal_the_model(redis, stage)

        await redis.flushall()
        await stage.publish(maker.mixed(200))
        await stage.until_searchable(worker)
        await until_answered_from(worker, stage, "lookups")
        await assert_tables_equal_the_model(redis, stage)
        await worker.stop()
    await redis.aclose()
    await stage.assert_stored()


async def until_answered_from(worker: WorkerProcess, stage: Stage, source: str) -> None:
    (system, event_id), _ = next(iter(stage.model.rows().items()))
    deadline = time.monotonic() + 20
    while True:
        found = await worker.event(system, event_id)
        assert found is not None
        lookups = (await worker.health())["lookups"]
        if found["answered_from"] == source and lookups["ok"]:
            return
        assert time.monotonic() < deadline, f"{found['answered_from']}, {lookups}\n{worker.logged()[-3000:]}"
        await asyncio.sleep(0.1)


async def assert_tables_equal_the_model(redis: Redis, stage: Stage) -> None:
    """Soon: changes are gathered for a tenth of a second before they are written."""
    deadline = time.monotonic() + 20
    while True:
        try:
            await _equal(redis, stage)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _equal(redis: Redis, stage: Stage) -> None:
    lookups = Lookups(redis, Keys(stage.topic, stage.topic), lambda: stage.partitions)
    expected = stage.model.rows()
    for (system, event_id), row in expected.items():
        found = await lookups.position(system, event_id)
        assert found is not None, (system, event_id)
        place = unpack(found[1])
        assert (found[0], place.offset, place.index) == row.place
    for system, event_id in {(e.source_system, e.event_id) for _, e in stage.model.log} - expected.keys():
        assert await lookups.position(system, event_id) is None
