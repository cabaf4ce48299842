"""Events as columns: what decoding hands to the rest of the event path."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EventBatch:
    """n valid events in the order of the log, one value a column each.

    Columns are kept as Arrow strings and numpy arrays because a Python object per value costs more
    than everything else on the event path together.
    """

    offset: NDArray[np.int64]
    """(n,) Kafka offset of the record an event came in."""
    index: NDArray[np.int32]
    """(n,) place of the event in its bundle, from 0."""
    appended_at: NDArray[np.int64]
    """(n,) Kafka record timestamp, microseconds since the epoch, UTC."""
    source_system: pa.StringArray
    event_id: pa.StringArray
    content: pa.StringArray
    """Empty string for deletes."""
    embedding: NDArray[np.float32]
    """(n, dimensions), C-contiguous; zeros for deletes."""
    model: pa.StringArray
    metadata: pa.StringArray
    """Canonical JSON objects: sorted keys, no spaces, UTF-8."""
    created_at: NDArray[np.int64]
    """(n,) event time, microseconds since the epoch, UTC."""
    delete: NDArray[np.bool_]
    """(n,) True where op is "delete"."""

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: slice) -> EventBatch:
        """Consecutive events, without a copy."""
        return EventBatch(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
