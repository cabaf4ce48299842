"""What a search needs of a segment, wherever it lives: growing, sealed, and later warm and cold."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One stored event, as a search returns it."""

    source_system: str
    event_id: str
    content: str
    model: str
    metadata: str
    """Canonical JSON."""
    created_at: datetime
    partition: int
    offset: int
    index: int
    position: int
    """Order in the shard: a row with a higher position supersedes one of the same identity."""


class NearestIndex(Protocol):
    """An approximate index over a finished segment."""

    def nearest(self, query: NDArray[np.float32], n: int, ef: int) -> NDArray[np.int64]:
        """Row numbers of about the n nearest rows by cosine, nearest first; masked rows included."""
        ...


class SegmentView(Protocol):
    """A consistent view of one segment's rows [0, rows). Arrays are read-only and may be memory-mapped.

    A growing segment keeps taking rows after the view was made; the view does not see them.
    """

    name: str
    """Unique in its partition. Stays as long as the numbering of the rows does, and belongs to no other."""
    partition: int
    rows: int
    codes: NDArray[np.uint8]
    """(rows, dimensions / 8) sign bits, numpy.packbits(vector > 0)."""
    live: NDArray[np.bool_]
    """(rows,) False where a tombstone masks the row. The one array that changes after the view was made.

    A commit makes new rows visible in `HotStore.views` before it masks the rows they replace
    (search/snapshot.py relies on it).
    """
    systems: NDArray[np.int32]
    """(rows,) source system as a code of `SystemCodes`."""
    created_at: NDArray[np.int64]
    """(rows,) microseconds since the epoch, UTC."""
    inverse_norms: NDArray[np.float32]
    """(rows,) 1 / |vector|."""
    index: NearestIndex | None
    """None until the segment's HNSW index is built."""
    sealed: bool

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), dimensions) the vectors as they were published."""
        ...

    def texts(self, rows: Sequence[int]) -> list[StoredRow]: ...

    def metadata(self) -> pa.ChunkedArray[pa.StringScalar]:
        """(rows,) the metadata column, canonical JSON strings."""
        ...


class SystemCodes:
    """Source system ↔ small integer, one table a process; codes are never reused."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._names: list[str] = []
        self._adding = threading.Lock()

    def code(self, name: str) -> int:
        code = self._codes.get(name)
        if code is None:
            # Partitions are taken in side by side. Readers see the list before the code.
            with self._adding:
                code = self._codes.get(name)
                if code is None:
                    self._names.append(name)
                    code = self._codes[name] = len(self._names) - 1
        return code

    def find(self, name: str) -> int | None:
        return self._codes.get(name)

    def name(self, code: int) -> str:
        return self._names[code]


class HotStore(Protocol):
    """The shards that this worker owns, as a search sees them."""

    codes: SystemCodes

    def views(self, partitions: Sequence[int] | None = None) -> Sequence[SegmentView]:
        """Views of all segments of the owned shards, or of the named ones."""
        ...

    def owned(self) -> list[int]:
        """Partitions that this worker owns."""
        ...

    def partitions(self) -> int:
        """Partitions that the topic has; a search over fewer than these is partial."""
        ...

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        """The live row of an identity, or None."""
        ...

    def at(self, partition: int, position: int) -> tuple[SegmentView, int] | None:
        """The live row at a position (as the lookups give it), or None where it is gone or superseded."""
        ...

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until the record at this offset is searchable here; False when it is not in time."""
        ...
