"""What holds on every broker: published events are found by a search. Inherited, with the broker as `server`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from akasha_stream.embedded import Broker
from akasha_stream.events.model import Event
from akasha_stream.publish import EventPublisher
from akasha_stream.publish.delivery import merge_tokens
from tests.worker.model import Maker
from tests.worker.process import WorkerProcess
from tests.worker.stage import Stage


class PublishedEventsAreFound:
    """A subclass has a fixture `server`: its broker."""

    @pytest.fixture
    async def stage(self, server: Broker, tmp_path: Path) -> Stage:
        return await Stage.make(server, tmp_path)

    @pytest.fixture
    async def worker(self, stage: Stage) -> AsyncIterator[WorkerProcess]:
        """For tests that stop it."""
        async with stage.worker() as worker:
            yield worker

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def shared(
        cls, server: Broker, tmp_path_factory: pytest.TempPathFactory
    ) -> AsyncIterator[tuple[Stage, WorkerProcess]]:
        """A worker that runs through several tests; its log has their events one after the other."""
        stage = await Stage.make(server, tmp_path_factory.mktemp("shared"))
        async with stage.worker() as worker:
            yield stage, worker

    async def test_published_events_are_found_by_a_search(self, shared: tuple[Stage, WorkerProcess]) -> None:
        stage, worker = shared
        events = Maker(1).new(300)
        await stage.publish(events)
        for event in events[::50]:
            answer = await worker.search(vector=event.embedding.tolist(), k=1, after=stage.token)
            assert answer["complete"], answer["incomplete"]
            (hit,) = answer["hits"]
            assert (hit["source_system"], hit["event_id"]) == (event.source_system, event.event_id)
            assert hit["similarity"] == pytest.approx(1, abs=1e-5)
            assert hit["content"] == event.content

    async def test_json_bundles_are_found_too(self, shared: tuple[Stage, WorkerProcess]) -> None:
        stage, worker = shared
        events = Maker(2).new(20)
        async with EventPublisher(stage.settings, form="json") as publisher:
            token = merge_tokens(await publisher.publish_many(events))
        for event in events:
            answer = await worker.search(vector=event.embedding.tolist(), k=1, after=token)
            assert [hit["event_id"] for hit in answer["hits"]] == [event.event_id]

    async def test_an_update_replaces_and_a_delete_removes(self, shared: tuple[Stage, WorkerProcess]) -> None:
        stage, worker = shared
        first, second = Maker(3).new(2)
        await stage.publish([first, second])
        updated = replace(first, content="another text")
        await stage.publish([updated, Event.delete(second.source_system, second.event_id)])
        answer = await worker.search(vector=first.embedding.tolist(), k=10, after=stage.token)
        found = [(hit["event_id"], hit["content"]) for hit in answer["hits"]]
        assert found[0] == (first.event_id, "another text")
        assert not {first.event_id, second.event_id} & {event_id for event_id, _ in found[1:]}
        assert await worker.event(second.source_system, second.event_id) is None

    async def test_published_twice_is_found_once(self, stage: Stage, worker: WorkerProcess) -> None:
        events = Maker(4).mixed(200)
        await stage.publish(events)
        await stage.publish(events)
        await stage.until_searchable(worker)
        stats = (await worker.get("/v1/stats")).json()
        assert stats["live_rows"] == len(stage.model.rows())
        await worker.stop()
        await stage.assert_stored()

    async def test_what_was_stored_is_found_after_a_restart(self, stage: Stage, worker: WorkerProcess) -> None:
        events = Maker(5).new(100)
        await stage.publish(events)
        await stage.until_searchable(worker)
        assert await worker.stop() < 5
        assert "destroyed but it is pending" not in worker.logged()
        await worker.start()
        answer = await worker.search(vector=events[7].embedding.tolist(), k=1, after=stage.token)
        assert [hit["event_id"] for hit in answer["hits"]] == [events[7].event_id]
