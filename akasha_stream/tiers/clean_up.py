"""Delete what no reader needs any more: superseded segments, states of before the last segment, stubs without one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from akasha_stream.errors import ObjectNotFound
from akasha_stream.hot.durable import passed
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.keys import LogId, SegmentKey, parse_state
from akasha_stream.tiers.stored_segment import StoredSegment

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Cleaned:
    """Paths of what was deleted (or would be), with their tier; `waiting`: superseded, within the grace time."""

    segments: list[tuple[TierName, str]] = field(default_factory=list)
    states: list[tuple[TierName, str]] = field(default_factory=list)
    stubs: list[tuple[TierName, str]] = field(default_factory=list)
    waiting: int = 0


async def clean_up(
    store: SegmentStore, logs: Collection[LogId] | None, grace_s: float, now: datetime, *, dry_run: bool = False
) -> Cleaned:
    """Call it after a load(). `logs`: None for all that the catalog has. `now` has a time zone.

    A segment goes `grace_s` seconds after the one that supersedes it was stored. Any number may do it at once, and it
    may end anywhere: what is left is deleted by the next one. Raises StorageError.
    """
    cleaned = Cleaned()
    before = now - timedelta(seconds=grace_s)
    for of in store.catalog.logs if logs is None else logs:
        await _segments(store, of, before, cleaned, dry_run=dry_run)
        await _beside(store, of, before, cleaned, dry_run=dry_run)
    return cleaned


def covering(segment: StoredSegment, current: Collection[StoredSegment]) -> StoredSegment | None:
    """The current segment that stands for a superseded one; None where it is the same object in another tier.

    Such a copy is the business of whoever moves it: it may be about to delete the other one.
    """
    for other in current:
        if other.key.start <= segment.key.start and segment.key.end <= other.key.end:
            return None if other.key == segment.key else other
    return None


async def _segments(store: SegmentStore, of: LogId, before: datetime, cleaned: Cleaned, *, dry_run: bool) -> None:
    current = store.catalog.current(of)
    # In log order: whoever reads the bucket as it is must not find a row whose replacement or delete is gone.
    superseded = [each for each in store.catalog.superseded if each.key.log == of]
    for segment in sorted(superseded, key=lambda each: (each.key.start, each.key.end, each.key.generation)):
        cover = covering(segment, current)
        if cover is None:
            continue
        if cover.modified > before:
            cleaned.waiting += 1
            continue
        if not dry_run:
            await _check(store, cover)
            await store.delete([segment])
            passed("superseded segment deleted")
        cleaned.segments.append(segment.place)


async def _check(store: SegmentStore, cover: StoredSegment) -> None:
    place = await store.place(cover.tier)
    if await place.adapter.stat(place.bucket, cover.path) is None:
        raise ObjectNotFound(f"{cover.path}: is gone since the tiers were listed; load and clean up again")


async def _beside(store: SegmentStore, of: LogId, before: datetime, cleaned: Cleaned, *, dry_run: bool) -> None:
    """States and stubs. Only where every tier could be listed: else a segment may be there that isn't known."""
    current = store.catalog.current(of)
    if not current or store.unreachable:
        return
    known = {segment.key for segment in store.catalog.segments if segment.key.log == of}
    hidden = {path.rpartition("/")[2].partition(".parquet")[0] for _, path in (*store.archived, *store.corrupt)}
    place = await store.place("hot")
    listed = [each async for each in place.adapter.list(place.bucket, of.folder(place.prefix))]
    ends = {each.path: parse_state(each.path) for each in listed}
    # A spill stores the state first: the last one that a segment came after is what a new owner starts from.
    needed = max((end for end in ends.values() if end is not None and end <= current[-1].key.end), default=0)
    for each in listed:
        end, key = ends[each.path], SegmentKey.parse_stub(each.path, place.prefix)
        old_state = end is not None and end < needed and current[-1].modified <= before
        old_stub = key is not None and key not in known and key.file not in hidden and each.modified <= before
        if not (old_state or old_stub):
            continue
        if not dry_run:
            await place.adapter.delete(place.bucket, each.path)
            passed("state or stub deleted")
        (cleaned.states if old_state else cleaned.stubs).append(("hot", each.path))
