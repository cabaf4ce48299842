"""Whatever the data, the filters and the index: the answer is the brute-force one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import SearchRequest
from akasha_stream.settings import Limits, SearchSettings, Settings
from tests.search.brute_force import expected
from tests.search.memory_store import MemoryStore, Row

START = datetime(2026, 7, 1, tzinfo=UTC)
SYSTEMS = ["a", "b", "c/d", "ü"]

# Small whole numbers: many ties, and cosines that differ by far more than float32 can blur.
vectors = st.lists(st.integers(-1, 1), min_size=8, max_size=8).filter(any)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.5, 1.0, -2.0]),
    st.sampled_from(["", "x", "y z", 'quo"te', "back\\slash", "ü", "a:1", "\x7f", "1"]),
)
leaves = st.dictionaries(st.sampled_from(["p", "q", "k y", 'k"y', "é"]), scalars, max_size=3)
metadata = st.dictionaries(st.sampled_from(["p", "q", "n", 'k"y', "é"]), st.one_of(scalars, leaves), max_size=4)
times = st.integers(0, 20).map(lambda h: START + timedelta(hours=h, microseconds=h))
rows = st.builds(
    Row,
    source_system=st.sampled_from(SYSTEMS),
    event_id=st.integers(0, 30).map(str),
    vector=vectors,
    metadata=metadata,
    created_at=times,
)
bounds = st.one_of(st.integers(-2, 2), st.sampled_from([0.5, "x", "a"]))
conditions = st.one_of(
    scalars,
    st.fixed_dictionaries({"eq": scalars}),
    st.fixed_dictionaries({"ne": scalars}),
    st.fixed_dictionaries({"in": st.lists(scalars, min_size=1, max_size=10)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), bounds, min_size=1),
)
keys = st.sampled_from(["p", "q", "n", "n.p", "p.q", "p.k y", 'k"y', "é", "n.é", "absent"])


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if draw(st.booleans()):
        made["systems"] = draw(st.lists(st.sampled_from([*SYSTEMS, "unknown"]), min_size=1, max_size=3))
    if draw(st.integers(0, 3)) == 0:
        made["created_after"] = draw(times)
        made["created_before"] = made["created_after"] + timedelta(hours=draw(st.integers(1, 12)))
    if draw(st.booleans()):
        made["metadata"] = draw(st.dictionaries(keys, conditions, min_size=1, max_size=2))
    return made


@pytest.mark.parametrize("index", ["auto", "exact", "codes", "hnsw"])
@given(
    batches=st.lists(st.tuples(st.lists(rows, max_size=25), st.booleans()), max_size=5),
    query=vectors,
    k=st.integers(1, 12),
    threshold=st.one_of(st.none(), st.sampled_from([-0.5, 0.0, 0.3, 0.9])),
    wanted=filters(),
)
def test_search_is_the_brute_force_one(
    index: Any,
    *,
    batches: list[tuple[list[Row], bool]],
    query: list[int],
    k: int,
    threshold: float | None,
    wanted: dict[str, Any],
) -> None:
    store = MemoryStore(3)
    for batch, indexed in batches:
        store.add(batch, indexed=indexed)
    # Enough candidates for all rows: what an approximate index leaves out is another test's subject.
    engine = SearchEngine(
        store, Settings(limits=Limits(dimensions=8), search=SearchSettings(threads=1, candidates=1_000, exact_rows=3))
    )
    request = SearchRequest.model_validate(
        {"vector": query, "k": k, "threshold": threshold, "filters": wanted, "index": index}
    )
    try:
        response = asyncio.run(engine.search(request))
    finally:
        engine.close()
    everything = [row for batch, _ in batches for row in batch]
    found = [(h.source_system, h.event_id, h.similarity) for h in response.hits]
    if index == "hnsw" and found:
        # An HNSW index hands over a few nearest rows: which of the equally near ones is up to it.
        everything_near = expected(everything, query, k, threshold=threshold, filters=wanted)
        assert [s for _, _, s in found] == pytest.approx([s for _, _, s in everything_near], abs=2e-6)
        return
    reference = expected(everything, query, k, threshold=threshold, filters=wanted)
    assert [f[:2] for f in found] == [r[:2] for r in reference]
    assert [f[2] for f in found] == pytest.approx([r[2] for r in reference], abs=2e-6)
    assert response.complete
