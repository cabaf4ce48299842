"""Ranking candidates of all segments into the best k events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from akasha_stream.search.candidates import Considered, Segment
from akasha_stream.search.segment import StoredRow

_CHUNK_MORE = 4  # rows taken besides the k that are still needed, so that one dropped row costs no round


@dataclass(frozen=True, slots=True)
class Ranked:
    segment: int
    """Place in the list of segments."""
    row: int
    similarity: float
    stored: StoredRow


def best(
    segments: Sequence[Segment],
    considered: Sequence[Considered],
    k: int,
    *,
    threshold: float | None = None,
    exclude: tuple[str, str] | None = None,
    confirm: Callable[[str], bool] | None = None,
) -> list[Ranked]:
    """The k best events, by (similarity descending, source_system, event_id).

    An identity that two segments hold for a moment (its new row is visible, its old one not masked
    yet) counts once, with its higher position. `confirm` is asked with a row's metadata.
    Fewer than k come back only when no candidate is left.
    """
    found: dict[tuple[str, str], Ranked] = {}
    for segment_of, rows, similarity in _in_order(considered, k + _CHUNK_MORE, threshold):
        kept = _confirmed(segments, segment_of, rows, confirm)
        for place, stored in zip(kept.tolist(), _stored(segments, segment_of[kept], rows[kept]), strict=True):
            identity = (stored.source_system, stored.event_id)
            if identity == exclude:
                continue
            ranked = Ranked(int(segment_of[place]), int(rows[place]), float(similarity[place]), stored)
            other = found.get(identity)
            if other is None or other.stored.position < stored.position:
                found[identity] = ranked
        if len(found) >= k:
            break
    order = sorted(found.values(), key=lambda r: (-r.similarity, r.stored.source_system, r.stored.event_id))
    return order[:k]


def _in_order(
    considered: Sequence[Considered], first: int, threshold: float | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """(segment, row, similarity) in falling order, in chunks that grow; equal similarities share a chunk."""
    if not considered:
        return
    segment_of = np.repeat(np.arange(len(considered)), [len(c.rows) for c in considered])
    rows = np.concatenate([c.rows for c in considered])
    similarity = np.concatenate([c.similarity for c in considered])
    if threshold is not None:
        near = np.flatnonzero(similarity >= threshold)
        segment_of, rows, similarity = segment_of[near], rows[near], similarity[near]
    size = first
    while len(rows):
        if size >= len(rows):
            lowest = -np.inf
            pick = np.arange(len(rows))
        else:
            lowest = np.partition(similarity, len(rows) - size)[len(rows) - size]
            pick = np.flatnonzero(similarity >= lowest)
        yield segment_of[pick], rows[pick], similarity[pick]
        left = np.flatnonzero(similarity < lowest)
        segment_of, rows, similarity = segment_of[left], rows[left], similarity[left]
        size *= 4


def _confirmed(
    segments: Sequence[Segment],
    segment_of: NDArray[np.int64],
    rows: NDArray[np.int64],
    confirm: Callable[[str], bool] | None,
) -> NDArray[np.int64]:
    """Places in the chunk whose metadata passes."""
    if confirm is None:
        return np.arange(len(rows))
    passed = np.zeros(len(rows), np.bool_)
    for segment in np.unique(segment_of).tolist():
        places = np.flatnonzero(segment_of == segment)
        texts = segments[segment].view.metadata().take(rows[places]).to_pylist()
        passed[places] = [confirm(text) for text in texts]
    return np.flatnonzero(passed)


def _stored(segments: Sequence[Segment], segment_of: NDArray[np.int64], rows: NDArray[np.int64]) -> list[StoredRow]:
    """The rows' contents in the order asked for, one call a segment."""
    by_segment: dict[int, list[int]] = {}
    for place, segment in enumerate(segment_of.tolist()):
        by_segment.setdefault(segment, []).append(place)
    numbers = rows.tolist()
    result: dict[int, StoredRow] = {}
    for segment, places in by_segment.items():
        texts = segments[segment].view.texts([numbers[p] for p in places])
        result.update(zip(places, texts, strict=True))
    return [result[place] for place in range(len(numbers))]
