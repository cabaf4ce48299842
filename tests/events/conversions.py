"""Between events, records and batches, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import orjson

from akasha_stream.events.batch import EventBatch
from akasha_stream.events.bundles import encode_bundle, headers
from akasha_stream.events.model import Event
from akasha_stream.events.records import Record

NOW_MS = 1_780_000_000_000
"""A record timestamp in 2026."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def record(
    events: Sequence[Event], form: Literal["arrow", "json"] = "arrow", offset: int = 0, timestamp_ms: int = NOW_MS
) -> Record:
    system = events[0].source_system
    value = encode_bundle(events, form)
    return Record(0, offset, timestamp_ms, system.encode(), value, headers(form, system, f"bundle-{offset}"))


def json_record(value: object, key: bytes | None = b"s", offset: int = 0) -> Record:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return Record(0, offset, NOW_MS, key, raw, [("content-type", b"application/json")])


def arrow_record(value: bytes, key: bytes | None = b"s", offset: int = 0) -> Record:
    return Record(0, offset, NOW_MS, key, value, headers("arrow", "s", "bundle"))


def events_of(batch: EventBatch) -> list[Event]:
    """The batch as events; a delete has no vector."""
    columns: list[Any] = [batch.event_id, batch.source_system, batch.content, batch.model, batch.metadata]
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return [
        Event(
            event_id,
            system,
            content,
            batch.embedding[row] if not batch.delete[row] else batch.embedding[row][:0],
            model,
            cast("dict[str, Any]", orjson.loads(metadata)),
            EPOCH + timedelta(microseconds=int(batch.created_at[row])),
            "delete" if batch.delete[row] else "upsert",
        )
        for row, (event_id, system, content, model, metadata) in enumerate(rows)
    ]
