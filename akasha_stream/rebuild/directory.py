"""A worker's data directory while no worker has it, with the object stores that its shards may need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from akasha_stream.errors import SegmentCorrupt, ShardLocked, StorageUnavailable
from akasha_stream.hot.store import ShardStore
from akasha_stream.settings import Settings

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """`segments`: with its catalog; None where `tiers.enabled` is not set."""

    store: ShardStore
    segments: SegmentStore | None


@asynccontextmanager
async def data_directory(settings: Settings) -> AsyncIterator[DataDirectory]:
    """`hot.data_dir` of the settings, for this process alone.

    Raises:
        ShardLocked: a worker runs on it.
        StorageUnavailable: tiers are enabled and one can't be read.
        SegmentCorrupt: one is damaged in the store, or its segments don't tile the log.
    """
    topic = settings.topics.embeddings
    async with AsyncExitStack() as open_:
        segments = bodies = ledger = None
        if settings.tiers.enabled:
            from akasha_stream.storage.tiers import StorageTiers
            from akasha_stream.tiers.bodies import SegmentBodies
            from akasha_stream.tiers.folder import footers_folder
            from akasha_stream.tiers.forgotten import load_forgotten
            from akasha_stream.tiers.segment_store import SegmentStore
            from akasha_stream.tiers.tiering import load_storage_settings

            tiers = await open_.enter_async_context(StorageTiers(load_storage_settings()))
            segments = SegmentStore(tiers, cache_dir=footers_folder(settings))
            await segments.load(topic)
            _must_be_whole(segments)
            ledger = await load_forgotten(segments)
            bodies = SegmentBodies(segments, None, timeout_s=settings.tiers.timeout_s)
            open_.push_async_callback(bodies.close)
        try:
            store = await asyncio.to_thread(ShardStore, settings, topic, bodies=bodies)
        except ShardLocked as error:
            raise ShardLocked(f"{error}; the partitions of a stopped worker go to the others meanwhile") from None
        open_.push_async_callback(asyncio.to_thread, store.close_all)
        store.forgotten = ledger
        yield DataDirectory(store, segments)


def _must_be_whole(segments: SegmentStore) -> None:
    if segments.unreachable:
        raise StorageUnavailable("; ".join(f"tier {tier}: {why}" for tier, why in segments.unreachable.items()))
    problems = [*segments.corrupt.values(), *map(str, segments.catalog.problems)]
    if problems:
        raise SegmentCorrupt(f"{'; '.join(problems)}; see: akasha-stream segments check")
