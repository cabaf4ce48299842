"""Reading row groups: out of the cache where they are there, each fetched once, whatever the cache may hold."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akasha_stream.search.query import SearchRequest, SearchResponse
from akasha_stream.tiers.bodies import SegmentBodies, vectors_batch
from akasha_stream.tiers.rounding import Precision
from akasha_stream.tiers.segment_reader import read_whole
from tests.search.test_tiers import QUERY, engine_over, local_settings, tiered
from tests.search.tiered_store import TieredStore
from tests.tiers.segments import DIMENSIONS, Change, spilled

CHANGES = [Change(n, 0, "a", str(n), f"text {n}", seed=n) for n in range(50)]


def read(response: SearchResponse) -> int:
    return sum(part.bytes_read for part in response.plan)


async def search(store: TieredStore) -> SearchResponse:
    async with engine_over(store) as engine:
        return await engine.search(SearchRequest(vector=QUERY.tolist(), k=50))


def over(store: TieredStore, bodies: SegmentBodies) -> TieredStore:
    """The same segments, with other bodies."""
    for segment in store.spilled:
        segment.bodies = bodies
    return store


async def test_what_was_fetched_is_there_after_a_restart(tmp_path: Path) -> None:
    storage = local_settings(tmp_path / "objects")
    async with tiered(storage, tmp_path / "cache") as store:
        segment = await store.spill(CHANGES, 0, 50, "warm")
        first = await search(store)
        assert read(first) > 0
        assert read(await search(store)) == 0
    (tmp_path / "objects" / "warm" / segment.stored.path).unlink()
    async with tiered(storage, tmp_path / "cache") as again:
        again.spilled, again.codes = store.spilled, store.codes
        assert isinstance(again.bodies, SegmentBodies)
        response = await search(over(again, again.bodies))
        assert (read(response), response.complete) == (0, True)
        assert [hit.model_dump() for hit in response.hits] == [hit.model_dump() for hit in first.hits]


@pytest.mark.parametrize("cache_bytes", [0, 100, 6_000])
async def test_a_cache_that_is_too_small_changes_no_answer(cache_bytes: int, tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), tmp_path / "cache", cache_bytes=cache_bytes) as store:
        for start in range(0, 50, 10):
            await store.spill(CHANGES[start : start + 10], start, start + 10, "warm")
        for _ in range(3):
            response = await search(store)
            assert response.complete
            assert {(hit.event_id, hit.content) for hit in response.hits} == {(c.event_id, c.content) for c in CHANGES}
        # An answer does not wait for the cache's files.
        assert isinstance(store.bodies, SegmentBodies)
        await asyncio.gather(*store.bodies._running)
        assert sum(path.stat().st_size for path in (tmp_path / "cache").iterdir()) <= cache_bytes


async def test_a_seeded_cache_spares_the_first_search_all_reading(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), tmp_path / "cache") as store:
        segment = await store.spill(CHANGES, 0, 50, "warm", "compact")
        written = spilled(CHANGES, 0, 50, "compact")
        assert isinstance(store.bodies, SegmentBodies)
        await asyncio.to_thread(store.bodies.seed, segment, read_whole(written.data, "it")[1])
        response = await search(store)
        assert (read(response), len(response.hits)) == (0, 50)


async def test_searches_at_the_same_time_fetch_a_row_group_once(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), tmp_path / "cache") as store:
        await store.spill(CHANGES, 0, 50, "warm")
        async with engine_over(store) as engine:
            request = SearchRequest(vector=QUERY.tolist(), k=50)
            responses = await asyncio.gather(*(engine.search(request) for _ in range(4)))
        assert sum(read(response) > 0 for response in responses) == 1
        assert all(response.complete and len(response.hits) == 50 for response in responses)


async def test_the_event_loop_may_not_wait_for_itself(tmp_path: Path) -> None:
    async with tiered(local_settings(tmp_path / "objects"), None) as store:
        segment = await store.spill(CHANGES, 0, 50, "warm")
        with pytest.raises(AssertionError, match="wait for itself"):
            segment.view().texts([0])


@pytest.mark.parametrize(
    ("precision", "scale", "kept"),
    [
        ("float32", 1.0, np.float32),
        ("float16", 1.0, np.float16),
        ("compact", 1.0, np.float16),
        ("compact", 1e-3, np.float32),
        ("compact", 1e6, np.float32),
    ],
)
def test_vectors_are_kept_as_float16_where_that_will_do(
    precision: Precision, scale: float, kept: type[np.floating]
) -> None:
    written = spilled(CHANGES, 0, 50, precision)
    _, changelog = read_whole(written.data, "it")
    at = changelog.schema.get_field_index("embedding")
    field = changelog.schema.field(at)
    vectors: list[Any] = changelog["embedding"].to_pylist()
    scaled = [[scale * value for value in vector] for vector in vectors]
    changelog = changelog.set_column(at, field, pa.chunked_array([pa.array(scaled, field.type)]))
    batch = vectors_batch(changelog, written.footer)
    assert batch.column(0).type.byte_width == DIMENSIONS * np.dtype(kept).itemsize
