"""Tables become the same bundles as events, whatever shape their columns have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from akasha_stream.errors import ValidationError
from akasha_stream.events.bundles import Format, headers
from akasha_stream.events.model import Event
from akasha_stream.events.records import Record
from akasha_stream.publish.tables import bad_rows, encode_rows, group, runs, to_wire
from akasha_stream.settings import Limits
from tests.publish.events import DIMENSIONS, START, decode, make_events, texts, vectors


def table_of(events: list[Event], embedding: Any = None) -> pa.Table:
    flat = np.concatenate([event.embedding for event in events])
    return pa.table(
        {
            "event_id": [event.event_id for event in events],
            "source_system": [event.source_system for event in events],
            "content": [event.content for event in events],
            "embedding": embedding or pa.FixedSizeListArray.from_arrays(pa.array(flat), DIMENSIONS),
            "metadata": [orjson.dumps(dict(event.metadata)).decode() for event in events],
            "created_at": pa.array([event.created_at for event in events], pa.timestamp("us", "UTC")),
        }
    )


SHAPES: dict[str, Any] = {
    "fixed lists": lambda rows: pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), DIMENSIONS),
    "lists of float32": lambda rows: pa.array(list(rows), pa.list_(pa.float32())),
    "lists of float64": lambda rows: pa.array(list(rows.astype(np.float64)), pa.list_(pa.float64())),
    "large lists": lambda rows: pa.array(list(rows), pa.large_list(pa.float32())),
    "fixed lists of float16": lambda rows: pa.FixedSizeListArray.from_arrays(
        pa.array(rows.astype(np.float16).reshape(-1)), DIMENSIONS
    ),
    "bytes": lambda rows: pa.array([row.tobytes() for row in rows], pa.binary()),
    "large bytes": lambda rows: pa.array([row.tobytes() for row in rows], pa.large_binary()),
    "fixed bytes": lambda rows: pa.array([row.tobytes() for row in rows], pa.binary(4 * DIMENSIONS)),
    "sliced": lambda rows: pa.array([b"", *(row.tobytes() for row in rows)], pa.binary()).slice(1),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["arrow", "json"])
def test_rows_arrive_as_they_were(shape: str, form: Format) -> None:
    events = make_events(5, systems=1)
    rows = vectors(5)
    wire = to_wire(table_of(events, SHAPES[shape](rows)), DIMENSIONS)
    assert bad_rows(wire, Limits()) == []
    value = encode_rows(wire.rows, form)
    record = Record(0, 0, 1_800_000_000_000, b"system-0", value, headers(form, "system-0", "b"))
    decoded = decode([record])
    assert not decoded.dead
    batch = decoded.batch
    assert batch.event_id.to_pylist() == [event.event_id for event in events]
    assert batch.content.to_pylist() == [event.content for event in events]
    assert [orjson.loads(text) for text in texts(batch.metadata)] == [event.metadata for event in events]
    assert batch.created_at.tolist() == [int(event.created_at.timestamp() * 1e6 + 0.5) for event in events]
    tolerance = 1e-3 if "float16" in shape else 0
    np.testing.assert_allclose(batch.embedding, rows, atol=tolerance, rtol=0)


def test_vectors_of_another_length_are_named_and_the_others_kept() -> None:
    events = make_events(4, systems=1)
    rows = [*vectors(4)]
    rows[1] = rows[1][:100]
    mixed: list[Any] = [rows[0], rows[1], None, rows[3]]
    for embedding in (
        pa.array(mixed, pa.list_(pa.float32())),
        pa.array([None if row is None else row.tobytes() for row in mixed], pa.binary()),
    ):
        wire = to_wire(table_of(events, embedding), DIMENSIONS)
        assert [(bad.row, bad.reason) for bad in bad_rows(wire, Limits())] == [
            (1, "vector_length"),
            (2, "field_missing"),
        ]
        kept: Any = wire.rows.column("embedding")
        np.testing.assert_array_equal(kept[3].values.to_numpy(), rows[3])


def test_bad_rows_are_told_in_the_words_of_ingest() -> None:
    table = table_of(make_events(4, systems=1))
    table = table.set_column(0, "event_id", pa.array(["", None, "a\nb", "good"]))
    wire = to_wire(table, DIMENSIONS)
    found = [(bad.row, bad.reason) for bad in bad_rows(wire, Limits())]
    assert found == [(0, "event_id_size"), (1, "field_missing"), (2, "control_characters")]


def test_a_missing_column_and_a_time_without_zone_are_refused() -> None:
    table = table_of(make_events(2))
    with pytest.raises(ValidationError, match="content"):
        to_wire(table.drop_columns(["content"]), DIMENSIONS)
    naive = table.set_column(5, "created_at", pa.array([datetime(2026, 1, 1)] * 2, pa.timestamp("us")))
    with pytest.raises(ValidationError, match="zone"):
        to_wire(naive, DIMENSIONS)


def test_defaults_fill_columns_that_are_not_there_and_nulls() -> None:
    table = table_of(make_events(3)).drop_columns(["metadata", "created_at"])
    table = table.append_column("model", pa.array(["mine", None, None], pa.string()))
    wire = to_wire(table, DIMENSIONS)
    assert bad_rows(wire, Limits()) == []
    rows = wire.rows.to_pylist()
    assert [row["model"] for row in rows] == ["mine", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2"]
    assert {row["metadata"] for row in rows} == {"{}"}
    assert all(abs((datetime.now(UTC) - row["created_at"]).total_seconds()) < 60 for row in rows)


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 400)), max_size=60),
    st.integers(1, 9),
    st.integers(100, 2_000),
)
def test_runs_hold_every_row_once_in_order_and_within_the_limits(
    rows: list[tuple[str, int]], max_events: int, max_bytes: int
) -> None:
    table = pa.table(
        {
            "event_id": pa.array([str(n) for n in range(len(rows))], pa.string()),
            "source_system": pa.array([system for system, _ in rows], pa.string()),
            "content": pa.array(["x" * size for _, size in rows], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors(len(rows)).reshape(-1)), DIMENSIONS),
            "created_at": pa.array([START] * len(rows), pa.timestamp("us", "UTC")),
        }
    )
    grouped, order = group(to_wire(table, DIMENSIONS).rows)
    names = grouped.column("event_id").to_pylist()
    assert names == [str(n) for n in (order.tolist() if order is not None else range(len(rows)))]
    found: dict[str, list[str]] = {}
    at = 0
    for run in runs(grouped, max_events, max_bytes, event_bytes=50):
        assert run.start == at
        at = run.stop
        count = run.stop - run.start
        assert 1 <= count <= max_events
        part = grouped.slice(run.start, count)
        assert set(part.column("source_system").to_pylist()) == {run.system}
        size = sum(50 + len(text) + 2 for text in part.column("content").to_pylist())
        assert size <= max_bytes or count == 1
        found.setdefault(run.system, []).extend(part.column("event_id").to_pylist())
    assert at == len(rows)
    for system in {system for system, _ in rows}:
        assert found[system] == [str(n) for n, row in enumerate(rows) if row[0] == system]
