"""A filtered search returns k rows whenever k exist, at every selectivity, with every index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akasha_stream.search.query import SearchRequest
from akasha_stream.settings import SearchSettings
from tests.search.conftest import MakeEngine
from tests.search.memory_store import ExactIndex, MemoryStore

ROWS = 12_000
INDEXES = ["auto", "codes", "hnsw", "exact"]


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    """Rows near one direction first, so that the nearest ones never carry the rare metadata."""
    rng = np.random.default_rng(3)
    store = MemoryStore(1)
    for half in range(2):
        n = ROWS // 2
        vectors = rng.normal(size=(n, 64)).astype(np.float32)
        vectors[:, 0] += np.linspace(8, -8, n)  # row 0 is nearest to the query, the last one farthest
        ids = np.arange(half * n, half * n + n)
        # one row in `every` has it, from the far end on
        far = np.arange(n)[::-1]
        metadata = [
            "{"
            + ",".join(f'"every{e}":{"true" if f % e == 0 else "false"}' for e in (1, 2, 10, 100, 1000, 6000))
            + f',"far":{f}}}'
            for f in far.tolist()
        ]
        store.add_segment(
            0,
            vectors,
            pa.table(
                {
                    "source_system": ["s"] * n,
                    "event_id": [str(i) for i in ids],
                    "content": [""] * n,
                    "model": ["m"] * n,
                    "metadata": metadata,
                }
            ),
            np.arange(n, dtype=np.int64) * 1_000_000,
            indexed=True,
        )
    return store


QUERY = [1.0] + [0.0] * 63
SETTINGS = SearchSettings(threads=1, candidates=50, exact_rows=200)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("every", [1, 2, 10, 100, 1000, 6000])
@pytest.mark.parametrize("k", [1, 10, 40])
async def test_metadata_of_every_selectivity(
    store: MemoryStore, make_engine: MakeEngine, index: Any, every: int, k: int
) -> None:
    engine = make_engine(store, dimensions=64, search=SETTINGS)
    request = SearchRequest.model_validate(
        {"vector": QUERY, "k": k, "index": index, "filters": {"metadata": {f"every{every}": True}}}
    )
    response = await engine.search(request)
    assert len(response.hits) == min(k, ROWS // every)
    assert all(h.metadata is not None and h.metadata[f"every{every}"] is True for h in response.hits)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("most", [0, 3, 50, 5_000])
async def test_conditions_without_an_exact_prefilter(
    store: MemoryStore, make_engine: MakeEngine, index: Any, most: int
) -> None:
    engine = make_engine(store, dimensions=64, search=SETTINGS)
    request = SearchRequest.model_validate(
        {"vector": QUERY, "k": 10, "index": index, "filters": {"metadata": {"far": {"lt": most}}}}
    )
    assert len((await engine.search(request)).hits) == min(10, 2 * most)


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("threshold", [0.9, 0.7, 0.5, 0.0, -0.9])
@pytest.mark.parametrize("filters", [None, {"metadata": {"every10": True}}, {"created_after": "1970-01-01T00:50:00Z"}])
async def test_threshold(
    store: MemoryStore, make_engine: MakeEngine, index: Any, threshold: float, filters: Any
) -> None:
    engine = make_engine(store, dimensions=64, search=SETTINGS)
    values = {"vector": QUERY, "k": 100, "threshold": threshold, "filters": filters}
    response = await engine.search(SearchRequest.model_validate(values | {"index": index}))
    exact = await engine.search(SearchRequest.model_validate(values | {"index": "exact"}))
    assert len(response.hits) == len(exact.hits)
    assert all(h.similarity >= threshold for h in response.hits)


async def test_an_index_that_cannot_reach_enough_rows_is_left(make_engine: MakeEngine) -> None:
    rng = np.random.default_rng(1)
    store = MemoryStore(1)
    data = rng.normal(size=(500, 8)).astype(np.float32)
    table = pa.table(
        {
            "source_system": ["s"] * 500,
            "event_id": [str(i) for i in range(500)],
            "content": [""] * 500,
            "model": ["m"] * 500,
            "metadata": ["{}"] * 500,
        }
    )
    segment = store.add_segment(0, data, table, np.zeros(500, np.int64), indexed=True)
    segment.index = ExactIndex(data, reach=5)
    response = await make_engine(store).search(SearchRequest(vector=[1.0] * 8, k=10, index="hnsw"))
    assert len(response.hits) == 10
    assert response.plan[0].index == "codes"
    assert response.plan[0].note == "its HNSW index gave too few matching rows"


@pytest.mark.parametrize("index", INDEXES)
async def test_masked_rows_do_not_count(make_engine: MakeEngine, store: MemoryStore, index: Any) -> None:
    segment = store.segments[0]
    before = segment.live.copy()
    try:
        segment.live[:-7] = False
        store.segments[1].live[:] = False
        engine = make_engine(store, dimensions=64, search=SETTINGS)
        response = await engine.search(SearchRequest.model_validate({"vector": QUERY, "k": 10, "index": index}))
    finally:
        segment.live[:] = before
        store.segments[1].live[:] = True
    assert {h.event_id for h in response.hits} == {str(i) for i in range(ROWS // 2 - 7, ROWS // 2)}
