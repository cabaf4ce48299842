"""Segments as the catalog knows them, without objects behind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.footer import FORMAT, Counts, SegmentFooter
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.stored_segment import StoredSegment
from tests.tiers.segments import LOG

NOW = 1_764_000_000.0


def footer_of(key: SegmentKey, systems: Mapping[str, Counts], times: tuple[int, int] | None) -> SegmentFooter:
    """`times`: the least and the greatest of the upserts, microseconds since the epoch; None: there are none."""
    counts = systems.values()
    return SegmentFooter(
        format=FORMAT,
        topic=key.log.topic,
        partition=key.log.partition,
        cluster_id=key.log.incarnation.cluster_id,
        topic_id=key.log.incarnation.topic_id,
        epoch=0,
        start=key.start,
        end=key.end,
        generation=key.generation,
        rows=sum(c.upserts + c.deletes for c in counts),
        deletes=sum(c.deletes for c in counts),
        first_created_at=None if times is None else times[0],
        last_created_at=None if times is None else times[1],
        systems=dict(systems),
        models=("m",),
        dimensions=16,
        precision="compact",
    )


def stored(
    start: int,
    end: int,
    *,
    tier: TierName = "hot",
    generation: int = 0,
    log: LogId = LOG,
    systems: Mapping[str, int] | None = None,
    newest_s: float | None = NOW,
    written_s: float = NOW,
    size: int = 100,
    etag: str = "e",
) -> StoredSegment:
    """`systems`: upserts of each; `newest_s`, `written_s`: seconds since the epoch."""
    counts = {name: Counts(upserts=n, deletes=0) for name, n in sorted((systems or {"a": 1}).items())}
    created = None if newest_s is None else int(newest_s * 1e6)
    key = SegmentKey(log, start, end, generation)
    footer = footer_of(key, counts, None if created is None else (created, created))
    modified = datetime.fromtimestamp(written_s, UTC)
    return StoredSegment(key.path(), size, etag, key, footer, tier, "STANDARD", modified)
