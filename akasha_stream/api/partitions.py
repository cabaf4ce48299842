"""What GET /v1/partitions says: how far a worker is with each partition that it owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from akasha_stream.search.segment import SegmentView, is_remote


@dataclass(frozen=True, slots=True)
class PartitionState:
    partition: int
    next_offset: int
    """Of the log: all below it is stored and searchable."""
    rows: int
    live_rows: int
    """Without those that were replaced or deleted since."""
    segments: int
    sealed_segments: int
    indexed_segments: int
    remote_segments: int
    """Spilled ones without a local copy: vectors and texts come from an object store."""
    forgetting_segments: int = 0
    """Whose local files still have rows of a source system that was forgotten."""

    @classmethod
    def of(
        cls, partition: int, next_offset: int, views: Sequence[SegmentView], *, forgetting: int = 0
    ) -> PartitionState:
        return cls(
            partition,
            next_offset,
            rows=sum(view.rows for view in views),
            live_rows=sum(int(np.count_nonzero(view.live)) for view in views),
            segments=len(views),
            sealed_segments=sum(view.sealed for view in views),
            indexed_segments=sum(view.index is not None for view in views),
            remote_segments=sum(is_remote(view) for view in views),
            forgetting_segments=forgetting,
        )


@dataclass(frozen=True, slots=True)
class Partitions:
    topic: str = ""
    partitions: list[PartitionState] = field(default_factory=list)
