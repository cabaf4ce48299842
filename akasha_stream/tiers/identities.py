"""Who is who over all segments of a partition: which rows are replaced or deleted, told from the segments alone.

Identities are compared by a keyed 128-bit hash: with the 64-bit one of the shards, whoever chooses event ids could make
two identities collide, and compaction, which does not look at both rows again, would drop a live one.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from akasha_stream.hot.hashes import identity_key, strings

Keys = NDArray[np.bytes_]
"""(n,) of dtype S16: comparable within this process only."""

_SECRET = secrets.token_bytes(16)
NO_KEYS: Keys = np.empty(0, "S16")


def identity_keys(
    systems: pa.ChunkedArray[Any] | pa.Array[Any], event_ids: pa.ChunkedArray[Any] | pa.Array[Any]
) -> Keys:
    """Of n rows, by their source systems and event ids (strings). Some 2 µs each."""
    pairs = zip(strings(systems), strings(event_ids), strict=True)
    hashed = b"".join(blake2b(identity_key(*pair).encode(), digest_size=16, key=_SECRET).digest() for pair in pairs)
    return np.frombuffer(hashed, "S16")


def superseded(keys: Sequence[Keys], positions: Sequence[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
    """Which rows of each segment have a newer version or a delete, in the same or another segment.

    Neither of a delete that is the newest, nor of a row that two overlapping segments have.
    """
    all_keys = np.concatenate([NO_KEYS, *keys])
    all_positions = np.concatenate([np.empty(0, np.int64), *positions])
    order = np.lexsort((-all_positions, all_keys))
    ordered = all_keys[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    newest = all_positions[order][np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    masked = np.empty(len(order), np.bool_)
    masked[order] = all_positions[order] < newest
    return _apart(masked, positions)


def doubled(positions: Sequence[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
    """Which rows of each segment are in an earlier one of the sequence too, as those of overlapping segments are."""
    together = np.concatenate([np.empty(0, np.int64), *positions])
    masked = np.ones(len(together), np.bool_)
    masked[np.unique(together, return_index=True)[1]] = False
    return _apart(masked, positions)


def _apart(rows: NDArray[np.bool_], of: Sequence[NDArray[np.int64]]) -> list[NDArray[np.bool_]]:
    return np.split(rows, np.cumsum([len(each) for each in of])[:-1]) if of else []
