"""Between the shards and the Redis tables: commits as updates, and shards as what a repair reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from akasha_stream.hot.position import pack
from akasha_stream.hot.shard import AnyView, Applied, Shard
from akasha_stream.hot.store import ShardStore
from akasha_stream.lookups.tables import Watermark
from akasha_stream.lookups.updates import Located, LookupUpdate
from akasha_stream.stream.windows import Outcome

BATCH = 4_096
_COUNTERS = tuple(outcome.name.lower() for outcome in Outcome)


def watermark(shard: Shard) -> Watermark:
    """How far a shard goes now."""
    return Watermark(shard.table_id, pack(shard.epoch, shard.next_offset, 0))


def update(applied: Applied, table_id: str) -> LookupUpdate:
    """A committed batch for the tables."""
    return LookupUpdate(
        partition=applied.partition,
        previous=Watermark(table_id, pack(applied.epoch, applied.previous_offset, 0)),
        watermark=Watermark(table_id, pack(applied.epoch, applied.next_offset, 0)),
        upserts={system: Located(list(ids), list(ids.values())) for system, ids in applied.stored.items() if ids},
        deletes=applied.deleted,
        counters={system: _named(counts) for system, counts in applied.counters.items()},
        forgotten=applied.forgotten,
    )


def _named(counts: NDArray[np.int64]) -> dict[str, int]:
    return dict(zip(_COUNTERS, counts.tolist(), strict=True))


class ShardSource:
    """lookups.updates.RepairSource over the shards of this worker."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store

    def identities_since(self, partition: int, position: int) -> Iterator[list[tuple[str, str, int]]]:
        shard = self._store.shard(partition)
        views = [] if shard is None else shard.views()
        return self._batches(views, position)

    @staticmethod
    def _batches(views: list[AnyView], position: int) -> Iterator[list[tuple[str, str, int]]]:
        batch: list[tuple[str, str, int]] = []
        for view in views:
            if view.rows and int(view.positions[-1]) < position:
                continue
            for identity in view.identities():
                if identity[2] >= position:
                    batch.append(identity)
                if len(batch) >= BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def deleted_since(self, partition: int, position: int) -> None:
        """Not kept in memory: the table is built anew, at 1.3 µs an identity."""
        return

    def counters(self, partition: int) -> Mapping[str, Mapping[str, int]]:
        shard = self._store.shard(partition)
        if shard is None:
            return {}
        return {system: _named(counts) for system, counts in list(shard.counters.items())}
