"""The map of the embedding space: its projection, and the sample that it draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from akasha_stream.search.embedding_map import draw, project
from tests.search.memory_store import MemoryStore, Row


def exact(vectors: NDArray[np.float32]) -> tuple[float, float]:
    """Shares of the variance along the first two principal axes, from all of them."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes: NDArray[np.float64] = np.linalg.svd(units - units.mean(axis=0), compute_uv=False)
    variances = sizes**2
    return float(variances[0] / variances.sum()), float(variances[1] / variances.sum())


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_the_plane_is_that_of_the_largest_variance(decay: float) -> None:
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(800, 96)) * decay ** np.arange(96) + 0.3).astype(np.float32)
    projection = project(vectors)
    assert projection.explained == pytest.approx(exact(vectors), rel=0.03)
    assert np.abs(projection.xy).max() == pytest.approx(1)
    spread = np.var(projection.xy, axis=0)
    assert spread[0] >= spread[1]
    assert np.asarray(np.corrcoef(projection.xy.T))[0, 1] == pytest.approx(0, abs=0.01)


def test_groups_lie_apart() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(3, 64))
    of = np.arange(300) % 3
    xy = project((centres[of] + 0.2 * rng.normal(size=(300, 64))).astype(np.float32)).xy
    middles = np.stack([xy[of == group].mean(axis=0) for group in range(3)])
    nearest = np.argmin(np.linalg.norm(xy[:, None] - middles, axis=2), axis=1)
    assert (nearest == of).mean() > 0.99


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 12), st.integers(1, 16)), elements=st.floats(-1, 1, width=32)),
)
def test_any_vectors_have_a_place(vectors: NDArray[np.float32]) -> None:
    """Few, equal, or of one dimension: finite places between -1 and 1, the same each time."""
    projection = project(vectors)
    assert projection.xy.shape == (len(vectors), 2)
    assert np.isfinite(projection.xy).all()
    assert (np.abs(projection.xy) <= 1.0001).all()
    assert 0 <= projection.explained[1] <= projection.explained[0] <= 1.0001
    np.testing.assert_array_equal(projection.xy, project(vectors).xy)


def store_of(count: int) -> MemoryStore:
    store = MemoryStore(4)
    rng = np.random.default_rng(3)
    rows = [Row(f"s{i % 5}", str(i), rng.normal(size=8).tolist(), f"content {i} " + "x" * 300) for i in range(count)]
    for at in range(0, count, 40):
        store.add(rows[at : at + 40])
    return store


def test_a_sample_is_spread_over_all_segments() -> None:
    drawn = draw(store_of(200), 50, lambda: None)
    numbers = [int(point.event_id) for point in drawn.points]
    assert len(numbers) == len(set(numbers)) == 50
    assert drawn.rows == 200
    assert all(sum(at <= n < at + 40 for n in numbers) == 10 for at in range(0, 200, 40))
    assert all(len(point.text) == 160 for point in drawn.points)


def test_few_events_are_all_there() -> None:
    assert len(draw(store_of(7), 50, lambda: None).points) == 7
    assert draw(store_of(0), 50, lambda: None).points == []


def test_expired_events_are_not_on_the_map() -> None:
    store = store_of(20)
    never, always = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    cutoffs = np.array([always if name == "s1" else never for name in store.codes.names()], np.int64)
    drawn = draw(store, 50, lambda: cutoffs)
    assert {point.source_system for point in drawn.points} == {"s0", "s2", "s3", "s4"}
