"""Session-Buddy's reflection.duckdb: conversations and reflections, only what is new or changed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from akasha_stream.errors import SourceError
from akasha_stream.publish.sources.seen import Seen
from akasha_stream.publish.sources.session_buddy_export import TABLES
from akasha_stream.publish.sources.session_buddy_snapshot import copy_database, export_tables
from akasha_stream.publish.sources.source import Chunk, Options, Places, Source

DEFAULT_SYSTEM = "session-buddy"
FIXED = ("id", "content", "embedding", "created_us")


@dataclass(frozen=True, slots=True)
class Mark:
    put: list[tuple[str, str, bytes]]
    gone: list[tuple[str, str]]


class SessionBuddySource(Source):
    """Rows are compared by a fingerprint of content, vector, time and metadata with those published before.

    event_id is the row's id; content, created_at (an instant) and embedding are the row's; everything else
    that describes the row is metadata, with `kind` = conversation or reflection.
    """

    kind = "session-buddy"

    def __init__(self, path: Path, options: Options, seen: Seen) -> None:
        super().__init__(options)
        self._path = path
        self._seen = seen
        self._system = options.source_system or DEFAULT_SYSTEM
        self._folder = tempfile.TemporaryDirectory(prefix="akasha-session-buddy-")
        try:
            folder = Path(self._folder.name)
            snapshot = copy_database(path, folder)
            exported = export_tables(snapshot, folder, options.timezone, options.duckdb_python)
            if not exported["tables"]:
                raise SourceError(f"{path} has neither conversations_v2 nor reflections_v2: no Session-Buddy database")
        except BaseException:
            self.close()
            raise
        self._tables: dict[str, dict[str, Any]] = exported["tables"]
        self.timezone: str = exported["timezone"]
        self.total = sum(table["rows"] for table in self._tables.values())

    def chunks(self) -> Iterator[Chunk]:
        left = self.options.max_rows
        for table in self._tables:
            known = self._seen.all(table)
            present: set[str] = set()
            for batch in pq.ParquetFile(Path(self._folder.name) / f"{table}.parquet").iter_batches(
                self.options.embed_rows
            ):
                if left is not None and left <= 0:
                    return
                chunk = self._fresh(table, batch, known, present, left=left)
                if left is not None:
                    left -= chunk.rows.num_rows
                yield chunk
            gone = sorted(known.keys() - present)
            if gone and self.options.deletes:
                yield self._deletes(table, gone)
            elif gone:
                self.notes.append(f"{len(gone)} rows of {table} are gone (publish their deletes with --deletes)")

    def _fresh(
        self,
        table: str,
        batch: pa.RecordBatch,
        known: dict[str, bytes],
        present: set[str],
        *,
        left: int | None,
    ) -> Chunk:
        """The rows that are new or changed. Rejected rows are not remembered: the next run names them again."""
        vectors: list[Any] = []
        kept: list[dict[str, Any]] = []
        prints: dict[str, bytes] = {}
        embeddings: Any = batch.column("embedding")
        for place, row in enumerate(batch.drop_columns(["embedding"]).to_pylist()):
            present.add(row["id"])
            vector = embeddings[place]
            values = vector.values.to_numpy(zero_copy_only=False) if vector.is_valid else None
            document = _metadata(table, row, self._tables[table])
            fingerprint = _fingerprint(row, values, document, self._system)
            if known.get(row["id"]) == fingerprint:
                self.skipped += 1
                continue
            if left is not None and len(kept) >= left:
                break
            kept.append({"row": row, "metadata": document})
            vectors.append(values)
            prints[row["id"]] = fingerprint
        rows = self._rows(table, kept, vectors)
        good = set(rows.column("event_id").to_pylist())
        return Chunk(
            rows, batch.num_rows, Mark([(table, name, print_) for name, print_ in prints.items() if name in good], [])
        )

    def _rows(self, table: str, kept: list[dict[str, Any]], vectors: list[Any]) -> pa.RecordBatch:
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        ids = [event["row"]["id"] for event in kept]
        moments = [now if event["row"]["created_us"] is None else event["row"]["created_us"] for event in kept]
        columns: dict[str, Any] = {
            "event_id": pa.array(ids, pa.string()),
            "source_system": pa.array([self._system] * len(kept), pa.string()),
            "content": pa.array([event["row"]["content"] for event in kept], pa.string()),
            "embedding": pa.array(vectors, pa.list_(pa.float32())),
            "metadata": pa.array([event["metadata"] for event in kept], pa.string()),
            "created_at": pa.array(moments, pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
        return self.checked(pa.table(columns), _RowPlaces(f"{self._path}: {table}", table, ids))

    def _deletes(self, table: str, gone: list[str]) -> Chunk:
        columns: dict[str, Any] = {
            "event_id": pa.array(gone, pa.string()),
            "source_system": pa.array([self._system] * len(gone), pa.string()),
            "content": pa.nulls(len(gone), pa.string()),
            "embedding": pa.nulls(len(gone), pa.list_(pa.float32())),
            "op": pa.array(["delete"] * len(gone), pa.string()),
        }
        rows = self.checked(pa.table(columns), _RowPlaces(f"{self._path}: {table}", table, gone))
        return Chunk(rows, 0, Mark([], [(table, name) for name in gone]))

    def acknowledge(self, chunk: Chunk) -> None:
        assert isinstance(chunk.mark, Mark)
        self._seen.put(chunk.mark.put)
        self._seen.forget(chunk.mark.gone)

    def save(self, token: str) -> None:
        self._seen.save(token)

    def close(self) -> None:
        self._seen.close()
        self._folder.cleanup()


class _RowPlaces(Places):
    def __init__(self, whole: str, table: str, ids: list[str]) -> None:
        self.whole = whole
        self._table = table
        self._ids = ids

    def of(self, row: int) -> str:
        return f"{self._table} {self._ids[row]}"


def _metadata(table: str, row: dict[str, Any], about: dict[str, Any]) -> str:
    """One flat JSON object of the columns that are set; the row's own JSON metadata stays nested in it."""
    document: dict[str, Any] = {"kind": TABLES[table]}
    for name, value in row.items():
        if name in FIXED or value is None:
            continue
        if name in about["json"] or name == "metadata":
            try:
                value = orjson.loads(value)  # noqa: PLW2901
            except orjson.JSONDecodeError:
                pass
        elif name in about["numbers"]:
            value = float(value)  # noqa: PLW2901
        if value not in ([], {}, ""):
            document[name] = value
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def _fingerprint(row: dict[str, Any], vector: NDArray[np.float32] | None, metadata: str, system: str) -> bytes:
    digest = xxhash.xxh3_128()
    for part in (system, row["content"] or "", metadata, str(row["created_us"])):
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    digest.update(b"" if vector is None else np.ascontiguousarray(vector, dtype=np.float32).tobytes())
    return digest.digest()
