"""From segments to rows with exact similarities: Hamming scan, HNSW or everything, then float32 rescoring."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import simsimd
from numpy.typing import NDArray

from akasha_stream.search.filters import RowFilter
from akasha_stream.search.planner import Choice, Costs, Kind
from akasha_stream.search.segment import SegmentView

_EXACT_CHUNK = 4_096  # rows rescored at once: 6 MB at 384 dimensions
_HNSW_LEAST = 32
_MEASURABLE_ROWS = 2_000  # below, the fixed cost of a call hides the cost of a row
_FAR = np.uint16(0xFFFF)

_buffers = threading.local()


@dataclass(frozen=True, slots=True)
class Query:
    vector: NDArray[np.float32]
    """(dimensions,), length 1."""
    code: NDArray[np.uint8]
    """(1, dimensions / 8)."""

    @classmethod
    def of(cls, vector: NDArray[np.float32]) -> Query:
        """Of any finite vector that is not zero."""
        # Scaled first: squares of large float32 values overflow.
        wide = vector.astype(np.float64)
        wide /= np.abs(wide).max()
        unit = (wide / np.linalg.norm(wide)).astype(np.float32)
        return cls(unit, np.packbits(unit > 0)[None])


@dataclass(frozen=True, slots=True)
class Segment:
    """A view with the state of its masks at the start of the search."""

    view: SegmentView
    mask: NDArray[np.bool_] | None
    """(rows,) True where a row may match; None: all may."""
    matching: int

    @classmethod
    def of(cls, view: SegmentView, live: NDArray[np.bool_], row_filter: RowFilter) -> Segment:
        mask = row_filter.mask(view, live)
        return cls(view, mask, view.rows if mask is None else int(np.count_nonzero(mask)))

    def narrowed(self, row_filter: RowFilter) -> Segment:
        """With the metadata conditions' prefilter applied."""
        mask = row_filter.narrowed(self.view, self.mask)
        return Segment(self.view, mask, self.view.rows if mask is None else int(np.count_nonzero(mask)))

    def rows(self) -> NDArray[np.int64]:
        """Ascending rows that may match."""
        return np.arange(self.view.rows, dtype=np.int64) if self.mask is None else np.flatnonzero(self.mask)


@dataclass(slots=True)
class Considered:
    """Rows of one segment whose similarity is known."""

    kind: Kind
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    """Cosine, rounded to 6 digits: a matrix product gives equal vectors slightly different ones by
    where they stand in the matrix, and ties must be ties."""
    note: str | None = None


class Candidates:
    """One search's candidates over its segments; `widen` brings more until there are none left."""

    def __init__(
        self, segments: Sequence[Segment], choices: Sequence[Choice], query: Query, *, ef: int, costs: Costs
    ) -> None:
        self._segments = segments
        self._kinds: list[Kind] = [c.kind for c in choices]
        self._notes = [c.note for c in choices]
        self._query = query
        self._ef = ef
        self._costs = costs
        self.considered: list[Considered] = []
        self.exhausted = False

    def gather(self, wanted: int, nearest: int) -> None:
        """About the `wanted` best by code over all segments together, and `nearest` of each HNSW index.

        `exhausted` afterwards: every matching row is among them.
        """
        picked: list[NDArray[np.int64] | None] = [None] * len(self._segments)
        for i, segment in enumerate(self._segments):
            if self._kinds[i] == "hnsw":
                found = self._from_hnsw(segment, nearest)
                if found is None:
                    self._kinds[i], self._notes[i] = "codes", "its HNSW index gave too few matching rows"
                picked[i] = found
        codes = [i for i, kind in enumerate(self._kinds) if kind == "codes"]
        if codes:
            chosen = self._by_codes([self._segments[i] for i in codes], wanted)
            for i, rows in zip(codes, chosen, strict=True):
                picked[i] = rows
        self.considered = [
            self._rescore(segment, kind, segment.rows() if rows is None else rows, note)
            for segment, kind, rows, note in zip(self._segments, self._kinds, picked, self._notes, strict=True)
        ]
        self.exhausted = all(len(c.rows) == s.matching for s, c in zip(self._segments, self.considered, strict=True))

    def everything(self) -> None:
        """Every matching row: what the promise of k rows costs when the nearest ones don't do."""
        notes = self._notes
        self.considered = [
            c
            if len(c.rows) == s.matching
            else self._rescore(s, "exact", s.rows(), note or "too few of the nearest rows matched")
            for s, c, note in zip(self._segments, self.considered, notes, strict=True)
        ]
        self.exhausted = True

    def _by_codes(self, segments: Sequence[Segment], wanted: int) -> list[NDArray[np.int64]]:
        """The rows with the `wanted` smallest Hamming distances over the segments together."""
        started = perf_counter_ns()
        # Where few rows match, only their codes are read.
        few = [s.rows() if 4 * s.matching < s.view.rows else None for s in segments]
        sizes = [s.view.rows if f is None else len(f) for s, f in zip(segments, few, strict=True)]
        total = sum(sizes)
        wide, narrow = _distance_buffers(total)
        start = 0
        for segment, rows, size in zip(segments, few, sizes, strict=True):
            if size:
                codes = segment.view.codes if rows is None else segment.view.codes[rows]
                # simsimd's own type, float64, is its fastest; it releases the GIL.
                out: Any = wide[None, start : start + size]
                simsimd.cdist(self._query.code, codes, "hamming", dtype="bin8", out=out)
            start += size
        np.copyto(narrow, wide, casting="unsafe")
        start = 0
        for segment, rows, size in zip(segments, few, sizes, strict=True):
            if rows is None and segment.mask is not None:
                np.copyto(narrow[start : start + size], _FAR, where=~segment.mask)
            start += size
        best = smallest(narrow, wanted)
        if total >= _MEASURABLE_ROWS:
            self._costs.codes_row.observe(perf_counter_ns() - started, total)
        cuts = np.searchsorted(best, np.cumsum(sizes))
        result = []
        begin = start = 0
        for rows, size, end in zip(few, sizes, cuts.tolist(), strict=True):
            local = best[begin:end] - start
            result.append(local if rows is None else rows[local])
            begin, start = end, start + size
        return result

    def _from_hnsw(self, segment: Segment, nearest: int) -> NDArray[np.int64] | None:
        """At least min(nearest, matching) matching rows, or None where the graph does not reach them."""
        index = segment.view.index
        assert index is not None
        enough = min(nearest, segment.matching)
        if not enough:
            return np.empty(0, np.int64)
        n = min(max(_HNSW_LEAST, -(-nearest * segment.view.rows // segment.matching)), segment.view.rows)
        while True:
            started = perf_counter_ns()
            found = index.nearest(self._query.vector, n, max(self._ef, n))
            self._costs.hnsw_query.observe(perf_counter_ns() - started, 1)
            # The index covers the finished segment; never trust it past the view.
            found = found[found < segment.view.rows]
            if segment.mask is not None:
                found = found[segment.mask[found]]
            if len(found) >= enough:
                return np.sort(found)
            # Past a quarter of the segment a scan of the codes is cheaper, and certain.
            if 4 * n >= segment.view.rows:
                return None
            n *= 4

    def _rescore(self, segment: Segment, kind: Kind, rows: NDArray[np.int64], note: str | None) -> Considered:
        similarity = np.empty(len(rows), np.float32)
        view = segment.view
        started = perf_counter_ns()
        for start in range(0, len(rows), _EXACT_CHUNK):
            chunk = rows[start : start + _EXACT_CHUNK]
            part = similarity[start : start + len(chunk)]
            np.dot(view.vectors(chunk), self._query.vector, out=part)
            part *= view.inverse_norms[chunk]
        if len(rows) >= _MEASURABLE_ROWS // 4:
            self._costs.exact_row.observe(perf_counter_ns() - started, len(rows))
        return Considered(kind, rows, np.clip(similarity.astype(np.float64).round(6), -1.0, 1.0), note)


def smallest(distances: NDArray[np.uint16], wanted: int) -> NDArray[np.int64]:
    """Ascending places of the `wanted` smallest distances (n,); of equal ones the first. _FAR never counts.

    np.partition of uint16 takes .02 ms per 100 k where argpartition takes .6 (.14 for float64).
    """
    if wanted < len(distances):
        kth = np.partition(distances, wanted - 1)[wanted - 1]
        if kth < _FAR:
            near = np.flatnonzero(distances <= kth)
            surplus = len(near) - wanted
            if surplus:
                # Thousands of equal codes must not all become candidates.
                tied = np.flatnonzero(distances[near] == kth)
                near = np.delete(near, tied[len(tied) - surplus :])
            return near
    return np.flatnonzero(distances < _FAR)


def _distance_buffers(n: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """This thread's buffers: fresh pages of .8 MB per search would cost more than filling them."""
    wide: NDArray[np.float64] | None = getattr(_buffers, "wide", None)
    if wide is None or len(wide) < n:
        size = max(n + n // 4, 65_536)
        _buffers.wide = wide = np.empty(size, np.float64)
        _buffers.narrow = np.empty(size, np.uint16)
    narrow: NDArray[np.uint16] = _buffers.narrow
    return wide[:n], narrow[:n]
