"""Ranking candidates of all segments into the best k events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from akasha_stream.search.candidates import Considered, Segment
from akasha_stream.search.remote import RemoteReads
from akasha_stream.search.segment import StoredRow, is_local, is_remote

_CHUNK_MORE = 4  # rows taken besides the k that are still needed, so that one dropped row costs no round


@dataclass(frozen=True, slots=True)
class Ranked:
    segment: int
    """Place in the list of segments."""
    row: int
    similarity: float
    stored: StoredRow
    appended_at: int
    """When the log took it, microseconds since the epoch."""
    needs_restore: bool
    """Its similarity is an estimate, or its texts are missing, until its object is restored."""


def best(
    segments: Sequence[Segment],
    considered: Sequence[Considered],
    k: int,
    reads: RemoteReads,
    *,
    threshold: float | None = None,
    exclude: tuple[str, str] | None = None,
    confirm: Callable[[str], bool] | None = None,
) -> list[Ranked]:
    """The k best events, by (similarity descending, source_system, event_id).

    An identity that two segments hold for a moment (its new row is visible, its old one not masked
    yet) counts once, with its higher position; one that two partitions hold, with the later.
    `confirm` is asked with a row's metadata.
    Fewer than k come back only when no candidate is left. Rows whose texts can't be read are left out, and noted in
    `reads`; those of an archived object come without, unless their metadata had to be confirmed.
    """
    found: dict[tuple[str, str], Ranked] = {}
    for chunk in _in_order(considered, k + _CHUNK_MORE, threshold):
        rows = _Rows(segments, chunk, reads)
        for place in rows.confirmed(confirm):
            stored = rows.stored(place)
            if stored is None:
                continue
            identity = (stored.source_system, stored.event_id)
            if identity == exclude:
                continue
            segment, row = int(chunk.segment[place]), int(chunk.row[place])
            ranked = Ranked(
                segment,
                row,
                float(chunk.similarity[place]),
                stored,
                int(segments[segment].view.appended_at[row]),
                stored.content is None or bool(chunk.estimated[place]),
            )
            other = found.get(identity)
            if other is None or _newer(ranked, other):
                found[identity] = ranked
        if len(found) >= k:
            break
    order = sorted(found.values(), key=lambda r: (-r.similarity, r.stored.source_system, r.stored.event_id))
    return order[:k]


def _newer(one: Ranked, other: Ranked) -> bool:
    if one.stored.partition == other.stored.partition:
        return one.stored.position > other.stored.position
    return one.appended_at > other.appended_at


@dataclass(frozen=True, slots=True)
class _Chunk:
    """n candidates: (n,) each."""

    segment: NDArray[np.int64]
    row: NDArray[np.int64]
    similarity: NDArray[np.float64]
    estimated: NDArray[np.bool_]

    def __getitem__(self, places: NDArray[np.int64]) -> _Chunk:
        return _Chunk(self.segment[places], self.row[places], self.similarity[places], self.estimated[places])


def _in_order(considered: Sequence[Considered], first: int, threshold: float | None) -> Iterator[_Chunk]:
    """In falling order, in chunks that grow; equal similarities share a chunk."""
    if not considered:
        return
    left = _Chunk(
        np.repeat(np.arange(len(considered)), [len(c.rows) for c in considered]),
        np.concatenate([c.rows for c in considered]),
        np.concatenate([c.similarity for c in considered]),
        np.concatenate([np.zeros(len(c.rows), np.bool_) if c.estimated is None else c.estimated for c in considered]),
    )
    if threshold is not None:
        left = left[np.flatnonzero(left.similarity >= threshold)]
    size = first
    while n := len(left.row):
        lowest = -np.inf if size >= n else np.partition(left.similarity, n - size)[n - size]
        yield left[np.flatnonzero(left.similarity >= lowest)]
        left = left[np.flatnonzero(left.similarity < lowest)]
        size *= 4


class _Rows:
    """The stored rows of a chunk: those that are remote are fetched together."""

    def __init__(self, segments: Sequence[Segment], chunk: _Chunk, reads: RemoteReads) -> None:
        self._views = [segment.view for segment in segments]
        self._chunk = chunk
        self._reads = reads
        wanted = []
        numbers = []
        for number in np.unique(chunk.segment).tolist():
            view = self._views[number]
            if is_remote(view):
                wanted.append((view, chunk.row[chunk.segment == number]))
                numbers.append(number)
        self._bodies = dict(zip(numbers, reads.texts(wanted), strict=True))

    def confirmed(self, confirm: Callable[[str], bool] | None) -> list[int]:
        """Places in the chunk whose metadata passes."""
        chunk = self._chunk
        if confirm is None:
            return list(range(len(chunk.row)))
        passed = np.zeros(len(chunk.row), np.bool_)
        for number in np.unique(chunk.segment).tolist():
            view = self._views[number]
            places = np.flatnonzero(chunk.segment == number)
            if is_local(view):
                texts = view.metadata().take(chunk.row[places]).to_pylist()
                passed[places] = [text is not None and confirm(text) for text in texts]
            elif is_remote(view):
                bodies = [self._bodies[number].get(row) for row in chunk.row[places].tolist()]
                passed[places] = [body is not None and confirm(body.metadata) for body in bodies]
                if unknown := bodies.count(None):
                    self._reads.untested(view, unknown)
        return np.flatnonzero(passed).tolist()

    def stored(self, place: int) -> StoredRow | None:
        number, row = int(self._chunk.segment[place]), int(self._chunk.row[place])
        view = self._views[number]
        if not is_remote(view):
            return view.texts([row])[0]
        body = self._bodies[number].get(row)
        if body is not None:
            return view.stored(row, body.content, body.model, body.metadata)
        return view.stored(row, None, None, None) if self._reads.archived(view) else None
