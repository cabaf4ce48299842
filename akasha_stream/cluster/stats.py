"""What GET /v1/stats?cluster=true says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from akasha_stream.errors import OwnerUnavailable
from akasha_stream.search.engine import Stats


@dataclass(frozen=True, slots=True)
class WorkerStats:
    url: str
    stats: Stats | None
    error: str | None = None
    """Why it did not answer."""


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """Sums over the workers that answered, each with its own figures."""

    rows: int
    live_rows: int
    segments: int
    sealed_segments: int
    indexed_segments: int
    partitions_owned: list[int]
    partitions_missing: list[int]
    """Of no worker that answered."""
    partitions: int
    workers: list[WorkerStats]

    @classmethod
    def of(cls, answers: Mapping[str, Stats | OwnerUnavailable]) -> ClusterStats:
        """By URL."""
        found = [each for each in answers.values() if isinstance(each, Stats)]
        partitions = max((each.partitions for each in found), default=0)
        owned = sorted({p for each in found for p in each.partitions_owned})
        return cls(
            rows=sum(each.rows for each in found),
            live_rows=sum(each.live_rows for each in found),
            segments=sum(each.segments for each in found),
            sealed_segments=sum(each.sealed_segments for each in found),
            indexed_segments=sum(each.indexed_segments for each in found),
            partitions_owned=owned,
            partitions_missing=sorted(set(range(partitions)).difference(owned)),
            partitions=partitions,
            workers=[
                WorkerStats(url, each) if isinstance(each, Stats) else WorkerStats(url, None, str(each))
                for url, each in sorted(answers.items())
            ],
        )
