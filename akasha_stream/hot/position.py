"""Where an event stands in its shard, as one sortable 64-bit integer.

    bit 63      0
    bits 56-62  epoch: how many times the topic was recreated under this shard (0 … 127)
    bits 16-55  Kafka offset (below 2⁴⁰ = 1.1 · 10¹²)
    bits 0-15   place in the bundle (below 65,536)

Order of positions = order of the log, across recreations of the topic too, so "last writer wins" is a
comparison of two integers and a DuckDB PRIMARY KEY on them guards against storing an event twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_EPOCH = 127
MAX_OFFSET = (1 << 40) - 1
MAX_INDEX = (1 << 16) - 1


class Place(NamedTuple):
    epoch: int
    offset: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a place


def pack(epoch: int, offset: int, index: int) -> int:
    return epoch << 56 | offset << 16 | index


def pack_many(epoch: int, offsets: NDArray[np.int64], indexes: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) positions of n events of one epoch."""
    packed: NDArray[np.int64] = (np.int64(epoch) << 56) | (offsets << 16) | indexes
    return packed


def unpack(position: int) -> Place:
    return Place(position >> 56, position >> 16 & MAX_OFFSET, position & MAX_INDEX)
