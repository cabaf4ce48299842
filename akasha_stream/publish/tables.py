"""Events as the rows of an Arrow table: the wire's columns, what is wrong with rows, runs per system.

No Python object per row: a bundle of 64 rows costs one slice and one IPC stream.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import Format, wire_schema
from akasha_stream.events.model import DEFAULT_MODEL
from akasha_stream.events.validation import Columns
from akasha_stream.settings import Limits

REQUIRED = ("event_id", "source_system", "content", "embedding")
NO_COMPRESSION = pa.ipc.IpcWriteOptions(compression=None)


@dataclass(frozen=True, slots=True)
class BadRow:
    row: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class WireRows:
    """A table in the wire's columns and types, unchecked."""

    rows: Any
    """pa.RecordBatch; the vectors of `misfits` are null."""
    misfits: NDArray[np.bool_]
    """(n,) rows whose vector has another length."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows [start, stop) of a grouped table: events of one system that make one bundle."""

    system: str
    start: int
    stop: int


def to_wire(table: pa.Table, dimensions: int) -> WireRows:
    """The table in the wire's columns and types, as one batch.

    Needs event_id, source_system, content, embedding (a list, fixed list, or bytes of float32); model,
    metadata (a JSON string), created_at and op have defaults.

    Raises:
        ValidationError: a column is missing or has a type that can't be converted.
    """
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise ValidationError("field_missing", f"the table has no column {', '.join(missing)}")
    count = table.num_rows
    schema = wire_schema(dimensions)
    defaults: dict[str, Any] = {
        "model": DEFAULT_MODEL,
        "metadata": "{}",
        "created_at": datetime.now(UTC),
        "op": "upsert",
    }
    columns: list[Any] = []
    misfits = np.zeros(count, dtype=np.bool_)
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.repeat(pa.scalar(defaults[field.name], field.type), count))
            continue
        column: Any = table.column(field.name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # combine_chunks of no rows, or of more than 2 GB
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        if field.name == "embedding":
            absent = _mask(column.is_null())
            vectors = _vectors(column, dimensions, field.type)
            misfits = _mask(vectors.is_null()) & ~absent
            columns.append(vectors)
            continue
        try:
            column = _as_type(column, field)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValidationError("field_type", f"the column {field.name} ({column.type}): {error}") from None
        if field.name in defaults and column.null_count:
            column = pc.fill_null(column, pa.scalar(defaults[field.name], field.type))
        columns.append(column)
    # Nulls in the required columns are reported row by row, so the batch itself must allow them.
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return WireRows(pa.RecordBatch.from_arrays(columns, schema=nullable), misfits)


def _mask(values: Any) -> NDArray[np.bool_]:
    filled: Any = pc.fill_null(values, False)
    result: NDArray[np.bool_] = filled.to_numpy(zero_copy_only=False).astype(np.bool_)
    return result


def _as_type(column: Any, field: Any) -> Any:
    if field.name == "created_at" and pa.types.is_timestamp(column.type) and column.type.tz is None:
        raise pa.ArrowInvalid("a timestamp without a time zone")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column if column.type == field.type else column.cast(field.type)


def _vectors(column: Any, dimensions: int, wanted: Any) -> Any:
    """(n,) fixed lists of float32, null where the length differs."""
    kind = column.type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        fits = _mask(pc.equal(pc.binary_length(column), pa.scalar(dimensions * 4)))
        if not pa.types.is_large_binary(kind):
            column = column.cast(pa.large_binary())
        data = column.filter(pa.array(fits)).buffers()
        offsets = column.filter(pa.array(fits)).offset
        values = np.frombuffer(data[2] or b"", dtype="<f4", count=int(fits.sum()) * dimensions)
        assert offsets == 0
        return _scattered(values, fits, dimensions, wanted)
    if pa.types.is_fixed_size_list(kind):
        if kind.list_size != dimensions:
            return pa.nulls(len(column), wanted)
        if kind.value_type == pa.float32() and not column.null_count:
            return pa.FixedSizeListArray.from_arrays(column.flatten(), type=wanted)
        column = column.cast(pa.list_(kind.value_type))
        kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
        raise ValidationError("field_type", f"the column embedding is {kind}, wanted is a list or bytes of float32")
    fits = _mask(pc.equal(pc.list_value_length(column), pa.scalar(dimensions)))
    try:
        flat = column.filter(pa.array(fits)).flatten().cast(pa.float32(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValidationError("field_type", f"the column embedding is {kind}: {error}") from None
    return _scattered(flat.to_numpy(zero_copy_only=False), fits, dimensions, wanted)


def _scattered(values: NDArray[np.float32], fits: NDArray[np.bool_], dimensions: int, wanted: Any) -> Any:
    """The vectors of the rows that fit, in their places; null in the others."""
    if fits.all():
        return pa.FixedSizeListArray.from_arrays(pa.array(values), type=wanted)
    matrix = np.zeros((len(fits), dimensions), dtype=np.float32)
    matrix[fits] = values.reshape(-1, dimensions)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), type=wanted, mask=pa.array(~fits))


def bad_rows(wire: WireRows, limits: Limits) -> list[BadRow]:
    """What ingest would refuse, by its own rules: the first fault of each row, in the order of the rows."""
    rows = wire.rows
    if not rows.num_rows:
        return []
    keys = rows.column("source_system").view(pa.binary())
    now = np.full(rows.num_rows, time.time_ns() // 1000, dtype=np.int64)
    refusals = Columns(rows, limits).check(keys, now)
    faults = {row: BadRow(row, *why) for row, why in refusals.why.items()}
    for row in np.flatnonzero(wire.misfits).tolist():
        if row not in faults or faults[row].reason == "field_missing":
            faults[row] = BadRow(row, "vector_length", f"the embedding has not {limits.dimensions} numbers")
    return [faults[row] for row in sorted(faults)]


def group(rows: Any) -> tuple[Any, NDArray[np.int64] | None]:
    """The rows of each system together, their order kept; and the original places, None when nothing moved."""
    codes = rows.column("source_system").dictionary_encode().indices.to_numpy(zero_copy_only=False)
    if len(codes) == 0 or not np.any(np.diff(codes) < 0):
        return rows, None
    order = np.argsort(codes, kind="stable").astype(np.int64)
    return rows.take(pa.array(order)), order


def runs(rows: Any, max_events: int, max_bytes: int, event_bytes: int) -> list[Run]:
    """Bundles of a grouped batch: as few as the limits allow, and of even size within a system.

    `event_bytes`: what an event takes besides its content and metadata.
    """
    count = rows.num_rows
    if not count:
        return []
    encoded = rows.column("source_system").dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    names = encoded.dictionary.to_pylist()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), count]
    sizes = np.full(count, event_bytes, dtype=np.int64)
    for name in ("content", "metadata"):
        lengths: Any = pc.fill_null(pc.binary_length(rows.column(name)), 0)
        sizes += lengths.to_numpy(zero_copy_only=False)
    ends = np.cumsum(sizes)
    result: list[Run] = []
    for start, stop in itertools.pairwise(edges):
        bundles = -(-(stop - start) // max_events)
        step = -(-(stop - start) // bundles)
        at = start
        while at < stop:
            before = int(ends[at - 1]) if at else 0
            by_size = int(np.searchsorted(ends, before + max_bytes, side="right"))
            end = min(stop, at + step, max(at + 1, by_size))
            result.append(Run(names[codes[start]], at, end))
            at = end
    return result


def encode_rows(rows: Any, form: Format) -> bytes:
    """The value of one bundle."""
    if form == "json":
        return _encode_json(rows)
    schema = wire_schema(rows.schema.field("embedding").type.list_size)
    if rows.column("event_id").null_count or rows.column("source_system").null_count:
        raise ValidationError("field_missing", "a row has no event_id or no source_system")
    batch = pa.RecordBatch.from_arrays(rows.columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=NO_COMPRESSION) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _encode_json(rows: Any) -> bytes:
    documents = []
    vectors: Any = rows.column("embedding")
    for row, vector in zip(rows.drop_columns(["embedding"]).to_pylist(), vectors, strict=True):
        if row["op"] == "delete":
            documents.append({name: row[name] for name in ("event_id", "source_system", "created_at", "op")})
        else:
            document = {**row, "metadata": orjson.Fragment(row["metadata"]), "embedding": vector.values.to_numpy()}
            documents.append(document)
    try:
        return orjson.dumps(
            documents[0] if len(documents) == 1 else documents, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z
        )
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ValidationError("field_type", f"an event can't be written as JSON: {error}") from None
