"""Who is in a segment: the columns that decide which of its rows stay, without bodies and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from akasha_stream.errors import ObjectArchived, ObjectNotFound
from akasha_stream.tiers.changelog import DELETE, UPSERT
from akasha_stream.tiers.merging import DECIDING
from akasha_stream.tiers.stored_segment import StoredSegment
from akasha_stream.tiers.stub import Stub, read_stub

if TYPE_CHECKING:
    from akasha_stream.tiers.segment_store import SegmentStore


async def read_names(store: SegmentStore, segment: StoredSegment, columns: Sequence[str] = DECIDING) -> pa.Table:
    """`columns` (of DECIDING) of all rows; of an archived segment from its stub, in the stub's order.

    Raises:
        SegmentCorrupt: the segment or the stub is damaged; names it.
        StorageError: it can't be read; ObjectArchived where it is archived and has no stub.
    """
    try:
        return await store.read(segment, columns)
    except ObjectArchived as archived:
        place = await store.place("hot")
        path = segment.key.stub_path(place.prefix)
        try:
            stub = read_stub(await place.adapter.download(place.bucket, path), path)
        except ObjectNotFound:
            raise archived from None
        return stub_names(stub).select(list(columns))


def stub_names(stub: Stub) -> pa.Table:
    """DECIDING of a stub's rows. Times are int64."""
    op = pc.if_else(stub.rows["deleted"], pa.scalar(DELETE), pa.scalar(UPSERT))
    names = [name for name in DECIDING if name != "op"]
    return stub.rows.select(names).append_column("op", op).select(list(DECIDING))
