"""What a search needs of a segment, wherever it lives: growing, sealed, and later warm and cold."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol, TypeIs

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.errors import AkashaError
from akasha_stream.hot.position import unpack

Tier = Literal["local", "hot", "warm", "cold"]
"""local: in this worker's own files and memory; the others are object stores."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One stored event, as a search returns it."""

    source_system: str
    event_id: str
    content: str | None
    """None, as are model and metadata: they are in an archived object."""
    model: str | None
    metadata: str | None
    """Canonical JSON."""
    created_at: datetime
    partition: int
    offset: int
    index: int
    position: int
    """Order in the shard: a row with a higher position supersedes one of the same identity."""

    @classmethod
    def at(
        cls,
        identity: tuple[str, str],
        texts: tuple[str | None, str | None, str | None],
        *,
        partition: int,
        position: int,
        created_at: int,
    ) -> StoredRow:
        """`identity`: source system, event id; `texts`: content, model, metadata; `created_at`: microseconds, UTC."""
        place, at = unpack(position), datetime.fromtimestamp(created_at / 1e6, UTC)
        return cls(*identity, *texts, at, partition, place.offset, place.index, position)


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
    appended_at: NDArray[np.int64]
    """(rows,) when the log took the row, likewise."""
    positions: NDArray[np.int64]
    """(rows,) ascending: order in the shard (hot/position.py)."""
    index: NearestIndex | None
    """None until the segment's HNSW index is built."""
    sealed: bool

    @property
    def ended(self) -> NDArray[np.int64]:
        """(rows,) position of what replaced or deleted each row (hot/segment.py); changes with `live`."""
        ...

    @property
    def tier(self) -> Tier:
        """Where its bodies are."""
        ...

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), dimensions) the vectors as they were published, or spilled.

        Raises SegmentCorrupt, StorageError where they are remote; a search over many rows asks `Bodies` instead.
        """
        ...

    def texts(self, rows: Sequence[int]) -> list[StoredRow]:
        """Raises as vectors() does."""
        ...


class LocalView(SegmentView, Protocol):
    """Of a segment whose vectors and texts are in this process."""

    inverse_norms: NDArray[np.float32]
    """(rows,) 1 / |vector|."""

    def metadata(self) -> pa.ChunkedArray[pa.StringScalar]:
        """(rows,) the metadata column, canonical JSON strings."""
        ...


class RemoteView(SegmentView, Protocol):
    """Of a segment whose vectors and texts have to be fetched."""

    bodies: Bodies

    @property
    def path(self) -> str:
        """Of the object, as an answer names it."""
        ...

    @property
    def rewritten(self) -> bool:
        """Whether it may lack rows that were replaced or deleted since."""
        ...

    def stored(self, row: int, content: str | None, model: str | None, metadata: str | None) -> StoredRow:
        """A row, from what is here and what was fetched of it (None: it could not be)."""
        ...


def is_local(view: SegmentView) -> TypeIs[LocalView]:
    return view.tier == "local"


def is_remote(view: SegmentView) -> TypeIs[RemoteView]:
    return view.tier != "local"


type UseVectors = Callable[[int, NDArray[np.int64], NDArray[np.float32]], None]
"""(which of `wanted`, places in its rows, (n, dimensions) vectors)"""

type UseTexts = Callable[[int, NDArray[np.int64], pa.RecordBatch], None]
"""(which of `wanted`, places in its rows, content, model and metadata)"""


@dataclass(slots=True)
class Fetched:
    """What became of the rows that were wanted of one segment."""

    unread: NDArray[np.int64]
    """Places in the rows that could not be read."""
    error: AkashaError | None
    """Why: ObjectArchived, another StorageError, SegmentCorrupt; StorageUnavailable also where time ran out."""
    bytes_read: int
    """From the store; 0: all was cached."""


class Bodies(Protocol):
    """Vectors and texts of segments in an object store, behind a cache.
    Calls wait, until `deadline` (time.monotonic()) at the latest; never on the event loop. Nothing is raised: each
    segment has its own outcome. The row groups of all segments are fetched at once, and given to `use` as they come.
    """

    timeout_s: float
    """How long a search may wait for them."""

    def vectors(
        self, wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]], use: UseVectors, deadline: float
    ) -> list[Fetched]: ...

    def texts(
        self, wanted: Sequence[tuple[RemoteView, NDArray[np.int64]]], use: UseTexts, deadline: float
    ) -> list[Fetched]: ...


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

    def names(self) -> list[str]:
        """All, by code."""
        return list(self._names)


class Span(NamedTuple):
    """What a shard has of its partition's log, as positions (hot/position.py): [first, end)."""

    first: int
    """Where its oldest segment begins. What the log had before is not known."""
    end: int


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

    def spans(self) -> dict[int, Span]:
        """Partition → what its shard has of the log; of the owned ones."""
        ...

    def forgets(self) -> dict[int, list[int]]:
        """Partition → positions of what made it forget a system: rows before them may be gone."""
        ...

    def find(self, source_system: str, event_id: str) -> tuple[SegmentView, int] | None:
        """The live row of an identity, or None."""
        ...

    def written_at(self, partition: int, source_system: str, event_id: str) -> int | None:
        """When the log took the newest version of an identity that a partition knows of, deleted ones too.

        Microseconds; None where the partition is not owned, or never had it.
        """
        ...

    def at(self, partition: int, position: int) -> tuple[SegmentView, int] | None:
        """The live row at a position (as the lookups give it), or None where it is gone or superseded."""
        ...

    async def wait_for(self, partition: int, offset: int, timeout_s: float) -> bool:
        """Wait until the record at this offset is searchable here; False when it is not in time."""
        ...
