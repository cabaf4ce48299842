"""Rewrite neighbouring segments as one.

    1  the inputs are read and merged                 in memory; nothing has changed
    2  "compaction checked"    the log is listed      they are what counts still, else it is given up
    3  "compaction stored"     put_if_absent          the new segment supersedes them, at once and for everyone
    4  the inputs are deleted after a grace time      clean_up.py

The new segment's range is all of the inputs', so nothing is ever deleted but what another object covers whole. Two that
compact the same log at once make the same object, or one finds the key taken and gives up, or they make two that
overlap: a row that is in both counts once, and the next compaction merges them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import structlog
from numpy.typing import NDArray

from akasha_stream.errors import ObjectNotFound, SegmentTaken
from akasha_stream.hot.durable import passed
from akasha_stream.storage.settings import TIERS, TierName
from akasha_stream.tiers.forgotten import Forgotten
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.merging import DECIDING, NO_POSITIONS, UNKNOWN, Earlier, Kept, Leaving, as_deletes, decide
from akasha_stream.tiers.parquet_segment import ROW_GROUP, EncodedSegment, SegmentWriter
from akasha_stream.tiers.retention import Retention
from akasha_stream.tiers.row_cursor import Found, Input, find_rows
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.tiling import tile

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Compacted:
    """`new` stands for `old` now; None: given up, `why` says for what reason, and nothing has changed."""

    old: tuple[StoredSegment, ...]
    new: StoredSegment | None
    kept: Kept | None = None
    why: str = ""


async def compact_group(
    store: SegmentStore,
    segments: Sequence[StoredSegment],
    *,
    masked: NDArray[np.int64] = NO_POSITIONS,
    forgotten: Forgotten,
    retention: Retention | None = None,
    earlier: Earlier = UNKNOWN,
) -> Compacted:
    """Make one segment of neighbours, or of a single one, and put it into their tier. The old ones are not deleted.

    `segments`: current, of one log and tier, without a gap (compaction_plan.Group). The rest: merging.Leaving.

    In memory: DECIDING of all rows, a row group of each input that the output is at, and the new object's bytes.

    Raises:
        SegmentCorrupt: an input is damaged; names it.
        StorageError: a tier can't be read or written (ObjectArchived …). Whether the new segment was stored is not
            known; the same call may be made again, after a load().
    """
    old = tuple(segments)
    try:
        merged, kept = await merged_segment(store, old, Leaving(masked, forgotten, retention, earlier))
        if not await _current(store, old):
            return Compacted(old, None, why="another worker rewrote them meanwhile")
        passed("compaction checked")
        new = await store.put(merged, old[0].tier)
        passed("compaction stored")
    except ObjectNotFound as error:
        return Compacted(old, None, why=f"deleted meanwhile: {error}")
    except SegmentTaken as error:
        return Compacted(old, None, why=str(error))
    log.info("segments compacted", new=new.path, old=[each.path for each in old], rows=new.footer.rows)
    return Compacted(old, new, kept)


async def merged_segment(
    store: SegmentStore, old: Sequence[StoredSegment], leaving: Leaving
) -> tuple[EncodedSegment, Kept]:
    """What compact_group() puts. Raises SegmentCorrupt, StorageError."""
    first = old[0]
    key = SegmentKey(
        first.key.log,
        first.key.start,
        max(each.key.end for each in old),
        max(each.key.generation for each in old) + 1,
    )
    inputs = [Input(each, await store.open(each)) for each in old]
    names = pa.concat_tables([await store.read(each.segment, DECIDING, opened=each.opened) for each in inputs])
    kept = await asyncio.to_thread(decide, key.log, names, leaving)
    del names
    writer = SegmentWriter(key, first.footer.epoch, first.footer.dimensions, first.footer.precision)
    for start in range(0, len(kept.rows), ROW_GROUP):
        part = slice(start, start + ROW_GROUP)
        found = await find_rows(store, inputs, kept.rows[part])
        await asyncio.to_thread(_write, writer, found, kept.expired[part])
    return await asyncio.to_thread(writer.finish), kept


def _write(writer: SegmentWriter, found: Found, expired: NDArray[np.bool_]) -> None:
    writer.write(as_deletes(found.table(), expired))
    # Else the pool keeps what each row group took: 70 MB more at the peak of a merge of 200,000 rows.
    pa.default_memory_pool().release_unused()


@dataclass(frozen=True, slots=True)
class _Listed:
    key: SegmentKey
    tier: TierName

    @property
    def tier_rank(self) -> int:
        return TIERS.index(self.tier)


async def _current(store: SegmentStore, segments: tuple[StoredSegment, ...]) -> bool:
    """Whether each of these still counts, by what the tiers hold now (but those that could not be loaded).

    Without it a worker that was away for long would put what was right then. It still may, between this and its put;
    merging.py says why that does no harm.
    """
    of = segments[0].key.log
    listed = [
        each for tier in store.configured if tier not in store.unreachable for each in await _list(store, tier, of)
    ]
    # Whatever tier each is in: the rows of a key are the same in all.
    return {each.key for each in segments} <= {each.key for each in tile(listed).current}


async def _list(store: SegmentStore, tier: TierName, of: LogId) -> list[_Listed]:
    place = await store.place(tier)
    found = [
        SegmentKey.parse(each.path, place.prefix)
        async for each in place.adapter.list(place.bucket, of.folder(place.prefix))
    ]
    return [_Listed(key, tier) for key in found if key is not None]
