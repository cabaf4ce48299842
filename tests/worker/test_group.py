"""Two workers in one group."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from akasha_stream.embedded import Broker
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_two_workers_share_the_partitions_and_one_takes_over(kafka: Broker, tmp_path: Path, how: str) -> None:
    """Each owns two of four; an answer that lacks the other's says so; the one that stays has all events."""
    stage = await Stage.make(kafka, tmp_path)
    maker = Maker(12)
    first = stage.worker("first", hot__data_dir=str(tmp_path / "first"))
    second = stage.worker("second", hot__data_dir=str(tmp_path / "second"))
    async with first, second:
        await until_owned(first, 2)
        await until_owned(second, 2)
        await stage.publish(maker.mixed(600))
        await asyncio.gather(stage.until_searchable(first), stage.until_searchable(second))
        events = maker.new(60)
        await stage.publish(events)
        await asyncio.gather(stage.until_searchable(first), stage.until_searchable(second))
        owners = set()
        for event in events:
            hits = []
            for worker in (first, second):
                answer = await worker.search(vector=event.embedding.tolist(), k=1, after=stage.token)
                assert not answer["complete"]
                assert {each["reason"] for each in answer["incomplete"]} == {"partition_not_owned"}
                assert len(answer["incomplete"]) == 2
                hits.append([hit["event_id"] for hit in answer["hits"]] == [event.event_id])
            assert sorted(hits) == [False, True]
            owners.add(hits.index(True))
        assert owners == {0, 1}
        if how == "stopped":
            await first.stop()
        else:
            first.kill()
        await stage.publish(maker.mixed(200))
        await until_owned(second, 4)
        await stage.until_searchable(second)
        answer = await second.search(vector=events[0].embedding.tolist(), k=1, after=stage.token)
        assert answer["complete"], answer["incomplete"]
        await second.stop()
    stage.overrides["hot.data_dir"] = str(tmp_path / "second")
    await stage.assert_stored()


async def test_a_worker_that_comes_and_goes_during_ingest(kafka: Broker, tmp_path: Path) -> None:
    """Rebalances in the middle of batches lose and repeat nothing."""
    stage = await Stage.make(kafka, tmp_path, hot__seal_rows=500, ingest__batch_messages=2)
    maker = Maker(13)
    async with stage.worker("first", hot__data_dir=str(tmp_path / "first")) as first:
        second = stage.worker("second", hot__data_dir=str(tmp_path / "second"))

        async def produce() -> None:
            for _ in range(40):
                await stage.publish(maker.mixed(50))

        producing = asyncio.create_task(produce())
        async with second:
            await until_owned(second, 2)
            await asyncio.sleep(0.5)
            await second.stop()
            await second.start()
            await until_owned(second, 2)
            second.kill()
        await producing
        await until_owned(first, 4)
        await stage.until_searchable(first)
        await first.stop()
    stage.overrides["hot.data_dir"] = str(tmp_path / "first")
    await stage.assert_stored()


async def until_owned(worker: WorkerProcess, count: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        owned = (await worker.get("/v1/stats")).json()["partitions_owned"]
        if len(owned) == count and (await worker.health())["stream"]["ok"]:
            return
        assert time.monotonic() < deadline, f"owns {owned}, not {count}\n{worker.logged()[-3000:]}"
        await asyncio.sleep(0.1)
