"""What other Arrow writers may do differently."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from akasha_stream.events.decode import Decoder
from akasha_stream.events.model import DEFAULT_MODEL, Event
from akasha_stream.settings import Limits
from tests.events.conversions import NOW_MS, arrow_record, events_of, record
from tests.events.malformed import columns_of, ipc

RNG = np.random.default_rng(2)
EVENTS = [
    Event(
        f"id-{number}",
        "s",
        "some text, longer than a view holds inline",
        RNG.normal(size=8).astype(np.float16).astype(np.float32),
        "all-MiniLM-L6-v2",
        {"n": number},
        datetime(2026, 1, 2, 3, 4, number, tzinfo=UTC),
    )
    for number in range(5)
]

type Columns = dict[str, Any]


def _strings(to: Callable[[Any], Any]) -> Callable[[Columns], Columns]:
    return lambda columns: {
        name: to(column) if column.type == pa.string() else column for name, column in columns.items()
    }


def _vectors(to: Callable[[Any], Any]) -> Callable[[Columns], Columns]:
    return lambda columns: {**columns, "embedding": to(columns["embedding"])}


def _times(unit: Any) -> Callable[[Columns], Columns]:
    zone = pa.timestamp(unit, "Europe/Berlin")
    return lambda columns: {**columns, "created_at": columns["created_at"].cast(zone)}


CHANGES: dict[str, Callable[[Columns], Columns]] = {
    "other column order": lambda columns: dict(sorted(columns.items())),
    "extra columns": lambda columns: {**columns, "extra": pa.array([{"a": [1]}] * 5), "shard": pa.array([1] * 5)},
    "large_utf8": _strings(lambda column: column.cast(pa.large_string())),
    "utf8_view": _strings(lambda column: column.cast(pa.string_view())),
    "dictionaries": _strings(lambda column: column.dictionary_encode()),
    "float16": _vectors(lambda column: column.cast(pa.list_(pa.float16(), 8))),
    "float64": _vectors(lambda column: column.cast(pa.list_(pa.float64(), 8))),
    "list": _vectors(lambda column: column.cast(pa.list_(pa.float32()))),
    "large_list of float64": _vectors(lambda column: column.cast(pa.large_list(pa.float64()))),
    "child of another name": _vectors(lambda column: column.cast(pa.list_(pa.field("element", pa.float32()), 8))),
    "seconds": _times("s"),
    "milliseconds": _times("ms"),
    "nanoseconds": _times("ns"),
    "only the required": lambda columns: {
        name: column for name, column in columns.items() if name not in ("model", "metadata", "op")
    },
    "null optional columns": lambda columns: {
        **columns,
        "model": pa.nulls(5),
        "op": pa.nulls(5),
        "metadata": pa.nulls(5),
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_writers(change: Callable[[Columns], Columns]) -> None:
    value = record(EVENTS).value
    assert value is not None
    columns = change(columns_of(value))
    decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(ipc(columns))])
    assert not decoded.dead
    events = events_of(decoded.batch)
    if "metadata" not in columns or columns["metadata"].null_count:
        assert {event.model for event in events} == {DEFAULT_MODEL}
        assert all(event.metadata == {} for event in events)
    else:
        assert events == EVENTS


def test_deletes_need_an_identity_only() -> None:
    rows = {
        "event_id": ["a", "b"],
        "source_system": ["s", "s"],
        "content": pa.array([None, "kept"]),
        "embedding": pa.array([None, [1.0] * 8], pa.list_(pa.float32())),
        "created_at": pa.array([None, 5], pa.timestamp("ms", "UTC")),
        "op": ["delete", "upsert"],
    }
    batch = Decoder(Limits(dimensions=8), None).decode([arrow_record(ipc(rows))]).batch
    assert batch.delete.tolist() == [True, False]
    assert batch.created_at.tolist() == [NOW_MS * 1000, 5000]
    assert batch.content.to_pylist() == ["", "kept"]
    assert batch.metadata.to_pylist() == ["{}", "{}"]
    assert batch.embedding.tolist() == [[0.0] * 8, [1.0] * 8]


def test_several_batches_and_unaligned_bytes() -> None:
    value = record(EVENTS).value
    assert value is not None
    batch = pa.ipc.open_stream(value).read_next_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        for row in range(5):
            writer.write_batch(batch.slice(row, 1))
    decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(bytes(sink.getvalue()))])
    assert events_of(decoded.batch) == EVENTS
    assert decoded.batch.index.tolist() == [0, 1, 2, 3, 4]
    shifted = memoryview(b"x" * 3 + value)[3:]
    decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(shifted)])  # type: ignore[arg-type]
    assert decoded.batch.embedding.flags.aligned
    assert events_of(decoded.batch) == EVENTS


def test_a_null_row_of_a_required_column_is_refused_alone() -> None:
    value = record(EVENTS).value
    assert value is not None
    columns = columns_of(value)
    for name in ("event_id", "content", "embedding", "created_at"):
        holed = columns[name].to_pylist()
        holed[3] = None
        spoilt = {**columns, name: pa.array(holed, columns[name].type)}
        decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(ipc(spoilt))])
        assert decoded.batch.index.tolist() == [0, 1, 2, 4]
        assert [(letter.reason, letter.index) for letter in decoded.dead] == [("field_missing", 3)]


def test_a_null_number_is_refused() -> None:
    value = record(EVENTS).value
    assert value is not None
    columns = columns_of(value)
    rows = columns["embedding"].to_pylist()
    rows[1][4] = None
    for kind in (pa.list_(pa.float32(), 8), pa.list_(pa.float64())):
        spoilt = {**columns, "embedding": pa.array(rows, kind)}
        decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(ipc(spoilt))])
        assert [(letter.reason, letter.index) for letter in decoded.dead] == [("vector_not_finite", 1)]


def test_an_unknown_column_is_never_read() -> None:
    """Its offsets may lead anywhere, also when one event of the bundle has to become a letter."""
    value = record(EVENTS).value
    assert value is not None
    columns = columns_of(value)
    columns["event_id"] = pa.array(["id-0", "", "id-2", "id-3", "id-4"])
    columns["extra"] = pa.array(["fifteen letters"] * 5)
    raw = ipc(columns)
    offsets = np.arange(0, 90, 15, dtype=np.int32).tobytes()
    at = raw.index(offsets)
    rng = random.Random(3)
    for _ in range(20):
        # Arrow itself looks at the first and the last.
        broken = np.array([0, *(rng.randrange(2**31) for _ in range(4)), 75], dtype=np.int32).tobytes()
        decoded = Decoder(Limits(dimensions=8), None).decode([arrow_record(raw[:at] + broken + raw[at + 24 :])])
        assert [letter.reason for letter in decoded.dead] == ["event_id_size"], decoded.dead[0].detail
        assert len(decoded.batch) == 4
        assert decoded.dead[0].event is not None
