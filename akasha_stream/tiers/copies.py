"""One segment in several tiers: which of its objects stays.

Everyone who deletes must come to the same answer from what the stores say alone, else two that each take the other's
copy for the one that stays delete both. So the copy that was *written last* stays, for it is the target of a move (of
the same second: the colder one). Which of them is read meanwhile is another question (tiling.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from akasha_stream.tiers.catalog import Catalog
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.stored_segment import StoredSegment


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object of a segment that may be deleted while `keeper` is there.

    `conflict`: the two have one key and are not the same rows, so neither may be deleted.
    """

    segment: StoredSegment
    keeper: StoredSegment
    conflict: bool


def staying(copies: Iterable[StoredSegment]) -> StoredSegment:
    """Of one key's objects the one that stays."""
    # Whole seconds: a HEAD has no more, though a listing may.
    return max(copies, key=lambda each: (int(each.modified.timestamp()), each.tier_rank))


def segments_of(catalog: Catalog, logs: Collection[LogId] | None = None) -> list[StoredSegment]:
    """Each current segment once, as the object that stays, in log order."""
    copies = _by_key(catalog, logs)
    return [
        staying(copies[segment.key])
        for log in (catalog.logs if logs is None else logs)
        for segment in catalog.current(log)
    ]


def leftovers(catalog: Catalog, logs: Collection[LogId] | None = None) -> list[Leftover]:
    """What moves have left behind, and what waits for them to be over."""
    found: list[Leftover] = []
    for each in _by_key(catalog, logs).values():
        keeper = staying(each)
        found += [Leftover(segment, keeper, not _same(segment, keeper)) for segment in each if segment is not keeper]
    return found


def _same(one: StoredSegment, other: StoredSegment) -> bool:
    """Whether they are the same rows. Of an archived object the size is all that it tells of itself."""
    if one.footer.precision != other.footer.precision:  # a worker with other settings spilled it too
        return one.footer.model_copy(update={"precision": other.footer.precision}) == other.footer
    return (one.footer, one.size) == (other.footer, other.size)


def _by_key(catalog: Catalog, logs: Collection[LogId] | None) -> dict[SegmentKey, list[StoredSegment]]:
    copies: dict[SegmentKey, list[StoredSegment]] = defaultdict(list)
    for segment in catalog.segments:
        if logs is None or segment.key.log in logs:
            copies[segment.key].append(segment)
    return copies
