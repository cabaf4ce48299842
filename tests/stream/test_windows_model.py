"""Windows against a plain model, one event at a time, in Python's own arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from akasha_stream.stream.digests import Digest, WindowCounts
from akasha_stream.stream.unitsums import quantised_units, unit_sums
from akasha_stream.stream.windows import Outcome, WindowRow, Windows

D = 8
PARTITION = 1


@dataclass(frozen=True)
class Event:
    system: str
    created_at: int
    outcome: Outcome
    vector: tuple[float, ...]


@dataclass
class ModelWindow:
    counts: list[int] = field(default_factory=lambda: [0] * len(Outcome))
    created: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=lambda: [0] * D)


def unit(vector: Sequence[float]) -> list[int]:
    _, exponent = math.frexp(max(map(abs, vector)))
    whole = [round(math.ldexp(x, 20 - exponent)) for x in vector]
    length = math.sqrt(sum(x * x for x in whole))
    return [round(x * (2.0**30 / length)) for x in whole]


class Model:
    def __init__(self, size: int, lateness: int) -> None:
        self.size, self.lateness = size, lateness
        self.watermark: dict[str, int] = {}
        self.late: dict[str, int] = {}
        self.open: dict[str, dict[int, ModelWindow]] = {}
        self.closed: list[Digest] = []

    def event(self, event: Event, offset: int) -> None:
        system, at = event.system, event.created_at
        start = math.floor(at / self.size) * self.size
        opened = self.open.setdefault(system, {})
        watermark = self.watermark.get(system, at)
        if start + self.size + self.lateness <= watermark:
            self.late[system] = self.late.get(system, 0) + 1
        else:
            window = opened.setdefault(start, ModelWindow())
            window.counts[event.outcome] += 1
            window.created.append(at)
            window.offsets.append(offset)
            if event.outcome in {Outcome.STORED, Outcome.UPDATED}:
                window.total = [a + b for a, b in zip(window.total, unit(event.vector), strict=True)]
        self.watermark[system] = watermark = max(watermark, at)
        for due in sorted(start for start in opened if start + self.size + self.lateness <= watermark):
            self.closed.append(self.digest(system, due, opened.pop(due)))

    def digest(self, system: str, start: int, window: ModelWindow) -> Digest:
        length = math.sqrt(sum(x * x for x in window.total))
        vectors = window.counts[0] + window.counts[1]
        return Digest(
            system=system,
            window_start=start,
            window_end=start + self.size,
            partition=PARTITION,
            counts=WindowCounts(*window.counts),
            late=self.late.pop(system, 0),
            centroid=np.array([x / length for x in window.total], dtype=np.float32) if length else None,
            coherence=min(1.0, round(length / (2.0**30 * vectors), 6)) if vectors else 0.0,
            first_created_at=min(window.created),
            last_created_at=max(window.created),
            first_offset=min(window.offsets),
            last_offset=max(window.offsets),
        )


class Persisted:
    """The tables as the shard keeps them: rows by key, changed only by deltas."""

    def __init__(self) -> None:
        self.windows: dict[tuple[str, int], bytes] = {}
        self.systems: dict[str, tuple[str, int, int]] = {}
        self.digests: list[Digest] = []


def run(events: list[Event], cuts: list[int], size: int, lateness: int, restarts: bool) -> tuple[Windows, Persisted]:
    windows = Windows(size, lateness, D, partition=PARTITION)
    persisted = Persisted()
    edges = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for low, high in pairwise(edges):
        part = events[low:high]
        delta = windows.apply(
            [event.system for event in part],
            np.array([event.created_at for event in part], dtype=np.int64),
            np.array([event.outcome for event in part], dtype=np.uint8),
            np.array([event.vector for event in part], dtype=np.float32),
            np.arange(low, high, dtype=np.int64),
        )
        for key in delta.removed:
            del persisted.windows[key]
        for system, start, state in delta.windows:
            persisted.windows[system, start] = state
        for row in delta.systems:
            persisted.systems[row.system] = (row.system, row.watermark, row.late)
        persisted.digests += delta.closed
        windows.commit(delta)
        if restarts:
            windows = Windows.restore(
                size,
                lateness,
                D,
                partition=PARTITION,
                windows=[(*key, state) for key, state in persisted.windows.items()],
                systems=persisted.systems.values(),
            )
    return windows, persisted


components = st.floats(-4, 4, width=32, allow_subnormal=False)
event_lists = st.lists(
    st.builds(
        Event,
        system=st.sampled_from(["a", "b", "c"]),
        created_at=st.integers(-40, 120),
        outcome=st.sampled_from(list(Outcome)),
        vector=st.tuples(*[components] * D).filter(any),
    ),
    min_size=1,
    max_size=40,
)


@given(
    events=event_lists,
    cuts=st.lists(st.integers(0, 40), max_size=8),
    size=st.integers(1, 30),
    lateness=st.integers(0, 40),
    restarts=st.booleans(),
)
def test_any_batching_gives_the_models_digests_to_the_bit(
    events: list[Event], cuts: list[int], size: int, lateness: int, restarts: bool
) -> None:
    model = Model(size, lateness)
    for offset, event in enumerate(events):
        model.event(event, offset)
    windows, persisted = run(events, cuts, size, lateness, restarts)
    assert [digest.value() for digest in persisted.digests] == [digest.value() for digest in model.closed]
    assert windows.watermarks() == model.watermark
    rows = windows.snapshot_rows()
    assert {WindowRow(*key, state) for key, state in persisted.windows.items()} == set(rows.windows)
    assert set(persisted.systems.values()) == {tuple(row) for row in rows.systems}
    for key, window in windows.open_windows().items():
        expected = model.open[key.system].pop(key.window_start)
        assert (list(window.counts), window.total.tolist()) == (expected.counts, expected.total)
    assert not any(model.open.values())
    assert {row.system: row.late for row in rows.systems if row.late} == model.late


def vectors_of(n: int, d: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    scale = np.exp2(random.integers(-100, 100, size=(n, 1)))
    return (random.normal(size=(n, d)) * scale).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(1, 8), (700, 384), (40, 4096)])
def test_sums_are_those_of_the_rows_one_by_one(n: int, d: int) -> None:
    vectors = vectors_of(n, d, seed=n)
    alone = np.array([quantised_units(vectors[i : i + 1])[0] for i in range(n)])
    random = np.random.default_rng(1)
    for groups in (1, 3, 30):
        bounds = np.sort(np.concatenate(([0], random.integers(0, n + 1, size=groups - 1)))).astype(np.int64)
        ends = [*bounds[1:].tolist(), n]
        expected = [alone[low:high].sum(axis=0).astype(np.int64) for low, high in zip(bounds, ends, strict=True)]
        assert (unit_sums(vectors, bounds) == np.array(expected)).all()


def test_a_quantised_row_is_the_unit_vector() -> None:
    vectors = vectors_of(100, 384, seed=5)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(quantised_units(vectors) / 2.0**30, exact, atol=1e-6)


def test_no_rows_give_zeros() -> None:
    assert (unit_sums(np.empty((0, 8), dtype=np.float32), np.array([0, 0], dtype=np.int64)) == 0).all()
    assert (quantised_units(np.zeros((2, 8), dtype=np.float32)) == 0).all()
