"""The hashes of a finished segment's rows, in order, so that a batch is looked up in two binary searches an event."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class SortedHashes:
    """Which rows have a hash."""

    def __init__(self, hashes: NDArray[np.uint64]) -> None:
        """`hashes`: (rows,)"""
        self._rows = np.argsort(hashes, kind="stable").astype(np.int32)
        self._sorted = hashes[self._rows]

    def contain(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """(n,) whether some row has it."""
        if not len(self._sorted):
            return np.zeros(len(hashes), np.bool_)
        at = np.minimum(np.searchsorted(self._sorted, hashes), len(self._sorted) - 1)
        hits: NDArray[np.bool_] = self._sorted[at] == hashes
        return hits

    def count(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) how many rows have it."""
        left, right = (np.searchsorted(self._sorted, hashes, side) for side in ("left", "right"))
        counts: NDArray[np.int64] = right - left
        return counts

    def rows(self, value: int) -> list[int]:
        """Those that have it, ascending."""
        wanted = np.uint64(value)
        left, right = np.searchsorted(self._sorted, wanted, "left"), np.searchsorted(self._sorted, wanted, "right")
        return sorted(self._rows[left:right].tolist())
