"""Which segments of a log are rewritten together: no I/O.

Size-tiered, as Lucene's log merge policy is, since only neighbours may be merged: a segment of n rows is of level
⌊log n⌋ to the base `fan_in`, and `fan_in` neighbours of a level, with whatever smaller ones lie between them, become
one of the next level at least. So a row is rewritten once a level: log n times, and once more where what is merged
reaches `target_bytes`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from akasha_stream.settings import CompactionSettings
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers import archive
from akasha_stream.tiers.stored_segment import StoredSegment

type Place = tuple[TierName, str]
type Reason = Literal["overlap", "forgotten", "small", "masked", "overdue"]


@dataclass(frozen=True, slots=True)
class Waste:
    """Rows of a segment that count no more. `dropped`: replaced, deleted or expired ones."""

    dropped: int = 0
    forgotten: int = 0
    overdue: int = 0
    """Expired rows that have outlived their retention so far that they don't wait for others (retention.OVERDUE)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbours of one log in one tier, in log order, that become one segment."""

    segments: tuple[StoredSegment, ...]
    reason: Reason

    @property
    def rows(self) -> int:
        return sum(segment.footer.rows for segment in self.segments)

    @property
    def bytes(self) -> int:
        return sum(segment.size for segment in self.segments)


def plan_compaction(
    current: Sequence[StoredSegment], settings: CompactionSettings, waste: Mapping[Place, Waste] | None = None
) -> list[Group]:
    """What to rewrite of a log, in log order; a segment is in one group at most.

    `current`: Catalog.current() of the log. `waste`: by place, of those that have any. Two segments that overlap come
    of two workers that rewrote different neighbours at once; merging them is what makes them tile again.
    """
    groups: list[Group] = []
    for cluster in _overlapping(current):
        if len(cluster) > 1 and _alike(cluster):
            groups.append(Group(tuple(cluster), "overlap"))
    taken = {segment.place for group in groups for segment in group.segments}
    found = waste or {}
    for run in _runs(current, taken):
        for part in _small(run, settings):
            groups.append(Group(tuple(part), "small"))
            taken.update(segment.place for segment in part)
        for segment in run:
            reason = _alone(segment, found.get(segment.place, Waste()), settings)
            if reason is not None and segment.place not in taken:
                groups.append(Group((segment,), reason))
    return sorted(groups, key=lambda group: group.segments[0].key.start)


def archived(segment: StoredSegment) -> bool:
    return segment.storage_class in archive.ALL


def level(rows: int, fan_in: int) -> int:
    """⌊log rows⌋ to the base fan_in; 0 for an empty segment."""
    found = int(math.log(max(rows, 1), fan_in))
    # The logarithm of a power may come out just below or above it.
    return found + 1 if fan_in ** (found + 1) <= rows else found - 1 if found and fan_in**found > rows else found


def _alone(segment: StoredSegment, waste: Waste, settings: CompactionSettings) -> Reason | None:
    if archived(segment):
        return None
    if waste.forgotten:
        return "forgotten"
    if waste.overdue:
        return "overdue"
    if waste.dropped and waste.dropped >= settings.masked_share * segment.footer.rows:
        return "masked"
    return None


def _overlapping(current: Sequence[StoredSegment]) -> Iterator[list[StoredSegment]]:
    """Segments whose ranges overlap, one after another."""
    cluster: list[StoredSegment] = []
    for segment in current:
        if cluster and segment.key.start >= cluster[-1].key.end:
            yield cluster
            cluster = []
        cluster.append(segment)
    if cluster:
        yield cluster


def _runs(current: Sequence[StoredSegment], taken: set[Place]) -> Iterator[list[StoredSegment]]:
    """Stretches without a gap whose segments may be merged with each other."""
    run: list[StoredSegment] = []
    for segment in current:
        if run and (run[-1].key.end != segment.key.start or not _alike([run[-1], segment])):
            yield run
            run = []
        if segment.place in taken:
            if run:
                yield run
            run = []
            continue
        run.append(segment)
    if run:
        yield run


def _alike(segments: Sequence[StoredSegment]) -> bool:
    """Whether one segment can stand for all of them."""
    kinds = {(s.tier, s.footer.epoch, s.footer.dimensions, s.footer.precision) for s in segments}
    return len(kinds) == 1 and not any(archived(segment) for segment in segments)


def _small(run: Sequence[StoredSegment], settings: CompactionSettings) -> Iterator[list[StoredSegment]]:
    """The lowest levels first, each segment once."""
    full = settings.target_bytes / 2
    # A segment that is merged, or large enough, ends a stretch of neighbours.
    levels = [math.inf if s.size >= full else level(s.footer.rows, settings.fan_in) for s in run]
    for of in sorted({each for each in levels if each != math.inf}):
        window: list[int] = []
        for at in range(len(run)):
            if levels[at] > of:
                window = []
                continue
            if not window and levels[at] < of:
                continue
            window.append(at)
            enough = sum(levels[each] == of for each in window) >= settings.fan_in
            large = len(window) > 1 and sum(run[each].size for each in window) >= settings.target_bytes
            if enough or large:
                yield [run[each] for each in window]
                for each in window:
                    levels[each] = math.inf
                window = []
