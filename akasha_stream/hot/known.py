"""What a shard has stored, as dedupe asks for it: hash look-ups over all its segments, confirmed in the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from akasha_stream.events.batch import EventBatch
from akasha_stream.hot.dedupe import Stored
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.hot.hashes import Hashed
from akasha_stream.hot.sealed import SealedSegment
from akasha_stream.hot.segment import Segment
from akasha_stream.search.segment import SystemCodes, is_local
from akasha_stream.tiers.spilled import SpilledSegment

NEAR_ROWS = 8_192
"""Rows whose vectors near dedupe fetches at once: 12 MB."""


class ShardKnown:
    """dedupe.Known over a shard's segments, for one batch.

    Segments are asked once for the whole batch, so that the loop over events touches only those few that have a
    candidate.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        batch: EventBatch,
        hashed: Hashed,
        codes: SystemCodes,
        *,
        at: int | None = None,
    ) -> None:
        """`at`: as it was before the event at this position; None: as it is."""
        self._at = at
        self._segments = segments
        self._batch = batch
        self._hashed = hashed
        self._codes = codes
        n = len(batch)
        # Event → the segments that may have it, the oldest first.
        self._identity: dict[int, list[int]] = {}
        self._content: dict[int, list[int]] = {}
        self._near: dict[str, dict[int, list[Stored]]] = {}
        """System → event → rows, for one threshold and one window."""
        for number, segment in enumerate(segments):
            if isinstance(segment, SealedSegment | SpilledSegment):
                if n:
                    _note(self._identity, np.flatnonzero(segment.has_identities(hashed.identity)).tolist(), number)
                    _note(self._content, np.flatnonzero(segment.has_contents(hashed.content)).tolist(), number)
            elif isinstance(segment, GrowingSegment):
                _note(self._identity, segment.known_identities(hashed.keys), number)
                _note(self._content, segment.known_contents(hashed.content), number)

    def latest(self, event: int) -> Stored | None:
        found = self._identity.get(event)
        if found is None:
            return None
        key, identity = self._hashed.keys[event], int(self._hashed.identity[event])
        for number in reversed(found):
            segment = self._segments[number]
            for row in segment.with_identity(key, identity):
                if self._lives(segment, row):
                    return Stored(number, row)
        return None

    def _lives(self, segment: Segment, row: int) -> bool:
        if self._at is None:
            return bool(segment.live[row])
        return bool(segment.positions[row] < self._at <= segment.ended[row])

    def same_content(self, event: int) -> Iterable[Stored]:
        found = self._content.get(event)
        return () if found is None else self._with_content(event, found)

    def _with_content(self, event: int, found: list[int]) -> Iterator[Stored]:
        content = int(self._hashed.content[event])
        for number in reversed(found):
            segment = self._segments[number]
            for row in segment.with_content(content):
                if self._lives(segment, row):
                    yield Stored(number, row)

    def near(self, event: int, least: float, window_us: int) -> Iterable[Stored]:
        """Of rows that are local: ingest never waits for an object store."""
        system = self._hashed.systems[event]
        if system not in self._near:
            self._near[system] = self._near_pairs(system, least, window_us)
        return self._near[system].get(event, ())

    def _near_pairs(self, system: str, least: float, window_us: int) -> dict[int, list[Stored]]:
        """Of all events of a system in the batch at once: to fetch 10,000 vectors takes an event's product 50 times."""
        pairs: dict[int, list[Stored]] = {}
        code = self._codes.find(system)
        if code is None:
            return pairs
        events = np.array([each for each, other in enumerate(self._hashed.systems) if other == system])
        at = self._batch.created_at[events]
        vectors = self._batch.embedding[events].astype(np.float64)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units = (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)  # a delete has no vector
        for number, segment in enumerate(self._segments):
            view = segment.view()
            if not is_local(view):
                continue
            live = view.live if self._at is None else (view.positions < self._at) & (view.ended >= self._at)
            in_time = (view.created_at >= at.min() - window_us) & (view.created_at <= at.max() + window_us)
            found = np.flatnonzero(live & (view.systems == code) & in_time)
            for start in range(0, len(found), NEAR_ROWS):
                rows = found[start : start + NEAR_ROWS]
                cosines = (view.vectors(rows) @ units.T) * view.inverse_norms[rows, np.newaxis]
                which, whose = np.nonzero(cosines >= least)
                within = np.abs(view.created_at[rows[which]] - at[whose]) <= window_us
                for row, each in zip(rows[which[within]].tolist(), events[whose[within]].tolist(), strict=True):
                    pairs.setdefault(each, []).append(Stored(number, row))
        return pairs

    def payload_hash(self, row: Stored) -> int:
        return int(self._segments[row.segment].payload_hashes[row.row])

    def created_at(self, row: Stored) -> int:
        return int(self._segments[row.segment].created_at[row.row])

    def content(self, row: Stored) -> str | None:
        return self._segments[row.segment].content(row.row)

    def vector(self, row: Stored) -> NDArray[np.float32]:
        view = self._segments[row.segment].view()
        assert is_local(view)  # see near()
        vector: NDArray[np.float32] = view.vectors(np.array([row.row]))[0]
        return vector

    def source_system(self, row: Stored) -> str:
        return self._codes.name(int(self._segments[row.segment].systems[row.row]))


def _note(found: dict[int, list[int]], hits: Iterable[int], number: int) -> None:
    for event in hits:
        found.setdefault(event, []).append(number)
