"""A HotStore with growing, sealed and spilled segments, made of one history of changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from akasha_stream.hot.hashes import identity_hash, identity_key
from akasha_stream.hot.position import MAX_OFFSET, pack
from akasha_stream.search.segment import Bodies, SegmentView, Span, SystemCodes
from akasha_stream.storage.settings import TierName
from akasha_stream.tiers.rounding import Precision
from akasha_stream.tiers.segment_reader import read_whole
from akasha_stream.tiers.segment_store import SegmentStore
from akasha_stream.tiers.spilled import SpilledSegment, supersede
from akasha_stream.tiers.stub import make_stub
from tests.search.memory_store import MemorySegment
from tests.tiers.segments import DIMENSIONS, LOG, Change
from tests.tiers.segments import spilled as written


@dataclass
class TieredStore:
    """Of one partition. Spill the oldest changes first, then `keep` the others."""

    segments: SegmentStore
    bodies: Bodies
    codes: SystemCodes = field(default_factory=SystemCodes)
    spilled: list[SpilledSegment] = field(default_factory=list)
    local: list[MemorySegment] = field(default_factory=list)

    async def spill(
        self, changes: Sequence[Change], start: int, end: int, tier: TierName, precision: Precision = "float32"
    ) -> SpilledSegment:
        segment = written(changes, start, end, precision)
        stored = await self.segments.put(segment, tier)
        _, changelog = read_whole(segment.data, stored.path)
        self.spilled.append(SpilledSegment(make_stub(segment.footer, changelog), stored, self.codes, self.bodies))
        supersede(self.spilled)
        return self.spilled[-1]

    def keep(self, changes: Sequence[Change], *, sealed: bool) -> None:
        """A local segment; what its changes replace and delete is masked, as the shard does it."""
        upserts = [change for change in changes if change.content is not None]
        data = np.array([change.vector for change in upserts], np.float32).reshape(len(upserts), DIMENSIONS)
        columns: dict[str, Any] = {
            "source_system": [c.system for c in upserts],
            "event_id": [c.event_id for c in upserts],
            "content": [c.content for c in upserts],
            "model": [c.model for c in upserts],
            "metadata": pa.array([c.metadata for c in upserts], pa.string()),
        }
        latest = {(change.system, change.event_id): change for change in changes}
        self._mask(latest)
        self.local.append(
            MemorySegment(
                name=f"local-{len(self.local)}",
                partition=LOG.partition,
                rows=len(upserts),
                codes=np.packbits(data > 0, axis=1),
                live=np.array([latest[c.system, c.event_id] is c for c in upserts], np.bool_),
                systems=np.array([self.codes.code(c.system) for c in upserts], np.int32),
                created_at=np.array([c.created_at for c in upserts], np.int64),
                appended_at=np.array([c.created_at for c in upserts], np.int64),
                inverse_norms=(1 / np.linalg.norm(data, axis=1)).astype(np.float32),
                index=None,
                sealed=sealed,
                data=data,
                table=pa.table(columns),
                first_position=0,
                positions=np.array([c.position for c in upserts], np.int64),
            )
        )

    def _mask(self, changed: dict[tuple[str, str], Change]) -> None:
        for system, event_id in changed:
            key = identity_key(system, event_id)
            for segment in self.spilled:
                for row in segment.with_identity(key, identity_hash(key)):
                    segment.live[row] = False
            for local in self.local:
                names = zip(local.table["source_system"].to_pylist(), local.table["event_id"].to_pylist(), strict=True)
                local.live &= np.array([name != (system, event_id) for name in names], np.bool_)

    def views(self, partitions: Sequence[int] | None = None) -> list[SegmentView]:
        views: list[SegmentView] = [*(segment.view() for segment in self.spilled), *self.local]
        return [view for view in views if view.rows]

    def owned(self) -> list[int]:
        return [0]

    def partitions(self) -> int:
        return 1

    def spans(self) -> dict[int, Span]:
        return {0: Span(0, pack(0, MAX_OFFSET, 0))}

    def forgets(self) -> dict[int, list[int]]:
        return {}

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        key = identity_key(source_system, event_id)
        for segment in self.spilled:
            for row in segment.with_identity(key, identity_hash(key)):
                if segment.live[row]:
                    return segment.view(), row
        for local in self.local:
            for row, text in enumerate(local.texts(range(local.rows))):
                if local.live[row] and (text.source_system, text.event_id) == (source_system, event_id):
                    return local, row
        return None

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        return None  # of one partition, nobody asks

    def at(self, partition: int, position: int) -> tuple[SegmentView, int] | None:
        return None

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        return True
