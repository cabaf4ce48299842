"""Small segments for the tests of tiers/, and what should come out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from akasha_stream.hot.position import pack
from akasha_stream.hot.schema import DELETE_SCHEMA, row_schema
from akasha_stream.incarnation import Incarnation
from akasha_stream.tiers.keys import LogId, SegmentKey
from akasha_stream.tiers.parquet_segment import EncodedSegment, write_segment
from akasha_stream.tiers.rounding import Precision

LOG = LogId("akasha.embeddings.v1", Incarnation("5L6g3nShT-eMCtK--X86sw", "c9f1"), 3)
DIMENSIONS = 16


@dataclass(frozen=True)
class Change:
    """One event of a log; `content` None: a delete."""

    offset: int
    index: int
    system: str
    event_id: str
    content: str | None
    created_at: int = 1_764_000_000_000_000
    seed: int = 0
    model: str = "m"
    metadata: str = "{}"
    epoch: int = 0

    @property
    def position(self) -> int:
        return pack(self.epoch, self.offset, self.index)

    @property
    def vector(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        return np.random.default_rng(self.seed).standard_normal(DIMENSIONS).astype(np.float32)


def tables(changes: Sequence[Change]) -> tuple[pa.Table, pa.Table]:
    """(rows, deletes) as the hot store has them."""
    rows = [
        {
            "position": c.position,
            "source_system": c.system,
            "event_id": c.event_id,
            "content": c.content,
            "embedding": c.vector.tobytes(),
            "model": c.model,
            "metadata": c.metadata,
            "created_at": c.created_at,
            "appended_at": c.created_at + 5,
            "updated": False,
            "identity_hash": 1,
            "payload_hash": 2**64 - 1 - c.position,
            "content_hash": c.seed,
        }
        for c in changes
        if c.content is not None
    ]
    deletes = [
        {
            "position": c.position,
            "source_system": c.system,
            "event_id": c.event_id,
            "created_at": c.created_at,
            "appended_at": c.created_at + 5,
        }
        for c in changes
        if c.content is None
    ]
    return pa.Table.from_pylist(rows, row_schema(DIMENSIONS)), pa.Table.from_pylist(deletes, DELETE_SCHEMA)


def spilled(
    changes: Sequence[Change],
    start: int,
    end: int,
    precision: Precision = "float32",
    log: LogId = LOG,
    *,
    epoch: int = 0,
) -> EncodedSegment:
    rows, deletes = tables([replace(change, epoch=epoch) for change in changes])
    key = SegmentKey(log, start, end)
    return write_segment(key, epoch, rows, deletes, dimensions=DIMENSIONS, precision=precision)


def live_state(changes: Sequence[Change]) -> dict[tuple[str, str], Change]:
    """By folding the log, one event after another."""
    state: dict[tuple[str, str], Change] = {}
    for change in sorted(changes, key=lambda c: c.position):
        if change.content is None:
            state.pop((change.system, change.event_id), None)
        else:
            state[change.system, change.event_id] = change
    return state


_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
_CHANGE = st.builds(
    Change,
    offset=st.just(0),
    index=st.integers(0, 65_535),
    system=st.sampled_from(["a", "ü✓", "c"]),
    event_id=st.one_of(st.sampled_from(["1", "2", "3"]), _TEXT),
    content=st.one_of(st.none(), _TEXT),
    created_at=st.integers(0, 4_000_000_000_000_000),
    seed=st.integers(0, 1_000),
    model=st.sampled_from(["m", "other"]),
    metadata=st.sampled_from(["{}", '{"k":"ü"}']),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Change]:
    """Up to 60 changes, one an offset, with gaps between the offsets."""
    changes = draw(st.lists(_CHANGE, max_size=60))
    offset = 0
    placed = []
    for change in changes:
        offset += draw(st.integers(1, 3))
        placed.append(replace(change, offset=offset))
    return placed
