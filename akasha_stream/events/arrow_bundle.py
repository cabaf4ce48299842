"""Reading Arrow bundles: bytes of anyone to record batches of the wire schema.

What protects the process: body compression is refused before a buffer is touched (a compressed buffer
declares its own size), rows are counted before a column is converted, dictionaries and views are
measured before they are decoded, and every batch passes Arrow's full validation before its offsets are
believed. Nothing is copied here but what has to be converted, and small bundles: see `read_together`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from akasha_stream.errors import DecodeError
from akasha_stream.events.bundles import END_OF_STREAM, wire_schema
from akasha_stream.settings import Limits

REQUIRED = ("event_id", "source_system", "content", "embedding", "created_at")
STRINGS = ("event_id", "source_system", "content", "model", "metadata", "op")
MAX_SCHEMA_BYTES = 65_536
MAX_MESSAGES = 64
"""A bundle is one batch; producers that write a few, or dictionaries before it, are fine."""
_CACHED_SCHEMAS = 256
_STRING_TYPES = (pa.string(), pa.large_string(), pa.string_view())
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_CONTINUATION = b"\xff\xff\xff\xff"
_RECORD_BATCH = 3
"""MessageHeader.RecordBatch of Message.fbs."""
NO_TIME = np.iinfo(np.int64).min
"""created_at of a row whose time can't be said in microseconds."""


@dataclass(slots=True)
class ArrowRows:
    """What one Arrow bundle holds."""

    batches: list[pa.RecordBatch]
    """Of the wire schema."""
    validated: bool
    """Whether they have passed full validation; else the caller has to do it before reading values."""
    refused: list[tuple[int, str, str]] = field(default_factory=list)
    """(index in the bundle, reason, detail) of events whose columns could not be converted."""


@dataclass(slots=True)
class Joined:
    """What several plain bundles hold, fully validated, as one batch of the wire schema."""

    batch: pa.RecordBatch
    places: list[int]
    """The bundles' places in what was given."""
    rows: list[int]
    """Events of each of them; at least 1."""


class ArrowReader:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._wire = wire_schema(limits.dimensions)
        self._head = self._wire.serialize().to_pybytes()
        # First messages that say the wire schema, as producers have sent them.
        self._wire_heads = {self._head}
        # A producer sends the same schema bytes with every bundle; parsing them costs more than all else.
        self._schemas: dict[bytes, pa.Schema | DecodeError] = {}

    def read(self, value: bytes) -> ArrowRows:
        """Raises DecodeError, whatever the bytes are."""
        try:
            return self._read(value)
        except (pa.ArrowException, OSError, ValueError, struct.error, OverflowError, MemoryError) as error:
            raise DecodeError("arrow_invalid", f"no Arrow IPC stream: {_first_line(error)}") from None

    def read_together(self, values: Sequence[bytes]) -> Joined | None:
        """All plain bundles among `values`, by one call of Arrow; the others, or None for all, are `read`'s.

        Plain is what publishers send: the wire schema, then one record batch. Reading such bundles one by one
        cost 50 µs each, most of it between Python and C++, whereas two events take 2: 3,000 small bundles a
        second kept the worker from everything else. Their messages behind each other, in one stream, cost 15.
        """
        parts: list[bytes | memoryview] = [self._head]
        places: list[int] = []
        rows: list[int] = []
        for place, value in enumerate(values):
            plain = self._plain(value)
            if plain is not None:
                start, end, count = plain
                parts.append(memoryview(value)[start:end])
                places.append(place)
                rows.append(count)
        if len(places) < 2:
            return None
        try:
            table = pa.ipc.open_stream(b"".join(parts)).read_all()
            if table.num_rows != sum(rows):
                return None
            table.validate(full=True)
            batches = table.combine_chunks().to_batches()
        except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError):
            # One of them is broken. Which, and in what way, is seen when they are read alone.
            return None
        return Joined(batches[0], places, rows) if len(batches) == 1 else None

    def _plain(self, value: bytes) -> tuple[int, int, int] | None:
        """(start, end, rows) of the one record batch message of a plain bundle; None for any other."""
        try:
            if value[:4] != _CONTINUATION:
                return None
            start = 8 + struct.unpack_from("<i", value, 4)[0]
            if value[:start] not in self._wire_heads or value[start : start + 4] != _CONTINUATION:
                return None
            size = struct.unpack_from("<i", value, start + 4)[0]
            if size <= 0:
                return None
            metadata = value[start + 8 : start + 8 + size]
            message = struct.unpack_from("<I", metadata, 0)[0]
            kind = _table_field(metadata, message, 1)
            length = _table_field(metadata, message, 3)
            batch = _header(metadata)
            count = _table_field(metadata, batch, 0)
            compressed = _table_field(metadata, batch, 3)
            # Positions from unverified bytes may be negative, which Python would count from the end.
            if compressed or min(kind, length, count) <= 0 or metadata[kind] != _RECORD_BATCH:
                return None
            body = struct.unpack_from("<q", metadata, length)[0]
            end = start + 8 + size + body
            rows = struct.unpack_from("<q", metadata, count)[0]
        except (struct.error, IndexError):
            return None
        if body < 0 or not start < end <= len(value) or value[end:] not in (b"", END_OF_STREAM):
            return None
        return (start, end, rows) if 0 < rows <= self._limits.bundle_events else None

    def _read(self, value: bytes) -> ArrowRows:
        reader = pa.ipc.MessageReader.open_stream(value)
        try:
            head = reader.read_next_message()
        except StopIteration:
            raise DecodeError("arrow_invalid", "the Arrow stream is empty") from None
        schema = self._schema(head)
        messages: list[pa.ipc.Message] = []
        for message in reader:
            kind = message.type
            if kind not in ("record batch", "dictionary"):
                raise DecodeError("arrow_invalid", f"the Arrow stream has a {kind} message after its schema")
            if len(messages) == MAX_MESSAGES:
                raise DecodeError("arrow_invalid", f"the Arrow stream has more than {MAX_MESSAGES} messages")
            if _compressed(message.metadata, dictionary=kind == "dictionary"):
                raise DecodeError("arrow_compressed", "Arrow buffers are compressed; compress the Kafka record instead")
            messages.append(message)
        if not messages:
            raise DecodeError("bundle_empty", "the Arrow stream has a schema and no record batch")
        if any(message.type == "dictionary" for message in messages):
            stream = pa.ipc.open_stream(value)
            batches = [batch for batch in stream]  # noqa: C416  a reader's list() asks for its length first
        else:
            batches = [pa.ipc.read_record_batch(message, schema) for message in messages]
        rows = 0
        for batch in batches:
            if batch.num_rows < 0:
                raise DecodeError("arrow_invalid", f"a record batch of {batch.num_rows} rows")
            rows += batch.num_rows
        if rows == 0:
            raise DecodeError("bundle_empty", "the bundle holds no events")
        if rows > self._limits.bundle_events:
            raise DecodeError("bundle_too_many_events", f"{rows} events, the limit is {self._limits.bundle_events}")
        if schema is self._wire:
            self._remember_head(value)
            return ArrowRows(batches, validated=False)
        return self._converted(batches)

    def _remember_head(self, value: bytes) -> None:
        if value[:4] != _CONTINUATION or len(self._wire_heads) >= _CACHED_SCHEMAS:
            return
        end = 8 + struct.unpack_from("<i", value, 4)[0]
        metadata = value[8:end]
        body = _table_field(metadata, struct.unpack_from("<I", metadata, 0)[0], 3)
        # One with a body would have the record batch elsewhere than `_plain` looks for it.
        if not body or not struct.unpack_from("<q", metadata, body)[0]:
            self._wire_heads.add(value[:end])

    def _schema(self, head: Any) -> pa.Schema:
        if head.type != "schema":
            raise DecodeError("arrow_invalid", f"the Arrow stream begins with a {head.type} message, not a schema")
        if head.metadata.size > MAX_SCHEMA_BYTES:
            raise DecodeError("arrow_schema", f"the Arrow schema has {head.metadata.size} bytes")
        known = head.metadata.to_pybytes()
        schema = self._schemas.get(known)
        if schema is None:
            schema = self._checked(head)
            if len(self._schemas) >= _CACHED_SCHEMAS:
                self._schemas.clear()
            self._schemas[known] = schema
        if isinstance(schema, DecodeError):
            raise DecodeError(schema.reason, str(schema))
        return schema

    def _checked(self, head: Any) -> pa.Schema | DecodeError:
        """The schema, `self._wire` itself where it is that one; or why it can't be read."""
        if _big_endian(head.metadata):
            return DecodeError("arrow_schema", "the Arrow stream is big-endian")
        schema = pa.ipc.read_schema(head)
        if schema.equals(self._wire):
            return self._wire
        names = schema.names
        for name in self._wire.names:
            if names.count(name) > 1:
                return DecodeError("arrow_schema", f"the column {name} is there {names.count(name)} times")
            if name not in names:
                if name in REQUIRED:
                    return DecodeError("arrow_schema", f"the column {name} is missing")
                continue
            problem = _type_problem(name, schema.field(name).type)
            if problem:
                reason = "created_at_naive" if problem.endswith("without a time zone") else "arrow_schema"
                return DecodeError(reason, f"the column {name} {problem}")
        return schema

    def _converted(self, batches: list[pa.RecordBatch]) -> ArrowRows:
        result = ArrowRows([], validated=True)
        base = 0
        for batch in batches:
            result.batches.append(self._convert(batch, base, result.refused))
            base += batch.num_rows
        return result

    def salvage(self, batches: list[pa.RecordBatch]) -> ArrowRows:
        """Wire-schema batches that failed full validation: the rows of bad UTF-8 refused, the rest kept.

        Raises:
            DecodeError: more than UTF-8 is broken.
        """
        try:
            return self._converted(batches)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            raise DecodeError("arrow_invalid", f"corrupt Arrow buffers: {_first_line(error)}") from None

    def _convert(self, batch: pa.RecordBatch, base: int, refused: list[tuple[int, str, str]]) -> pa.RecordBatch:
        """One batch in the wire schema, fully validated. Rows that can't be converted are null and refused."""
        rows = batch.num_rows
        misfits: list[tuple[int, str, str]] = []
        columns: list[pa.Array[Any]] = []
        for name in self._wire.names:
            if name not in batch.schema.names:
                columns.append(pa.nulls(rows, self._wire.field(name).type))
                continue
            column = batch.column(name)
            # Structure first (a length may be negative, a buffer short); values are checked where they are read.
            column.validate()
            if name == "embedding":
                columns.append(self._vectors(column, base, misfits))
            elif name == "created_at":
                columns.append(_microseconds(column))
            else:
                columns.append(self._string(name, column, base, refused))
        result = pa.RecordBatch.from_arrays(columns, schema=self._wire)
        result.validate(full=True)
        # What vector a delete carries does not matter.
        operations = columns[self._wire.names.index("op")]
        refused += [misfit for misfit in misfits if operations[misfit[0] - base].as_py() != "delete"]
        return result

    def _string(
        self, name: str, column: pa.Array[Any], base: int, refused: list[tuple[int, str, str]]
    ) -> pa.Array[Any]:
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), pa.string())
        if pa.types.is_dictionary(column.type):
            dictionary = cast("pa.DictionaryArray[Any, Any]", column)
            words, bad_words = _utf8(dictionary.dictionary, self._limits.bundle_bytes)
            dictionary.indices.validate(full=True)
            # Checks the indices against the dictionary; the words have passed already.
            pa.DictionaryArray.from_arrays(dictionary.indices, words).validate(full=True)
            lengths = np.append(_lengths(words), 0)
            indices = dictionary.indices.cast(pa.int64()).fill_null(len(words)).to_numpy(zero_copy_only=False)
            self._check_decoded(name, int(lengths[indices].sum()))
            bad = np.flatnonzero(np.isin(indices, bad_words)) if len(bad_words) else bad_words
            values = words.take(dictionary.indices)
        else:
            values, bad = _utf8(column, self._limits.bundle_bytes)
        for row in bad.tolist():
            refused.append((base + row, "utf8_invalid", f"{name} is not UTF-8"))
        return values

    def _check_decoded(self, name: str, size: int) -> None:
        if size > self._limits.bundle_bytes:
            limit = self._limits.bundle_bytes
            raise DecodeError("bundle_too_large", f"the column {name} decodes to {size} bytes, the limit is {limit}")

    def _vectors(self, column: pa.Array[Any], base: int, refused: list[tuple[int, str, str]]) -> pa.Array[Any]:
        """Any list of any float to fixed-size float32; rows of another length are null and refused."""
        dimensions = self._limits.dimensions
        rows = len(column)
        column.validate(full=True)
        missing = column.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_fixed_size_list(column.type):
            width = column.type.list_size
            lengths = np.full(rows, width)
            starts = (np.arange(rows) + column.offset) * width
        else:
            offsets = cast("pa.ListArray[Any]", column).offsets.to_numpy(zero_copy_only=False).astype(np.int64)
            starts, lengths = offsets[:-1], np.diff(offsets)
        wrong = (lengths != dimensions) & ~missing
        for row in np.flatnonzero(wrong).tolist():
            detail = f"the embedding has {lengths[row]} numbers, wanted are {dimensions}"
            refused.append((base + row, "vector_length", detail))
        good = np.flatnonzero(~(wrong | missing))
        out = np.zeros((rows, dimensions), dtype=np.float32)
        values = cast("pa.ListArray[Any]", column).values
        if len(good):
            # A null number becomes NaN, and is refused as such later on.
            numbers = values.to_numpy(zero_copy_only=False)
            with np.errstate(over="ignore", invalid="ignore"):
                out[good] = numbers[starts[good, None] + np.arange(dimensions)]
        absent = np.ones(rows, dtype=np.bool_)
        absent[good] = False
        column_type = self._wire.field("embedding").type
        return pa.FixedSizeListArray.from_arrays(pa.array(out.ravel()), type=column_type, mask=pa.array(absent))


def _type_problem(name: str, given: pa.DataType) -> str | None:
    """What is wrong with a column's type; None where it can be read."""
    kinds = pa.types
    if name == "embedding":
        if kinds.is_list(given) or kinds.is_large_list(given) or kinds.is_fixed_size_list(given):
            item = cast("pa.ListType[Any]", given).value_type
            if kinds.is_floating(item):
                return None
        return f"is {_type_name(given)}, wanted is a list of floats"
    if name == "created_at":
        if not kinds.is_timestamp(given):
            return f"is {_type_name(given)}, wanted is a timestamp with a time zone"
        return None if given.tz else "is a timestamp without a time zone"
    if kinds.is_null(given) and name not in REQUIRED:
        return None
    if kinds.is_dictionary(given):
        given = cast("pa.DictionaryType[Any, Any]", given).value_type
    return None if given in _STRING_TYPES else f"is {_type_name(given)}, wanted is utf8"


def _type_name(given: pa.DataType) -> str:
    """In short, and printable: names of fields inside of it are anyone's."""
    return ascii(str(given))[1:-1][:80]


def _utf8(column: pa.Array[Any], max_bytes: int) -> tuple[pa.Array[Any], NDArray[np.int64]]:
    """(utf8 array, rows that are no UTF-8 and are null in it) of a utf8, large_utf8 or utf8_view array."""
    if column.type == pa.string_view():
        # Views may overlap: a few MB can claim to be terabytes once they are written out.
        if (size := int(_lengths(column).sum())) > max_bytes:
            raise DecodeError("bundle_too_large", f"a column decodes to {size} bytes, the limit is {max_bytes}")
        binary: pa.Array[Any] = pa.Array.from_buffers(
            pa.binary_view(), len(column), column.buffers(), offset=column.offset
        )
    else:
        raw: Any = pa.large_binary() if column.type == pa.large_string() else pa.binary()
        binary = pa.Array.from_buffers(raw, len(column), column.buffers(), offset=column.offset)
    binary.validate(full=True)
    binary = cast("pa.Array[Any]", binary.cast(pa.binary()))
    try:
        return binary.cast(pa.string()), np.empty(0, dtype=np.int64)
    except pa.ArrowInvalid:
        good = np.array([_is_utf8(value) for value in binary.to_pylist()], dtype=np.bool_)
        cleared = pc.if_else(pa.array(good), binary, pa.scalar(None, pa.binary()))
        return cleared.cast(pa.string()), np.flatnonzero(~good)


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False


def _lengths(column: Any) -> NDArray[np.int64]:
    """Bytes of each value, 0 for a null."""
    if column.type == pa.string_view():
        column.validate()
        views = np.frombuffer(column.buffers()[1], np.int32, count=4 * (column.offset + len(column)))
        lengths = views.reshape(-1, 4)[column.offset :, 0].astype(np.int64)
        return np.maximum(lengths, 0)
    return cast("NDArray[np.int64]", pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)).astype(
        np.int64
    )


def _microseconds(column: pa.Array[Any]) -> pa.Array[Any]:
    """Any timestamp to microseconds; what doesn't fit becomes NO_TIME, which lies out of every range."""
    column.validate(full=True)
    unit = _PER_SECOND[cast("pa.TimestampType[Any, Any]", column.type).unit]
    missing = column.is_null().to_numpy(zero_copy_only=False)
    ticks = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    if unit <= 1_000_000:
        factor = 1_000_000 // unit
        most = np.iinfo(np.int64).max // factor
        times = np.where(np.abs(np.maximum(ticks, -most)) <= most, ticks, 0) * factor
        times = np.where((ticks > most) | (ticks < -most), NO_TIME, times)
    else:
        times = ticks // (unit // 1_000_000)
    return pa.array(times, pa.int64(), mask=missing).cast(pa.timestamp("us", "UTC"))


# Facts that pyarrow does not tell, or only at the cost of a call, are read from the flatbuffers. In `_plain` Arrow
# has not verified them yet: a position behind the bytes raises, and Arrow reads the same fields afterwards.
# Field numbers are those of Message.fbs and Schema.fbs of the Arrow format.


def _table_field(data: pa.Buffer | bytes, table: int, number: int) -> int:
    """Position of a field of a flatbuffers table; 0 where it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else 0


def _header(data: pa.Buffer | bytes) -> int:
    """Position of the table in a message: Schema, RecordBatch or DictionaryBatch."""
    at = _table_field(data, struct.unpack_from("<I", data, 0)[0], 2)
    return at + int(struct.unpack_from("<I", data, at)[0])


def _compressed(data: pa.Buffer, *, dictionary: bool) -> bool:
    batch = _header(data)
    if dictionary:
        at = _table_field(data, batch, 1)
        batch = at + struct.unpack_from("<I", data, at)[0]
    return _table_field(data, batch, 3) != 0


def _big_endian(data: pa.Buffer) -> bool:
    at = _table_field(data, _header(data), 0)
    return bool(at and struct.unpack_from("<h", data, at)[0] != 0)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0][:200] or type(error).__name__
