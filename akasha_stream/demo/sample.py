"""The bundled sample of real events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from akasha_stream.events.model import Event

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SAMPLE = Path(__file__).parent / "data" / "packages.parquet"
SPREAD = timedelta(hours=3)
DIMENSIONS = 384


def sample(count: int | None = None, *, now: datetime | None = None) -> pa.Table:
    """`count` events (default: all) with float32 vectors, oldest first.

    The times are spread evenly over the three hours before `now`: with those of the file, months apart, each event
    would close the window of the one before it, which no live system does. More events than the sample has are
    copies under further names of systems ("session-buddy-003-copy-2"): they are stored, as no two systems share
    content dedupe.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(SAMPLE)
    wanted = len(table) if count is None else count
    parts = []
    left, copy = wanted, 1
    while left > 0:
        part = table.slice(0, left)
        if copy > 1:
            names = pa.array([f"{name}-copy-{copy}" for name in part["source_system"].to_pylist()])
            part = part.set_column(part.schema.get_field_index("source_system"), "source_system", names)
        parts.append(part)
        left -= len(part)
        copy += 1
    table = pa.concat_tables(parts) if parts else table.slice(0, 0)
    start = int(((now or datetime.now(UTC)) - SPREAD).timestamp() * 1e6)
    step = SPREAD / timedelta(microseconds=1) / max(len(table), 1)
    times = pa.array([start + int(place * step) for place in range(len(table))], pa.timestamp("us", tz="UTC"))
    table = table.set_column(table.schema.get_field_index("created_at"), "created_at", times)
    exact = pa.FixedSizeListArray.from_arrays(pa.array(vectors(table).ravel()), DIMENSIONS)
    return table.set_column(table.schema.get_field_index("embedding"), "embedding", exact)


def vectors(table: pa.Table) -> NDArray[np.float32]:
    """(rows, 384) the embeddings."""
    import numpy as np

    flat = table["embedding"].combine_chunks().flatten()  # type: ignore[attr-defined]
    return np.asarray(flat, np.float32).reshape(-1, DIMENSIONS)


def events(table: pa.Table) -> list[Event]:
    """The rows as events."""
    import json

    rows: Sequence[dict[str, object]] = table.drop_columns(["embedding"]).to_pylist()
    return [
        Event(
            event_id=str(row["event_id"]),
            source_system=str(row["source_system"]),
            content=str(row["content"]),
            embedding=vector,
            metadata=json.loads(str(row["metadata"])),
            created_at=row["created_at"],  # type: ignore[arg-type]
        )
        for row, vector in zip(rows, vectors(table), strict=True)
    ]
