"""The segment that takes new rows: arrays with room for all it may hold, filled in log order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.hot.hashes import joined, strings
from akasha_stream.hot.schema import SegmentName
from akasha_stream.hot.segment import (
    NEVER,
    TEXT_COLUMNS,
    TEXT_SCHEMA,
    View,
    binary_codes,
    fixed_binary,
    inverse_norms,
    system_codes,
    whole,
)
from akasha_stream.search.segment import SystemCodes

MERGE_ROWS = 16_384
"""Text batches are merged up to this size, so that a segment filled by small commits has few of them."""


class GrowingSegment:
    """Rows of a segment that is still written, searchable from the moment that `append` returns.

    `np.empty` of the full capacity takes address space only: the kernel gives memory as rows arrive. So
    nothing is ever copied to make room, and readers keep their views.
    """

    def __init__(self, name: SegmentName, partition: int, capacity: int, dimensions: int, codes: SystemCodes) -> None:
        self.name = name
        self.partition = partition
        self.capacity = capacity
        self._codes_of = codes
        self._rows = 0
        self._vectors = np.empty((capacity, dimensions), np.float32)
        self._bits = np.empty((capacity, dimensions // 8), np.uint8)
        self._inverse_norms = np.empty(capacity, np.float32)
        self.live = np.zeros(capacity, np.bool_)
        self.ended = np.empty(capacity, np.int64)
        self.positions = np.empty(capacity, np.int64)
        self.created_at = np.empty(capacity, np.int64)
        self.appended_at = np.empty(capacity, np.int64)
        self.systems = np.empty(capacity, np.int32)
        self.identity_hashes = np.empty(capacity, np.uint64)
        self.payload_hashes = np.empty(capacity, np.uint64)
        self.content_hashes = np.empty(capacity, np.uint64)
        self.updated = np.empty(capacity, np.bool_)
        self._chunks: tuple[tuple[int, pa.RecordBatch], ...] = ()
        self.index: None = None
        self.has_forgotten = False
        """Whether rows of a forgotten system are in its files."""
        self._latest: dict[str, list[int] | int] = {}
        self._by_content: dict[int, list[int] | int] = {}

    @property
    def rows(self) -> int:
        return self._rows

    def append(self, rows: pa.Table, vectors: NDArray[np.float32]) -> None:
        """Add rows (schema.row_schema) that are committed; their vectors once more as (n, d) float32."""
        n = rows.num_rows
        if not n:
            return
        first, last = self._rows, self._rows + n
        if last > self.capacity:
            msg = f"segment {self.name} has room for {self.capacity} rows, not {last}"
            raise AssertionError(msg)
        span = slice(first, last)
        self._vectors[span] = vectors
        self._bits[span] = binary_codes(vectors)
        self._inverse_norms[span] = inverse_norms(vectors)
        for name in ("created_at", "appended_at", "updated"):
            getattr(self, name)[span] = rows[name].to_numpy()
        self.positions[span] = rows["position"].to_numpy()
        self.identity_hashes[span] = rows["identity_hash"].to_numpy()
        self.payload_hashes[span] = rows["payload_hash"].to_numpy()
        contents = rows["content_hash"].to_numpy()
        self.content_hashes[span] = contents
        systems = whole(rows["source_system"])
        self.systems[span] = system_codes(systems, self._codes_of)
        _add(self._latest, strings(joined(systems, whole(rows["event_id"]))), first)
        _add(self._by_content, contents.tolist(), first)
        self._add_texts(first, rows.select(list(TEXT_COLUMNS)).combine_chunks().to_batches()[0])
        self.ended[span] = NEVER
        self.live[span] = True
        self._rows = last  # last: a view made before this line does not see the new rows

    def _add_texts(self, start: int, batch: pa.RecordBatch) -> None:
        chunks = [*self._chunks, (start, batch)]
        # Like a log-structured merge: every row is copied a logarithmic number of times.
        while len(chunks) > 1 and len(chunks[-2][1]) <= len(chunks[-1][1]) and len(chunks[-2][1]) < MERGE_ROWS:
            (start, left), (_, right) = chunks[-2:]
            # Not from Arrow's own pool: among a batch's short-lived buffers these keep its pages, 250 bytes a row.
            merged = pa.Table.from_batches([left, right]).combine_chunks(pa.system_memory_pool()).to_batches()[0]
            chunks[-2:] = [(start, merged)]
        self._chunks = tuple(chunks)

    def count_contents(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) how many rows, masked ones too, have this content hash."""
        found = [self._by_content.get(value) for value in hashes.tolist()]
        counts = (0 if rows is None else len(rows) if isinstance(rows, list) else 1 for rows in found)
        return np.fromiter(counts, np.int64, len(found))

    def known_identities(self, keys: Iterable[str]) -> list[int]:
        """Places in `keys` of those that a row, masked ones too, has."""
        return [place for place, key in enumerate(keys) if key in self._latest]

    def known_contents(self, hashes: NDArray[np.uint64]) -> list[int]:
        """Places in `hashes` of those that a row, masked ones too, has."""
        return [place for place, value in enumerate(hashes.tolist()) if value in self._by_content]

    def with_identity(self, key: str, identity_hash: int) -> Iterable[int]:
        return _rows_of(self._latest.get(key))

    def with_content(self, content_hash: int) -> Iterable[int]:
        return _rows_of(self._by_content.get(content_hash))

    def content(self, row: int) -> str:
        content = self.view().texts([row])[0].content
        assert content is not None
        return content

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._vectors[rows]

    def view(self) -> View:
        rows = self._rows
        return View(
            name=str(self.name),
            partition=self.partition,
            rows=rows,
            codes=self._bits[:rows],
            live=self.live[:rows],
            ended=self.ended[:rows],
            systems=self.systems[:rows],
            created_at=self.created_at[:rows],
            appended_at=self.appended_at[:rows],
            inverse_norms=self._inverse_norms[:rows],
            index=None,
            sealed=False,
            positions=self.positions[:rows],
            _vectors=self._vectors[:rows],
            _chunks=self._chunks,
        )

    def table(self) -> pa.Table:
        """All rows as they go to the Arrow file (sealed.ARROW_COLUMNS)."""
        view = self.view()
        n = view.rows
        texts = pa.Table.from_batches([batch for _, batch in self._chunks], TEXT_SCHEMA).slice(0, n).combine_chunks()
        fixed: dict[str, NDArray[np.generic]] = {
            "position": self.positions,
            "created_at": self.created_at,
            "appended_at": self.appended_at,
            "identity_hash": self.identity_hashes,
            "payload_hash": self.payload_hashes,
            "content_hash": self.content_hashes,
            "inverse_norm": self._inverse_norms,
        }
        columns: dict[str, pa.Array[Any]] = {name: pa.array(values[:n]) for name, values in fixed.items()}
        columns["updated"] = pa.array(self.updated[:n])
        columns["embedding"] = fixed_binary(self._vectors[:n])
        columns["code"] = fixed_binary(self._bits[:n])
        for name in TEXT_COLUMNS:
            columns[name] = whole(texts[name])
        return pa.table(columns)


def _add[K](rows_of: dict[K, list[int] | int], keys: Iterable[K], first: int) -> None:
    """Most keys have one row: an int a key, a list only where there are more (a list costs 64 bytes)."""
    for row, key in enumerate(keys, first):
        known = rows_of.setdefault(key, row)
        if isinstance(known, list):
            known.append(row)
        elif known != row:
            rows_of[key] = [known, row]


def _rows_of(known: list[int] | int | None) -> Iterable[int]:
    if known is None:
        return ()
    return known if isinstance(known, list) else (known,)
