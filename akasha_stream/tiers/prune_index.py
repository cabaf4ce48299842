"""Which segments may answer a search, by source system and time, out of arrays: 10,000 segments in 2 ms."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from akasha_stream.tiers.stored_segment import StoredSegment

_NEVER = np.iinfo(np.int64)


class PruneIndex:
    """Times as arrays; per system the places (in `segments`) of those that have upserts of it.

    Walking through all segments' systems takes 100 ms for 10,000 segments of 75 systems, so what was worked out for a
    segment is handed on to the index that follows.
    """

    def __init__(self, segments: Sequence[StoredSegment], after: PruneIndex | None = None) -> None:
        self.segments = segments
        n = len(segments)
        firsts = (s.footer.first_created_at for s in segments)
        lasts = (s.footer.last_created_at for s in segments)
        self._first = np.fromiter((_NEVER.max if at is None else at for at in firsts), np.int64, n)
        self._last = np.fromiter((_NEVER.min if at is None else at for at in lasts), np.int64, n)
        # Shared with the index before: a code once given stays.
        self._codes: dict[str, int] = {} if after is None else after._codes
        known = {} if after is None else after._systems_of
        # By object: an index holds its segments, so no other object has one's id while the next index is made.
        self._systems_of: dict[int, NDArray[np.int32]] = {
            id(s): known[id(s)] if id(s) in known else self._systems(s) for s in segments
        }
        self._set_places()

    def _systems(self, segment: StoredSegment) -> NDArray[np.int32]:
        """Codes of the systems that it has upserts of."""
        codes = self._codes
        systems = segment.footer.systems.items()
        return np.array([codes.setdefault(name, len(codes)) for name, c in systems if c.upserts], np.int32)

    def _set_places(self) -> None:
        each = list(self._systems_of.values())
        codes = np.concatenate(each) if each else np.empty(0, np.int32)
        lengths = np.fromiter(map(len, each), np.int64, len(each))
        order = np.argsort(codes, kind="stable")
        self._places = np.repeat(np.arange(len(each), dtype=np.int32), lengths)[order]
        self._starts = np.searchsorted(codes[order], np.arange(len(self._codes) + 1))

    def _having(self, system: str) -> NDArray[np.int32]:
        code = self._codes.get(system)
        if code is None or code + 1 >= len(self._starts):  # unknown, or of a later index
            return self._places[:0]
        return self._places[self._starts[code] : self._starts[code + 1]]

    def matching(self, systems: Collection[str] | None, since: int | None, until: int | None) -> NDArray[np.int64]:
        """Places, ascending, of segments that may have upserts of these systems with since <= created_at < until."""
        wanted = np.ones(len(self.segments), np.bool_)
        if systems is not None:
            wanted[:] = False
            for system in systems:
                wanted[self._having(system)] = True
        if since is not None:
            wanted &= self._last >= since
        if until is not None:
            wanted &= self._first < until
        if since is not None or until is not None:
            wanted &= self._first <= self._last  # not those without an upsert
        return np.flatnonzero(wanted)
