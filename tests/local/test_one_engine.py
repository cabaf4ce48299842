"""VectorEmbeddingStorage and the stream share one storage: found both ways, one identity, the later write wins."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from akasha_stream.embedded import Broker
from akasha_stream.errors import ShardLocked
from akasha_stream.events.model import Event
from akasha_stream.local.access import open_access
from akasha_stream.publish.delivery import Delivery, merge_tokens
from akasha_stream.storage import VectorEmbeddingStorage
from tests.behaviours.embeddings import vector
from tests.worker.stage import Stage

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SYSTEMS = 5


@pytest.fixture
async def stage(kafka: Broker, tmp_path: Path) -> Stage:
    return await Stage.make(kafka, tmp_path)


def upsert(system: str, event_id: str, content: str) -> Event:
    return Event(event_id, system, content, np.array(vector(hash(event_id) % 1000), np.float32))


async def found_by(storage: VectorEmbeddingStorage) -> list[tuple[str, str, str]]:
    """(system, id, content) of all that it finds."""
    found = await storage.search_similar(vector(0), limit=1000, threshold=-1.0)
    return sorted((each["source_system"], each["id"], each["content"]) for each in found)


async def test_with_a_worker_each_finds_what_the_other_stores(stage: Stage) -> None:
    async with stage.worker() as worker, VectorEmbeddingStorage(settings=stage.settings) as storage:
        await storage.store_embedding("stored", "by the storage", vector(1), "system-1")
        answer = await worker.search(vector=vector(1), k=1)
        assert [(hit["event_id"], hit["content"]) for hit in answer["hits"]] == [("stored", "by the storage")]
        await stage.publish([upsert("system-2", "published", "through Kafka")])
        await stage.until_searchable(worker)
        assert await found_by(storage) == [
            ("system-1", "stored", "by the storage"),
            ("system-2", "published", "through Kafka"),
        ]
        await stage.publish([upsert("system-1", "stored", "published later")])
        await storage.store_embedding("published", "stored later", vector(2), "system-2")
        await stage.until_searchable(worker)
        assert await found_by(storage) == [
            ("system-1", "stored", "published later"),
            ("system-2", "published", "stored later"),
        ]
        await storage.delete_embedding("published", "system-2")
        assert await worker.event("system-2", "published") is None


async def test_without_a_worker_each_finds_what_the_other_stored(stage: Stage) -> None:
    async with VectorEmbeddingStorage(settings=stage.settings) as storage:
        await storage.store_embedding("stored", "before there was a worker", vector(1), "system-1")
    async with stage.worker() as worker:
        answer = await worker.search(vector=vector(1), k=1)
        assert [hit["event_id"] for hit in answer["hits"]] == ["stored"]
        await stage.publish([upsert("system-2", "published", "while there is one")])
        await stage.until_searchable(worker)
        await worker.stop()
        async with VectorEmbeddingStorage(settings=stage.settings) as storage:
            assert await found_by(storage) == [
                ("system-1", "stored", "before there was a worker"),
                ("system-2", "published", "while there is one"),
            ]
            await storage.store_embedding("published", "after it", vector(3), "system-2")
            await storage.delete_embedding("stored", "system-1")
            assert await found_by(storage) == [("system-2", "published", "after it")]
        await worker.start()
        stats = (await worker.get("/v1/stats")).json()
        assert stats["live_rows"] == 1
        event = await worker.event("system-2", "published")
        assert event is not None
        assert event["content"] == "after it"


@pytest.mark.parametrize("seed", range(3))
async def test_the_later_write_wins_wherever_it_was_made(stage: Stage, seed: int) -> None:
    """Writes through Kafka and to the directory, in any order, while no worker runs; and again after one has run."""
    chance = random.Random(seed)
    expected: dict[tuple[str, str], str] = {}
    versions = iter(range(10_000))
    delivered: list[Delivery] = []

    async def one(storage: VectorEmbeddingStorage) -> None:
        system, event_id = f"system-{chance.randrange(SYSTEMS)}", f"e{chance.randrange(4)}"
        content = f"version {next(versions)}"
        local, delete = chance.random() < 0.5, chance.random() < 0.3
        if local and delete:
            await storage.delete_embedding(event_id, system)
        elif local:
            await storage.store_embedding(event_id, content, vector(1), system)
        else:
            change = Event.delete(system, event_id) if delete else upsert(system, event_id, content)
            delivered.extend(await stage.publish([change]))
        if delete:
            expected.pop((system, event_id), None)
        else:
            expected[system, event_id] = content

    for _ in range(2):
        async with VectorEmbeddingStorage(settings=stage.settings) as storage:
            for _ in range(40):
                await one(storage)
        async with stage.worker() as worker:
            stage.token = merge_tokens(delivered)  # of all partitions, not of the last event's alone
            await stage.until_searchable(worker)
            answer = await worker.search(vector=vector(1), k=1000)
            found = [(hit["source_system"], hit["event_id"], hit["content"]) for hit in answer["hits"]]
            assert sorted(found) == sorted((*identity, content) for identity, content in expected.items())
            await worker.stop()
        async with VectorEmbeddingStorage(settings=stage.settings) as storage:
            assert await found_by(storage) == sorted((*identity, text) for identity, text in expected.items())


async def test_a_worker_killed_after_the_hand_over_undoes_no_later_write(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was published and the local log not removed yet: the next worker must not publish it over later writes."""
    async with VectorEmbeddingStorage(settings=stage.settings) as storage:
        for name in ("kept", "replaced", "deleted"):
            await storage.store_embedding(name, "first", vector(1), "system-1")
    worker = stage.worker()
    with monkeypatch.context() as killed:
        killed.setenv("KILL_AT", "handed over")
        with pytest.raises(AssertionError, match="ended before it was ready"):
            await worker.start()
    await stage.publish([upsert("system-1", "replaced", "second"), Event.delete("system-1", "deleted")])
    async with worker:
        await stage.until_searchable(worker)
        answer = await worker.search(vector=vector(1), k=10)
        assert sorted((hit["event_id"], hit["content"]) for hit in answer["hits"]) == [
            ("kept", "first"),
            ("replaced", "second"),
        ]
        assert [path.name for path in (stage.data / stage.topic).iterdir() if "local" in path.name] == []


async def test_a_worker_says_where_it_is_until_it_is_stopped_or_killed(stage: Stage) -> None:
    notice = stage.data / stage.topic / "worker.json"
    async with stage.worker() as worker:
        assert notice.exists()
        await worker.stop()
        assert not notice.exists()
        await worker.start()
        worker.kill()
        assert notice.exists()
        async with VectorEmbeddingStorage(settings=stage.settings) as storage:  # it opens the directory
            assert not notice.exists()
            await storage.store_embedding("a", "text", vector(1), "system-1")
            worker.launch()
            with pytest.raises(AssertionError, match="VectorEmbeddingStorage that is open"):
                await worker.ready()
        await worker.start()
        assert await worker.event("system-1", "a") is not None


async def test_a_directory_that_another_process_has_is_named(stage: Stage) -> None:
    async with VectorEmbeddingStorage(settings=stage.settings):
        with pytest.raises(ShardLocked, match="VectorEmbeddingStorage that is open"):
            await open_access(stage.settings, starting_s=0.1)


async def test_a_worker_that_starts_is_waited_for(stage: Stage) -> None:
    async with VectorEmbeddingStorage(settings=stage.settings) as storage:
        for number in range(200):
            await storage.store_embedding(f"e{number}", f"text {number}", vector(number), f"system-{number % 5}")
    worker = stage.worker()
    worker.launch()
    started = datetime.now(UTC)
    try:
        while not (stage.data / stage.topic / "worker.json").exists():
            assert (datetime.now(UTC) - started).seconds < 30, worker.logged()
        async with VectorEmbeddingStorage(settings=stage.settings) as storage:
            assert len(await found_by(storage)) == 200
    finally:
        worker.kill()
