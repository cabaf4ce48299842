"""Which segments there are: a view derived from the store, in memory, that search planning asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.prune_index import PruneIndex
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.tiling import Gap, Overlap, Tiling, tile


class Catalog:
    """The segments of all tiers. Never changes: with_changes() makes the next one."""

    def __init__(self, segments: Iterable[StoredSegment] = (), after: Catalog | None = None) -> None:
        """`after`: the catalog that this one follows; what is known of the segments in both isn't worked out again."""
        self._by_place = {segment.place: segment for segment in segments}
        of: dict[LogId, list[StoredSegment]] = defaultdict(list)
        for segment in self._by_place.values():
            of[segment.key.log].append(segment)
        self._tilings: dict[LogId, Tiling[StoredSegment]] = {log: tile(each) for log, each in of.items()}
        current = [segment for tiling in self._tilings.values() for segment in tiling.current]
        self._index: PruneIndex = PruneIndex(current, None if after is None else after._index)

    def __len__(self) -> int:
        """Superseded segments included."""
        return len(self._by_place)

    @property
    def segments(self) -> tuple[StoredSegment, ...]:
        """All, superseded ones included."""
        return tuple(self._by_place.values())

    @property
    def logs(self) -> Collection[LogId]:
        return self._tilings.keys()

    @property
    def problems(self) -> tuple[Gap | Overlap, ...]:
        """Where segments leave an offset out, or hold it twice without one covering the other."""
        return tuple(problem for tiling in self._tilings.values() for problem in tiling.problems)

    @property
    def superseded(self) -> tuple[StoredSegment, ...]:
        """What a compacted segment stands for: not searched, to be deleted."""
        return tuple(segment for tiling in self._tilings.values() for segment in tiling.superseded)

    def current(self, log: LogId) -> tuple[StoredSegment, ...]:
        """The segments that count, in log order."""
        tiling = self._tilings.get(log)
        return () if tiling is None else tiling.current

    def end(self, log: LogId) -> int | None:
        """The offset after the last one that is spilled; None: nothing is. Gaps before it are `problems`."""
        tiling = self._tilings.get(log)
        return None if tiling is None else tiling.end

    def find(self, key: SegmentKey) -> StoredSegment | None:
        """The segment under a key, where it is current."""
        return next((segment for segment in self.current(key.log) if segment.key == key), None)

    def with_changes(
        self, added: Iterable[StoredSegment] = (), removed: Iterable[tuple[TierName, str]] = ()
    ) -> Catalog:
        """`removed`: their `place`; those that are not there are passed over."""
        gone = set(removed)
        kept = (segment for segment in self._by_place.values() if segment.place not in gone)
        return Catalog((*kept, *added), after=self)

    def prune(
        self, systems: Collection[str] | None = None, since: int | None = None, until: int | None = None
    ) -> list[StoredSegment]:
        """Current segments that may have rows of these systems (None: all) with since <= created_at < until.

        Times in microseconds since the epoch. What is left out holds no *result*; it may hold the newer version or the
        delete that masks a row of another segment. Masks are kept elsewhere, so a search that goes by this list alone
        would return old versions.
        """
        index = self._index
        return [index.segments[at] for at in index.matching(systems, since, until).tolist()]
