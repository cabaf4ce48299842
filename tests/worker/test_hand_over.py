"""Partitions that move: from a worker that is killed, stopped, frozen or restarted, with real processes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from akasha_stream.embedded import Broker, SeaweedServer
from akasha_stream.embedded.valkey import ValkeyServer
from akasha_stream.events.model import Event
from akasha_stream.partitioner import partition_of
from tests.servers.topics import unique_name
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage, assert_same
from tests.worker.test_any_worker import SESSION, found_by, until
from tests.worker.test_group import until_owned
from tests.worker.test_tiers import everything, segments, storage_yaml, until_spilled

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

VECTOR = [1.0] * 384


async def owned(worker: WorkerProcess) -> list[int]:
    partitions: list[int] = (await worker.get("/v1/stats")).json()["partitions_owned"]
    return partitions


async def complete(worker: WorkerProcess, stage: Stage) -> bool:
    """Whether it answers completely, with all that was published."""
    answer = await worker.search(vector=VECTOR, k=1, after=stage.token, after_timeout_s=30)
    return bool(answer["complete"])


def on_disk(stage: Stage, name: str) -> WorkerProcess:
    return stage.worker(name, hot__data_dir=str(stage.folder / name))


@pytest.fixture
async def tiered(kafka: Broker, valkey: ValkeyServer, seaweedfs: SeaweedServer, tmp_path: Path) -> Stage:
    """Small segments, which leave the worker as soon as they are spilled."""
    stage = await Stage.make(
        kafka,
        tmp_path,
        valkey=valkey.url,
        hot__seal_rows=150,
        hot__build_indexes=False,
        tiers__enabled=True,
        tiers__keep_local_s=0,
        tiers__keep_local_rows=0,
        search__max_k=10_000,
        ingest__session_timeout_s=3.0,
        ingest__heartbeat_s=0.5,
    )
    file = tmp_path / "akasha-storage.yml"
    bucket = unique_name("hand-over").lower().replace("_", "-")[:60]
    file.write_text(storage_yaml(seaweedfs.endpoint_url, seaweedfs, bucket))
    stage.variables["AKASHA_STORAGE_SETTINGS"] = str(file)
    return stage


@pytest.mark.timeout(300)
async def test_a_former_owner_answers_nothing_old_and_spills_nothing_twice(tiered: Stage) -> None:
    """Frozen for longer than its session, it comes back and is asked at once, while it takes itself for the owner."""
    maker = Maker(41)
    frozen, other = on_disk(tiered, "frozen"), on_disk(tiered, "other")
    async with frozen, other:
        await until_owned(frozen, 2)
        await until_owned(other, 2)
        for _ in range(6):
            await tiered.publish(maker.mixed(200))
        victims = maker.new(40)
        await tiered.publish(victims)
        await until(lambda: complete(other, tiered))
        frozen.pause()
        changed = [replace(event, content=f"changed {n}") for n, event in enumerate(victims[:20])]
        gone = [Event.delete(event.source_system, event.event_id) for event in victims[20:]]
        await until_owned(other, 4)
        await tiered.publish([*changed, *gone])
        for _ in range(4):
            await tiered.publish(maker.mixed(200))
        await until(lambda: complete(other, tiered))
        frozen.resume()
        # What came later may have written some of them once more.
        expected = {event_id: row.content for (_, event_id), row in tiered.model.rows().items()}
        were = {event.event_id for event in victims}
        answers = 0
        while answers < 50:
            for victim in victims[::4]:
                answer = await frozen.search(vector=victim.embedding.tolist(), k=3, fields=["content", "position"])
                # While a partition is on its way back nobody owns it, and then its owner catches up: both are said.
                said = {"ownership_lapsed", "catching_up"}
                behind = {each["partition"] for each in answer["incomplete"] if each["reason"] in said}
                for hit in answer["hits"]:
                    if hit["event_id"] in were and hit["position"]["partition"] not in behind:
                        assert hit["content"] == expected.get(hit["event_id"]), answer["incomplete"]
                event = await frozen.get(f"/v1/events/{victim.source_system}/{victim.event_id}")
                assert event.status_code in {200, 404, 503}, event.text  # 503: its partition is on the way
                if event.status_code == 200 and not event.json().get("incomplete"):
                    assert event.json()["content"] == expected.get(victim.event_id)
                answers += answer["complete"]
            await asyncio.sleep(0.05)
        await until_owned(frozen, 2)
        await until_owned(other, 2)
        for worker in (frozen, other):
            await until_spilled(worker)
            assert_same(await everything(worker, tiered), tiered.model.rows())
        await frozen.stop()
        await other.stop()
    store = await segments(tiered)
    assert store.catalog.problems == ()
    assert store.catalog.superseded == ()


@pytest.mark.timeout(300)
async def test_the_next_owner_takes_the_store_and_the_rest_from_kafka(tiered: Stage) -> None:
    """One of two is killed with its disk; the other has all, of which the dead one had spilled a part."""
    maker = Maker(42)
    killed, other = on_disk(tiered, "killed"), on_disk(tiered, "other")
    async with killed, other:
        await until_owned(killed, 2)
        await until_owned(other, 2)
        for _ in range(6):
            await tiered.publish(maker.mixed(200))
        await tiered.until_searchable(killed)
        await until_spilled(killed)
        await tiered.publish(maker.mixed(100))
        await tiered.until_searchable(killed)
        killed.kill()
        await until_owned(other, 4)
        assert_same(await everything(other, tiered), tiered.model.rows())
        answer = await other.search(vector=VECTOR, k=1)
        assert {plan["tier"] for plan in answer["plan"]} >= {"hot", "local"}
        await other.stop()


@pytest.mark.timeout(300)
async def test_a_new_owner_says_how_far_it_is_behind_until_it_has_caught_up(kafka: Broker, tmp_path: Path) -> None:
    """What it has is searched meanwhile."""
    stage = await Stage.make(
        kafka, tmp_path, partitions=4, valkey=None, ingest__fetch_bytes=65_536, ingest__batch_messages=1, **SESSION
    )
    maker = Maker(43)
    for _ in range(5):
        await stage.publish(maker.new(2_000))
    seen: list[dict[str, Any]] = []
    async with on_disk(stage, "new") as worker:

        async def caught_up() -> bool:
            answer = await worker.search(vector=VECTOR, k=1)
            seen.append(answer)
            return bool(answer["complete"])

        await until(caught_up, 120)
        behind = [each for answer in seen for each in answer["incomplete"]]
        assert {each["reason"] for each in behind} == {"catching_up"}
        assert all("to go" in each["detail"] and each["partition"] is not None for each in behind)
        assert any(answer["hits"] for answer in seen[:-1]), "what it has is searched"
        stats = (await worker.get("/v1/stats")).json()
        assert stats["live_rows"] == 10_000
        await stage.publish(maker.new(10))
        assert (await worker.search(vector=VECTOR, k=1))["complete"], "what comes later is not its arrears"


@pytest.mark.timeout(300)
async def test_a_rolling_restart_gives_each_worker_its_partitions_back(
    kafka: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """… whose files it has. What the others have stays where it is; every search finds everything in between."""
    stage = await Stage.make(kafka, tmp_path, partitions=6, valkey=valkey.url, **SESSION)
    maker = Maker(44)
    names = ("one", "two", "three")
    async with AsyncExitStack() as stack:
        workers = {name: await stack.enter_async_context(on_disk(stage, name)) for name in names}
        for worker in workers.values():
            await until_owned(worker, 2)
        events = maker.new(120)
        await stage.publish(events)
        first = {name: await owned(worker) for name, worker in workers.items()}
        for name, worker in workers.items():
            others = {other: each for other, each in workers.items() if other != name}
            await worker.stop()
            for other, each in others.items():
                await until_owned(each, 3)
                assert set(await owned(each)) >= set(first[other])
                await found_by(each, events, stage)
            await worker.start()
            await until_owned(worker, 2)
            for each in others.values():
                await until_owned(each, 2)
            assert {other: await owned(each) for other, each in workers.items()} == first
            await found_by(worker, events, stage)


@pytest.mark.timeout(300)
async def test_a_topic_that_grows_keeps_finding_what_it_had(
    kafka: Broker, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Old events stay in their partition and are found; of an event that is changed since, only the newest version."""
    stage = await Stage.make(kafka, tmp_path, partitions=2, valkey=valkey.url, **SESSION)
    maker = Maker(45, systems=20)
    first, second = on_disk(stage, "first"), on_disk(stage, "second")
    async with first, second:
        await until_owned(first, 1)
        await until_owned(second, 1)
        events = maker.new(200)
        await stage.publish(events)
        await found_by(first, events, stage)
        await grow(kafka, stage.topic, 6)

        async def shared() -> bool:
            return [len(await owned(worker)) for worker in (first, second)] == [3, 3]

        await until(shared, 90)  # clients ask for a topic's partitions every half a minute
        changed = [replace(event, content=f"changed {n}") for n, event in enumerate(events[:60])]
        moved = [event for event in changed if partition_of(event.source_system, 6) >= 2]
        assert moved
        await stage.publish(changed)
        fresh = maker.new(20)
        await stage.publish(fresh)
        for worker in (first, second):
            answer = await worker.search(vector=VECTOR, k=1_000, after=stage.token, fields=["content"])
            assert answer["complete"], answer["incomplete"]
            contents = {hit["event_id"]: hit["content"] for hit in answer["hits"]}
            assert len(answer["hits"]) == len(contents) == 220
            assert contents == {event.event_id: event.content for event in (*changed, *events[60:], *fresh)}
            for event in (moved[0], events[100]):
                found = await worker.event(event.source_system, event.event_id)
                assert found is not None
                assert found["content"] == event.content
        await stage.publish([Event.delete(moved[0].source_system, moved[0].event_id)])
        for worker in (first, second):
            answer = await worker.search(vector=moved[0].embedding.tolist(), k=1, after=stage.token)
            assert answer["hits"][0]["event_id"] != moved[0].event_id
            assert await worker.event(moved[0].source_system, moved[0].event_id) is None


async def grow(broker: Broker, topic: str, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        await admin.create_partitions({topic: NewPartitions(partitions)})
    finally:
        await admin.close()
