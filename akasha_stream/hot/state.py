"""What a shard knows beside its rows: windows and counters. A fold over the log; saved where a segment begins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from akasha_stream.hot.segment_tables import SnapshotRow
from akasha_stream.settings import WindowSettings
from akasha_stream.stream.digests import Digest
from akasha_stream.stream.windows import Outcome, WindowDelta, Windows

OUTCOMES = len(Outcome)


@dataclass(slots=True)
class ShardState:
    """Windows, counters a source system (by Outcome) and digests that wait for Kafka's acknowledgement."""

    windows: Windows
    counters: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    pending: list[Digest] = field(default_factory=list)
    digests_acked: int = 0
    """Digests acknowledged since the segment began; those of its snapshot count first."""

    @classmethod
    def empty(cls, settings: WindowSettings, dimensions: int, partition: int) -> ShardState:
        return cls(
            Windows(int(settings.size_s * 1e6), int(settings.allowed_lateness_s * 1e6), dimensions, partition=partition)
        )

    @classmethod
    def restore(
        cls, rows: Iterable[SnapshotRow], settings: WindowSettings, dimensions: int, partition: int
    ) -> ShardState:
        """The state that a segment began with."""
        by_kind: dict[str, list[SnapshotRow]] = defaultdict(list)
        for row in rows:
            by_kind[row.kind].append(row)
        watermarks = {row.key: row.number for row in by_kind["late"]}
        windows = Windows.restore(
            int(settings.size_s * 1e6),
            int(settings.allowed_lateness_s * 1e6),
            dimensions,
            partition=partition,
            windows=[(row.key, row.number, row.state) for row in by_kind["window"]],
            systems=[(row.key, row.number, watermarks.get(row.key, 0)) for row in by_kind["watermark"]],
        )
        counters = {row.key: np.frombuffer(row.state, "<i8").astype(np.int64) for row in by_kind["counters"]}
        pending = [Digest.from_row((row.key, row.number, row.state)) for row in by_kind["digest"]]
        return cls(windows, counters, pending)

    def snapshot(self) -> list[SnapshotRow]:
        """What `restore` needs."""
        saved = self.windows.snapshot_rows()
        rows = [SnapshotRow("window", system, start, state) for system, start, state in saved.windows]
        for system, watermark, late in saved.systems:
            rows.append(SnapshotRow("watermark", system, watermark, b""))
            if late:
                rows.append(SnapshotRow("late", system, late, b""))
        rows += [
            SnapshotRow("counters", system, 0, counts.astype("<i8").tobytes())
            for system, counts in self.counters.items()
        ]
        rows += [SnapshotRow("digest", *digest.to_row()) for digest in self.pending]
        return rows

    def prepare(
        self,
        systems: list[str],
        created_at: NDArray[np.int64],
        outcome: NDArray[np.uint8],
        vectors: NDArray[np.float32],
        offset: NDArray[np.int64],
    ) -> WindowDelta:
        """What a batch changes in the windows; nothing changes until `commit`."""
        return self.windows.apply(systems, created_at, outcome, vectors, offset)

    def commit(
        self, delta: WindowDelta, systems: list[str], outcome: NDArray[np.uint8]
    ) -> dict[str, NDArray[np.int64]]:
        """Take a committed batch in; returns the changed counters, by system."""
        self.windows.commit(delta)
        self.pending.extend(delta.closed)
        changed: dict[str, NDArray[np.int64]] = {}
        for system, kind in zip(systems, outcome.tolist(), strict=True):
            counts = changed.get(system)
            if counts is None:
                counts = self.counters.get(system)
                if counts is None:
                    counts = self.counters[system] = np.zeros(OUTCOMES, np.int64)
                changed[system] = counts
            counts[kind] += 1
        return changed

    def acknowledged(self, digests: int) -> None:
        """Kafka has the oldest `digests` of `pending`."""
        del self.pending[:digests]
        self.digests_acked += digests
