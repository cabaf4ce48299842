"""The Redis tables of a partition of which the worker does not know for a while whether it is still its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from akasha_stream.embedded import ValkeyServer
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.settings import Settings
from akasha_stream.worker import Worker
from tests.hot.log import Event, Log, Message
from tests.lookups.model import until
from tests.servers.topics import unique_name

SYSTEM = "system"


@pytest.mark.valkey
async def test_the_tables_follow_when_a_partition_in_doubt_turns_out_to_be_ours(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    """The group's coordinator was away when the last batch came, and the group is as it was when it is back."""
    topic = unique_name("in-doubt")
    settings = Settings.load(
        overrides={
            "limits.dimensions": 8,
            "topics.embeddings": topic,
            "hot.data_dir": str(tmp_path),
            "hot.build_indexes": False,
            "redis.url": valkey.url,
            "redis.prefix": topic,
        }
    )
    worker = Worker(settings)
    worker.store = ShardStore(settings, topic)
    worker.store.set_partitions(1)
    worker.replays = SimpleNamespace(opened=lambda partition: None, closed=lambda partition: None)  # type: ignore[assignment]
    worker._lag = SimpleNamespace(wake=lambda: None)  # type: ignore[assignment]
    held = True
    worker._group = SimpleNamespace(holds=lambda partition: held)  # type: ignore[assignment]
    lookups = await worker._start_lookups()
    assert lookups is not None
    try:
        await worker._background("lookups", worker._lookups.run())
        shard = worker.store.open(0, Incarnation())
        worker._opened(shard)
        log = Log.of([Message((Event(SYSTEM, str(number), f"text {number}", number),)) for number in range(3)])
        for number in range(3):
            held = number != 2
            for applied in log.apply(shard, number, number + 1):
                worker._applied(applied)
        worker._mend_lookups()
        assert worker._not_offered == {0}, "in doubt, nothing goes out"
        held = True
        worker._mend_lookups()
        await until(lambda: worker._lookups.health().available and not worker._lookups.health().repairing, 60)
        assert [await lookups.position(SYSTEM, str(number)) is not None for number in range(3)] == [True] * 3
        assert worker._not_offered == set()
    finally:
        await worker.__aexit__()
        worker.store.close_all()
