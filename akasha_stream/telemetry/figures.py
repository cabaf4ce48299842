"""What a worker says of itself in one answer (GET /v1/worker): totals since it started, and how things stand now.

The same figures as the metrics, for a reader that asks each second and works out rates by itself.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import akasha_stream
from akasha_stream.api.health import ComponentHealth
from akasha_stream.hot.growing import GrowingSegment
from akasha_stream.search.segment import Tier
from akasha_stream.stream.window import Outcome
from akasha_stream.telemetry.recorded import Freshness
from akasha_stream.tiers.spilled import SpilledSegment

if TYPE_CHECKING:
    from akasha_stream.hot.shard import AnySegment, Shard
    from akasha_stream.hot.store import ShardStore
    from akasha_stream.telemetry.observed import Parts
    from akasha_stream.tiers.tiering import Tiering

SegmentKind = Literal["growing", "sealed", "indexed", "spilled"]


@dataclass(frozen=True, slots=True)
class Backlog:
    segments: int
    rows: int


@dataclass(frozen=True, slots=True)
class SegmentFigures:
    """A segment's place along the offset axis, and what it takes."""

    name: str
    start: int
    """Offset of its first record."""
    end: int
    """Offset after its last one."""
    kind: SegmentKind
    """sealed: finished, its index is not built yet; spilled: in the object store only."""
    tier: Tier
    """Where a search reads it; local: this worker's own files."""
    rows: int
    live_rows: int
    bytes: int | None
    """Of its files, or of its object; None where that is not known."""
    stored: bool = False
    """Whether the object store has it."""
    archived: bool = False
    """Whether its object must be restored before it can be read."""


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    partition: int
    next_offset: int
    end_offset: int | None
    """Of the log, as it was seen some seconds ago; None: not looked at yet."""
    lag_records: int | None
    lag_events: int | None
    """The records, by the mean of those that were read."""
    lag_s: float | None
    """Age of the first record not read yet."""
    rows: int
    live_rows: int
    open_windows: int
    segments: list[SegmentFigures]


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    version: str
    topic: str
    group: str
    at_ms: int
    """By its clock, as are all times here."""
    started_at_ms: int
    ready: bool
    components: dict[str, ComponentHealth]
    topic_partitions: int
    embedder: str | None
    """Model of the embedder; None: there is none, and no text can be searched for."""
    records: int
    bytes: int
    batches: int
    redacted: int
    outcomes: dict[str, int]
    """What became of events: stored, updated, deleted, duplicate_exact, duplicate_content, duplicate_near."""
    dead_letters: int
    reasons: dict[str, int]
    """Why (docs/wire-format.md) → dead letters."""
    windows_closed: int
    """Since it started: those whose digest was sent."""
    restarts: int
    freshness: Freshness | None
    """None: nothing was committed in the last minute."""
    index_backlog: Backlog
    spill_backlog: Backlog | None
    """None: there are no tiers."""
    partitions: list[PartitionFigures] = field(default_factory=list)


def worker_figures(parts: Parts, *, started_at_ms: int, embedder: str | None) -> WorkerFigures:
    """In any thread; files are looked at."""
    totals, health, sealing = parts.ingest.totals, parts.health(), parts.store.backlog()
    spilling = None if parts.tiering is None else parts.tiering.spiller.backlog()
    return WorkerFigures(
        version=akasha_stream.__version__,
        topic=parts.settings.topics.embeddings,
        group=parts.settings.ingest.group,
        at_ms=int(time.time() * 1000),
        started_at_ms=started_at_ms,
        ready=health.ready,
        components=health.components,
        topic_partitions=parts.store.partitions(),
        embedder=embedder,
        records=totals.records,
        bytes=totals.bytes,
        batches=totals.batches,
        redacted=totals.redacted,
        outcomes={outcome.name.lower(): int(totals.outcomes[outcome]) for outcome in Outcome},
        dead_letters=totals.dead_letters,
        reasons=dict(totals.reasons),
        windows_closed=parts.outlet.digests_sent,
        restarts=parts.restarts(),
        freshness=parts.durations.freshness(),
        index_backlog=Backlog(sealing.segments, sealing.rows),
        spill_backlog=None if spilling is None else Backlog(spilling.segments, spilling.rows),
        partitions=_partitions(parts),
    )


def _partitions(parts: Parts) -> list[PartitionFigures]:
    shards, lag, totals = parts.store.shards(), parts.lag, parts.ingest.totals
    behind = lag.records(shards)
    mean = totals.events / totals.records if totals.records else 1.0
    found = []
    for shard in shards:
        progress = shard.progress
        segments = [_segment(parts.store, parts.tiering, shard, each) for each in shard.segments]
        records = behind.get(shard.partition)
        age_s = lag.seconds(shard.partition, progress.next_offset, progress.last_timestamp_ms)
        found.append(
            PartitionFigures(
                shard.partition,
                next_offset=progress.next_offset,
                end_offset=lag.end(shard.partition),
                lag_records=records,
                lag_events=None if records is None else round(records * mean),
                lag_s=None if age_s is None else round(age_s, 3),
                rows=sum(each.rows for each in segments),
                live_rows=sum(each.live_rows for each in segments),
                open_windows=shard.open_windows,
                segments=segments,
            )
        )
    return found


def _segment(store: ShardStore, tiering: Tiering | None, shard: Shard, segment: AnySegment) -> SegmentFigures:
    name, rows = segment.name, segment.rows
    live = int(segment.live[:rows].sum())
    folder = store.shard_folder(shard.partition)
    if isinstance(segment, GrowingSegment):
        size = _size(name.growing(folder), name.growing(folder).with_suffix(".duckdb.wal"))
        return SegmentFigures(str(name), name.start, shard.next_offset, "growing", "local", rows, live, size)
    if isinstance(segment, SpilledSegment):
        stored = segment.stored
        archived = tiering is not None and tiering.segments.is_archived(stored)
        return SegmentFigures(
            str(name), name.start, segment.end, "spilled", stored.tier, rows, live, stored.size or None, True, archived
        )
    kind: SegmentKind = "sealed" if segment.index is None else "indexed"
    size = _size(name.sealed(folder), name.arrow(folder))
    return SegmentFigures(str(name), name.start, segment.end, kind, "local", rows, live, size, segment.spilled)


def _size(*files: Path) -> int | None:
    """Of those files that are there: sealing renames and removes them meanwhile."""
    sizes = []
    for file in files:
        with contextlib.suppress(OSError):
            sizes.append(file.stat().st_size)
    return sum(sizes) or None
