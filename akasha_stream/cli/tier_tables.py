"""What `tiers list` and `tiers show` say of segments."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from akasha_stream.errors import StorageError
from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.copies import segments_of
from akasha_stream.tiers.policy import after_s, age_s
from akasha_stream.tiers.words import bytes_in_words, span_in_words
from akasha_stream.times import rfc3339

if TYPE_CHECKING:
    from akasha_stream.settings import TierPolicy
    from akasha_stream.tiers.access import AccessRecord
    from akasha_stream.tiers.segment_store import SegmentStore
    from akasha_stream.tiers.stored_segment import StoredSegment


@dataclass(slots=True)
class Group:
    """`rows`, `bytes`: those of the group; of one system the bytes are its rows' share. Times in microseconds."""

    name: str
    tier: TierName
    segments: int = 0
    rows: int = 0
    bytes: int = 0
    archived: int = 0
    first: int | None = None
    last: int | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, segment: StoredSegment, rows: int, *, archived: bool) -> None:
        footer = segment.footer
        self.segments += 1
        self.rows += rows
        self.bytes += segment.size * rows // footer.rows if footer.rows else segment.size
        self.archived += archived
        self.first = min((at for at in (self.first, footer.first_created_at) if at is not None), default=None)
        self.last = max((at for at in (self.last, footer.last_created_at) if at is not None), default=None)

    def marks(self) -> list[str]:
        return [*([f"{self.archived} archived"] if self.archived else []), *self.notes]

    def cells(self, *, with_tier: bool, counted: bool) -> tuple[str, ...]:
        """As the table's columns are; `counted`: with the number of segments."""
        return (
            self.name,
            *((self.tier,) if with_tier else ()),
            *((f"{self.segments:,}",) if counted else ()),
            f"{self.rows:,}",
            bytes_in_words(self.bytes),
            "-" if self.first is None or self.last is None else f"{_age(self.first)} – {_age(self.last)}",
            ", ".join(self.marks()),
        )

    def plain(self) -> dict[str, object]:
        """For --json."""
        return {
            "name": self.name,
            "tier": self.tier,
            "segments": self.segments,
            "rows": self.rows,
            "bytes": self.bytes,
            "archived": self.archived,
            "first_created_at": _iso(self.first),
            "last_created_at": _iso(self.last),
            "notes": self.notes,
        }


def groups(store: SegmentStore, by: str) -> list[Group]:
    """`by`: tier, system, month (of the newest event) or segment; hottest tier first, then by name."""
    found: dict[tuple[TierName, str], Group] = {}

    def group(tier: TierName, name: str) -> Group:
        return found.setdefault((tier, name), Group(name, tier))

    if by == "tier":
        for tier in store.configured:
            group(tier, tier).notes += _tier_notes(store, tier)
    copies = _copies(store)
    for segment in segments_of(store.catalog):
        archived = store.is_archived(segment)
        for name, rows in _names(segment, by):
            each = group(segment.tier, name)
            each.add(segment, rows, archived=archived)
            if by == "segment":
                also = [tier for tier in copies[segment.key.path()] if tier != segment.tier]
                each.notes += [f"an old copy in {tier}" for tier in also]
    places = {name: number for number, (_, name) in enumerate(found)} if by == "segment" else {}
    return sorted(found.values(), key=lambda each: (TIERS.index(each.tier), places.get(each.name, 0), each.name))


def _names(segment: StoredSegment, by: str) -> list[tuple[str, int]]:
    """(group, rows in it)"""
    footer = segment.footer
    match by:
        case "tier":
            return [(segment.tier, footer.rows)]
        case "system":
            return [(name, counts.upserts + counts.deletes) for name, counts in footer.systems.items()]
        case "month":
            newest = footer.last_created_at
            return [("no events" if newest is None else f"{_time(newest):%Y-%m}", footer.rows)]
        case _:
            return [(segment.key.short, footer.rows)]


def _tier_notes(store: SegmentStore, tier: TierName) -> list[str]:
    notes = []
    if tier in store.unreachable:
        notes.append("UNREACHABLE: as it was last seen")
    if damaged := sum(each == tier for each, _ in store.corrupt):
        notes.append(f"{damaged} DAMAGED")
    if unknown := sum(each == tier for each, _ in store.archived):
        notes.append(f"{unknown} archived without a stub")
    if old := sum(segment.tier == tier for segment in store.catalog.segments) - sum(
        segment.tier == tier for segment in segments_of(store.catalog)
    ):
        notes.append(f"{old} to be deleted")
    return notes


def _copies(store: SegmentStore) -> dict[str, list[TierName]]:
    found: dict[str, list[TierName]] = {}
    for segment in store.catalog.segments:
        found.setdefault(segment.key.path(), []).append(segment.tier)
    return found


async def segment_details(
    store: SegmentStore, segment: StoredSegment, access: AccessRecord, policy: TierPolicy
) -> dict[str, object]:
    """Everything about one, by stable names. What the store can't say now is said to be so."""
    place = await store.place(segment.tier)
    try:
        state: str = (await place.adapter.restore_state(place.bucket, segment.path)).status
    except StorageError as error:
        state = f"not known: {error}"
    footer, now = segment.footer, time.time()
    last = access.last(segment.key)
    return {
        "segment": segment.key.short,
        "path": segment.path,
        "tier": segment.tier,
        "provider": place.adapter.provider,
        "bucket": place.bucket,
        "storage_class": segment.storage_class,
        "state": state,
        "old_copies": [tier for tier in _copies(store)[segment.key.path()] if tier != segment.tier],
        "bytes": segment.size,
        "etag": segment.etag,
        "written": rfc3339(segment.modified),
        "topic": footer.topic,
        "partition": footer.partition,
        "start": footer.start,
        "end": footer.end,
        "generation": footer.generation,
        "rows": footer.rows,
        "deletes": footer.deletes,
        "first_created_at": _iso(footer.first_created_at),
        "last_created_at": _iso(footer.last_created_at),
        "systems": {name: each.upserts + each.deletes for name, each in footer.systems.items()},
        "models": list(footer.models),
        "precision": footer.precision,
        "searches": access.total(segment.key),
        "last_searched": None if last is None else rfc3339(datetime.fromtimestamp(last, UTC)),
        "moves": _moves(segment, now, policy),
    }


def _moves(segment: StoredSegment, now: float, policy: TierPolicy) -> list[str]:
    """When it is old enough for the colder tiers, in words."""
    age = age_s(segment, now, policy)
    found = []
    for tier in TIERS[segment.tier_rank + 1 :]:
        limit = after_s(segment, tier, policy)
        if limit == float("inf"):
            found.append(f"to {tier}: not by age")
        elif age >= limit:
            found.append(f"to {tier}: old enough ({span_in_words(age)}, limit {span_in_words(limit)})")
        else:
            found.append(f"to {tier}: in {span_in_words(limit - age)}")
    return found


def _time(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1e6, UTC)


def _iso(microseconds: int | None) -> str | None:
    return None if microseconds is None else rfc3339(_time(microseconds))


def _age(microseconds: int) -> str:
    return span_in_words(max(time.time() - microseconds / 1e6, 0))
