"""Which shards are open while assignments follow each other."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from faust.types import TP

from akasha_stream.hot.shard import Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from akasha_stream.stream.assignment import Assignment

TOPIC = "events"


class WithoutBroker(Assignment):
    async def incarnation(self) -> Incarnation:
        return Incarnation()

    async def _beginnings(self, partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)

    async def _ends(self, partitions: list[int]) -> dict[int, int]:
        return dict.fromkeys(partitions, 0)


class Slow(ShardStore):
    """Opens partition 1 when it is told to."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, TOPIC)
        self.asked, self.may, self.done = threading.Event(), threading.Event(), threading.Event()

    def open(self, partition: int, incarnation: Incarnation, beginning: int = 0) -> Shard:
        if partition != 1:
            return super().open(partition, incarnation, beginning)
        self.asked.set()
        assert self.may.wait(60)
        try:
            return super().open(partition, incarnation, beginning)
        finally:
            self.done.set()


@pytest.mark.parametrize("left", [{0}, set()], ids=["keeps another", "keeps none"])
async def test_a_shard_that_is_opened_when_its_partition_is_gone_already_is_closed(
    tmp_path: Path, left: set[int]
) -> None:
    """A rebalance cuts an assignment short while a thread opens a shard; the next assignment lacks that partition."""
    settings = Settings.load(
        overrides={"hot.data_dir": str(tmp_path), "hot.build_indexes": False, "topics.embeddings": TOPIC}
    )
    store = Slow(settings)
    assignment = WithoutBroker(settings, store, on_opened=lambda shard: None, on_closed=lambda partition: None)
    try:
        first = asyncio.create_task(assignment.start_offsets({TP(TOPIC, 0), TP(TOPIC, 1)}, "member"))
        assert await asyncio.to_thread(store.asked.wait, 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(assignment.start_offsets({TP(TOPIC, each) for each in left}, "member"))
        # Where it doesn't wait for the thread it ends now, and finds the shard open later.
        await asyncio.wait([second], timeout=0.5)
        store.may.set()
        assert await second == {TP(TOPIC, each): 0 for each in left}
        await asyncio.to_thread(store.done.wait, 60)
        assert store.owned() == sorted(left)
    finally:
        store.may.set()
        await assignment.stop()
        store.close_all()
