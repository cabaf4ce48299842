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
    """Each owns two of four and answers for all; the one that stays has all events."""
    stage = await Stage.make(kafka, tmp_path, ingest__session_timeout_s=6.0)
    maker = Maker(12)
    first = stage.worker("first", hot__data_dir=str(tmp_path / "first"))
    second = stage.worker("second", hot__data_dir=str(tmp_path / "second"))
    async with first, second:
        await until_owned(first, 2)
        await until_owned(second, 2)
        await stage.publish(maker.mixed(600))
        events = maker.new(60)
        await stage.publish(events)
        for event in events:
            for worker in (first, second):
                answer = await worker.search(vector=event.embedding.tolist(), k=1, after=stage.token)
                assert answer["complete"], answer["incomplete"]
                assert answer["hits"][0]["event_id"] == event.event_id
                assert {plan["partition"] for plan in answer["plan"]} == {0, 1, 2, 3}
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


async def test_a_worker_that_is_one_too_many_is_ready_and_takes_over(kafka: Broker, tmp_path: Path) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=1)
    first = stage.worker("first", hot__data_dir=str(tmp_path / "first"))
    second = stage.worker("second", hot__data_dir=str(tmp_path / "second"))
    async with first:
        await until_owned(first, 1)
        async with second:
            assert (await second.get("/health/ready")).status_code == 200
            await until_owned(second, 0)
            events = Maker(14).new(50)
            await stage.publish(events)
            first.kill()
            await until_owned(second, 1)
            await stage.until_searchable(second)
            assert await second.event(events[7].source_system, events[7].event_id) is not None
            await second.stop()
