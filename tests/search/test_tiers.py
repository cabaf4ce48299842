"""One search over growing, sealed, warm and cold segments."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from akasha_stream.search.engine import SearchEngine
from akasha_stream.search.query import Hit, SearchRequest
from akasha_stream.settings import Limits, SearchSettings, Settings
from akasha_stream.storage import StorageSettings, StorageTiers
from akasha_stream.storage.settings import TIERS, LocalBackend, TierName
from akasha_stream.tiers.bodies import SegmentBodies
from akasha_stream.tiers.body_cache import BodyCache
from akasha_stream.tiers.rounding import Precision
from akasha_stream.tiers.segment_store import SegmentStore
from tests.search.tiered_store import TieredStore
from tests.tiers.segments import DIMENSIONS, Change, histories, live_state

QUERY = np.random.default_rng(7).standard_normal(DIMENSIONS).astype(np.float32)
CACHE_BYTES = 1 << 20


def local_settings(root: Path) -> StorageSettings:
    backends = {tier: LocalBackend(bucket_name=tier, root=root, tier=tier, prefix="akasha/") for tier in TIERS}
    return StorageSettings(backends=backends, tiers={tier: tier for tier in TIERS})


@asynccontextmanager
async def tiered(
    storage: StorageSettings, cache: Path | None, *, cache_bytes: int = CACHE_BYTES, timeout_s: float = 10.0
) -> AsyncIterator[TieredStore]:
    async with StorageTiers(storage) as tiers:
        segments = SegmentStore(tiers)
        bodies = SegmentBodies(segments, None if cache is None else BodyCache(cache, cache_bytes), timeout_s=timeout_s)
        try:
            yield TieredStore(segments, bodies)
        finally:
            await bodies.close()


@asynccontextmanager
async def engine_over(store: TieredStore, search: SearchSettings | None = None) -> AsyncIterator[SearchEngine]:
    engine = SearchEngine(store, Settings(limits=Limits(dimensions=DIMENSIONS), search=search or SearchSettings()))
    try:
        yield engine
    finally:
        engine.close()


def brute_force(changes: Iterable[Change], k: int) -> list[tuple[str, str, str | None, float]]:
    unit = QUERY.astype(np.float64) / np.linalg.norm(QUERY.astype(np.float64))
    found = []
    for change in changes:
        vector = change.vector.astype(np.float64)
        cosine = round(float(vector @ unit / np.linalg.norm(vector)), 6)
        found.append((change.system, change.event_id, change.content, cosine))
    return sorted(found, key=lambda f: (-f[3], f[0], f[1]))[:k]


def passes(change: Change, filters: Mapping[str, Any]) -> bool:
    metadata = orjson.loads(change.metadata)
    return change.system in filters.get("systems", [change.system]) and all(
        metadata.get(key) == value for key, value in filters.get("metadata", {}).items()
    )


def assert_same_hits(hits: Sequence[Hit], expected: Sequence[tuple[str, str, str | None, float]], error: float) -> None:
    """Where similarities are as close as `error`, either order will do."""
    found = [(h.source_system, h.event_id, h.content, h.similarity) for h in hits]
    assert [f[3] for f in found] == pytest.approx([e[3] for e in expected], abs=error)
    if all(a[3] - b[3] > 2 * error for a, b in itertools.pairwise(expected)):
        assert [f[:3] for f in found] == [e[:3] for e in expected]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=histories(), data=st.data())
def test_it_finds_what_a_scan_of_the_live_rows_finds(
    changes: list[Change], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(1, 180), min_size=4, max_size=4, unique=True)))
    ranges = list(zip([0, *cuts], [*cuts, 1_000], strict=True))
    precision: Precision = data.draw(st.sampled_from(["float32", "float16"]))
    index = data.draw(st.sampled_from(["auto", "codes", "exact"]))
    filters: dict[str, Any] = data.draw(st.sampled_from([{}, {"metadata": {"k": "ü"}}, {"systems": ["a", "c"]}]))
    cached = data.draw(st.booleans())

    async def run() -> None:
        folder = tmp_path_factory.mktemp("tiers")
        async with tiered(local_settings(folder / "objects"), folder / "cache" if cached else None) as store:
            tiers: list[TierName] = ["cold", "warm", "hot"]
            for (start, end), tier in zip(ranges[:3], tiers, strict=True):
                await store.spill([c for c in changes if start <= c.offset < end], start, end, tier, precision)
            for number, (start, end) in enumerate(ranges[3:]):
                store.keep([c for c in changes if start <= c.offset < end], sealed=number == 0)
            alive = live_state(changes)
            wanted = [c for c in alive.values() if passes(c, filters)]
            async with engine_over(store) as engine:
                for _ in range(2):
                    response = await engine.search(
                        SearchRequest.model_validate(
                            {"vector": QUERY.tolist(), "k": 8, "index": index, "filters": filters}
                        )
                    )
                    assert response.complete, response.incomplete
                    assert_same_hits(response.hits, brute_force(wanted, 8), 3e-6 if precision == "float32" else 1e-3)
                if cached:
                    assert sum(part.bytes_read for part in response.plan) == 0
                for change in alive.values():
                    event = await engine.get(change.system, change.event_id, embedding=True)
                    assert (event.content, event.model) == (change.content, change.model)
                    assert event.embedding == pytest.approx(change.vector.tolist(), rel=1e-3)

    asyncio.run(run())
