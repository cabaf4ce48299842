"""Whether the segments of one log cover it: each offset once, none left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from akasha_stream.tiers.keys import LogId, SegmentKey


class Keyed(Protocol):
    @property
    def key(self) -> SegmentKey: ...

    @property
    def tier_rank(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Gap:
    """No segment has the offsets [start, end), and one before and one after are there."""

    log: LogId
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.log.topic}/{self.log.partition}: no segment has the offsets [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two segments have the offsets [start, end), and neither covers the other."""

    log: LogId
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.log.topic}/{self.log.partition}: two segments have the offsets [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class Tiling[S: Keyed]:
    """`current`: in log order. `superseded`: those whose range lies in that of a current one."""

    current: tuple[S, ...]
    superseded: tuple[S, ...]
    problems: tuple[Gap | Overlap, ...]

    @property
    def end(self) -> int:
        return self.current[-1].key.end


def tile[S: Keyed](segments: Iterable[S]) -> Tiling[S]:
    """Tile segments of one log.

    A segment that covers others came of compacting them and stands in their place; until they are deleted both are
    there. Of one range, the latest generation counts, and of one object in two tiers that in the hotter one: it is
    being moved. What lies before the first segment is no gap: retention or compaction of the log took it.
    """
    current: list[S] = []
    superseded: list[S] = []
    problems: list[Gap | Overlap] = []
    # The widest first where several start together: then the ends of the current ones ascend, and the last of them
    # is the only one that can cover the next.
    for segment in sorted(segments, key=lambda s: (s.key.start, -s.key.end, -s.key.generation, s.tier_rank)):
        key = segment.key
        if not current:
            current.append(segment)
            continue
        end = current[-1].key.end
        if key.end <= end:
            superseded.append(segment)
            continue
        if key.start > end:
            problems.append(Gap(key.log, end, key.start))
        elif key.start < end:
            problems.append(Overlap(key.log, key.start, end))
        current.append(segment)
    return Tiling(tuple(current), tuple(superseded), tuple(problems))
