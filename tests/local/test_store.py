"""A directory with shards, opened without its worker: the local log lies over them, and they stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from akasha_stream.events.model import Event
from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.local.store import LocalStore
from akasha_stream.search.segment import HotStore
from akasha_stream.settings import Settings
from tests.hot import log as hot
from tests.local.test_log import D, settings_for

IDS = [f"e{number:02d}" for number in range(20)]


def rows(store: HotStore) -> dict[str, str]:
    """id → content of the live rows, of which each identity has one at most."""
    found: dict[str, str] = {}
    for view in store.views():
        for stored in view.texts([row for row in range(view.rows) if view.live[row]]):
            assert stored.event_id not in found
            found[stored.event_id] = stored.content or ""
    return found


@contextmanager
def opened(settings: Settings) -> Iterator[LocalStore]:
    store = LocalStore(settings)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a directory in which two partitions have twenty rows, in segments of six."""
    settings = settings_for(tmp_path)
    store = ShardStore(settings, settings.topics.embeddings)
    for partition in (0, 1):
        shard = store.open(partition, Incarnation("cluster", "topic-1"))
        names = IDS[partition::2]
        hot.Log.of(hot.Message((hot.Event("s", name, f"text {name}"),)) for name in names).apply(shard)
    assert store.wait_sealed(30)
    assert any(view.sealed for view in store.views())
    store.close_all()
    return settings


def upsert(event_id: str, content: str) -> Event:
    return Event(event_id, "s", content, np.arange(1, D + 1, dtype=np.float32))


def test_local_writes_supersede_rows_of_every_segment_and_leave_the_files_alone(settings: Settings) -> None:
    stored = {name: f"text {name}" for name in IDS}
    with opened(settings) as store:
        assert rows(store) == stored
        expected = dict(stored)
        for name in ("e00", "e01", "e19", "new"):
            store.write([upsert(name, "local")])
            expected[name] = "local"
            assert rows(store) == expected
        for name in ("e02", "e18", "e01", "never"):
            store.write([Event.delete("s", name)])
            expected.pop(name, None)
            assert rows(store) == expected
            assert store.find("s", name) is None
    with opened(settings) as store:
        assert rows(store) == expected
    shards = ShardStore(settings, settings.topics.embeddings)
    for partition in (0, 1):
        shard = shards.open(partition, Incarnation())
        assert (shard.next_offset, shard.incarnation) == (10, Incarnation("cluster", "topic-1"))
    assert rows(shards) == stored
    shards.close_all()


def test_a_directory_that_can_not_be_opened_is_let_go_of(settings: Settings) -> None:
    damaged = next((settings.hot.data_dir / settings.topics.embeddings / "00001").glob("*.growing.duckdb"))
    before = damaged.read_bytes()
    damaged.write_bytes(b"\x00" * len(before))
    for _ in range(2):
        with pytest.raises(Exception, match=damaged.name), opened(settings):
            pass
    damaged.write_bytes(before)
    with opened(settings):
        pass
