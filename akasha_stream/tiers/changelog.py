"""What a spilled segment holds: every version that its offsets brought, and every delete, one row each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.hot.position import MAX_INDEX, MAX_OFFSET
from akasha_stream.hot.sealed import row_vectors
from akasha_stream.hot.segment import binary_codes, fixed_binary
from akasha_stream.tiers.rounding import Precision, rounded

UPSERT, DELETE = "upsert", "delete"

_TIME = pa.timestamp("us", "UTC")


def changelog_schema(dimensions: int) -> pa.Schema:
    """A delete has no content, embedding, code, model, metadata and hashes (null)."""
    fields: list[pa.Field[Any]] = [
        pa.field("position", pa.int64(), False),
        pa.field("partition", pa.int32(), False),
        pa.field("offset", pa.int64(), False),
        pa.field("index", pa.int32(), False),
        pa.field("source_system", pa.string(), False),
        pa.field("event_id", pa.string(), False),
        pa.field("op", pa.string(), False),
        pa.field("content", pa.string()),
        pa.field("embedding", pa.list_(pa.field("element", pa.float32(), False))),
        pa.field("code", pa.binary(dimensions // 8)),
        pa.field("model", pa.string()),
        pa.field("metadata", pa.string()),
        pa.field("created_at", _TIME, False),
        pa.field("appended_at", _TIME, False),
        pa.field("payload_hash", pa.uint64()),
        pa.field("content_hash", pa.uint64()),
    ]
    return pa.schema(fields)


def changelog(rows: pa.Table, deletes: pa.Table, partition: int, dimensions: int, precision: Precision) -> pa.Table:
    """Rows (row_schema) and deletes (DELETE_SCHEMA) of hot/schema.py as one changelog, by created_at, then position.

    The bit codes are those of the vectors before rounding.
    """
    vectors = row_vectors(rows, dimensions)
    upserts = {
        **{name: rows[name] for name in ("source_system", "event_id", "content", "model", "metadata")},
        **{name: rows[name] for name in ("payload_hash", "content_hash")},
        "embedding": _lists(rounded(vectors, precision)),
        "code": fixed_binary(np.ascontiguousarray(binary_codes(vectors))),
    }
    parts = [
        _part(rows, upserts, UPSERT, partition, dimensions),
        _part(deletes, {name: deletes[name] for name in ("source_system", "event_id")}, DELETE, partition, dimensions),
    ]
    return in_order(pa.concat_tables(parts))


def in_order(table: pa.Table) -> pa.Table:
    """By created_at, so that a row group's minimum and maximum prune by time; then by position."""
    order = np.lexsort((table["position"].to_numpy(), table["created_at"].cast(pa.int64()).to_numpy()))
    return table.take(order).combine_chunks()


def embedding_matrix(table: pa.Table, dimensions: int) -> NDArray[np.float32]:
    """(rows, dimensions) of the column `embedding`; a delete's row is 0."""
    column = table["embedding"].combine_chunks()
    found = np.zeros((len(column), dimensions), np.float32)
    found[column.is_valid().to_numpy(zero_copy_only=False)] = (
        pc.list_flatten(column).to_numpy(zero_copy_only=False).reshape(-1, dimensions)
    )
    return found


def _part(source: pa.Table, columns: dict[str, Any], op: str, partition: int, dimensions: int) -> pa.Table:
    n = source.num_rows
    positions = source["position"].to_numpy()
    columns = columns | {
        "position": source["position"],
        "partition": pa.array(np.full(n, partition, np.int32)),
        "offset": pa.array(positions >> 16 & MAX_OFFSET),
        "index": pa.array((positions & MAX_INDEX).astype(np.int32)),
        "op": pa.array([op] * n, pa.string()),
        "created_at": source["created_at"].cast(_TIME),
        "appended_at": source["appended_at"].cast(_TIME),
    }
    schema = changelog_schema(dimensions)
    arrays = [columns[field.name] if field.name in columns else pa.nulls(n, field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _lists(vectors: NDArray[np.float32]) -> pa.Array[Any]:
    n, width = vectors.shape
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    offsets = pa.array(np.arange(n + 1, dtype=np.int64) * width).cast(pa.int32())
    return pa.ListArray.from_arrays(offsets, values, type=pa.list_(pa.field("element", pa.float32(), False)))
