"""From segments to rows with exact similarities: Hamming scan, HNSW or everything, then float32 rescoring."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import simsimd
from numpy.typing import NDArray

from akasha_stream.search.filters import RowFilter
from akasha_stream.search.planner import Choice, Costs, Kind
from akasha_stream.search.remote import RemoteReads
from akasha_stream.search.segment import LocalView, SegmentView, is_local, is_remote
from akasha_stream.telemetry.tracing import span

_EXACT_CHUNK = 4_096  # rows rescored at once: 6 MB at 384 dimensions
_HNSW_LEAST = 32
_HNSW_LEAST_EF = 64
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

    def rows(self) -> NDArray[np.int64]:
        """Ascending rows that may match."""
        return np.arange(self.view.rows, dtype=np.int64) if self.mask is None else np.flatnonzero(self.mask)


def narrowed(segments: Sequence[Segment], row_filter: RowFilter, reads: RemoteReads) -> list[Segment]:
    """With the metadata conditions' prefilter applied. What can't be read is left out, and noted in `reads`."""
    remote = [(s.view, s.rows()) for s in segments if is_remote(s.view)]
    possible = iter(reads.metadata_possible(remote, row_filter.metadata.possible))
    result = []
    for segment in segments:
        if is_local(segment.view):
            mask = row_filter.narrowed(segment.view, segment.mask)
        else:
            mask = np.zeros(segment.view.rows, np.bool_)
            mask[segment.rows()] = next(possible)
        result.append(Segment(segment.view, mask, segment.view.rows if mask is None else int(np.count_nonzero(mask))))
    return result


@dataclass(slots=True)
class Considered:
    """Rows of one segment whose similarity is known."""

    kind: Kind
    rows: NDArray[np.int64]
    similarity: NDArray[np.float64]
    """Cosine, rounded to 6 digits: a matrix product gives equal vectors slightly different ones by
    where they stand in the matrix, and ties must be ties."""
    complete: bool
    """Whether every matching row of the segment was looked at, those included that could not be read."""
    note: str | None = None
    estimated: NDArray[np.bool_] | None = None
    """(rows,) True where the similarity is an estimate, as the vector is archived; None: nowhere."""


class Candidates:
    """One search's candidates over its segments; `widen` brings more until there are none left."""

    def __init__(
        self,
        segments: Sequence[Segment],
        choices: Sequence[Choice],
        query: Query,
        *,
        ef: int,
        costs: Costs,
        threads: Executor,
        reads: RemoteReads,
    ) -> None:
        """`threads`: those in which several HNSW indexes are asked at once; this call's own is not among them."""
        self._reads = reads
        self._segments = segments
        self._threads = threads
        self._kinds: list[Kind] = [c.kind for c in choices]
        self._notes = [c.note for c in choices]
        self._query = query
        # The ten best of all are spread over the indexes, so each may look less far: of four, at 64 instead of 128,
        # recall is .983 (.992), and the search takes two thirds of the time.
        # Not below 64, for where the best lie together in one of them.
        self._ef = min(ef, max(_HNSW_LEAST_EF, math.ceil(ef / math.sqrt(max(1, self._kinds.count("hnsw"))))))
        self._costs = costs
        self.considered: list[Considered] = []
        self.exhausted = False

    def gather(self, wanted: int, nearest: int) -> None:
        """About the `wanted` best by code over all segments together, and `nearest` of each HNSW index.

        `exhausted` afterwards: every matching row is among them.
        """
        with span("search.scan", segments=len(self._segments)):
            picked = self._picked(wanted, nearest)
        self.considered = self._rescored(
            self._segments,
            self._kinds,
            [s.rows() if r is None else r for s, r in zip(self._segments, picked, strict=True)],
            self._notes,
        )
        self.exhausted = all(c.complete for c in self.considered)

    def _picked(self, wanted: int, nearest: int) -> list[NDArray[np.int64] | None]:
        """Rows of each segment; None: all that match."""
        picked: list[NDArray[np.int64] | None] = [None] * len(self._segments)
        indexed = [i for i, kind in enumerate(self._kinds) if kind == "hnsw"]
        # DuckDB needs some 2.5 ms for each, most of it without the GIL.
        ask = self._threads.map if len(indexed) > 1 else map
        answers = ask(lambda i: self._from_hnsw(self._segments[i], nearest), indexed)
        for i, found in zip(indexed, answers, strict=True):
            if found is None:
                self._kinds[i], self._notes[i] = "codes", "its HNSW index gave too few matching rows"
            picked[i] = found
        codes = [i for i, kind in enumerate(self._kinds) if kind == "codes"]
        if codes:
            chosen = self._by_codes([self._segments[i] for i in codes], wanted)
            for i, rows in zip(codes, chosen, strict=True):
                picked[i] = rows
        return picked

    def everything(self) -> None:
        """Every matching row: what the promise of k rows costs when the nearest ones don't do."""
        left = [i for i, c in enumerate(self.considered) if not c.complete]
        segments = [self._segments[i] for i in left]
        notes = [self._notes[i] or "too few of the nearest rows matched" for i in left]
        for i, c in zip(
            left, self._rescored(segments, ["exact"] * len(left), [s.rows() for s in segments], notes), strict=True
        ):
            self.considered[i] = c
        self.exhausted = True

    def _rescored(
        self,
        segments: Sequence[Segment],
        kinds: Sequence[Kind],
        picked: Sequence[NDArray[np.int64]],
        notes: Sequence[str | None],
    ) -> list[Considered]:
        with span("search.rescore", rows=sum(len(rows) for rows in picked)):
            # The remote ones first, all at once: the local ones are quick.
            remote = [(s.view, rows) for s, rows in zip(segments, picked, strict=True) if is_remote(s.view)]
            cosines = iter(self._reads.cosines(remote, self._query.vector, self._query.code))
            result = []
            for segment, kind, rows, note in zip(segments, kinds, picked, notes, strict=True):
                complete = len(rows) == segment.matching
                if is_local(segment.view):
                    similarity = self._similarity(segment.view, rows)
                    result.append(Considered(kind, rows, _rounded(similarity), complete, note))
                else:
                    found = next(cosines)
                    why = note if found.estimated is None else "archived: similarities are estimated from the bit codes"
                    result.append(Considered(kind, found.rows, _rounded(found.cosine), complete, why, found.estimated))
            return result

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

    def _similarity(self, view: LocalView, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        similarity = np.empty(len(rows), np.float32)
        started = perf_counter_ns()
        for start in range(0, len(rows), _EXACT_CHUNK):
            chunk = rows[start : start + _EXACT_CHUNK]
            part = similarity[start : start + len(chunk)]
            np.dot(view.vectors(chunk), self._query.vector, out=part)
            part *= view.inverse_norms[chunk]
        if len(rows) >= _MEASURABLE_ROWS // 4:
            self._costs.exact_row.observe(perf_counter_ns() - started, len(rows))
        return similarity


def _rounded(cosine: NDArray[np.float32]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.clip(cosine.astype(np.float64).round(6), -1.0, 1.0)
    return result


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
