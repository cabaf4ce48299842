"""Three workers on Kafka and Valkey: whichever is asked answers for all, also when Redis, or one of them, is gone."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from akasha_stream.cli.root import run
from akasha_stream.client import AkashaClient
from akasha_stream.embedded import Broker
from akasha_stream.embedded.valkey import ValkeyServer
from akasha_stream.errors import EventNotFound
from akasha_stream.events.model import Event
from akasha_stream.search.freshness import parse_tokens
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage
from tests.worker.test_group import until_owned

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

# Not so short that a busy machine's workers are taken for dead, and say that they may have lost their partitions.
SESSION: dict[str, object] = {"ingest__session_timeout_s": 6.0, "ingest__heartbeat_s": 0.5}


@asynccontextmanager
async def three(stage: Stage) -> AsyncIterator[list[WorkerProcess]]:
    """Workers that have two partitions each."""
    async with AsyncExitStack() as stack:
        workers = [stage.worker(name, hot__data_dir=str(stage.folder / name)) for name in ("one", "two", "three")]
        for worker in workers:
            worker.launch()
            stack.push_async_exit(worker.__aexit__)
        for worker in workers:
            await worker.ready()
        for worker in workers:
            await until_owned(worker, 2)
        yield workers


async def test_every_worker_answers_for_all(kafka: Broker, valkey: ValkeyServer, tmp_path: Path, capsys: Any) -> None:
    """Searches by vector and by event, events by id, freshness tokens, the client and the command line."""
    stage = await Stage.make(kafka, tmp_path, partitions=6, valkey=valkey.url, **SESSION)
    maker = Maker(31)
    async with three(stage) as workers:
        await stage.publish(maker.mixed(900))
        for worker in workers:
            await stage.until_searchable(worker)
        events = maker.new(30)
        await stage.publish(events)
        live = stage.model.rows()
        for event in events:
            answers = [
                await worker.search(vector=event.embedding.tolist(), k=20, after=stage.token) for worker in workers
            ]
            assert all(each["complete"] for each in answers), [each["incomplete"] for each in answers]
            assert answers[0]["hits"][0]["event_id"] == event.event_id
            assert answers[0]["hits"] == answers[1]["hits"] == answers[2]["hits"]
            assert {(hit["source_system"], hit["event_id"]) for hit in answers[0]["hits"]} <= live.keys()
        ever = [(event.source_system, event.event_id) for _, event in stage.model.log]
        gone = next(identity for identity in ever if identity not in live)
        for worker in workers:
            async with AkashaClient(worker.url) as client:
                recent = await client.recent(limit=100)
                assert recent.complete
                assert {(each.source_system, each.event_id) for each in recent.events} <= live.keys()
                assert len(recent.events) == min(100, len(live))
                for event in events[:6]:
                    found = await client.get(event.source_system, event.event_id)
                    assert found.content == event.content
                    near = await client.search(like=(event.source_system, event.event_id), k=5)
                    assert near.complete
                    assert event.event_id not in {hit.event_id for hit in near.hits}
                with pytest.raises(EventNotFound):
                    await client.get(*gone)
        stats = (await workers[1].get("/v1/stats?cluster=true")).json()
        assert stats["live_rows"] == len(live)
        assert stats["partitions_missing"] == []
        assert {each["url"] for each in stats["workers"]} == {worker.url for worker in workers}
        like = f"{events[0].source_system}/{events[0].event_id}"
        for worker in workers:
            assert await asyncio.to_thread(run, ["search", "--like", like, "--json", "--url", worker.url]) == 0
            assert json.loads(capsys.readouterr().out.splitlines()[-1])["complete"]


async def test_as_of_an_earlier_moment_every_worker_finds_what_all_had(
    kafka: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """By offsets of all partitions: what was replaced or deleted since, at other workers too, is found as it was."""
    stage = await Stage.make(kafka, tmp_path, partitions=6, valkey=valkey.url, **SESSION)
    maker = Maker(34, systems=60)  # some of each partition
    async with three(stage) as workers:
        await stage.publish([*maker.new(60), *maker.mixed(300)])
        moment = stage.token
        ends = {partition: offset + 1 for partition, offset in parse_tokens(moment, stage.partitions).items()}
        assert len(ends) == stage.partitions
        then = stage.model.rows(ends)
        await stage.publish(maker.mixed(400))
        now = stage.model.rows()
        assert then != now
        for worker in workers:
            await stage.until_searchable(worker)
        for worker in workers:
            for as_of, expected in ((moment, then), (None, now)):
                answer = await worker.search(vector=[1.0] * 384, k=1_000, as_of=as_of)
                assert answer["complete"], answer["incomplete"]
                found = {
                    (hit["source_system"], hit["event_id"]): (hit["position"]["partition"], hit["position"]["offset"])
                    for hit in answer["hits"]
                }
                assert found == {identity: row.place[:2] for identity, row in expected.items()}


async def test_without_redis_the_owners_are_found_all_the_same(
    kafka: Broker, valkey_killable: ValkeyServer, tmp_path: Path
) -> None:
    """Redis is killed, then a partition moves: only the group can tell where to."""
    stage = await Stage.make(kafka, tmp_path, partitions=6, valkey=valkey_killable.url, **SESSION)
    maker = Maker(32)
    async with three(stage) as workers:
        events = maker.new(60)
        await stage.publish(events)
        for worker in workers:
            await found_by(worker, events, stage)
        valkey_killable.kill()
        await workers[0].stop()
        for worker in workers[1:]:
            await until_owned(worker, 3)
        for worker in workers[1:]:
            await found_by(worker, events, stage)


async def test_a_worker_that_is_killed_or_stopped_is_named_until_another_has_its_partitions(
    kafka: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    stage = await Stage.make(kafka, tmp_path, partitions=6, valkey=valkey.url, search__peer_timeout_s=0.5, **SESSION)
    maker = Maker(33)
    async with three(stage) as workers:
        events = maker.new(60)
        await stage.publish(events)
        asked, stopped, killed = workers
        await found_by(asked, events, stage)
        lost = (await stopped.get("/v1/stats")).json()["partitions_owned"]
        stopped.pause()
        answer = await asked.search(vector=events[0].embedding.tolist(), k=60)
        assert {each["partition"]: each["reason"] for each in answer["incomplete"]} == dict.fromkeys(
            lost, "worker_timeout"
        )
        assert answer["took_ms"] >= 500
        stopped.resume()
        await found_by(asked, events, stage)
        lost = (await killed.get("/v1/stats")).json()["partitions_owned"]
        killed.kill()
        answer = await asked.search(vector=events[0].embedding.tolist(), k=60)
        assert {each["partition"]: each["reason"] for each in answer["incomplete"]} == dict.fromkeys(
            lost, "worker_unreachable"
        )
        await until_owned(asked, 3)
        await found_by(asked, events, stage)


async def found_by(worker: WorkerProcess, events: list[Event], stage: Stage) -> None:
    """Wait until the worker answers completely, and with all of them."""

    async def complete() -> bool:
        answer = await worker.search(vector=events[0].embedding.tolist(), k=len(events), after=stage.token)
        if answer["complete"]:
            assert {hit["event_id"] for hit in answer["hits"]} == {event.event_id for event in events}
        return bool(answer["complete"])

    await until(complete)


async def until(met: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not await met():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
