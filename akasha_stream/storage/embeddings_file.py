"""A batch of embeddings as a Parquet file with the guide's columns; `akasha-stream publish` reads it too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from akasha_stream.events.bundles import canonical_json
from akasha_stream.events.model import Event


def embeddings_file(events: Sequence[Event]) -> bytes:
    """`events`: at least one, whose vectors have the same length.

    Columns: id, content, embedding (float32 list), metadata (JSON), source_system, created_at (UTC, microseconds).
    """
    vectors = np.concatenate([event.embedding for event in events])
    table = pa.table(
        {
            "id": pa.array([event.event_id for event in events], pa.string()),
            "content": pa.array([event.content for event in events], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors), len(events[0].embedding)),
            "metadata": pa.array([canonical_json(event.metadata).decode() for event in events], pa.string()),
            "source_system": pa.array([event.source_system for event in events], pa.string()),
            "created_at": pa.array([event.created_at for event in events], pa.timestamp("us", "UTC")),
        }
    )
    sink = pa.BufferOutputStream()
    # As spilled segments are: float32 bytes hardly compress unless those of equal rank stand together.
    pq.write_table(
        table,
        sink,
        compression="zstd",
        row_group_size=8_192,
        use_dictionary=["source_system"],  # type: ignore[arg-type]  # its stubs know a bool only
        column_encoding={"embedding.list.element": "BYTE_STREAM_SPLIT"},
    )
    return sink.getvalue().to_pybytes()
