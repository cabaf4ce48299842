"""What every source has in common: chunks of checked rows, rejects with their places, acknowledgement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from akasha_stream.errors import SourceError, ValidationError
from akasha_stream.publish.sources.embedding import EMBED_ROWS, Embedding, embedded
from akasha_stream.publish.tables import WireRows, bad_rows, to_wire
from akasha_stream.settings import Limits

CHUNK_ROWS = 8_192
NAMED = 10
"""So many rejects are named; the others are counted."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to read a source."""

    limits: Limits
    source_system: str | None = None
    """For rows that name none; a Session-Buddy database has this one."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name of ours → name in the source."""
    timezone: str | None = None
    """IANA name for times without a zone."""
    strict: bool = False
    """Stop at the first bad row."""
    chunk_rows: int = CHUNK_ROWS
    max_rows: int | None = None
    """Read so many rows of those not yet published."""
    deletes: bool = False
    """Session-Buddy: publish deletes for rows that are gone."""
    content_ids: bool = False
    """JSON lines: one without an id gets one of its content."""
    duckdb_python: str | None = None
    """Session-Buddy: an interpreter whose DuckDB reads the file, where ours does not."""
    embed: Embedding | None = None
    """For rows without an embedding; None leaves them out."""

    @property
    def embed_rows(self) -> int:
        """Rows of a chunk, where each of them may lack its embedding."""
        return self.chunk_rows if self.embed is None else min(self.chunk_rows, EMBED_ROWS)


@dataclass(slots=True)
class Rejects:
    """Rows that are not published, and the first few places."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, place: str, why: str) -> None:
        self.count += 1
        if len(self.places) < NAMED:
            self.places.append(f"{place}: {why}")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a source, checked, and how far the source is read with them."""

    rows: pa.RecordBatch
    """In the wire's columns; only good rows."""
    read: int
    """Rows of the source that it stands for, bad ones included."""
    mark: object
    """For the source's own `acknowledge`."""


class Source(ABC):
    """Reads chunks in order. `acknowledge` is called in the same order, when a chunk is in the log; `save` makes
    what is acknowledged survive a crash. Both may lag: a resumed run repeats some rows, and never skips one."""

    kind: str
    total: int | None = None
    """Rows that a run will read, where that is known."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.bad = Rejects()
        self.without_embedding = Rejects()
        self.embedded = 0
        """Rows whose embedding was made here."""
        self.skipped = 0
        """Rows that an earlier run read."""
        self.left_out_before = 0
        """Of these, those that it refused."""
        self.notes: list[str] = []

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """SourceError when the source can't be read, or with `strict` at the first bad row."""

    @abstractmethod
    def acknowledge(self, chunk: Chunk) -> None: ...

    @abstractmethod
    def save(self, token: str) -> None:
        """Keep what is acknowledged; `token` is the freshness token of it."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def left_out(self) -> int:
        """Of the rows that are not read again: for the checkpoint, so that the next run can tell."""
        return self.left_out_before + self.bad.count + self.without_embedding.count

    def reject(self, place: str, why: str) -> None:
        if self.options.strict:
            raise SourceError(f"{place}: {why}")
        self.bad.add(place, why)

    def lack(self, place: str, why: str) -> None:
        """A row without an embedding that gets none."""
        if self.options.strict:
            raise SourceError(f"{place}: {why}")
        self.without_embedding.add(place, why)

    def checked(self, table: pa.Table, places: Places, unread: Sequence[tuple[int, str, str]] = ()) -> pa.RecordBatch:
        """The good rows of a table in the wire's columns, with embeddings made where they have none; the others are
        rejected in the source's order.

        unread: (row of the table that comes next, place, why) of each that was rejected before there was a table.
        """
        if "embedding" not in table.column_names:
            absent = pa.nulls(table.num_rows, pa.list_(pa.float32(), self.options.limits.dimensions))
            table = table.append_column("embedding", absent)
        try:
            wire = to_wire(table, self.options.limits.dimensions)
        except ValidationError as error:
            raise SourceError(f"{places.whole}: {error}") from error
        rows: pa.RecordBatch = wire.rows
        faults = bad_rows(wire, self.options.limits)
        lacking: dict[int, str] = {}
        # Of each row the first fault: those that lack their embedding have what comes before it.
        if without := [fault.row for fault in faults if fault.detail.startswith("embedding is absent")]:
            models = table.column("model") if "model" in table.column_names else None
            rows, made, lacking = embedded(rows, without, models, self.options.embed)
            self.embedded += made
            faults = bad_rows(WireRows(rows, wire.misfits), self.options.limits)
        refusals = [(row, self.reject, place, why) for row, place, why in unread]
        keep = np.ones(rows.num_rows, dtype=np.bool_)
        for fault in faults:
            keep[fault.row] = False
            refuse, why = self.reject, f"{fault.detail} ({fault.reason})"
            if fault.row in lacking:
                refuse, why = self.lack, lacking[fault.row]
            refusals.append((fault.row, refuse, places.of(fault.row), why))
        for _, refuse, place, why in sorted(refusals, key=lambda each: each[0]):
            refuse(place, why)
        return rows if keep.all() else rows.filter(pa.array(keep))


class Places(ABC):
    """Names rows of a table for messages."""

    whole: str

    @abstractmethod
    def of(self, row: int) -> str: ...


class NumberedPlaces(Places):
    """ "row 17", "line 4": consecutive from `first`, or listed."""

    def __init__(self, whole: str, word: str, first: int = 0, numbers: list[int] | None = None) -> None:
        self.whole = whole
        self._word = word
        self._first = first
        self._numbers = numbers

    def of(self, row: int) -> str:
        return f"{self._word} {self._numbers[row] if self._numbers is not None else self._first + row}"
