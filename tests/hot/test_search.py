"""Searches over real shards, with growing, sealed and indexed segments side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from akasha_stream.hot.store import ShardStore
from akasha_stream.incarnation import Incarnation
from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest
from akasha_stream.settings import DedupeSettings, SearchSettings
from tests.hot.log import BUILT_S, Event, Log, Message, live, settings_for, vector_of

D = 64
ROWS = 900
INDEXES = ["auto", "codes", "hnsw", "exact"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardStore]:
    """Two indexed segments of 400 rows and a growing one of 100, every tenth row masked by an update or delete."""
    folder = tmp_path_factory.mktemp("search")
    settings = settings_for(
        folder, dimensions=D, seal_rows=400, build_indexes=True, dedupe=DedupeSettings(content=False)
    )
    events = [Event("rare" if i % 90 == 0 else "often", str(i), f"text {i}", vector=3 * i) for i in range(ROWS)]
    store = ShardStore(settings, "topic")
    shard = store.open(0, Incarnation())
    log = Log.of([Message(tuple(events[at : at + 8])) for at in range(0, ROWS, 8)])
    log.apply(shard)
    assert store.wait_sealed(BUILT_S)
    changes = [
        Message((Event(each.system, each.event_id, "new", vector=3 * (i + ROWS), delete=i % 20 == 0),))
        for i, each in enumerate(events)
        if i % 10 == 0
    ]
    Log.of(changes, start=log.end).apply(shard)
    yield store
    store.close_all()


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("systems", [None, ["rare"], ["often"]])
@pytest.mark.parametrize("k", [1, 10, 40])
async def test_real_shards_answer_as_brute_force_does(
    store: ShardStore, index: Any, systems: list[str] | None, k: int
) -> None:
    shard = store.shard(0)
    assert shard is not None
    rows = {key: np.frombuffer(value[2], np.float32) for key, value in live(shard).items()}
    wanted = {key: vector for key, vector in rows.items() if systems is None or key[0] in systems}
    settings = settings_for(Path("unused"), dimensions=D).model_copy(
        update={"search": SearchSettings(threads=1, candidates=400, exact_rows=100)}
    )
    engine = SearchEngine(store, settings, None)
    found = true = 0
    try:
        for number in range(0, 60, 5):
            query = vector_of(3 * number, D) + 0.1 * vector_of(30_000 + 3 * number, D)
            request = {"vector": query.tolist(), "k": k, "index": index}
            if systems is not None:
                request["filters"] = {"systems": systems}
            response = await engine.search(SearchRequest.model_validate(request))
            got = [(hit.source_system, hit.event_id) for hit in response.hits]
            assert len(got) == min(k, len(wanted))  # k rows whenever k exist
            assert set(got) <= set(wanted)  # no masked row
            order = sorted(wanted, key=lambda key: -float(wanted[key] @ query) / float(np.linalg.norm(wanted[key])))
            true += len(got)
            found += len(set(got) & set(order[:k]))
    finally:
        engine.close()
    assert found / true >= (1.0 if index == "exact" else 0.97)


async def test_an_event_is_got_in_its_latest_version(store: ShardStore) -> None:
    place = store.find("often", "10")
    assert place is not None
    assert place[0].texts([place[1]])[0].content == "new"
    assert store.find("often", "20") is None
    position = place[0].texts([place[1]])[0].position
    assert store.at(0, position) is not None
    assert store.at(0, 10 << 16) is None
