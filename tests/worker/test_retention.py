"""Kafka had let the beginning of the log go before a worker first read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = pytest.mark.kafka


async def test_a_shard_that_begins_later_than_the_log_did_says_so_as_of_an_earlier_moment(
    kafka: Broker, tmp_path: Path
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    maker = Maker(41)
    await stage.publish(maker.new(5))
    gone = int(stage.token.split(":")[1]) + 1
    await stage.delete_records({0: gone})
    stage.model.log.clear()
    await stage.publish(maker.new(5))
    kept = stage.token
    await stage.publish(maker.mixed(60))
    for _ in range(2):  # the second one opens what the first one made
        async with stage.worker() as worker:
            await stage.until_searchable(worker)
            assert await as_of(worker, f"0:{gone - 1}") == (0, [("as_of", 0)])
            assert await as_of(worker, "2001-01-01T00:00:00Z") == (0, [("as_of", 0)])
            assert await as_of(worker, kept) == (5, [])
            await worker.stop()
    await stage.assert_stored()


async def as_of(worker: WorkerProcess, moment: str) -> tuple[int, list[tuple[str, int]]]:
    answer = await worker.search(vector=[1.0] * 384, k=1_000, as_of=moment)
    return len(answer["hits"]), [(each["reason"], each["partition"]) for each in answer["incomplete"]]
