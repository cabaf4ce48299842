"""Events to bytes: the value and the headers of one Kafka record. docs/wire-format.md says it in words."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa

from akasha_stream.errors import ValidationError
from akasha_stream.events.model import Event
from akasha_stream.times import rfc3339

type Format = Literal["arrow", "json"]

ARROW_TYPE = "application/vnd.apache.arrow.stream"
JSON_TYPE = "application/json"
CONTENT_TYPE = {"arrow": ARROW_TYPE, "json": JSON_TYPE}
CLOUDEVENT_TYPE = "io.akasha.embedding.bundle.v1"
DEFAULT_DIMENSIONS = 384
"""Width of the (all null) vector column of a bundle that holds nothing but deletes."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

WIRE_COLUMNS = ("event_id", "source_system", "content", "embedding", "model", "metadata", "created_at", "op")


@functools.cache
def wire_schema(dimensions: int) -> pa.Schema:
    """The one Arrow schema of a bundle. Vectors are null in deletes."""
    types: list[Any] = [pa.string()] * 3 + [pa.list_(pa.float32(), dimensions)] + [pa.string()] * 2
    types += [pa.timestamp("us", "UTC"), pa.string()]
    return pa.schema(list(zip(WIRE_COLUMNS, types, strict=True)))


def canonical_json(metadata: object) -> bytes:
    """Sorted keys, no spaces, UTF-8.

    Raises:
        ValidationError: a value that JSON can't hold.
    """
    try:
        return orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS)
    except (TypeError, orjson.JSONEncodeError) as error:
        raise ValidationError("metadata_invalid", f"metadata can't be written as JSON: {error}") from None


def encode_bundle(events: Sequence[Event], format: Format = "arrow") -> bytes:  # noqa: A002
    """The value of a Kafka record: 1..n events of one source system.

    Raises:
        ValidationError: no events, more than one source system, vectors of different lengths, or
            metadata that JSON can't hold. Limits are not checked here.
    """
    return encode_bundles([events], format)[0]


def encode_bundles(bundles: Sequence[Sequence[Event]], format: Format = "arrow") -> list[bytes]:  # noqa: A002
    """The values of several bundles, of one source system each.

    Arrow bundles are cut from one record batch that is built for all: 20 µs a bundle of two events, where building
    each costs 130.

    Raises:
        ValidationError: as `encode_bundle`, for any of them; `vector_length` too where the bundles' vectors differ.
    """
    for events in bundles:
        if not events:
            raise ValidationError("bundle_empty", "a bundle holds at least one event")
        system = events[0].source_system
        for event in events:
            if event.source_system != system:
                both = f"{system!r}, {event.source_system!r}"
                raise ValidationError("key_mismatch", f"a bundle with two source systems: {both}")
    if format == "json":
        return [_encode_json(events) for events in bundles]
    return _encode_arrow(bundles) if bundles else []


def headers(format: Format, source_system: str, bundle_id: str) -> list[tuple[str, bytes]]:  # noqa: A002
    """Kafka headers of a bundle: its content type, and CloudEvents 1.0 in binary mode."""
    return [
        ("content-type", CONTENT_TYPE[format].encode()),
        ("ce_specversion", b"1.0"),
        ("ce_type", CLOUDEVENT_TYPE.encode()),
        ("ce_id", bundle_id.encode()),
        ("ce_source", f"/source-systems/{source_system}".encode()),
        ("ce_time", rfc3339(datetime.now(UTC), "microseconds").encode()),
    ]


def _encode_arrow(bundles: Sequence[Sequence[Event]]) -> list[bytes]:
    batch = _record_batch([event for events in bundles for event in events])
    schema, result, start = _schema_message(batch.schema), [], 0
    for events in bundles:
        message = batch.slice(start, len(events)).serialize()
        result.append(b"".join((schema, message, END_OF_STREAM)))
        start += len(events)
    return result


def _record_batch(events: Sequence[Event]) -> pa.RecordBatch:
    try:
        vectors, dimensions = _vectors(events)
        return pa.RecordBatch.from_arrays(
            [
                pa.array([event.event_id for event in events], pa.string()),
                pa.array([event.source_system for event in events], pa.string()),
                pa.array([event.content for event in events], pa.string()),
                vectors,
                pa.array([event.model for event in events], pa.string()),
                pa.array([canonical_json(event.metadata) for event in events], pa.string()),
                pa.array([event.created_at for event in events], pa.timestamp("us", "UTC")),
                pa.array([event.op for event in events], pa.string()),
            ],
            schema=wire_schema(dimensions),
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError) as error:
        raise ValidationError("field_type", f"an event can't be written as Arrow: {error}") from None


@functools.cache
def _schema_message(schema: pa.Schema) -> bytes:
    return schema.serialize().to_pybytes()


def _vectors(events: Sequence[Event]) -> tuple[pa.FixedSizeListArray[Any, Any], int]:
    """The vector column and its width; null where an event has no vector."""
    rows = [event.embedding for event in events]
    lengths = {len(row) for row in rows}
    if len(lengths) == 1 and 0 not in lengths:
        dimensions = lengths.pop()
        column_type = wire_schema(dimensions).field("embedding").type
        return pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(rows)), type=column_type), dimensions
    present = lengths - {0}
    if len(present) > 1:
        raise ValidationError("vector_length", f"vectors of different lengths in one bundle: {sorted(present)}")
    dimensions = present.pop() if present else DEFAULT_DIMENSIONS
    blank = np.zeros(dimensions, dtype=np.float32)
    values = pa.array(np.concatenate([row if len(row) else blank for row in rows]))
    mask = pa.array([len(row) == 0 for row in rows])
    column_type = wire_schema(dimensions).field("embedding").type
    return pa.FixedSizeListArray.from_arrays(values, type=column_type, mask=mask), dimensions


def _encode_json(events: Sequence[Event]) -> bytes:
    """One object for one event, an array for several; a delete carries its identity and time only."""
    try:
        documents = [_document(event) for event in events]
        return orjson.dumps(
            documents[0] if len(documents) == 1 else documents,
            option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z,
        )
    except (TypeError, OverflowError, orjson.JSONEncodeError) as error:
        raise ValidationError("field_type", f"an event can't be written as JSON: {error}") from None


def _document(event: Event) -> dict[str, object]:
    document: dict[str, object] = {
        "event_id": event.event_id,
        "source_system": event.source_system,
        "created_at": event.created_at.astimezone(UTC),
        "op": event.op,
    }
    if event.op == "upsert":
        document["content"] = event.content
        document["embedding"] = np.ascontiguousarray(event.embedding)
        document["model"] = event.model
        # Through canonical bytes, so that both formats refuse the same metadata.
        document["metadata"] = orjson.Fragment(canonical_json(event.metadata))
    return document
